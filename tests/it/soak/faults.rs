//! What the token endpoint does wrong, and to whom.
//!
//! Which session meets which fault is a function of the seed, the session and how often it was asked
//! for, so that a run can be repeated however its requests interleave.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::dice::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Spends the refresh token at once and answers this much later.
    Delay(Duration),
    /// Spends it and never answers.
    Hang,
    /// Spends it and resets the connection.
    Reset,
    /// Spends it and answers a page.
    Html,
    /// 429, nothing spent.
    TooMany,
    /// 500, nothing spent.
    Broken,
    /// Ends the session.
    Revoke,
}

impl Fault {
    /// Its row in the report.
    pub fn row(self) -> &'static str {
        match self {
            Fault::Delay(_) => "fault: answer delayed",
            Fault::Hang => "fault: never answered, token spent",
            Fault::Reset => "fault: reset after the grant, token spent",
            Fault::Html => "fault: a page for an answer, token spent",
            Fault::TooMany => "fault: 429",
            Fault::Broken => "fault: 500",
            Fault::Revoke => "fault: session revoked",
        }
    }

    /// Why a session that met it may be lost; `None`: it may not.
    pub fn excuse(self) -> Option<&'static str> {
        match self {
            Fault::Hang => Some("its answer never came"),
            Fault::Reset => Some("its answer was reset"),
            Fault::Html => Some("its answer was a page"),
            Fault::Delay(_) | Fault::TooMany | Fault::Broken | Fault::Revoke => None,
        }
    }
}

/// Of 1,000 calls, so many meet this.
const MIX: [(usize, Option<Fault>); 8] = [
    (935, None),
    (25, Some(Fault::Delay(Duration::from_millis(300)))),
    (10, Some(Fault::Delay(Duration::from_millis(2_000)))),
    (2, Some(Fault::Hang)),
    (2, Some(Fault::Reset)),
    (1, Some(Fault::Html)),
    (23, Some(Fault::TooMany)),
    (2, Some(Fault::Revoke)),
];

pub struct Faults {
    pub seed: u64,
    /// Every call meets this, for a while.
    pub standing: Option<Fault>,
    /// At the end of a run all is well.
    pub over: bool,
}

impl Faults {
    pub fn meets(&self, refresh: &str, calls: u64) -> Option<Fault> {
        if self.over {
            return None;
        }
        let subject = refresh.rsplit_once('.').map_or(refresh, |(family, _)| family);
        let mut hasher = DefaultHasher::new();
        (subject, calls).hash(&mut hasher);
        let own = Dice::new(self.seed, hasher.finish()).pick(&MIX);
        self.standing.or(own)
    }
}

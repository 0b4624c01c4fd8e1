//! Which access tokens this gateway has handed out in renewals, and the session stamp beside each.
//!
//! So one that comes without was taken from its browser, and nobody may begin a session anew with it; or
//! its stamp is on its way yet. Known by what it says, not by its bytes: a signature can be written in
//! more than one way.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;

use crate::policy::claims::Verified;
use crate::policy::limits::Stamp;
use crate::policy::time::UnixSeconds;

/// Tokens remembered; more than that are live at once only with as many sessions. What has no room is
/// not remembered.
const TOKENS_MAX: usize = 200_000;
/// Between two looks for what has expired, in seconds.
const SWEPT_EVERY_S: u64 = 60;

/// What names a token here.
pub type Name = [u8; 16];

/// The tokens, until they expire.
#[derive(Default)]
pub struct HandedOut {
    tokens: Mutex<Tokens>,
}

#[derive(Default)]
struct Tokens {
    stamps: HashMap<Name, (UnixSeconds, Stamp)>,
    swept: UnixSeconds,
}

impl HandedOut {
    /// `token` is about to leave beside `stamp`, or to a browser that has it.
    pub fn note(&self, token: &Verified, stamp: Stamp, now: UnixSeconds) {
        let mut tokens = self.tokens.lock();
        if now.since(tokens.swept) >= SWEPT_EVERY_S {
            tokens.swept = now;
            tokens.stamps.retain(|_, (ends, _)| *ends > now);
        }
        if tokens.stamps.len() < TOKENS_MAX {
            tokens.stamps.insert(name(token), (token.expires_at, stamp));
        }
    }

    /// The stamp that belongs to this token, if it was handed out here.
    pub fn stamp_of(&self, token: &Verified) -> Option<Stamp> {
        self.tokens.lock().stamps.get(&name(token)).map(|(_, stamp)| *stamp)
    }
}

/// By what it says.
pub fn name(token: &Verified) -> Name {
    let Verified { issuer, subject, session_id, token_id, issued_at, expires_at, .. } = token;
    let says =
        format!("{issuer:?}{subject:?}{session_id:?}{token_id:?}{issued_at:?}{expires_at:?}");
    digest(&SHA256, says.as_bytes()).as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::claims::{Identity, IssuerId};
    use crate::policy::limits::Whose;

    fn token(id: u64, expires: u64) -> Verified {
        Verified {
            issuer: IssuerId(0),
            subject: "alice".into(),
            session_id: None,
            token_id: Some(id.to_string().into()),
            issued_at: None,
            expires_at: UnixSeconds(expires),
            life_s: 100,
            refresh_at: UnixSeconds(expires),
            identity: Identity::default(),
            claims: serde_json::Map::new(),
        }
    }

    fn stamp(began: u64) -> Stamp {
        let whose = Whose { person: [1; 16], session: None };
        Stamp { began: UnixSeconds(began), used: UnixSeconds(began), whose }
    }

    #[test]
    fn what_was_handed_out_is_known_until_it_expires() {
        let handed_out = HandedOut::default();
        handed_out.note(&token(1, 1_000), stamp(500), UnixSeconds(900));
        assert_eq!(handed_out.stamp_of(&token(1, 1_000)), Some(stamp(500)));
        assert_eq!(handed_out.stamp_of(&token(2, 1_000)), None);
        handed_out.note(&token(3, 2_000), stamp(600), UnixSeconds(1_000));
        assert_eq!(handed_out.stamp_of(&token(1, 1_000)), None);
        assert_eq!(handed_out.stamp_of(&token(3, 2_000)), Some(stamp(600)));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let handed_out = HandedOut::default();
        for id in 0..=TOKENS_MAX as u64 {
            handed_out.note(&token(id, 1_000), stamp(1), UnixSeconds(900));
        }
        assert_eq!(handed_out.tokens.lock().stamps.len(), TOKENS_MAX);
        assert_eq!(handed_out.stamp_of(&token(TOKENS_MAX as u64, 1_000)), None);
    }
}

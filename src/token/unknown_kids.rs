//! Key ids that an issuer was asked about a moment ago and does not have.
//!
//! Bounded, and forgotten as soon as the key set changes. When it is full of fresh entries a new id
//! is not noted: `min_interval` still bounds the fetches.

use std::collections::HashMap;
use std::time::Duration;

/// How long an id counts as unknown.
const KEPT: Duration = Duration::from_secs(60);

const ENTRIES_MAX: usize = 1_000;

/// A token without `kid` counts as the id `""`.
#[derive(Debug, Default)]
pub struct UnknownKids {
    noted_at: HashMap<Box<str>, Duration>,
}

impl UnknownKids {
    /// `uptime` is now.
    pub fn contains(&self, kid: Option<&str>, uptime: Duration) -> bool {
        let noted_at = self.noted_at.get(kid.unwrap_or_default());
        noted_at.is_some_and(|noted_at| is_fresh(*noted_at, uptime))
    }

    pub fn note(&mut self, kid: Option<&str>, uptime: Duration) {
        if self.noted_at.len() >= ENTRIES_MAX {
            self.noted_at.retain(|_, noted_at| is_fresh(*noted_at, uptime));
        }
        if self.noted_at.len() < ENTRIES_MAX {
            self.noted_at.insert(kid.unwrap_or_default().into(), uptime);
        }
    }

    pub fn clear(&mut self) {
        self.noted_at.clear();
    }
}

fn is_fresh(noted_at: Duration, uptime: Duration) -> bool {
    uptime.saturating_sub(noted_at) < KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    #[test]
    fn an_id_is_unknown_for_a_minute() {
        let mut kids = UnknownKids::default();

        kids.note(Some("k"), START);

        assert!(kids.contains(Some("k"), START + KEPT - Duration::from_millis(1)));
        assert!(!kids.contains(Some("k"), START + KEPT));
        assert!(!kids.contains(Some("other"), START));
        assert!(!kids.contains(None, START));
    }

    #[test]
    fn a_flood_of_ids_stays_within_the_bound_and_makes_room_when_it_is_old() {
        let mut kids = UnknownKids::default();

        for index in 0..5_000 {
            kids.note(Some(&index.to_string()), START);
        }
        assert_eq!(kids.noted_at.len(), ENTRIES_MAX);
        assert!(!kids.contains(Some("4999"), START));

        kids.note(Some("later"), START + KEPT);
        assert_eq!(kids.noted_at.len(), 1);
    }

    #[test]
    fn a_changed_key_set_clears_them() {
        let mut kids = UnknownKids::default();
        kids.note(None, START);

        kids.clear();

        assert!(!kids.contains(None, START));
    }
}

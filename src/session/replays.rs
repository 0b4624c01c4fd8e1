//! Ids of logout tokens that were seen: each counts once.
//!
//! 1. By issuer, so that none can push out another's. An id is kept until its token is too old anyway.
//! 2. Each issuer has room for [`IDS_MAX`]. Over it the id that lapses first is forgotten, rather than a
//!    logout refused: a token that comes again brings about nothing that it did not the first time.
//!    For the same reason gateways do not tell each other what they saw.

use std::collections::{BTreeSet, HashSet};

use parking_lot::Mutex;

use crate::policy::claims::IssuerId;
use crate::policy::time::UnixSeconds;

/// Ids an issuer has room for: some minutes of logouts, less than 1 MB.
pub const IDS_MAX: usize = 10_000;
const HASH_BYTES: usize = 16;

/// An id may be long; what is kept of it is not.
type Hash = [u8; HASH_BYTES];

/// What was seen of all issuers.
pub struct Replays {
    /// By `IssuerId`.
    issuers: Vec<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    ids: HashSet<Hash>,
    /// The order in which they lapse.
    ends: BTreeSet<(UnixSeconds, Hash)>,
}

impl Replays {
    pub fn new(issuers: usize) -> Replays {
        Replays { issuers: (0..issuers).map(|_| Mutex::default()).collect() }
    }

    /// Notes an id; false if it was there. `until`: its token is refused from then on.
    pub fn is_new(&self, issuer: IssuerId, id: &str, until: UnixSeconds, now: UnixSeconds) -> bool {
        let Some(seen) = self.issuers.get(usize::from(issuer.0)) else { return false };
        let (hash, mut seen) = (hash(id), seen.lock());
        while let Some((_, old)) = seen.ends.first().copied().filter(|(ends, _)| *ends <= now) {
            seen.forget_first(old);
        }
        if !seen.ids.insert(hash) {
            return false;
        }
        seen.ends.insert((until, hash));
        if seen.ids.len() > IDS_MAX
            && let Some((_, first)) = seen.ends.first().copied()
        {
            seen.forget_first(first);
        }
        true
    }

    /// What its token asked for could not be done: it may come again.
    pub fn forget(&self, issuer: IssuerId, id: &str, until: UnixSeconds) {
        let Some(seen) = self.issuers.get(usize::from(issuer.0)) else { return };
        let (hash, mut seen) = (hash(id), seen.lock());
        if seen.ends.remove(&(until, hash)) {
            seen.ids.remove(&hash);
        }
    }
}

impl Seen {
    fn forget_first(&mut self, hash: Hash) {
        self.ends.pop_first();
        self.ids.remove(&hash);
    }
}

fn hash(id: &str) -> Hash {
    let mut hash = [0; HASH_BYTES];
    blake3::Hasher::new().update(id.as_bytes()).finalize_xof().fill(&mut hash);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000);
    const UNTIL: UnixSeconds = UnixSeconds(1_100);
    const ONE: IssuerId = IssuerId(0);
    const TWO: IssuerId = IssuerId(1);

    #[test]
    fn an_id_is_new_once_for_each_issuer_and_again_when_its_token_is_too_old() {
        let replays = Replays::new(2);
        assert!(replays.is_new(ONE, "a", UNTIL, NOW));
        assert!(!replays.is_new(ONE, "a", UNTIL, NOW));
        assert!(!replays.is_new(ONE, "a", UnixSeconds(1_200), UnixSeconds(1_099)));
        assert!(replays.is_new(ONE, "b", UNTIL, NOW) && replays.is_new(TWO, "a", UNTIL, NOW));
        assert!(replays.is_new(ONE, "a", UnixSeconds(1_200), UNTIL));
        assert!(!replays.is_new(IssuerId(2), "a", UNTIL, NOW), "no such issuer");
    }

    #[test]
    fn what_could_not_be_done_may_come_again() {
        let replays = Replays::new(1);
        replays.is_new(ONE, "a", UNTIL, NOW);
        replays.forget(ONE, "a", UNTIL);
        replays.forget(ONE, "never seen", UNTIL);
        assert!(replays.is_new(ONE, "a", UNTIL, NOW));
    }

    #[test]
    fn the_room_is_bounded_and_the_next_to_lapse_makes_place() {
        let replays = Replays::new(1);
        for number in 0..=IDS_MAX {
            let until = UnixSeconds(2_000 + number as u64);
            assert!(replays.is_new(ONE, &number.to_string(), until, NOW));
        }
        let seen = replays.issuers[0].lock();
        assert_eq!((seen.ids.len(), seen.ends.len()), (IDS_MAX, IDS_MAX));
        assert!(!seen.ids.contains(&hash("0")) && seen.ids.contains(&hash("1")));
    }
}

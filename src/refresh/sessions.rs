//! The bounded table of session records, found by the hash of any refresh token they had.
//!
//! 1. At most `sessions_max` records and [`ALIASES_PER_SESSION`] times as many hashes. One hog
//!    may have many hashes; all together may not.
//! 2. Who goes first when there is no room: [`Class`], and within a class the record that would
//!    be forgotten soonest anyway. A record that must be kept never goes.
//! 3. A record and its hashes are forgotten together: while a session is remembered, so is each of
//!    its spent tokens (up to [`ALIASES_MAX`]; then the oldest but the first are let go).
//! 4. The last sixteenth of the room is for requests that have nothing else to live on: a flight
//!    in the window does without.
//!
//! One ordered set serves for eviction and for expiry. An order by last use beside an order by
//! expiry was rejected: twice the memory for the same answer, as life runs from the last use.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::hash::TokenHash;
use super::record::{Class, Record, State};
use crate::policy::claims::IssuerId;
use crate::policy::time::Now;

/// Hashes in memory, as a multiple of `sessions_max`.
const ALIASES_PER_SESSION: usize = 8;
/// Hashes of one session: a day's worth at one rotation in 85 s.
pub(super) const ALIASES_MAX: usize = 1_024;
/// Expired records dropped at one step, so that no step is long.
const SWEEP_MAX: usize = 4;

/// A session's name: the hash of the refresh token it was first seen with. So gateways that see
/// it at the same time agree on the name without asking each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub TokenHash);

/// How many records are in which state (metric `sessions{state}`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionCounts {
    pub idle: usize,
    pub running: usize,
    pub cooling: usize,
    pub dead: usize,
    pub ended: usize,
}

/// A session, and which of its generations brought the refresh token it was found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub id: SessionId,
    pub generation: u64,
}

type Rank = (Class, Duration, SessionId);

struct Entry {
    record: Record,
    aliases: VecDeque<TokenHash>,
    rank: Rank,
    counted_as: State,
}

pub(super) struct Sessions {
    entries: HashMap<SessionId, Entry>,
    aliases: HashMap<TokenHash, Found>,
    ranks: BTreeSet<Rank>,
    counts: SessionCounts,
    evicted: Vec<(SessionId, IssuerId)>,
    ends: u64,
    max: usize,
}

impl Sessions {
    pub fn new(max: usize) -> Sessions {
        Sessions {
            entries: HashMap::new(),
            aliases: HashMap::new(),
            ranks: BTreeSet::new(),
            counts: SessionCounts::default(),
            evicted: Vec::new(),
            ends: 0,
            max,
        }
    }

    /// The session that had this refresh token. Drops what has expired.
    pub fn find(&mut self, hash: TokenHash, now: Now) -> Option<Found> {
        self.sweep(now);
        // A session is known by its name even when that alias was let go, else the token would
        // found a second session of the same name.
        let named = Found { id: SessionId(hash), generation: 0 };
        let found = self.aliases.get(&hash).copied().unwrap_or(named);
        let expires = self.get(found.id)?.expires();
        if expires > now.uptime {
            return Some(found);
        }
        // The sweep is bounded, so this one was still there.
        self.forget(found.id);
        None
    }

    pub fn get(&self, id: SessionId) -> Option<&Record> {
        self.entries.get(&id).map(|entry| &entry.record)
    }

    /// One atomic step on one record.
    pub fn step<T>(&mut self, id: SessionId, step: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&id)?;
        let done = step(&mut entry.record);
        let rank = (entry.record.class(), entry.record.expires(), id);
        if rank != entry.rank {
            self.ranks.remove(&entry.rank);
            self.ranks.insert(rank);
            entry.rank = rank;
        }
        let state = entry.record.state();
        self.ends += u64::from(state.is_over() && !entry.counted_as.is_over());
        *self.counts.of(entry.counted_as) -= 1;
        *self.counts.of(state) += 1;
        entry.counted_as = state;
        Some(done)
    }

    /// Adds a record. Call [`Sessions::make_room`] before.
    pub fn add(&mut self, id: SessionId, record: Record) {
        let rank = (record.class(), record.expires(), id);
        let counted_as = record.state();
        self.ranks.insert(rank);
        *self.counts.of(counted_as) += 1;
        self.entries.insert(id, Entry { record, aliases: VecDeque::new(), rank, counted_as });
        self.add_alias(id, id.0, 0);
    }

    /// A further refresh token of a session.
    ///
    /// A hash that is another session's stays that session's: a confused backend cannot make two
    /// people's sessions one.
    pub fn add_alias(&mut self, id: SessionId, hash: TokenHash, generation: u64) {
        if let Some(known) = self.aliases.get_mut(&hash) {
            if known.id == id {
                known.generation = generation;
            }
            return;
        }
        let full = self.aliases.len() >= self.aliases_max() && !self.evict();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if (full || entry.aliases.len() >= ALIASES_MAX)
            && let Some(oldest) = entry.aliases.pop_front()
        {
            self.aliases.remove(&oldest);
        }
        entry.aliases.push_back(hash);
        self.aliases.insert(hash, Found { id, generation });
    }

    /// Makes room for one more record. Says no if all that is left must be kept. `urgent`: the
    /// request has nothing else to live on.
    pub fn make_room(&mut self, urgent: bool) -> bool {
        let limit = if urgent { self.max } else { self.max - self.max / 16 };
        while self.entries.len() >= limit || self.aliases.len() >= self.aliases_max() {
            if !self.evict() {
                return false;
            }
        }
        true
    }

    /// The sessions that were forgotten for room since the last call, and their issuers.
    pub fn take_evicted(&mut self) -> Vec<(SessionId, IssuerId)> {
        std::mem::take(&mut self.evicted)
    }

    pub fn forget(&mut self, id: SessionId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.ranks.remove(&entry.rank);
        *self.counts.of(entry.counted_as) -= 1;
        for hash in &entry.aliases {
            self.aliases.remove(hash);
        }
    }

    /// How many sessions have died or ended so far.
    pub fn ends(&self) -> u64 {
        self.ends
    }

    pub fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// Every session, those that go first for want of room first.
    pub fn all(&self) -> Vec<SessionId> {
        self.ranks.iter().map(|(_, _, id)| *id).collect()
    }

    /// The hashes that a session is found by, with their generations.
    pub fn aliases_of(&self, id: SessionId) -> Vec<(TokenHash, u64)> {
        let Some(entry) = self.entries.get(&id) else { return Vec::new() };
        let found = |hash: &TokenHash| Some((*hash, self.aliases.get(hash)?.generation));
        entry.aliases.iter().filter_map(found).collect()
    }

    fn aliases_max(&self) -> usize {
        self.max.saturating_mul(ALIASES_PER_SESSION)
    }

    fn evict(&mut self) -> bool {
        let Some(&(class, _, id)) = self.ranks.first() else { return false };
        if class == Class::Kept {
            return false;
        }
        self.evicted.extend(self.get(id).map(|record| (id, record.issuer())));
        self.forget(id);
        true
    }

    /// Within a class the first expires first, so a look at each class's first is enough.
    fn sweep(&mut self, now: Now) {
        for class in [Class::Dead, Class::Ended, Class::Unproven, Class::Confirmed, Class::Kept] {
            for _ in 0..SWEEP_MAX {
                let from = (class, Duration::ZERO, SessionId(TokenHash::FIRST));
                match self.ranks.range(from..).next() {
                    Some(&(found, expires, id)) if found == class && expires <= now.uptime => {
                        self.forget(id);
                    }
                    Some(_) | None => break,
                }
            }
        }
    }
}

impl SessionCounts {
    fn of(&mut self, state: State) -> &mut usize {
        match state {
            State::Idle => &mut self.idle,
            State::Running => &mut self.running,
            State::Cooling { .. } => &mut self.cooling,
            State::Dead => &mut self.dead,
            State::Ended => &mut self.ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::secret::Secret;
    use crate::refresh::hash::Hasher;
    use crate::refresh::outcome::Answer;
    use crate::refresh::record::{LIFE_UNTOLD, Landing, Shown};
    use crate::refresh::settings::Rotation;

    fn at(seconds: u64) -> Now {
        Now::default().later(Duration::from_secs(seconds))
    }

    fn hash(token: &str) -> TokenHash {
        Hasher::new(&[7; 32]).hash("issuer", &Secret::new(token))
    }

    /// A session first seen at `seconds` with this token, if there is room.
    fn add(sessions: &mut Sessions, token: &str, seconds: u64) -> Option<SessionId> {
        let (refresh, rotation) = (Secret::new(token), Rotation::Strict);
        let record = Record::new(IssuerId(0), rotation, refresh, hash(token), at(seconds));
        let id = SessionId(hash(token));
        sessions.make_room(true).then(|| sessions.add(id, record)).map(|()| id)
    }

    /// Brings the session a new refresh token, which nobody has shown yet.
    fn rotate(sessions: &mut Sessions, id: SessionId, token: &str, seconds: u64) {
        let answer = Answer {
            access: Secret::new("opaque"),
            refresh: Some(Secret::new(token)),
            max_age_s: None,
        };
        let (new, generation) = (hash(token), sessions.get(id).unwrap().generation());
        sessions.step(id, |record| {
            record.depart();
            record.harvest(answer, Some(new), generation, at(seconds));
        });
        sessions.add_alias(id, new, generation + 1);
        let generation = generation + 1;
        sessions.step(id, |record| record.land(generation, Landing::Unusable, at(seconds), 0.0));
    }

    fn confirm(sessions: &mut Sessions, id: SessionId, seconds: u64) {
        sessions.step(id, |record| {
            let generation = record.refresh_generation();
            record.note_shown(Shown { generation, access: None }, at(seconds));
        });
    }

    #[test]
    fn a_session_is_found_by_every_token_it_had() {
        let mut sessions = Sessions::new(10);
        let id = add(&mut sessions, "rt0", 0).unwrap();
        rotate(&mut sessions, id, "rt1", 1);
        rotate(&mut sessions, id, "rt2", 2);
        for generation in 0..3 {
            let found = sessions.find(hash(&format!("rt{generation}")), at(3));
            assert_eq!(found, Some(Found { id, generation }));
        }
        assert_eq!(sessions.find(hash("rt3"), at(3)), None);
    }

    #[test]
    fn dead_then_ended_then_unproven_then_confirmed_sessions_make_room() {
        let mut sessions = Sessions::new(4);
        let confirmed = add(&mut sessions, "confirmed", 0).unwrap();
        rotate(&mut sessions, confirmed, "confirmed1", 0);
        confirm(&mut sessions, confirmed, 1);
        let unproven = add(&mut sessions, "unproven", 2).unwrap();
        let ended = add(&mut sessions, "ended", 3).unwrap();
        sessions.step(ended, Record::end);
        let dead = add(&mut sessions, "dead", 4).unwrap();
        rotate(&mut sessions, dead, "dead1", 4);
        sessions.step(dead, |record| {
            record.depart();
            record.land(1, Landing::Refused, at(4), 0.0)
        });
        for (number, next) in [dead, ended, unproven, confirmed].into_iter().enumerate() {
            let id = add(&mut sessions, &number.to_string(), 5).unwrap();
            rotate(&mut sessions, id, &format!("{number}-new"), 5);
            assert_eq!(sessions.take_evicted(), [(next, IssuerId(0))]);
        }
        assert_eq!(add(&mut sessions, "one too many", 6), None);
        assert_eq!(sessions.entries.len(), 4);
    }

    #[test]
    fn a_session_that_ended_in_mid_air_is_remembered_until_its_flight_has_landed() {
        let mut sessions = Sessions::new(1);
        let id = add(&mut sessions, "logged out", 0).unwrap();
        sessions.step(id, |record| _ = record.depart());
        sessions.step(id, Record::end);
        assert_eq!(add(&mut sessions, "another", 1), None);
        let end = LIFE_UNTOLD.as_secs();
        assert!(sessions.find(hash("logged out"), at(end)).is_some());
        sessions.step(id, |record| record.land(0, Landing::Unwanted, at(end), 0.0));
        assert_eq!(sessions.find(hash("logged out"), at(end)), None);
    }

    #[test]
    fn within_a_class_the_one_unused_for_longest_goes() {
        let mut sessions = Sessions::new(2);
        let first = add(&mut sessions, "first", 0).unwrap();
        let second = add(&mut sessions, "second", 1).unwrap();
        confirm(&mut sessions, first, 2);
        add(&mut sessions, "third", 3).unwrap();
        assert_eq!(sessions.take_evicted(), [(second, IssuerId(0))]);
    }

    #[test]
    fn the_last_sixteenth_is_for_those_who_have_nothing_else() {
        let mut sessions = Sessions::new(32);
        for number in 0..30 {
            let id = add(&mut sessions, &number.to_string(), 0).unwrap();
            rotate(&mut sessions, id, &format!("{number}-new"), 0);
        }
        assert!(!sessions.make_room(false));
        assert!(sessions.make_room(true));
    }

    #[test]
    fn a_session_and_its_tokens_are_forgotten_together() {
        let mut sessions = Sessions::new(10);
        let id = add(&mut sessions, "rt0", 0).unwrap();
        rotate(&mut sessions, id, "rt1", 0);
        let end = LIFE_UNTOLD.as_secs();
        assert!(sessions.find(hash("rt0"), at(end - 1)).is_some());
        assert_eq!(sessions.find(hash("rt0"), at(end)), None);
        assert_eq!(sessions.counts(), SessionCounts::default());
        assert!(sessions.aliases.is_empty() && sessions.ranks.is_empty());
    }

    #[test]
    fn the_sweep_drops_expired_sessions_nobody_asks_for() {
        let mut sessions = Sessions::new(10);
        (0..3).for_each(|number| _ = add(&mut sessions, &number.to_string(), 0));
        sessions.find(hash("another"), at(LIFE_UNTOLD.as_secs()));
        assert!(sessions.entries.is_empty());
    }

    #[test]
    fn all_hashes_together_are_bounded() {
        let mut sessions = Sessions::new(2);
        let hog = add(&mut sessions, "hog0", 0).unwrap();
        for number in 1..100 {
            rotate(&mut sessions, hog, &format!("hog{number}"), 0);
        }
        assert_eq!(sessions.aliases.len(), 2 * ALIASES_PER_SESSION);
        assert_eq!(sessions.find(hash("hog99"), at(1)), Some(Found { id: hog, generation: 99 }));
    }

    #[test]
    fn a_hog_is_forgotten_before_anybody_else_is_kept_out() {
        let mut sessions = Sessions::new(2);
        let hog = add(&mut sessions, "hog0", 0).unwrap();
        for number in 1..100 {
            rotate(&mut sessions, hog, &format!("hog{number}"), 0);
        }
        confirm(&mut sessions, hog, 1);
        assert!(add(&mut sessions, "another", 2).is_some());
        assert_eq!(sessions.take_evicted(), [(hog, IssuerId(0))]);
    }

    #[test]
    fn one_sessions_hashes_are_bounded_and_its_first_still_names_it() {
        let mut sessions = Sessions::new(1_000);
        let id = add(&mut sessions, "rt0", 0).unwrap();
        for number in 1..=1_100 {
            rotate(&mut sessions, id, &format!("rt{number}"), 0);
        }
        assert_eq!(sessions.aliases.len(), ALIASES_MAX);
        assert_eq!(sessions.find(hash("rt1"), at(1)), None);
        assert_eq!(sessions.find(hash("rt0"), at(1)), Some(Found { id, generation: 0 }));
    }

    #[test]
    fn a_token_that_is_another_sessions_stays_that_sessions() {
        let mut sessions = Sessions::new(10);
        let alice = add(&mut sessions, "alice", 0).unwrap();
        let bob = add(&mut sessions, "bob", 0).unwrap();
        rotate(&mut sessions, bob, "alice", 0);
        let alices = Some(Found { id: alice, generation: 0 });
        assert_eq!(sessions.find(hash("alice"), at(1)), alices);
        sessions.forget(bob);
        assert_eq!(sessions.find(hash("alice"), at(1)), alices);
    }

    #[test]
    fn a_token_that_a_session_gets_a_second_time_is_its_newest() {
        let mut sessions = Sessions::new(10);
        let id = add(&mut sessions, "rt0", 0).unwrap();
        rotate(&mut sessions, id, "rt1", 0);
        rotate(&mut sessions, id, "rt0", 0);
        assert_eq!(sessions.find(hash("rt0"), at(1)), Some(Found { id, generation: 2 }));
    }

    #[test]
    fn counts_follow_the_records() {
        let mut sessions = Sessions::new(10);
        let first = add(&mut sessions, "first", 0).unwrap();
        let second = add(&mut sessions, "second", 0).unwrap();
        sessions.step(first, |record| _ = record.depart());
        sessions.step(second, Record::end);
        let expected = SessionCounts { running: 1, ended: 1, ..SessionCounts::default() };
        assert_eq!(sessions.counts(), expected);
    }
}

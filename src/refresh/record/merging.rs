//! A record and what other gateways know of its session.
//!
//! Merging is a join: what was noted in several places comes out the same in whatever order and
//! however often it is merged. A newer head replaces an older one, confirmations add up (the earliest
//! counts), an end is an end. A head from the store is not believed: its access token is *unchecked*
//! until this gateway has verified it, as if it had come from the backend.

use std::time::Duration;

use super::{GRACE, Record, State};
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::refresh::hash::TokenHash;
use crate::refresh::record::flying::Work;
use crate::refresh::sessions::SessionId;
use crate::refresh::store::{Life, Publication, Stored, StoredHead};

/// How long what a store said is good for: shorter than a person's next click, longer than the
/// requests of one page take to arrive.
const SYNCED_FOR: Duration = Duration::from_millis(250);

impl Record {
    /// Takes over what a store knows. `hash`: of the stored head's refresh token.
    pub fn merge(&mut self, stored: &Stored, hash: Option<TokenHash>, now: Now) {
        self.synced_at = Some(now.uptime);
        let newer = stored.generation > self.generation;
        match (self.state, stored.life) {
            (State::Ended, _) => return,
            (_, Life::Ended) => return self.close(State::Ended),
            // What an older refresh token was told says nothing about a newer head.
            (State::Dead, Life::Live) if newer => self.revive(),
            (State::Dead, _) => return,
            (_, Life::Dead) if stored.generation >= self.generation => {
                return self.close(State::Dead);
            }
            (State::Idle | State::Running | State::Cooling { .. }, Life::Dead | Life::Live) => {}
        }
        for (generation, ago) in &stored.confirmations {
            self.confirmed_elsewhere(*generation, *ago, now);
        }
        if let Some((head, hash)) = stored.head.as_ref().zip(hash) {
            let same = stored.generation == self.generation && hash == self.hash;
            if same && self.generation > 0 {
                self.stored = true;
            } else if stored.generation >= self.generation.max(1) {
                self.take_over(stored, head, hash, now);
            }
        }
        if let (State::Idle, Some(rest)) = (self.state, stored.cooling)
            && stored.generation == self.generation
        {
            self.state = State::Cooling { until: now.uptime + rest };
            self.failures = self.failures.max(stored.failures);
        }
    }

    /// A browser shows a refresh token that came after the newest head anybody has told of: the gateway
    /// that brought it got no further than naming it. The browser's is the newest then.
    pub fn shown_newer(&mut self, refresh: &Secret, hash: TokenHash, generation: u64, now: Now) {
        if self.is_over() || self.flies() || generation <= self.generation {
            return;
        }
        (self.generation, self.refresh_generation) = (generation, generation);
        (self.refresh, self.hash) = (refresh.clone(), hash);
        (self.access, self.unchecked) = (None, None);
        self.stored = false;
        self.confirm(generation, now.uptime + GRACE, now);
    }

    /// What a flight does after another gateway was quicker; `None`: nothing, the session is over or
    /// rests.
    pub fn overtaken(
        &mut self,
        stored: &Stored,
        hash: Option<TokenHash>,
        now: Now,
    ) -> Option<Work> {
        self.merge(stored, hash, now);
        if self.state != State::Running {
            return None;
        }
        if let (None, Some(rest)) = (&self.unchecked, stored.cooling) {
            self.state = State::Cooling { until: now.uptime + rest };
            return None;
        }
        Some(self.work())
    }

    /// What a store has to be told so that it knows this head; `None`: nothing that it would not know
    /// from any browser, or nothing any more.
    pub fn publication(&self, id: SessionId, now: Now) -> Option<Publication> {
        if self.is_over() || self.generation == 0 {
            return None;
        }
        let access = self.unchecked.clone();
        let access = access.or_else(|| self.access.as_ref().map(|access| access.token.clone()))?;
        Some(Publication {
            id,
            generation: self.generation,
            refresh_generation: self.refresh_generation,
            head: StoredHead { access, refresh: self.refresh.clone() },
            hash: self.hash,
            life_left: self.life_end.map(|end| end.saturating_sub(now.uptime)),
            confirmations: self.confirmations.iter().map(|seen| ago(*seen, now)).collect(),
            aliases: Vec::new(),
        })
    }

    /// A store has this head now.
    pub fn note_stored(&mut self, generation: u64, now: Now) {
        self.synced_at = Some(now.uptime);
        self.stored |= generation == self.generation;
    }

    /// A store has lost this session. Says whether it has to be told again.
    pub fn note_forgotten(&mut self) -> bool {
        self.stored = false;
        self.is_unstored()
    }

    /// Is a flight on its way?
    pub fn flies(&self) -> bool {
        self.state == State::Running
    }

    /// Has a flight of it not landed yet?
    pub fn is_airborne(&self) -> bool {
        self.airborne
    }

    /// Must this record not make way for what a store knows under another name?
    pub fn is_needed(&self) -> bool {
        self.airborne || self.is_unstored()
    }

    /// Is there a head that a store may not know?
    pub fn is_unstored(&self) -> bool {
        !self.stored && self.generation > 0 && !self.is_over()
    }

    /// Need a store not be asked about this session now? A flight asks it anyway.
    pub fn is_synced(&self, now: Now) -> bool {
        self.state == State::Running
            || self.synced_at.is_some_and(|at| now.uptime < at + SYNCED_FOR)
    }

    /// How long no flight may depart, and after how many failures: for other gateways.
    pub fn cooling(&self, now: Now) -> (Option<Duration>, u32) {
        match self.state {
            State::Cooling { until } => (Some(until.saturating_sub(now.uptime)), self.failures),
            State::Idle | State::Running | State::Dead | State::Ended => (None, self.failures),
        }
    }

    fn confirmed_elsewhere(&mut self, generation: u64, ago: Duration, now: Now) {
        let lapses = now.uptime + GRACE.saturating_sub(ago);
        match self.confirmations.iter_mut().find(|(known, _)| *known == generation) {
            Some((_, known)) => *known = lapses.min(*known),
            None => self.confirm(generation, lapses, now),
        }
        self.confirmations.make_contiguous().sort_unstable();
    }

    /// A flight that has not landed yet is still this record's.
    fn revive(&mut self) {
        self.state = if self.airborne { State::Running } else { State::Idle };
    }

    fn take_over(&mut self, stored: &Stored, head: &StoredHead, hash: TokenHash, now: Now) {
        self.generation = stored.generation;
        self.refresh_generation = stored.refresh_generation;
        self.refresh = head.refresh.clone();
        self.hash = hash;
        self.unchecked = Some(head.access.clone());
        self.delivered = false;
        self.failures = 0;
        self.rotated_at = stored.rotated.and_then(|ago| now.uptime.checked_sub(ago));
        self.life_end = stored.life_left.map(|left| now.uptime + left);
        self.stored = true;
        if let State::Cooling { .. } = self.state {
            self.state = State::Idle;
        }
    }
}

fn ago((generation, lapses): (u64, Duration), now: Now) -> (u64, Duration) {
    (generation, (now.uptime + GRACE).saturating_sub(lapses))
}

//! What other gateways know, and what they have to be told.

use super::{Ledger, Visitor};
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::refresh::events::EndReason;
use crate::refresh::hash::TokenHash;
use crate::refresh::ledger::Job;
use crate::refresh::record::{Record, State, Work};
use crate::refresh::sessions::{Found, SessionId};
use crate::refresh::store::{Life, Publication, Sighting, Stored};

/// Something that happened to a session here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::refresh) enum Change {
    /// A browser has shown the refresh token of this generation.
    Confirmed {
        id: SessionId,
        generation: u64,
    },
    Over {
        id: SessionId,
        generation: u64,
        life: Life,
    },
}

impl Ledger {
    /// Need a store not be asked about this refresh token now?
    pub fn is_synced(&mut self, hash: TokenHash, now: Now) -> bool {
        let found = self.sessions.find(hash, now);
        found
            .and_then(|found| self.sessions.get(found.id))
            .is_some_and(|record| record.is_synced(now))
    }

    /// Takes over what a store knows of this visitor's session. `refresh`: the refresh token, if the
    /// visitor showed it; `head`: the hash of the stored head's. What this ledger knows better is
    /// returned, for the store.
    pub fn merge(
        &mut self,
        visitor: &Visitor,
        refresh: Option<&Secret>,
        sighting: &Sighting,
        head: Option<TokenHash>,
        now: Now,
    ) -> Option<Publication> {
        let id = sighting.id;
        if let Some(known) = self.sessions.find(visitor.hash, now).filter(|known| known.id != id) {
            // Two gateways met this session under different names while the store was away. The
            // store's name counts, but not under a flight, nor over a head that only this ledger has:
            // told to the store, that one's name is the one that counts.
            if self.sessions.get(known.id).is_some_and(Record::is_needed) {
                return self.unstored(known.id, now);
            }
            self.sessions.forget(known.id);
        }
        if self.sessions.get(id).is_none() {
            if !self.sessions.make_room(true) {
                return None;
            }
            let rotation = self.endpoints.get(&visitor.issuer)?.rotation;
            let stored = sighting.stored.head.as_ref().map(|head| &head.refresh);
            let (refresh, hash) = match refresh {
                Some(shown) => (shown, visitor.hash),
                None => stored.zip(head)?,
            };
            let record = Record::new(visitor.issuer, rotation, refresh.clone(), hash, now);
            self.sessions.add(id, record);
        }
        self.sessions.step(id, |record| {
            record.merge(&sighting.stored, head, now);
            if let Some(refresh) = refresh {
                record.shown_newer(refresh, visitor.hash, sighting.generation, now);
            }
        });
        if sighting.stored.life != Life::Ended {
            // The store was away for longer than it was told.
            self.changes.extend(self.ended(id));
        }
        self.sessions.add_alias(id, visitor.hash, sighting.generation);
        if let Some(head) = head.filter(|_| sighting.stored.head.is_some()) {
            self.sessions.add_alias(id, head, sighting.stored.refresh_generation);
        }
        self.unstored(id, now)
    }

    /// A store knows nothing of this refresh token. What this ledger knows is returned, for the store.
    pub fn unknown_elsewhere(&mut self, hash: TokenHash, now: Now) -> Option<Publication> {
        let Found { id, .. } = self.sessions.find(hash, now)?;
        self.sessions.step(id, Record::note_forgotten)?;
        self.unstored(id, now)
    }

    /// A store knows this session under another name: it is forgotten under this one. If it has ended
    /// there, it ends here, so that none of its tokens is taken for a stranger's.
    pub fn renamed(&mut self, id: SessionId, stored: &Stored) {
        match stored.life {
            Life::Ended => _ = self.sessions.step(id, Record::end),
            Life::Live | Life::Dead if self.sessions.get(id).is_some_and(Record::is_airborne) => {}
            Life::Live | Life::Dead => self.sessions.forget(id),
        }
    }

    /// A flight was overtaken by another gateway's: what is left to do, if anything.
    pub fn overtaken(
        &mut self,
        job: &mut Job,
        stored: &Stored,
        head: Option<TokenHash>,
        now: Now,
    ) -> Option<Work> {
        let (work, generation) = self
            .sessions
            .step(job.id, |record| (record.overtaken(stored, head, now), record.generation()))?;
        if let Some(head) = head.filter(|_| stored.head.is_some()) {
            self.sessions.add_alias(job.id, head, stored.refresh_generation);
        }
        (job.generation, job.overtaken) = (generation, true);
        work
    }

    /// Is this session over? `None`: it is not known here.
    pub fn is_over(&self, id: SessionId) -> Option<bool> {
        self.sessions.get(id).map(Record::is_over)
    }

    /// Another gateway has closed this session.
    pub fn closed_elsewhere(&mut self, sighting: &Sighting, now: Now) {
        let Sighting { id, stored, .. } = sighting;
        match stored.life {
            Life::Live => return,
            // A flight finds out by itself what became of its session, and lands.
            Life::Dead if self.sessions.get(*id).is_some_and(Record::flies) => return,
            Life::Dead | Life::Ended => {}
        }
        if self.sessions.step(*id, |record| record.merge(stored, None, now)).is_none() {
            self.strangers.refuse(id.0, now);
        }
    }

    /// The head of this session, if a store may not know it.
    pub fn unstored(&self, id: SessionId, now: Now) -> Option<Publication> {
        let record = self.sessions.get(id).filter(|record| record.is_unstored())?;
        let publication = record.publication(id, now)?;
        Some(Publication { aliases: self.sessions.aliases_of(id), ..publication })
    }

    /// The head of this session, for a store that knows the older ones.
    pub fn publication(&self, id: SessionId, now: Now) -> Option<Publication> {
        self.sessions.get(id)?.publication(id, now)
    }

    /// A store has the head of this generation now.
    pub fn note_stored(&mut self, id: SessionId, generation: u64, now: Now) {
        self.sessions.step(id, |record| record.note_stored(generation, now));
    }

    /// A store has lost its memory: the sessions that it has to be told again, or that they have
    /// ended. Those go first whose newest refresh token no browser has shown.
    pub fn forgotten_elsewhere(&mut self) -> Vec<SessionId> {
        let ids = self.sessions.all();
        ids.into_iter()
            .rev()
            .filter(|id| {
                self.sessions.step(*id, Record::note_forgotten) == Some(true)
                    || self.ended(*id).is_some()
            })
            .collect()
    }

    /// What a store has to be told of this session, if it has ended here.
    pub fn ended(&self, id: SessionId) -> Option<Change> {
        let ended = self.sessions.get(id).filter(|record| record.state() == State::Ended)?;
        Some(Change::Over { id, generation: ended.generation(), life: Life::Ended })
    }

    /// How a session rests after a flight: for how long, and after how many failures. `None`: it is
    /// over. Its claim then stays until the store knows that, else another gateway would ask with
    /// a refresh token that is spent.
    pub fn cooling(&self, id: SessionId, now: Now) -> Option<(Option<std::time::Duration>, u32)> {
        let record = self.sessions.get(id).filter(|record| !record.is_over())?;
        Some(record.cooling(now))
    }

    /// What other gateways have to be told since the last call.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn confirmed(&mut self, id: SessionId, generation: Option<u64>) {
        if let Some(generation) = generation.filter(|_| self.shared) {
            self.changes.push(Change::Confirmed { id, generation });
        }
    }

    /// A session is over; the store is told in the background.
    pub fn over(&mut self, id: SessionId, generation: u64, life: Life) {
        if self.shared {
            self.changes.push(Change::Over { id, generation, life });
        }
    }

    /// A flight's landing ended a session. Where the backend refused it, or a gateway was lost, the
    /// store was told before the landing.
    pub(super) fn over_for(&mut self, id: SessionId, reason: EndReason) {
        let generation = self.sessions.get(id).map_or(0, Record::generation);
        match reason {
            EndReason::WrongSubject | EndReason::WrongIssuer | EndReason::WrongAudience => {
                self.over(id, generation, Life::Ended);
            }
            EndReason::LoggedOut
            | EndReason::Refused
            | EndReason::Reuse
            | EndReason::Lost
            | EndReason::Evicted => {}
        }
    }
}

//! What all requests and flights share, and the one lock around it.
//!
//! Departing, joining and landing happen under the same lock as the record's change, so nobody can
//! look between the two. No lock is held across an await. Events are told after the lock is
//! released: an observer may take its time, or ask something of this room.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::backend::AuthBackend;
use super::concurrency::{AtomicUsize, JoinHandle, Mutex, sleep, spawn, timeout, watch};
use super::edges::Edges;
use super::events::{Observer, Trigger, tell};
use super::flight::{Pilot, fly};
use super::hash::{Hasher, TokenHash};
use super::ledger::{Begin, Job, Ledger, Visitor};
use super::record::{View, Work};
use super::sessions::SessionId;
use super::settings::{OnFailure, RefreshSettings};
use super::store::{SessionStore, Stored};
use super::sync::write;
use super::verify::Verify;
use crate::policy::claims::IssuerId;
use crate::policy::secret::Secret;
use crate::policy::time::Now;

/// Requests that wait at one time, over all sessions.
pub(super) const WAITERS_MAX: usize = 8_192;

/// One issuer's backend and its settings.
pub(super) struct Issuer {
    pub settings: RefreshSettings,
    pub backend: Arc<dyn AuthBackend>,
}

/// The store that this gateway shares with others.
pub(super) struct Store {
    pub sessions: Arc<dyn SessionStore>,
    pub on_failure: OnFailure,
}

/// What all requests and flights share.
pub(super) struct Shared {
    pub hasher: Hasher,
    pub issuers: HashMap<IssuerId, Issuer>,
    pub verify: Arc<dyn Verify>,
    pub store: Option<Store>,
    pub edges: Edges,
    pub runtime: Handle,
    pub observer: Observer,
    pub board: Mutex<Board>,
    /// Flights on their way, and what has yet to be written to the store.
    pub in_flight: watch::Sender<usize>,
    /// Changes that have yet to be written to the store.
    pub unwritten: AtomicUsize,
    pub waiters: AtomicUsize,
    /// Changes whenever a session is over or a refresh token refused. Tokio's own: it tells open
    /// streams, which are no part of what is model-checked.
    pub ends: tokio::sync::watch::Sender<u64>,
    /// Refresh tokens by which streams are open here, each with their number.
    pub followed: Mutex<HashMap<TokenHash, usize>>,
}

/// What the lock guards.
pub(super) struct Board {
    pub ledger: Ledger,
    pub flights: HashMap<SessionId, Flight>,
}

/// A running flight, as those on the ground see it.
pub(super) struct Flight {
    /// Dropped at landing, which is what waiters wait for.
    landed: watch::Sender<()>,
    pub shared_by: u32,
}

/// A place among the waiters.
pub(super) struct Waiting(Arc<Shared>);

/// Where a request that wants its session renewed stands.
pub(super) enum Boarding {
    /// A flight is on its way. Its `changed()` fails once it has landed.
    Flying(watch::Receiver<()>),
    Grounded(View),
}

impl Shared {
    /// One step under the lock; the events it caused are told after, and the store of its changes in
    /// the background.
    pub fn step<T>(self: &Arc<Self>, step: impl FnOnce(&mut Board) -> T) -> T {
        let (done, writing) = self.step_writing(step);
        drop(writing);
        done
    }

    /// The same; and what is being written to the store, for those who must wait for it.
    pub fn step_writing<T>(
        self: &Arc<Self>,
        step: impl FnOnce(&mut Board) -> T,
    ) -> (T, Vec<JoinHandle<()>>) {
        let (done, ends, events, changes) = {
            let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
            let done = step(&mut board);
            let changes = board.ledger.take_changes();
            let unwritten = self.unwritten.fetch_add(changes.len(), Ordering::Relaxed);
            self.in_flight.send_replace(board.ledger.in_flight() + unwritten + changes.len());
            (done, board.ledger.ends(), board.ledger.take_events(), changes)
        };
        self.ends.send_if_modified(|known| {
            let more = *known < ends;
            *known = ends.max(*known);
            more
        });
        for event in &events {
            tell(event, &self.observer);
        }
        let writing =
            changes.into_iter().map(|change| spawn(&self.runtime, write(self.clone(), change)));
        (done, writing.collect())
    }

    /// Starts a flight for this visitor, or joins the one on its way.
    pub fn board(
        self: &Arc<Self>,
        visitor: &Visitor,
        refresh: &Secret,
        trigger: Trigger,
        now: Now,
    ) -> (Boarding, Option<SessionId>) {
        let (boarding, id, departed) = self.step(|board| {
            let (begin, id) = board.ledger.begin(visitor, refresh, trigger, now);
            match begin {
                Begin::Depart(job, work) => {
                    let (landed, landing) = watch::channel(());
                    board.flights.insert(job.id, Flight { landed, shared_by: 0 });
                    (Boarding::Flying(landing), id, Some((job, work)))
                }
                Begin::Join(flying) => match board.flights.get_mut(&flying) {
                    Some(flight) => {
                        flight.shared_by += 1;
                        (Boarding::Flying(flight.landed.subscribe()), id, None)
                    }
                    // A record cannot run without a flight; if it did, this is a failed flight.
                    None => (Boarding::Grounded(View::Running), id, None),
                },
                Begin::Grounded(view) => (Boarding::Grounded(view), id, None),
            }
        });
        if let Some((job, work)) = departed {
            spawn(&self.runtime, fly(Pilot::new(self.clone(), job), work));
        }
        (boarding, id)
    }

    /// Waits for this visitor's session to be renewed, until `deadline` (uptime) at most.
    ///
    /// A rest that ends in time is waited for; a longer one is told at once, as nothing can change
    /// before it is over. After a flight there is no second try.
    pub async fn landed(
        self: &Arc<Self>,
        visitor: &Visitor,
        refresh: &Secret,
        trigger: Trigger,
        deadline: Duration,
    ) -> (View, Option<SessionId>) {
        loop {
            let now = self.now();
            let left = deadline.saturating_sub(now.uptime);
            let (boarding, id) = self.board(visitor, refresh, trigger, now);
            match boarding {
                Boarding::Grounded(View::Resting(rest)) if rest < left => {
                    sleep(rest).await;
                }
                Boarding::Grounded(view) => return (view, id),
                Boarding::Flying(mut landing) => {
                    // An error is the landing: the other end was dropped.
                    if timeout(left, landing.changed()).await.is_err() {
                        return (View::Running, id);
                    }
                    let now = self.now();
                    return self.step(|board| board.ledger.view(visitor, now));
                }
            }
        }
    }

    /// A receiver for the flight of this session, if one is on its way.
    pub fn flight(self: &Arc<Self>, id: SessionId) -> Option<watch::Receiver<()>> {
        self.step(|board| board.flights.get(&id).map(|flight| flight.landed.subscribe()))
    }

    /// A place among the waiters, if one is free.
    pub fn waiting(self: &Arc<Self>) -> Option<Waiting> {
        // Given back on drop, so that a request that was dropped does not count for ever.
        let waiting = Waiting(self.clone());
        let before = self.waiters.fetch_add(1, Ordering::Relaxed);
        (before < WAITERS_MAX).then_some(waiting)
    }

    /// What is left to do for a flight that another gateway's has overtaken, if anything.
    pub fn overtaken(self: &Arc<Self>, job: &mut Job, stored: &Stored) -> Option<Work> {
        let head = self.hash_of_head(job.issuer, stored);
        let now = self.now();
        self.step(|board| board.ledger.overtaken(job, stored, head, now))
    }

    /// The hash of a stored head's refresh token.
    pub fn hash_of_head(&self, issuer: IssuerId, stored: &Stored) -> Option<TokenHash> {
        let name = &self.issuers.get(&issuer)?.settings.issuer_name;
        stored.head.as_ref().map(|head| self.hasher.hash(name, &head.refresh))
    }

    pub fn now(&self) -> Now {
        (self.edges.now)()
    }

    pub fn jitter(&self) -> f64 {
        (self.edges.random)()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}

//! Keeping this gateway's ledger and the shared store together.
//!
//! What a request must know is *pulled* before the ledger is asked; what others must know is written
//! in the background, again and again until the store takes it. Nothing here waits longer than the
//! store's own limit for one call, and nothing but a look-up makes a request wait at all.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;

use super::board::Shared;
use super::concurrency::{sleep, spawn};
use super::hash::TokenHash;
use super::ledger::{Change, Job, Visitor};
use super::sessions::SessionId;
use super::store::{Publication, StoreAway, Stored};
use crate::policy::secret::Secret;

/// How often a write is tried that the store does not take.
const TRIES_MAX: u32 = 120;
/// With more that waits to be written, a change is tried only once.
const UNWRITTEN_MAX: usize = 10_000;
/// The pause between two tries: shorter than the time after which a gateway counts as lost.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Sessions told to a store that has lost its memory, before the next pause.
const RETOLD_AT_ONCE: usize = 64;
const RETOLD_PAUSE: Duration = Duration::from_millis(5);

/// Brings what other gateways know of this visitor's session into the ledger. `refresh`: the refresh
/// token, if the visitor showed it and not only what names it.
///
/// # Errors
/// The store is away; the ledger knows what it knew.
pub(super) async fn pull(
    shared: &Arc<Shared>,
    visitor: &Visitor,
    refresh: Option<&Secret>,
) -> Result<(), StoreAway> {
    let now = shared.now();
    if shared.store.is_none() || shared.step(|board| board.ledger.is_synced(visitor.hash, now)) {
        return Ok(());
    }
    pull_anew(shared, visitor, refresh).await
}

/// The same, however fresh what the ledger knows is.
///
/// # Errors
/// The store is away; the ledger knows what it knew.
pub(super) async fn pull_anew(
    shared: &Arc<Shared>,
    visitor: &Visitor,
    refresh: Option<&Secret>,
) -> Result<(), StoreAway> {
    let Some(store) = &shared.store else { return Ok(()) };
    let sighting = store.sessions.find(visitor.hash).await?;
    let now = shared.now();
    let better = match &sighting {
        Some(sighting) => {
            let head = shared.hash_of_head(visitor.issuer, &sighting.stored);
            shared.step(|board| board.ledger.merge(visitor, refresh, sighting, head, now))
        }
        None => shared.step(|board| board.ledger.unknown_elsewhere(visitor.hash, now)),
    };
    if let Some(better) = better {
        spawn(&shared.runtime, publish_later(shared.clone(), better.id));
    }
    Ok(())
}

/// Notes what a browser has shown, or kept, of a session that only the store knows.
pub(super) async fn note_elsewhere(shared: Arc<Shared>, visitor: Visitor, shown: Option<Secret>) {
    let Some(_place) = shared.waiting() else { return };
    if pull(&shared, &visitor, shown.as_ref()).await.is_ok() {
        let now = shared.now();
        shared.step(|board| match shown {
            Some(_) => board.ledger.note_shown(&visitor, now),
            None => board.ledger.note_kept(&visitor, now),
        });
    }
}

/// Tells the store this session's head. `Some`: it knows a newer one, or that the session is over.
/// `at_once`: even while the store rests after a failure.
///
/// # Errors
/// The store is away.
pub(super) async fn publish(
    shared: &Arc<Shared>,
    id: SessionId,
    at_once: bool,
) -> Result<Option<Stored>, StoreAway> {
    let Some(store) = &shared.store else { return Ok(None) };
    let now = shared.now();
    let Some(head) = shared.step(|board| board.ledger.publication(id, now)) else {
        return Ok(None);
    };
    let newer = match at_once {
        true => store.sessions.publish_at_once(&head).await?,
        false => store.sessions.publish(&head).await?,
    };
    noted(shared, &head);
    Ok(newer)
}

/// What a store said to a head that it may not know.
pub(super) enum Told {
    /// It knows it, now or since long.
    Known,
    /// It knows a newer one, or that the session is over.
    Newer(Stored),
    /// It knows this session under another name; this gateway's own is no more.
    Renamed,
}

/// Tells the store a head that it may not know.
///
/// It may have lost its memory since, and met the session again through a gateway that named it by
/// another of its tokens. Under two names it would be claimed twice: the store's name counts.
///
/// # Errors
/// The store is away.
pub(super) async fn tell_again(shared: &Arc<Shared>, id: SessionId) -> Result<Told, StoreAway> {
    let Some(store) = &shared.store else { return Ok(Told::Known) };
    let now = shared.now();
    let Some(head) = shared.step(|board| board.ledger.unstored(id, now)) else {
        return Ok(Told::Known);
    };
    if renamed(shared, id, head.hash).await? {
        return Ok(Told::Renamed);
    }
    let newer = store.sessions.publish(&head).await?;
    // Once more, now that it is told: a gateway that claims the session under another name at this
    // very moment looks for the name told here after it has claimed. One of the two notices.
    if renamed(shared, id, head.hash).await? {
        return Ok(Told::Renamed);
    }
    noted(shared, &head);
    Ok(newer.map_or(Told::Known, Told::Newer))
}

/// Does the store know this session, by its newest refresh token, under another name?
///
/// # Errors
/// The store is away.
async fn renamed(
    shared: &Arc<Shared>,
    id: SessionId,
    newest: TokenHash,
) -> Result<bool, StoreAway> {
    let Some(store) = &shared.store else { return Ok(false) };
    let Some(other) = store.sessions.find(newest).await?.filter(|other| other.id != id) else {
        return Ok(false);
    };
    shared.step(|board| board.ledger.renamed(id, &other.stored));
    Ok(true)
}

/// The same as [`tell_again`], again and again until the store takes it.
pub(super) async fn publish_later(shared: Arc<Shared>, id: SessionId) {
    let _unwritten = Unwritten::one(&shared);
    for _ in 0..TRIES_MAX {
        // A newer head may have been told meanwhile: the newest is what is told now. And what the
        // store knows better comes with the next look-up.
        match tell_again(&shared, id).await {
            Ok(Told::Known | Told::Newer(_) | Told::Renamed) => return,
            Err(StoreAway) => sleep(TRY_AGAIN).await,
        }
    }
}

/// The same for what the backend has just answered: until the store has it, a gateway that is lost
/// takes the session along. So no try waits until the store has rested.
pub(super) fn publish_soon(
    shared: Arc<Shared>,
    id: SessionId,
) -> impl Future<Output = ()> + Send + 'static {
    // Now, not when it is first polled: the flight may have landed by then.
    let unwritten = Unwritten::one(&shared);
    async move {
        let _unwritten = unwritten;
        let Some(store) = &shared.store else { return };
        for _ in 0..TRIES_MAX {
            sleep(TRY_AGAIN).await;
            if store.sessions.rest().is_none() {
                break;
            }
            if publish(&shared, id, true).await.is_ok() {
                return;
            }
        }
        publish_later(shared.clone(), id).await;
    }
}

/// Writes a change, again and again until the store takes it.
pub(super) async fn write(shared: Arc<Shared>, change: Change) {
    let _unwritten = Unwritten(shared.clone());
    let Some(store) = &shared.store else { return };
    for _ in 0..TRIES_MAX {
        let written = match change {
            Change::Confirmed { id, generation } => store.sessions.confirm(id, generation).await,
            Change::Over { id, generation, life } => {
                store.sessions.close(id, generation, life).await.map(|_| ())
            }
        };
        match written {
            Ok(()) => return,
            // Strangers can log out as often as they like.
            Err(StoreAway) if shared.unwritten.load(Ordering::Relaxed) > UNWRITTEN_MAX => return,
            Err(StoreAway) => sleep(TRY_AGAIN).await,
        }
    }
}

/// Gives a claim back, again and again until the store takes it: a claim that was marked as sent, and
/// whose flight did not send, would look like one of a gateway that was lost.
pub(super) async fn release(shared: Arc<Shared>, job: Job, rest: (Option<Duration>, u32)) {
    let _unwritten = Unwritten::one(&shared);
    let Some(store) = &shared.store else { return };
    let until = shared.now().uptime + rest.0.unwrap_or_default();
    for _ in 0..TRIES_MAX {
        let left = until.saturating_sub(shared.now().uptime);
        let cooling = Some(left).filter(|left| !left.is_zero());
        match store.sessions.release(job.id, job.claim, cooling, rest.1).await {
            Ok(()) => return,
            Err(StoreAway) => sleep(TRY_AGAIN).await,
        }
    }
}

/// Tells a store that has lost its memory what this gateway knows; for the gateway's whole life.
pub(super) async fn remind(shared: Weak<Shared>) {
    let Some(mut losses) = shared
        .upgrade()
        .and_then(|shared| shared.store.as_ref().map(|store| store.sessions.losses()))
    else {
        return;
    };
    while losses.changed().await.is_ok() {
        let Some(shared) = shared.upgrade() else { return };
        let forgotten = shared.step(|board| board.ledger.forgotten_elsewhere());
        tracing::warn!(
            sessions = forgotten.len(),
            "the session store has lost its memory: it is told again"
        );
        for some in forgotten.chunks(RETOLD_AT_ONCE) {
            let told = some.iter().map(|id| retell(shared.clone(), *id));
            futures_util::future::join_all(told).await;
            sleep(RETOLD_PAUSE).await;
        }
    }
}

async fn retell(shared: Arc<Shared>, id: SessionId) {
    let ended = shared.step(|board| board.ledger.ended(id));
    match ended {
        Some(over) => {
            shared.unwritten.fetch_add(1, Ordering::Relaxed);
            write(shared, over).await;
        }
        None => publish_later(shared, id).await,
    }
}

/// Takes note of sessions that other gateways close, so that what is open here for them ends; for the
/// gateway's whole life. News that were missed are found out at the session's next look-up.
pub(super) async fn hear(shared: Weak<Shared>) {
    let Some(mut closed) = shared
        .upgrade()
        .and_then(|shared| shared.store.as_ref().map(|store| store.sessions.closed()))
    else {
        return;
    };
    loop {
        let word = match closed.recv().await {
            Ok(word) => word,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let Some(shared) = shared.upgrade() else { return };
        if let Some(hash) = TokenHash::from_hex(&word) {
            closed_elsewhere(&shared, SessionId(hash)).await;
        }
    }
}

async fn closed_elsewhere(shared: &Arc<Shared>, id: SessionId) {
    let Some(store) = &shared.store else { return };
    let matters = match shared.step(|board| board.ledger.is_over(id)) {
        Some(over) => !over,
        // Without a record, what is open here can only be of the token that names the session.
        None => {
            let followed = shared.followed.lock().unwrap_or_else(PoisonError::into_inner);
            followed.contains_key(&id.0)
        }
    };
    if !matters {
        return;
    }
    // Anybody who may write to the store could have said so; what it holds is what counts.
    if let Ok(Some(sighting)) = store.sessions.find(id.0).await
        && sighting.id == id
    {
        let now = shared.now();
        shared.step(|board| board.ledger.closed_elsewhere(&sighting, now));
    }
}

fn noted(shared: &Arc<Shared>, head: &Publication) {
    let now = shared.now();
    shared.step(|board| board.ledger.note_stored(head.id, head.generation, now));
}

/// Counts something that has yet to be written, so that the process does not end before.
struct Unwritten(Arc<Shared>);

impl Unwritten {
    fn one(shared: &Arc<Shared>) -> Unwritten {
        shared.unwritten.fetch_add(1, Ordering::Relaxed);
        Unwritten(shared.clone())
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.0.unwritten.fetch_sub(1, Ordering::Relaxed);
        // Whoever waits for all to be written looks again.
        self.0.step(|_| ());
    }
}

//! The seam to a store that several gateways share.
//!
//! Every gateway keeps its own ledger and decides with it; the store is how ledgers agree. What it
//! holds of a session is small and grows in one direction only: a newer generation replaces an older
//! one, a confirmation is added, an end is final. So what is read from it is *merged* into the
//! ledger's record, in any order and as often as one likes, and the rules of [`super::record`] are
//! written once.
//!
//! One thing must not happen twice, and that is showing a refresh token to the backend. A flight
//! therefore claims its session first:
//!
//! 1. [`claim`](SessionStore::claim): one gateway gets it. Until it says that it has sent, a claim
//!    lapses after [`CLAIMED_FOR`] and may be taken over.
//! 2. [`sent`](SessionStore::sent), asked right before sending: from here on nobody takes the claim
//!    over until no answer can come any more.
//! 3. [`publish`](SessionStore::publish) needs no claim: what the backend answered is true whoever
//!    asked. It replaces anything but a newer generation and a logout.
//!
//! Times come and go as durations from or until now, so that gateways need no common clock. Every
//! call takes at most [`STORE_WAIT`]; a store that fails is not asked again for
//! [`STORE_REST`](crate::store::STORE_REST), except by [`publish_at_once`](SessionStore::publish_at_once).

use std::time::Duration;

use async_trait::async_trait;

use super::hash::TokenHash;
use super::sessions::SessionId;
use crate::policy::secret::Secret;

pub use crate::store::{STORE_WAIT, StoreAway};

/// A claim that is not renewed lapses after this.
pub const CLAIMED_FOR: Duration = Duration::from_secs(3);
/// How often a claim is renewed while a flight waits for its turn.
pub const CLAIM_RENEWED_EVERY: Duration = Duration::from_secs(1);
/// A sent claim outlives the backend call's deadline by this.
pub const SENT_SLACK: Duration = Duration::from_secs(2);
/// How long a gateway that sent, and was not heard of until its claim lapsed, may still publish
/// before it counts as gone.
pub const LOST_AFTER: Duration = Duration::from_secs(3);

/// One flight's name among all flights of all gateways; the store adds the gateway's own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClaimId(pub u64);

/// A session's newest pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    pub access: Secret,
    pub refresh: Secret,
}

/// Whether a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Live,
    /// The backend refused it. A newer generation overrules that.
    Dead,
    /// Logged out, or ended for another reason of ours: final.
    Ended,
}

/// What the store holds of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub life: Life,
    pub generation: u64,
    /// The generation that brought the head's refresh token.
    pub refresh_generation: u64,
    /// `None`: no backend has answered yet (generation 0), or the session is over.
    pub head: Option<StoredHead>,
    /// Which refresh tokens a browser has shown, and how long ago first; any order.
    pub confirmations: Vec<(u64, Duration)>,
    /// How long no flight may depart.
    pub cooling: Option<Duration>,
    pub failures: u32,
    /// How long ago the head was published.
    pub rotated: Option<Duration>,
    /// What is left of the refresh token's life, if the backend told it.
    pub life_left: Option<Duration>,
}

/// A session, and which of its generations brought the refresh token that it was looked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub id: SessionId,
    pub generation: u64,
    pub stored: Stored,
}

/// What became of the wish to ask the backend for this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours.
    Ours,
    /// Something newer is known than the one who asks knew: a newer head, a cool-down, an end.
    Moved(Stored),
    /// Another flight has it. Look again when told ([`SessionStore::told`]), or after this.
    Taken(Duration),
    /// The store lost its memory (it was restarted empty), so a flight that it no longer knows of may
    /// be on its way. Look again after this.
    Settling(Duration),
    /// A gateway sent and was never heard of again: the backend may have spent the refresh token.
    Lost,
}

/// A new head.
#[derive(Clone, Debug)]
pub struct Publication {
    pub id: SessionId,
    pub generation: u64,
    pub refresh_generation: u64,
    pub head: StoredHead,
    /// The hash of the head's refresh token.
    pub hash: TokenHash,
    /// What is left of the refresh token's life, if the backend told it.
    pub life_left: Option<Duration>,
    /// Generations whose refresh token a browser has shown, and how long ago.
    pub confirmations: Vec<(u64, Duration)>,
    /// Older refresh tokens of the session, with their generations: for a store that lost its memory.
    pub aliases: Vec<(TokenHash, u64)>,
}

/// A store of session records. Each method is one atomic step of the store.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// The session that had this refresh token. Looking prolongs its life.
    async fn find(&self, hash: TokenHash) -> Result<Option<Sighting>, StoreAway>;

    /// Asks for leave to show the head's refresh token to the backend. `generation` is the newest
    /// that the caller knows; a session nobody knows is made. `lost_too`: take over even if a
    /// gateway was lost after it had sent. `settle`: how long a call may take before it is over.
    async fn claim(
        &self,
        id: SessionId,
        generation: u64,
        claim: ClaimId,
        lost_too: bool,
        settle: Duration,
    ) -> Result<Claim, StoreAway>;

    /// Renews a claim that has not been sent; false if it is somebody else's by now.
    async fn keep(&self, id: SessionId, claim: ClaimId) -> Result<bool, StoreAway>;

    /// The backend is about to be asked, and no answer can come after `settle`; false if the claim is
    /// somebody else's by now, or lapsed.
    async fn sent(
        &self,
        id: SessionId,
        claim: ClaimId,
        settle: Duration,
    ) -> Result<bool, StoreAway>;

    /// The flight is over without a new head: the claim is free, if it is still this one, and no other
    /// may depart for as long as the record cools.
    async fn release(
        &self,
        id: SessionId,
        claim: ClaimId,
        cooling: Option<Duration>,
        failures: u32,
    ) -> Result<(), StoreAway>;

    /// The session that is said to have had the refresh token which this one is named after, if that
    /// is another. To be asked by a flight *after* it has claimed a session that nobody knew, as
    /// whoever tells an older name asks for the newer one after telling: so one of them notices.
    async fn elsewhere(&self, id: SessionId) -> Result<Option<SessionId>, StoreAway>;

    /// Gives the claim back, and forgets a session for which no backend has ever answered.
    async fn withdraw(&self, id: SessionId, claim: ClaimId) -> Result<(), StoreAway>;

    /// A new head, for everybody. `Some`: it was not taken, because something newer is there.
    async fn publish(&self, publication: &Publication) -> Result<Option<Stored>, StoreAway>;

    /// As [`Self::publish`], even while the store rests after a failure: what a backend has just
    /// answered is known to one process only, and what others know is spent. A few at once; with more,
    /// the store counts as away.
    async fn publish_at_once(&self, publication: &Publication)
    -> Result<Option<Stored>, StoreAway>;

    /// The session is over. `Some`: it goes on, because a newer generation than this one is there
    /// ([`Life::Dead`] only).
    async fn close(
        &self,
        id: SessionId,
        generation: u64,
        life: Life,
    ) -> Result<Option<Stored>, StoreAway>;

    /// A browser has shown the refresh token of this generation.
    async fn confirm(&self, id: SessionId, generation: u64) -> Result<(), StoreAway>;

    /// Waits until something changed for this session, as far as anybody says so; at most `at_most`.
    async fn told(&self, id: SessionId, at_most: Duration);

    /// The ids (in hex) of sessions that any gateway closes from now on. A hint, as [`Self::told`].
    fn closed(&self) -> tokio::sync::broadcast::Receiver<std::sync::Arc<str>>;

    /// How long it will not be asked, because it just failed; `None`: it will.
    fn rest(&self) -> Option<Duration>;

    /// Counts how often the store was found to have lost its memory.
    fn losses(&self) -> tokio::sync::watch::Receiver<u64>;
}

#[cfg(test)]
pub(super) mod tests;

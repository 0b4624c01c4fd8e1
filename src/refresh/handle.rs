//! What a request keeps of its session, and what it may hand out.

use std::sync::Arc;
use std::time::Duration;

use super::board::Shared;
use super::concurrency::timeout;
use super::ledger::Visitor;
use super::sessions::SessionId;
use super::sync::pull_anew;
use crate::policy::claims::IssuerId;
use crate::policy::secret::Secret;
use crate::policy::time::Now;

/// New cookies for one browser: the newest pair of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCookies {
    pub issuer: IssuerId,
    pub access: Secret,
    /// `None`: the browser has the newest refresh token.
    pub refresh: Option<Secret>,
    /// What is left of the refresh token's life, if the backend told it (its cookie's Max-Age, or
    /// `refresh_expires_in`).
    pub max_age_s: Option<u64>,
}

/// What a request to the auth backend itself may carry in place of the tokens it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForBackend {
    /// Nothing newer is known.
    AsItCame,
    /// The session's newest pair; `refresh` is always there.
    Newest(NewCookies),
    /// The refresh token is spent or over: the backend must not see it again.
    Withhold,
}

/// What can still come of a refresh token, as far as anybody knows without asking the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prospect {
    /// Refused, spent or logged out: nothing.
    pub over: bool,
    /// What is left of the session's newest refresh token, if the backend has told.
    pub life_left: Option<Duration>,
}

/// One session's record, held by a request that may deliver its cookies.
#[derive(Clone)]
pub struct SessionHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) id: SessionId,
    pub(super) visitor: Visitor,
    pub(super) refresh: Secret,
}

impl SessionHandle {
    /// Waits until no flight runs for this session, at most `hold`.
    pub async fn settled(&self, hold: Duration) {
        if let Some(mut landing) = self.shared.flight(self.id) {
            // Either way the record is asked next: late cookies are delivered by another response.
            let _ = timeout(hold, landing.changed()).await;
        }
    }

    /// The newest cookies, if this browser lacks them and the session has not ended. To be asked
    /// when the response's header leaves, not before: the answer changes while a response is made,
    /// here and at other gateways.
    pub async fn deliverable(&self, now: Now) -> Option<NewCookies> {
        // However fresh: a logout elsewhere may be fresher. If the store is away, what is known here is
        // the best there is.
        let _ = pull_anew(&self.shared, &self.visitor, Some(&self.refresh)).await;
        self.shared.step(|board| board.ledger.deliver(&self.visitor, now))
    }

    /// Is a flight running now?
    pub fn in_flight(&self) -> bool {
        self.shared.flight(self.id).is_some()
    }
}

//! What happened, for metrics, audit lines and the demo's live page.
//!
//! The ledger is pure and only notes events; they leave by one door ([`tell`]), after its lock is
//! released. An event names sessions by the first digits of a keyed hash, never by a token.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a flight was asked for (metric label `trigger`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trigger {
    Window,
    Expired,
    /// A page asked for it; `urgent`: its access token had expired.
    Client {
        urgent: bool,
    },
}

impl Trigger {
    /// Does somebody wait who cannot pass without it?
    pub const fn is_urgent(self) -> bool {
        match self {
            Trigger::Window => false,
            Trigger::Expired => true,
            Trigger::Client { urgent } => urgent,
        }
    }
}

/// How a flight ended (metric label `result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlightResult {
    Ok,
    /// Another gateway's flight brought the new tokens.
    Shared,
    Refused,
    Transient,
    Ambiguous,
    Misconfigured,
}

/// Why a session ended (metric label `reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Logout, or another login took its place.
    LoggedOut,
    /// The auth backend said that it is over.
    Refused,
    /// The renewed access token was another person's.
    WrongSubject,
    WrongIssuer,
    WrongAudience,
    /// A spent refresh token of it was shown.
    Reuse,
    /// A gateway died between showing its refresh token and hearing the answer.
    Lost,
    /// Forgotten to make room.
    Evicted,
}

/// How a refresh fared that the budget did not let depart at once (metric label `result`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BudgetResult {
    /// It departs when its turn has come.
    Queued,
    /// The queue is full, or longer than a request waits.
    Full,
    /// In the window: not now.
    Postponed,
}

/// One thing that happened. `issuer` is the configured name, fit for a metric label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshEvent {
    /// A flight departed.
    Started {
        issuer: Arc<str>,
        trigger: Trigger,
    },
    /// A request joined a running flight (`result="shared"`).
    Shared {
        issuer: Arc<str>,
        trigger: Trigger,
    },
    /// A request was served from its session's head; nobody was asked (`result="delivered"`).
    Delivered {
        issuer: Arc<str>,
        trigger: Trigger,
    },
    /// A flight landed. `shared_by` counts the requests that had joined it.
    Finished {
        issuer: Arc<str>,
        trigger: Trigger,
        result: FlightResult,
        shared_by: u32,
        took: Duration,
    },
    /// The head was replaced. For the audit line: first digits of the hashes.
    Rotated {
        issuer: Arc<str>,
        old: String,
        new: String,
        generation: u64,
    },
    /// Cookies left that had left before: the browser had not shown them yet.
    Redelivered {
        issuer: Arc<str>,
    },
    /// An old refresh token came after the grace.
    SpentShown {
        issuer: Arc<str>,
        token: String,
    },
    /// A refresh token came with another person's access token; nothing was done with it.
    ForeignShown {
        issuer: Arc<str>,
        token: String,
    },
    Ended {
        issuer: Arc<str>,
        session: String,
        reason: EndReason,
    },
    /// A call failed in a way that an operator may have to look at.
    Failed {
        issuer: Arc<str>,
        result: FlightResult,
        detail: Detail,
    },
    /// Several sessions in a row were misconfigured: it is the operator's turn.
    Misconfigured {
        issuer: Arc<str>,
        detail: Detail,
    },
    Breaker {
        issuer: Arc<str>,
        open: bool,
    },
    /// The budget did not let a refresh depart at once.
    Budget {
        issuer: Arc<str>,
        result: BudgetResult,
    },
    /// Only sessions that must not be forgotten are left, and no room for another.
    LedgerFull {
        issuer: Arc<str>,
    },
}

/// Why a call failed: a fixed word and the status, if there was one. Never the backend's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    pub word: &'static str,
    pub status: Option<u16>,
}

impl Detail {
    pub(super) const fn new(word: &'static str) -> Detail {
        Detail { word, status: None }
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "{} (status {status})", self.word),
            None => f.write_str(self.word),
        }
    }
}

/// Listens to every event. Called without a lock held, on the thread where it happened: be quick.
pub type Observer = Arc<dyn Fn(&RefreshEvent) + Send + Sync>;

/// The one door: log what a person should read, then tell the observer.
pub(super) fn tell(event: &RefreshEvent, observer: &Observer) {
    match event {
        RefreshEvent::Rotated { issuer, old, new, generation } => {
            tracing::info!(target: "audit", %issuer, %old, %new, generation, "session rotated");
        }
        RefreshEvent::SpentShown { issuer, token } => {
            tracing::warn!(target: "audit", %issuer, %token, "spent refresh token presented");
        }
        RefreshEvent::ForeignShown { issuer, token } => {
            tracing::warn!(target: "audit", %issuer, %token, "refresh token of another person");
        }
        RefreshEvent::Ended { issuer, session, reason } => match reason {
            EndReason::LoggedOut | EndReason::Refused => {
                tracing::info!(target: "audit", %issuer, %session, ?reason, "session ended");
            }
            EndReason::WrongSubject | EndReason::WrongIssuer | EndReason::WrongAudience => {
                tracing::error!(target: "audit", %issuer, %session, ?reason,
                    "session ended: the auth backend renewed it with a wrong access token");
            }
            EndReason::Lost => {
                tracing::warn!(target: "audit", %issuer, %session, ?reason,
                    "session ended: a gateway showed its refresh token and was never heard of again");
            }
            EndReason::Reuse => {
                tracing::warn!(target: "audit", %issuer, %session, ?reason,
                    "session ended: one of its spent refresh tokens was presented");
            }
            EndReason::Evicted => tracing::debug!(%issuer, %session, "session forgotten"),
        },
        RefreshEvent::Failed { issuer, result, detail } => {
            tracing::warn!(%issuer, ?result, %detail, "refresh failed; the session is kept");
        }
        RefreshEvent::Misconfigured { issuer, detail } => {
            tracing::error!(%issuer, %detail, "no session of this issuer can be refreshed: check \
                its `refresh` settings; sessions are kept");
        }
        RefreshEvent::Breaker { issuer, open: true } => {
            tracing::warn!(%issuer, "token endpoint is failing; calls pause");
        }
        RefreshEvent::Breaker { issuer, open: false } => {
            tracing::info!(%issuer, "token endpoint answers again");
        }
        RefreshEvent::LedgerFull { issuer } => {
            tracing::error!(%issuer, "no room for another session record: raise `limits.sessions`");
        }
        RefreshEvent::Started { .. }
        | RefreshEvent::Shared { .. }
        | RefreshEvent::Delivered { .. }
        | RefreshEvent::Finished { .. }
        | RefreshEvent::Redelivered { .. }
        | RefreshEvent::Budget { .. } => {}
    }
    observer(event);
}

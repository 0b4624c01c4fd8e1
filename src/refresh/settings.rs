//! What an operator may say about refreshing, checked.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::dead_when::DeadWhen;
use crate::policy::claims::IssuerId;
use crate::policy::secret::Secret;

/// How the auth backend is asked.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// RFC 6749 §6.
    OAuth2 { client_id: Option<String>, client_auth: ClientAuth },
    /// POST with the backend's own refresh cookie; the new tokens come in its Set-Cookie.
    Cookie { access_name: String, refresh_name: String },
    /// JSON both ways; the fields are JSON pointers (RFC 6901).
    Json { send_refresh: String, receive_access: String, receive_refresh: String },
}

/// RFC 6749 §2.3.1.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    None,
    Basic(Secret),
    Post(Secret),
}

/// What becomes of a refresh token once it was used: whether asking again is safe after a call that
/// was sent and not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// It works once; a second use may end the session.
    Strict,
    /// It works a few seconds longer.
    Grace,
    /// It goes on working beside the new one.
    ReuseOk,
    /// There is no new one.
    None,
}

/// What a spent refresh token, shown again, does to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReuse {
    /// Nothing: whoever shows it logs in.
    Login,
    /// It ends: two people may hold its tokens, and nobody can tell which of them is the right one
    /// (RFC 9700 §4.14.2).
    Revoke,
}

/// Where a logout revokes the refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokeAt {
    Nowhere,
    Url(String),
    /// Where the issuer's discovery document says.
    Discovered,
}

/// What becomes of sessions that need renewing while the shared store is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They wait: a 503 passes, a killed family of tokens does not.
    Deny,
    /// Each gateway renews alone, as if there were no other.
    Local,
}

/// `issuers.N.refresh`, checked.
#[derive(Clone, Debug)]
pub struct RefreshSettings {
    pub issuer: IssuerId,
    pub issuer_name: Arc<str>,
    pub url: String,
    pub protocol: Protocol,
    pub rotation: Rotation,
    /// What else means that a session is over.
    pub dead_when: Vec<DeadWhen>,
    pub on_reuse: OnReuse,
    /// Refreshes a second; `None`: as many as are needed.
    pub budget: Option<NonZeroU32>,
    pub revoke_at: RevokeAt,
    /// How long a response header waits for the cookies of a flight in the window.
    pub hold: Duration,
    /// How long an expired request waits.
    pub wait: Duration,
    /// How long the call may take; longer than `wait`, so that late answers are harvested.
    pub timeout: Duration,
}

/// `limits` of this room.
#[derive(Clone, Copy, Debug)]
pub struct RefreshLimits {
    pub sessions_max: usize,
}

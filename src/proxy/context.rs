//! What one request has gathered so far. Pingora hands it from hook to hook.

use std::sync::Arc;
use std::time::Duration;

use super::facts::Origin;
use super::inject::Injecting;
use super::limits::Kept;
use super::request_id::RequestId;
use super::shown::SeenCookies;
use super::streams::Streaming;
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::decide::Permit;
use crate::policy::endpoint::Endpoint;
use crate::policy::reason::Reason;
use crate::policy::route::Route;
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::refresh::{NewCookies, SessionHandle, TokenHash};

pub struct Context {
    /// When the request's head was there.
    pub received: Now,
    pub request_id: RequestId,
    pub renewal: Renewal,
    /// Whom it comes from; unknown until its head was looked at.
    pub origin: Option<Origin>,
    pub route: Option<Arc<Route>>,
    /// The endpoint of the gateway's own that it is for; then no route is.
    pub endpoint: Option<Endpoint>,
    /// Without one nothing reaches an upstream.
    pub permit: Option<Permit>,
    /// Set with the permit.
    pub passage: Option<Passage>,
    /// Why the request failed, if one of our hooks knows better than Pingora's error.
    pub failure: Option<Reason>,
    /// What was answered instead of forwarding, for the log.
    pub refused: Option<Reason>,
    pub body_bytes: u64,
    pub connect_attempts: u8,
    /// The response switched protocols (101): what follows is no body.
    pub upgraded: bool,
    /// The upstream's final head has gone through `response_filter`.
    pub head_sent: bool,
    pub streaming: Streaming,
    /// A page whose place for the script is still looked for.
    pub injecting: Option<Box<Injecting>>,
}

/// What a request had to do with refreshing.
#[derive(Default)]
pub struct Renewal {
    /// How long it waited, which is the auth backend's time and not ours.
    pub waited: Duration,
    /// The refresh token it showed, if that mattered: by its first digits the access line is found
    /// that belongs to an audit line.
    pub token: Option<TokenHash>,
}

/// What forwarding and responding need of a request that passes.
pub struct Passage {
    pub origin: Origin,
    /// The response may stay silent for long: WebSocket, event stream.
    pub streams: bool,
    /// The server that was picked, for `host_header: upstream`.
    pub server: Option<Arc<str>>,
    /// The path to forward where it differs from the one that was matched (`rewrite`).
    pub rewritten: Option<String>,
    pub carries: Carries,
}

/// What a decided request takes along.
pub struct Carries {
    /// For `pass_access_token`.
    pub access: Option<Secret>,
    /// On the auth backend's own route.
    pub own_cookies: Option<OwnCookies>,
    /// The session whose new cookies may ride on the response.
    pub session: Option<Carried>,
    /// The session, as far as its limits go.
    pub kept: Kept,
    /// The gateway's cookies as they came: stale spellings are expired when new ones are set.
    pub seen: SeenCookies,
    /// The refresh token that came, if it moves with the next Set-Cookie even where the backend gave no
    /// new one.
    pub moving: Option<Secret>,
    /// The refresh token that came by a handle, for a stream: nobody asks the store for it again.
    pub held: Option<(IssuerId, Secret)>,
}

impl Carries {
    /// The new pair, with the refresh token that moves if the backend gave none.
    pub fn with_moved(&self, mut new: NewCookies) -> NewCookies {
        if new.refresh.is_none() {
            new.refresh.clone_from(&self.moving);
        }
        new
    }
}

/// The auth backend's own tokens, mapped back to its names.
pub struct OwnCookies {
    pub access: Option<Secret>,
    pub refresh: Option<Secret>,
    /// The refresh token that the browser showed: its session ends when another login takes its
    /// place, or at a logout.
    pub shown: Option<(IssuerId, Secret)>,
}

pub struct Carried {
    pub handle: SessionHandle,
    /// Wait for a running flight at most this long before the head leaves.
    pub hold: Duration,
    /// The token that the request showed: what was denied since then gets no new cookies.
    pub vouched: Option<Arc<Verified>>,
    /// This request started or joined a flight in the window.
    pub flew: bool,
}

impl Context {
    pub fn new(received: Now, request_id: RequestId) -> Context {
        Context {
            received,
            request_id,
            renewal: Renewal::default(),
            origin: None,
            route: None,
            endpoint: None,
            permit: None,
            passage: None,
            failure: None,
            refused: None,
            body_bytes: 0,
            connect_attempts: 0,
            upgraded: false,
            head_sent: false,
            streaming: Streaming::NotYet,
            injecting: None,
        }
    }
}

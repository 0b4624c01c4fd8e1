//! What all requests share: the gateway's state, without a request in it.

use std::sync::Arc;
use std::time::Duration;

use super::Told;
use super::endpoints::Endpoints;
use super::facts::HeadLimits;
use super::observe::Observer;
use super::request_id::RequestIds;
use super::streams::Streams;
use super::upstreams::Upstream;
use crate::clock::Clock;
use crate::metrics::{Metrics, RouteMetrics};
use crate::policy::carrier::Carrier;
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::decide::Token;
use crate::policy::identity::managed::Managed;
use crate::policy::limits::Limits;
use crate::policy::path::PathRules;
use crate::policy::reason::Reason;
use crate::policy::route::table::RouteTable;
use crate::policy::secret::Secret;
use crate::policy::set_cookie::{BackendCookies, CookieSettings};
use crate::policy::time::Now;
use crate::policy::trusted_origins::TrustedOrigins;
use crate::refresh::{Refresher, Revocation};
use crate::session::denials::Denials;
use crate::session::handed_out::HandedOut;
use crate::session::held::HeldTokens;
use crate::session::replays::Replays;
use crate::session::seal::Seals;
use crate::token::{Tokens, Verdict};

/// What all listeners share. Built once, by [`crate::server`].
pub struct Gateway {
    pub routes: RouteTable,
    pub paths: PathRules,
    pub head_limits: HeadLimits,
    pub tokens: Arc<Tokens>,
    pub refresher: Arc<Refresher>,
    pub denials: Arc<Denials>,
    pub replays: Replays,
    pub clock: Clock,
    /// By `IssuerId`; `None` where nothing is refreshed.
    pub waits: Vec<Option<Waits>>,
    /// By `IssuerId`.
    pub issuer_names: Vec<Arc<str>>,
    /// By `IssuerId`.
    pub backend_cookies: Vec<BackendCookies>,
    /// By `IssuerId`.
    pub carriers: Vec<Carrier>,
    pub cookies: CookieSettings,
    pub seals: Seals,
    /// Tokens of which browsers have a handle only.
    pub held: HeldTokens,
    pub limits: Limits,
    pub handed_out: HandedOut,
    pub endpoints: Endpoints,
    /// Whose pages may read what the gateway itself answers.
    pub trusted_origins: TrustedOrigins,
    /// Where refresh tokens are revoked, by `IssuerId`.
    pub revocations: Vec<Option<Arc<Revocation>>>,
    /// A logout has the browser forget what the app stored.
    pub clear_site_data: bool,
    /// By `UpstreamId`.
    pub upstreams: Vec<Arc<Upstream>>,
    pub managed: Managed,
    pub streams: Arc<Streams>,
    /// Of which pages it was said that they were left without script.
    pub kept_pages: Told,
    pub metrics: Arc<Metrics>,
    /// By the route's index.
    pub route_metrics: Vec<RouteMetrics>,
    /// For requests that no route took.
    pub unrouted: RouteMetrics,
    pub request_ids: RequestIds,
    pub access_log: bool,
    pub observer: Option<Observer>,
}

impl Gateway {
    pub(super) fn now(&self) -> Now {
        (self.clock)()
    }

    /// Whose access token this is, expired or not; `None`: nobody's, or its keys are out of reach.
    pub(super) async fn owner(
        &self,
        issuer: IssuerId,
        access: &Secret,
        now: Now,
    ) -> Option<Arc<Verified>> {
        if let Some(verified) = self.tokens.cached(access.expose(), &[issuer], now) {
            return Some(verified);
        }
        match self.tokens.verify(access.expose(), &[issuer], now).await {
            Verdict::Good(verified) | Verdict::Expired(verified) => Some(verified),
            Verdict::Bad(_) | Verdict::KeysUnavailable { .. } => None,
        }
    }

    /// How browsers hold this issuer's tokens.
    pub(super) fn carrier(&self, issuer: IssuerId) -> Carrier {
        self.carriers.get(usize::from(issuer.0)).copied().unwrap_or_default()
    }

    /// Do browsers show this issuer's refresh token at the refresh path only?
    pub(super) fn is_scoped(&self, issuer: IssuerId) -> bool {
        let refreshes = self.waits.get(usize::from(issuer.0)).copied().flatten().is_some();
        refreshes && self.carrier(issuer) == Carrier::Path
    }

    /// Would the refresh token of whoever shows this access token come to the refresh path only?
    pub(super) fn refreshes_elsewhere(&self, token: &Token, issuers: &[IssuerId]) -> bool {
        match token {
            Token::Broken(Reason::Revoked) => false,
            Token::Valid(known) | Token::InWindow(known) | Token::Expired(known) => {
                self.is_scoped(known.issuer)
            }
            Token::Absent | Token::Broken(_) | Token::KeysUnavailable { .. } => {
                issuers.iter().any(|issuer| self.is_scoped(*issuer))
            }
        }
    }
}

/// How long requests wait for an issuer's refresh.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// An expired request, in all.
    pub wait: Duration,
    /// A response's head, in the window.
    pub hold: Duration,
}

//! The gateway's own endpoints, one file each. Which one a request is for, and whether our own page
//! asks, is judged in [`crate::policy::endpoint`].
//!
//! Nothing here makes or needs a permit: no request for an endpoint reaches an upstream. Answers
//! leave through `respond.rs` like all others.

mod session;
mod refresh;
mod bounced;
mod script;
mod backchannel;
pub mod logout;

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use pingora::proxy::Session as Request;

use self::script::Script;
use super::case::{known, verify};
use super::context::Context;
use super::denied::without_denied;
use super::limits::{self, Kept};
use super::respond::{Reply, Served};
use super::shown::Shown;
use super::{Gateway, deliver, drive, facts};
use crate::metrics::{Metrics, RouteMetrics};
use crate::policy::claims::IssuerId;
use crate::policy::decide::{Answer, Asked, Client, Shape, Token};
use crate::policy::endpoint::{Endpoint, Evidence, GatewayPath, is_our_form, is_same_origin};
use crate::policy::reason::Reason;
use crate::policy::route::{CredentialKinds, Route};
use crate::policy::secret::Secret;
use crate::refresh::Presented;

/// An endpoint needs no body, or a small one. One that announces more is refused; what else comes is read
/// up to a limit, and dropped.
const BODY_BYTES_MAX: u64 = 64 * 1024;
/// Only a script can send this header, and a page of another origin only if we let it.
static X_EVERGATE: HeaderName = HeaderName::from_static("x-evergate");
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// An answer, or the refusal to give instead.
pub type Ending = Result<Served, Box<Reply>>;

/// What the endpoints need for all requests.
pub struct Endpoints {
    pub path: GatewayPath,
    /// Browsers are sent to the refresh path (carrier `path`).
    pub bounces: bool,
    /// All of the gateway's: whoever signed a token, the endpoints look at it.
    issuers: Vec<IssuerId>,
    metrics: Vec<RouteMetrics>,
    /// Where a session is renewed, as a 401 tells it.
    refresh: Option<HeaderValue>,
    script: Script,
}

impl Endpoints {
    pub fn new(path: GatewayPath, bounces: bool, issuers: usize, metrics: &Metrics) -> Endpoints {
        let refresh = path.at(Endpoint::Refresh);
        Endpoints {
            script: Script::new(&path),
            refresh: HeaderValue::from_str(&refresh).ok(),
            path,
            bounces,
            issuers: (0..).map(IssuerId).take(issuers).collect(),
            metrics: Endpoint::ALL
                .iter()
                .map(|endpoint| metrics.endpoint(&Arc::from(endpoint.label())))
                .collect(),
        }
    }

    pub fn metrics(&self, endpoint: Endpoint) -> Option<&RouteMetrics> {
        let index = Endpoint::ALL.iter().position(|known| *known == endpoint)?;
        self.metrics.get(index)
    }

    /// The hint for a page whose request is refused for want of a good token: another tab, or the
    /// refresh endpoint, may have one by now.
    pub fn hint(
        &self,
        gateway: &Gateway,
        route: &Route,
        asked: &Asked,
        answer: Answer,
    ) -> Option<HeaderValue> {
        let waits = |issuer: &IssuerId| gateway.waits.get(usize::from(issuer.0)).copied().flatten();
        let renewable =
            route.credentials.cookie && route.issuers.iter().any(|i| waits(i).is_some());
        // Only a fetch can read it, and be tried again.
        let reads = asked.client == Client::Program || answer.shape == Shape::PageToRenew;
        let helps = reads && !asked.bearer && answer.reason.means_log_in();
        self.refresh.clone().filter(|_| helps && renewable)
    }
}

/// Serves one request for an endpoint.
///
/// # Errors
/// The refusal to give instead.
pub async fn serve(
    gateway: &Gateway,
    request: &mut Request,
    ctx: &mut Context,
    endpoint: Endpoint,
) -> Ending {
    if facts::announces_more_than(&request.req_header().headers, BODY_BYTES_MAX) {
        return Err(refusal(ctx, Reason::BodyTooLarge));
    }
    match endpoint {
        Endpoint::Session => session::serve(gateway, &request.req_header().headers, ctx).await,
        Endpoint::Refresh => match request.req_header().method {
            Method::POST if gateway.endpoints.bounces && logout::is_on_its_way(request) => {
                logout::serve(gateway, request, ctx).await
            }
            Method::POST => refresh::serve(gateway, &request.req_header().headers, ctx).await,
            _ => bounced::serve(gateway, request, ctx).await,
        },
        Endpoint::Logout => logout::serve(gateway, request, ctx).await,
        Endpoint::Script => gateway.endpoints.script.serve(&request.req_header().headers),
        Endpoint::BackchannelLogout => backchannel::serve(gateway, request, ctx).await,
    }
}

/// What a request for an endpoint shows of its session.
struct Asking<'a> {
    shown: Shown<'a>,
    token: Token,
    kept: Kept,
}

impl<'a> Asking<'a> {
    /// Reads and verifies the credentials. What was denied is no proof, and a session that is over is
    /// ended. To ask is no use of it: a page's timer is not a person.
    ///
    /// # Errors
    /// The refusal of credentials that cannot be judged.
    async fn of(
        gateway: &Gateway,
        headers: &'a HeaderMap,
        ctx: &Context,
    ) -> Result<Asking<'a>, Box<Reply>> {
        let Asking { mut shown, token, .. } = Asking::read(gateway, headers, ctx).await?;
        let now = ctx.received;
        let token = without_denied(gateway, token, &mut shown, now).await;
        let (token, kept) =
            limits::judged(gateway, token, &mut shown, false, client_of(ctx), now).await;
        Ok(Asking { shown, token, kept })
    }

    /// As [`Asking::of`], whatever was denied: who leaves may have left before.
    async fn read(
        gateway: &Gateway,
        headers: &'a HeaderMap,
        ctx: &Context,
    ) -> Result<Asking<'a>, Box<Reply>> {
        let issuers = &gateway.endpoints.issuers;
        let kinds = CredentialKinds { cookie: true, bearer: true };
        let unreadable =
            |(reason, seen)| drive::unreadable(gateway, ctx, Client::Program, reason, seen);
        let read = Shown::read_from(gateway, headers, kinds, issuers).map_err(unreadable)?;
        let mut shown = read.found(gateway, ctx.received).await.map_err(unreadable)?;
        if ctx.endpoint == Some(Endpoint::Refresh) {
            shown.read_refresh_path(gateway, headers, issuers).map_err(|reason| {
                // The access cookie stays: it tells whose session it is that somebody planted one for.
                let mut reply = refusal(ctx, reason);
                reply.set_cookies = deliver::expiring_refresh_path(gateway, shown.seen);
                reply
            })?;
        }
        let (token, _) = verify(gateway, &shown, issuers, ctx.received).await;
        if known(&token).is_none() {
            shown.forget_unvouched(gateway);
        }
        if let (Token::Broken(reason), Some(endpoint)) = (&token, ctx.endpoint) {
            let client = client_of(ctx);
            tracing::info!(target: "audit", route = endpoint.label(), %client, %reason, "token refused");
        }
        Ok(Asking { shown, token, kept: Kept::default() })
    }

    /// Has the browser a refresh token, as far as can be told here, that it does not show here?
    fn refreshes_elsewhere(&self, gateway: &Gateway) -> bool {
        !self.shown.is_bearer()
            && gateway.refreshes_elsewhere(&self.token, &gateway.endpoints.issuers)
    }

    /// What the session is asked with; `None` where nothing can be refreshed.
    fn presented(&self, gateway: &Gateway, ctx: &Context) -> Option<Presented> {
        let (issuer, refresh_token) = self.shown.refresh.as_ref()?;
        gateway.waits.get(usize::from(issuer.0)).copied().flatten()?;
        Some(Presented {
            issuer: *issuer,
            refresh_token: Secret::new(refresh_token.as_ref()),
            access: known(&self.token).filter(|token| token.issuer == *issuer),
            client: client_of(ctx),
        })
    }
}

/// Refuses whoever is not one of our own pages.
///
/// # Errors
/// The refusal.
fn from_our_own_page(headers: &HeaderMap, ctx: &Context) -> Result<(), Box<Reply>> {
    judged(headers, ctx, is_same_origin)
}

/// As [`from_our_own_page`], for what a form may ask, too.
///
/// # Errors
/// The refusal.
fn our_form(headers: &HeaderMap, ctx: &Context) -> Result<(), Box<Reply>> {
    judged(headers, ctx, is_our_form)
}

fn judged(
    headers: &HeaderMap,
    ctx: &Context,
    judge: fn(&Evidence<'_>) -> Result<(), Reason>,
) -> Result<(), Box<Reply>> {
    let lines = |name: &HeaderName| -> Vec<&[u8]> {
        headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
    };
    let evidence = Evidence {
        sec_fetch_site: &lines(&SEC_FETCH_SITE),
        origin: &lines(&ORIGIN),
        host: headers.get(HOST).and_then(|host| host.to_str().ok()),
        header: lines(&X_EVERGATE) == [b"1"],
    };
    judge(&evidence).map_err(|reason| refusal(ctx, reason))
}

/// The address that asks; known once the head was looked at.
fn client_of(ctx: &Context) -> IpAddr {
    ctx.origin.map_or(facts::NOBODY, |origin| origin.client)
}

/// A refusal for a program, whoever asks.
fn refusal(ctx: &Context, reason: Reason) -> Box<Reply> {
    Box::new(Reply::new(Answer::unrouted(Client::Program, reason), ctx.request_id))
}

//! `{gateway_path}/logout`: a person leaves.
//!
//! GET asks whether they mean it; POST does it. In this order, so that whatever fails, less is left:
//! the session's record ends (at all gateways, before the browser hears), its access tokens are
//! denied, its cookies go, and the auth backend is told, which may fail without changing anything here.
//! A second logout is as fine as the first.
//!
//! A link, an image or a form of another site must not log anybody out: POST is for our own pages.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Method};
use pingora::proxy::Session as Request;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Asking, Ending, client_of, our_form};
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::decide::Client;
use crate::policy::endpoint::Endpoint;
use crate::policy::return_to;
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::proxy::Gateway;
use crate::proxy::case::known;
use crate::proxy::context::Context;
use crate::proxy::denied::deny_session;
use crate::proxy::respond::{Reply, Served};
use crate::proxy::{carrier, deliver, facts, page};
use crate::refresh::{ForBackend, Presented, REVOCATION_MAX};

/// How long the answer waits until the other gateways can know; they are told later, too.
const STORE_WAIT: Duration = Duration::from_millis(500);
/// Marks a logout that was sent on to the refresh path.
const ON_ITS_WAY: &str = "logout";
static CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
static REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");

pub(super) async fn serve(gateway: &Gateway, request: &Request, ctx: &Context) -> Ending {
    let head = request.req_header();
    if head.method != Method::POST {
        return Ok(confirmation());
    }
    let asking = read(gateway, &head.headers, ctx).await?;
    let access = known(&asking.token);
    if ctx.endpoint == Some(Endpoint::Logout) && asking.refreshes_elsewhere(gateway) {
        // Whatever becomes of the second half: this token is no proof any more.
        end(gateway, access, None, ctx.received).await;
        return Ok(sent_on(gateway, head.uri.query()));
    }
    let refresh = asking.shown.refresh.as_ref();
    let refresh = refresh.map(|(issuer, token)| (*issuer, Secret::new(token.as_ref())));
    // A session that is over has no token that the backend need hear of, however often somebody leaves.
    let over = match asking.presented(gateway, ctx) {
        Some(presented) => gateway.refresher.prospect(&presented, ctx.received).over,
        None => false,
    };
    let newest = end(gateway, access, refresh, ctx.received).await.filter(|_| !over);
    let seen = carrier::forget(gateway, asking.shown.seen, ctx.received).await;
    let told = gateway.denials.written_within(STORE_WAIT);
    tokio::join!(told, revoke(gateway, newest, ctx.received));
    let client = client_of(ctx);
    tracing::info!(target: "audit", %client, "logged out");
    let mut served = match facts::client_of(head, None) {
        Client::Navigation | Client::FormNavigation => {
            let to = return_to::after_logout(head.uri.query());
            // Graphic ASCII only: it is a header's value as it is.
            let to = HeaderValue::from_str(&to).unwrap_or(HeaderValue::from_static("/"));
            answer(303, vec![(LOCATION, to)], Bytes::new())
        }
        Client::Program | Client::WebSocket | Client::EventStream => {
            answer(204, Vec::new(), Bytes::new())
        }
    };
    if gateway.clear_site_data {
        let all = HeaderValue::from_static("\"cache\", \"storage\"");
        served.headers.push((CLEAR_SITE_DATA.clone(), all));
    }
    served.set_cookies = deliver::expiring(gateway, seen);
    Ok(served)
}

/// The auth backend itself has logged somebody out on its own route: it need not be told. `access` is
/// what it was shown.
pub async fn left(
    gateway: &Gateway,
    issuer: IssuerId,
    access: Option<&Secret>,
    refresh: Option<(IssuerId, Secret)>,
    now: Now,
) {
    let access = match access {
        Some(access) => gateway.owner(issuer, access, now).await,
        None => None,
    };
    end(gateway, access, refresh, now).await;
    gateway.denials.written_within(STORE_WAIT).await;
}

/// A session is over by its limits: it ends as by a logout.
pub async fn over(
    gateway: &Gateway,
    access: Option<Arc<Verified>>,
    refresh: Option<(IssuerId, Secret)>,
    client: IpAddr,
    now: Now,
) {
    // Of one that has ended already the backend need not hear again.
    let live = refresh.as_ref().is_some_and(|(issuer, refresh)| {
        let (issuer, refresh_token) = (*issuer, refresh.clone());
        let presented = Presented { issuer, refresh_token, access: None, client };
        !gateway.refresher.prospect(&presented, now).over
    });
    if let Some(newest) = end(gateway, access, refresh, now).await.filter(|_| live) {
        // Not waited for: the answer takes cookies away, and somebody may log in again meanwhile.
        let _ = revoking(gateway, newest, now);
    }
    gateway.denials.written_within(STORE_WAIT).await;
}

/// Ends a session as far as it is known: by the access token and the refresh token that were shown.
/// Its newest refresh token, if one may be shown to the auth backend.
async fn end(
    gateway: &Gateway,
    access: Option<Arc<Verified>>,
    refresh: Option<(IssuerId, Secret)>,
    now: Now,
) -> Option<(IssuerId, Secret)> {
    let mut tokens: Vec<Arc<Verified>> = access.into_iter().collect();
    let mut newest = None;
    if let Some((issuer, shown)) = refresh {
        // Before the end, which forgets the session's tokens.
        newest = match gateway.refresher.for_backend(issuer, &shown, now).await {
            ForBackend::AsItCame => Some((issuer, shown.clone())),
            ForBackend::Newest(head) => {
                tokens.extend(gateway.owner(issuer, &head.access, now).await);
                head.refresh.map(|refresh| (issuer, refresh))
            }
            ForBackend::Withhold => None,
        };
        gateway.refresher.end(issuer, &shown, now).await;
    }
    let tokens: Vec<&Verified> = tokens.iter().map(AsRef::as_ref).collect();
    deny_session(gateway, &tokens, now);
    newest
}

/// Tells the auth backend, best-effort, and waits for a while.
async fn revoke(gateway: &Gateway, newest: Option<(IssuerId, Secret)>, now: Now) {
    if let Some(call) = newest.and_then(|newest| revoking(gateway, newest, now)) {
        let _ = timeout(REVOCATION_MAX, call).await;
    }
}

/// Tells the auth backend. `None`: it does not want to know.
fn revoking(
    gateway: &Gateway,
    (issuer, refresh): (IssuerId, Secret),
    now: Now,
) -> Option<JoinHandle<()>> {
    let index = usize::from(issuer.0);
    let revocation = gateway.revocations.get(index).cloned().flatten()?;
    let discovered = gateway.tokens.discovered(issuer, now);
    let place = revocation.place(discovered.as_deref())?;
    let name = gateway.issuer_names.get(index).map_or("-", |name| name).to_owned();
    let counter = gateway.metrics.backend_revocations.clone();
    // A task of its own: a browser that hangs up does not call it off.
    Some(tokio::spawn(async move {
        let result = revocation.revoke(place, &refresh).await;
        let word = if result.is_ok() { "ok" } else { "failed" };
        counter.with_label_values(&[&name, word]).inc();
        if let Err(error) = result {
            tracing::warn!(issuer = name, %error, "logged out here; the auth backend did not revoke the refresh token");
        }
    }))
}

/// The credentials of whoever may log out with them. Cookies that cannot be read are taken away all
/// the same.
async fn read<'a>(
    gateway: &Gateway,
    headers: &'a HeaderMap,
    ctx: &Context,
) -> Result<Asking<'a>, Box<Reply>> {
    let asking = Asking::read(gateway, headers, ctx).await;
    // No other site's page can send somebody's bearer token.
    if !asking.as_ref().is_ok_and(|asking| asking.shown.is_bearer()) {
        our_form(headers, ctx)?;
    }
    asking.map_err(|mut reply| {
        reply.set_cookies = deliver::expiring_all(gateway);
        reply
    })
}

/// The refresh token comes to the refresh path only, so that is where the logout goes on: 307 keeps the
/// method. What it says for itself comes along.
fn sent_on(gateway: &Gateway, query: Option<&str>) -> Served {
    let refresh = gateway.endpoints.path.at(Endpoint::Refresh);
    let query = query.map(|query| format!("&{query}")).unwrap_or_default();
    let to = HeaderValue::from_str(&format!("{refresh}?{ON_ITS_WAY}{query}"));
    let alone = || HeaderValue::from_str(&format!("{refresh}?{ON_ITS_WAY}"));
    let to = to.or_else(|_| alone()).unwrap_or(HeaderValue::from_static("/"));
    answer(307, vec![(LOCATION, to)], Bytes::new())
}

/// Is this the second half of a logout?
pub fn is_on_its_way(request: &Request) -> bool {
    let query = request.req_header().uri.query().unwrap_or_default();
    query == ON_ITS_WAY || query.strip_prefix(ON_ITS_WAY).is_some_and(|rest| rest.starts_with('&'))
}

fn confirmation() -> Served {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                  frame-ancestors 'none'";
    let headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        // Not `no-referrer`: the form's `Origin` would be `null`.
        (REFERRER_POLICY.clone(), HeaderValue::from_static("same-origin")),
    ];
    answer(200, headers, page::LOGOUT.into())
}

fn answer(status: u16, headers: Vec<(HeaderName, HeaderValue)>, body: Bytes) -> Served {
    Served { status, headers, body, set_cookies: Vec::new() }
}

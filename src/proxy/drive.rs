//! From a request's head to leave to forward it, or an answer.
//!
//! The steps stand in the order in which a request takes them. Deciding is
//! [`decide`](crate::policy::decide::decide)'s; this file and `case.rs` perform the one I/O that it
//! asks for and ask again.

use std::sync::Arc;

use http::header::{HOST, REFERER};
use pingora::proxy::Session as Request;

use super::bounce;
use super::case::{Case, Decided};
use super::context::{Context, Passage};
use super::deliver;
use super::facts::{self, Origin};
use super::request_id::RequestId;
use super::respond::Reply;
use super::shown::{SeenCookies, Shown};
use super::{Edge, Gateway};
use crate::policy::decide::{Answer, Asked, Client, Passes, Shape};
use crate::policy::endpoint::{self, Endpoint};
use crate::policy::path::{self, Canonical};
use crate::policy::reason::Reason;
use crate::policy::return_to;
use crate::policy::route::Route;
use crate::policy::route::table::Found;

/// A store that is away may be back as soon.
const STORE_RETRY_S: u64 = 1;

/// A step's outcome, or the answer to give instead.
type Step<T> = Result<T, Box<Reply>>;

/// Where a request goes that is not answered at once.
pub enum Next {
    /// To an upstream: the context holds a permit.
    Forward,
    Serve(Endpoint),
}

/// Decides one request.
///
/// # Errors
/// The answer to give instead.
pub async fn drive(edge: &Edge, request: &mut Request, ctx: &mut Context) -> Step<Next> {
    let gateway = &*edge.gateway;
    let now = ctx.received;
    let origin = origin(edge, request, ctx);
    check_head(gateway, request, ctx)?;
    let matched = canonical_path(gateway, request, ctx)?;
    let request = &*request;
    if let Some(endpoint) = find_endpoint(gateway, request, ctx, matched.as_deref())? {
        return Ok(Next::Serve(endpoint));
    }
    let route = find_route(gateway, request, ctx, matched.as_deref())?;
    let rewritten = rewrite(gateway, request, ctx, &route)?;
    let headers = &request.req_header().headers;
    // Before anybody is asked who they are: what is refused anyway must not cost a renewal.
    if facts::announces_more_than(headers, route.body_bytes_max) {
        return Err(unrouted(request, ctx, Reason::BodyTooLarge));
    }
    let asked = asked(request, &route, &origin);
    let shown = Shown::read(gateway, headers, &route, now)
        .await
        .map_err(|(reason, seen)| unreadable(gateway, ctx, asked.client, reason, seen))?;
    let asked = Asked { bearer: shown.is_bearer(), ..asked };

    let uses = !route.passive && facts::is_use(headers, asked.preflight);
    let mut case = Case::open(gateway, &route, asked, shown, uses, now, &mut ctx.renewal).await;
    let trail = case.needs_trail().then(|| bounce::trail(gateway, headers, now));
    let trail = trail.unwrap_or_default();
    case.heed(&trail);
    let (permit, carries) = match case.decide().await {
        Decided::Forward(permit, carries) => (permit, carries),
        Decided::Answer(answer, set_cookies) => {
            let mut reply = answered(request, ctx, &route, answer);
            reply.refresh_hint = gateway.endpoints.hint(gateway, &route, &asked, answer);
            reply.set_cookies = set_cookies;
            if answer.shape == Shape::Bounce {
                bounce::send(gateway, request.req_header(), &mut reply, trail, now);
            } else if answer.shape == Shape::PageToRenew {
                reply.refresh_url = Some(gateway.endpoints.path.at(Endpoint::Refresh));
            }
            return Err(reply);
        }
    };
    if matches!(permit.passes(), Passes::Preflight) && facts::has_body(headers) {
        return Err(unrouted(request, ctx, Reason::BadRequest));
    }
    let streams = matches!(asked.client, Client::WebSocket | Client::EventStream);
    ctx.passage = Some(Passage { origin, streams, server: None, rewritten, carries });
    ctx.permit = Some(permit);
    Ok(Next::Forward)
}

/// Whom the request comes from; a trusted proxy may also have named it.
fn origin(edge: &Edge, request: &Request, ctx: &mut Context) -> Origin {
    let headers = &request.req_header().headers;
    let origin = Origin::of(facts::peer_ip(request), headers, &edge.trusted_proxies);
    if origin.trusted
        && let Some(id) =
            headers.get("x-request-id").and_then(|v| RequestId::from_trusted(v.as_bytes()))
    {
        ctx.request_id = id;
    }
    ctx.origin = Some(origin);
    origin
}

fn check_head(gateway: &Gateway, request: &Request, ctx: &Context) -> Step<()> {
    let raw = request.as_http1().map(|h1| h1.get_headers_raw_bytes());
    let head = request.req_header();
    facts::check_head(head, raw.as_deref(), gateway.head_limits).map_err(|reason| {
        let mut reply = unrouted(request, ctx, reason);
        // A browser whose cookies outgrew the limit would be locked out until it lost them.
        if reason == Reason::HeaderTooLarge {
            reply.set_cookies = deliver::expiring_all(gateway);
        }
        reply
    })?;
    if raw.as_deref().is_some_and(facts::has_fragment) {
        return Err(unrouted(request, ctx, Reason::AmbiguousPath));
    }
    Ok(())
}

/// Writes the canonical path into the request, so that what is matched is what is forwarded.
/// Returns what to match where it differs from that (`paths.parameters: java`).
fn canonical_path(gateway: &Gateway, request: &mut Request, ctx: &Context) -> Step<Option<String>> {
    let head = request.req_header();
    let canonical = match path::canonicalise(head.raw_path(), host(request), &gateway.paths) {
        Ok(canonical) => canonical,
        Err(fault) => {
            tracing::debug!(request_id = ctx.request_id.as_str(), %fault, "ambiguous path");
            return Err(unrouted(request, ctx, Reason::AmbiguousPath));
        }
    };
    let matched = (canonical.matched != canonical.path).then(|| canonical.matched.to_string());
    if !canonical.as_received {
        let target = target(&canonical.path, canonical.query);
        request
            .req_header_mut()
            .set_raw_path(target.as_bytes())
            .map_err(|_| Box::new(Reply::new(unknown(Reason::AmbiguousPath), ctx.request_id)))?;
    }
    Ok(matched)
}

fn target(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

/// The endpoint of our own, where the path is at or below the gateway's: whatever the routes say.
fn find_endpoint(
    gateway: &Gateway,
    request: &Request,
    ctx: &mut Context,
    matched: Option<&str>,
) -> Step<Option<Endpoint>> {
    let head = request.req_header();
    let path = matched.unwrap_or_else(|| head.uri.path());
    match gateway.endpoints.path.find(path, &head.method, gateway.endpoints.bounces) {
        None => Ok(None),
        Some(endpoint::Found::Endpoint(endpoint)) => {
            ctx.endpoint = Some(endpoint);
            Ok(Some(endpoint))
        }
        Some(endpoint::Found::MethodNotAllowed { allow }) => {
            let mut reply = unrouted(request, ctx, Reason::MethodNotAllowed);
            reply.allow = Some(allow.to_owned());
            Err(reply)
        }
        Some(endpoint::Found::Unknown) => Err(unrouted(request, ctx, Reason::NoRoute)),
    }
}

/// The route by host, path and method; a CORS preflight goes to the route of the request that it
/// announces.
fn find_route(
    gateway: &Gateway,
    request: &Request,
    ctx: &mut Context,
    matched: Option<&str>,
) -> Step<Arc<Route>> {
    let head = request.req_header();
    let path = matched.unwrap_or_else(|| head.uri.path());
    let found = match facts::preflight_method(&head.method, &head.headers) {
        Some(announced) => gateway.routes.find_preflight(host(request), path, &announced),
        None => gateway.routes.find(host(request), path, &head.method),
    };
    match found {
        Found::Route(route) => {
            ctx.route = Some(Arc::clone(route));
            Ok(Arc::clone(route))
        }
        Found::NoRoute => Err(unrouted(request, ctx, Reason::NoRoute)),
        Found::MethodNotAllowed { allow } => {
            let mut reply = unrouted(request, ctx, Reason::MethodNotAllowed);
            reply.allow = Some(allow);
            Err(reply)
        }
    }
}

/// The path to forward, where the route strips a prefix. It is judged again: what is left must be
/// canonical by itself.
fn rewrite(
    gateway: &Gateway,
    request: &Request,
    ctx: &Context,
    route: &Route,
) -> Step<Option<String>> {
    let Some(prefix) = &route.strip_prefix else { return Ok(None) };
    let head = request.req_header();
    let (path, query) = (head.uri.path(), head.uri.query());
    let canonical = Canonical { path: path.into(), matched: path.into(), query, as_received: true };
    match path::strip(&canonical, prefix, &gateway.paths) {
        Ok(stripped) => Ok(Some(target(&stripped, query))),
        Err(_) => Err(unrouted(request, ctx, Reason::AmbiguousPath)),
    }
}

fn asked(request: &Request, route: &Route, origin: &Origin) -> Asked {
    let head = request.req_header();
    let preflight = facts::preflight_method(&head.method, &head.headers).is_some();
    Asked {
        client: facts::client(&head.method, &head.headers, route.answer_as),
        bearer: false,
        may_refresh_alongside: facts::may_refresh_alongside(&head.headers, preflight),
        preflight,
        source_ip: origin.client,
    }
}

/// Credentials that cannot be judged. Duplicates are expired, so that a reload recovers.
pub fn unreadable(
    gateway: &Gateway,
    ctx: &Context,
    client: Client,
    reason: Reason,
    seen: SeenCookies,
) -> Box<Reply> {
    let mut reply = Box::new(Reply::new(Answer::unrouted(client, reason), ctx.request_id));
    if reason == Reason::DuplicateCredential {
        reply.set_cookies = deliver::expiring(gateway, seen);
    }
    if reason == Reason::StoreUnavailable {
        reply.answer.retry_after_s = Some(STORE_RETRY_S);
        // An EventSource gives up for ever on any status but 200.
        if client == Client::EventStream {
            reply.answer.shape = Shape::EventStreamRetry;
        }
    }
    reply
}

/// An answer of a known route, with the way to the login page where that helps.
fn answered(request: &Request, ctx: &Context, route: &Route, answer: Answer) -> Box<Reply> {
    let mut reply = Box::new(Reply::new(answer, ctx.request_id));
    if let Some(template) = route.login_redirect.as_deref()
        && answer.reason.means_log_in()
    {
        reply.login_url = Some(return_to::login_url(template, page(request, answer)));
    }
    reply
}

/// The page to come back to: the one asked for, or for a program the page that it runs in.
fn page(request: &Request, answer: Answer) -> &str {
    let head = request.req_header();
    if answer.shape.is_redirect() && head.method == http::Method::GET {
        return head.uri.path_and_query().map_or("/", |page| page.as_str());
    }
    head.headers
        .get(REFERER)
        .and_then(|referer| referer.to_str().ok())
        .and_then(|referer| return_to::referring_page(referer, host(request)?))
        .unwrap_or("/")
}

fn unrouted(request: &Request, ctx: &Context, reason: Reason) -> Box<Reply> {
    let client = facts::client_of(request.req_header(), ctx.route.as_deref());
    Box::new(Reply::new(Answer::unrouted(client, reason), ctx.request_id))
}

fn unknown(reason: Reason) -> Answer {
    Answer::unrouted(Client::Program, reason)
}

fn host(request: &Request) -> Option<&str> {
    request.req_header().headers.get(HOST).and_then(|host| host.to_str().ok())
}

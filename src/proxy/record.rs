//! The end of a request: one access-log line and its metrics, from the same facts.

use pingora::proxy::Session;
use pingora::{BError, Error};

use super::Edge;
use super::context::Context;
use super::facts;
use crate::policy::decide::Passes;
use crate::policy::reason::Reason;

/// What the log says of a request that was forwarded and not refused.
const FORWARD: (&str, &str) = ("forward", "ok");
/// And of one that an endpoint of our own served.
const SERVE: (&str, &str) = ("serve", "ok");

/// Says why a request failed: what kind of error, at which server, and its root cause.
///
/// Never the context that Pingora gives its errors: there it quotes the bytes that it could not
/// parse, and a response's head may hold tokens.
pub fn failure(error: &Error, reason: Reason, ctx: &Context) {
    tracing::warn!(
        request_id = ctx.request_id.as_str(),
        %reason,
        error = error.root_etype().as_str(),
        cause = root_cause(error).map(tracing::field::display),
        server = ctx.passage.as_ref().and_then(|passage| passage.server.as_deref()),
        "failed"
    );
}

/// What began a chain of Pingora's errors, if it is not itself one of them.
fn root_cause(error: &Error) -> Option<&(dyn std::error::Error + Send + Sync)> {
    let cause = error.cause.as_deref()?;
    match cause.downcast_ref::<BError>() {
        Some(inner) => root_cause(inner),
        None => Some(cause),
    }
}

/// Counts the request and writes its line. The query is left out: people put secrets there.
pub fn record(edge: &Edge, session: &Session, error: Option<&Error>, ctx: &Context) {
    let gateway = &edge.gateway;
    let took = gateway.now().uptime.saturating_sub(ctx.received.uptime);
    let status = session.response_written().map_or(0, |head| head.status.as_u16());
    let route = ctx.route.as_deref();
    let own = ctx.endpoint.and_then(|endpoint| gateway.endpoints.metrics(endpoint));
    let metrics = own
        .or_else(|| route.and_then(|route| gateway.route_metrics.get(route.index)))
        .unwrap_or(&gateway.unrouted);
    let method = &session.req_header().method;
    metrics.answered(method, status, took);
    let (decision, reason) = match ctx.refused {
        None if ctx.endpoint.is_some() => SERVE,
        None => FORWARD,
        Some(reason) => ("answer", reason.word()),
    };
    match ctx.refused {
        None => metrics.passed(),
        Some(reason) => metrics.refused(reason.word()),
    }
    if !gateway.access_log || route.is_some_and(|route| !route.access_log) {
        return;
    }
    let user = match ctx.permit.as_ref().map(|permit| permit.passes()) {
        Some(Passes::Person(verified)) => verified.identity.user.as_deref(),
        Some(Passes::Anonymous | Passes::Preflight) | None => None,
    };
    let label: &str = match ctx.endpoint {
        Some(endpoint) => endpoint.label(),
        None => route.map_or("-", |route| &route.name),
    };
    let client = ctx.origin.map_or_else(|| facts::peer_ip(session), |origin| origin.client);
    tracing::info!(
        target: "access",
        request_id = ctx.request_id.as_str(),
        client = %client,
        method = method.as_str(),
        path = session.req_header().uri.path(),
        status,
        route = label,
        decision,
        reason,
        user,
        token = ctx.renewal.token.map(tracing::field::display),
        duration_ms = took.as_secs_f64() * 1000.0,
        request_bytes = session.body_bytes_read(),
        response_bytes = session.body_bytes_sent(),
        // Whose end broke, where the response could not be finished.
        error = error.filter(|_| ctx.refused.is_none()).map(|e| e.etype().as_str()),
        "request"
    );
}

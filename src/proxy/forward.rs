//! The request as the upstream sees it.
//!
//! Runs in `upstream_request_filter`, after Pingora removed what `Connection` nominates: an identity
//! header set earlier could be taken away by the client. May run again for another attempt, so it
//! starts from the client's headers each time.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{AUTHORIZATION, COOKIE, HOST, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::proxy::Session as Request;
use pingora::{Error, ErrorType, Result};

use super::Edge;
use super::context::{Context, Passage};
use super::inject;
use super::upstreams::HostHeader;
use crate::policy::credentials::authorization::Authorization;
use crate::policy::credentials::forward::{Forwarded, mapped, strip};
use crate::policy::decide::Passes;
use crate::policy::identity::managed::Class;
use crate::policy::route::{Auth, Route};

/// The headers that a gateway is known by.
const X_FORWARDED_FOR: &str = "X-Forwarded-For";
const X_FORWARDED_PROTO: &str = "X-Forwarded-Proto";
const X_FORWARDED_HOST: &str = "X-Forwarded-Host";
/// The longest text of an address.
const IP_BYTES_MAX: usize = 39;

/// Writes the upstream's request: strips first, then sets.
///
/// # Errors
/// No permit, or an identity that cannot be written.
pub fn prepare(
    edge: &Edge,
    request: &Request,
    upstream: &mut RequestHeader,
    ctx: &mut Context,
) -> Result<()> {
    let (Some(permit), Some(route), Some(passage)) = (&ctx.permit, &ctx.route, &ctx.passage) else {
        return Error::e_explain(ErrorType::InternalError, "no permit");
    };
    strip_managed(edge, upstream, passage.origin.trusted);
    forward_cookies(edge, upstream, route, passage, permit.passes())?;
    forward_authorization(upstream, route, passage, permit.passes())?;
    forward_origin(request, upstream, passage)?;
    upstream.insert_header("X-Request-Id", ctx.request_id.as_str())?;
    if let Some(target) = &passage.rewritten {
        upstream.set_raw_path(target.as_bytes())?;
    }
    set_host(edge, upstream, route, passage)?;
    inject::ask_plainly(request, upstream, route)?;
    match permit.passes() {
        Passes::Person(verified) => match route.identity_headers.render_all(verified) {
            Ok(headers) => {
                for (header, value) in headers {
                    upstream.insert_header(header.spelling.clone(), value)?;
                }
                Ok(())
            }
            Err(reason) => {
                ctx.failure = Some(reason);
                Error::e_explain(ErrorType::HTTPStatus(403), reason.word())
            }
        },
        Passes::Anonymous | Passes::Preflight => Ok(()),
    }
}

/// Takes away every header that only the gateway, or a trusted proxy, may send.
fn strip_managed(edge: &Edge, upstream: &mut RequestHeader, trusted: bool) {
    let managed = &edge.gateway.managed;
    let removed: Vec<HeaderName> = upstream
        .headers
        .keys()
        .filter(|name| match managed.class(name.as_str()) {
            Class::Ordinary => false,
            Class::Managed | Class::Forbidden => true,
            Class::Forwarding => !trusted,
        })
        .cloned()
        .collect();
    for name in removed {
        upstream.remove_header(&name);
    }
}

fn forward_cookies(
    edge: &Edge,
    upstream: &mut RequestHeader,
    route: &Route,
    passage: &Passage,
    passes: &Passes,
) -> Result<()> {
    let gateway = &edge.gateway;
    let lines = upstream.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let forwarded = match (passes, &passage.carries.own_cookies, route.adopt_tokens) {
        (Passes::Preflight, _, _) => Forwarded::Nothing,
        (_, Some(own), Some(issuer)) => match gateway.backend_cookies.get(usize::from(issuer.0)) {
            Some(backend) => mapped(
                lines,
                &gateway.cookies,
                backend,
                own.access.as_ref().map(|token| token.expose()),
                own.refresh.as_ref().map(|token| token.expose()),
            ),
            None => strip(lines, &gateway.cookies, &[]),
        },
        (_, _, _) => strip(lines, &gateway.cookies, &[]),
    };
    match forwarded {
        Forwarded::AsReceived => {}
        Forwarded::Nothing => {
            upstream.remove_header(&COOKIE);
        }
        Forwarded::Line(line) => {
            let line = HeaderValue::from_bytes(&line).map_err(|_| internal("cookie line"))?;
            upstream.insert_header(COOKIE, line)?;
        }
    }
    Ok(())
}

/// A bearer token that the gateway judged goes no further; the application's own schemes do. Where
/// the route passes the access token on, it stands here.
fn forward_authorization(
    upstream: &mut RequestHeader,
    route: &Route,
    passage: &Passage,
    passes: &Passes,
) -> Result<()> {
    let judged = match (passes, route.auth) {
        (Passes::Preflight, _) => true,
        (_, Auth::Public) => false,
        (_, Auth::Required | Auth::Optional) => route.credentials.bearer && is_bearer(upstream),
    };
    if judged {
        upstream.remove_header(&AUTHORIZATION);
    }
    if let Some(access) = &passage.carries.access {
        let mut value = HeaderValue::try_from(format!("Bearer {}", access.expose()))
            .map_err(|_| internal("access token"))?;
        value.set_sensitive(true);
        upstream.insert_header(AUTHORIZATION, value)?;
    }
    Ok(())
}

fn is_bearer(upstream: &RequestHeader) -> bool {
    let lines = upstream.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    match Authorization::read(lines) {
        Ok(Authorization::Absent | Authorization::Other) => false,
        Ok(Authorization::Bearer(_) | Authorization::Malformed) | Err(_) => true,
    }
}

/// Rebuilds `X-Forwarded-*`; what a trusted proxy said is kept and added to.
fn forward_origin(
    request: &Request,
    upstream: &mut RequestHeader,
    passage: &Passage,
) -> Result<()> {
    let origin = &passage.origin;
    let mut chain = String::with_capacity(IP_BYTES_MAX);
    if origin.trusted {
        for line in upstream.headers.get_all("x-forwarded-for") {
            let line = line.to_str().unwrap_or_default();
            let _ = write!(chain, "{line}, ");
        }
    }
    push_ip(&mut chain, origin.peer);
    upstream.insert_header(X_FORWARDED_FOR, chain)?;
    let said = |name: &str| origin.trusted && upstream.headers.contains_key(name);
    let (proto_said, host_said) = (said("x-forwarded-proto"), said("x-forwarded-host"));
    if !proto_said {
        // Listeners speak plain http until they take certificates themselves.
        upstream.insert_header(X_FORWARDED_PROTO, HeaderValue::from_static("http"))?;
    }
    if !host_said && let Some(host) = request.req_header().headers.get(HOST) {
        upstream.insert_header(X_FORWARDED_HOST, host)?;
    }
    Ok(())
}

/// An IPv4 address is written by hand: the formatting machinery takes ten times as long, and each
/// request needs it.
fn push_ip(out: &mut String, ip: IpAddr) {
    let IpAddr::V4(ip) = ip else {
        let _ = write!(out, "{ip}");
        return;
    };
    for (index, octet) in ip.octets().into_iter().enumerate() {
        if index > 0 {
            out.push('.');
        }
        for (digit, least) in [(octet / 100, 100), (octet / 10 % 10, 10), (octet % 10, 0)] {
            if octet >= least {
                out.push(char::from(b'0' + digit));
            }
        }
    }
}

fn set_host(
    edge: &Edge,
    upstream: &mut RequestHeader,
    route: &Route,
    passage: &Passage,
) -> Result<()> {
    let settings = edge.gateway.upstreams.get(usize::from(route.upstream.0));
    match settings.map(|upstream| &upstream.host_header) {
        None | Some(HostHeader::Preserve) if upstream.headers.contains_key(HOST) => Ok(()),
        Some(HostHeader::Literal(host)) => upstream.insert_header(HOST, host.as_str()),
        // An HTTP/1.0 request may come without a Host; what goes on is HTTP/1.1, which has one.
        None | Some(HostHeader::Preserve | HostHeader::Upstream) => match &passage.server {
            Some(server) => upstream.insert_header(HOST, server.as_ref()),
            None => Err(internal("no server")),
        },
    }
}

fn internal(what: &'static str) -> Box<Error> {
    Error::explain(ErrorType::InternalError, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        let ends = ["0.0.0.0", "127.0.0.1", "10.20.30.40", "99.100.101.255", "2001:db8::1"];
        for text in ends {
            let mut out = String::from("a, ");
            push_ip(&mut out, text.parse().unwrap());
            assert_eq!(out, format!("a, {text}"));
        }
        for octet in 0..=255 {
            let mut out = String::new();
            push_ip(&mut out, IpAddr::from([octet, 0, octet, 0]));
            assert_eq!(out, format!("{octet}.0.{octet}.0"));
        }
    }
}

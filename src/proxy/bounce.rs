//! Sending a browser to the refresh path and back (carrier `path`): addresses, sealed for the host that
//! was asked, and trails, which are in a cookie that no other host can set.

use aws_lc_rs::digest::{SHA256, digest as sha};
use http::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use pingora::http::RequestHeader;

use super::Gateway;
use super::facts;
use super::respond::Reply;
use crate::policy::bounce::{Digest, Kept, Return, TRAIL_LIFE_S, Trail};
use crate::policy::credentials::{CookieValue, Held, Seen};
use crate::policy::decide::Client;
use crate::policy::endpoint::Endpoint;
use crate::policy::return_to;
use crate::policy::set_cookie::SameSite;
use crate::policy::time::Now;
use crate::refresh::NewCookies;

/// What trails are sealed for.
const TRAIL: &str = "trail";
/// The name of the sealed page in the address.
pub const PARAMETER: &str = "to";
/// A longer address would not pass what stands in front, and `/` stands for it.
const PAGE_BYTES_MAX: usize = 2_000;

/// Sends whoever asked for a page to the refresh path.
pub fn send(gateway: &Gateway, head: &RequestHeader, reply: &mut Reply, trail: Trail, now: Now) {
    let page = head.uri.path_and_query().map_or("/", |page| page.as_str());
    reply.refresh_url = Some(address(gateway, &head.headers, page, trail.rounds, now));
    let strict = match gateway.cookies.same_site {
        SameSite::Strict => true,
        SameSite::Lax | SameSite::None => false,
    };
    // On a redirect the next request is as foreign as this one. A page of ours makes it our own.
    let navigates = facts::client_of(head, None) == Client::Navigation;
    reply.by_page = strict && navigates && facts::may_come_from_another_site(&head.headers);
}

/// The address that leads to the refresh path, and from there to `page` of this host.
pub fn address(gateway: &Gateway, headers: &HeaderMap, page: &str, rounds: u8, now: Now) -> String {
    let refresh = gateway.endpoints.path.at(Endpoint::Refresh);
    let page = return_to::own_page(page).filter(|page| page.len() <= PAGE_BYTES_MAX);
    let page = page.unwrap_or("/").to_owned();
    let plain = Return { page, rounds, since: now.unix }.to_bytes();
    match gateway.seals.seal(&purpose(headers), &plain) {
        Some(sealed) => format!("{refresh}?{PARAMETER}={sealed}"),
        None => refresh,
    }
}

/// Where an address leads back to; `None`: it is too old, or not one of ours.
pub fn opened(gateway: &Gateway, headers: &HeaderMap, sealed: &str, now: Now) -> Option<Return> {
    let plain = gateway.seals.open(&purpose(headers), sealed)?;
    Return::read(&plain, now.unix)
}

/// What the browser brought back from the refresh path.
pub fn trail(gateway: &Gateway, headers: &HeaderMap, now: Now) -> Trail {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let held = Held::read(lines, &gateway.cookies.bounced);
    let CookieValue::Text(sealed) = held.value else { return Trail::default() };
    let plain = gateway.seals.open(TRAIL, &sealed);
    plain.and_then(|plain| Trail::read(&plain, now.unix)).unwrap_or_default()
}

/// What a browser was given, if it was given a refresh token that it shows elsewhere.
pub fn kept(gateway: &Gateway, new: &NewCookies) -> Option<Kept> {
    let refresh = gateway.refresher.name_of_new(new).filter(|_| gateway.is_scoped(new.issuer))?;
    Some(Kept { refresh: refresh.to_bytes(), access: digest(new.access.expose()) })
}

/// The Set-Cookie lines that give a browser its trail; none if it cannot be sealed.
pub fn trail_lines(gateway: &Gateway, trail: Trail) -> Vec<HeaderValue> {
    let cookies = &gateway.cookies;
    let sealed = gateway.seals.seal(TRAIL, &trail.to_bytes());
    let lines = sealed.and_then(|sealed| {
        cookies.set(&cookies.bounced, &sealed, Some(TRAIL_LIFE_S), Seen::default()).ok()
    });
    lines.unwrap_or_default()
}

/// By what an access token is recognised in a trail.
pub fn digest(access: &str) -> Digest {
    let mut digest = Digest::default();
    for (to, from) in digest.iter_mut().zip(sha(&SHA256, access.as_bytes()).as_ref()) {
        *to = *from;
    }
    digest
}

fn purpose(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    format!("return {}", host.to_ascii_lowercase())
}

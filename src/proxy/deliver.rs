//! What a response takes along: a session's newest cookies, and none that an upstream made up.

use std::time::Duration;

use http::header::{HeaderValue, SET_COOKIE};
use pingora::Result;
use pingora::http::ResponseHeader;

use super::carrier::Leaving;
use super::context::{Carried, Carries, Context};
use super::observe::Event;
use super::respond::{Seal, seal};
use super::shown::SeenCookies;
use super::{Edge, Gateway, adopt, bounce, carrier};
use crate::clock;
use crate::policy::bounce::Trail;
use crate::policy::carrier::Carrier;
use crate::policy::claims::IssuerId;
use crate::policy::credentials::{Seen, refresh_value};
use crate::policy::route::{Auth, CacheMode, Route};
use crate::policy::secret::Secret;
use crate::policy::set_cookie::{CookieFault, is_gateway_cookie};
use crate::refresh::NewCookies;

/// Puts the gateway's cookies onto an upstream's response and seals it.
///
/// # Errors
/// A header that cannot be written: a mistake of ours.
pub async fn onto(edge: &Edge, response: &mut ResponseHeader, ctx: &mut Context) -> Result<()> {
    let gateway = &*edge.gateway;
    let (Some(route), Some(passage)) = (&ctx.route, &ctx.passage) else { return Ok(()) };
    let adopted = match route.adopt_tokens {
        Some(issuer) => Box::pin(adopt::adopted(gateway, issuer, response, passage)).await?,
        None => None,
    };
    let set_cookies = match adopted {
        // A login's or logout's response carries the backend's word and nothing of the old session.
        Some(adopted) => adopted,
        None => brought(gateway, &passage.carries).await,
    };
    keep_ours_ours(gateway, response);
    let sealing = Seal {
        request_id: &ctx.request_id,
        set_cookies: &set_cookies,
        private: depends_on_who_asks(route),
    };
    seal(response, &sealing)
}

/// The cookies for an answer of ours to a request that was meant to pass: they ride on a 502 as well
/// as on the page itself.
pub async fn onto_answer(edge: &Edge, ctx: &Context) -> Vec<HeaderValue> {
    match &ctx.passage {
        Some(passage) => brought(&edge.gateway, &passage.carries).await,
        None => Vec::new(),
    }
}

fn depends_on_who_asks(route: &Route) -> bool {
    let judged = match route.auth {
        Auth::Required | Auth::Optional => true,
        // The auth backend sees who asks by its own cookies.
        Auth::Public => route.adopt_tokens.is_some(),
    };
    match route.cache {
        CacheMode::Private => judged,
        CacheMode::Untouched => false,
    }
}

/// The stamp and the newest tokens, in this order: a request that leaves the browser between two lines
/// must not carry the new tokens without the stamp.
async fn brought(gateway: &Gateway, carries: &Carries) -> Vec<HeaderValue> {
    let newest = match &carries.session {
        Some(carried) => Box::pin(newest(gateway, carries, carried)).await,
        None => Vec::new(),
    };
    let mut lines = carries.kept.lines(gateway, carries.seen);
    lines.extend(newest);
    lines
}

/// The session's newest cookies, if its flight has brought them by now or does within `hold`.
async fn newest(gateway: &Gateway, carries: &Carries, carried: &Carried) -> Vec<HeaderValue> {
    if carried.flew {
        let overlap = if !carried.handle.in_flight() {
            "in_time"
        } else if held(gateway, carried).await {
            "held"
        } else {
            "late"
        };
        gateway.metrics.refresh.overlap.with_label_values(&[overlap]).inc();
    }
    let Some(new) = carried.handle.deliverable(gateway.now()).await else { return Vec::new() };
    if carried.vouched.as_ref().is_some_and(|token| gateway.denials.is_denied(token)) {
        return Vec::new();
    }
    if let Some(observer) = &gateway.observer {
        observer(Event::Delivered);
    }
    carries.kept.note_handed_out(gateway, &new).await;
    lines(gateway, &carries.with_moved(new), carries.seen).await
}

/// Holds the head back for the cookies. True if the flight ended in time.
async fn held(gateway: &Gateway, carried: &Carried) -> bool {
    if carried.hold == Duration::ZERO {
        return false;
    }
    let since = clock::now().uptime;
    carried.handle.settled(carried.hold).await;
    let took = clock::now().uptime.saturating_sub(since);
    gateway.metrics.refresh.held_header_seconds.observe(took.as_secs_f64());
    !carried.handle.in_flight()
}

/// The Set-Cookie lines of a new pair, and by what it is known that a browser has kept it which shows
/// its refresh token elsewhere.
pub async fn lines(gateway: &Gateway, new: &NewCookies, seen: SeenCookies) -> Vec<HeaderValue> {
    let mut lines = token_lines(gateway, new, seen).await;
    if let Some(kept) = bounce::kept(gateway, new).filter(|_| !lines.is_empty()) {
        let trail = Trail { kept: Some(kept), since: gateway.now().unix, ..Trail::default() };
        lines.extend(bounce::trail_lines(gateway, trail));
    }
    lines
}

/// The Set-Cookie lines of a new pair, by its issuer's carrier. None at all if one cannot be written:
/// half a session in the browser would be worse than the old one, which the session record still
/// answers.
pub async fn token_lines(
    gateway: &Gateway,
    new: &NewCookies,
    seen: SeenCookies,
) -> Vec<HeaderValue> {
    let (access, refresh) = (Some(&new.access), new.refresh.as_ref());
    let leaving = Leaving { issuer: new.issuer, access, refresh, max_age_s: new.max_age_s };
    match carrier::is_one_cookie(gateway, new.issuer) {
        true => carrier::lines(gateway, &leaving, seen).await,
        false => plain_lines(gateway, new, seen),
    }
}

fn plain_lines(gateway: &Gateway, new: &NewCookies, seen: SeenCookies) -> Vec<HeaderValue> {
    let cookies = &gateway.cookies;
    let access = cookies.set(&cookies.access, new.access.expose(), new.max_age_s, seen.access);
    let mut lines = written(access);
    if let Some(refresh) = &new.refresh
        && !lines.is_empty()
    {
        let refresh = refresh_lines(gateway, new.issuer, refresh, new.max_age_s, seen);
        if refresh.is_empty() {
            return refresh;
        }
        lines.extend(refresh);
    }
    if lines.is_empty() {
        return lines;
    }
    with_session_expired(gateway, lines, seen)
}

/// The plain cookies take the session cookie's place.
fn with_session_expired(
    gateway: &Gateway,
    lines: Vec<HeaderValue>,
    seen: SeenCookies,
) -> Vec<HeaderValue> {
    if seen.session.is_empty() {
        return lines;
    }
    let cookies = &gateway.cookies;
    let mut all = written(cookies.expire_seen(&cookies.session, seen.session));
    all.extend(lines);
    all
}

/// The Set-Cookie lines of a refresh token that came without an access token.
pub async fn refresh_alone(
    gateway: &Gateway,
    issuer: IssuerId,
    refresh: &Secret,
    max_age_s: Option<u64>,
    seen: SeenCookies,
) -> Vec<HeaderValue> {
    if carrier::is_one_cookie(gateway, issuer) {
        let leaving = Leaving { issuer, access: None, refresh: Some(refresh), max_age_s };
        return carrier::lines(gateway, &leaving, seen).await;
    }
    let lines = refresh_lines(gateway, issuer, refresh, max_age_s, seen);
    with_session_expired(gateway, lines, seen)
}

/// The Set-Cookie lines of a refresh token. With several issuers the cookie itself names the one
/// that may be asked.
fn refresh_lines(
    gateway: &Gateway,
    issuer: IssuerId,
    refresh: &Secret,
    max_age_s: Option<u64>,
    seen: SeenCookies,
) -> Vec<HeaderValue> {
    let several = gateway.issuer_names.len() > 1;
    let name = gateway.issuer_names.get(usize::from(issuer.0)).filter(|_| several);
    let value = refresh_value::write(refresh.expose(), name.map(AsRef::as_ref));
    let cookies = &gateway.cookies;
    // Where the browser does not show it, nobody knows in how many parts it holds the old value.
    let of_path = (&cookies.refresh_path, seen.refresh_path.unwrap_or(Seen::CURRENT));
    let everywhere = (&cookies.refresh, seen.refresh);
    let ((names, stale), (left, left_seen)) = match gateway.carrier(issuer) {
        Carrier::Path => (of_path, everywhere),
        Carrier::Cookie | Carrier::Sealed | Carrier::Server => {
            (everywhere, (of_path.0, seen.refresh_path.unwrap_or_default()))
        }
    };
    let mut lines = written(cookies.set(names, &value, max_age_s, stale));
    if !lines.is_empty() && !left_seen.is_empty() {
        lines.extend(written(cookies.expire(left, left_seen)));
    }
    lines
}

/// What a value that cannot be a cookie comes to: no lines, and the operator is told.
pub fn written(lines: std::result::Result<Vec<HeaderValue>, CookieFault>) -> Vec<HeaderValue> {
    lines.unwrap_or_else(|fault| {
        tracing::error!(%fault, "a token cannot be set as a cookie");
        Vec::new()
    })
}

/// The Set-Cookie lines that take the gateway's cookies away, under the names they came under.
pub fn expiring(gateway: &Gateway, seen: SeenCookies) -> Vec<HeaderValue> {
    let mut lines = expiring_access(gateway, seen);
    lines.extend(expiring_refresh(gateway, seen));
    lines.extend(expiring_session(gateway, seen));
    if gateway.endpoints.bounces {
        lines.extend(written(gateway.cookies.expire(&gateway.cookies.bounced, Seen::default())));
    }
    lines.extend(expiring_stamp(gateway, seen));
    lines
}

pub fn expiring_access(gateway: &Gateway, seen: SeenCookies) -> Vec<HeaderValue> {
    written(gateway.cookies.expire(&gateway.cookies.access, seen.access))
}

pub fn expiring_refresh(gateway: &Gateway, seen: SeenCookies) -> Vec<HeaderValue> {
    let mut lines = written(gateway.cookies.expire(&gateway.cookies.refresh, seen.refresh));
    if gateway.endpoints.bounces || seen.refresh_path.is_some_and(|seen| !seen.is_empty()) {
        lines.extend(expiring_refresh_path(gateway, seen));
    }
    lines
}

/// Only the refresh cookie with a path of its own.
pub fn expiring_refresh_path(gateway: &Gateway, seen: SeenCookies) -> Vec<HeaderValue> {
    let seen = seen.refresh_path.unwrap_or(Seen::CURRENT);
    written(gateway.cookies.expire(&gateway.cookies.refresh_path, seen))
}

/// Where sessions may live in it, it goes in any case: a response under way may bring it yet.
fn expiring_session(gateway: &Gateway, seen: SeenCookies) -> Vec<HeaderValue> {
    let cookies = &gateway.cookies;
    match carrier::any_is_one_cookie(gateway) {
        true => written(cookies.expire(&cookies.session, seen.session)),
        false => written(cookies.expire_seen(&cookies.session, seen.session)),
    }
}

/// The Set-Cookie lines of the stamp.
pub fn stamp_lines(
    gateway: &Gateway,
    stamp: &str,
    max_age_s: u64,
    seen: SeenCookies,
) -> Vec<HeaderValue> {
    let cookies = &gateway.cookies;
    written(cookies.set(&cookies.stamp, stamp, Some(max_age_s), seen.stamp))
}

/// Where there are no limits, only a stamp that is there is taken away.
fn expiring_stamp(gateway: &Gateway, seen: SeenCookies) -> Vec<HeaderValue> {
    if gateway.limits.are_off() && seen.stamp.is_empty() {
        return Vec::new();
    }
    written(gateway.cookies.expire(&gateway.cookies.stamp, seen.stamp))
}

/// Every spelling there is, where the request's own could not be read.
pub fn expiring_all(gateway: &Gateway) -> Vec<HeaderValue> {
    let all = Seen::ALL;
    let refresh_path = Some(all).filter(|_| gateway.endpoints.bounces);
    let (access, refresh, session, stamp) = (all, all, all, all);
    expiring(gateway, SeenCookies { access, refresh, refresh_path, session, stamp, place: None })
}

/// An upstream cannot set a gateway cookie: it would choose who its next visitor is.
fn keep_ours_ours(gateway: &Gateway, response: &mut ResponseHeader) {
    let is_ours = |line: &HeaderValue| is_gateway_cookie(line.as_bytes(), &gateway.cookies);
    if !response.headers.get_all(SET_COOKIE).iter().any(is_ours) {
        return;
    }
    let kept: Vec<HeaderValue> = response
        .headers
        .get_all(SET_COOKIE)
        .iter()
        .filter(|line| !is_ours(line))
        .cloned()
        .collect();
    tracing::warn!("an upstream tried to set a gateway cookie; removed");
    replace_set_cookies(response, kept);
}

/// Puts `kept` in place of all Set-Cookie lines.
pub fn replace_set_cookies(response: &mut ResponseHeader, kept: Vec<HeaderValue>) {
    response.remove_header(&SET_COOKIE);
    for line in kept {
        // A line that was a header's value is one still.
        let _ = response.append_header(SET_COOKIE, line);
    }
}

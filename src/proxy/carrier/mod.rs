//! Carriers that put a session into one cookie: how it is read, and how its tokens leave.
//!
//! [`sealed`] gives the browser both tokens, which only gateways can open; [`server`] gives it a handle
//! and holds them. The plain pair of cookies is `deliver.rs`'s. Whatever the carrier, the session's
//! record is the only truth about what is newest: nothing here decides that.

pub mod sealed;
pub mod server;

use http::HeaderValue;

use super::Gateway;
use super::deliver::written;
use super::shown::SeenCookies;
use crate::policy::carrier::Carrier;
use crate::policy::claims::IssuerId;
use crate::policy::kept::{Kept, SessionValue};
use crate::policy::reason::Reason;
use crate::policy::secret::Secret;
use crate::policy::time::Now;

/// Tokens on their way into one cookie.
pub struct Leaving<'a> {
    pub issuer: IssuerId,
    pub access: Option<&'a Secret>,
    pub refresh: Option<&'a Secret>,
    pub max_age_s: Option<u64>,
}

impl Leaving<'_> {
    fn kept(&self, gateway: &Gateway) -> Option<Kept> {
        let issuer = gateway.issuer_names.get(usize::from(self.issuer.0))?;
        let (access, refresh) = (self.access.cloned(), self.refresh.cloned());
        Some(Kept { issuer: issuer.as_ref().into(), access, refresh })
    }
}

/// Does this issuer's session live in one cookie?
pub fn is_one_cookie(gateway: &Gateway, issuer: IssuerId) -> bool {
    match gateway.carrier(issuer) {
        Carrier::Cookie | Carrier::Path => false,
        Carrier::Sealed | Carrier::Server => true,
    }
}

/// Does any issuer's?
pub fn any_is_one_cookie(gateway: &Gateway) -> bool {
    (0..).map(IssuerId).take(gateway.carriers.len()).any(|issuer| is_one_cookie(gateway, issuer))
}

/// The Set-Cookie lines that bring these tokens into the session cookie, in whichever way the issuer's
/// carrier says. None if that cannot be, or if newer ones are there.
pub async fn lines(
    gateway: &Gateway,
    leaving: &Leaving<'_>,
    seen: SeenCookies,
) -> Vec<HeaderValue> {
    match gateway.carrier(leaving.issuer) {
        Carrier::Cookie | Carrier::Path | Carrier::Sealed => sealed::lines(gateway, leaving, seen),
        // Boxed, so that other carriers' requests do not carry what it needs.
        Carrier::Server => Box::pin(server::lines(gateway, leaving, seen)).await,
    }
}

/// Whoever holds the handle that came is nobody from now on: they have left, or are somebody else.
/// Returns what came without it.
pub async fn forget(gateway: &Gateway, seen: SeenCookies, now: Now) -> SeenCookies {
    if let Some(place) = seen.place {
        gateway.held.remove(place, now).await;
    }
    SeenCookies { place: None, ..seen }
}

/// A request was refused: if its session is over, so is what is held of it.
pub async fn refused(gateway: &Gateway, seen: SeenCookies, reason: Reason, now: Now) {
    let over = matches!(reason, Reason::RefreshRefused | Reason::Revoked | Reason::SessionExpired);
    if let Some(place) = seen.place.filter(|_| over) {
        gateway.held.remove_unchanged(place, now).await;
    }
}

/// Tokens move from the plain cookies, which go, into the session cookie.
fn session_cookie(
    gateway: &Gateway,
    value: SessionValue<'_>,
    max_age_s: Option<u64>,
    seen: SeenCookies,
) -> Vec<HeaderValue> {
    let cookies = &gateway.cookies;
    let session = written(cookies.set(&cookies.session, &value.write(), max_age_s, seen.session));
    if session.is_empty() {
        return session;
    }
    let mut lines = written(cookies.expire_seen(&cookies.access, seen.access));
    lines.extend(written(cookies.expire_seen(&cookies.refresh, seen.refresh)));
    let path = seen.refresh_path.unwrap_or_default();
    lines.extend(written(cookies.expire_seen(&cookies.refresh_path, path)));
    lines.extend(session);
    lines
}

//! `carrier: server`: the browser has a handle, the gateway holds the tokens.
//!
//! A handle's tokens are asked for at each request, and new ones are put in the place of those that
//! the request came with. Where the store is away, they go out sealed in the cookie: every gateway
//! can read them, and the next delivery takes them back.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::{Leaving, sealed, session_cookie};
use crate::policy::kept::{Handle, Kept, SessionValue};
use crate::policy::reason::Reason;
use crate::policy::time::Now;
use crate::proxy::Gateway;
use crate::proxy::shown::SeenCookies;
use crate::session::held::{LIFE_UNTOLD, Place};

/// The tokens under a handle, and where they are.
///
/// # Errors
/// `StoreUnavailable`: nobody can say.
pub async fn find(
    gateway: &Gateway,
    handle: Handle,
    now: Now,
) -> Result<Option<(Arc<Kept>, Place)>, Reason> {
    gateway.held.find(handle, now).await.map_err(|_| Reason::StoreUnavailable)
}

/// The Set-Cookie lines. None where the handle's tokens are not those any more that the request came
/// with: another response was quicker, or somebody has logged out.
pub async fn lines(
    gateway: &Gateway,
    leaving: &Leaving<'_>,
    seen: SeenCookies,
) -> Vec<HeaderValue> {
    let Some(kept) = leaving.kept(gateway) else { return Vec::new() };
    let now = gateway.now();
    let life = life(gateway, leaving, now);
    let held = match seen.place {
        Some(place) => match gateway.held.replace(place, kept, life, now).await {
            Ok(false) => return Vec::new(),
            Ok(true) => Ok(place.handle),
            Err(away) => Err(away),
        },
        None => gateway.held.hold(kept, life, now).await,
    };
    match held {
        Ok(handle) => {
            session_cookie(gateway, SessionValue::Handle(handle), leaving.max_age_s, seen)
        }
        Err(_) => sealed::lines(gateway, leaving, seen),
    }
}

/// As long as the refresh token lives, or a day after the access token; and never shorter than that.
fn life(gateway: &Gateway, leaving: &Leaving<'_>, now: Now) -> Duration {
    let access = leaving
        .access
        .and_then(|token| gateway.tokens.cached(token.expose(), &[leaving.issuer], now));
    let left = access.map_or(0, |verified| verified.expires_at.since(now.unix));
    match leaving.max_age_s {
        Some(told) => Duration::from_secs(told.max(left)),
        None => LIFE_UNTOLD + Duration::from_secs(left),
    }
}

//! `adopt_tokens`: the auth backend's own cookies become the gateway's.
//!
//! So a home-made login page works unchanged: what it sets is verified and set under our names with
//! our attributes, what it clears is a logout. Its own names never reach the browser.

use std::sync::Arc;

use http::header::{HeaderValue, SET_COOKIE};
use pingora::Result;
use pingora::http::ResponseHeader;

use super::context::Passage;
use super::endpoints::logout;
use super::{Gateway, carrier, deliver, limits};
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::secret::Secret;
use crate::policy::set_cookie::BackendCookies;
use crate::policy::set_cookie::backend::BackendSetCookie;
use crate::policy::time::Now;
use crate::refresh::NewCookies;
use crate::token::Verdict;

/// What a response of the auth backend says of its two cookies.
#[derive(Default)]
struct Word {
    access: Option<BackendSetCookie>,
    refresh: Option<BackendSetCookie>,
}

/// Takes the backend's cookies off its response. `None`: it said nothing of them; else the
/// gateway's cookies to set instead.
///
/// # Errors
/// A header that cannot be written: a mistake of ours.
pub async fn adopted(
    gateway: &Gateway,
    issuer: IssuerId,
    response: &mut ResponseHeader,
    passage: &Passage,
) -> Result<Option<Vec<HeaderValue>>> {
    let Some(names) = gateway.backend_cookies.get(usize::from(issuer.0)) else { return Ok(None) };
    let now = gateway.now();
    let word = take(response, names, now);
    match (live(&word.access), live(&word.refresh)) {
        (None, None) if clears(&word.access) || clears(&word.refresh) => {
            return Ok(Some(logged_out(gateway, issuer, passage, now).await));
        }
        (None, None) => return Ok(None),
        (_, _) => {}
    }
    let mut person = None;
    if let Some(access) = live(&word.access) {
        person = verified(gateway, issuer, &access.value, now).await;
        if person.is_none() {
            return Ok(Some(Vec::new()));
        }
    }
    let goes_on = goes_on(gateway, issuer, person.as_deref(), passage, now).await;
    let refresh = live(&word.refresh).map(|cookie| &cookie.value);
    let person = person.as_deref();
    // First, since what comes after it may be the last that a browser keeps.
    let mut lines = limits::at_login(gateway, issuer, person, refresh, goes_on, passage, now);
    lines.extend(logged_in(gateway, issuer, &word, goes_on, passage, now).await);
    Ok(Some(lines))
}

fn live(cookie: &Option<BackendSetCookie>) -> Option<&BackendSetCookie> {
    cookie.as_ref().filter(|cookie| !cookie.clears)
}

fn clears(cookie: &Option<BackendSetCookie>) -> bool {
    cookie.as_ref().is_some_and(|cookie| cookie.clears)
}

/// Removes the backend's own lines; of several for one name the last counts, as in a browser.
fn take(response: &mut ResponseHeader, names: &BackendCookies, now: Now) -> Word {
    let mut word = Word::default();
    let mut kept = Vec::new();
    let mut taken = false;
    for line in response.headers.get_all(SET_COOKIE) {
        match BackendSetCookie::parse(line.as_bytes(), now.unix) {
            Some(cookie) if cookie.name == *names.access => word.access = Some(cookie),
            Some(cookie) if cookie.name == *names.refresh => word.refresh = Some(cookie),
            Some(_) | None => {
                kept.push(line.clone());
                continue;
            }
        }
        taken = true;
    }
    if taken {
        deliver::replace_set_cookies(response, kept);
    }
    word
}

async fn verified(
    gateway: &Gateway,
    issuer: IssuerId,
    access: &Secret,
    now: Now,
) -> Option<Arc<Verified>> {
    let word = match gateway.tokens.verify_new(access.expose(), issuer, now).await {
        Verdict::Good(verified) => return Some(verified),
        Verdict::Expired(_) => "expired",
        Verdict::Bad(reason) => reason.word(),
        Verdict::KeysUnavailable { .. } => "keys_unavailable",
    };
    tracing::error!(
        reason = word,
        "the auth backend's access token cannot be verified; not adopted"
    );
    None
}

/// A login. The session that the browser had before is over, unless the backend set the refresh
/// token again that it was shown: the browser's, or the session's newest in its place. A half of the
/// pair that the backend takes away goes: beside a new other half it would be another person's.
async fn logged_in(
    gateway: &Gateway,
    issuer: IssuerId,
    word: &Word,
    goes_on: bool,
    passage: &Passage,
    now: Now,
) -> Vec<HeaderValue> {
    let (access, refresh) = (live(&word.access), live(&word.refresh));
    if let (Some(own), Some(new)) = (&passage.carries.own_cookies, &word.refresh)
        && let Some((shown_issuer, shown)) = &own.shown
        && (new.clears || (*shown != new.value && own.refresh.as_ref() != Some(&new.value)))
    {
        gateway.refresher.end(*shown_issuer, shown, now).await;
    }
    // A handle that was known before a login does not lead to what comes after.
    let seen = match goes_on {
        true => passage.carries.seen,
        false => carrier::forget(gateway, passage.carries.seen, now).await,
    };
    let mut lines = Vec::new();
    // One cookie goes as a whole.
    let plain = !carrier::is_one_cookie(gateway, issuer);
    if plain && clears(&word.access) {
        lines.extend(deliver::expiring_access(gateway, seen));
    }
    if plain && clears(&word.refresh) {
        lines.extend(deliver::expiring_refresh(gateway, seen));
    }
    let max_age_s = refresh.or(access).and_then(|cookie| cookie.max_age_s);
    lines.extend(match access {
        Some(access) => {
            let new = NewCookies {
                issuer,
                access: access.value.clone(),
                refresh: match refresh {
                    Some(cookie) => Some(cookie.value.clone()),
                    None => staying(gateway, issuer, word, passage),
                },
                max_age_s,
            };
            let under_handle = deliver::lines(gateway, &new, seen).await;
            match under_handle.is_empty() && seen.place.is_some() {
                // A response of the session before was quicker; it is over.
                true => {
                    let seen = carrier::forget(gateway, seen, now).await;
                    deliver::lines(gateway, &new, seen).await
                }
                false => under_handle,
            }
        }
        // A refresh token alone: the next request has it renewed, and what comes is verified then.
        None => match refresh {
            Some(cookie) => {
                deliver::refresh_alone(gateway, issuer, &cookie.value, max_age_s, seen).await
            }
            None => Vec::new(),
        },
    });
    lines
}

/// Is it the browser's session that goes on? The backend may as well have renewed it of its own accord:
/// what is under way with the handle that the browser has finds the new tokens under it. Not where the
/// tokens tell that the person has logged in since.
async fn goes_on(
    gateway: &Gateway,
    issuer: IssuerId,
    person: Option<&Verified>,
    passage: &Passage,
    now: Now,
) -> bool {
    let shown = passage.carries.own_cookies.as_ref().and_then(|own| own.access.as_ref());
    let (Some(before), Some(person)) = (shown, person) else { return false };
    let before = gateway.owner(issuer, before, now).await;
    before.is_some_and(|before| {
        before.subject == person.subject
            && before.session_id == person.session_id
            && limits::authenticated(person) <= limits::authenticated(&before)
    })
}

/// The refresh token that the backend has said nothing of, where the browser does not just keep it in
/// a cookie of its own.
fn staying(gateway: &Gateway, issuer: IssuerId, word: &Word, passage: &Passage) -> Option<Secret> {
    let own = passage.carries.own_cookies.as_ref().filter(|_| !clears(&word.refresh))?;
    let (shown_issuer, _) = own.shown.as_ref()?;
    let moves = carrier::is_one_cookie(gateway, issuer) || !passage.carries.seen.session.is_empty();
    own.refresh.clone().filter(|_| moves && *shown_issuer == issuer)
}

async fn logged_out(
    gateway: &Gateway,
    issuer: IssuerId,
    passage: &Passage,
    now: Now,
) -> Vec<HeaderValue> {
    if let Some(own) = &passage.carries.own_cookies {
        logout::left(gateway, issuer, own.access.as_ref(), own.shown.clone(), now).await;
    }
    let seen = carrier::forget(gateway, passage.carries.seen, now).await;
    deliver::expiring(gateway, seen)
}

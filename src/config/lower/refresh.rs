//! How tokens are renewed.

use std::num::NonZeroU32;

use super::{Context, cookies, url};
use crate::config::raw::refresh::{self as raw, Refresh};
use crate::config::raw::values::{List, Word};
use crate::config::reports::{KeyPath, Problem};
use crate::policy::carrier::Carrier;
use crate::policy::claims::IssuerId;
use crate::policy::secret::Secret;
use crate::policy::set_cookie::BackendCookies;
use crate::refresh::{
    ClientAuth, DeadWhen, OnReuse, Protocol, RefreshSettings, RevokeAt, Rotation,
};

/// Refreshes a second. One gateway verifies fewer tokens than that, so more is a slip.
const BUDGET_MAX: u32 = 100_000;
/// Entries of `dead_when`.
const MATCHERS_MAX: usize = 16;
/// Statuses, pointers, or values of a pointer in one of them.
const MATCHED_MAX: usize = 16;

/// `None` where nothing is refreshed. `discovers`: the issuer's keys come by discovery.
pub fn refresh(
    cx: &mut Context<'_>,
    at: &KeyPath,
    issuer: IssuerId,
    issuer_name: &str,
    discovers: bool,
    raw: &Refresh,
) -> Option<RefreshSettings> {
    let Some(url) = &raw.url else {
        let idle = Refresh { backend_cookies: raw.backend_cookies.clone(), ..Refresh::default() };
        if *raw != idle {
            cx.error(&at.key("url"), "missing: without it nothing is refreshed", "a URL");
        }
        return None;
    };
    cx.ok(&at.key("url"), url::parse_trusted(url));
    let periods =
        [("window", Some(raw.window)), ("wait", Some(raw.wait)), ("timeout", Some(raw.timeout))];
    super::upstreams::not_zero(cx, at, &periods);
    if raw.timeout.0 < raw.wait.0 {
        let what = format!("shorter than `wait`, {}", raw.wait);
        cx.error(&at.key("timeout"), what, "expected at least `wait`: late answers are used, too");
    }
    let secret = raw.client_secret.as_ref();
    let secret = secret.and_then(|source| cx.secret(&at.key("client_secret"), source));
    foreign_keys(cx, at, raw);
    if raw.on_reuse == raw::OnReuse::Revoke && raw.rotation == raw::Rotation::None {
        let what = "without effect: with `rotation: none` no token is ever spent";
        cx.error(&at.key("on_reuse"), what, "");
    }
    let protocol = match raw.protocol {
        raw::Protocol::OAuth2 => oauth2(cx, at, raw, secret),
        raw::Protocol::Cookie => Protocol::Cookie {
            access_name: raw.backend_cookies.access.clone(),
            refresh_name: raw.backend_cookies.refresh.clone(),
        },
        raw::Protocol::Json => json(cx, at, raw),
    };
    Some(RefreshSettings {
        issuer,
        issuer_name: issuer_name.into(),
        url: url.clone(),
        protocol,
        rotation: match raw.rotation {
            raw::Rotation::Strict => Rotation::Strict,
            raw::Rotation::Grace => Rotation::Grace,
            raw::Rotation::ReuseOk => Rotation::ReuseOk,
            raw::Rotation::None => Rotation::None,
        },
        dead_when: dead_when(cx, &at.key("dead_when"), &raw.dead_when),
        on_reuse: match raw.on_reuse {
            raw::OnReuse::Login => OnReuse::Login,
            raw::OnReuse::Revoke => OnReuse::Revoke,
        },
        budget: raw.budget.and_then(|budget| per_second(cx, &at.key("budget"), budget)),
        revoke_at: revoke_at(cx, &at.key("revocation_url"), discovers, raw),
        hold: raw.hold.0,
        wait: raw.wait.0,
        timeout: raw.timeout.0,
    })
}

pub fn backend_cookies(cx: &mut Context<'_>, issuer: &KeyPath, raw: &Refresh) -> BackendCookies {
    let at = issuer.key("refresh").key("backend_cookies");
    let names = &raw.backend_cookies;
    for (key, name) in [("access", &names.access), ("refresh", &names.refresh)] {
        cx.ok(&at.key(key), cookies::well_formed(name));
    }
    if names.access == names.refresh {
        cx.error(&at.key("refresh"), "the same name as `access`", "expected two names");
    }
    BackendCookies { access: names.access.as_str().into(), refresh: names.refresh.as_str().into() }
}

pub fn carrier(raw: &Refresh) -> Carrier {
    match raw.carrier {
        raw::Carrier::Cookie => Carrier::Cookie,
        raw::Carrier::Path => Carrier::Path,
        raw::Carrier::Sealed => Carrier::Sealed,
        raw::Carrier::Server => Carrier::Server,
    }
}

/// Only OAuth has an endpoint for it that a document names (RFC 7009, RFC 8414).
fn revoke_at(cx: &mut Context<'_>, at: &KeyPath, discovers: bool, raw: &Refresh) -> RevokeAt {
    match raw.revocation_url.as_deref() {
        Some("none") => RevokeAt::Nowhere,
        Some(url) => {
            cx.ok(at, url::parse_trusted(url));
            RevokeAt::Url(url.to_owned())
        }
        None if discovers && raw.protocol == raw::Protocol::OAuth2 => RevokeAt::Discovered,
        None => RevokeAt::Nowhere,
    }
}

/// Keys that do nothing with the chosen protocol.
fn foreign_keys(cx: &mut Context<'_>, at: &KeyPath, raw: &Refresh) {
    let default = Refresh::default();
    let oauth2 = raw.protocol == raw::Protocol::OAuth2;
    let json = raw.protocol == raw::Protocol::Json;
    for (key, given, needed) in [
        ("client_id", raw.client_id.is_some() && !oauth2, "oauth2"),
        ("client_secret", raw.client_secret.is_some() && !oauth2, "oauth2"),
        ("client_auth", raw.client_auth.is_some() && !oauth2, "oauth2"),
        ("send", raw.send != default.send && !json, "json"),
        ("receive", raw.receive != default.receive && !json, "json"),
    ] {
        if given {
            let what = format!("without effect: only `protocol: {needed}` uses it");
            cx.error(&at.key(key), what, "");
        }
    }
}

/// RFC 6749 §2.3.1: a client that proves itself needs an id and a secret.
fn oauth2(cx: &mut Context<'_>, at: &KeyPath, raw: &Refresh, secret: Option<Secret>) -> Protocol {
    let wanted = raw.client_auth.unwrap_or(raw::ClientAuth::None);
    let proves = wanted != raw::ClientAuth::None;
    if proves && raw.client_secret.is_none() {
        cx.error(&at.key("client_secret"), "missing", "needed by this `client_auth`");
    }
    if proves && raw.client_id.is_none() {
        cx.error(&at.key("client_id"), "missing", "needed to prove who asks");
    }
    if !proves && raw.client_secret.is_some() {
        cx.error(&at.key("client_auth"), "`none` would not use the client_secret", "basic or post");
    }
    let secret = secret.unwrap_or_default();
    let client_auth = match wanted {
        raw::ClientAuth::None => ClientAuth::None,
        raw::ClientAuth::Basic => ClientAuth::Basic(secret),
        raw::ClientAuth::Post => ClientAuth::Post(secret),
    };
    Protocol::OAuth2 { client_id: raw.client_id.clone(), client_auth }
}

fn json(cx: &mut Context<'_>, at: &KeyPath, raw: &Refresh) -> Protocol {
    let receive = at.key("receive");
    for (at, text) in [
        (at.key("send"), &raw.send),
        (receive.key("access"), &raw.receive.access),
        (receive.key("refresh"), &raw.receive.refresh),
    ] {
        cx.ok(&at, pointer(text));
    }
    Protocol::Json {
        send_refresh: raw.send.clone(),
        receive_access: raw.receive.access.clone(),
        receive_refresh: raw.receive.refresh.clone(),
    }
}

fn per_second(cx: &mut Context<'_>, at: &KeyPath, budget: u32) -> Option<NonZeroU32> {
    if !(1..=BUDGET_MAX).contains(&budget) {
        cx.error(at, format!("{budget} a second"), "expected 1 to 100000");
    }
    NonZeroU32::new(budget)
}

fn dead_when(cx: &mut Context<'_>, at: &KeyPath, raw: &[raw::DeadWhen]) -> Vec<DeadWhen> {
    cx.at_most(at, raw.len(), MATCHERS_MAX);
    for (index, matcher) in raw.iter().enumerate() {
        let at = at.item(index);
        let statuses = &matcher.status.0;
        cx.at_most(&at.key("status"), statuses.len(), MATCHED_MAX);
        cx.at_most(&at.key("json"), matcher.json.len(), MATCHED_MAX);
        if statuses.is_empty() && matcher.json.is_empty() {
            let what = "missing, and so is `json`: every failure would end the session";
            cx.error(&at.key("status"), what, "expected one of the two");
        }
        for (number, status) in statuses.iter().enumerate() {
            let telling = telling(*status, matcher.json.is_empty());
            cx.ok(&at.key("status").item(number), telling);
        }
        for (text, values) in &matcher.json {
            let at = at.key("json").key(text);
            cx.ok(&at, pointer(text).map_err(Problem::about_key));
            cx.at_most(&at, values.0.len(), MATCHED_MAX);
            if values.0.is_empty() {
                cx.error(&at, "an empty list is never met", "expected a value");
            }
        }
    }
    let words = |(text, values): (&String, &List<Word>)| {
        (text.clone(), values.0.iter().map(|word| word.0.clone()).collect())
    };
    let matcher = |raw: &raw::DeadWhen| DeadWhen {
        status: raw.status.0.clone(),
        json: raw.json.iter().map(words).collect(),
    };
    raw.iter().map(matcher).collect()
}

/// A status that alone would log everybody out in an outage needs a word beside it.
fn telling(status: u16, alone: bool) -> Result<(), Problem> {
    match status {
        200..=599 if !alone => Ok(()),
        200..=299 | 408 | 425 | 429 | 500..=599 => {
            let what = format!("{status} alone is also what a backend in trouble answers");
            Err(Problem::error(what).expected("expected `json` beside it"))
        }
        300..=499 => Ok(()),
        _ => Err(Problem::error(format!("{status} is no status of an answer"))
            .expected("expected 200 to 599")),
    }
}

/// RFC 6901 §3; the whole document, an empty pointer, cannot be a token.
fn pointer(text: &str) -> Result<(), Problem> {
    let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if text.starts_with('/') && escapes {
        return Ok(());
    }
    Err(Problem::error("not a JSON pointer").expected("expected `/name` or `/outer/name`"))
}

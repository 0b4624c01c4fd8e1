//! Issuers: who signs tokens, and what makes one good.

use std::time::Duration;

use super::{Context, keys, refresh, url};
use crate::config::raw::issuer::{Issuer, Keys};
use crate::config::raw::values::List;
use crate::config::reports::{KeyPath, Problem};
use crate::policy::carrier::Carrier;
use crate::policy::claims::IssuerId;
use crate::policy::set_cookie::BackendCookies;
use crate::refresh::RefreshSettings;
use crate::token::{ClaimPaths, IssuerSettings, JwksSettings, KeySource};

const ISSUERS_MAX: usize = 64;
/// Clocks that differ by more are broken, and a larger leeway would hide it.
const LEEWAY_MAX: Duration = Duration::from_secs(600);

/// All issuers; indexes in `settings`, `backend_cookies` and `carriers` are [`IssuerId`]s.
#[derive(Default)]
pub struct Issuers {
    pub settings: Vec<IssuerSettings>,
    pub backend_cookies: Vec<BackendCookies>,
    pub carriers: Vec<Carrier>,
    pub refresh: Vec<RefreshSettings>,
}

pub fn issuers(cx: &mut Context<'_>) -> Issuers {
    let raw = cx.raw;
    let base = KeyPath::root().key("issuers");
    cx.at_most(&base, raw.issuers.len(), ISSUERS_MAX);
    let mut issuers = Issuers::default();
    for (index, (name, issuer)) in raw.issuers.iter().enumerate() {
        let id = IssuerId(u16::try_from(index).unwrap_or(u16::MAX));
        let at = base.key(name);
        cx.name(&at, name);
        let discovers = issuer.keys == Keys::Discovery;
        let renewed =
            refresh::refresh(cx, &at.key("refresh"), id, name, discovers, &issuer.refresh);
        let mut settings = settings(cx, &at, name, issuer);
        settings.window = renewed.as_ref().map(|_| issuer.refresh.window.0);
        let twin = issuers.settings.iter().find(|other| other.url == settings.url);
        if let Some(twin) = twin.filter(|_| issuer.url.is_some()) {
            let what = format!("the issuer `{}` has the same url", twin.name);
            cx.error(&at.key("url"), what, "tokens are told apart by their `iss`");
        }
        issuers.carriers.push(refresh::carrier(&issuer.refresh));
        issuers.settings.push(settings);
        issuers.refresh.extend(renewed);
        issuers.backend_cookies.push(refresh::backend_cookies(cx, &at, &issuer.refresh));
    }
    issuers
}

/// The issuer called `name`, by its place among all.
pub fn find(cx: &mut Context<'_>, at: &KeyPath, name: &str) -> Option<IssuerId> {
    let raw = cx.raw;
    let found = raw.issuers.keys().position(|other| other == name);
    if found.is_none() {
        let problem = Problem::error(format!("there is no issuer `{name}`"));
        cx.report(at, problem.nearest(name, raw.issuers.keys().map(String::as_str)));
    }
    found.and_then(|index| u16::try_from(index).ok()).map(IssuerId)
}

fn settings(cx: &mut Context<'_>, at: &KeyPath, name: &str, raw: &Issuer) -> IssuerSettings {
    let url = issuer_url(cx, &at.key("url"), raw);
    not_blank(
        cx,
        &at.key("audience"),
        &raw.audience,
        "the token's `aud`: there is no safe default",
    );
    not_blank(cx, &at.key("token_types"), &raw.token_types, "for example `JWT`");
    if raw.leeway.0 > LEEWAY_MAX {
        cx.error(&at.key("leeway"), format!("{} is too long", raw.leeway), "at most 10m");
    }
    let lower = |kind: &String| {
        let kind = kind.to_ascii_lowercase();
        kind.strip_prefix("application/").unwrap_or(&kind).to_owned()
    };
    let keys = keys::source(cx, &at.key("keys"), &raw.keys);
    let algorithms = keys::algorithms(cx, &at.key("algorithms"), raw);
    if let KeySource::Secret(secret) = &keys {
        keys::short_secret(cx, &at.key("keys").key("secret"), &algorithms, secret);
    }
    IssuerSettings {
        name: name.into(),
        url,
        audience: raw.audience.0.clone(),
        logout_audience: logout_audience(cx, &at.key("logout_audience"), raw),
        keys,
        algorithms,
        leeway: raw.leeway.0,
        token_types: raw.token_types.0.iter().map(lower).collect(),
        claims: claims(cx, &at.key("claims"), raw),
        jwks: jwks(cx, &at.key("jwks"), raw),
        window: None,
    }
}

/// A logout token is for the client that logged the person in, which an API's access token need not name.
fn logout_audience(cx: &mut Context<'_>, at: &KeyPath, raw: &Issuer) -> Vec<String> {
    for (index, id) in raw.logout_audience.0.iter().enumerate() {
        if id.is_empty() {
            cx.error(&at.item(index), "empty", "a client id");
        }
    }
    let named = raw.audience.0.iter().chain(&raw.refresh.client_id).chain(&raw.logout_audience.0);
    named.cloned().collect()
}

/// `url` is compared, and with discovery also asked; then it has to be a URL that can be trusted.
fn issuer_url(cx: &mut Context<'_>, at: &KeyPath, raw: &Issuer) -> String {
    let Some(text) = raw.url.as_ref().filter(|text| !text.is_empty()) else {
        cx.error(at, "missing", "the token's `iss`, byte for byte");
        return String::new();
    };
    let discovered = raw.keys == Keys::Discovery;
    if discovered || text.starts_with("http://") {
        let parsed = cx.ok(at, url::parse_trusted(text));
        if discovered && parsed.is_some_and(|url| url.path_and_query.contains('?')) {
            cx.error(at, "a url with a query has no discovery document", "");
        }
    }
    text.clone()
}

fn claims(cx: &mut Context<'_>, at: &KeyPath, raw: &Issuer) -> ClaimPaths {
    let mut paths = |key: &str, list: &List<String>| {
        let at = at.key(key);
        for (index, path) in list.0.iter().enumerate() {
            claim_path(cx, &at.item(index), path);
        }
        list.0.iter().map(|path| path.as_str().into()).collect()
    };
    ClaimPaths {
        user: paths("user", &raw.claims.user),
        email: paths("email", &raw.claims.email),
        roles: paths("roles", &raw.claims.roles),
        scopes: paths("scopes", &raw.claims.scopes),
    }
}

/// A dotted path: no segment of it may be empty.
pub fn claim_path(cx: &mut Context<'_>, at: &KeyPath, path: &str) {
    if path.split('.').any(str::is_empty) {
        cx.error(at, "not a claim path", "expected a name, or names with dots between");
    }
}

fn jwks(cx: &mut Context<'_>, at: &KeyPath, raw: &Issuer) -> JwksSettings {
    let jwks = &raw.jwks;
    let periods = [("ttl", Some(jwks.ttl)), ("min_interval", Some(jwks.min_interval))];
    super::upstreams::not_zero(cx, at, &periods);
    if jwks.max_stale.0 < jwks.ttl.0 {
        let what = format!("shorter than `ttl`, {}", jwks.ttl);
        cx.error(&at.key("max_stale"), what, "expected at least `ttl`");
    }
    JwksSettings { ttl: jwks.ttl.0, min_interval: jwks.min_interval.0, max_stale: jwks.max_stale.0 }
}

fn not_blank(cx: &mut Context<'_>, at: &KeyPath, list: &List<String>, expected: &str) {
    if list.0.is_empty() {
        cx.error(at, "missing", expected);
    }
    for (index, text) in list.0.iter().enumerate() {
        if text.is_empty() {
            cx.error(&at.item(index), "empty", expected);
        }
    }
}

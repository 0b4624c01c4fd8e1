//! The gateway's own cookies.

use super::{Context, url};
use crate::config::raw::cookies::{self as raw, Cookie};
use crate::config::raw::refresh::Carrier;
use crate::config::raw::store::Kind;
use crate::config::reports::{KeyPath, Problem};
use crate::config::{ListenAddress, ListenerSettings, SharedStore};
use crate::policy::endpoint::{Endpoint, GatewayPath};
use crate::policy::secret::Secret;
use crate::policy::set_cookie::{CookieNames, CookieSettings, PARTS_MAX, SameSite};

const NAME_BYTES_MAX: usize = 64;
/// Old names read for one cookie.
const ACCEPT_MAX: usize = 8;
const KEYS_MAX: usize = 8;
/// A shorter key could be guessed by whoever holds a cookie.
const KEY_BYTES_MIN: usize = 32;
const KEY_FORM: &str = "expected at least 32 random bytes, as `openssl rand -base64 32` prints";

pub fn cookies(
    cx: &mut Context<'_>,
    listeners: &[ListenerSettings],
    gateway_path: &GatewayPath,
) -> CookieSettings {
    let raw = &cx.raw.cookies;
    let at = KeyPath::root().key("cookies");
    let far = listeners.iter().find(|listener| !is_loopback(&listener.address));
    if let (false, Some(far)) = (raw.secure, far) {
        let what = format!("the listener `{}` can be reached from other machines", far.name);
        cx.error(&at.key("secure"), what, "`false` only if every listener is on loopback");
    }
    if raw.same_site == raw::SameSite::None && !raw.secure {
        cx.error(&at.key("same_site"), "browsers refuse `none` without `secure`", "lax or strict");
    }
    let access = names(cx, &at.key("access"), &raw.access, "/".into());
    let refresh = names(cx, &at.key("refresh"), &raw.refresh, "/".into());
    let scope = gateway_path.at(Endpoint::Refresh);
    let refresh_path = names(cx, &at.key("refresh_path"), &raw.refresh_path, scope.into());
    let session = names(cx, &at.key("session"), &raw.session, "/".into());
    let stamp = names(cx, &at.key("stamp"), &raw.stamp, "/".into());
    let bounced = CookieNames {
        name: if raw.secure { "__Host-bounced" } else { "evergate_bounced" }.into(),
        accept: Vec::new(),
        path: "/".into(),
    };
    let configured = [
        ("access", &access),
        ("refresh", &refresh),
        ("refresh_path", &refresh_path),
        ("session", &session),
        ("stamp", &stamp),
    ];
    distinct(cx, &at, &bounced, &configured);
    CookieSettings {
        access,
        refresh,
        refresh_path,
        session,
        stamp,
        bounced,
        same_site: match raw.same_site {
            raw::SameSite::Lax => SameSite::Lax,
            raw::SameSite::Strict => SameSite::Strict,
            raw::SameSite::None => SameSite::None,
        },
        secure: raw.secure,
    }
}

/// The operator's keys; without any, gateways that share a store share its key.
pub fn keys(cx: &mut Context<'_>, store: Option<&SharedStore>) -> Vec<Secret> {
    let raw = cx.raw;
    let at = KeyPath::root().key("cookies").key("encryption_keys");
    let given = &raw.cookies.encryption_keys.0;
    cx.at_most(&at, given.len(), KEYS_MAX);
    let mut keys = Vec::new();
    for (index, source) in given.iter().enumerate() {
        let at = at.item(index);
        let Some(key) = cx.secret(&at, source) else { continue };
        let bytes = key.expose().len();
        if bytes < KEY_BYTES_MIN {
            cx.error(&at, format!("{bytes} bytes are too short"), KEY_FORM);
        }
        keys.push(key);
    }
    if given.is_empty() && raw.store.kind == Kind::Memory {
        sealed_needs_keys(cx);
    }
    if given.is_empty() {
        keys.extend(store.map(|shared| shared.settings.key.clone()));
    }
    keys
}

/// A key drawn at the start would log everybody out at the next.
fn sealed_needs_keys(cx: &mut Context<'_>) {
    let raw = cx.raw;
    for (name, issuer) in &raw.issuers {
        if issuer.refresh.carrier == Carrier::Sealed {
            let at = KeyPath::root().key("issuers").key(name).key("refresh").key("carrier");
            let what = "missing: a key that outlives this process, in `cookies.encryption_keys`";
            cx.error(&at, what, KEY_FORM);
        }
    }
}

/// A cookie's name is a token (RFC 6265 §4.1.1).
pub fn well_formed(name: &str) -> Result<(), Problem> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(token) {
        return Err(Problem::error("not the name of a cookie")
            .expected("expected 1 to 64 letters, digits, `-`, `_` or `.`"));
    }
    Ok(())
}

fn is_loopback(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp(address) => url::is_loopback(&address.ip().to_string()),
        ListenAddress::Unix(_) => true,
    }
}

fn names(cx: &mut Context<'_>, at: &KeyPath, raw: &Cookie, path: Box<str>) -> CookieNames {
    let secure = cx.raw.cookies.secure;
    let name = raw.name.clone().unwrap_or_default();
    let usable = well_formed(&name)
        .and_then(|()| prefix_allowed(&name, secure))
        .and_then(|()| host_prefix_allowed(&name, &path));
    cx.ok(&at.key("name"), usable);
    cx.at_most(&at.key("accept"), raw.accept.0.len(), ACCEPT_MAX);
    for (index, old) in raw.accept.0.iter().enumerate() {
        cx.ok(&at.key("accept").item(index), well_formed(old));
    }
    CookieNames {
        name: name.into(),
        accept: raw.accept.0.iter().map(|old| old.as_str().into()).collect(),
        path,
    }
}

/// Browsers keep `__Host-` and `__Secure-` cookies only with Secure (RFC 6265bis §4.1.3), and newer
/// ones compare the prefix without case.
fn prefix_allowed(name: &str, secure: bool) -> Result<(), Problem> {
    let lower = name.to_ascii_lowercase();
    if !secure && (lower.starts_with("__host-") || lower.starts_with("__secure-")) {
        return Err(Problem::error("browsers drop such a cookie without Secure")
            .expected("expected a name without this prefix, or `secure: true`"));
    }
    Ok(())
}

/// Browsers keep a `__Host-` cookie only with `Path=/` (RFC 6265bis §4.1.3.2).
fn host_prefix_allowed(name: &str, path: &str) -> Result<(), Problem> {
    if path != "/" && name.to_ascii_lowercase().starts_with("__host-") {
        return Err(Problem::error("browsers drop such a cookie with a path of its own")
            .expected("expected another prefix, such as `__Secure-`"));
    }
    Ok(())
}

/// No name may be read as two things, parts of long values included.
fn distinct(
    cx: &mut Context<'_>,
    at: &KeyPath,
    bounced: &CookieNames,
    configured: &[(&str, &CookieNames)],
) {
    let mut all: Vec<(KeyPath, &str)> = vec![(at.clone(), &bounced.name)];
    for (key, names) in configured {
        let at = at.key(key);
        all.push((at.key("name"), &names.name));
        let accept = names.accept.iter().enumerate();
        all.extend(accept.map(|(index, old)| (at.key("accept").item(index), old.as_ref())));
    }
    for (index, (at, name)) in all.iter().enumerate() {
        let before = all.iter().take(index).find(|(_, other)| overlap(name, other));
        if let Some((_, other)) = before {
            cx.error(at, format!("cannot be told from the cookie `{other}`"), "another name");
        }
    }
}

fn overlap(one: &str, other: &str) -> bool {
    let part_of = |name: &str, whole: &str| {
        let part = name.strip_prefix(whole).and_then(|rest| rest.strip_prefix('.'));
        part.is_some_and(|part| part.parse::<usize>().is_ok_and(|part| part < PARTS_MAX))
    };
    one == other || part_of(one, other) || part_of(other, one)
}

//! The Cookie header that goes on: the application's cookies, never the gateway's.

use super::{form_of, pairs, split};
use crate::policy::set_cookie::{BackendCookies, CookieNames, CookieSettings};

/// What becomes of a request's Cookie lines.
#[derive(Clone, PartialEq, Eq)]
pub enum Forwarded {
    /// At most one line, and nothing of the gateway's in it.
    AsReceived,
    /// No cookie is left.
    Nothing,
    /// One line instead of all (RFC 9113 §8.2.3 asks for one towards HTTP/1).
    Line(Vec<u8>),
}

/// Takes the gateway's cookies out, under all their names and in parts, and those named in `also`.
/// The others stay byte for byte and in order.
pub fn strip<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    settings: &CookieSettings,
    also: &[&str],
) -> Forwarded {
    let hidden = |name: &[u8]| {
        settings.all().iter().any(|names| is_ours(name, names))
            || also.iter().any(|other| name == other.as_bytes())
    };
    let mut lines = lines.into_iter().peekable();
    let mut out = Vec::new();
    let mut first = true;
    while let Some(line) = lines.next() {
        let before = out.len();
        let mut clean = true;
        for pair in split(line) {
            match pairs(pair).any(|(name, _)| hidden(name)) {
                true => clean = false,
                false => append(&mut out, pair),
            }
        }
        if clean && first && lines.peek().is_none() {
            return Forwarded::AsReceived;
        }
        if clean {
            // As it came, whatever stands between its pairs.
            out.truncate(before);
            append(&mut out, line);
        }
        first = false;
    }
    match (first, out.is_empty()) {
        (true, _) => Forwarded::AsReceived,
        (false, true) => Forwarded::Nothing,
        (false, false) => Forwarded::Line(out),
    }
}

/// The Cookie header for the auth backend itself (`adopt_tokens`): its own names again, with the
/// gateway's tokens. What the client sent under those names is left out: the gateway adopted them,
/// so they are not the browser's to choose.
pub fn mapped<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    settings: &CookieSettings,
    backend: &BackendCookies,
    access: Option<&str>,
    refresh: Option<&str>,
) -> Forwarded {
    let lines: Vec<&[u8]> = lines.into_iter().collect();
    let stripped = strip(lines.iter().copied(), settings, &[&backend.access, &backend.refresh]);
    let mut out = match stripped {
        Forwarded::AsReceived if access.is_none() && refresh.is_none() => return stripped,
        Forwarded::AsReceived => lines.concat(),
        Forwarded::Nothing => Vec::new(),
        Forwarded::Line(line) => line,
    };
    for (name, value) in [(&backend.access, access), (&backend.refresh, refresh)] {
        // A token that no cookie can hold never came from the backend's cookie.
        let sendable = |byte: u8| byte != b';' && !byte.is_ascii_control();
        if let Some(value) = value.filter(|value| value.bytes().all(sendable)) {
            append(&mut out, format!("{name}={value}").as_bytes());
        }
    }
    if out.is_empty() { Forwarded::Nothing } else { Forwarded::Line(out) }
}

fn is_ours(name: &[u8], names: &CookieNames) -> bool {
    names.all().any(|base| form_of(name, base).is_some())
}

fn append(out: &mut Vec<u8>, pair: &[u8]) {
    let pair = pair.trim_ascii();
    if pair.is_empty() {
        return;
    }
    if !out.is_empty() {
        out.extend_from_slice(b"; ");
    }
    out.extend_from_slice(pair);
}

//! The canonical path: what is matched is what is authorised, logged and forwarded.
//!
//! Two parsers that read one target differently are how a guard is walked around. So there is one
//! spelling: escapes of unreserved characters are decoded, the others upper-cased (RFC 3986
//! §6.2.2), and whatever could still be read in two ways is refused, unless the operator switched
//! one of four readings on.
//!
//! 1. What comes out is canonical: put in again, it comes out unchanged.
//! 2. A switch chooses a reading; it never lets a dot segment through that a backend might find
//!    after decoding (`..%2F`) or after cutting parameters (`..;x`).
//! 3. The query is never judged as a path and passes byte for byte.
//! 4. A path that is canonical already costs no allocation.
//!
//! This module must never repair silently what an attacker could have meant differently.

use std::borrow::Cow;

use super::route::host;
use escapes::unescape;
use segments::{settle, without_parameters};

pub use escapes::one_spelling;

mod escapes;
mod segments;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DoubleSlash {
    #[default]
    Refuse,
    /// `//` becomes `/`, before dot segments are resolved.
    Merge,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DotSegments {
    #[default]
    Refuse,
    /// RFC 3986 §5.2.4.
    Resolve,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    #[default]
    Refuse,
    /// `%2F` stays inside its segment and is forwarded escaped.
    Keep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parameters {
    #[default]
    Refuse,
    /// `;…` is left out for matching and forwarded as it came.
    Java,
}

/// `paths`: the four switches by which an operator opts in to what is not canonical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathRules {
    pub double_slash: DoubleSlash,
    pub dot_segments: DotSegments,
    pub encoded_slash: EncodedSlash,
    pub parameters: Parameters,
}

/// A request target that has only one reading left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// The bytes that are forwarded; visible ASCII, begins with `/`.
    pub path: Cow<'a, str>,
    /// The bytes that are matched: `path` without `;parameters`.
    pub matched: Cow<'a, str>,
    /// What follows the first `?`, byte for byte.
    pub query: Option<&'a str>,
    /// The target needs no rewriting: it came in origin-form and canonical.
    pub as_received: bool,
}

/// What was found in a target that is not canonical (`ambiguous_path`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    #[error("neither a path nor an absolute URL")]
    Form,
    #[error("absolute URL for another host")]
    OtherHost,
    #[error("fragment")]
    Fragment,
    #[error("non-ASCII byte")]
    NonAscii,
    #[error("control byte or space")]
    Control,
    #[error("backslash")]
    Backslash,
    #[error("incomplete escape")]
    BadEscape,
    #[error("escaped control byte")]
    EscapedControl,
    #[error("escaped backslash")]
    EscapedBackslash,
    #[error("escaped slash")]
    EscapedSlash,
    #[error("escaped escape")]
    DoubleEscape,
    #[error("overlong UTF-8")]
    Overlong,
    #[error("parameters")]
    Parameters,
    #[error("double slash")]
    DoubleSlash,
    #[error("dot segment")]
    DotSegment,
    #[error("path does not begin with the prefix to strip")]
    PrefixAbsent,
}

/// Judges a request target (origin-form or absolute-form, RFC 9112 §3.2) and gives its one reading.
///
/// `host` is the request's Host; an absolute-form target must name the same one.
///
/// # Errors
/// What makes the target ambiguous.
pub fn canonicalise<'a>(
    target: &'a [u8],
    host: Option<&str>,
    rules: &PathRules,
) -> Result<Canonical<'a>, PathFault> {
    let target = std::str::from_utf8(target).map_err(|_| PathFault::NonAscii)?;
    judge_target(target)?;
    let (origin, absolute) = match target.starts_with('/') {
        true => (target, false),
        false => (origin_form(target, host)?, true),
    };
    let (raw, query) = match origin.split_once('?') {
        Some((raw, query)) => (raw, Some(query)),
        None => (origin, None),
    };
    // Only an absolute URL may leave its path out (RFC 9112 §3.2.1).
    let raw = if raw.is_empty() { "/" } else { raw };
    judge_raw(raw, rules)?;
    let path = settle(unescape(raw, rules)?, rules)?;
    let matched = match path.contains(';') {
        true => Cow::Owned(without_parameters(&path)?),
        false => path.clone(),
    };
    let as_received = !absolute && matches!(path, Cow::Borrowed(_));
    Ok(Canonical { path, matched, query, as_received })
}

/// Takes the whole segments of `prefix` (no trailing slash) off the path, and judges what is left
/// as if it had come from outside.
///
/// # Errors
/// `PrefixAbsent` if the path does not lie under the prefix, else what is wrong with the rest.
pub fn strip(
    canonical: &Canonical<'_>,
    prefix: &str,
    rules: &PathRules,
) -> Result<String, PathFault> {
    let mut segments = canonical.path.split('/');
    for wanted in prefix.split('/') {
        let segment = segments.next().ok_or(PathFault::PrefixAbsent)?;
        let name = segment.split(';').next().unwrap_or_default();
        if one_spelling(name) != one_spelling(wanted) {
            return Err(PathFault::PrefixAbsent);
        }
    }
    let mut rest = String::with_capacity(canonical.path.len());
    for segment in segments {
        rest.push('/');
        rest.push_str(segment);
    }
    if rest.is_empty() {
        rest.push('/');
    }
    Ok(canonicalise(rest.as_bytes(), None, rules)?.path.into_owned())
}

/// What no part of a target may contain, the query included.
fn judge_target(target: &str) -> Result<(), PathFault> {
    for byte in target.bytes() {
        match byte {
            // A fragment never leaves a browser: whoever sends one means to confuse.
            b'#' => return Err(PathFault::Fragment),
            0..=b' ' | 0x7f => return Err(PathFault::Control),
            _ => {}
        }
    }
    Ok(())
}

/// The path and query of an absolute URL, if it names the same host as Host does.
fn origin_form<'a>(target: &'a str, host: Option<&str>) -> Result<&'a str, PathFault> {
    let (scheme, rest) = target.split_once("://").ok_or(PathFault::Form)?;
    let default_port = if scheme.eq_ignore_ascii_case("http") {
        80
    } else if scheme.eq_ignore_ascii_case("https") {
        443
    } else {
        return Err(PathFault::Form);
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, origin) = rest.split_at(end);
    let named = host::authority(authority).ok_or(PathFault::OtherHost)?;
    let asked = host.and_then(host::authority).ok_or(PathFault::OtherHost)?;
    let same_port = named.port.unwrap_or(default_port) == asked.port.unwrap_or(default_port);
    match named.name == asked.name && same_port {
        true => Ok(origin),
        false => Err(PathFault::OtherHost),
    }
}

/// What the raw bytes of a path may not be; escapes are looked at afterwards.
fn judge_raw(raw: &str, rules: &PathRules) -> Result<(), PathFault> {
    for byte in raw.bytes() {
        match byte {
            b'\\' => return Err(PathFault::Backslash),
            b';' if rules.parameters == Parameters::Refuse => return Err(PathFault::Parameters),
            0x80.. => return Err(PathFault::NonAscii),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

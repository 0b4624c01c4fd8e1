//! The gateway's own endpoints: which one a request is for, and whether our own page asks.
//!
//! 1. Everything at or below [`GatewayPath`] is the gateway's, for every host and before any route:
//!    no route can be written there, and what is no endpoint is nothing.
//! 2. What changes a session is done for our own pages only ([`is_same_origin`]). Every sign has to
//!    be right that is there, and the header that only a script of the same origin can send without
//!    asking has to be there. Only an auth backend needs none of them: what it says is signed.
//!
//! This module must never look at a token: who asks is found out after it is known what for.

pub mod wish;

use std::sync::Arc;

use http::Method;

use super::reason::Reason;
use super::route::PathPattern;
use super::route::host::{self, Authority};

/// The longest `gateway_path`: it stands in the page script.
const GATEWAY_PATH_BYTES_MAX: usize = 64;

/// `gateway_path`: where the endpoints are. Whole segments of unreserved characters, so that it has
/// one spelling and fits into a script or a page as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayPath(Arc<str>);

/// One of the gateway's own endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// What is left of a session.
    Session,
    /// Renews a session because a page asks for it.
    Refresh,
    /// The script that does so by itself.
    Script,
    /// Ends a session because a person asks for it.
    Logout,
    /// An auth backend tells that a session has ended there.
    BackchannelLogout,
}

/// What a request at or below the gateway's path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Endpoint(Endpoint),
    /// It takes these methods only.
    MethodNotAllowed {
        allow: &'static str,
    },
    Unknown,
}

/// What a request says of the page it comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// `Sec-Fetch-Site` (Fetch Metadata §2.3); every line of it.
    pub sec_fetch_site: &'a [&'a [u8]],
    /// `Origin` (RFC 6454 §7); every line of it.
    pub origin: &'a [&'a [u8]],
    pub host: Option<&'a str>,
    /// `X-Evergate: 1` came along.
    pub header: bool,
}

impl Default for GatewayPath {
    fn default() -> GatewayPath {
        GatewayPath("/_evergate".into())
    }
}

impl GatewayPath {
    /// Parses `/_evergate`.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(text: &str) -> Result<GatewayPath, &'static str> {
        let Some(segments) = text.strip_prefix('/') else { return Err("does not begin with `/`") };
        if text.ends_with('/') {
            return Err("ends with `/`");
        }
        if text.len() > GATEWAY_PATH_BYTES_MAX {
            return Err("longer than 64 bytes");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        for segment in segments.split('/') {
            if matches!(segment, "" | "." | "..") {
                return Err("has an empty segment, or one of dots");
            }
            if !segment.bytes().all(plain) {
                return Err("has other characters than letters, digits and `-._~`");
            }
        }
        Ok(GatewayPath(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where an endpoint is.
    pub fn at(&self, endpoint: Endpoint) -> String {
        format!("{}/{}", self.0, endpoint.name())
    }

    /// Would this pattern match only what is the gateway's?
    pub fn covers(&self, pattern: &PathPattern) -> bool {
        match pattern {
            PathPattern::Exact(path) | PathPattern::Prefix(path) => self.below(path).is_some(),
        }
    }

    /// What a request is for; `None`: it is none of ours. `path` is the canonical one.
    /// `bounces`: browsers are sent to the refresh path.
    pub fn find(&self, path: &str, method: &Method, bounces: bool) -> Option<Found> {
        let name = self.below(path)?;
        let named = |endpoint: &&Endpoint| name.strip_prefix('/') == Some(endpoint.name());
        let Some(endpoint) = Endpoint::ALL.iter().find(named) else { return Some(Found::Unknown) };
        let allow = if bounces { endpoint.allow() } else { endpoint.allow_without_bounce() };
        let takes = allow.split(", ").any(|allowed| allowed == method.as_str());
        Some(match takes {
            true => Found::Endpoint(*endpoint),
            false => Found::MethodNotAllowed { allow },
        })
    }

    /// The rest of a path that lies at or below this one.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&*self.0).filter(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Endpoint {
    pub const ALL: &'static [Endpoint] = &[
        Endpoint::Session,
        Endpoint::Refresh,
        Endpoint::Script,
        Endpoint::Logout,
        Endpoint::BackchannelLogout,
    ];

    /// Its name below the gateway's path.
    pub const fn name(self) -> &'static str {
        match self {
            Endpoint::Session => "session",
            Endpoint::Refresh => "refresh",
            Endpoint::Script => "script.js",
            Endpoint::Logout => "logout",
            Endpoint::BackchannelLogout => "backchannel-logout",
        }
    }

    /// Its name in logs and metrics, where routes have theirs.
    pub const fn label(self) -> &'static str {
        match self {
            Endpoint::Session => "gateway:session",
            Endpoint::Refresh => "gateway:refresh",
            Endpoint::Script => "gateway:script",
            Endpoint::Logout => "gateway:logout",
            Endpoint::BackchannelLogout => "gateway:backchannel-logout",
        }
    }

    /// For `Allow` (RFC 9110 §10.2.1).
    pub const fn allow(self) -> &'static str {
        match self {
            Endpoint::Session | Endpoint::Script => "GET, HEAD",
            Endpoint::BackchannelLogout => "POST",
            // GET is for browsers that are sent there (carrier `path`).
            Endpoint::Refresh | Endpoint::Logout => "GET, HEAD, POST",
        }
    }

    /// For `Allow`, where nobody is sent to the refresh path.
    pub const fn allow_without_bounce(self) -> &'static str {
        match self {
            Endpoint::Refresh => "POST",
            Endpoint::Session
            | Endpoint::Script
            | Endpoint::Logout
            | Endpoint::BackchannelLogout => self.allow(),
        }
    }
}

/// Does one of our own pages ask?
///
/// The header is what proves it: no form can send it, and a page of another origin only after a
/// preflight, which no endpoint grants. The browser's own words come on top: `Sec-Fetch-Site` has to
/// be `same-origin`, and `Origin` has to name the host that was asked. Its scheme is not compared:
/// the gateway cannot know it where somebody else ends TLS.
///
/// # Errors
/// `cross_site`.
pub fn is_same_origin(evidence: &Evidence<'_>) -> Result<(), Reason> {
    let site = match evidence.sec_fetch_site {
        [] => true,
        [site] => *site == b"same-origin",
        [_, _, ..] => false,
    };
    let origin = match evidence.origin {
        [] => true,
        [origin] => names_host(origin, evidence.host).unwrap_or(false),
        [_, _, ..] => false,
    };
    if evidence.header && site && origin { Ok(()) } else { Err(Reason::CrossSite) }
}

/// As [`is_same_origin`], for what a form of ours asks as well, which cannot send the header: then one
/// of the browser's own words has to be there. A page that wants no referrers sends the origin
/// `null`; the browser's other word says whose it is.
///
/// # Errors
/// `cross_site`.
pub fn is_our_form(evidence: &Evidence<'_>) -> Result<(), Reason> {
    let told = !evidence.sec_fetch_site.is_empty() || !evidence.origin.is_empty();
    let hidden = !evidence.sec_fetch_site.is_empty() && evidence.origin == [b"null"];
    is_same_origin(&Evidence {
        header: evidence.header || told,
        origin: if hidden { &[] } else { evidence.origin },
        ..*evidence
    })
}

/// `None`: one of the two cannot be read; the origin `null` is nobody's.
fn names_host(origin: &[u8], host: Option<&str>) -> Option<bool> {
    let origin = std::str::from_utf8(origin).ok()?;
    let (authority, port) = match origin.strip_prefix("https://") {
        Some(authority) => (authority, 443),
        None => (origin.strip_prefix("http://")?, 80),
    };
    let told = |authority: Authority<'_>| (authority.name.into_owned(), authority.port);
    let (origin, host) = (told(host::authority(authority)?), told(host::authority(host?)?));
    Some(origin.0 == host.0 && origin.1.unwrap_or(port) == host.1.unwrap_or(port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::path::PathRules;

    fn ours() -> GatewayPath {
        GatewayPath::parse("/_evergate").unwrap()
    }

    #[test]
    fn path_has_one_spelling() {
        for good in ["/_evergate", "/a/b", "/.well-known/gate", "/~x-1"] {
            assert_eq!(GatewayPath::parse(good).unwrap().as_str(), good);
        }
        let long = format!("/{}", "x".repeat(64));
        for bad in
            ["", "/", "x", "/a/", "//a", "/a//b", "/a/..", "/.", "/a b", "/%41", "/a*", &long]
        {
            assert!(GatewayPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn everything_at_and_below_is_ours_and_nothing_beside() {
        let find = |path: &str, method: &Method| ours().find(path, method, false);
        let session = Some(Found::Endpoint(Endpoint::Session));
        assert_eq!(find("/_evergate/session", &Method::GET), session);
        assert_eq!(find("/_evergate/session", &Method::HEAD), session);
        let refresh = Found::MethodNotAllowed { allow: "POST" };
        assert_eq!(find("/_evergate/refresh", &Method::GET), Some(refresh));
        assert_eq!(find("/_evergate/refresh", &Method::OPTIONS), Some(refresh));
        let bounce = ours().find("/_evergate/refresh", &Method::GET, true);
        assert_eq!(bounce, Some(Found::Endpoint(Endpoint::Refresh)));
        for nothing in ["", "/", "/Session", "/session/", "/session/x", "/sessions", "/script"] {
            let path = format!("/_evergate{nothing}");
            assert_eq!(find(&path, &Method::GET), Some(Found::Unknown), "{path}");
        }
        for other in ["/", "/_evergatex", "/_Evergate/session", "/x/_evergate/session"] {
            assert_eq!(find(other, &Method::GET), None, "{other}");
        }
    }

    #[test]
    fn patterns_that_only_match_ours_are_covered() {
        let covers =
            |text| ours().covers(&PathPattern::parse(text, &PathRules::default()).unwrap());
        assert!(covers("/_evergate") && covers("/_evergate/*") && covers("/_evergate/x"));
        assert!(covers("/%5Fevergate/session"));
        assert!(!covers("/*") && !covers("/_evergatex/*") && !covers("/x"));
    }

    #[test]
    fn only_our_own_page_is_the_same_origin() {
        let asks = |site: &[&[u8]], origin: &[&[u8]], header: bool| {
            let host = Some("App.test:8080");
            is_same_origin(&Evidence { sec_fetch_site: site, origin, host, header }).is_ok()
        };
        let (same, ours): (&[u8], &[u8]) = (b"same-origin", b"http://app.test:8080");
        assert!(asks(&[same], &[ours], true) && asks(&[], &[], true));
        assert!(asks(&[], &[b"https://app.test:8080"], true));
        assert!(!asks(&[same], &[ours], false), "the header is not optional");
        for site in [&b"cross-site"[..], b"same-site", b"none", b"", b"same-origin, cross-site"] {
            assert!(!asks(&[site], &[ours], true), "{site:?}");
        }
        assert!(!asks(&[same, same], &[ours], true) && !asks(&[same], &[ours, ours], true));
        for origin in [
            &b"null"[..],
            b"",
            b"http://app.test",
            b"http://evil.test:8080",
            b"http://app.test:8080.evil.test",
            b"http://app.test:8080/",
            b"ftp://app.test:8080",
            b"http://x@app.test:8080",
            b"app.test:8080",
        ] {
            assert!(!asks(&[same], &[origin], true), "{origin:?}");
        }
    }

    #[test]
    fn a_form_of_ours_needs_no_header_and_one_word_of_the_browsers() {
        let asks = |site: &[&[u8]], origin: &[&[u8]], header: bool| {
            let host = Some("app.test");
            is_our_form(&Evidence { sec_fetch_site: site, origin, host, header }).is_ok()
        };
        let (same, cross): (&[u8], &[u8]) = (b"same-origin", b"cross-site");
        let (ours, evil): (&[u8], &[u8]) = (b"https://app.test", b"https://evil.test");
        assert!(asks(&[same], &[ours], false) && asks(&[], &[ours], false));
        assert!(asks(&[same], &[], false) && asks(&[], &[], true));
        assert!(asks(&[same], &[b"null"], false), "a page without referrers");
        assert!(!asks(&[], &[], false), "nothing says whose form it is");
        for header in [true, false] {
            assert!(!asks(&[cross], &[ours], header) && !asks(&[same], &[evil], header));
            assert!(!asks(&[], &[b"null"], header) && !asks(&[cross], &[b"null"], header));
        }
    }

    #[test]
    fn a_scheme_s_own_port_may_be_left_out() {
        let asks = |origin: &str, host| {
            let origin: &[&[u8]] = &[origin.as_bytes()];
            let evidence = Evidence { origin, host: Some(host), header: true, sec_fetch_site: &[] };
            is_same_origin(&evidence).is_ok()
        };
        assert!(asks("https://app.test", "app.test:443") && asks("http://app.test:80", "app.test"));
        assert!(asks("https://[::1]:8443", "[::1]:8443") && asks("https://app.test", "app.test"));
        assert!(!asks("https://app.test", "app.test:80") && !asks("https://app.test", ""));
    }
}

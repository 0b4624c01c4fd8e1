//! Which route a request belongs to.
//!
//! 1. Host (lower-cased, port and trailing dot removed): exact, then the longest `*.suffix`, then
//!    routes without a host. The best host that has any route for the path decides.
//! 2. Path: exact, then the longest prefix by whole segments.
//! 3. Method: among routes of the same host and path; it never falls to a shorter prefix.
//! 4. File order never matters; ties are refused when the table is built.
//!
//! Two spellings of one path (`/@me` and `/%40me`) always belong to the same route, see
//! [`one_spelling`](super::path::one_spelling). The table lies in [`table`], the reasons why routes
//! lose in [`explain`].

pub mod host;
pub mod pattern;
pub mod table;
pub mod explain;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::claims::{IssuerId, Requirement};
use super::identity::HeaderSet;

/// Index of an upstream in the gateway's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub u16);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    Any,
    /// Lower-case, without port or trailing dot.
    Exact(Box<str>),
    /// `*.example.com` is kept as `.example.com`; it does not match `example.com` itself.
    Suffix(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// The canonical path, byte for byte.
    Exact(Box<str>),
    /// `/admin/*` is kept as `/admin` (the root `/*` as the empty string) and matches `/admin`,
    /// `/admin/` and `/admin/x`, not `/administrator`.
    Prefix(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    Required,
    /// A good or renewable token gives identity; none passes anonymous.
    Optional,
    /// No token is looked at.
    Public,
}

/// Who is answered: a person's browser (redirects, pages) or a program (statuses, JSON).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerAs {
    /// Judged per request, from Fetch metadata and `Accept`.
    Auto,
    Browser,
    Program,
}

/// Where an access token may come from on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialKinds {
    pub cookie: bool,
    pub bearer: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// A CORS preflight is judged like any other request.
    Deny,
    /// OPTIONS with Origin and Access-Control-Request-Method passes, without body, cookies or
    /// Authorization.
    Pass,
}

/// What happens to the upstream's cache headers on a response that depends on who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Responses become `private` and lose directives for shared caches.
    Private,
    /// Left as the upstream sent them, except on responses that carry gateway cookies.
    Untouched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub read: Duration,
    pub write: Duration,
    /// How long an unused upstream connection is kept.
    pub idle: Duration,
    /// Instead of `read`, for WebSockets and event streams.
    pub stream_idle: Duration,
}

/// One checked route. Everything it needs is resolved: no names, no defaults left.
#[derive(Clone, Debug)]
pub struct Route {
    /// Position in the configuration: indexes what is kept per route.
    pub index: usize,
    /// Label in metrics and logs: the configured name, else host and path as configured.
    pub name: Arc<str>,
    pub host: HostPattern,
    pub path: PathPattern,
    /// `None`: every method except CONNECT and TRACE. `GET` includes HEAD.
    pub methods: Option<Vec<http::Method>>,
    pub auth: Auth,
    /// Issuers whose tokens are accepted. Empty on public routes that adopt nothing.
    pub issuers: Vec<IssuerId>,
    /// The route's own requirement and its policy's: every one must hold.
    pub require: Vec<Requirement>,
    /// From the policy; `None` asks for nothing, an empty list lets nobody pass.
    pub source_ips: Option<Vec<IpNet>>,
    pub upstream: UpstreamId,
    pub timeouts: Timeouts,
    /// Without trailing slash; removed from the path before it is forwarded.
    pub strip_prefix: Option<Box<str>>,
    pub identity_headers: Arc<HeaderSet>,
    /// The upstream is this issuer's auth backend: its cookies become the gateway's.
    pub adopt_tokens: Option<IssuerId>,
    /// The verified access token is handed to the upstream as `Authorization: Bearer`.
    pub pass_access_token: bool,
    pub answer_as: AnswerAs,
    pub credentials: CredentialKinds,
    pub preflight: Preflight,
    pub cache: CacheMode,
    pub access_log: bool,
    pub body_bytes_max: u64,
    /// A stream ends with the access token that opened it, unless its session was renewed.
    pub cut_on_expiry: bool,
    pub stream_age_max: Option<Duration>,
    /// Pages get the page script.
    pub inject_script: bool,
    /// A request is no use of its session: it does not keep it from being idle.
    pub passive: bool,
    /// `on_denied.browser.redirect`, with `{url}` in it.
    pub login_redirect: Option<Arc<str>>,
}

#[cfg(test)]
impl Route {
    /// A public route for tests; what matters is set by the test.
    pub fn for_tests(host: &str, path: &str, methods: Option<&[http::Method]>) -> Route {
        let host_pattern = match host {
            "" => HostPattern::Any,
            host => HostPattern::parse(host).unwrap(),
        };
        let second = Duration::from_secs(1);
        Route {
            index: 0,
            name: format!("{host}{path}").into(),
            host: host_pattern,
            path: PathPattern::parse(path, &Default::default()).unwrap(),
            methods: methods.map(<[_]>::to_vec),
            auth: Auth::Public,
            issuers: Vec::new(),
            require: Vec::new(),
            source_ips: None,
            upstream: UpstreamId(0),
            timeouts: Timeouts {
                connect: second,
                read: second,
                write: second,
                idle: second,
                stream_idle: second,
            },
            strip_prefix: None,
            identity_headers: Arc::default(),
            adopt_tokens: None,
            pass_access_token: false,
            answer_as: AnswerAs::Auto,
            credentials: CredentialKinds { cookie: true, bearer: true },
            preflight: Preflight::Deny,
            cache: CacheMode::Private,
            access_log: true,
            body_bytes_max: 0,
            cut_on_expiry: true,
            stream_age_max: None,
            inject_script: false,
            passive: false,
            login_redirect: None,
        }
    }
}

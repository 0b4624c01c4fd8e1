//! Routes: every name resolved, every default taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::policies::{Policy, requirement};
use super::server::paths;
use super::upstreams::{Upstreams, not_zero};
use super::{Context, identity, patterns};
use crate::config::raw::route::{self as raw, Credential};
use crate::config::raw::values::{List, Period};
use crate::config::reports::{KeyPath, Problem};
use crate::policy::claims::IssuerId;
use crate::policy::identity::HeaderSet;
use crate::policy::path::PathRules;
use crate::policy::route::{
    AnswerAs, Auth, CacheMode, CredentialKinds, HostPattern, PathPattern, Preflight, Route,
    Timeouts, UpstreamId,
};
use crate::proxy::upstreams::UpstreamSettings;

const ROUTES_MAX: usize = 20_000;
const METHODS_MAX: usize = 32;
const HOST_FORM: &str = "expected `app.example.com` or `*.example.com`";
const PATH_FORM: &str = "expected `/path`, or `/path/*` for all below";
/// Of a route whose upstream was reported; such a route is compared with others and never used.
const UNKNOWN: UpstreamId = UpstreamId(u16::MAX);

/// A checked route, and where it stands.
#[derive(Clone, Debug)]
pub struct Lowered {
    pub at: KeyPath,
    /// Host and path as configured, for reports.
    pub pattern: String,
    pub route: Arc<Route>,
}

pub fn routes(
    cx: &mut Context<'_>,
    upstreams: &mut Upstreams,
    policies: &BTreeMap<String, Policy>,
    identity: &Arc<HeaderSet>,
    login: Option<&Arc<str>>,
) -> Vec<Lowered> {
    let raw = cx.raw;
    let base = KeyPath::root().key("routes");
    if raw.routes.is_empty() {
        cx.error(&base, "missing: nothing would be forwarded", "for example `- { path: /* }`");
    }
    cx.at_most(&base, raw.routes.len(), ROUTES_MAX);
    let default_policy = raw.defaults.policy.as_ref().and_then(|name| {
        find_policy(cx, &KeyPath::root().key("defaults").key("policy"), policies, name)
    });
    let default_policy = default_policy.unwrap_or_default();
    let mut names = BTreeSet::new();
    let mut lowered = Vec::new();
    for (index, route) in raw.routes.iter().enumerate() {
        let at = base.item(index);
        if let Some(name) = &route.name {
            cx.name(&at.key("name"), name);
            if !names.insert(name) {
                cx.error(&at.key("name"), "another route has this name", "");
            }
        }
        let own = route.policy.as_ref();
        let own = own.and_then(|name| find_policy(cx, &at.key("policy"), policies, name));
        let policy = own.as_ref().unwrap_or(&default_policy);
        let index = lowered.len();
        let context = Shared { index, upstreams: &mut *upstreams, policy, identity, login };
        lowered.extend(one(cx, &at, route, context));
    }
    lowered
}

/// What a route takes from the rest of the file.
struct Shared<'a> {
    index: usize,
    upstreams: &'a mut Upstreams,
    policy: &'a Policy,
    identity: &'a Arc<HeaderSet>,
    login: Option<&'a Arc<str>>,
}

fn one(
    cx: &mut Context<'_>,
    at: &KeyPath,
    raw: &raw::Route,
    shared: Shared<'_>,
) -> Option<Lowered> {
    let rules = paths(cx.raw);
    let takes = takes(cx, at, raw, &rules);
    let auth = match raw.auth {
        raw::Auth::Required => Auth::Required,
        raw::Auth::Optional => Auth::Optional,
        raw::Auth::Public => Auth::Public,
    };
    public_asks_nothing(cx, at, raw, shared.policy);
    let issuers = issuers(cx, at, auth, shared.policy);
    let adopt_tokens = raw.adopt_tokens.then(|| adopting(cx, at, shared.policy)).flatten();
    // A public route looks at no token, but the auth backend's own gets its cookies back.
    let issuers = match adopt_tokens {
        Some(issuer) if issuers.is_empty() => vec![issuer],
        Some(_) | None => issuers,
    };
    let upstream = upstream(cx, at, raw, shared.upstreams);
    let strip =
        raw.rewrite.strip_prefix.as_ref().zip(takes.path.as_ref()).and_then(|(text, path)| {
            let at = at.key("rewrite").key("strip_prefix");
            cx.ok(&at, patterns::strip_prefix(text, path, &rules))
        });
    let own_headers = raw
        .identity_headers
        .as_ref()
        .map(|headers| Arc::new(identity::header_set(cx, &at.key("identity_headers"), headers)));
    let own = requirement(cx, &at.key("require"), &raw.require);
    let asked = if auth == Auth::Public { None } else { shared.policy.require.clone() };
    let credentials = credentials(cx, at, raw);
    let upstream = upstream.unwrap_or(UNKNOWN);
    let timeouts = timeouts(cx, at, raw, shared.upstreams.list.get(usize::from(upstream.0)));
    not_zero(cx, at, &[("stream_max_age", raw.stream_max_age)]);
    script_can_refresh(cx, at, raw, &issuers);
    let pattern = format!("{}{}", raw.host.as_deref().unwrap_or(""), raw.path.as_deref()?);
    let route = Route {
        index: shared.index,
        name: raw.name.as_deref().unwrap_or(&pattern).into(),
        host: takes.host?,
        path: takes.path?,
        methods: takes.methods,
        auth,
        issuers,
        require: asked.into_iter().chain(own).collect(),
        source_ips: shared.policy.source_ips.clone(),
        upstream,
        timeouts,
        strip_prefix: strip,
        identity_headers: own_headers.unwrap_or_else(|| Arc::clone(shared.identity)),
        adopt_tokens,
        pass_access_token: raw.pass_access_token,
        answer_as: match raw.answer_as {
            raw::AnswerAs::Auto => AnswerAs::Auto,
            raw::AnswerAs::Browser => AnswerAs::Browser,
            raw::AnswerAs::Program => AnswerAs::Program,
        },
        credentials,
        preflight: match raw.preflight {
            raw::Preflight::Deny => Preflight::Deny,
            raw::Preflight::Pass => Preflight::Pass,
        },
        cache: match raw.cache {
            raw::Cache::Private => CacheMode::Private,
            raw::Cache::Untouched => CacheMode::Untouched,
        },
        access_log: raw.access_log && cx.raw.log.access,
        body_bytes_max: raw.max_body.unwrap_or(cx.raw.limits.max_body).0,
        cut_on_expiry: raw.cut_on_expiry,
        stream_age_max: raw.stream_max_age.map(|age| age.0),
        inject_script: raw.inject_script,
        passive: raw.passive,
        login_redirect: shared.login.cloned(),
    };
    Some(Lowered { at: at.clone(), pattern, route: Arc::new(route) })
}

/// Which requests a route takes; of host and path, `None` was reported.
struct Takes {
    host: Option<HostPattern>,
    path: Option<PathPattern>,
    methods: Option<Vec<http::Method>>,
}

fn takes(cx: &mut Context<'_>, at: &KeyPath, raw: &raw::Route, rules: &PathRules) -> Takes {
    let host = match &raw.host {
        Some(text) => {
            let host = HostPattern::parse(text).map_err(Problem::error);
            cx.ok(&at.key("host"), host.map_err(|problem| problem.expected(HOST_FORM)))
        }
        None => Some(HostPattern::Any),
    };
    let path = match &raw.path {
        Some(text) => {
            let path = PathPattern::parse(text, rules).map_err(Problem::error);
            cx.ok(&at.key("path"), path.map_err(|problem| problem.expected(PATH_FORM)))
        }
        None => {
            cx.error(&at.key("path"), "missing", "for example `/*`");
            None
        }
    };
    let methods = raw.methods.as_ref().map(|list| methods(cx, &at.key("methods"), list));
    Takes { host, path, methods }
}

fn find_policy(
    cx: &mut Context<'_>,
    at: &KeyPath,
    policies: &BTreeMap<String, Policy>,
    name: &str,
) -> Option<Policy> {
    let found = policies.get(name).cloned().ok_or_else(|| {
        Problem::error(format!("there is no policy `{name}`"))
            .nearest(name, policies.keys().map(String::as_str))
    });
    cx.ok(at, found)
}

fn methods(cx: &mut Context<'_>, at: &KeyPath, list: &List<String>) -> Vec<http::Method> {
    if list.0.is_empty() {
        cx.error(at, "no method at all: no request could pass", "for example `[GET]`");
    }
    cx.at_most(at, list.0.len(), METHODS_MAX);
    let mut methods = Vec::new();
    for (index, text) in list.0.iter().enumerate() {
        let at = at.item(index);
        match cx.ok(&at, patterns::method(text)) {
            Some(method) if methods.contains(&method) => cx.error(&at, "given twice", ""),
            method => methods.extend(method),
        }
    }
    methods
}

/// On a public route no token is looked at, so nothing can be asked of one.
fn public_asks_nothing(cx: &mut Context<'_>, at: &KeyPath, raw: &raw::Route, policy: &Policy) {
    if raw.auth != raw::Auth::Public {
        return;
    }
    let expected = "expected `auth: required`, or this key left out";
    let no_token = "without effect: on a public route no token is looked at";
    if !raw.require.is_nothing() {
        cx.error(&at.key("require"), no_token, expected);
    }
    if raw.pass_access_token {
        cx.error(&at.key("pass_access_token"), no_token, expected);
    }
    if !raw.cut_on_expiry {
        cx.error(&at.key("cut_on_expiry"), no_token, expected);
    }
    if raw.passive && !raw.adopt_tokens {
        cx.error(&at.key("passive"), no_token, expected);
    }
    if raw.policy.is_some() && policy.require.is_some() {
        let what = "its `require` is without effect: on a public route no token is looked at";
        cx.error(&at.key("policy"), what, expected);
    }
}

/// A script that can renew nothing is a request for nothing in each page. A public page may belong to
/// whoever is logged in, so there any issuer will do.
fn script_can_refresh(cx: &mut Context<'_>, at: &KeyPath, raw: &raw::Route, issuers: &[IssuerId]) {
    let mut all = cx.raw.issuers.values().zip((0..).map(IssuerId));
    let renewed = all.any(|(issuer, id)| {
        let accepted = raw.auth == raw::Auth::Public || issuers.contains(&id);
        accepted && issuer.refresh.url.is_some()
    });
    if raw.inject_script && !renewed {
        let what = "without effect: no issuer whose tokens count here has a `refresh`";
        cx.error(&at.key("inject_script"), what, "expected a `refresh`, or this key left out");
    }
}

fn issuers(cx: &mut Context<'_>, at: &KeyPath, auth: Auth, policy: &Policy) -> Vec<IssuerId> {
    if auth == Auth::Public {
        return Vec::new();
    }
    if cx.raw.issuers.is_empty() {
        let problem = Problem::error("needs a token, and there is no issuer who could sign one")
            .expected("expected `auth: public`, or an `issuer`");
        cx.report(&at.key("path"), problem);
    }
    accepted(cx, policy)
}

/// The issuers of the policy, else all.
fn accepted(cx: &Context<'_>, policy: &Policy) -> Vec<IssuerId> {
    let all = || (0..cx.raw.issuers.len()).filter_map(|id| u16::try_from(id).ok()).map(IssuerId);
    policy.issuers.clone().unwrap_or_else(|| all().collect())
}

/// Whose tokens an auth backend hands out must be beyond doubt.
fn adopting(cx: &mut Context<'_>, at: &KeyPath, policy: &Policy) -> Option<IssuerId> {
    match accepted(cx, policy).as_slice() {
        [issuer] => Some(*issuer),
        several => {
            let what = match several.len() {
                0 => "there is no issuer whose tokens could be adopted".to_owned(),
                n => format!("which of {n} issuers do its tokens come from?"),
            };
            cx.error(
                &at.key("adopt_tokens"),
                what,
                "expected a `policy` with exactly one `issuer`",
            );
            None
        }
    }
}

fn upstream(
    cx: &mut Context<'_>,
    at: &KeyPath,
    raw: &raw::Route,
    upstreams: &mut Upstreams,
) -> Option<UpstreamId> {
    let at = at.key("upstream");
    match &raw.upstream {
        // A wrong default has been reported where it stands.
        Some(name) if cx.raw.defaults.upstream.as_ref() == Some(name) => upstreams.known(name),
        Some(name) => upstreams.resolve(cx, &at, name),
        None => {
            let what = match cx.raw.upstreams.len() {
                0 => "missing: there is no upstream",
                _ => "missing: there are several upstreams and no `defaults.upstream`",
            };
            cx.error(&at, what, "expected the name of an upstream, or a URL");
            None
        }
    }
}

fn credentials(cx: &mut Context<'_>, at: &KeyPath, raw: &raw::Route) -> CredentialKinds {
    let kinds = CredentialKinds {
        cookie: raw.credentials.0.contains(&Credential::Cookie),
        bearer: raw.credentials.0.contains(&Credential::Bearer),
    };
    if !kinds.cookie && !kinds.bearer {
        let expected = "expected `cookie`, `bearer` or both";
        cx.error(&at.key("credentials"), "an empty list: nobody could show a token", expected);
    }
    kinds
}

fn timeouts(
    cx: &mut Context<'_>,
    at: &KeyPath,
    raw: &raw::Route,
    upstream: Option<&UpstreamSettings>,
) -> Timeouts {
    let own = &raw.timeouts;
    let periods = [
        ("connect", own.connect),
        ("read", own.read),
        ("write", own.write),
        ("stream_idle", own.stream_idle),
    ];
    not_zero(cx, &at.key("timeouts"), &periods);
    let either = |own: Option<Period>, upstream: Option<Duration>| {
        own.map(|own| own.0).or(upstream).unwrap_or_default()
    };
    Timeouts {
        connect: either(own.connect, upstream.map(|upstream| upstream.connect)),
        read: either(own.read, upstream.map(|upstream| upstream.read)),
        write: either(own.write, upstream.map(|upstream| upstream.write)),
        idle: either(own.idle, upstream.map(|upstream| upstream.idle)),
        stream_idle: either(own.stream_idle, upstream.map(|upstream| upstream.stream_idle)),
    }
}

//! Keys about routes, and the policies they refer to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{List, Period, Size, Word};

/// Which requests, where they go, and who may pass.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// A path, or with `/*` at its end all below it: `/admin/*` takes `/admin`, `/admin/` and
    /// `/admin/x`. Required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A host name, or `*.example.com` for all below it. Default: every host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP methods; GET includes HEAD. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<List<String>>,
    /// The route's name in logs and metrics. Default: its host and path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `required`; `optional`: whoever is logged in is known, others pass anonymously; `public`: no
    /// token is looked at.
    pub auth: Auth,
    /// Name of a policy. Default: `defaults.policy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What the token must say; with a policy both must hold.
    #[serde(skip_serializing_if = "Require::is_nothing")]
    pub require: Require,
    /// Name of an upstream, or a URL. Default: `defaults.upstream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// How the request is changed on its way.
    #[serde(skip_serializing_if = "Rewrite::is_nothing")]
    pub rewrite: Rewrite,
    /// Headers that tell the app who asks, instead of the global ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_headers: Option<BTreeMap<String, String>>,
    /// The upstream is the auth backend: its token cookies become the gateway's.
    pub adopt_tokens: bool,
    /// The app gets the verified access token as `Authorization: Bearer`.
    pub pass_access_token: bool,
    /// Whom refusals address: `browser` (redirects, pages), `program` (statuses, JSON) or `auto`.
    pub answer_as: AnswerAs,
    /// Where a token may come from. `cookie` alone leaves the app's own `Authorization` untouched.
    pub credentials: List<Credential>,
    /// CORS preflights: `deny`, judged like any request; `pass`, without body, cookies and
    /// Authorization.
    pub preflight: Preflight,
    /// Whether requests are logged.
    pub access_log: bool,
    /// A request body. Default: `limits.max_body`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<Size>,
    /// Whether WebSockets, event streams and long downloads end soon after the access token that
    /// opened them, unless their session was renewed. A logout ends them in either case.
    pub cut_on_expiry: bool,
    /// How long such a stream may last, at most. Default: as long as its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_max_age: Option<Period>,
    /// The gateway puts its page script into the pages of this route.
    pub inject_script: bool,
    /// Requests are no use of a session (`session.idle_timeout`): for what a page asks by itself, again
    /// and again.
    pub passive: bool,
    /// Instead of the upstream's.
    #[serde(skip_serializing_if = "RouteTimeouts::is_nothing")]
    pub timeouts: RouteTimeouts,
    /// `private`: no shared cache may store what depends on who asks; `untouched`: the app's own
    /// cache headers stay.
    pub cache: Cache,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    Required,
    Optional,
    Public,
}

/// What the token must say: any value within a list, all lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Require {
    /// At least one of these roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<List<String>>,
    /// At least one of these scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<List<String>>,
    /// Dotted claim path to its accepted values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, List<Word>>,
}

/// How the request is changed on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// Removed from the path before it is forwarded. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerAs {
    Auto,
    Browser,
    Program,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    Cookie,
    Bearer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preflight {
    Deny,
    Pass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cache {
    Private,
    Untouched,
}

/// Timeouts of one route; what is absent is the upstream's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteTimeouts {
    /// For a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Period>,
    /// Between two reads of a response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Period>,
    /// Between two writes of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<Period>,
    /// How long an unused connection is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Period>,
    /// Instead of `read`, on WebSockets and event streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Period>,
}

/// A named requirement that routes refer to.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Names of the issuers whose tokens are accepted. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<List<String>>,
    /// What the token must say.
    #[serde(skip_serializing_if = "Require::is_nothing")]
    pub require: Require,
    /// Networks (CIDR) that requests must come from; an empty list lets nobody pass. Default:
    /// everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ips: Option<List<String>>,
}

impl Default for Route {
    fn default() -> Route {
        Route {
            path: None,
            host: None,
            methods: None,
            name: None,
            auth: Auth::Required,
            policy: None,
            require: Require::default(),
            upstream: None,
            rewrite: Rewrite::default(),
            identity_headers: None,
            adopt_tokens: false,
            pass_access_token: false,
            answer_as: AnswerAs::Auto,
            credentials: List(vec![Credential::Cookie, Credential::Bearer]),
            preflight: Preflight::Deny,
            access_log: true,
            max_body: None,
            cut_on_expiry: true,
            stream_max_age: None,
            inject_script: false,
            passive: false,
            timeouts: RouteTimeouts::default(),
            cache: Cache::Private,
        }
    }
}

impl Require {
    pub fn is_nothing(&self) -> bool {
        *self == Require::default()
    }
}

impl Rewrite {
    fn is_nothing(&self) -> bool {
        *self == Rewrite::default()
    }
}

impl RouteTimeouts {
    fn is_nothing(&self) -> bool {
        *self == RouteTimeouts::default()
    }
}

//! `gateway.yaml` as written: the one definition of its keys, defaults and descriptions.
//!
//! 1. Short forms are resolved before these structs are filled ([`super::sugar`]); unknown keys are
//!    refused; every key has a default or is checked for in [`super::lower`].
//! 2. Doc comments are for operators: they become the descriptions of `gateway.schema.json`.
//! 3. Defaults that depend on other keys are `None` here and filled in by [`super::fill`].
//! 4. Only keys that work stand here. What is to come stands in [`super::later`].
//! 5. Nothing here is judged beyond its type.

pub mod values;
pub mod secret;
pub mod server;
pub mod upstream;
pub mod issuer;
pub mod refresh;
pub mod store;
pub mod cookies;
pub mod route;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::cookies::Cookies;
use self::issuer::Issuer;
use self::route::{Policy, Route};
use self::server::{Admin, Limits, Listener, Log, Paths, Shutdown};
use self::store::Store;
use self::upstream::Upstream;
use self::values::{List, Period};
use crate::policy::endpoint::GatewayPath;

/// The configuration of Evergate, a reverse-proxy authentication gateway.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "gateway.yaml")]
pub struct Gateway {
    /// Version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Where requests come in, by name. Short form: `listen`.
    pub listeners: BTreeMap<String, Listener>,
    /// The private listener for health and metrics.
    pub admin: Admin,
    /// What is logged, and how.
    pub log: Log,
    /// Worker threads. Default: one a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// Bounds on what requests and the process may take.
    pub limits: Limits,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What is done with paths that are not canonical: refused with 400 unless allowed here.
    pub paths: Paths,
    /// The apps behind the gateway, by name. Short form: `upstream`, one URL or several.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Who signs tokens, by name. Short form: `issuer`.
    pub issuers: BTreeMap<String, Issuer>,
    /// The cookies in which the gateway keeps a browser's tokens.
    pub cookies: Cookies,
    /// How long a session may last, however often its tokens are renewed.
    pub session: SessionLimits,
    /// Where session records are kept, so that several gateways act as one.
    pub store: Store,
    /// Where the gateway's own endpoints are: session, refresh and the page script. No route can be
    /// written there.
    pub gateway_path: String,
    /// What a logout at `gateway_path` does beside ending the session.
    pub logout: Logout,
    /// Pages of other sites.
    pub csrf: Csrf,
    /// What happens to whoever may not pass.
    pub on_denied: OnDenied,
    /// Headers that tell the app who asks: name to template. Templates mix text with claims, such
    /// as `{claims.user}` or `{claims.roles|join:,}`; a header whose claim is missing is left out.
    /// No client can send a header that is named here or on a route.
    pub identity_headers: BTreeMap<String, String>,
    /// Named requirements that routes refer to.
    pub policies: BTreeMap<String, Policy>,
    /// What routes get that do not say otherwise.
    pub defaults: Defaults,
    /// Which requests go where, and who may pass. The most specific route wins; order is without
    /// meaning.
    pub routes: Vec<Route>,
    /// Files with more `routes`, relative to this file.
    #[serde(skip_serializing_if = "is_empty")]
    pub include: List<String>,
}

/// How long a session may last, however often its tokens are renewed. Requests with a bearer token are
/// not limited by it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionLimits {
    /// From the login on. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Period>,
    /// Since its last use, and up to a twentieth longer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Period>,
}

/// What a logout at `gateway_path` does beside ending the session.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logout {
    /// The answer has the browser forget what the app cached and stored under this origin
    /// (`Clear-Site-Data: "cache", "storage"`). Browsers heed it over https only.
    pub clear_site_data: bool,
}

/// Pages of other sites.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Csrf {
    /// Origins whose pages may read the gateway's own answers, such as a 401, when they send a bearer
    /// token: `https://host` or `https://host:port`, exactly. Default: none.
    pub trusted_origins: List<String>,
}

/// What happens to whoever may not pass.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnDenied {
    /// For people who load a page in a browser.
    pub browser: OnDeniedBrowser,
}

/// For people who load a page in a browser.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnDeniedBrowser {
    /// The login page: a path of this gateway or an https URL. `{url}` becomes the page asked for,
    /// percent-encoded. Default: none, a 401 page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
}

/// What routes get that do not say otherwise.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// Name of the upstream. Default: the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Name of the policy. On public routes only its `issuer` and `source_ips` count. Default:
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

impl Default for Gateway {
    fn default() -> Gateway {
        let headers = [
            ("X-Forwarded-User", "{claims.user}"),
            ("X-Forwarded-Email", "{claims.email}"),
            ("X-Forwarded-Groups", "{claims.roles|join:,}"),
        ];
        Gateway {
            version: 1,
            listeners: BTreeMap::new(),
            admin: Admin::default(),
            log: Log::default(),
            threads: None,
            limits: Limits::default(),
            shutdown: Shutdown::default(),
            paths: Paths::default(),
            upstreams: BTreeMap::new(),
            issuers: BTreeMap::new(),
            cookies: Cookies::default(),
            session: SessionLimits::default(),
            store: Store::default(),
            gateway_path: GatewayPath::default().as_str().into(),
            logout: Logout::default(),
            csrf: Csrf::default(),
            on_denied: OnDenied::default(),
            identity_headers: headers.map(|(name, text)| (name.into(), text.into())).into(),
            policies: BTreeMap::new(),
            defaults: Defaults::default(),
            routes: Vec::new(),
            include: List::default(),
        }
    }
}

fn is_empty<T>(list: &List<T>) -> bool {
    list.0.is_empty()
}

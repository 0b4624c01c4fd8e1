//! `gateway.yaml`: read, checked, explained.
//!
//! | step | where |
//! | --- | --- |
//! | text -> tree, bounded; duplicate keys | `tree` |
//! | included files, variables, short forms | `load`, `interpolate`, `sugar` |
//! | tree -> structs as written, keys to come refused | `de`, `raw`, `later` |
//! | defaults that depend on other keys | `fill` |
//! | structs -> [`Config`], every rule | `lower` |
//! | what was wrong, as text | `reports`, `place`, `diagnostics` |
//! | the other way round | `long_form`, `schema` |
//!
//! A [`Config`] exists only if not one error was found. Nothing here starts, connects or listens.

mod tree;
mod place;
mod reports;
mod diagnostics;
mod load;
mod interpolate;
mod sugar;
mod de;
mod later;
mod raw;
mod fill;
mod secrets;
mod lower;
mod long_form;
mod schema;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use self::diagnostics::Diagnostics;
pub use self::load::{Loaded, PublicRoute, from_str, load};
pub use self::schema::schema;

use crate::policy::carrier::Carrier;
use crate::policy::endpoint::GatewayPath;
use crate::policy::limits::Limits as SessionLimits;
use crate::policy::path::PathRules;
use crate::policy::route::Route;
use crate::policy::secret::Secret;
use crate::policy::set_cookie::{BackendCookies, CookieSettings};
use crate::policy::trusted_origins::TrustedOrigins;
use crate::proxy::upstreams::UpstreamSettings;
use crate::refresh::{OnFailure, RefreshSettings};
use crate::store::StoreSettings;
use crate::token::IssuerSettings;

/// A whole checked configuration: nothing in it is left to resolve.
#[derive(Clone, Debug)]
pub struct Config {
    pub listeners: Vec<ListenerSettings>,
    pub admin: SocketAddr,
    pub log: LogSettings,
    pub threads: usize,
    pub limits: Limits,
    pub shutdown_drain: Duration,
    pub paths: PathRules,
    pub upstreams: Vec<UpstreamSettings>,
    /// Indexed by `IssuerId`.
    pub issuers: Vec<IssuerSettings>,
    /// At most one an issuer.
    pub refresh: Vec<RefreshSettings>,
    /// `None`: records stay in this process.
    pub store: Option<SharedStore>,
    /// Indexed by `IssuerId`.
    pub backend_cookies: Vec<BackendCookies>,
    /// Indexed by `IssuerId`.
    pub carriers: Vec<Carrier>,
    pub cookies: CookieSettings,
    /// The first seals, all open. None: one is drawn at each start.
    pub cookie_keys: Vec<Secret>,
    pub session: SessionLimits,
    pub gateway_path: GatewayPath,
    /// Whose pages may read what the gateway itself answers.
    pub trusted_origins: TrustedOrigins,
    /// A logout has the browser forget what the app stored.
    pub clear_site_data: bool,
    /// Every identity header of the gateway and of any route: no client may send one.
    pub managed_headers: Vec<http::HeaderName>,
    pub routes: Vec<Arc<Route>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Debug)]
pub struct ListenerSettings {
    pub name: Arc<str>,
    pub address: ListenAddress,
    /// Who may set `X-Forwarded-*`; nobody by default.
    pub trusted_proxies: Vec<IpNet>,
}

/// Where records are kept that several gateways share.
#[derive(Clone, Debug)]
pub struct SharedStore {
    pub settings: StoreSettings,
    pub on_failure: OnFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `None`: text on a terminal, else JSON.
    pub format: Option<LogFormat>,
    pub level: tracing::Level,
    pub access: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub header_bytes_max: usize,
    pub headers_max: usize,
    pub token_bytes_max: usize,
    pub body_bytes_max: u64,
    pub verified_tokens_max: u64,
    pub sessions_max: usize,
}

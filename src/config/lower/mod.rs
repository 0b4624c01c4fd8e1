//! From the file as written to a checked [`Config`]: every rule that is more than a type.
//!
//! 1. All errors are collected; a part that is wrong is left out and the rest is checked on.
//! 2. Names are looked up among what is written, not among what is right, so that one error does
//!    not drag others behind it.
//! 3. A [`Config`] leaves this room only if there was no error at all.

mod context;
mod url;
mod server;
mod upstreams;
mod issuers;
mod keys;
mod refresh;
mod store;
mod cookies;
mod session;
mod identity;
mod policies;
mod patterns;
mod routes;
mod login;
mod endpoints;
mod csrf;
mod order;

pub use self::context::{Context, Surroundings};

use super::reports::{KeyPath, Problem};
use super::{Config, PublicRoute};

/// The only version of the format.
const VERSION: u32 = 1;

/// Checks everything. The result means something only if no error was reported.
pub fn lower(cx: &mut Context<'_>) -> (Config, Vec<PublicRoute>) {
    let raw = cx.raw;
    let root = KeyPath::root();
    if raw.version != VERSION {
        let problem = Problem::error(format!("version {} is not known", raw.version));
        cx.report(&root.key("version"), problem.expected("expected 1"));
    }
    let listeners = server::listeners(cx);
    let admin = server::admin(cx, &listeners);
    let limits = server::limits(cx);
    let threads = server::threads(cx);
    let mut upstreams = upstreams::upstreams(cx);
    let issuers = issuers::issuers(cx);
    let store = store::store(cx);
    let cookie_keys = cookies::keys(cx, store.as_ref());
    let session = session::limits(cx);
    let identity = identity::global(cx);
    let login = login::redirect(cx);
    let policies = policies::policies(cx);
    let routes = routes::routes(cx, &mut upstreams, &policies, &identity, login.as_ref());
    if let Some(table) = order::table(cx, &routes) {
        login::reachable(cx, login.as_deref(), &table);
    }
    order::weaker(cx, &routes);
    let gateway_path = endpoints::path(cx, &routes);
    let trusted_origins = csrf::trusted_origins(cx, &routes);
    let cookies = cookies::cookies(cx, &listeners, &gateway_path);
    let public = order::public(&routes);
    let managed_headers = identity::managed(&identity, &routes);
    let config = Config {
        listeners,
        admin,
        log: server::log(raw),
        threads,
        limits,
        shutdown_drain: raw.shutdown.drain.0,
        paths: server::paths(raw),
        upstreams: upstreams.list,
        issuers: issuers.settings,
        refresh: issuers.refresh,
        store,
        backend_cookies: issuers.backend_cookies,
        carriers: issuers.carriers,
        cookies,
        cookie_keys,
        session,
        gateway_path,
        trusted_origins,
        clear_site_data: raw.logout.clear_site_data,
        managed_headers,
        routes: routes.into_iter().map(|lowered| lowered.route).collect(),
    };
    (config, public)
}

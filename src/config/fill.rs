//! The defaults that depend on other keys, written out.
//!
//! After this the structs of [`super::raw`] say everything there is to say, which is what
//! `evergate config` prints and what [`super::lower`] checks.

use super::raw::Gateway;
use super::raw::cookies::Cookies;
use super::raw::issuer::{Algorithm, Issuer, Keys};
use super::raw::refresh::{ClientAuth, Protocol, Rotation};
use super::raw::store::{Kind, OnFailure};
use super::raw::values::List;

/// Fills in every default that can be known.
pub fn fill(gateway: &mut Gateway) {
    gateway.threads.get_or_insert_with(cores);
    // Their routes stand among the others by now.
    gateway.include = List::default();
    cookies(&mut gateway.cookies);
    gateway.issuers.values_mut().for_each(issuer);
    store(gateway);
    if let (None, 1) = (&gateway.defaults.upstream, gateway.upstreams.len()) {
        gateway.defaults.upstream = gateway.upstreams.keys().next().cloned();
    }
    for route in &mut gateway.routes {
        route.max_body.get_or_insert(gateway.limits.max_body);
        if route.upstream.is_none() {
            route.upstream.clone_from(&gateway.defaults.upstream);
        }
    }
}

fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    u32::try_from(cores).unwrap_or(1)
}

fn cookies(cookies: &mut Cookies) {
    let prefix = if cookies.secure { "__Host-" } else { "evergate_" };
    cookies.access.name.get_or_insert_with(|| format!("{prefix}access"));
    cookies.refresh.name.get_or_insert_with(|| format!("{prefix}refresh"));
    cookies.session.name.get_or_insert_with(|| format!("{prefix}session"));
    // `__Host-` would need `Path=/`.
    let scoped = if cookies.secure { "__Secure-refresh" } else { "evergate_refresh_path" };
    cookies.refresh_path.name.get_or_insert_with(|| scoped.to_owned());
    cookies.stamp.name.get_or_insert_with(|| format!("{prefix}stamp"));
}

/// A 503 passes; a session whose refresh token was shown twice does not come back.
fn store(gateway: &mut Gateway) {
    let refreshes = gateway.issuers.values().map(|issuer| &issuer.refresh);
    let mut strict = refreshes.filter(|refresh| refresh.url.is_some());
    let strict = strict.any(|refresh| refresh.rotation == Rotation::Strict);
    if gateway.store.kind == Kind::Redis {
        let default = if strict { OnFailure::Deny } else { OnFailure::Local };
        gateway.store.on_failure.get_or_insert(default);
    }
}

fn issuer(issuer: &mut Issuer) {
    let algorithms = match issuer.keys {
        Keys::Secret(_) => vec![Algorithm::HS256],
        Keys::Discovery | Keys::Url(_) | Keys::File(_) | Keys::Pem(_) => {
            vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA]
        }
    };
    issuer.algorithms.get_or_insert(List(algorithms));
    let refresh = &mut issuer.refresh;
    if refresh.url.is_some() && refresh.protocol == Protocol::OAuth2 {
        let with_secret = refresh.client_secret.is_some();
        let default = if with_secret { ClientAuth::Basic } else { ClientAuth::None };
        refresh.client_auth.get_or_insert(default);
    }
}

//! Origins of other sites' pages: what they may read of the gateway.

use super::routes::Lowered;
use super::{Context, url};
use crate::config::reports::{KeyPath, Problem};
use crate::policy::route::Preflight;
use crate::policy::trusted_origins::{TrustedOrigin, TrustedOrigins};

/// Each refusal looks through the list.
const ORIGINS_MAX: usize = 64;
const FORM: &str = "expected `https://host` or `https://host:port`; `http://` for loopback only";

pub fn trusted_origins(cx: &mut Context<'_>, routes: &[Lowered]) -> TrustedOrigins {
    let at = KeyPath::root().key("csrf").key("trusted_origins");
    let written = &cx.raw.csrf.trusted_origins.0;
    cx.at_most(&at, written.len(), ORIGINS_MAX);
    let mut origins = Vec::new();
    for (index, text) in written.iter().enumerate() {
        origins.extend(cx.ok(&at.item(index), origin(text)));
    }
    let unheard = routes.iter().all(|lowered| lowered.route.preflight == Preflight::Deny);
    if unheard && !written.is_empty() {
        let what =
            "no route has `preflight: pass`: browsers send no bearer token to one that has not";
        cx.report(&at, Problem::warning(what));
    }
    TrustedOrigins::new(origins)
}

fn origin(text: &str) -> Result<TrustedOrigin, Problem> {
    let problem = |what: &str| Problem::error(format!("`{text}` {what}")).expected(FORM);
    let origin = TrustedOrigin::parse(text).map_err(problem)?;
    let host = origin.host.trim_start_matches('[').trim_end_matches(']');
    if !origin.tls && !url::is_loopback(host) {
        return Err(problem("is plain http: anybody on the way can write its pages"));
    }
    Ok(origin)
}

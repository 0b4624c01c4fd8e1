//! Where the gateway's own endpoints are: a path that no route can have.

use super::Context;
use super::routes::Lowered;
use crate::config::reports::{KeyPath, Problem};
use crate::policy::endpoint::GatewayPath;

const FORM: &str = "expected `/_evergate`, or another path without a slash at its end";

pub fn path(cx: &mut Context<'_>, routes: &[Lowered]) -> GatewayPath {
    let at = KeyPath::root().key("gateway_path");
    let text = &cx.raw.gateway_path;
    let parsed = GatewayPath::parse(text)
        .map_err(|what| Problem::error(format!("`{text}` {what}")).expected(FORM));
    let Some(path) = cx.ok(&at, parsed) else { return GatewayPath::default() };
    for lowered in routes.iter().filter(|lowered| path.covers(&lowered.route.path)) {
        let what = format!("`{}` belongs to the gateway's own endpoints", path.as_str());
        let problem = Problem::error(what)
            .expected("expected a path beside it")
            .help("`gateway_path` moves them elsewhere");
        cx.report(&lowered.at.key("path"), problem);
    }
    path
}

//! Where people who are not logged in are sent.

use std::sync::Arc;

use http::Method;

use super::Context;
use crate::config::reports::{KeyPath, Problem};
use crate::policy::path::{PathRules, canonicalise};
use crate::policy::return_to::validate_login_template;
use crate::policy::route::Auth;
use crate::policy::route::table::{Found, RouteTable};

const REDIRECT_BYTES_MAX: usize = 2048;

/// `on_denied.browser.redirect`, checked.
pub fn redirect(cx: &mut Context<'_>) -> Option<Arc<str>> {
    let text = cx.raw.on_denied.browser.redirect.as_ref()?;
    if text.len() > REDIRECT_BYTES_MAX {
        cx.error(&at(), "longer than 2048 bytes", "");
        return None;
    }
    let checked = validate_login_template(text).map_err(Problem::error);
    cx.ok(&at(), checked).map(|()| text.as_str().into())
}

/// Warns of a login page that itself asks for a login: browsers would go round in circles.
pub fn reachable(cx: &mut Context<'_>, page: Option<&str>, table: &RouteTable) {
    let Some(page) = page.filter(|page| page.starts_with('/')) else { return };
    let path = page.split(['?', '#', '{']).next().unwrap_or_default();
    // The rules do not matter: whoever writes this path can write it canonically.
    let Ok(path) = canonicalise(path.as_bytes(), None, &PathRules::default()) else { return };
    let Found::Route(route) = table.find(None, &path.matched, &Method::GET) else { return };
    if route.auth == Auth::Required {
        let what = format!("the login page itself needs a login, by the route `{}`", route.name);
        let problem = Problem::warning(what).help("give it a route with `auth: public`");
        cx.report(&at(), problem);
    }
}

fn at() -> KeyPath {
    KeyPath::root().key("on_denied").key("browser").key("redirect")
}

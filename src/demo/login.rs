//! The auth backend's pages: login, logout, and who am I.
//!
//! It sets its own cookies, `access_token` and `refresh_token`, which the gateway adopts. Two rules:
//! it never sends anybody to another origin after the login, and only its own pages log in or out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use serde::Deserialize;
use serde_json::json;

use super::auth_backend::AuthBackend;
use super::events::BackendEvent;
use super::html::{escape, is_same_origin};
use super::sessions::FAMILY_LIFE_S;
use super::tokens::TokenError;
use super::users::{self, ALICE, ROOT, User};
use crate::clock;

/// The login page, with `{{…}}` where text goes.
pub const PAGE: &str = include_str!("login.html");

const ACCESS_COOKIE: &str = "access_token";
const REFRESH_COOKIE: &str = "refresh_token";
const RETURN_TO_BYTES_MAX: usize = 2048;

#[derive(Deserialize)]
pub(super) struct PageQuery {
    return_to: Option<String>,
    user: Option<String>,
}

/// The login form, filled in for alice or for who is asked for.
pub(super) async fn page(
    State(backend): State<Arc<AuthBackend>>,
    Query(query): Query<PageQuery>,
) -> Response {
    let return_to = safe_return_to(query.return_to.as_deref());
    let user = query.user.as_deref().and_then(users::find).unwrap_or(&ALICE);
    render(&backend, StatusCode::OK, user, return_to, "")
}

#[derive(Deserialize)]
pub(super) struct LoginForm {
    user: String,
    password: String,
    return_to: Option<String>,
}

/// Checks the password, starts a session, and goes back to where the person came from.
pub(super) async fn log_in(
    State(backend): State<Arc<AuthBackend>>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, TokenError> {
    let return_to = safe_return_to(form.return_to.as_deref());
    let forbidden = StatusCode::FORBIDDEN;
    if !is_same_origin(&headers) {
        let why = "This login came from another site and was not accepted.";
        return Ok(render(&backend, forbidden, &ALICE, return_to, why));
    }
    let Some(user) = users::check(&form.user, &form.password) else {
        let shown = users::find(&form.user).unwrap_or(&ALICE);
        let why = "This name and this password do not belong together.";
        return Ok(render(&backend, forbidden, shown, return_to, why));
    };
    // Whoever logs in over an old session leaves none behind.
    if let Some(old) = cookie(&headers, REFRESH_COOKIE) {
        backend.sessions.log_out(old);
    }
    let granted = backend.sessions.log_in(user, clock::now().unix)?;
    let access = backend.access_token(&granted)?;
    backend.controls.record(BackendEvent::LoggedIn { user: user.name.into() });
    let life_s = backend.controls.token_life_s();
    let cookies = [
        set_cookie(ACCESS_COOKIE, access.expose(), life_s),
        set_cookie(REFRESH_COOKIE, granted.refresh.expose(), FAMILY_LIFE_S),
    ];
    Ok((AppendHeaders(cookies), Redirect::to(return_to)).into_response())
}

/// Ends the family and clears the cookies.
pub(super) async fn log_out(
    State(backend): State<Arc<AuthBackend>>,
    headers: HeaderMap,
) -> Response {
    if !is_same_origin(&headers) {
        return (StatusCode::FORBIDDEN, "This did not come from one of our pages.\n")
            .into_response();
    }
    let ended = cookie(&headers, REFRESH_COOKIE).and_then(|token| backend.sessions.log_out(token));
    if let Some(user) = ended {
        backend.controls.record(BackendEvent::LoggedOut { user: user.name.into() });
    }
    let cookies = [set_cookie(ACCESS_COOKIE, "", 0), set_cookie(REFRESH_COOKIE, "", 0)];
    (AppendHeaders(cookies), Redirect::to("/")).into_response()
}

/// Whose session this is, by the backend's own cookie.
pub(super) async fn me(State(backend): State<Arc<AuthBackend>>, headers: HeaderMap) -> Response {
    let now = clock::now().unix;
    let user = cookie(&headers, REFRESH_COOKIE).and_then(|t| backend.sessions.user_of(t, now));
    match user {
        Some(user) => Json(json!({ "user": user.name, "roles": user.roles })).into_response(),
        None => (StatusCode::FORBIDDEN, Json(json!({ "user": null }))).into_response(),
    }
}

/// Where to go after the login: a path of this origin, else the front page.
///
/// A browser reads `//host` and `/\host` as another origin, and drops tabs and line ends before it
/// looks (WHATWG URL); so anything but visible ASCII without `\` is refused, not repaired.
fn safe_return_to(asked: Option<&str>) -> &str {
    let is_safe = |path: &&str| {
        path.len() <= RETURN_TO_BYTES_MAX
            && path.starts_with('/')
            && !path.starts_with("//")
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    asked.filter(is_safe).unwrap_or("/")
}

fn render(
    backend: &AuthBackend,
    status: StatusCode,
    user: &User,
    return_to: &str,
    why: &str,
) -> Response {
    let other = if user == &ALICE { &ROOT } else { &ALICE };
    let page = PAGE
        .replace("{{user}}", user.name)
        .replace("{{password}}", user.password)
        .replace("{{roles}}", &user.roles.join(", "))
        .replace("{{other}}", other.name)
        .replace("{{other_roles}}", &other.roles.join(", "))
        .replace("{{problem}}", &escape(why))
        // Last: nothing of what the client chose is searched for placeholders.
        .replace("{{return_to}}", &escape(return_to));
    let policy = backend.login_policy.clone();
    let headers = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, Html(page)).into_response()
}

/// A cookie of the backend's own form: lives for `life_s` seconds, or is cleared by 0.
fn set_cookie(name: &str, value: &str, life_s: u64) -> (HeaderName, String) {
    let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={life_s}");
    (header::SET_COOKIE, cookie)
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_origin_are_returned_to() {
        for path in ["/", "/app/", "/app/?a=b&c=/d//e", "/app/%2F%5C", "/@host", "/:80"] {
            assert_eq!(safe_return_to(Some(path)), path);
        }
    }

    #[test]
    fn everything_else_ends_on_the_front_page() {
        let long = format!("/{}", "x".repeat(RETURN_TO_BYTES_MAX));
        for hostile in [
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example/",
            "evil",
            "",
            "/\t/evil.example",
            "/\n/evil.example",
            " //evil.example",
            "javascript:alert(1)",
            "/x\r\nSet-Cookie: a=b",
            "/caf\u{e9}",
            &long,
        ] {
            assert_eq!(safe_return_to(Some(hostile)), "/", "{hostile:?}");
        }
        assert_eq!(safe_return_to(None), "/");
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_over_several_lines() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("not_refresh_token=a; x=b"));
        headers.append(header::COOKIE, HeaderValue::from_static("refresh_token=c=d; y=e"));

        assert_eq!(cookie(&headers, "refresh_token"), Some("c=d"));
        assert_eq!(cookie(&headers, "access_token"), None);
    }
}

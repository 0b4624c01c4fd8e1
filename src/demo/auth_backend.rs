//! The auth backend of the demo: a login page of its own, and the token endpoint of an issuer.
//!
//! It stands for a home-made backend that was there before the gateway, and knows nothing of it. The
//! pages are in [`super::login`]; here is what programs ask: tokens, keys, discovery. Stopped, it
//! answers nothing but 503, whoever asks.

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::controls::Controls;
use super::events::BackendEvent;
use super::html::content_security_policy;
use super::login;
use super::sessions::{FAMILY_LIFE_S, Granted, RotateError, Sessions};
use super::tokens::TokenError;
use super::users::User;
use crate::clock;
use crate::policy::secret::Secret;

/// Forms are small.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// The backend's state.
pub struct AuthBackend {
    pub controls: Arc<Controls>,
    pub(super) sessions: Sessions,
    pub(super) login_policy: HeaderValue,
}

impl AuthBackend {
    pub fn new(controls: Arc<Controls>) -> AuthBackend {
        // Base64 and constants: this cannot fail, and if it did, the page could do nothing.
        let login_policy = HeaderValue::try_from(content_security_policy(login::PAGE))
            .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"));
        AuthBackend { controls, sessions: Sessions::default(), login_policy }
    }

    /// An access token of a session that exists nowhere: good for being tampered with.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn throwaway_token(&self, user: &User) -> Result<Secret, TokenError> {
        self.mint(user, "throwaway")
    }

    pub(super) fn access_token(&self, granted: &Granted) -> Result<Secret, TokenError> {
        self.mint(granted.user, &granted.session_id)
    }

    fn mint(&self, user: &User, session_id: &str) -> Result<Secret, TokenError> {
        let life_s = self.controls.token_life_s();
        self.controls.signer.mint(user, session_id, clock::now().unix, life_s)
    }
}

/// Everything the backend answers.
pub fn router(backend: Arc<AuthBackend>) -> Router {
    Router::new()
        .route("/auth/login", get(login::page).post(login::log_in))
        .route("/auth/logout", post(login::log_out))
        .route("/auth/me", get(login::me))
        .route("/token", post(token))
        .route("/jwks.json", get(key_set))
        .route("/.well-known/openid-configuration", get(discovery))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&backend), when_running))
        .with_state(backend)
}

async fn when_running(
    State(backend): State<Arc<AuthBackend>>,
    request: Request,
    next: Next,
) -> Response {
    if backend.controls.admit().await {
        return next.run(request).await;
    }
    let why = "The auth backend is stopped. Start it again on the demo's front page.\n";
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], why).into_response()
}

#[derive(Deserialize)]
struct TokenRequest {
    grant_type: Option<String>,
    refresh_token: Option<String>,
}

/// RFC 6749 §6 without client authentication: a refresh token, once, for a new pair.
async fn token(
    State(backend): State<Arc<AuthBackend>>,
    form: Result<Form<TokenRequest>, FormRejection>,
) -> Response {
    let Ok(Form(TokenRequest { grant_type: Some(grant_type), refresh_token })) = form else {
        return token_error("invalid_request");
    };
    if grant_type != "refresh_token" {
        return token_error("unsupported_grant_type");
    }
    let Some(presented) = refresh_token else { return token_error("invalid_request") };
    let granted = match backend.sessions.rotate(&presented, clock::now().unix) {
        Ok(granted) => granted,
        Err(RotateError::Unknown) => {
            backend.controls.record(BackendEvent::Refused);
            return token_error("invalid_grant");
        }
        Err(RotateError::Reused(user)) => {
            backend.controls.record(BackendEvent::ReuseDetected { user: user.name.into() });
            return token_error("invalid_grant");
        }
        Err(RotateError::Token(error)) => return error.into_response(),
    };
    let access = match backend.access_token(&granted) {
        Ok(access) => access,
        Err(error) => return error.into_response(),
    };
    let user = granted.user.name.into();
    backend.controls.record(BackendEvent::Granted { user, generation: granted.generation });
    let body = json!({
        "access_token": access.expose(),
        "token_type": "Bearer",
        "expires_in": backend.controls.token_life_s(),
        "refresh_token": granted.refresh.expose(),
        "refresh_expires_in": FAMILY_LIFE_S,
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// RFC 6749 §5.2.
fn token_error(error: &str) -> Response {
    let body = Json(json!({ "error": error }));
    (StatusCode::BAD_REQUEST, [(header::CACHE_CONTROL, "no-store")], body).into_response()
}

async fn key_set(State(backend): State<Arc<AuthBackend>>) -> Json<Value> {
    Json(backend.controls.signer.key_set())
}

/// OpenID Connect Discovery 1.0 §3, as far as a gateway reads it.
async fn discovery(State(backend): State<Arc<AuthBackend>>) -> Json<Value> {
    let issuer = backend.controls.signer.issuer();
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/jwks.json"),
        "token_endpoint": format!("{issuer}/token"),
        "grant_types_supported": ["refresh_token"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{self}\n")).into_response()
    }
}

#[cfg(test)]
mod tests;

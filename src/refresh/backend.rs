//! Asking an auth backend over HTTP.
//!
//! One call is one request: what was sent is never sent again by this client, redirects are not
//! followed (a refresh token goes to the configured address only), no proxy of the environment
//! sees it. Connections are reused for two seconds at most: Node closes idle ones after five, and
//! a request into a closing connection is exactly the ambiguous case. Every answer is bounded in
//! bytes and in time.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE};
use reqwest::{Client, RequestBuilder, Response, Url};

use super::dead_when::DeadWhen;
use super::events::Detail;
use super::outcome::{Outcome, Reply, classify};
use super::settings::{Protocol, RefreshSettings};
use super::{cookie, json, oauth2};
use crate::policy::secret::Secret;
use crate::policy::time::Now;

const CONNECT_MAX: Duration = Duration::from_secs(1);
const IDLE_MAX: Duration = Duration::from_secs(2);
const BODY_BYTES_MAX: usize = 64 * 1024;

/// One grant: the newest refresh token of a session and, if known, its access token.
#[derive(Clone, Debug)]
pub struct Ask {
    pub refresh: Secret,
    pub access: Option<Secret>,
}

/// The seam to whoever issues tokens.
#[async_trait]
pub trait AuthBackend: Send + Sync {
    /// Makes one call, and only one. Ends in bounded time.
    async fn renew(&self, ask: &Ask, now: Now) -> Outcome;
}

/// Why an auth backend cannot be asked at all: the operator's fault.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("refresh url `{url}` is not a URL")]
    Url { url: String },
    #[error("no TLS provider is installed")]
    NoTlsProvider,
    #[error("no HTTP client for the auth backend: {0}")]
    Client(#[source] reqwest::Error),
}

/// An auth backend behind a URL.
pub struct HttpBackend {
    client: Client,
    url: Url,
    protocol: Protocol,
    dead_when: Vec<DeadWhen>,
}

impl HttpBackend {
    /// A client of its own for each backend: one that hangs cannot use up another's connections.
    ///
    /// # Errors
    /// If the URL is none, or TLS cannot be set up. The process's TLS provider must be installed
    /// before.
    pub fn new(settings: &RefreshSettings) -> Result<HttpBackend, BackendError> {
        let url = Url::parse(&settings.url)
            .map_err(|_| BackendError::Url { url: settings.url.clone() })?;
        let client = client(settings.timeout)?;
        let (protocol, dead_when) = (settings.protocol.clone(), settings.dead_when.clone());
        Ok(HttpBackend { client, url, protocol, dead_when })
    }

    fn request(&self, ask: &Ask) -> Option<RequestBuilder> {
        let request = self.client.post(self.url.clone()).header(ACCEPT, "application/json");
        match &self.protocol {
            Protocol::OAuth2 { client_id, client_auth } => {
                Some(oauth2::grant(request, client_id.as_deref(), client_auth, &ask.refresh))
            }
            Protocol::Cookie { access_name, refresh_name } => {
                let access = ask.access.as_ref().map(|access| (access_name.as_str(), access));
                cookie::cookies(request, access, (refresh_name, &ask.refresh))
            }
            Protocol::Json { send_refresh, .. } => {
                let body = json::body(send_refresh, &ask.refresh).to_string();
                Some(request.header(CONTENT_TYPE, "application/json").body(body))
            }
        }
    }
}

#[async_trait]
impl AuthBackend for HttpBackend {
    async fn renew(&self, ask: &Ask, now: Now) -> Outcome {
        let Some(request) = self.request(ask) else {
            // Such a token never came from this backend.
            return Outcome::Refused;
        };
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return unanswered(&error),
        };
        let body = read(&mut response).await;
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let set_cookies = response.headers().get_all(SET_COOKIE);
        let reply = Reply {
            status: response.status().as_u16(),
            retry_after: text(RETRY_AFTER),
            set_cookies: set_cookies.iter().filter_map(|value| value.to_str().ok()).collect(),
            body: body.as_deref().map_err(|detail| *detail),
        };
        classify(&reply, &self.protocol, &self.dead_when, now.unix)
    }
}

/// A client for calls that end by `timeout`.
pub(super) fn client(timeout: Duration) -> Result<Client, BackendError> {
    // The client would panic.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(BackendError::NoTlsProvider);
    }
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        // Well before the end of the call, so that it is known that nothing was sent.
        .connect_timeout(CONNECT_MAX.min(timeout / 2))
        .pool_idle_timeout(IDLE_MAX)
        .timeout(timeout)
        .build()
        .map_err(BackendError::Client)
}

async fn read(response: &mut Response) -> Result<Vec<u8>, Detail> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_BYTES_MAX => {
                return Err(Detail::new("body_too_large"));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => return Err(Detail::new("body_timeout")),
            Err(_) => return Err(Detail::new("body_cut_off")),
        }
    }
}

/// No status came. Whether the request left decides what that means.
fn unanswered(error: &reqwest::Error) -> Outcome {
    let unsent =
        |word| Outcome::Transient { detail: Detail::new(word), retry_after: None, unsent: true };
    if error.is_builder() {
        Outcome::Misconfigured(Detail::new("bad_request"))
    } else if error.is_connect() && is_tls(error) {
        Outcome::Misconfigured(Detail::new("tls"))
    } else if error.is_connect() {
        unsent("connect")
    } else if error.is_timeout() {
        Outcome::Ambiguous(Detail::new("timeout"))
    } else {
        Outcome::Ambiguous(Detail::new("reset"))
    }
}

/// Both sides spoke and did not agree (a certificate, a version). A connection that merely closed
/// during the handshake is no such thing.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut source = error.source();
    while let Some(error) = source {
        if error.is::<rustls::Error>() {
            return true;
        }
        // An io::Error hides what it wraps: its `source` is the wrapped error's source.
        source = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

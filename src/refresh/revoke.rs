//! Telling the auth backend that a session is over.
//!
//! A logout ends the session here, whatever the backend says; there it is asked for once, with the
//! newest refresh token only, and waited for [`REVOCATION_MAX`] at most. What it answers beyond a
//! status is of no use to anybody and is not read.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Client, RequestBuilder, Url};

use super::backend::{BackendError, client};
use super::settings::{Protocol, RefreshSettings, RevokeAt};
use super::{cookie, json, oauth2};
use crate::policy::secret::Secret;
use crate::token::Discovered;

/// The whole call.
pub const REVOCATION_MAX: Duration = Duration::from_secs(2);

/// Why a refresh token may still work at the backend.
#[derive(Debug, thiserror::Error)]
pub enum NotRevoked {
    #[error("no answer: {0}")]
    Unanswered(&'static str),
    #[error("answered {0}")]
    Refused(u16),
    #[error("no request can carry this token")]
    Unsendable,
}

/// Where an issuer's refresh tokens are revoked.
pub struct Revocation {
    client: Client,
    place: Place,
    protocol: Protocol,
}

enum Place {
    Fixed(Url),
    /// By the issuer's discovery document, if it is about the server that renews at this URL.
    Discovered {
        token_url: Url,
    },
}

impl Revocation {
    /// `None` where nobody is asked.
    ///
    /// # Errors
    /// As [`super::HttpBackend::new`].
    pub fn new(settings: &RefreshSettings) -> Result<Option<Revocation>, BackendError> {
        let parsed =
            |url: &String| Url::parse(url).map_err(|_| BackendError::Url { url: url.clone() });
        let place = match &settings.revoke_at {
            RevokeAt::Nowhere => return Ok(None),
            RevokeAt::Url(url) => Place::Fixed(parsed(url)?),
            RevokeAt::Discovered => Place::Discovered { token_url: parsed(&settings.url)? },
        };
        let (client, protocol) = (client(REVOCATION_MAX)?, settings.protocol.clone());
        Ok(Some(Revocation { client, place, protocol }))
    }

    /// Where to ask now; `None`: nobody knows, and nobody is asked. `discovered`: the issuer's document.
    ///
    /// A refresh token and the client's secret go to nobody but who is asked for new tokens: where the
    /// document names another token endpoint, it is about another server.
    pub fn place(&self, discovered: Option<&Discovered>) -> Option<Url> {
        match &self.place {
            Place::Fixed(url) => Some(url.clone()),
            Place::Discovered { token_url } => discovered
                .filter(|said| said.token_endpoint.as_ref() == Some(token_url))
                .and_then(|said| said.revocation_endpoint.clone()),
        }
    }

    /// Asks once, at [`Revocation::place`].
    ///
    /// # Errors
    /// No answer in time, or one that is no success. A token that the backend does not know is a
    /// success (RFC 7009 §2.2).
    pub async fn revoke(&self, place: Url, refresh: &Secret) -> Result<(), NotRevoked> {
        let request = self.request(place, refresh).ok_or(NotRevoked::Unsendable)?;
        let answer = request.send().await.map_err(|error| {
            NotRevoked::Unanswered(if error.is_timeout() {
                "timeout"
            } else if error.is_connect() {
                "connect"
            } else {
                "reset"
            })
        })?;
        let status = answer.status();
        // A redirect is how a backend's own logout page says that it is done.
        let done = match self.protocol {
            Protocol::OAuth2 { .. } => status.is_success(),
            Protocol::Cookie { .. } | Protocol::Json { .. } => {
                status.is_success() || status.is_redirection()
            }
        };
        if done {
            return Ok(());
        }
        Err(NotRevoked::Refused(status.as_u16()))
    }

    fn request(&self, place: Url, refresh: &Secret) -> Option<RequestBuilder> {
        let request = self.client.post(place).header(ACCEPT, "application/json");
        match &self.protocol {
            Protocol::OAuth2 { client_id, client_auth } => {
                Some(oauth2::revocation(request, client_id.as_deref(), client_auth, refresh))
            }
            Protocol::Cookie { refresh_name, .. } => {
                cookie::cookies(request, None, (refresh_name, refresh))
            }
            Protocol::Json { send_refresh, .. } => {
                let body = json::body(send_refresh, refresh).to_string();
                Some(request.header(CONTENT_TYPE, "application/json").body(body))
            }
        }
    }
}

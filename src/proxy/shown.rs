//! What a request shows to prove who asks, taken from its headers once.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

use super::Gateway;
use crate::policy::claims::IssuerId;
use crate::policy::credentials::authorization::Authorization;
use crate::policy::credentials::{CookieValue, Cookies, Credential, Seen, refresh_value};
use crate::policy::reason::Reason;
use crate::policy::route::{Auth, CredentialKinds, Route};
use crate::policy::secret::Secret;

/// Cookies and bearer token of one request, for one route.
pub struct Shown<'a> {
    pub credential: Credential<'a>,
    pub refresh: Option<(IssuerId, Cow<'a, str>)>,
    pub seen: SeenCookies,
}

/// The spellings under which the gateway's cookies came.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeenCookies {
    pub access: Seen,
    pub refresh: Seen,
}

impl<'a> Shown<'a> {
    /// Reads what `route` looks at. A public route looks at nothing, unless it is the auth
    /// backend's own.
    ///
    /// # Errors
    /// `DuplicateCredential`, `ConflictingCredentials`, `BadRequest`.
    pub fn read(
        gateway: &Gateway,
        headers: &'a HeaderMap,
        route: &Route,
    ) -> Result<Shown<'a>, (Reason, SeenCookies)> {
        let anonymous = match route.auth {
            Auth::Public => route.adopt_tokens.is_none(),
            Auth::Required | Auth::Optional => false,
        };
        if anonymous {
            let seen = SeenCookies::default();
            return Ok(Shown { credential: Credential::None, refresh: None, seen });
        }
        Shown::read_from(gateway, headers, route.credentials, &route.issuers)
    }

    /// Reads credentials of these kinds, where they are for these issuers.
    ///
    /// # Errors
    /// `DuplicateCredential`, `ConflictingCredentials`, `BadRequest`.
    pub fn read_from(
        gateway: &Gateway,
        headers: &'a HeaderMap,
        kinds: CredentialKinds,
        issuers: &[IssuerId],
    ) -> Result<Shown<'a>, (Reason, SeenCookies)> {
        let cookie_lines = headers.get_all(COOKIE).iter().map(|line| line.as_bytes());
        let cookies = Cookies::read(cookie_lines, &gateway.cookies);
        let seen = SeenCookies { access: cookies.access.seen, refresh: cookies.refresh.seen };
        let lines = headers.get_all(AUTHORIZATION).iter().map(|line| line.as_bytes());
        let credential = Authorization::read(lines)
            .and_then(|authorization| cookies.credential(&authorization, kinds))
            .map_err(|reason| (reason, seen))?;
        // A request judged by its bearer uses no cookies.
        let uses_cookies = kinds.cookie
            && match credential {
                Credential::None | Credential::Cookie(_) | Credential::Broken { bearer: false } => {
                    true
                }
                Credential::Bearer(_) | Credential::Broken { bearer: true } => false,
            };
        let refresh = match cookies.refresh.value {
            CookieValue::Text(value) if uses_cookies => read_refresh(value, gateway, issuers),
            CookieValue::Text(_)
            | CookieValue::Absent
            | CookieValue::Broken
            | CookieValue::Duplicate => None,
        };
        Ok(Shown { credential, refresh, seen })
    }

    pub fn is_bearer(&self) -> bool {
        match self.credential {
            Credential::Bearer(_) | Credential::Broken { bearer: true } => true,
            Credential::None | Credential::Cookie(_) | Credential::Broken { bearer: false } => {
                false
            }
        }
    }

    /// The refresh token, if it came under old names only: it moves to ours.
    pub fn moving(&self) -> Option<Secret> {
        let (_, token) = self.refresh.as_ref()?;
        self.seen.refresh.only_old_names().then(|| Secret::new(token.as_ref()))
    }

    /// The access token as it came.
    pub fn access(&self) -> Option<&str> {
        match &self.credential {
            Credential::Cookie(token) => Some(token),
            Credential::Bearer(token) => Some(token),
            Credential::None | Credential::Broken { .. } => None,
        }
    }
}

/// A joined (split) value must be copied out; a whole one stays borrowed.
fn read_refresh<'a>(
    value: Cow<'a, str>,
    gateway: &Gateway,
    issuers: &[IssuerId],
) -> Option<(IssuerId, Cow<'a, str>)> {
    match value {
        Cow::Borrowed(value) => refresh_value::read(value, &gateway.issuer_names, issuers),
        Cow::Owned(value) => refresh_value::read(&value, &gateway.issuer_names, issuers)
            .map(|(issuer, token)| (issuer, Cow::Owned(token.into_owned()))),
    }
}

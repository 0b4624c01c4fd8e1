//! What a request shows to prove who asks, taken from its headers once.
//!
//! The session cookie says all of it, where there is one: the plain cookies beside it are stale. Where
//! there is none the plain ones count, whatever the carrier, and the other way round: so a change of
//! `carrier` logs nobody out.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

use super::Gateway;
use super::carrier::{sealed, server};
use super::limits::{Came, came};
use crate::policy::carrier::Carrier;
use crate::policy::claims::IssuerId;
use crate::policy::credentials::authorization::Authorization;
use crate::policy::credentials::{CookieValue, Cookies, Credential, Held, Seen, refresh_value};
use crate::policy::kept::{Handle, Kept, SessionValue};
use crate::policy::reason::Reason;
use crate::policy::route::{Auth, CredentialKinds, Route};
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::session::held::Place;

/// Cookies and bearer token of one request, for one route.
pub struct Shown<'a> {
    pub credential: Credential<'a>,
    pub refresh: Option<(IssuerId, Cow<'a, str>)>,
    pub stamp: Came,
    pub seen: SeenCookies,
    /// The refresh token came in a cookie that its issuer's carrier does not use: it moves.
    misplaced: bool,
}

/// The spellings under which the gateway's cookies came.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeenCookies {
    pub access: Seen,
    pub refresh: Seen,
    /// Of the refresh cookie with a path of its own; `None`: it could not come here.
    pub refresh_path: Option<Seen>,
    pub session: Seen,
    pub stamp: Seen,
    /// Where the gateway holds the tokens of the handle that came.
    pub place: Option<Place>,
}

/// What could be read at once.
pub enum Read<'a> {
    Shown(Shown<'a>),
    /// A handle: the tokens are somewhere else. Boxed, since most requests have none.
    Handle(Box<Pending<'a>>),
}

/// A request with a handle, until its tokens were found.
pub struct Pending<'a> {
    handle: Handle,
    cookies: Cookies<'a>,
    authorization: Authorization<'a>,
    kinds: CredentialKinds,
    issuers: Vec<IssuerId>,
    seen: SeenCookies,
}

/// Credentials that cannot be judged, and which cookies came.
type Unreadable = (Reason, SeenCookies);

impl<'a> Shown<'a> {
    /// Reads what `route` looks at. A public route looks at nothing, unless it is the auth
    /// backend's own.
    ///
    /// # Errors
    /// `DuplicateCredential`, `ConflictingCredentials`, `BadRequest`, `StoreUnavailable`.
    pub async fn read(
        gateway: &Gateway,
        headers: &'a HeaderMap,
        route: &Route,
        now: Now,
    ) -> Result<Shown<'a>, Unreadable> {
        Shown::read_at_once(gateway, headers, route)?.found(gateway, now).await
    }

    /// What `route` looks at, as far as it is in the request itself.
    ///
    /// # Errors
    /// `DuplicateCredential`, `ConflictingCredentials`, `BadRequest`.
    pub fn read_at_once(
        gateway: &Gateway,
        headers: &'a HeaderMap,
        route: &Route,
    ) -> Result<Read<'a>, Unreadable> {
        let anonymous = match route.auth {
            Auth::Public => route.adopt_tokens.is_none(),
            Auth::Required | Auth::Optional => false,
        };
        if anonymous {
            let seen = SeenCookies::default();
            let (credential, stamp) = (Credential::None, Came::Nothing);
            let shown = Shown { credential, refresh: None, stamp, seen, misplaced: false };
            return Ok(Read::Shown(shown));
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
    ) -> Result<Read<'a>, Unreadable> {
        let cookie_lines = headers.get_all(COOKIE).iter().map(|line| line.as_bytes());
        let mut cookies = Cookies::read(cookie_lines, &gateway.cookies);
        let seen = SeenCookies {
            access: cookies.access.seen,
            refresh: cookies.refresh.seen,
            refresh_path: None,
            session: cookies.session.seen,
            stamp: cookies.stamp.seen,
            place: None,
        };
        let lines = headers.get_all(AUTHORIZATION).iter().map(|line| line.as_bytes());
        let authorization = Authorization::read(lines).map_err(|reason| (reason, seen))?;
        let mut kept = None;
        if kinds.cookie
            && let CookieValue::Text(value) = &cookies.session.value
        {
            match SessionValue::read(value) {
                Some(SessionValue::Sealed(text)) => kept = sealed::open(gateway, text),
                Some(SessionValue::Handle(handle)) => {
                    let issuers = issuers.to_vec();
                    let pending = Pending { handle, cookies, authorization, kinds, issuers, seen };
                    return Ok(Read::Handle(Box::new(pending)));
                }
                None => {}
            }
            if kept.is_none() {
                cookies.session.value = CookieValue::Broken;
            }
        }
        let refresh = choose(&mut cookies, gateway, kept.as_ref(), issuers);
        Shown::judged(gateway, &cookies, &authorization, kinds, refresh, seen).map(Read::Shown)
    }

    fn judged(
        gateway: &Gateway,
        cookies: &Cookies<'a>,
        authorization: &Authorization<'a>,
        kinds: CredentialKinds,
        refresh: Option<(IssuerId, Cow<'a, str>)>,
        mut seen: SeenCookies,
    ) -> Result<Shown<'a>, Unreadable> {
        let credential =
            cookies.credential(authorization, kinds).map_err(|reason| (reason, seen))?;
        // A request judged by its bearer uses no cookies.
        let uses_cookies = kinds.cookie
            && match credential {
                Credential::None | Credential::Cookie(_) | Credential::Broken { bearer: false } => {
                    true
                }
                Credential::Bearer(_) | Credential::Broken { bearer: true } => false,
            };
        seen.place = seen.place.filter(|_| uses_cookies);
        let refresh = refresh.filter(|_| uses_cookies);
        let misplaced = refresh.as_ref().is_some_and(|(issuer, _)| gateway.is_scoped(*issuer));
        let stamp = if uses_cookies { came(gateway, &cookies.stamp) } else { Came::Nothing };
        Ok(Shown { credential, refresh, stamp, seen, misplaced })
    }

    /// Reads the refresh cookie that comes to the refresh path only. Under carrier `path` it goes
    /// before one that was left from another carrier, and under another carrier behind.
    ///
    /// # Errors
    /// `DuplicateCredential`.
    pub fn read_refresh_path(
        &mut self,
        gateway: &Gateway,
        headers: &'a HeaderMap,
        issuers: &[IssuerId],
    ) -> Result<(), Reason> {
        if self.is_bearer() {
            return Ok(());
        }
        let lines = headers.get_all(COOKIE).iter().map(|line| line.as_bytes());
        let held = Held::read(lines, &gateway.cookies.refresh_path);
        self.seen.refresh_path = Some(held.seen);
        let read = match held.value {
            CookieValue::Text(value) => read_refresh(value, gateway, issuers),
            CookieValue::Duplicate => return Err(Reason::DuplicateCredential),
            CookieValue::Absent | CookieValue::Broken => None,
        };
        if let Some((issuer, token)) = read
            && (gateway.is_scoped(issuer) || self.refresh.is_none())
        {
            self.misplaced = !gateway.is_scoped(issuer) || held.seen.only_old_names();
            self.refresh = Some((issuer, token));
        }
        Ok(())
    }

    /// Forgets a refresh token that was left in the cookie of another carrier's: nothing but an access
    /// token of the same session can say that it is not one that somebody has logged out of.
    pub fn forget_unvouched(&mut self, gateway: &Gateway) {
        if self.seen.refresh_path.is_some_and(|seen| !seen.is_empty()) && self.misplaced {
            self.refresh.take_if(|(issuer, _)| !gateway.is_scoped(*issuer));
        }
    }

    pub fn is_bearer(&self) -> bool {
        match self.credential {
            Credential::Bearer(_) | Credential::Broken { bearer: true } => true,
            Credential::None | Credential::Cookie(_) | Credential::Broken { bearer: false } => {
                false
            }
        }
    }

    /// The refresh token, where the browser will not keep it in the form in which it came, or where
    /// it is written in one with the access token: it goes out with the next Set-Cookie, even where
    /// the backend gave no new one.
    pub fn moving(&self, gateway: &Gateway) -> Option<Secret> {
        let (issuer, token) = self.refresh.as_ref()?;
        let moves = match gateway.carrier(*issuer) {
            Carrier::Cookie | Carrier::Path => {
                self.misplaced
                    || !self.seen.session.is_empty()
                    || self.seen.refresh.only_old_names()
            }
            Carrier::Sealed | Carrier::Server => true,
        };
        moves.then(|| Secret::new(token.as_ref()))
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

impl<'a> Read<'a> {
    /// Waits for what is not in the request itself.
    ///
    /// # Errors
    /// `DuplicateCredential`, `ConflictingCredentials`, `StoreUnavailable`.
    pub async fn found(self, gateway: &Gateway, now: Now) -> Result<Shown<'a>, Unreadable> {
        match self {
            Read::Shown(shown) => Ok(shown),
            // Boxed, so that requests without a handle do not carry what it needs.
            Read::Handle(pending) => Box::pin(pending.found(gateway, now)).await,
        }
    }
}

impl<'a> Pending<'a> {
    async fn found(self: Box<Self>, gateway: &Gateway, now: Now) -> Result<Shown<'a>, Unreadable> {
        let Pending { handle, mut cookies, authorization, kinds, issuers, mut seen } = *self;
        // What is refused anyway asks nobody.
        let twice = [&cookies.access.value, &cookies.refresh.value];
        if twice.contains(&&CookieValue::Duplicate) {
            return Err((Reason::DuplicateCredential, seen));
        }
        let found = server::find(gateway, handle, now).await;
        let found = found.map_err(|reason| (reason, seen))?;
        seen.place = found.as_ref().map(|(_, place)| *place);
        let refresh = match &found {
            Some((kept, _)) => choose(&mut cookies, gateway, Some(kept), &issuers),
            // Nobody's: as if no credentials had come.
            None => {
                cookies.access.value = CookieValue::Absent;
                None
            }
        };
        Shown::judged(gateway, &cookies, &authorization, kinds, refresh, seen)
    }
}

/// Puts what the session cookie holds in the place of the plain cookies. Returns the refresh token that
/// counts.
fn choose<'a>(
    cookies: &mut Cookies<'a>,
    gateway: &Gateway,
    kept: Option<&Kept>,
    issuers: &[IssuerId],
) -> Option<(IssuerId, Cow<'a, str>)> {
    let access = match (kept, &cookies.session.value) {
        (Some(kept), _) => kept.access.as_ref().map_or(CookieValue::Absent, |token| {
            CookieValue::Text(token.expose().to_owned().into())
        }),
        (None, CookieValue::Broken) => CookieValue::Broken,
        (None, CookieValue::Absent | CookieValue::Text(_) | CookieValue::Duplicate) => {
            let value = match &mut cookies.refresh.value {
                CookieValue::Text(value) => std::mem::take(value),
                CookieValue::Absent | CookieValue::Broken | CookieValue::Duplicate => return None,
            };
            return read_refresh(value, gateway, issuers);
        }
    };
    // What came twice is refused, stale or not.
    if cookies.access.value != CookieValue::Duplicate {
        cookies.access.value = access;
    }
    let kept = kept?;
    let issuer = sealed::issuer(gateway, &kept.issuer).filter(|own| issuers.contains(own))?;
    let refresh = kept.refresh.as_ref()?;
    Some((issuer, refresh.expose().to_owned().into()))
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

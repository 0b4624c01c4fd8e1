//! What the auth backend is shown on its own route (`adopt_tokens`): the session's tokens, under its own
//! names. Nothing of a session that was taken back: the backend might renew it.

use super::{Case, verify};
use crate::policy::claims::IssuerId;
use crate::policy::credentials::Credential;
use crate::policy::decide::Token;
use crate::policy::reason::Reason;
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::proxy::Gateway;
use crate::proxy::context::OwnCookies;
use crate::proxy::denied::{is_head_denied, without_denied};
use crate::proxy::shown::Shown;
use crate::refresh::ForBackend;

impl Case<'_> {
    /// On the auth backend's own route: its tokens, newest first. It never sees a spent one.
    pub(super) async fn own_cookies(&self) -> OwnCookies {
        let access = match &self.shown.credential {
            Credential::Cookie(token) => Some(Secret::new(token.as_ref())),
            Credential::None | Credential::Bearer(_) | Credential::Broken { .. } => None,
        };
        let Some((issuer, refresh)) = &self.shown.refresh else {
            return OwnCookies { access, refresh: None, shown: None };
        };
        let shown = Secret::new(refresh.as_ref());
        let known = self.gateway.refresher.for_backend(*issuer, &shown, self.now).await;
        let (access, refresh) = match known {
            ForBackend::AsItCame => (access, Some(shown.clone())),
            ForBackend::Newest(newest) if self.is_taken_back(*issuer, &newest.access).await => {
                self.gateway.refresher.end(*issuer, &shown, self.now).await;
                (access, None)
            }
            ForBackend::Newest(newest) => (Some(newest.access), newest.refresh),
            ForBackend::Withhold => (access, None),
        };
        OwnCookies { access, refresh, shown: Some((*issuer, shown)) }
    }

    /// Was the session of this newest access token denied since it was brought?
    async fn is_taken_back(&self, issuer: IssuerId, newest: &Secret) -> bool {
        let (gateway, issuers) = (self.gateway, [issuer]);
        if gateway.denials.is_empty() {
            return false;
        }
        let (presented, _) = verify(gateway, &self.shown, &issuers, self.now).await;
        let head = gateway.owner(issuer, newest, self.now).await;
        head.is_none_or(|head| is_head_denied(gateway, &presented, &head))
    }
}

/// The auth backend's own route looks at no token. But a session that was taken back is not shown to
/// the backend either, which might renew it.
pub(super) async fn forget_denied(
    gateway: &Gateway,
    issuer: IssuerId,
    shown: &mut Shown<'_>,
    now: Now,
) {
    if gateway.denials.is_empty() {
        return;
    }
    let (token, _) = verify(gateway, shown, &[issuer], now).await;
    if let Token::Broken(Reason::Revoked) = without_denied(gateway, token, shown, now).await {
        shown.credential = Credential::None;
    }
}

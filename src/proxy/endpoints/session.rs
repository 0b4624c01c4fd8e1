//! `GET {gateway_path}/session`: what is left of a session, for a page that wants to know.
//!
//! Told in seconds left, so that a wrong clock in the browser does not matter. It never refreshes,
//! and it is no use of a session: a page that polls it keeps nothing alive.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use super::{Asking, Ending};
use crate::policy::claims::Verified;
use crate::policy::decide::{Answer, Client, Token};
use crate::policy::limits::Left;
use crate::policy::reason::Reason;
use crate::policy::time::UnixSeconds;
use crate::proxy::Gateway;
use crate::proxy::context::Context;
use crate::proxy::respond::{Reply, Served};
use crate::refresh::Prospect;

/// A session as a page is told of it. What is not known is `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionLeft {
    /// The next request passes as somebody, if the auth backend does not think otherwise.
    pub active: bool,
    /// The gateway's clock, in seconds since 1970.
    pub server_time: u64,
    /// Seconds until the access token expires; 0: it has, and the next request renews it.
    pub access_expires_in: Option<u64>,
    /// Seconds until a timer should refresh, or ask whether the session is over. `null`: there is nothing to refresh with.
    pub refresh_in: Option<u64>,
    /// Seconds until the session cannot be refreshed any more, if the auth backend has told.
    pub refresh_expires_in: Option<u64>,
    /// Seconds until the session is over, however it is renewed. `null`: there is no such limit.
    pub session_expires_in: Option<u64>,
    /// Seconds until it is over if nobody uses it. `null`: there is no such limit.
    pub idle_expires_in: Option<u64>,
    /// The user, by the issuer's `claims.user`.
    pub user: Option<Box<str>>,
}

pub(super) async fn serve(gateway: &Gateway, headers: &HeaderMap, ctx: &Context) -> Ending {
    let asking = Asking::of(gateway, headers, ctx).await?;
    let now = ctx.received;
    let presented = asking.presented(gateway, ctx);
    let prospect = match presented {
        Some(presented) => Some(gateway.refresher.prospect(&presented, now)),
        None => elsewhere(&asking, gateway),
    };
    match SessionLeft::of(&asking.token, prospect, now.unix) {
        Ok(left) => {
            let left = left.within(asking.kept.left(gateway, now.unix));
            let set_cookies = asking.kept.lines(gateway, asking.shown.seen);
            Ok(Served { set_cookies, ..left.served() })
        }
        Err((reason, retry_after_s)) => {
            let answer = Answer::unrouted(Client::Program, reason);
            let answer = Answer { retry_after_s: Some(retry_after_s), ..answer };
            Err(Box::new(Reply::new(answer, ctx.request_id)))
        }
    }
}

/// A refresh token that comes to the refresh path only is taken to be there if an access token came:
/// whoever asks there is told what it is worth.
fn elsewhere(asking: &Asking<'_>, gateway: &Gateway) -> Option<Prospect> {
    let shows_one = !matches!(asking.token, Token::Absent);
    let unknown = Prospect { over: false, life_left: None };
    (shows_one && asking.refreshes_elsewhere(gateway)).then_some(unknown)
}

impl SessionLeft {
    /// `prospect`: of the refresh token, if one came.
    ///
    /// # Errors
    /// Nobody can say who asks: the reason, and when to ask again.
    pub(super) fn of(
        token: &Token,
        prospect: Option<Prospect>,
        now: UnixSeconds,
    ) -> Result<SessionLeft, (Reason, u64)> {
        let renewable = prospect.filter(|prospect| !prospect.over);
        let (left, verified) = match token {
            Token::Valid(verified) | Token::InWindow(verified) => {
                (verified.expires_at.since(now), Some(verified))
            }
            Token::Expired(verified) if renewable.is_some() => (0, Some(verified)),
            Token::Absent | Token::Broken(_) if renewable.is_some() => (0, None),
            Token::Expired(_) | Token::Absent | Token::Broken(_) => {
                return Ok(SessionLeft { server_time: now.0, ..SessionLeft::default() });
            }
            Token::KeysUnavailable { retry_after_s } => {
                return Err((Reason::KeysUnavailable, *retry_after_s));
            }
        };
        let refresh_in = |verified: &Verified| verified.refresh_at.since(now);
        Ok(SessionLeft {
            active: true,
            server_time: now.0,
            access_expires_in: Some(left),
            refresh_in: renewable.map(|_| verified.map_or(0, |verified| refresh_in(verified))),
            refresh_expires_in: renewable
                .and_then(|prospect| prospect.life_left)
                .map(|left| left.as_secs()),
            session_expires_in: None,
            idle_expires_in: None,
            user: verified.and_then(|verified| verified.identity.user.clone()),
        })
    }

    /// With what the session's limits leave of it. A page's timer asks when the session will be over if
    /// nobody uses it: then it hears that it is, or that somebody has.
    pub(super) fn within(self, limits: Left) -> SessionLeft {
        if !self.active {
            return self;
        }
        let over_in = [limits.lifetime_s, limits.idle_s].into_iter().flatten().min();
        let sooner = |wait: u64| over_in.map_or(wait, |over| wait.min(over));
        SessionLeft {
            refresh_in: self.refresh_in.map(sooner),
            session_expires_in: limits.lifetime_s,
            idle_expires_in: limits.idle_s,
            ..self
        }
    }

    pub(super) fn served(&self) -> Served {
        // Numbers and text only: serialising cannot fail.
        let body = Bytes::from(serde_json::to_vec(self).unwrap_or_default());
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Served { status: 200, headers, body, set_cookies: Vec::new() }
    }
}

//! `POST {gateway_path}/refresh`: a page has its session renewed before it must be.
//!
//! 1. Only for our own pages; anybody else is refused before a token is looked at.
//! 2. It can be asked for as often as anybody likes: a token outside its window, and a session that
//!    was renewed a moment ago, are answered without asking the backend. Who comes while a flight is
//!    on its way joins it.
//! 3. The answer carries the new cookies, and what [`super::session`] tells.

use std::time::Duration;

use http::HeaderMap;

use super::session::SessionLeft;
use super::{Asking, Ending, from_our_own_page, refusal};
use crate::clock;
use crate::policy::decide::{Answer, Client, Renewed, Session, Token};
use crate::policy::endpoint::wish::{Wish, wish};
use crate::policy::reason::Reason;
use crate::policy::time::Now;
use crate::proxy::context::Context;
use crate::proxy::denied::is_head_denied;
use crate::proxy::respond::{Reply, Served};
use crate::proxy::{Gateway, carrier, deliver};
use crate::refresh::{NewCookies, Presented, SessionHandle};

/// [`wish`] asks for a look-up and a renewal at most once each.
const ROUNDS_MAX: usize = 3;

pub(super) async fn serve(gateway: &Gateway, headers: &HeaderMap, ctx: &mut Context) -> Ending {
    from_our_own_page(headers, ctx)?;
    let mut asking = Asking::of(gateway, headers, ctx).await?;
    if let Token::Broken(reason @ (Reason::Revoked | Reason::SessionExpired)) = asking.token {
        let mut reply = refusal(ctx, reason);
        reply.set_cookies = asking.kept.lines(gateway, asking.shown.seen);
        carrier::refused(gateway, asking.shown.seen, reason, ctx.received).await;
        return Err(reply);
    }
    let Some(presented) = asking.presented(gateway, ctx) else {
        return Err(refusal(ctx, Reason::NothingToRefresh));
    };
    let (attempt, told) = Attempt::made(gateway, &mut asking, presented, ctx).await;
    match told {
        Told::Unneeded => attempt.granted(&asking, &asking.token).await,
        Told::Granted(head) => {
            let token = Token::at(head.verified, gateway.now().unix);
            attempt.granted(&asking, &token).await
        }
        Told::Refused { reason, retry_after_s } => {
            let answer = Answer::unrouted(Client::Program, reason);
            let mut reply = Reply::new(Answer { retry_after_s, ..answer }, ctx.request_id);
            reply.set_cookies = attempt.cookies(&asking).await;
            carrier::refused(gateway, asking.shown.seen, reason, ctx.received).await;
            Err(Box::new(reply))
        }
    }
}

/// What became of a wish.
pub(super) enum Told {
    /// There was nothing to do.
    Unneeded,
    Granted(Renewed),
    Refused {
        reason: Reason,
        retry_after_s: Option<u64>,
    },
}

/// One wish, and what was found out about it.
pub(super) struct Attempt<'a> {
    gateway: &'a Gateway,
    presented: Presented,
    session: Session,
    handle: Option<SessionHandle>,
}

impl<'a> Attempt<'a> {
    /// Looks up and renews what `presented` shows, as far as it must be.
    pub async fn made(
        gateway: &'a Gateway,
        asking: &mut Asking<'_>,
        presented: Presented,
        ctx: &mut Context,
    ) -> (Attempt<'a>, Told) {
        ctx.renewal.token = gateway.refresher.name_of(&presented);
        let mut attempt = Attempt { gateway, presented, session: Session::NotAsked, handle: None };
        for _ in 0..ROUNDS_MAX {
            match wish(&asking.token, &attempt.session) {
                Wish::LookUp => attempt.look_up(ctx).await,
                Wish::Renew => attempt.renew(ctx).await,
                Wish::Unneeded => return (attempt, Told::Unneeded),
                Wish::Granted(head) => return (attempt, Told::Granted(head)),
                Wish::Refused { reason, retry_after_s } => {
                    return (attempt, Told::Refused { reason, retry_after_s });
                }
            }
            attempt.refuse_denied(&asking.token, ctx).await;
            if attempt.is_over(asking, ctx).await {
                (attempt.session, attempt.handle) = (Session::Ended, None);
                let reason = Reason::SessionExpired;
                return (attempt, Told::Refused { reason, retry_after_s: None });
            }
        }
        // Unreachable while `wish` keeps its word.
        (attempt, Told::Refused { reason: Reason::Internal, retry_after_s: None })
    }

    async fn look_up(&mut self, ctx: &Context) {
        let refresher = &self.gateway.refresher;
        (self.session, self.handle) =
            refresher.look_up_for_page(&self.presented, ctx.received).await;
    }

    async fn renew(&mut self, ctx: &mut Context) {
        let waits = self.gateway.waits.get(usize::from(self.presented.issuer.0));
        let wait = waits.copied().flatten().map_or(Duration::ZERO, |waits| waits.wait);
        let since = clock::now().uptime;
        let refresher = &self.gateway.refresher;
        (self.session, self.handle) =
            refresher.renew_for_page(&self.presented, wait, ctx.received).await;
        ctx.renewal.waited = clock::now().uptime.saturating_sub(since);
    }

    /// What was denied while the page waited, or what the backend brought in its place, is not
    /// handed out.
    async fn refuse_denied(&mut self, presented: &Token, ctx: &Context) {
        let (Session::Fresh(head) | Session::Renewed(head)) = &self.session else { return };
        if is_head_denied(self.gateway, presented, &head.verified) {
            let Presented { issuer, refresh_token, .. } = &self.presented;
            self.gateway.refresher.end(*issuer, refresh_token, ctx.received).await;
            (self.session, self.handle) = (Session::Ended, None);
        }
    }

    /// Did a renewal show that the stamp is another session's?
    async fn is_over(&self, asking: &mut Asking<'_>, ctx: &Context) -> bool {
        let (Session::Fresh(head) | Session::Renewed(head)) = &self.session else { return false };
        let (gateway, presented) = (self.gateway, &self.presented);
        !asking.kept.proves(gateway, &head.verified, presented, ctx.received).await
    }

    /// The session as it is now, by this token.
    async fn granted(&self, asking: &Asking<'_>, token: &Token) -> Ending {
        let now = self.gateway.now();
        let prospect = self.gateway.refresher.prospect(&self.presented, now);
        let left = SessionLeft::of(token, Some(prospect), now.unix).unwrap_or_default();
        let left = left.within(asking.kept.left(self.gateway, now.unix));
        Ok(Served { set_cookies: self.cookies(asking).await, ..left.served() })
    }

    async fn cookies(&self, asking: &Asking<'_>) -> Vec<http::HeaderValue> {
        let mut lines = asking.kept.lines(self.gateway, asking.shown.seen);
        if let Some(new) = self.new_pair(asking).await {
            lines.extend(deliver::lines(self.gateway, &new, asking.shown.seen).await);
        }
        lines
    }

    /// The session's newest pair, if this browser lacks it. It is to leave.
    pub async fn new_pair(&self, asking: &Asking<'_>) -> Option<NewCookies> {
        let mut new = self.handle.as_ref()?.deliverable(self.gateway.now()).await?;
        asking.kept.note_handed_out(self.gateway, &new).await;
        new.refresh = new.refresh.or_else(|| asking.shown.moving(self.gateway));
        Some(new)
    }

    /// Notes that the browser has shown these tokens, where nothing else was to be done.
    pub fn note_shown(&self, now: Now) {
        self.gateway.refresher.note_shown(&self.presented, now);
    }
}

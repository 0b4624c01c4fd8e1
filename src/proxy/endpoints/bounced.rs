//! `GET {gateway_path}/refresh` (carrier `path`): a browser comes by to have its session renewed, since
//! it shows its refresh token here only, and is sent back to the page that it asked for.
//!
//! 1. It renews as `POST` does, or not at all: it can be asked for as often as anybody likes, and by a
//!    link of any site.
//! 2. It leads to a page of this host that this gateway has sealed a minute ago, or to `/`.
//! 3. Nobody is sent round for ever: see [`crate::policy::bounce`].

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue, LOCATION};
use pingora::http::RequestHeader;
use pingora::proxy::Session as Request;

use super::refresh::{Attempt, Told};
use super::{Asking, Ending, refusal};
use crate::policy::bounce::{Kept, ROUNDS_MAX, Return, Trail};
use crate::policy::claims::IssuerId;
use crate::policy::decide::{Answer, Client, Shape, Token};
use crate::policy::path;
use crate::policy::reason::Reason;
use crate::policy::return_to;
use crate::policy::route::table::Found;
use crate::policy::route::{Auth, Route};
use crate::proxy::bounce::{self, PARAMETER};
use crate::proxy::case::known;
use crate::proxy::context::Context;
use crate::proxy::respond::{Reply, Served};
use crate::proxy::{Gateway, carrier, deliver, facts, page};

/// A browser that looks ahead is told to look again, if anybody wants to see the page.
const PREFETCH_RETRY_S: u64 = 1;

pub(super) async fn serve(gateway: &Gateway, request: &Request, ctx: &mut Context) -> Ending {
    let head = request.req_header();
    let headers = &head.headers;
    if facts::is_prefetch(headers) {
        return Err(again_later(ctx, PREFETCH_RETRY_S));
    }
    let Some(visit) = Visit::of(gateway, head, ctx) else { return Ok(sent_to("/", Vec::new())) };
    match visit.client {
        Client::Navigation | Client::EventStream => {}
        Client::FormNavigation | Client::Program | Client::WebSocket => {
            let mut reply = refusal(ctx, Reason::MethodNotAllowed);
            reply.allow = Some("POST".to_owned());
            return Err(reply);
        }
    }
    if visit.rounds() >= ROUNDS_MAX {
        return Err(visit.reply(ctx, Reason::RefreshLoop, None));
    }
    let asking = match Asking::of(gateway, headers, ctx).await {
        Ok(asking) => asking,
        Err(mut reply) => {
            reply.answer = Answer::unrouted(visit.client, reply.answer.reason);
            return Err(reply);
        }
    };
    visit.made(asking, ctx).await
}

/// One browser's visit.
struct Visit<'a> {
    gateway: &'a Gateway,
    headers: &'a HeaderMap,
    client: Client,
    /// `None`: somebody came by themselves.
    to: Option<Return>,
    route: Option<Arc<Route>>,
}

impl<'a> Visit<'a> {
    /// `None`: the address is too old, or not one of ours.
    fn of(gateway: &'a Gateway, head: &'a RequestHeader, ctx: &Context) -> Option<Visit<'a>> {
        let headers = &head.headers;
        let mut parameters = head.uri.query().unwrap_or_default().split('&');
        let sealed =
            parameters.find_map(|parameter| parameter.strip_prefix(PARAMETER)?.strip_prefix('='));
        let to = match sealed {
            Some(sealed) => Some(bounce::opened(gateway, headers, sealed, ctx.received)?),
            None => None,
        };
        let route = to.as_ref().and_then(|to| route_of(gateway, headers, &to.page));
        let client = match &route {
            Some(route) => facts::client(&head.method, headers, route.answer_as),
            None => facts::client_of(head, None),
        };
        Some(Visit { gateway, headers, client, to, route })
    }

    fn rounds(&self) -> u8 {
        self.to.as_ref().map_or(0, |to| to.rounds)
    }

    async fn made(self, mut asking: Asking<'_>, ctx: &mut Context) -> Ending {
        // What is good elsewhere is no good where the browser comes from.
        let accepts = |issuer: IssuerId| {
            self.route.as_ref().is_none_or(|route| route.issuers.contains(&issuer))
        };
        if known(&asking.token).is_some_and(|token| !accepts(token.issuer)) {
            asking.token = Token::Broken(Reason::WrongIssuer);
        }
        if let Token::KeysUnavailable { retry_after_s } = asking.token {
            return Err(self.later(ctx, Reason::KeysUnavailable, retry_after_s));
        }
        let presented = asking.presented(self.gateway, ctx);
        let (attempt, told) = match presented.filter(|presented| accepts(presented.issuer)) {
            _ if matches!(asking.token, Token::Broken(Reason::Revoked)) => {
                return self.refused(&asking, ctx, Reason::Revoked, Vec::new()).await;
            }
            // A token that still holds is all that the page needs.
            None if matches!(asking.token, Token::Valid(_) | Token::InWindow(_)) => {
                return Ok(self.back(asking.kept.lines(self.gateway, asking.shown.seen), None));
            }
            None => return self.refused(&asking, ctx, lacking(&asking.token), Vec::new()).await,
            Some(presented) => Attempt::made(self.gateway, &mut asking, presented, ctx).await,
        };
        let asking = &asking;
        let new = attempt.new_pair(asking).await;
        let kept = new.as_ref().and_then(|new| bounce::kept(self.gateway, new));
        let cookies = match &new {
            Some(new) => deliver::token_lines(self.gateway, new, asking.shown.seen).await,
            None => Vec::new(),
        };
        let with_stamp = |cookies: Vec<HeaderValue>| {
            let mut lines = asking.kept.lines(self.gateway, asking.shown.seen);
            lines.extend(cookies);
            lines
        };
        match told {
            Told::Unneeded => {
                attempt.note_shown(ctx.received);
                Ok(self.back(with_stamp(cookies), kept))
            }
            Told::Granted(_) => Ok(self.back(with_stamp(cookies), kept)),
            // What came is another person's, or of an issuer's that refreshes nothing.
            Told::Refused { reason: Reason::NothingToRefresh, .. } => {
                self.refused(asking, ctx, lacking(&asking.token), cookies).await
            }
            Told::Refused { reason, retry_after_s: None } if reason.means_log_in() => {
                self.refused(asking, ctx, reason, cookies).await
            }
            Told::Refused { reason, retry_after_s } => {
                let mut reply = match retry_after_s {
                    Some(retry_after_s) => self.later(ctx, reason, retry_after_s),
                    None => self.reply(ctx, reason, None),
                };
                reply.set_cookies = with_stamp(cookies);
                Err(reply)
            }
        }
    }

    fn later(&self, ctx: &Context, reason: Reason, retry_after_s: u64) -> Box<Reply> {
        let mut reply = self.reply(ctx, reason, Some(retry_after_s));
        // The address that is asked now may be too old then.
        reply.refresh_url = self.to.as_ref().map(|to| {
            let now = self.gateway.now();
            bounce::address(self.gateway, self.headers, &to.page, to.rounds, now)
        });
        reply
    }

    /// Renewed, or good as it is.
    fn back(&self, mut cookies: Vec<HeaderValue>, kept: Option<Kept>) -> Served {
        let Some(to) = &self.to else { return renewed(cookies) };
        let since = self.gateway.now();
        // Another tab's visit may have brought what this one has no need of.
        let kept = kept.or_else(|| bounce::trail(self.gateway, self.headers, since).kept);
        let rounds = self.rounds().saturating_add(1);
        let trail = Trail { rounds, since: since.unix, vain: None, kept };
        cookies.extend(bounce::trail_lines(self.gateway, trail));
        sent_to(&to.page, cookies)
    }

    /// Nothing can be renewed. Whoever may pass as nobody is sent back for that, others to the login
    /// page of the page that they asked for.
    async fn refused(
        &self,
        asking: &Asking<'_>,
        ctx: &Context,
        reason: Reason,
        tokens: Vec<HeaderValue>,
    ) -> Ending {
        let seen = asking.shown.seen;
        carrier::refused(self.gateway, seen, reason, ctx.received).await;
        let mut cookies = asking.kept.lines(self.gateway, seen);
        cookies.extend(tokens);
        // No round: whoever goes on to the login comes back with other tokens. Of a session that is
        // over all cookies go, this one as well.
        if !asking.kept.is_over() {
            let vain = asking.shown.access().map(bounce::digest);
            let trail = Trail { vain, since: self.gateway.now().unix, ..Trail::default() };
            cookies.extend(bounce::trail_lines(self.gateway, trail));
        }
        let passes = match self.route.as_deref().map(|route| (route.auth, &route.require)) {
            Some((Auth::Required, _)) => false,
            Some((Auth::Optional, require)) => require.is_empty(),
            Some((Auth::Public, _)) | None => self.to.is_some(),
        };
        if let (true, Some(to)) = (passes, &self.to) {
            return Ok(sent_to(&to.page, cookies));
        }
        let mut reply = self.reply(ctx, reason, None);
        let page = self.to.as_ref().map_or("/", |to| &to.page);
        let route = self.route.clone().or_else(|| route_of(self.gateway, self.headers, page));
        if let Some(template) = route.as_ref().and_then(|route| route.login_redirect.as_deref()) {
            reply.login_url = Some(return_to::login_url(template, page));
            if self.client == Client::Navigation {
                reply.answer.shape = Shape::Redirect;
            }
        }
        reply.set_cookies = cookies;
        Err(reply)
    }

    fn reply(&self, ctx: &Context, reason: Reason, retry_after_s: Option<u64>) -> Box<Reply> {
        let mut answer = Answer { retry_after_s, ..Answer::unrouted(self.client, reason) };
        // An EventSource gives up for ever on any status but 200.
        if self.client == Client::EventStream && retry_after_s.is_some() {
            answer.shape = Shape::EventStreamRetry;
        }
        Box::new(Reply::new(answer, ctx.request_id))
    }
}

/// The route of a page of this host.
fn route_of(gateway: &Gateway, headers: &HeaderMap, page: &str) -> Option<Arc<Route>> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let canonical = path::canonicalise(page.as_bytes(), host, &gateway.paths).ok()?;
    match gateway.routes.find(host, &canonical.matched, &http::Method::GET) {
        Found::Route(route) => Some(Arc::clone(route)),
        Found::NoRoute | Found::MethodNotAllowed { .. } => None,
    }
}

/// Why somebody without a refresh token has to log in.
fn lacking(token: &Token) -> Reason {
    match token {
        Token::Expired(_) => Reason::Expired,
        Token::Broken(reason) => *reason,
        Token::Absent | Token::Valid(_) | Token::InWindow(_) | Token::KeysUnavailable { .. } => {
            Reason::NoCredentials
        }
    }
}

fn again_later(ctx: &Context, retry_after_s: u64) -> Box<Reply> {
    let mut reply = refusal(ctx, Reason::RefreshUnavailable);
    reply.answer.retry_after_s = Some(retry_after_s);
    reply
}

/// 307: a `HEAD` stays one.
fn sent_to(page: &str, set_cookies: Vec<HeaderValue>) -> Served {
    // Graphic ASCII only: it is a header's value as it is.
    let page = HeaderValue::from_str(page).unwrap_or(HeaderValue::from_static("/"));
    Served { status: 307, headers: vec![(LOCATION, page)], body: Bytes::new(), set_cookies }
}

fn renewed(set_cookies: Vec<HeaderValue>) -> Served {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    let headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
    ];
    Served { status: 200, headers, body: page::RENEWED.into(), set_cookies }
}

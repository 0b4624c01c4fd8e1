//! Every response leaves through here: the one table from cause to status, the only writer of our
//! own answers, and [`seal`], which both they and the upstream's responses pass.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, SET_COOKIE,
};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::facts::expects_continue;
use super::page;
use super::request_id::RequestId;
use crate::policy::decide::{Answer, Shape};
use crate::policy::reason::Reason;
use crate::policy::set_cookie::cache;

/// An early answer reads at most this much of a body that nobody wants, so that the client, still
/// writing, gets to read the answer instead of a reset.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// And for at most this long.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// What a page of another origin may read of our headers, beside its status and body.
const READABLE: &str = "WWW-Authenticate, X-Request-Id, Retry-After, X-Evergate-Refresh";
/// A page that reloads itself waits at least and at most this long.
const RELOAD_S: std::ops::RangeInclusive<u64> = 1..=60;

/// The status of each reason.
pub const fn status(reason: Reason) -> u16 {
    match reason {
        Reason::NoCredentials
        | Reason::Expired
        | Reason::RefreshRefused
        | Reason::SessionExpired
        | Reason::Revoked
        | Reason::MalformedToken
        | Reason::TokenTooLarge
        | Reason::JweUnsupported
        | Reason::WrongAlgorithm
        | Reason::UnknownKey
        | Reason::BadSignature
        | Reason::WrongIssuer
        | Reason::WrongAudience
        | Reason::WrongType
        | Reason::NotYetValid
        | Reason::MissingClaim => 401,
        Reason::MissingRole
        | Reason::MissingScope
        | Reason::MissingValue
        | Reason::SourceIp
        | Reason::CrossSite
        | Reason::BadIdentity => 403,
        Reason::AmbiguousPath
        | Reason::BadRequest
        | Reason::ConflictingCredentials
        | Reason::DuplicateCredential
        | Reason::RefreshLoop => 400,
        Reason::NoRoute => 404,
        Reason::MethodNotAllowed => 405,
        Reason::NothingToRefresh => 409,
        Reason::BodyTooLarge => 413,
        Reason::HeaderTooLarge => 431,
        Reason::KeysUnavailable | Reason::RefreshUnavailable | Reason::StoreUnavailable => 503,
        Reason::UpstreamUnreachable => 502,
        Reason::UpstreamTimeout => 504,
        Reason::Internal => 500,
    }
}

/// An answer of ours with what its shape needs.
pub struct Reply {
    pub answer: Answer,
    pub request_id: RequestId,
    /// For redirects, and as a hint to programs.
    pub login_url: Option<String>,
    /// Where a browser is sent to have its session renewed, or where a page reloads itself that is
    /// not at its own address.
    pub refresh_url: Option<String>,
    /// Sent there by a page instead of a redirect, which would keep its `SameSite=Strict` cookies back.
    pub by_page: bool,
    /// For 405.
    pub allow: Option<String>,
    /// For 401: where a page may have its session renewed, and then ask again.
    pub refresh_hint: Option<HeaderValue>,
    /// The gateway's own cookies, complete lines.
    pub set_cookies: Vec<HeaderValue>,
}

impl Reply {
    pub fn new(answer: Answer, request_id: RequestId) -> Reply {
        let set_cookies = Vec::new();
        Reply {
            answer,
            request_id,
            login_url: None,
            refresh_url: None,
            by_page: false,
            allow: None,
            refresh_hint: None,
            set_cookies,
        }
    }

    /// The status that it is sent with.
    pub fn status(&self) -> u16 {
        match self.answer.shape {
            Shape::Redirect => 302,
            Shape::RedirectAfterForm => 303,
            Shape::EventStreamRetry => 200,
            Shape::Bounce if !self.by_page => 307,
            Shape::Page
            | Shape::PageAfterForm
            | Shape::PageToRenew
            | Shape::Bounce
            | Shape::Json => status(self.answer.reason),
        }
    }

    /// Writes this answer. `reader`: the origin of another site's page that may read it.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn send(&self, session: &mut Session, reader: Option<&str>) -> pingora::Result<()> {
        let (mut head, body) = self.compose()?;
        let sealing =
            Seal { request_id: &self.request_id, set_cookies: &self.set_cookies, private: false };
        seal(&mut head, &sealing)?;
        // After the seal: `private`, which cookies would make of it, allows more.
        head.insert_header(CACHE_CONTROL, "no-store")?;
        if let Some(origin) = reader {
            let_read(&mut head, origin)?;
        }
        send(session, head, body).await
    }

    /// Head and body. Nothing in it comes from the request but the login URL's `return_to`.
    ///
    /// # Errors
    /// A header value that cannot be written: a mistake of ours.
    fn compose(&self) -> pingora::Result<(ResponseHeader, Bytes)> {
        let Answer { reason, shape, retry_after_s } = self.answer;
        let status = self.status();
        let body = self.body(status);
        let mut head = ResponseHeader::build(status, Some(10))?;
        head.insert_header(CONTENT_LENGTH, body.len())?;
        let by_page = shape == Shape::Bounce && self.by_page;
        if let Some(media_type) = page::media_type(if by_page { Shape::Page } else { shape }) {
            head.insert_header(CONTENT_TYPE, media_type)?;
            head.insert_header("X-Content-Type-Options", "nosniff")?;
        }
        match shape {
            Shape::Bounce if !by_page => {
                head.insert_header("Location", self.refresh_url.as_deref().unwrap_or("/"))?;
            }
            Shape::Page | Shape::PageAfterForm | Shape::PageToRenew | Shape::Bounce => {
                head.insert_header(
                    "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
                )?;
                head.insert_header("Referrer-Policy", "no-referrer")?;
            }
            Shape::Redirect | Shape::RedirectAfterForm => {
                head.insert_header("Location", self.login_url.as_deref().unwrap_or("/"))?;
            }
            Shape::Json | Shape::EventStreamRetry => {}
        }
        if status == 401 {
            head.insert_header("WWW-Authenticate", challenge(reason))?;
            if let Some(hint) = &self.refresh_hint {
                head.insert_header("X-Evergate-Refresh", hint)?;
            }
        }
        if let Some(seconds) = retry_after_s
            && status == 503
        {
            head.insert_header("Retry-After", seconds)?;
        }
        if let Some(allow) = &self.allow {
            head.insert_header("Allow", allow.as_str())?;
        }
        Ok((head, body))
    }

    fn body(&self, status: u16) -> Bytes {
        let Answer { reason, shape, retry_after_s } = self.answer;
        let id = self.request_id.as_str();
        match shape {
            Shape::Page => {
                let reload = retry_after_s.map(|s| s.clamp(*RELOAD_S.start(), *RELOAD_S.end()));
                page::html(reason, id, reload, self.refresh_url.as_deref()).into()
            }
            Shape::PageToRenew => {
                page::html_to_renew(reason, id, self.refresh_url.as_deref()).into()
            }
            Shape::Bounce if self.by_page => {
                page::html_on_the_way(reason, id, self.refresh_url.as_deref()).into()
            }
            Shape::PageAfterForm => page::html_after_form(reason, id).into(),
            Shape::Json => page::json(status, reason, id, self.login_url.as_deref()).into(),
            Shape::EventStreamRetry => {
                format!("retry: {}\n\n", retry_after_s.unwrap_or(1).max(1) * 1000).into()
            }
            Shape::Redirect | Shape::RedirectAfterForm | Shape::Bounce => Bytes::new(),
        }
    }
}

/// What an endpoint of our own answers, if it is not a refusal.
pub struct Served {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// The gateway's own cookies, complete lines.
    pub set_cookies: Vec<HeaderValue>,
}

impl Served {
    /// Writes this answer. It is not stored anywhere, unless its own headers say something else.
    ///
    /// # Errors
    /// The client is gone.
    pub async fn send(self, session: &mut Session, request_id: &RequestId) -> pingora::Result<()> {
        let mut head = ResponseHeader::build(self.status, Some(10))?;
        if self.status != 304 {
            head.insert_header(CONTENT_LENGTH, self.body.len())?;
        }
        head.insert_header("X-Content-Type-Options", "nosniff")?;
        // Not even as an image or a script of another site's page.
        head.insert_header("Cross-Origin-Resource-Policy", "same-origin")?;
        let may_be_stored = self.headers.iter().any(|(name, _)| name == CACHE_CONTROL);
        for (name, value) in self.headers {
            head.insert_header(name, value)?;
        }
        let sealing = Seal { request_id, set_cookies: &self.set_cookies, private: false };
        seal(&mut head, &sealing)?;
        if !may_be_stored || !self.set_cookies.is_empty() {
            head.insert_header(CACHE_CONTROL, "no-store")?;
        }
        send(session, head, self.body).await
    }
}

/// Lets pages of `origin` read an answer of ours (Fetch §3.2.3).
///
/// Never with `Access-Control-Allow-Credentials`: a bearer token needs none, and what a page of another
/// origin asks for with somebody's cookies stays unreadable to it.
fn let_read(head: &mut ResponseHeader, origin: &str) -> pingora::Result<()> {
    head.insert_header("Access-Control-Allow-Origin", origin)?;
    head.insert_header("Access-Control-Expose-Headers", READABLE)?;
    head.append_header("Vary", "Origin")?;
    Ok(())
}

/// RFC 6750 §3: an error code only where a token was presented.
fn challenge(reason: Reason) -> &'static str {
    if reason == Reason::NoCredentials {
        r#"Bearer realm="evergate""#
    } else {
        r#"Bearer realm="evergate", error="invalid_token""#
    }
}

/// What every response gets on its way out.
pub struct Seal<'a> {
    pub request_id: &'a RequestId,
    /// The gateway's own cookies, complete lines.
    pub set_cookies: &'a [HeaderValue],
    /// The response depends on who asks, and the route wants it kept from shared caches.
    pub private: bool,
}

/// Writes cookies, cache headers and the request id into a response's head.
///
/// A Set-Cookie alone does not keep a shared cache from storing a response (RFC 9111 §7.3), so one
/// that carries ours becomes `private` and loses every directive for shared caches.
///
/// # Errors
/// A header value that cannot be written: a mistake of ours.
pub fn seal(head: &mut ResponseHeader, seal: &Seal<'_>) -> pingora::Result<()> {
    for cookie in seal.set_cookies {
        head.append_header(SET_COOKIE, cookie)?;
    }
    if seal.private || !seal.set_cookies.is_empty() {
        let values = head.headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
        let private = cache::private(values);
        head.insert_header(CACHE_CONTROL, private)?;
        let names = head.headers.keys().filter(|name| cache::is_for_shared_caches(name.as_str()));
        for name in names.cloned().collect::<Vec<_>>() {
            head.remove_header(&name);
        }
    }
    head.insert_header("X-Request-Id", seal.request_id.as_str())
}

/// Writes an answer of ours, then reads and drops a bounded part of an unread body: closing at once
/// would reset the connection and could destroy the answer on its way.
///
/// # Errors
/// The client is gone.
async fn send(session: &mut Session, head: ResponseHeader, body: Bytes) -> pingora::Result<()> {
    let wants_body = session.req_header().method != http::Method::HEAD && !body.is_empty();
    let unread = !session.as_downstream_mut().is_body_done();
    // A client that waits for `100 Continue` sends nothing once it has this answer.
    let drains = unread && !expects_continue(&session.req_header().headers);
    if unread {
        session.set_keepalive(None);
    }
    let downstream = session.as_downstream_mut();
    downstream.set_close_on_response_before_downstream_finish(false);
    downstream.write_response_header(Box::new(head)).await?;
    if wants_body {
        downstream.write_response_body(body, true).await?;
    }
    downstream.finish_body().await?;
    if drains {
        // What is left after the limits is the client's loss: it sent a body nobody asked for.
        let _ = tokio::time::timeout(DRAIN_TIME_MAX, drain(session)).await;
    }
    Ok(())
}

async fn drain(session: &mut Session) {
    let mut read = 0;
    while read < DRAIN_BYTES_MAX {
        match session.as_downstream_mut().read_request_body().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

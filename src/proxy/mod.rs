//! The edge: the only room that knows Pingora's session. Files in the order a request meets them.
//!
//! Pingora runs the hooks below for each request. `request_filter` decides and leaves a
//! [`Permit`](crate::policy::decide::Permit) in the context; without one `upstream_peer` refuses, so
//! a check that was skipped can never become an open door.

mod gateway;
pub mod request_id;
pub mod facts;
pub mod context;
mod drive;
mod shown;
mod case;
mod denied;
mod limits;
mod guard;
pub mod endpoints;
pub mod upstreams;
mod upgrade;
mod forward;
mod deliver;
mod carrier;
mod adopt;
mod bounce;
mod inject;
pub mod streams;
mod page;
mod respond;
mod record;
pub mod observe;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{HeaderValue, ORIGIN, SET_COOKIE, UPGRADE};
use http::{StatusCode, Version};
use ipnet::IpNet;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use self::context::Context;
use self::drive::Next;
pub use self::gateway::{Gateway, Waits};
use self::guard::guarded;
pub use self::inject::Told;
use self::observe::Event;
use self::respond::Reply;
use self::streams::Streaming;
use crate::policy::decide::Answer;
use crate::policy::reason::Reason;

/// A connection error is tried once more, perhaps at another server.
const CONNECT_ATTEMPTS_MAX: u8 = 2;

/// The proxy of one listener.
pub struct Edge {
    pub gateway: Arc<Gateway>,
    pub trusted_proxies: Vec<IpNet>,
}

#[async_trait]
impl ProxyHttp for Edge {
    /// Boxed: Pingora keeps it inside the future of each request, which it copies.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Box<Context> {
        Box::new(Context::new(self.gateway.now(), self.gateway.request_ids.next()))
    }

    /// No modules: Pingora's default one compresses, which is the app's business.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<Context>) -> Result<bool> {
        let metrics = &self.gateway.metrics;
        // Pingora moves this future for each request: what few requests need is boxed.
        guarded(&metrics.panics, async {
            let answer = match drive::drive(self, session, ctx).await {
                Ok(Next::Forward) => None,
                Ok(Next::Serve(endpoint)) => {
                    Some(Box::pin(endpoints::serve(&self.gateway, session, ctx, endpoint)).await)
                }
                Err(reply) => Some(Err(reply)),
            };
            let took = self.gateway.now().uptime.saturating_sub(ctx.received.uptime);
            metrics.overhead_seconds.observe(took.saturating_sub(ctx.renewal.waited).as_secs_f64());
            match answer {
                None => return Ok(false),
                Some(Ok(served)) => {
                    ctx.head_sent = true;
                    Box::pin(served.send(session, &ctx.request_id)).await?;
                }
                Some(Err(reply)) => Box::pin(self.answer(session, ctx, &reply)).await?,
            }
            Ok(true)
        })
        .await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Box<Context>,
    ) -> Result<Box<HttpPeer>> {
        let (Some(_), Some(route), Some(passage)) = (&ctx.permit, &ctx.route, &mut ctx.passage)
        else {
            return Error::e_explain(ErrorType::InternalError, "no permit");
        };
        let picked = self
            .gateway
            .upstreams
            .get(usize::from(route.upstream.0))
            .and_then(|upstream| upstream.pick(&route.timeouts, passage.streams));
        let Some(mut picked) = picked else {
            ctx.failure = Some(Reason::UpstreamUnreachable);
            return Error::e_explain(ErrorType::ConnectError, "no server has an address");
        };
        if session.req_header().headers.contains_key(UPGRADE) {
            upgrade::for_websocket(&mut picked.peer);
        }
        passage.server = Some(picked.authority);
        Ok(Box::new(picked.peer))
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        ctx.body_bytes += body.as_ref().map_or(0, Bytes::len) as u64;
        match &ctx.route {
            Some(route) if ctx.body_bytes > route.body_bytes_max && !ctx.upgraded => {
                ctx.failure = Some(Reason::BodyTooLarge);
                Error::e_explain(ErrorType::HTTPStatus(413), "body over its limit")
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream_request: &mut RequestHeader,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        let panics = &self.gateway.metrics.panics;
        guarded(panics, async { forward::prepare(self, session, upstream_request, ctx) }).await
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Box<Context>,
    ) -> Result<()> {
        // Cookies ride on every final head and on 101, which ends HTTP. On other heads they are
        // nobody's: neither ours to add, nor the upstream's to set past us.
        if response.status.is_informational() && response.status != StatusCode::SWITCHING_PROTOCOLS
        {
            response.remove_header(&SET_COOKIE);
            return Ok(());
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            ctx.upgraded = true;
            // Pingora's 60 s for each read from the client would cut a quiet WebSocket; the
            // upstream side's `stream_idle` watches over both.
            session.as_downstream_mut().set_read_timeout(None);
        }
        ctx.head_sent = true;
        // An intermediary speaks its own version, not that of an old upstream (RFC 9112 §2.3).
        if session.req_header().version == Version::HTTP_11 {
            response.set_version(Version::HTTP_11);
        }
        let panics = &self.gateway.metrics.panics;
        guarded(panics, async {
            inject::onto_head(self, session, response, ctx)?;
            deliver::onto(self, response, ctx).await?;
            streams::note_head(self, session, response, ctx);
            Ok(())
        })
        .await
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Box<Context>,
    ) -> Result<Option<Duration>> {
        inject::onto_piece(self, body, end_of_stream, ctx);
        streams::note_piece(self, session, ctx);
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<Context>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        ctx.connect_attempts += 1;
        // Nothing was sent yet, so any method may be tried again.
        error.set_retry(ctx.connect_attempts < CONNECT_ATTEMPTS_MAX);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Box<Context>,
        client_reused: bool,
    ) -> Box<Error> {
        // A kept connection may have been closed under us before it took the request. Only then,
        // and only where a repetition is harmless (RFC 9110 §9.2.2) and no body was sent, is the
        // request sent again.
        let harmless = session.req_header().method.is_idempotent()
            && session.as_downstream_mut().is_body_empty()
            && !ctx.head_sent;
        if harmless {
            error.retry.decide_reuse(client_reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Box<Context>,
    ) -> FailToProxy {
        // Pingora closes the connection after a failure; the client is told.
        session.set_keepalive(None);
        let panics = &self.gateway.metrics.panics;
        let error_code =
            guarded(panics, async { Ok(self.answer_failure(session, error, ctx).await) });
        FailToProxy { error_code: error_code.await.unwrap_or(0), can_reuse_downstream: false }
    }

    /// Our own lines say it with the request's id and without its query.
    fn suppress_error_log(&self, _: &Session, _: &Box<Context>, _: &Error) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Box<Context>) {
        // The response is over, and its connection may serve another request.
        ctx.streaming = Streaming::NotYet;
        let panics = &self.gateway.metrics.panics;
        let _ = guarded(panics, async {
            record::record(self, session, error, ctx);
            Ok(())
        })
        .await;
    }
}

impl Edge {
    /// The status that a failure was answered with; 0 where nobody could be told.
    async fn answer_failure(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> u16 {
        let reason = ctx.failure.or_else(|| cause(error));
        match reason {
            Some(reason) if session.response_written().is_none() => {
                record::failure(error, reason, ctx);
                let client = facts::client_of(session.req_header(), ctx.route.as_deref());
                let mut reply = Reply::new(Answer::unrouted(client, reason), ctx.request_id);
                reply.set_cookies = deliver::onto_answer(self, ctx).await;
                // A client that is gone gets no answer.
                let _ = self.answer(session, ctx, &reply).await;
                reply.status()
            }
            Some(_) | None => 0,
        }
    }

    async fn answer(&self, session: &mut Session, ctx: &mut Context, reply: &Reply) -> Result<()> {
        let reason = reply.answer.reason;
        ctx.refused = Some(reason);
        ctx.head_sent = true;
        if let Some(observer) = &self.gateway.observer {
            let route = ctx.route.as_ref().map_or("-", |route| &route.name);
            observer(Event::Answered { route, reason: reason.word(), status: reply.status() });
        }
        let origins = session.req_header().headers.get_all(ORIGIN);
        let reader = self.gateway.trusted_origins.asking(origins.iter().map(HeaderValue::as_bytes));
        reply.send(session, reader).await
    }
}

/// Whose fault an error of Pingora's is; `None`: the client is gone.
fn cause(error: &Error) -> Option<Reason> {
    use ErrorType as E;
    match error.esource() {
        ErrorSource::Upstream => Some(match error.etype() {
            E::ConnectTimedout | E::TLSHandshakeTimedout | E::ReadTimedout | E::WriteTimedout => {
                Reason::UpstreamTimeout
            }
            _ => Reason::UpstreamUnreachable,
        }),
        ErrorSource::Downstream => match error.etype() {
            E::InvalidHTTPHeader | E::ReadTimedout => Some(Reason::BadRequest),
            _ => None,
        },
        ErrorSource::Internal | ErrorSource::Unset => Some(Reason::Internal),
    }
}

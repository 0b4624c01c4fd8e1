//! Which responses are streams, and what is registered of them.
//!
//! A WebSocket and an event stream are known by their head. Any other response is one once it has
//! taken [`LONG`]: then its next piece registers it. So an ordinary response costs nothing but a
//! look at the clock for each piece, and a download that stands still shows nobody anything.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::{Opened, Registered};
use crate::listen::switch_of;
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::decide::Passes;
use crate::policy::route::Route;
use crate::policy::secret::Secret;
use crate::proxy::context::Context;
use crate::proxy::shown::{Read, Shown};
use crate::proxy::{Edge, Gateway, bounce};
use crate::refresh::{Follower, TokenHash};

/// A response that lasts longer than this is a stream.
pub const LONG: Duration = Duration::from_secs(2);

/// Where a request's response stands.
#[derive(Default)]
pub enum Streaming {
    /// Its head has not left yet.
    #[default]
    NotYet,
    /// The head left at this uptime.
    Since(Duration),
    Registered(Registered),
    /// No session opened it, and nothing limits its age.
    Nobodys,
}

/// The upstream's final head is about to leave.
pub fn note_head(edge: &Edge, session: &Session, response: &ResponseHeader, ctx: &mut Context) {
    let is_stream = response.status == StatusCode::SWITCHING_PROTOCOLS || is_events(response);
    ctx.streaming = match is_stream {
        true => registered(edge, session, ctx, is_websocket(response)),
        false => Streaming::Since(edge.gateway.now().uptime),
    };
}

/// A piece of the response's body is about to leave.
pub fn note_piece(edge: &Edge, session: &Session, ctx: &mut Context) {
    if let Streaming::Since(head) = ctx.streaming
        && edge.gateway.now().uptime >= head + LONG
    {
        ctx.streaming = registered(edge, session, ctx, false);
    }
}

/// Other protocols that a connection may switch to have no frames that could be followed.
fn is_websocket(response: &ResponseHeader) -> bool {
    let upgrade = response.headers.get(UPGRADE).map(|value| value.as_bytes());
    response.status == StatusCode::SWITCHING_PROTOCOLS
        && upgrade.is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"))
}

fn is_events(response: &ResponseHeader) -> bool {
    let value = response.headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let essence = value.and_then(|value| value.split(|byte| *byte == b';').next());
    essence.is_some_and(|text| text.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

fn registered(edge: &Edge, session: &Session, ctx: &Context, has_frames: bool) -> Streaming {
    let gateway = &edge.gateway;
    let (Some(route), Some(permit)) = (&ctx.route, &ctx.permit) else { return Streaming::Nobodys };
    let person = match permit.passes() {
        Passes::Person(verified) => Some(verified.clone()),
        Passes::Anonymous | Passes::Preflight => None,
    };
    let kept = ctx.passage.as_ref().map(|passage| passage.carries.kept);
    let lasts = kept.and_then(|kept| kept.lasts(gateway, gateway.now().unix));
    if person.is_none() && route.stream_age_max.is_none() {
        return Streaming::Nobodys;
    }
    let Some(switch) = session.as_http1().and_then(|h1| switch_of((**h1.stream()).as_any())) else {
        return Streaming::Nobodys;
    };
    let headers = &session.req_header().headers;
    let follower =
        person.as_ref().and_then(|person| follower(gateway, headers, route, ctx, person));
    if has_frames {
        switch.follow_frames();
    }
    Streaming::Registered(gateway.streams.register(Opened {
        request_id: ctx.request_id,
        route: route.name.clone(),
        person,
        follower,
        cut_on_expiry: route.cut_on_expiry,
        age_max: route.stream_age_max,
        lasts,
        switch,
    }))
}

/// Follows the session that this person's request belongs to.
///
/// Its refresh token is read again from the head: to keep a copy for each request that might become a
/// stream would cost all the others. One that was held by a handle is copied anyway.
fn follower(
    gateway: &Gateway,
    headers: &HeaderMap,
    route: &Route,
    ctx: &Context,
    person: &Arc<Verified>,
) -> Option<Follower> {
    let own = |issuer: IssuerId| issuer == person.issuer;
    if let Some((issuer, refresh)) = &ctx.passage.as_ref()?.carries.held {
        return own(*issuer).then(|| gateway.refresher.follow(person, refresh.clone()))?;
    }
    let shown = match Shown::read_at_once(gateway, headers, route).ok()? {
        Read::Shown(shown) => shown,
        Read::Handle(_) => return None,
    };
    if let Some((issuer, refresh)) = shown.refresh {
        return own(issuer).then(|| gateway.refresher.follow(person, Secret::new(refresh)))?;
    }
    if !gateway.is_scoped(person.issuer) || shown.is_bearer() {
        return None;
    }
    // Carrier `path`: the browser says by what came with its access token whose it is.
    let kept = bounce::trail(gateway, headers, gateway.now()).kept?;
    let told = shown.access().map(bounce::digest) == Some(kept.access);
    told.then(|| gateway.refresher.follow_named(person, TokenHash::from_bytes(kept.refresh)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stream_is_known_by_its_type_however_it_is_spelt() {
        for (value, expected) in [
            ("text/event-stream", true),
            ("Text/Event-Stream ; charset=utf-8", true),
            ("text/event-streams", false),
            ("application/json", false),
        ] {
            let mut response = ResponseHeader::build(200, None).unwrap();
            response.insert_header(CONTENT_TYPE, value).unwrap();
            assert_eq!(is_events(&response), expected, "{value}");
        }
    }
}

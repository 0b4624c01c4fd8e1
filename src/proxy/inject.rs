//! The page script in pages of routes with `inject_script`.
//!
//! Which pages, with what tag and at which place is decided in [`crate::policy::inject`]; here the
//! request asks for a page that can be read, the response's head is made to fit, and the pieces of its
//! body are handed through. Nothing is gathered: a piece leaves when it comes, but for the few bytes
//! that may turn out to be `<head`.
//!
//! Head: the page has one more tag than the app has counted, hashed and signed. Its length gives way
//! to chunks, digests go, ranges of it are not offered, and its ETag becomes weak: the same page as far
//! as anybody reads it, not the same bytes (RFC 9110 §8.8.1). To add the tag to the length was
//! rejected: it is known only later whether it goes in.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_LENGTH, ETAG, HOST, HeaderMap, HeaderName,
    HeaderValue, IF_NONE_MATCH, TRANSFER_ENCODING, VARY,
};
use http::{Method, StatusCode, Version};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::Edge;
use super::context::Context;
use super::facts;
use crate::policy::decide::Client;
use crate::policy::inject::csp::PageOrigin;
use crate::policy::inject::place::{Ended, Search};
use crate::policy::inject::{Asked, Insertion, Kept, judge};
use crate::policy::route::{AnswerAs, Route};

static DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];
static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A page on its way, as long as its place is looked for.
pub struct Injecting {
    search: Search,
    tag: String,
}

/// What was said already: one line in the log for each route and reason. By the route's index, a bit
/// for each reason.
pub struct Told(Vec<AtomicU32>);

impl Told {
    pub fn new(routes: usize) -> Told {
        Told((0..routes).map(|_| AtomicU32::new(0)).collect())
    }

    fn is_news(&self, route: &Route, kept: Kept) -> bool {
        let bit = 1 << (kept as u32);
        self.0.get(route.index).is_some_and(|told| told.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }
}

/// Asks the app for a page that can be read. A compressed one would have to be taken apart and put
/// together again: work for each page that the app, or what stands in front, does better.
///
/// # Errors
/// A header that cannot be written: a mistake of ours.
pub fn ask_plainly(request: &Session, upstream: &mut RequestHeader, route: &Route) -> Result<()> {
    if route.inject_script && navigates(request.req_header()) {
        upstream.insert_header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    }
    Ok(())
}

/// Judges the upstream's head, before anything of ours is in it.
///
/// # Errors
/// A header that cannot be written: a mistake of ours.
pub fn onto_head(
    edge: &Edge,
    request: &Session,
    response: &mut ResponseHeader,
    ctx: &mut Context,
) -> Result<()> {
    let Some(route) = ctx.route.as_ref().filter(|route| route.inject_script) else { return Ok(()) };
    let head = request.req_header();
    if response.status == StatusCode::NOT_MODIFIED {
        return match knows_it_as_weak(&head.headers, response) {
            true => weaken(response),
            false => Ok(()),
        };
    }
    let trusted = ctx.passage.as_ref().is_some_and(|passage| passage.origin.trusted);
    let https = trusted && head.headers.get(&X_FORWARDED_PROTO).is_some_and(|p| p == "https");
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let asked = Asked {
        navigates: navigates(head),
        takes_chunks: head.version != Version::HTTP_10,
        origin: PageOrigin::new(host, https),
    };
    let path = &edge.gateway.endpoints.path;
    let Some(judged) = judge(path, &asked, response.status, &response.headers) else {
        return Ok(());
    };
    // The same page comes with the tag to who goes there, and without it to who fetches it.
    if matches!(judged, Ok(_) | Err(Kept::Fetched)) {
        response.append_header(VARY, vary())?;
    }
    let headless = head.method == Method::HEAD;
    if judged.is_ok() {
        fit(response, head.version == Version::HTTP_11 && !headless)?;
    }
    // Without a body its head is told as it would be, and that is all.
    if headless {
        return Ok(());
    }
    match judged {
        Ok(Insertion { syntax, tag }) => {
            ctx.injecting = Some(Box::new(Injecting { search: Search::new(syntax), tag }));
        }
        Err(kept) => note(edge, route, ctx, Ended::Kept(kept)),
    }
    Ok(())
}

/// Hands a piece of a page through.
pub fn onto_piece(edge: &Edge, body: &mut Option<Bytes>, is_last: bool, ctx: &mut Context) {
    let Some(injecting) = &mut ctx.injecting else { return };
    let Injecting { search, tag } = &mut **injecting;
    let piece = body.take().unwrap_or_default();
    let mut out = Vec::with_capacity(piece.len() + tag.len());
    let ended = match search.feed(&piece, tag.as_bytes(), &mut out) {
        None if is_last => Some(search.finish(&mut out)),
        ended => ended,
    };
    *body = Some(out.into());
    if let Some(ended) = ended {
        ctx.injecting = None;
        if let Some(route) = &ctx.route {
            note(edge, route, ctx, ended);
        }
    }
}

/// A person goes there, or sends a form there: whatever `answer_as` says, which is about refusals.
fn navigates(head: &RequestHeader) -> bool {
    match facts::client(&head.method, &head.headers, AnswerAs::Auto) {
        Client::Navigation | Client::FormNavigation => true,
        Client::Program | Client::WebSocket | Client::EventStream => false,
    }
}

/// What [`navigates`] looks at.
fn vary() -> String {
    format!("{SEC_FETCH_MODE}, {ACCEPT}")
}

/// Makes a head fit a page with one more tag.
fn fit(response: &mut ResponseHeader, in_chunks: bool) -> Result<()> {
    response.remove_header(&CONTENT_LENGTH);
    for digest in &DIGESTS {
        response.remove_header(digest);
    }
    if response.headers.contains_key(ACCEPT_RANGES) {
        response.insert_header(ACCEPT_RANGES, HeaderValue::from_static("none"))?;
    }
    if in_chunks {
        // Pingora adds it only where the app gave no length.
        response.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
    }
    weaken(response)
}

fn weaken(response: &mut ResponseHeader) -> Result<()> {
    match response.headers.get(ETAG).and_then(weak) {
        Some(weak) => response.insert_header(ETAG, weak),
        None => Ok(()),
    }
}

/// `None`: it is weak already, or no tag at all.
fn weak(etag: &HeaderValue) -> Option<HeaderValue> {
    let strong = etag.as_bytes().strip_prefix(b"\"")?;
    HeaderValue::from_bytes(&[b"W/\"", strong].concat()).ok()
}

/// The page that a client has from us has a weak tag, and the app's strong one would not be taken for
/// it (RFC 9111 §4.3.4). Whether it was a page is not told again: what the client says it has decides.
fn knows_it_as_weak(request: &HeaderMap, response: &ResponseHeader) -> bool {
    let Some(weak) = response.headers.get(ETAG).and_then(weak) else { return false };
    let known = request.get_all(IF_NONE_MATCH).iter().map(HeaderValue::as_bytes);
    known.flat_map(|line| line.split(|byte| *byte == b',')).any(|tag| weak == tag.trim_ascii())
}

fn note(edge: &Edge, route: &Route, ctx: &Context, ended: Ended) {
    let word = match ended {
        Ended::Inserted => "injected",
        Ended::Kept(kept) => kept.word(),
    };
    edge.gateway.metrics.script_injections.with_label_values(&[word]).inc();
    if let Ended::Kept(kept) = ended
        && kept.surprises()
        && edge.gateway.kept_pages.is_news(route, kept)
    {
        let request_id = ctx.request_id.as_str();
        tracing::warn!(route = %route.name, request_id, reason = word, "page left without script");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&'static str, &str)]) -> ResponseHeader {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in headers {
            response.append_header(*name, *value).unwrap();
        }
        response
    }

    fn lines(response: &ResponseHeader) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<String> = response.headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_the_app_counted_and_hashed_is_taken_back() {
        let mut page = response(&[
            ("content-type", "text/html"),
            ("content-length", "7"),
            ("etag", "\"a\""),
            ("accept-ranges", "bytes"),
            ("content-md5", "x"),
            ("digest", "x"),
            ("content-digest", "x"),
            ("repr-digest", "x"),
            ("last-modified", "x"),
        ]);
        fit(&mut page, true).unwrap();
        let expected = [
            "accept-ranges: none",
            "content-type: text/html",
            "etag: W/\"a\"",
            "last-modified: x",
            "transfer-encoding: chunked",
        ];
        assert_eq!(lines(&page), expected);
        let mut bare = response(&[("etag", "W/\"a\"")]);
        fit(&mut bare, false).unwrap();
        assert_eq!(lines(&bare), ["etag: W/\"a\""]);
    }

    #[test]
    fn a_reason_is_news_once_for_each_route() {
        let told = Told::new(2);
        let first = Route::for_tests("", "/*", None);
        let second = Route { index: 1, ..first.clone() };
        assert!(Kept::ALL.len() <= 32, "a bit for each");
        for kept in Kept::ALL {
            assert!(told.is_news(&first, *kept) && !told.is_news(&first, *kept), "{kept:?}");
            assert!(told.is_news(&second, *kept), "{kept:?}");
        }
    }
}

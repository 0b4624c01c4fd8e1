//! A request's head, judged before anything is decided: framing that two parsers could read
//! differently is refused, and who asks and from where is noted.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Method, Version};
use ipnet::IpNet;
use memchr::{memchr, memchr_iter};
use pingora::http::RequestHeader;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::Session;

use crate::policy::decide::Client;
use crate::policy::reason::Reason;
use crate::policy::route::{AnswerAs, Route, host};

static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
/// What browsers said before `Sec-Purpose`.
static PURPOSE: HeaderName = HeaderName::from_static("purpose");
static X_MOZ: HeaderName = HeaderName::from_static("x-moz");

/// What is allowed of a head (`limits`).
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    pub header_bytes_max: usize,
    pub headers_max: usize,
}

/// The address of a client whose own cannot be read.
pub const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Where a connection comes from. A Unix socket's peer counts as 127.0.0.1: it is on this machine.
pub fn peer_ip(session: &Session) -> IpAddr {
    match session.client_addr() {
        Some(SocketAddr::Inet(address)) => address.ip().to_canonical(),
        Some(SocketAddr::Unix(_)) | None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

/// Whom a request comes from, and what is believed about it.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The client: the peer, or what a trusted proxy says.
    pub client: IpAddr,
    /// The peer may set `X-Forwarded-*` and the request id.
    pub trusted: bool,
}

impl Origin {
    /// The client's address is the last one in `X-Forwarded-For` that is not itself a trusted
    /// proxy. One that cannot be read is nobody's, never the proxy's own. An empty list of proxies
    /// trusts nobody.
    pub fn of(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> Origin {
        let trusts = |ip: &IpAddr| proxies.iter().any(|net| net.contains(ip));
        if !trusts(&peer) {
            return Origin { peer, client: peer, trusted: false };
        }
        let mut client = peer;
        let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
        'lines: for line in lines.into_iter().rev() {
            for element in line.as_bytes().rsplit(|b| *b == b',') {
                client = parse_ip(element).unwrap_or(NOBODY);
                if !trusts(&client) {
                    break 'lines;
                }
            }
        }
        Origin { peer, client, trusted: true }
    }
}

/// Some proxies add the port, and IPv6 then stands in brackets.
fn parse_ip(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim();
    let ip =
        text.parse::<IpAddr>().or_else(|_| text.parse::<std::net::SocketAddr>().map(|at| at.ip()));
    ip.map(|ip| ip.to_canonical()).ok()
}

/// Refuses what two HTTP parsers could read differently (RFC 9112 §2.2, §3.2, §6, §11.2), and heads
/// over the limits.
///
/// Pingora accepts all of these; `raw` is the head as it came, since Pingora drops Content-Length
/// where Transfer-Encoding is present before any hook sees it.
///
/// # Errors
/// `HeaderTooLarge` or `BadRequest`.
pub fn check_head(
    request: &RequestHeader,
    raw: Option<&[u8]>,
    limits: HeadLimits,
) -> Result<(), Reason> {
    let headers = &request.headers;
    let bytes = raw.map_or_else(|| header_bytes(headers), <[u8]>::len);
    if headers.len() > limits.headers_max || bytes > limits.header_bytes_max {
        return Err(Reason::HeaderTooLarge);
    }
    let host_missing = request.version == Version::HTTP_11 && !headers.contains_key(HOST);
    if host_missing
        || !all_are(headers, &HOST, is_host)
        || !all_are(headers, &CONTENT_LENGTH, is_number)
    {
        return Err(Reason::BadRequest);
    }
    if count(headers, &HOST) > 1 || count(headers, &CONTENT_LENGTH) > 1 {
        return Err(Reason::BadRequest);
    }
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    if chunked && !only_chunked(headers) {
        return Err(Reason::BadRequest);
    }
    if let Some(raw) = raw
        && (has_bare_lf(raw) || (chunked && has_content_length(raw)))
    {
        return Err(Reason::BadRequest);
    }
    if headers.contains_key(UPGRADE) && (has_body(headers) || !names_upgrade(headers)) {
        return Err(Reason::BadRequest);
    }
    Ok(())
}

/// Does the target of a raw head have a `#`? No request has one (RFC 9112 §3.2); Pingora's parser
/// drops what follows it, so the core's own rule never sees it.
pub fn has_fragment(raw: &[u8]) -> bool {
    let line = memchr(b'\n', raw).and_then(|end| raw.get(..end)).unwrap_or(raw);
    memchr(b'#', line).is_some()
}

fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

fn count(headers: &HeaderMap, name: &HeaderName) -> usize {
    headers.get_all(name).iter().count()
}

fn all_are(headers: &HeaderMap, name: &HeaderName, is: fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(is))
}

fn is_host(value: &str) -> bool {
    host::authority(value).is_some()
}

/// A list of equal numbers, which Pingora takes and forwards, is read in several ways elsewhere.
fn is_number(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())
}

fn only_chunked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let first = values.next().is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"chunked"));
    first && values.next().is_none()
}

fn has_bare_lf(raw: &[u8]) -> bool {
    let before = |lf: usize| lf.checked_sub(1).and_then(|at| raw.get(at));
    memchr_iter(b'\n', raw).any(|lf| before(lf) != Some(&b'\r'))
}

fn has_content_length(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    raw.split(|b| *b == b'\n').skip(1).any(|line| {
        line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME))
            && line.get(NAME.len()).is_some_and(|b| *b == b':')
    })
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|v| v.as_bytes().split(|b| *b == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// [`client`] of a whole request; without a route, judged from the request alone.
pub fn client_of(request: &RequestHeader, route: Option<&Route>) -> Client {
    let answer_as = route.map_or(AnswerAs::Auto, |route| route.answer_as);
    client(&request.method, &request.headers, answer_as)
}

/// Who asks: the route's word, else Fetch metadata, else `Accept`.
pub fn client(method: &Method, headers: &HeaderMap, answer_as: AnswerAs) -> Client {
    if headers.contains_key(UPGRADE) {
        return Client::WebSocket;
    }
    let accepts = |media: &str| accepts(headers, media);
    if accepts("text/event-stream") {
        return Client::EventStream;
    }
    let navigates = match answer_as {
        AnswerAs::Browser => true,
        AnswerAs::Program => false,
        AnswerAs::Auto => match headers.get(&SEC_FETCH_MODE) {
            Some(mode) => mode == "navigate",
            None => accepts("text/html"),
        },
    };
    match (navigates, *method == Method::GET || *method == Method::HEAD) {
        (true, true) => Client::Navigation,
        (true, false) => Client::FormNavigation,
        (false, _) => Client::Program,
    }
}

fn accepts(headers: &HeaderMap, media: &str) -> bool {
    headers.get_all(ACCEPT).iter().flat_map(|v| v.as_bytes().split(|b| *b == b',')).any(|range| {
        let kind = range.split(|b| *b == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(media.as_bytes())
    })
}

/// A CORS preflight (Fetch §4.8): the method it asks for.
pub fn preflight_method(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if *method != Method::OPTIONS || !headers.contains_key("origin") {
        return None;
    }
    let asked = headers.get("access-control-request-method")?;
    Method::from_bytes(asked.as_bytes()).ok()
}

/// Does a person ask? Not if a browser asks ahead of them.
pub fn is_use(headers: &HeaderMap, preflight: bool) -> bool {
    !preflight && !is_prefetch(headers)
}

/// May this request start a flight in the window? Not what a page loads by the dozen, not what
/// nobody may ever look at.
pub fn may_refresh_alongside(headers: &HeaderMap, preflight: bool) -> bool {
    const NEVER: [&str; 8] =
        ["image", "font", "style", "script", "audio", "video", "track", "manifest"];
    let is_part =
        headers.get(&SEC_FETCH_DEST).is_some_and(|dest| NEVER.iter().any(|never| dest == never));
    !preflight && !is_part && !purpose_is_prefetch(headers, &SEC_PURPOSE)
}

/// Does a browser look ahead, for a page that nobody may ever look at?
pub fn is_prefetch(headers: &HeaderMap) -> bool {
    [&SEC_PURPOSE, &PURPOSE, &X_MOZ].into_iter().any(|name| purpose_is_prefetch(headers, name))
}

fn purpose_is_prefetch(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(name)
        .iter()
        .any(|v| v.as_bytes().windows(8).any(|w| w.eq_ignore_ascii_case(b"prefetch")))
}

/// May a link of another site's have led here, so that a browser keeps its `SameSite=Strict` cookies
/// back? One that says nothing of it may have.
pub fn may_come_from_another_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all(&SEC_FETCH_SITE).iter().peekable();
    sites.peek().is_none() || sites.any(|site| site == "cross-site")
}

/// The client waits for `100 Continue` before it sends a body (RFC 9110 §10.1.1).
pub fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Does a body follow the head (RFC 9112 §6)?
pub fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    length || headers.contains_key(TRANSFER_ENCODING)
}

/// Does the body announce more than `body_bytes_max`?
pub fn announces_more_than(headers: &HeaderMap, body_bytes_max: u64) -> bool {
    headers
        .get(CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.trim().parse::<u64>().ok())
        .is_some_and(|length| length > body_bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { header_bytes_max: 1024, headers_max: 10 };

    fn request(headers: &[(&str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header((*name).to_owned(), *value).unwrap();
        }
        request
    }

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        request(headers).headers.clone()
    }

    #[test]
    fn framing_that_can_be_read_twice_is_refused() {
        let cases: &[&[(&str, &str)]] = &[
            &[],
            &[("host", "a"), ("host", "a")],
            &[("host", "a"), ("content-length", "1"), ("content-length", "1")],
            &[("host", "a"), ("transfer-encoding", "gzip, chunked")],
            &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("host", "a"), ("upgrade", "websocket")],
            &[("host", "a"), ("upgrade", "h2c"), ("connection", "close")],
            &[
                ("host", "a"),
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("content-length", "4"),
            ],
        ];
        for case in cases {
            assert_eq!(
                check_head(&request(case), None, LIMITS),
                Err(Reason::BadRequest),
                "{case:?}"
            );
        }
    }

    #[test]
    fn the_raw_head_betrays_a_bare_lf_and_a_dropped_content_length() {
        let request = request(&[("host", "a"), ("transfer-encoding", "chunked")]);
        let check = |raw: &[u8]| check_head(&request, Some(raw), LIMITS);
        assert_eq!(
            check(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
            Ok(())
        );
        assert_eq!(
            check(b"POST / HTTP/1.1\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
            Err(Reason::BadRequest)
        );
        assert_eq!(
            check(b"POST / HTTP/1.1\r\nContent-Length: 3\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
            Err(Reason::BadRequest)
        );
    }

    #[test]
    fn heads_over_the_limits_are_too_large() {
        let long = "x".repeat(1100);
        let one = request(&[("host", "a"), ("x-long", &long)]);
        let many = request(&[("host", "a"); 11]);
        assert_eq!(check_head(&one, None, LIMITS), Err(Reason::HeaderTooLarge));
        assert_eq!(check_head(&many, None, LIMITS), Err(Reason::HeaderTooLarge));
    }

    #[test]
    fn fetch_metadata_goes_before_accept() {
        let html = ("accept", "text/html,*/*");
        let ask = |method: Method, headers: &[(&str, &str)]| {
            client(&method, &map(headers), AnswerAs::Auto)
        };
        assert_eq!(ask(Method::GET, &[html]), Client::Navigation);
        assert_eq!(ask(Method::GET, &[html, ("sec-fetch-mode", "cors")]), Client::Program);
        assert_eq!(ask(Method::GET, &[("sec-fetch-mode", "navigate")]), Client::Navigation);
        assert_eq!(ask(Method::POST, &[html]), Client::FormNavigation);
        assert_eq!(ask(Method::GET, &[]), Client::Program);
        assert_eq!(ask(Method::GET, &[("accept", "text/event-stream")]), Client::EventStream);
        assert_eq!(ask(Method::GET, &[("upgrade", "websocket")]), Client::WebSocket);
    }

    #[test]
    fn forwarded_addresses_count_only_behind_a_trusted_proxy() {
        let headers = map(&[("x-forwarded-for", "6.6.6.6, 9.9.9.9, 10.0.0.7")]);
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let proxies: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let ninth: IpAddr = "9.9.9.9".parse().unwrap();
        assert_eq!(Origin::of(peer, &headers, &[]).client, peer);
        assert!(!Origin::of(peer, &headers, &[]).trusted);
        assert_eq!(Origin::of(peer, &headers, &proxies).client, ninth);
    }

    #[test]
    fn what_pages_load_by_the_dozen_starts_no_flight() {
        let may = |headers: &[(&str, &str)]| may_refresh_alongside(&map(headers), false);
        assert!(may(&[]));
        assert!(may(&[("sec-fetch-dest", "document")]));
        assert!(!may(&[("sec-fetch-dest", "image")]));
        assert!(!may(&[("sec-purpose", "prefetch;prerender")]));
        assert!(!may_refresh_alongside(&map(&[]), true));
    }
}

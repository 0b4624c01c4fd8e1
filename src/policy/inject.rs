//! The page script in a page that does not know of it (`inject_script`): whether, with what, and
//! where.
//!
//! 1. Only pages get it: HTML that somebody navigates to. What a script fetches is left alone, since
//!    it may be a piece of a page.
//! 2. Only what can be read and changed: not compressed, in a character set that contains ASCII, all
//!    of it, and with nobody's word against it.
//! 3. Only where the page's own policy lets it run: [`csp`].
//! 4. Whatever is left alone passes as it came, for one [`Kept`] reason.

pub mod csp;
pub mod place;

use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};

use self::csp::PageOrigin;
use self::place::Syntax;
use super::endpoint::{Endpoint, GatewayPath};

static INTEGRITY_POLICY: HeaderName = HeaderName::from_static("integrity-policy");

/// Why a page was left as it came (label `result` of a metric).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Nobody navigates to it.
    Fetched,
    /// An HTTP/1.0 client, which takes no chunks.
    Http10,
    /// A redirect, or a part of a page.
    Status,
    /// `Content-Disposition`: it is to be saved.
    Attachment,
    /// `Cache-Control: no-transform`.
    NoTransform,
    /// Compressed, although it was asked for plain.
    Encoded,
    /// UTF-16, or a character set that is not known to contain ASCII.
    Charset,
    CspScript,
    CspConnect,
    CspSandbox,
    IntegrityPolicy,
    /// There is nothing in it but comments.
    Empty,
    /// XHTML without a head.
    NoHead,
    /// More than [`place::LOOKED_AT_MAX`] bytes before its head.
    TooFar,
}

impl Kept {
    pub const ALL: &'static [Kept] = &[
        Kept::Fetched,
        Kept::Http10,
        Kept::Status,
        Kept::Attachment,
        Kept::NoTransform,
        Kept::Encoded,
        Kept::Charset,
        Kept::CspScript,
        Kept::CspConnect,
        Kept::CspSandbox,
        Kept::IntegrityPolicy,
        Kept::Empty,
        Kept::NoHead,
        Kept::TooFar,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Kept::Fetched => "fetched",
            Kept::Http10 => "http_1_0",
            Kept::Status => "status",
            Kept::Attachment => "attachment",
            Kept::NoTransform => "no_transform",
            Kept::Encoded => "encoded",
            Kept::Charset => "charset",
            Kept::CspScript => "csp_script",
            Kept::CspConnect => "csp_connect",
            Kept::CspSandbox => "csp_sandbox",
            Kept::IntegrityPolicy => "integrity_policy",
            Kept::Empty => "empty",
            Kept::NoHead => "no_head",
            Kept::TooFar => "too_far",
        }
    }

    /// Would an operator wonder, and could the app do something about it?
    pub const fn surprises(self) -> bool {
        match self {
            Kept::Fetched | Kept::Http10 | Kept::Status | Kept::Attachment | Kept::Empty => false,
            Kept::NoTransform
            | Kept::Encoded
            | Kept::Charset
            | Kept::CspScript
            | Kept::CspConnect
            | Kept::CspSandbox
            | Kept::IntegrityPolicy
            | Kept::NoHead
            | Kept::TooFar => true,
        }
    }
}

/// What a request says of the page it asks for.
pub struct Asked<'a> {
    /// A person goes there, or sends a form there.
    pub navigates: bool,
    pub takes_chunks: bool,
    pub origin: PageOrigin<'a>,
}

/// What is put into a page, and by which rules its place is found.
#[derive(Debug, PartialEq, Eq)]
pub struct Insertion {
    pub syntax: Syntax,
    pub tag: String,
}

/// Judges a response by its head; `None`: it is no HTML.
pub fn judge(
    path: &GatewayPath,
    asked: &Asked<'_>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<Result<Insertion, Kept>> {
    let (syntax, charset) = html(headers)?;
    Some(insertion(path, asked, status, headers, syntax, charset))
}

fn insertion(
    path: &GatewayPath,
    asked: &Asked<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    syntax: Syntax,
    charset: Option<&str>,
) -> Result<Insertion, Kept> {
    let checks = [
        (asked.navigates, Kept::Fetched),
        (asked.takes_chunks, Kept::Http10),
        (is_whole(status), Kept::Status),
        (is_shown(headers), Kept::Attachment),
        (!has_word(headers, &CACHE_CONTROL, "no-transform"), Kept::NoTransform),
        (is_plain(headers), Kept::Encoded),
        (charset.is_none_or(contains_ascii), Kept::Charset),
        (headers.get(CONTENT_LENGTH).is_none_or(|length| length != "0"), Kept::Empty),
        (lets_unsigned_scripts_in(headers), Kept::IntegrityPolicy),
    ];
    if let Some((_, kept)) = checks.into_iter().find(|(holds, _)| !holds) {
        return Err(kept);
    }
    let at = |endpoint: Endpoint| format!("{}/{}", path.as_str(), endpoint.name());
    let script = at(Endpoint::Script);
    let calls = [at(Endpoint::Session), at(Endpoint::Refresh)];
    let lines = headers.get_all(CONTENT_SECURITY_POLICY).iter().map(HeaderValue::as_bytes);
    let nonce = csp::judge(lines, &asked.origin, &script, &calls.each_ref().map(String::as_str))?;
    // Neither a path of the gateway's nor a nonce has a character with a meaning in HTML or XML.
    let nonce = nonce.map_or_else(String::new, |nonce| format!(" nonce=\"{nonce}\""));
    Ok(Insertion { syntax, tag: format!("<script src=\"{script}\"{nonce}></script>") })
}

/// The media type, if it is one of HTML, and the character set that it names.
fn html(headers: &HeaderMap) -> Option<(Syntax, Option<&str>)> {
    let mut lines = headers.get_all(CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let text = line.to_str().ok()?;
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let syntax = match essence.trim_ascii().to_ascii_lowercase().as_str() {
        "text/html" => Syntax::Html,
        "application/xhtml+xml" => Syntax::Xml,
        _ => return None,
    };
    let charset = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim_ascii().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim_ascii().trim_matches('"').trim_ascii())
    });
    Some((syntax, charset))
}

/// A page that is shown, and all of it.
fn is_whole(status: StatusCode) -> bool {
    match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT => false,
        status => status.is_success() || status.is_client_error() || status.is_server_error(),
    }
}

/// What is not `inline` is saved (RFC 6266 §4.2).
fn is_shown(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_DISPOSITION).is_none_or(|value| {
        let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"inline")
    })
}

fn is_plain(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().all(|value| {
        let value = value.as_bytes().trim_ascii();
        value.is_empty() || value.eq_ignore_ascii_case(b"identity")
    })
}

/// A script without `integrity` is blocked where the policy names scripts. A hash in the tag was
/// rejected: a gateway of another version would serve other bytes.
fn lets_unsigned_scripts_in(headers: &HeaderMap) -> bool {
    !headers.get_all(&INTEGRITY_POLICY).iter().any(|value| {
        value.as_bytes().to_ascii_lowercase().windows(6).any(|window| window == b"script")
    })
}

fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|found| found.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

/// Is every ASCII byte of a page in this character set that character (Encoding Standard §4.2)? What
/// is not known is not believed.
fn contains_ascii(charset: &str) -> bool {
    const NAMES: &[&str] = &[
        "utf-8",
        "utf8",
        "us-ascii",
        "ascii",
        "latin1",
        "macintosh",
        "koi8-r",
        "koi8-u",
        "big5",
        "gb2312",
        "gbk",
        "gb18030",
        "euc-jp",
        "euc-kr",
        "shift_jis",
        "shift-jis",
        "sjis",
        "windows-31j",
        "tis-620",
        "windows-874",
    ];
    const FAMILIES: &[&str] = &["iso-8859-", "iso8859-", "windows-125", "cp125"];
    let charset = charset.to_ascii_lowercase();
    NAMES.contains(&charset.as_str()) || FAMILIES.iter().any(|family| charset.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(
        asked: &Asked<'_>,
        status: u16,
        lines: &[(&str, &str)],
    ) -> Option<Result<Insertion, Kept>> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        judge(&GatewayPath::default(), asked, StatusCode::from_u16(status).unwrap(), &headers)
    }

    fn asked() -> Asked<'static> {
        let origin = PageOrigin::new(Some("app.test"), false);
        Asked { navigates: true, takes_chunks: true, origin }
    }

    /// A page with one more header.
    fn with(name: &str, value: &str) -> Result<Insertion, Kept> {
        judged(&asked(), 200, &[("content-type", "text/html"), (name, value)]).unwrap()
    }

    fn plain() -> Result<Insertion, Kept> {
        let tag = "<script src=\"/_evergate/script.js\"></script>".to_owned();
        Ok(Insertion { syntax: Syntax::Html, tag })
    }

    #[test]
    fn a_page_is_known_by_its_type() {
        let of = |kind| judged(&asked(), 200, &[("content-type", kind)]);
        for html in ["text/html", "Text/HTML ;charset=UTF-8", "text/html;x=y; Charset = \"utf-8\""]
        {
            assert_eq!(of(html), Some(plain()), "{html}");
        }
        let xhtml = of("application/xhtml+xml").unwrap().unwrap();
        assert_eq!(xhtml.syntax, Syntax::Xml);
        for other in ["text/plain", "text/html5", "application/json", "image/svg+xml", ""] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(judged(&asked(), 200, &[]), None);
        let twice = [("content-type", "text/html"), ("content-type", "text/html")];
        assert_eq!(judged(&asked(), 200, &twice), None);
    }

    #[test]
    fn the_tag_carries_the_page_s_nonce() {
        let with = with("content-security-policy", "script-src 'nonce-Zm9v+/=='").unwrap();
        assert_eq!(with.tag, "<script src=\"/_evergate/script.js\" nonce=\"Zm9v+/==\"></script>");
    }

    #[test]
    fn each_page_that_is_left_alone_has_one_reason() {
        for (name, value, kept) in [
            ("content-disposition", "attachment; filename=a.html", Kept::Attachment),
            ("content-disposition", "save", Kept::Attachment),
            ("cache-control", "private, No-Transform", Kept::NoTransform),
            ("content-encoding", "gzip", Kept::Encoded),
            ("content-encoding", "identity, br", Kept::Encoded),
            ("content-length", "0", Kept::Empty),
            ("integrity-policy", "blocked-destinations=(Script)", Kept::IntegrityPolicy),
            ("content-security-policy", "default-src 'none'", Kept::CspConnect),
        ] {
            assert_eq!(with(name, value), Err(kept), "{name}: {value}");
        }
        for (name, value) in [
            ("content-disposition", "INLINE; filename=a.html"),
            ("cache-control", "no-store"),
            ("content-encoding", "identity"),
            ("content-length", "1"),
            ("integrity-policy", "blocked-destinations=(style)"),
            ("content-security-policy-report-only", "default-src 'none'"),
        ] {
            assert_eq!(with(name, value), plain(), "{name}: {value}");
        }
    }

    #[test]
    fn character_sets_without_ascii_are_left_alone() {
        for (charset, good) in [
            ("utf-8", true),
            ("ISO-8859-15", true),
            ("windows-1252", true),
            ("Shift_JIS", true),
            ("utf-16", false),
            ("UTF-16LE", false),
            ("utf-7", false),
            ("iso-2022-jp", false),
            ("unicode", false),
            ("ebcdic", false),
        ] {
            let html = format!("text/html; charset={charset}");
            let judged = judged(&asked(), 200, &[("content-type", &html)]).unwrap();
            assert_eq!(judged, if good { plain() } else { Err(Kept::Charset) }, "{charset}");
        }
    }

    #[test]
    fn only_whole_pages_that_somebody_goes_to_are_changed() {
        let html = &[("content-type", "text/html")];
        for status in [200, 203, 400, 404, 500, 503] {
            assert_eq!(judged(&asked(), status, html), Some(plain()), "{status}");
        }
        for status in [204, 205, 206, 301, 302, 304] {
            assert_eq!(judged(&asked(), status, html), Some(Err(Kept::Status)), "{status}");
        }
        let fetched = Asked { navigates: false, ..asked() };
        assert_eq!(judged(&fetched, 200, html), Some(Err(Kept::Fetched)));
        let old = Asked { takes_chunks: false, ..asked() };
        assert_eq!(judged(&old, 200, html), Some(Err(Kept::Http10)));
    }

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let mut words: Vec<&str> = Kept::ALL.iter().map(|kept| kept.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Kept::ALL.len());
    }
}

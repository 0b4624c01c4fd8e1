//! `GET {gateway_path}/script.js`: the page script, made once at the start.
//!
//! It is the one answer of the gateway that a browser may keep: without asking first it may not use
//! it, and then it is told in a few bytes that nothing has changed.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};

use super::Ending;
use crate::policy::endpoint::GatewayPath;
use crate::proxy::respond::Served;

const SOURCE: &str = include_str!("script.js");
/// What stands for the gateway's path in it.
const PLACE: &str = "GATEWAY_PATH";

/// The script as it is served.
pub(super) struct Script {
    body: Bytes,
    /// A strong validator (RFC 9110 §8.8.3).
    etag: HeaderValue,
}

impl Script {
    pub fn new(path: &GatewayPath) -> Script {
        let body = bare(SOURCE).replace(PLACE, path.as_str());
        let hash = digest(&SHA256, body.as_bytes());
        let tag = URL_SAFE_NO_PAD.encode(hash.as_ref().get(..12).unwrap_or_default());
        // Letters, digits, `-` and `_` in quotes are a header's value.
        let etag = HeaderValue::from_str(&format!("\"{tag}\"")).ok();
        Script { body: body.into(), etag: etag.unwrap_or(HeaderValue::from_static("\"0\"")) }
    }

    pub fn serve(&self, headers: &HeaderMap) -> Ending {
        let known = headers
            .get_all(IF_NONE_MATCH)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .map(|tag| tag.trim_ascii())
            // Compared weakly, as for every GET (RFC 9110 §13.1.2).
            .any(|tag| {
                tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes()
            });
        let mut headers =
            vec![(ETAG, self.etag.clone()), (CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
        if known {
            return Ok(Served {
                status: 304,
                headers,
                body: Bytes::new(),
                set_cookies: Vec::new(),
            });
        }
        headers.push((CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8")));
        Ok(Served { status: 200, headers, body: self.body.clone(), set_cookies: Vec::new() })
    }
}

/// Without the lines that only people read, and without indentation. The script has no string or
/// expression over several lines, so no meaning is in them.
fn bare(source: &str) -> String {
    let lines = source.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .filter(|line| !line.starts_with("//"))
        .fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_is_under_two_kilobytes_and_knows_its_place() {
        for path in ["/_evergate", &format!("/{}", "x".repeat(63))] {
            let script = Script::new(&GatewayPath::parse(path).unwrap());
            let text = std::str::from_utf8(&script.body).unwrap();
            assert!(text.len() < 2_048, "{} bytes for {path}", text.len());
            assert!(text.contains(&format!("const base = \"{path}/\";")));
            assert!(!text.contains(PLACE) && !text.contains("\n//") && !text.contains("\n "));
        }
    }

    #[test]
    fn what_time_it_is_matters_to_nothing_in_it_and_only_a_leap_wakes_it() {
        let source = bare(SOURCE);
        for clock in ["performance", "server_time"] {
            assert!(!source.contains(clock), "{clock}");
        }
        let seen = "seen + 6e4 < (seen = Date.now()) && wake()";
        assert!(
            source.contains(seen)
                && source.contains("let timer, active, news = 0, seen = Date.now();")
        );
        assert_eq!((source.matches("Date").count(), source.matches("seen").count()), (2, 3));
    }

    #[test]
    fn the_tag_follows_the_bytes() {
        let of = |path| Script::new(&GatewayPath::parse(path).unwrap()).etag;
        assert_eq!(of("/a"), of("/a"));
        assert_ne!(of("/a"), of("/b"));
    }
}

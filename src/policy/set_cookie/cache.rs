//! Keeping shared caches away from a response that is one person's.
//!
//! Set-Cookie does not stop a shared cache (RFC 9111 §7.3), so the directives must.

/// The Cache-Control of a response that carries gateway cookies or depends on who asks: `private`,
/// and the upstream's other directives but those for shared caches.
pub fn private<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut out = String::from("private");
    for value in values {
        let value = String::from_utf8_lossy(value);
        for directive in directives(&value) {
            let Some(directive) = directive else {
                // An open quote: what the rest meant is unknown, so nothing may be kept.
                return "private, no-store".to_owned();
            };
            let name = directive.split('=').next().unwrap_or_default().trim_end();
            // `private="Set-Cookie"` would leave the rest to shared caches.
            let shared = ["public", "private", "s-maxage"].iter();
            let dropped = shared.chain([&""]).any(|word| name.eq_ignore_ascii_case(word));
            if !dropped && directive.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
                out.push_str(", ");
                out.push_str(directive);
            }
        }
    }
    out
}

/// Response headers that speak to shared caches over the head of Cache-Control; removed from such a
/// response. `name` is lower-case.
pub fn is_for_shared_caches(name: &str) -> bool {
    // RFC 9213 and its vendors' forms (`Cloudflare-CDN-Cache-Control`), Edge Architecture, Akamai,
    // nginx.
    name == "cdn-cache-control"
        || name.ends_with("-cdn-cache-control")
        || matches!(name, "surrogate-control" | "edge-control" | "x-accel-expires")
}

/// The directives of a value, split at commas outside quotes; `None` for one whose quote stays open.
fn directives(value: &str) -> impl Iterator<Item = Option<&str>> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.find(|c| {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                ',' => return !quoted,
                _ => {}
            }
            false
        });
        let Some(end) = end else {
            rest = None;
            return Some((!quoted).then_some(text.trim()));
        };
        rest = text.get(end + 1..);
        Some(text.get(..end).map(str::trim))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(values: &[&str]) -> String {
        private(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn response_becomes_private_and_keeps_the_rest() {
        for (values, expected) in [
            (&[][..], "private"),
            (&[""], "private"),
            (&["public, max-age=60"], "private, max-age=60"),
            (&["PUBLIC ,S-MaxAge = 9,, must-revalidate"], "private, must-revalidate"),
            (&["max-age=60", "public", "s-maxage=\"9\""], "private, max-age=60"),
            (&["no-store"], "private, no-store"),
            (&["private=\"Set-Cookie, x\", max-age=1"], "private, max-age=1"),
            (
                &["ext=\"public, \\\", s-maxage=9\", no-cache"],
                "private, ext=\"public, \\\", s-maxage=9\", no-cache",
            ),
            (&["public-ish, xs-maxage=1"], "private, public-ish, xs-maxage=1"),
        ] {
            assert_eq!(made(values), expected, "{values:?}");
        }
    }

    #[test]
    fn open_quote_ends_in_no_store() {
        assert_eq!(made(&["max-age=60, ext=\"a, public"]), "private, no-store");
        assert_eq!(made(&["ext=\"\\\"", "public"]), "private, no-store");
    }

    #[test]
    fn strange_bytes_are_dropped_with_their_directive() {
        let found = private([&b"a\xff, b\x01, max-age=1"[..]]);
        assert_eq!(found, "private, max-age=1");
    }

    #[test]
    fn headers_of_shared_caches_are_known() {
        for name in [
            "cdn-cache-control",
            "cloudflare-cdn-cache-control",
            "surrogate-control",
            "edge-control",
            "x-accel-expires",
        ] {
            assert!(is_for_shared_caches(name), "{name}");
        }
        for name in ["cache-control", "expires", "x-cdn-cache-controls", "etag"] {
            assert!(!is_for_shared_caches(name), "{name}");
        }
    }
}

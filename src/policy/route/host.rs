//! Host names as they are compared: lower-case, without port and trailing dot.
//!
//! What is not a host name is `None`, and `None` matches nothing: a guess here would let a request
//! choose between two hosts' routes.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Longer names cannot exist (RFC 1035 §2.3.4) and are not looked up.
const NAME_BYTES_MAX: usize = 253;

/// A Host field's value, taken apart (RFC 9110 §7.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower-case, without trailing dot; IPv6 in brackets, in its shortest form.
    pub name: Cow<'a, str>,
    pub port: Option<u16>,
}

/// Takes `name`, `name:port`, `[v6]` or `[v6]:port` apart; user information is not accepted.
pub fn authority(text: &str) -> Option<Authority<'_>> {
    if let Some(literal) = text.strip_prefix('[') {
        let (address, after) = literal.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = match after {
            "" => None,
            _ => port(after.strip_prefix(':')?)?,
        };
        return Some(Authority { name: Cow::Owned(format!("[{address}]")), port });
    }
    let (name, port) = match text.split_once(':') {
        Some((name, digits)) => (name, port(digits)?),
        None => (text, None),
    };
    Some(Authority { name: self::name(name)?, port })
}

/// A registered name or IPv4 address, without port.
fn name(text: &str) -> Option<Cow<'_, str>> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut upper = false;
    let mut previous = b'.';
    for byte in name.bytes() {
        match byte {
            // Also the first byte: `.example.com` must not look like the key of a `*.` pattern.
            b'.' if previous == b'.' => return None,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {}
            b'A'..=b'Z' => upper = true,
            _ => return None,
        }
        previous = byte;
    }
    if previous == b'.' {
        return None;
    }
    Some(if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

/// RFC 3986 §3.2.3 allows an empty port.
fn port(digits: &str) -> Option<Option<u16>> {
    if digits.is_empty() {
        return Some(None);
    }
    // `u16::from_str` takes a leading plus.
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(text: &str) -> Option<String> {
        authority(text).map(|authority| authority.name.into_owned())
    }

    #[test]
    fn port_case_and_trailing_dot_do_not_matter() {
        for text in ["example.com", "EXAMPLE.com", "example.com.", "Example.Com.:8443"] {
            assert_eq!(name_of(text).as_deref(), Some("example.com"), "{text}");
        }
    }

    #[test]
    fn lower_case_name_is_borrowed() {
        let found = authority("app.example.com:80").map(|authority| authority.name);
        assert!(matches!(found, Some(Cow::Borrowed("app.example.com"))));
    }

    #[test]
    fn port_is_read() {
        assert_eq!(authority("a:8080").and_then(|a| a.port), Some(8080));
        assert_eq!(authority("[::1]:8080").and_then(|a| a.port), Some(8080));
        assert_eq!(authority("a:").map(|a| a.port), Some(None));
    }

    #[test]
    fn ipv6_literals_have_one_spelling() {
        for text in ["[::1]", "[0:0:0:0:0:0:0:1]:443", "[::0001]"] {
            assert_eq!(name_of(text).as_deref(), Some("[::1]"), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_host_matches_nothing() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        let bad = [
            "",
            ".",
            "..",
            ".example.com",
            "example..com",
            "example.com..",
            ":80",
            "a:b",
            "a:+80",
            "a:65536",
            "a:80:80",
            "user@a",
            "a/b",
            "a b",
            "a,b",
            "a%2e",
            "é.example",
            "::1",
            "[::1",
            "[::1]x",
            "[::1%25eth0]",
            "[]",
            "[1.2.3.4]",
            "a\\b",
            "a?b",
            "a\0",
            long.as_str(),
        ];
        for text in bad {
            assert_eq!(authority(text), None, "{text:?}");
        }
    }
}

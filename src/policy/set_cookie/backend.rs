//! The auth backend's Set-Cookie, read as a browser would (RFC 6265 §5.2).

use super::date;
use crate::policy::secret::Secret;
use crate::policy::time::UnixSeconds;

/// One cookie that the auth backend sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSetCookie {
    pub name: String,
    /// As it stands in the line, without quotes around the whole; the token, or its encoding by the
    /// backend, which is what the backend expects to see again.
    pub value: Secret,
    /// Seconds that it lives on; `None` for the browser's session.
    pub max_age_s: Option<u64>,
    /// The backend takes the cookie away: no value, no time left, or a date gone by.
    pub clears: bool,
}

impl BackendSetCookie {
    /// Parses one Set-Cookie line. `None` if a browser would ignore it.
    ///
    /// Bytes that are not UTF-8 are replaced: no token holds them, and the name must still be seen.
    pub fn parse(line: &[u8], now: UnixSeconds) -> Option<BackendSetCookie> {
        let line = String::from_utf8_lossy(line);
        let (pair, attributes) = line.split_once(';').unwrap_or((&line, ""));
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim(), unquoted(value.trim()));
        if name.is_empty() {
            return None;
        }
        let mut max_age = None;
        let mut expires = None;
        for attribute in attributes.split(';') {
            let (key, text) = attribute.split_once('=').unwrap_or((attribute, ""));
            let (key, text) = (key.trim(), text.trim());
            if key.eq_ignore_ascii_case("max-age") {
                max_age = seconds(text).or(max_age);
            } else if key.eq_ignore_ascii_case("expires") {
                expires = date::parse(text).or(expires);
            }
        }
        // Max-Age wins over Expires (RFC 6265 §5.3, step 3).
        let max_age_s = max_age.or(expires.map(|at| at.since(now)));
        Some(BackendSetCookie {
            name: name.to_owned(),
            value: Secret::new(value),
            max_age_s,
            clears: value.is_empty() || max_age_s == Some(0),
        })
    }
}

/// Quotes with further quoting inside stay: what the backend meant by it is the backend's affair.
fn unquoted(value: &str) -> &str {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains(['"', '\\']) => inner,
        Some(_) | None => value,
    }
}

/// RFC 6265 §5.2.2: a number of seconds; none left if negative. `None` if it is to be ignored.
fn seconds(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    match text.starts_with('-') {
        true => Some(0),
        // All digits: only too large a number fails.
        false => Some(digits.parse().unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

    fn parse(line: &str) -> Option<BackendSetCookie> {
        BackendSetCookie::parse(line.as_bytes(), NOW)
    }

    fn cookie(name: &str, value: &str, max_age_s: Option<u64>, clears: bool) -> BackendSetCookie {
        BackendSetCookie { name: name.to_owned(), value: Secret::new(value), max_age_s, clears }
    }

    #[test]
    fn name_and_value_are_read_as_a_browser_does() {
        let token = Some(cookie("rt", "a=b", None, false));
        for line in ["rt=a=b", " rt = a=b ; Path=/; HttpOnly", "rt=\"a=b\"; Domain=x", "rt=a=b;;=;"]
        {
            assert_eq!(parse(line), token, "{line}");
        }
        assert_eq!(parse("rt=\"a\\\"b\""), Some(cookie("rt", "\"a\\\"b\"", None, false)));
    }

    #[test]
    fn what_a_browser_ignores_is_ignored() {
        for line in ["", "rt", "=a", " =a; Path=/", "; rt=a"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn last_readable_max_age_wins_and_beats_expires() {
        let life = |line| parse(line).and_then(|cookie| cookie.max_age_s);
        assert_eq!(life("rt=a; max-AGE = 60"), Some(60));
        assert_eq!(life("rt=a; Max-Age=60; Max-Age=90"), Some(90));
        assert_eq!(life("rt=a; Max-Age=60; Max-Age=x"), Some(60));
        assert_eq!(life("rt=a; Max-Age=+60"), None);
        assert_eq!(life("rt=a; Max-Age=99999999999999999999"), Some(u64::MAX));
        assert_eq!(life("rt=a; Expires=Tue, 14 Nov 2023 22:14:20 GMT"), Some(60));
        assert_eq!(life("rt=a; Max-Age=9; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), Some(9));
    }

    #[test]
    fn every_way_of_clearing_is_seen() {
        for line in [
            "rt=",
            "rt=\"\"; Path=/",
            "rt=a; Max-Age=0",
            "rt=a; Max-Age=-1",
            "rt=a; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "rt=a; Expires=Thu, 01-Jan-1970 00:00:01 GMT",
            "rt=deleted; expires=Tue, 14 Nov 2023 22:13:20 GMT",
        ] {
            assert!(parse(line).is_some_and(|cookie| cookie.clears), "{line}");
        }
        for line in ["rt=a; Expires=0", "rt=a; Expires=never", "rt=a; Max-Age="] {
            assert_eq!(parse(line), Some(cookie("rt", "a", None, false)), "{line}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        assert!(!format!("{:?}", parse("rt=secret")).contains("secret"));
    }
}

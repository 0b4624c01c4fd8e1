//! Protocol `cookie`: what a home-made backend does.
//!
//! It gets an empty POST with its own cookies, as a browser would send them, and answers with
//! Set-Cookie. Values are kept byte for byte as a browser keeps them: quotes and percent-escapes
//! included.

use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_LENGTH, COOKIE, HeaderValue};

use super::outcome::{Answer, unix_of_date};
use crate::policy::secret::Secret;
use crate::policy::time::UnixSeconds;

/// Adds the backend's own cookies. `None` if a token has bytes that no header can carry.
pub(super) fn cookies(
    request: RequestBuilder,
    access: Option<(&str, &Secret)>,
    (refresh_name, refresh): (&str, &Secret),
) -> Option<RequestBuilder> {
    // The browser chooses these bytes: a semicolon would begin a further cookie of its own.
    let ends_a_cookie = |byte: u8| byte == b';' || byte.is_ascii_control();
    let holdable = |token: &Secret| !token.expose().bytes().any(ends_a_cookie);
    if !holdable(refresh) || !access.is_none_or(|(_, access)| holdable(access)) {
        return None;
    }
    let mut line = format!("{refresh_name}={}", refresh.expose());
    if let Some((name, access)) = access {
        line.push_str(&format!("; {name}={}", access.expose()));
    }
    let mut value = HeaderValue::from_str(Secret::new(line).expose()).ok()?;
    value.set_sensitive(true);
    // Said, because an empty POST without a length is refused by some (RFC 9110 §8.6).
    Some(request.header(COOKIE, value).header(CONTENT_LENGTH, 0))
}

/// Reads the new tokens from Set-Cookie lines (RFC 6265 §5.2). Where a cookie is set several times
/// the last counts; where it is cleared it was not set, so that "clear the old path, set the new
/// one" works in either order.
pub(super) fn tokens(
    set_cookies: &[&str],
    access_name: &str,
    refresh_name: &str,
    now: UnixSeconds,
) -> Option<Answer> {
    let last =
        |name: &str| set_cookies.iter().rev().filter_map(|line| parse(line, name, now)).next();
    let access = last(access_name)?;
    let refresh = last(refresh_name);
    Some(Answer {
        access: Secret::new(access.value),
        max_age_s: refresh.as_ref().and_then(|cookie| cookie.max_age_s),
        refresh: refresh.map(|cookie| Secret::new(cookie.value)),
    })
}

struct Set<'a> {
    value: &'a str,
    max_age_s: Option<u64>,
}

/// The cookie `name` of one line, unless the line is another cookie's or clears it.
fn parse<'a>(line: &'a str, name: &str, now: UnixSeconds) -> Option<Set<'a>> {
    let mut parts = line.split(';');
    let (found, value) = parts.next()?.split_once('=')?;
    let value = value.trim();
    if found.trim() != name || value.is_empty() {
        return None;
    }
    let (mut max_age, mut expires) = (None, None);
    for part in parts {
        let (attribute, value) = part.split_once('=').unwrap_or((part, ""));
        match attribute.trim() {
            name if name.eq_ignore_ascii_case("max-age") => {
                max_age = value.trim().parse::<i64>().ok().or(max_age);
            }
            name if name.eq_ignore_ascii_case("expires") => {
                expires = unix_of_date(value.trim()).or(expires);
            }
            _ => {}
        }
    }
    // Max-Age wins over Expires (RFC 6265 §5.3).
    let max_age_s = match (max_age, expires) {
        (Some(seconds), _) => Some(u64::try_from(seconds).unwrap_or(0)),
        (None, Some(date)) => Some(date.since(now)),
        (None, None) => None,
    };
    (max_age_s != Some(0)).then_some(Set { value, max_age_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(784_111_777);

    fn read(lines: &[&str]) -> Option<(String, Option<String>, Option<u64>)> {
        tokens(lines, "at", "rt", NOW).map(|answer| {
            let refresh = answer.refresh.map(|refresh| refresh.expose().to_owned());
            (answer.access.expose().to_owned(), refresh, answer.max_age_s)
        })
    }

    fn pair(
        access: &str,
        refresh: Option<&str>,
        max_age_s: Option<u64>,
    ) -> Option<(String, Option<String>, Option<u64>)> {
        Some((access.to_owned(), refresh.map(str::to_owned), max_age_s))
    }

    #[test]
    fn a_token_with_further_cookies_in_it_is_not_sent() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let request = || reqwest::Client::new().post("http://127.0.0.1:1/");
        let sent = |token: &str| cookies(request(), None, ("rt", &Secret::new(token))).is_some();
        assert!(sent("abc.DEF_1=="));
        assert!(sent("a b,c"));
        assert!(!["a; admin=1", "a;", "a\r\nb", "a\tb"].map(sent).contains(&true));
    }

    #[test]
    fn tokens_come_from_set_cookie_with_the_refresh_cookies_life() {
        let lines = ["at=A; Path=/; HttpOnly; Max-Age=60", "rt=R; max-age=600; Path=/auth", "x=y"];
        assert_eq!(read(&lines), pair("A", Some("R"), Some(600)));
    }

    #[test]
    fn expires_counts_where_there_is_no_max_age() {
        let expires = "rt=R; Expires=Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(read(&["at=A", expires]), pair("A", Some("R"), Some(60)));
        let both = "rt=R; Max-Age=5; Expires=Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(read(&["at=A", both]), pair("A", Some("R"), Some(5)));
    }

    #[test]
    fn a_kept_refresh_cookie_is_no_new_one() {
        assert_eq!(read(&["at=A"]), pair("A", None, None));
    }

    #[test]
    fn clearing_is_not_setting_whatever_the_order() {
        let cleared = ["at=; Max-Age=0", "rt=R; Max-Age=0", "rt=R; Max-Age=-1"];
        assert_eq!(read(&cleared), None);
        assert_eq!(read(&["at=A", "rt=R", "rt=old; Max-Age=0"]), pair("A", Some("R"), None));
        assert_eq!(read(&["rt=; Max-Age=0", "rt=R", "at=A"]), pair("A", Some("R"), None));
    }

    #[test]
    fn the_last_of_several_counts_and_look_alikes_do_not() {
        let lines = ["at=A1", "at=A2", "at2=no", "xat=no", "AT=no", "garbage", ""];
        assert_eq!(read(&lines), pair("A2", None, None));
    }

    #[test]
    fn values_stay_as_a_browser_keeps_them() {
        assert_eq!(
            read(&[r#"at="A"; Path=/"#, "rt=a%3Db=c"]),
            pair("\"A\"", Some("a%3Db=c"), None)
        );
    }
}

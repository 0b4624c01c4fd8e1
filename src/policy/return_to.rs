//! Where a person comes back to after logging in.
//!
//! The page asked for is always a path of this gateway, never a URL: no login link can be made to
//! send anybody elsewhere.

use std::fmt::Write as _;

/// A longer page address is not worth keeping: `/` stands for it.
const RETURN_TO_BYTES_MAX: usize = 2_000;
/// What stands for the page asked for in `on_denied.browser.redirect`.
const PLACE: &str = "{url}";

/// The login page's address, with the page asked for in place of `{url}`.
///
/// `path_and_query` is the canonical path and the query as it came.
pub fn login_url(template: &str, path_and_query: &str) -> String {
    template.replace(PLACE, &escaped(safe(path_and_query)))
}

/// A path that browsers cannot read as another host, else `/`. They drop tabs and line ends, which
/// would turn `/\t/evil.test` into `//evil.test`.
fn safe(path_and_query: &str) -> &str {
    let mut bytes = path_and_query.bytes();
    let rooted = bytes.next() == Some(b'/') && !matches!(bytes.next(), Some(b'/' | b'\\'));
    let fits = path_and_query.len() <= RETURN_TO_BYTES_MAX
        && !path_and_query.bytes().any(|byte| byte.is_ascii_control());
    if rooted && fits { path_and_query } else { "/" }
}

/// A page's path and query, if it is one of this gateway that can stand in a header as it is.
pub fn own_page(path_and_query: &str) -> Option<&str> {
    let plain = path_and_query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (plain && safe(path_and_query) == path_and_query).then_some(path_and_query)
}

/// Where a logout leads: the value of `return_to` in this query, if it is a path of this gateway that
/// can stand in a header as it is, else `/`.
pub fn after_logout(query: Option<&str>) -> String {
    let parameters = query.unwrap_or_default().split('&');
    let value = parameters.filter_map(|parameter| parameter.strip_prefix("return_to=")).next();
    let decoded = value.and_then(unescaped).unwrap_or_default();
    let plain = decoded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if plain { safe(&decoded).to_owned() } else { "/".to_owned() }
}

/// `None`: a broken escape, or not UTF-8.
pub(super) fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

/// Everything but unreserved characters is escaped (RFC 3986 §2.1, §2.3).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3 / 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The path and query of a page of `host` that a request's `Referer` names: where a program's login
/// link should lead back to.
pub fn referring_page<'a>(referer: &'a str, host: &str) -> Option<&'a str> {
    let rest = referer.strip_prefix("https://").or_else(|| referer.strip_prefix("http://"))?;
    let page = rest.strip_prefix(host)?;
    let page = page.split('#').next().unwrap_or(page);
    page.starts_with('/').then_some(page)
}

/// Checks `on_denied.browser.redirect`: a path of this gateway, or a whole `https://` URL (`http://`
/// for a loopback host).
///
/// # Errors
/// A sentence for the operator: what is wrong and what is expected.
pub fn validate_login_template(template: &str) -> Result<(), String> {
    let expected = "expected a path such as `/auth/login?return_to={url}`, or an https URL";
    if template.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'\\') {
        return Err(format!("spaces, backslashes and non-ASCII bytes must be escaped; {expected}"));
    }
    let without_place = template.replacen(PLACE, "", 1);
    if without_place.contains(['{', '}']) {
        return Err(format!("only one `{{url}}` can stand in it; {expected}"));
    }
    if template.starts_with('/') && !template.starts_with("//") {
        return Ok(());
    }
    let host = template
        .strip_prefix("https://")
        .map(|rest| (rest, false))
        .or_else(|| template.strip_prefix("http://").map(|rest| (rest, true)));
    let Some((rest, plain)) = host else {
        return Err(expected.to_owned());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains(['@', '{']) {
        return Err(format!("the URL has no plain host; {expected}"));
    }
    if plain && !is_loopback(authority) {
        return Err(
            "a login page over plain http would show passwords to the network; use https, \
                    or a loopback host"
                .to_owned(),
        );
    }
    Ok(())
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logout_leads_to_a_path_of_this_gateway_and_nowhere_else() {
        let to = |value: &str| after_logout(Some(&format!("a=b&return_to={value}&c=d")));
        for good in ["/", "/bye", "/bye?x=1", "/a%2Fb"] {
            assert_eq!(to(good), good.replace("%2F", "/"));
        }
        assert_eq!(to("%2Fbye%3Fx%3D1%26y%3D2"), "/bye?x=1&y=2");
        for elsewhere in [
            "",
            "bye",
            "https://evil.test/",
            "//evil.test",
            "%2F%2Fevil.test",
            "/%5Cevil.test",
            "/\\evil.test",
            "/%09/evil.test",
            "/%0d%0aSet-Cookie:x",
            "/%C3%BC",
            "/%",
            "/%zz",
            "/ x",
            "/%FF",
            "javascript:alert(1)",
            "%2e//evil.test",
        ] {
            assert_eq!(to(elsewhere), "/", "{elsewhere}");
        }
        assert_eq!([after_logout(None), after_logout(Some("x=1"))], ["/", "/"]);
        assert_eq!(after_logout(Some("return_to=/a&return_to=/b")), "/a");
    }

    #[test]
    fn the_page_asked_for_is_escaped_whole() {
        assert_eq!(
            login_url("/login?return_to={url}", "/a b/ü?x=1&y=/#"),
            "/login?return_to=%2Fa%20b%2F%C3%BC%3Fx%3D1%26y%3D%2F%23"
        );
        assert_eq!(login_url("/login", "/secret"), "/login");
    }

    #[test]
    fn what_browsers_read_as_another_host_becomes_the_root() {
        let long = format!("/{}", "x".repeat(RETURN_TO_BYTES_MAX));
        let bad = ["//evil.test/", "/\\evil.test/", "/\t/evil.test", "/a\n", "https://evil.test/"];
        for page in bad.into_iter().chain(["", "evil", &long]) {
            assert_eq!(login_url("{url}", page), "%2F", "{page}");
        }
    }

    #[test]
    fn only_a_page_of_this_host_is_a_referring_page() {
        let page = |referer| referring_page(referer, "app.test:8080");
        assert_eq!(page("http://app.test:8080/a?b=1#c"), Some("/a?b=1"));
        assert_eq!(page("http://app.test:8080.evil.test/a"), None);
        assert_eq!(page("http://app.test:80801/a"), None);
        assert_eq!(page("http://app.test:8080@evil.test/a"), None);
        assert_eq!(page("javascript:alert(1)"), None);
    }

    #[test]
    fn login_pages_are_ours_or_encrypted() {
        for good in [
            "/auth/login",
            "/auth/login?return_to={url}",
            "https://sso.example.com/login?next={url}",
            "http://127.0.0.1:4000/login",
            "http://localhost/login?u={url}",
            "http://[::1]:4000/login",
        ] {
            assert_eq!(validate_login_template(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "login",
            "//sso.example.com/login",
            "/login?a={url}&b={url}",
            "/login?a={path}",
            "http://sso.example.com/login",
            "https://user@sso.example.com/",
            "https://{url}/",
            "javascript:alert(1)",
            "/log in",
            "/\\evil.test",
        ] {
            assert!(validate_login_template(bad).is_err(), "{bad}");
        }
    }
}

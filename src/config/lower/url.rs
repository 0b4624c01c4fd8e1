//! URLs of servers, issuers and endpoints.

use std::net::IpAddr;

use crate::config::reports::Problem;

/// An absolute http or https URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    pub port: u16,
    /// Path and query, as written.
    pub path_and_query: String,
}

impl HttpUrl {
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// `localhost`, 127.0.0.0/8 and ::1: hosts that no other machine stands between.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Parses an absolute http or https URL.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<HttpUrl, Problem> {
    let expected =
        |what: &str| Problem::error(what).expected("expected `https://host[:port][/path]`");
    let uri: http::Uri = text.parse().map_err(|_| expected("not a URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(expected("not a whole URL"));
    };
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err(expected("neither http nor https")),
    };
    if authority.as_str().contains('@') {
        return Err(expected("a user or password does not belong in a URL"));
    }
    // `http::Uri` drops a fragment without a word.
    if text.contains('#') {
        return Err(expected("a fragment has no meaning here"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let has_port = authority.as_str().len() > authority.host().len();
    let port = match authority.port_u16() {
        Some(0) => return Err(expected("port 0 cannot be reached")),
        Some(port) => port,
        None if has_port => return Err(expected("not a port number")),
        None => [80, 443][usize::from(tls)],
    };
    if host.is_empty() {
        return Err(expected("the host is missing"));
    }
    let path_and_query = uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    Ok(HttpUrl { tls, host: host.to_owned(), port, path_and_query })
}

/// Parses a URL that tokens or keys travel to: https, or http on loopback.
///
/// # Errors
/// What is wrong with it.
pub fn parse_trusted(text: &str) -> Result<HttpUrl, Problem> {
    let url = parse(text)?;
    if !url.tls && !url.is_loopback() {
        return Err(Problem::error(
            "`http://` is for loopback only: others could read and change it",
        )
        .expected("expected `https://…`"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(tls: bool, host: &str, port: u16, path: &str) -> HttpUrl {
        HttpUrl { tls, host: host.to_owned(), port, path_and_query: path.to_owned() }
    }

    #[test]
    fn urls_are_taken_apart() {
        for (text, expected) in [
            ("http://127.0.0.1:3000", url(false, "127.0.0.1", 3000, "/")),
            ("https://app.example/x?y", url(true, "app.example", 443, "/x?y")),
            ("http://[::1]", url(false, "::1", 80, "/")),
        ] {
            assert_eq!(parse(text), Ok(expected));
        }
    }

    #[test]
    fn other_texts_are_not_urls() {
        for text in [
            "",
            "app",
            "app:3000",
            "//app",
            "/path",
            "ftp://app",
            "http://",
            "http://:80",
            "http://user@app",
            "http://app:0",
            "http://app:99999",
            "http://app:",
            "http://app/#x",
            "http://a b",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn plain_http_is_trusted_on_loopback_only() {
        for text in ["http://localhost:1", "http://127.8.9.1", "http://[::1]:4", "https://app"] {
            assert!(parse_trusted(text).is_ok(), "{text}");
        }
        for text in ["http://app", "http://10.0.0.1", "http://localhost.example", "http://[::2]"] {
            assert!(parse_trusted(text).is_err(), "{text}");
        }
    }
}

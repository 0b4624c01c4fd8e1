//! `csrf.trusted_origins`: whose pages may read what the gateway itself answers (Fetch §3.2).
//!
//! A page of another origin that sends a bearer token gets the app's answers with the app's own CORS
//! headers. Where the gateway answers in the app's place, nobody else can let the page read that it is
//! 401 and not a broken network.
//!
//! An origin is compared as a browser writes it, byte for byte: no pattern, no `null`. There is nothing
//! here about cookies: what is read this way never depends on one.

use super::route::host;

/// Origins whose pages may read the gateway's own answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedOrigins(Vec<TrustedOrigin>);

/// One of them, as a browser writes it: `https://spa.example:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedOrigin {
    text: Box<str>,
    /// Host without port; IPv6 in brackets.
    pub host: Box<str>,
    pub tls: bool,
}

impl TrustedOrigin {
    /// Parses `https://spa.example`.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(text: &str) -> Result<TrustedOrigin, &'static str> {
        let (rest, tls, usual) = match text.strip_prefix("https://") {
            Some(rest) => (rest, true, 443),
            None => (text.strip_prefix("http://").ok_or("is not a whole origin")?, false, 80),
        };
        let authority =
            host::authority(rest).ok_or("is not a scheme, a host and perhaps a port")?;
        let scheme = if tls { "https" } else { "http" };
        let host = authority.name;
        let written = match authority.port {
            Some(port) if port != usual => format!("{scheme}://{host}:{port}"),
            Some(_) | None => format!("{scheme}://{host}"),
        };
        // Another spelling would never be met: browsers have one.
        if written != text {
            return Err(
                "is not how a browser writes it: lower-case, without the scheme's own port",
            );
        }
        Ok(TrustedOrigin { text: text.into(), host: host.into(), tls })
    }
}

impl TrustedOrigins {
    pub fn new(origins: Vec<TrustedOrigin>) -> TrustedOrigins {
        TrustedOrigins(origins)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The origin that asks, if it is one of these. `lines`: every `Origin` of the request; a browser
    /// sends one.
    pub fn asking<'a>(&self, mut lines: impl Iterator<Item = &'a [u8]>) -> Option<&str> {
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        let found = self.0.iter().find(|origin| origin.text.as_bytes() == line);
        found.map(|origin| &*origin.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_the_spelling_of_browsers() {
        for good in [
            "https://spa.example",
            "https://spa.example:8443",
            "http://localhost:5173",
            "https://[::1]:80",
            "https://xn--bcher-kva.example",
        ] {
            assert_eq!(&*TrustedOrigin::parse(good).unwrap().text, good);
        }
        for bad in [
            "",
            "null",
            "*",
            "spa.example",
            "//spa.example",
            "https://",
            "https://*",
            "https://*.spa.example",
            "https://spa.example/",
            "https://spa.example/x",
            "https://spa.example?x",
            "https://spa.example#x",
            "https://spa.example:443",
            "https://spa.example:",
            "https://spa.example:0443",
            "http://localhost:80",
            "https://SPA.example",
            "HTTPS://spa.example",
            "https://spa.example.",
            "https://x@spa.example",
            "https://bücher.example",
            "https://[0:0::1]",
            "ftp://spa.example",
            "https://spa.example, https://evil.test",
            " https://spa.example",
        ] {
            assert!(TrustedOrigin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_asks_is_trusted_by_every_byte_and_once() {
        let one = TrustedOrigin::parse("https://spa.example").unwrap();
        let trusted = TrustedOrigins::new(vec![one]);
        let asking = |lines: &[&'static str]| {
            trusted.asking(lines.iter().map(|line| line.as_bytes())).map(str::to_owned)
        };
        assert_eq!(asking(&["https://spa.example"]).as_deref(), Some("https://spa.example"));
        for other in [
            "null",
            "",
            "http://spa.example",
            "https://spa.example:443",
            "https://spa.example/",
            "https://spa.example.evil.test",
            "https://evil.test",
            "https://Spa.example",
        ] {
            assert_eq!(asking(&[other]), None, "{other}");
        }
        assert_eq!(asking(&[]), None);
        assert_eq!(asking(&["https://spa.example", "https://spa.example"]), None);
        assert!(TrustedOrigins::default().asking([&b"null"[..]].into_iter()).is_none());
    }
}

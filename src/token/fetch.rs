//! One bounded GET.
//!
//! Every read is bounded in bytes, time and redirects: an issuer is trusted to sign, not to be
//! healthy. Only https, or http to a loopback address, is ever asked; nothing but 200 is an answer.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;

/// How long a TCP and TLS connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one answer may take, to its last byte.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest body that is read.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1024;

/// An HTTP client for key sets alone.
pub struct Fetcher {
    client: reqwest::Client,
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{0:?} is not a URL: {1}")]
    NotAUrl(String, String),
    #[error("{0}: only https, or http to a loopback address, is asked for keys")]
    NotAllowed(String),
    #[error("{0}: {1}")]
    Failed(String, String),
    #[error("{0}: answered {1}; redirects are not followed")]
    Redirect(String, u16),
    #[error("{0}: answered {1}, expected 200")]
    Status(String, u16),
    #[error("{0}: the answer is longer than {KEY_SET_BYTES_MAX} bytes")]
    TooLong(String),
}

impl Fetcher {
    /// # Errors
    /// The TLS client cannot be built.
    pub fn new() -> Result<Fetcher, reqwest::Error> {
        // An error means that the composition root was here first, with the same provider.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let build = |builder: reqwest::ClientBuilder| {
            builder
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .retry(reqwest::retry::never())
                // Key sets are asked for every few minutes: a kept connection would only be a
                // stale one.
                .pool_max_idle_per_host(0)
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(ANSWER_TIMEOUT)
                .build()
        };
        // A machine without root certificates can still have its issuer on loopback.
        let client = build(reqwest::Client::builder()).or_else(|error| {
            let error = causes(&error);
            tracing::warn!(error, "no root certificates: keys cannot be fetched over https");
            build(reqwest::Client::builder().tls_certs_only([]))
        })?;
        Ok(Fetcher { client })
    }

    /// The body of a 200 answer.
    ///
    /// # Errors
    /// A sentence for the operator. URLs in it have no query and no user: they may hold secrets.
    pub async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let url = parsed(url)?;
        let shown = shown(&url);
        let failed = |error: reqwest::Error| FetchError::Failed(shown.clone(), causes(&error));
        let mut response = self.client.get(url).send().await.map_err(failed)?;
        match response.status().as_u16() {
            200 => {}
            status @ 300..400 => return Err(FetchError::Redirect(shown, status)),
            status => return Err(FetchError::Status(shown, status)),
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > KEY_SET_BYTES_MAX {
                return Err(FetchError::TooLong(shown));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// A URL that may be asked.
///
/// # Errors
/// It is neither https nor http on loopback.
pub fn parsed(text: &str) -> Result<Url, FetchError> {
    let url = Url::parse(text)
        .map_err(|error| FetchError::NotAUrl(text.to_owned(), error.to_string()))?;
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err(FetchError::NotAllowed(shown(&url))),
    }
}

fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// An error with its causes: `reqwest` alone says only "error sending request".
fn causes(error: &reqwest::Error) -> String {
    let mut text = match error {
        error if error.is_timeout() => "no answer in time".to_owned(),
        error if error.is_connect() => "cannot connect".to_owned(),
        _ => "broken answer".to_owned(),
    };
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_asked() {
        for url in [
            "https://issuer.example/keys",
            "http://127.0.0.1:4000/keys",
            "http://127.9.9.9/",
            "http://[::1]:1/",
            "http://localhost/",
            "HTTP://LOCALHOST/",
        ] {
            assert!(parsed(url).is_ok(), "{url}");
        }
        for url in [
            "http://issuer.example/keys",
            "http://127.0.0.1.example/",
            "http://localhost.example/",
            "http://10.0.0.1/",
            "http://[::2]/",
            "http://0.0.0.0/",
            "file:///etc/passwd",
            "ftp://127.0.0.1/",
            "/keys",
            "",
        ] {
            assert!(parsed(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_shown_url_has_no_user_and_no_query() {
        let url = Url::parse("https://user:secret@issuer.example:8443/keys?token=secret").unwrap();

        assert_eq!(shown(&url), "https://issuer.example:8443/keys");
    }
}

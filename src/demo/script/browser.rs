//! A browser in small: sends what a page's own request sends, keeps the cookies it is given.
//!
//! It knows the gateway's cookies by name and reads `exp` and `kid` of its own access token, to know
//! how long to wait and which key signed it. It verifies nothing: that is the gateway's work.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::header::{self, HeaderMap};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;

use crate::demo::DemoError;
use crate::demo::front::ACCESS_COOKIE;
use crate::demo::http_client::{http_client, reason};
use crate::policy::secret::Secret;

/// The gateway's cookie name with `secure: false`.
const REFRESH_COOKIE: &str = "evergate_refresh";

/// One person's browser. A clone is another tab with the cookies of this moment.
#[derive(Clone, Debug)]
pub struct Browser {
    client: Client,
    origin: String,
    cookies: BTreeMap<String, Secret>,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// 0 if no answer came.
    pub status: u16,
    pub location: String,
    pub retry_after: Option<String>,
    /// The access cookie was set.
    pub new_cookies: bool,
    pub body: String,
    /// The gateway's word for why, if this is an answer of its own.
    pub reason: Option<String>,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, &self.reason) {
            (0, _) => f.write_str("no answer"),
            (status, Some(reason)) => write!(f, "{status} {reason}"),
            (status, None) => write!(f, "{status}"),
        }
    }
}

impl Browser {
    /// A browser without cookies.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(gateway: SocketAddr) -> Result<Browser, DemoError> {
        let origin = format!("http://{gateway}");
        Ok(Browser { client: http_client()?, origin, cookies: BTreeMap::new() })
    }

    /// A browser whose only cookie is this access token.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn with_access_token(gateway: SocketAddr, token: Secret) -> Result<Browser, DemoError> {
        let mut browser = Browser::new(gateway)?;
        browser.cookies.insert(ACCESS_COOKIE.into(), token);
        Ok(browser)
    }

    /// A page's fetch.
    pub async fn get(&mut self, path: &str) -> Reply {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.client.get(format!("{}{path}", self.origin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    /// A person opens a page.
    pub async fn navigate(&mut self, path: &str) -> Reply {
        let headers = [("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html")];
        self.get_with(path, &headers).await
    }

    pub async fn log_in(&mut self, user: &str, password: &str) -> Reply {
        let form = [("user", user), ("password", password), ("return_to", "/app/")];
        let request = self.client.post(format!("{}/auth/login", self.origin)).form(&form);
        let request = request.header(header::ORIGIN, &self.origin);
        self.send(request).await
    }

    pub async fn log_out(&mut self) -> Reply {
        let request = self.client.post(format!("{}/auth/logout", self.origin));
        let request = request.header(header::ORIGIN, &self.origin);
        self.send(request).await
    }

    pub fn access_token(&self) -> Option<&Secret> {
        self.cookies.get(ACCESS_COOKIE)
    }

    /// Whether the browser holds the gateway's two cookies and none of the backend's.
    pub fn keeps_only_gateway_cookies(&self) -> bool {
        self.cookies.keys().eq([ACCESS_COOKIE, REFRESH_COOKIE])
    }

    /// `exp` of the access token, in seconds since 1970.
    pub fn expires_at(&self) -> Option<u64> {
        self.token_part(1)?.get("exp")?.as_u64()
    }

    /// `kid` of the access token.
    pub fn key_id(&self) -> Option<String> {
        Some(self.token_part(0)?.get("kid")?.as_str()?.to_owned())
    }

    fn token_part(&self, index: usize) -> Option<Value> {
        let part = self.access_token()?.expose().split('.').nth(index)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    }

    async fn send(&mut self, request: RequestBuilder) -> Reply {
        let pairs = self.cookies.iter().map(|(name, value)| format!("{name}={}", value.expose()));
        let cookie = pairs.collect::<Vec<_>>().join("; ");
        let request =
            if cookie.is_empty() { request } else { request.header(header::COOKIE, cookie) };
        match request.send().await {
            Ok(response) => self.receive(response).await,
            Err(_) => Reply::default(),
        }
    }

    async fn receive(&mut self, response: Response) -> Reply {
        let text = |headers: &HeaderMap, name| {
            headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let headers = response.headers();
        let mut reply = Reply {
            status: response.status().as_u16(),
            location: text(headers, header::LOCATION).unwrap_or_default(),
            retry_after: text(headers, header::RETRY_AFTER),
            ..Reply::default()
        };
        for line in headers.get_all(header::SET_COOKIE) {
            let set = line.to_str().ok().and_then(|line| self.keep(line));
            reply.new_cookies |= set.as_deref() == Some(ACCESS_COOKIE);
        }
        reply.body = response.text().await.unwrap_or_default();
        reply.reason = reason(&reply.body);
        reply
    }

    /// Keeps or forgets a cookie; returns the name of one that was kept.
    fn keep(&mut self, line: &str) -> Option<String> {
        let mut parts = line.split(';');
        let (name, value) = parts.next()?.trim().split_once('=')?;
        if parts.any(|attribute| attribute.trim().eq_ignore_ascii_case("max-age=0")) {
            self.cookies.remove(name);
            return None;
        }
        self.cookies.insert(name.to_owned(), Secret::new(value));
        Some(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn browser() -> Browser {
        Browser::new(SocketAddr::from(([127, 0, 0, 1], 1))).unwrap()
    }

    #[test]
    fn cookies_are_kept_replaced_and_forgotten() {
        let mut browser = browser();
        browser.keep("evergate_access=a; Path=/; HttpOnly");
        browser.keep("evergate_refresh=b=c; Max-Age=60");
        browser.keep("evergate_access=d; Path=/");
        assert!(browser.keeps_only_gateway_cookies());
        assert_eq!(browser.access_token(), Some(&Secret::new("d")));

        assert_eq!(browser.keep("evergate_access=; Path=/; Max-Age=0"), None);
        assert_eq!(browser.access_token(), None);
    }

    #[test]
    fn the_reason_is_read_from_the_gateways_json() {
        let reason = reason(r#"{ "error": "forbidden", "reason": "missing_role" }"#);
        let reply = Reply { status: 403, reason, ..Reply::default() };
        assert_eq!(reply.to_string(), "403 missing_role");
    }

    #[tokio::test]
    async fn no_answer_is_a_reply_of_its_own() {
        assert_eq!(browser().get("/").await.to_string(), "no answer");
    }
}

//! The cookies of one browser.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

const ACCESS: &str = "__Host-access";
const REFRESH: &str = "__Host-refresh";

#[derive(Default)]
pub struct Jar {
    pub access: String,
    pub refresh: String,
}

/// One of the gateway's cookies, as a response sets it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Access,
    Refresh,
}

impl Jar {
    pub fn line(&self) -> String {
        format!("{ACCESS}={}; {REFRESH}={}", self.access, self.refresh)
    }

    pub fn refresh_line(&self) -> String {
        format!("{REFRESH}={}", self.refresh)
    }
}

/// Which of our cookies this is; `None`: another one.
pub fn kind(name: &str) -> Option<Kind> {
    match name {
        ACCESS => Some(Kind::Access),
        REFRESH => Some(Kind::Refresh),
        _ => None,
    }
}

/// Whose access token this is, by its own word.
pub fn subject(access: &str) -> Option<String> {
    let claims = access.split('.').nth(1)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    Some(claims["sub"].as_str()?.to_string())
}

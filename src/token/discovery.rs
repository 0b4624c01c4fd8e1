//! What an issuer's discovery document says (OpenID Connect Discovery 1.0 §3, §4).
//!
//! The document is fetched each time with the key set, and what it says is used as long as that set is.
//! A part that cannot be used is left out: nothing but its keys may keep an issuer's tokens from being
//! verified.

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::fetch::{self, Fetcher};
use super::json;
use super::source::LoadError;

/// Where an issuer is asked for what is no key; only what a secret may be sent to: https, or http on
/// loopback where the issuer itself is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// RFC 8414 §2.
    pub token_endpoint: Option<Url>,
    /// RFC 8414 §2.
    pub revocation_endpoint: Option<Url>,
}

/// The members that matter here.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
    /// Of any type: a broken one must not cost the keys.
    #[serde(default)]
    token_endpoint: Value,
    #[serde(default)]
    revocation_endpoint: Value,
}

/// The URL of the key set, and what else is said.
///
/// The document must be about the configured issuer, byte for byte (§4.3): else one tenant's document
/// could bring another tenant's keys.
///
/// # Errors
/// It cannot be had, or is about somebody else.
pub async fn discover(issuer: &str, fetcher: &Fetcher) -> Result<(String, Discovered), LoadError> {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    let document = format!("{base}/.well-known/openid-configuration");
    let body = fetcher.get(&document).await?;
    let read: Document = json::object(&body)
        .and_then(|members| serde_json::from_value(Value::Object(members)))
        .map_err(|error| LoadError::Discovery(document.clone(), error))?;
    if read.issuer != issuer {
        let expected = issuer.to_owned();
        return Err(LoadError::OtherIssuer { document, found: read.issuer, expected });
    }
    let discovered = Discovered {
        token_endpoint: endpoint(issuer, &read.token_endpoint),
        revocation_endpoint: endpoint(issuer, &read.revocation_endpoint),
    };
    Ok((read.jwks_uri, discovered))
}

/// A URL that secrets may be sent to. An issuer elsewhere has no business on this machine's loopback.
fn endpoint(issuer: &str, written: &Value) -> Option<Url> {
    let url = fetch::parsed(written.as_str()?).ok()?;
    let plain = url.scheme() == "https" || issuer.starts_with("http://");
    let nobody = url.username().is_empty() && url.password().is_none();
    (plain && nobody).then_some(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_sent_over_https_or_on_loopback_where_the_issuer_is() {
        let of = |issuer: &str, written: Value| endpoint(issuer, &written).map(String::from);
        let (far, near) = ("https://id.example", "http://127.0.0.1:4000");
        for good in ["https://id.example/revoke", "https://other.example/r?x=1"] {
            assert_eq!(of(far, json!(good)).as_deref(), Some(good));
        }
        assert!(of(near, json!("http://127.0.0.1:4000/revoke")).is_some());
        for bad in [
            json!("http://id.example/revoke"),
            json!("http://127.0.0.1:4000/revoke"),
            json!("https://user:secret@id.example/revoke"),
            json!("https://user@id.example/revoke"),
            json!("/revoke"),
            json!("file:///etc/passwd"),
            json!(""),
            json!(null),
            json!(["https://id.example/revoke"]),
            json!(7),
        ] {
            assert_eq!(of(far, bad.clone()), None, "{bad}");
        }
        assert_eq!(of(near, json!("http://10.0.0.1/revoke")), None);
    }
}

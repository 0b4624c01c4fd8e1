//! The demo's own HTTP client: talks to this machine only, follows nothing, waits for nobody long.

use std::time::Duration;

use serde_json::Value;

use super::DemoError;

/// Longer than any answer of the demo takes: an expired request waits 5 s, the slow page 3 s.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A client that sees what was answered, not where it leads.
///
/// # Errors
/// The TLS library cannot be set up.
pub fn http_client() -> Result<reqwest::Client, DemoError> {
    // reqwest wants a provider even for plain http. An error means that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_MAX)
        .build()
        .map_err(DemoError::Client)
}

/// The gateway's word for why, from its small JSON; `None` if this is not one.
pub fn reason(body: &str) -> Option<String> {
    let json: Value = serde_json::from_str(body).ok()?;
    Some(json.get("reason")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_gateways_own_answers_have_a_reason() {
        assert_eq!(reason(r#"{ "reason": "expired" }"#).as_deref(), Some("expired"));
        for other in ["<h1>Welcome</h1>", "", "{}", r#"{ "reason": 1 }"#, "[\"reason\"]"] {
            assert_eq!(reason(other), None, "{other}");
        }
    }
}

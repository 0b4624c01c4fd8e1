//! Protocol `oauth2`: the refresh grant of RFC 6749 §6.

use reqwest::RequestBuilder;
use serde::Deserialize;

use super::outcome::Answer;
use super::settings::ClientAuth;
use crate::policy::secret::Secret;

/// Adds the grant and the client's credentials (RFC 6749 §2.3.1).
pub(super) fn grant(
    request: RequestBuilder,
    client_id: Option<&str>,
    client_auth: &ClientAuth,
    refresh: &Secret,
) -> RequestBuilder {
    let form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh.expose())];
    with_client(request, client_id, client_auth, form)
}

/// Asks for the refresh token to be revoked (RFC 7009 §2.1).
pub(super) fn revocation(
    request: RequestBuilder,
    client_id: Option<&str>,
    client_auth: &ClientAuth,
    refresh: &Secret,
) -> RequestBuilder {
    let form = vec![("token", refresh.expose()), ("token_type_hint", "refresh_token")];
    with_client(request, client_id, client_auth, form)
}

fn with_client<'a>(
    request: RequestBuilder,
    client_id: Option<&'a str>,
    client_auth: &'a ClientAuth,
    mut form: Vec<(&'static str, &'a str)>,
) -> RequestBuilder {
    let id = client_id.unwrap_or_default();
    match client_auth {
        ClientAuth::None => form.extend(client_id.map(|id| ("client_id", id))),
        ClientAuth::Post(secret) => {
            form.extend([("client_id", id), ("client_secret", secret.expose())]);
        }
        ClientAuth::Basic(secret) => {
            // Encoded before they are joined: a colon in either is not the one between them.
            return request
                .basic_auth(form_encode(id), Some(form_encode(secret.expose())))
                .form(&form);
        }
    }
    request.form(&form)
}

/// Reads a token response (RFC 6749 §5.1). `refresh_expires_in` is Keycloak's and others'.
pub(super) fn tokens(body: &[u8]) -> Option<Answer> {
    // A struct, not a map: a member that comes twice is an error, not "the last one wins".
    #[derive(Deserialize)]
    struct TokenResponse {
        access_token: String,
        refresh_token: Option<String>,
        // Loosely typed: a strange number of seconds must not cost the session its new token.
        refresh_expires_in: Option<serde_json::Value>,
    }
    let response: TokenResponse = serde_json::from_slice(body).ok()?;
    Some(Answer {
        access: Secret::new(response.access_token),
        refresh: response.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
        max_age_s: response.refresh_expires_in.as_ref().and_then(seconds),
    })
}

/// A life in seconds; 0 is what Keycloak says for "no end".
pub(super) fn seconds(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().filter(|seconds| *seconds > 0)
}

/// `application/x-www-form-urlencoded` (RFC 6749 appendix B).
fn form_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn client() -> reqwest::Client {
        // An error means that another test was first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        reqwest::Client::new()
    }

    #[test]
    fn basic_credentials_are_form_encoded_first() {
        let request = client().post("http://localhost/");
        let auth = ClientAuth::Basic(Secret::new("p%ss wörd"));
        let request = grant(request, Some("my app:1"), &auth, &Secret::new("R")).build().unwrap();
        let header = request.headers().get("authorization").unwrap();
        let decoded = STANDARD.decode(header.to_str().unwrap().strip_prefix("Basic ").unwrap());
        assert_eq!(decoded.unwrap(), b"my+app%3A1:p%25ss+w%C3%B6rd");
        assert!(header.is_sensitive());
        let body = request.body().unwrap().as_bytes().unwrap();
        assert_eq!(body, b"grant_type=refresh_token&refresh_token=R");
    }

    #[test]
    fn other_clients_name_themselves_in_the_body() {
        let sent = |id, auth| {
            let request = client().post("http://localhost/");
            let request = grant(request, id, &auth, &Secret::new("R&=")).build().unwrap();
            assert!(!request.headers().contains_key("authorization"));
            String::from_utf8(request.body().unwrap().as_bytes().unwrap().to_vec()).unwrap()
        };
        let grant = "grant_type=refresh_token&refresh_token=R%26%3D";
        assert_eq!(sent(None, ClientAuth::None), grant);
        assert_eq!(sent(Some("me"), ClientAuth::None), format!("{grant}&client_id=me"));
        let post = sent(Some("me"), ClientAuth::Post(Secret::new("s+t")));
        assert_eq!(post, format!("{grant}&client_id=me&client_secret=s%2Bt"));
    }

    #[test]
    fn a_token_response_is_read_whole() {
        let body = br#"{"access_token":"a","token_type":"Bearer","expires_in":60,
            "refresh_token":"r","refresh_expires_in":600,"scope":"x"}"#;
        let expected = Answer {
            access: Secret::new("a"),
            refresh: Some(Secret::new("r")),
            max_age_s: Some(600),
        };
        assert_eq!(tokens(body), Some(expected));
    }

    #[test]
    fn a_missing_empty_or_null_refresh_token_means_it_stays() {
        for extra in ["", r#","refresh_token":"""#, r#","refresh_token":null"#] {
            let body = format!(r#"{{"access_token":"a"{extra}}}"#);
            let expected = Answer { access: Secret::new("a"), refresh: None, max_age_s: None };
            assert_eq!(tokens(body.as_bytes()), Some(expected));
        }
    }

    #[test]
    fn a_strange_life_does_not_cost_the_token() {
        for strange in ["0", "-1", "\"600\"", "1e99", "null", "{}"] {
            let body = format!(r#"{{"access_token":"a","refresh_expires_in":{strange}}}"#);
            assert_eq!(tokens(body.as_bytes()).map(|answer| answer.max_age_s), Some(None));
        }
    }

    #[test]
    fn a_response_that_is_not_clear_brings_nothing() {
        let unclear: [&[u8]; 6] = [
            br#"{"access_token":"a","access_token":"b"}"#,
            br#"{"access_token":7}"#,
            br#"{"refresh_token":"r"}"#,
            br#"{"access_token":"a","refresh_token":7}"#,
            b"<html>",
            b"",
        ];
        for body in unclear {
            assert_eq!(tokens(body), None);
        }
    }
}

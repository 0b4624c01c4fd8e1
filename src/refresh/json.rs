//! Protocol `json`: JSON both ways, the fields named by JSON pointers (RFC 6901).

use serde_json::Value;

use super::oauth2::seconds;
use super::outcome::Answer;
use crate::policy::secret::Secret;

/// The body to send: `token` at `pointer`, in as many objects as that takes.
pub(super) fn body(pointer: &str, token: &Secret) -> Value {
    let leaf = Value::String(token.expose().to_owned());
    // `rsplit` ends with the empty text before the first slash, which names the document itself.
    pointer.rsplit('/').take(pointer.matches('/').count()).fold(leaf, |inner, step| {
        let name = step.replace("~1", "/").replace("~0", "~");
        Value::Object([(name, inner)].into_iter().collect())
    })
}

/// Reads the new tokens. A `refresh_expires_in` at the top is understood as in `oauth2`.
pub(super) fn tokens(body: &[u8], access: &str, refresh: &str) -> Option<Answer> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let refresh = match answer.pointer(refresh) {
        None | Some(Value::Null) => None,
        Some(token) => Some(token.as_str()?).filter(|token| !token.is_empty()),
    };
    Some(Answer {
        access: Secret::new(answer.pointer(access)?.as_str()?),
        refresh: refresh.map(Secret::new),
        max_age_s: answer.get("refresh_expires_in").and_then(seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_sent_where_the_pointer_says() {
        let token = Secret::new("R");
        assert_eq!(body("/refresh_token", &token).to_string(), r#"{"refresh_token":"R"}"#);
        assert_eq!(body("/a/b~1c/d~0e", &token).to_string(), r#"{"a":{"b/c":{"d~e":"R"}}}"#);
    }

    #[test]
    fn tokens_are_read_where_the_pointers_say() {
        let body = br#"{"data":{"tokens":["A","R"]},"refresh_expires_in":9}"#;
        let expected = Answer {
            access: Secret::new("A"),
            refresh: Some(Secret::new("R")),
            max_age_s: Some(9),
        };
        assert_eq!(tokens(body, "/data/tokens/0", "/data/tokens/1"), Some(expected));
    }

    #[test]
    fn an_absent_refresh_token_stays_and_a_wrong_type_is_refused() {
        let expected = Answer { access: Secret::new("A"), refresh: None, max_age_s: None };
        assert_eq!(tokens(br#"{"a":"A"}"#, "/a", "/r"), Some(expected.clone()));
        assert_eq!(tokens(br#"{"a":"A","r":null}"#, "/a", "/r"), Some(expected));
        assert_eq!(tokens(br#"{"a":"A","r":[]}"#, "/a", "/r"), None);
        assert_eq!(tokens(br#"{"a":1}"#, "/a", "/r"), None);
        assert_eq!(tokens(b"[]", "/a", "/r"), None);
    }
}

//! Other words for "the session is over", as an operator has listed them. Pure.
//!
//! 1. Matchers only turn failures into refusals. An answer that brings tokens is never one.
//! 2. All that a matcher names must hold; any one matcher is enough.
//! 3. A body that broke off, or is no JSON, matches no pointer.

use serde_json::Value;

use super::outcome::Reply;

/// One of `dead_when`: the status is one of these (any, if there are none) and each pointer leads
/// to one of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadWhen {
    pub status: Vec<u16>,
    /// JSON pointer (RFC 6901) to accepted values; numbers and booleans as JSON writes them.
    pub json: Vec<(String, Vec<String>)>,
}

/// Whether any matcher fits.
pub(super) fn says_dead(matchers: &[DeadWhen], reply: &Reply) -> bool {
    let body = || serde_json::from_slice::<Value>(reply.body.ok()?).ok();
    matchers.iter().any(|matcher| {
        let status = matcher.status.is_empty() || matcher.status.contains(&reply.status);
        status && (matcher.json.is_empty() || body().is_some_and(|body| holds(matcher, &body)))
    })
}

fn holds(matcher: &DeadWhen, body: &Value) -> bool {
    matcher.json.iter().all(|(pointer, accepted)| {
        let found = body.pointer(pointer).and_then(word);
        found.is_some_and(|found| accepted.contains(&found))
    })
}

/// A scalar as text. An object or a list is no word, and `null` is as good as absent.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refresh::events::Detail;

    fn matcher(status: &[u16], json: &[(&str, &[&str])]) -> DeadWhen {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        let json = json.iter().map(|(pointer, all)| ((*pointer).to_owned(), values(all)));
        DeadWhen { status: status.to_vec(), json: json.collect() }
    }

    fn dead(matchers: &[DeadWhen], status: u16, body: Result<&[u8], Detail>) -> bool {
        says_dead(matchers, &Reply { status, retry_after: None, set_cookies: Vec::new(), body })
    }

    #[test]
    fn a_status_alone_is_enough_whatever_the_body() {
        let matchers = [matcher(&[302, 410], &[])];
        assert!(dead(&matchers, 410, Ok(b"<html>")));
        assert!(dead(&matchers, 302, Err(Detail::new("body_cut_off"))));
        assert!(!dead(&matchers, 400, Ok(b"")));
        assert!(!dead(&[], 410, Ok(b"")));
    }

    #[test]
    fn all_of_one_matcher_must_hold_and_any_matcher_is_enough() {
        let both = matcher(&[400], &[("/error", &["a", "b"]), ("/data/code", &["7"])]);
        let matchers = [both, matcher(&[418], &[])];
        assert!(dead(&matchers, 400, Ok(br#"{"error":"b","data":{"code":7}}"#)));
        assert!(dead(&matchers, 418, Ok(b"")));
        assert!(!dead(&matchers, 401, Ok(br#"{"error":"b","data":{"code":7}}"#)));
        assert!(!dead(&matchers, 400, Ok(br#"{"error":"b","data":{"code":8}}"#)));
        assert!(!dead(&matchers, 400, Ok(br#"{"error":"c","data":{"code":7}}"#)));
        assert!(!dead(&matchers, 400, Ok(br#"{"error":"b"}"#)));
    }

    #[test]
    fn texts_numbers_and_booleans_match_and_nothing_else_does() {
        let matchers = [matcher(&[], &[("/ok", &["false", "0", "no", "null", "[]"])])];
        for word in ["false", "0", "\"no\"", "\"false\"", "\"null\""] {
            assert!(dead(&matchers, 200, Ok(format!(r#"{{"ok":{word}}}"#).as_bytes())), "{word}");
        }
        for word in ["true", "0.0", "null", "[]", "{}", "[\"no\"]"] {
            assert!(!dead(&matchers, 200, Ok(format!(r#"{{"ok":{word}}}"#).as_bytes())), "{word}");
        }
    }

    #[test]
    fn what_is_no_whole_json_matches_no_pointer() {
        let matchers = [matcher(&[], &[("/error", &["x"])])];
        assert!(!dead(&matchers, 400, Ok(br#"{"error":"x""#)));
        assert!(!dead(&matchers, 400, Ok(b"")));
        assert!(!dead(&matchers, 400, Err(Detail::new("body_cut_off"))));
        assert!(!dead(&matchers, 400, Ok("[".repeat(60_000).as_bytes())));
    }
}

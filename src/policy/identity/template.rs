//! `{claims.PATH}` and `{claims.PATH|join:SEP}`: parsed once, rendered for every request.
//!
//! Values leave as UTF-8; RFC 9110 §5.5 lets such bytes pass (`obs-text`), and names of people need
//! them. What could end a header, hide in one or be read as two values is refused instead.

use std::borrow::Cow;

use http::HeaderValue;
use serde_json::Value;

use super::{Part, Template};
use crate::policy::claims::{Verified, claim};
use crate::policy::reason::Reason;

/// Longer values are refused: many servers stop at 8 KiB for a header line.
const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Room for most values, so that writing one allocates once.
const VALUE_BYTES_USUAL: usize = 64;

/// What a claim's path leads to.
enum Resolved<'a> {
    Missing,
    One(Cow<'a, str>),
    List(Vec<Cow<'a, str>>),
}

impl Template {
    /// Parses `text {claims.PATH} text {claims.PATH|join:SEP}`.
    ///
    /// # Errors
    /// A sentence for the operator: what is wrong and what is expected.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            push_text(&mut parts, before)?;
            let (inside, tail) =
                after.split_once('}').ok_or_else(|| format!("`{text}`: `{{` without `}}`"))?;
            parts.push(parse_claim(inside)?);
            rest = tail;
        }
        push_text(&mut parts, rest)?;
        if parts.is_empty() {
            return Err("empty: expected text or `{claims.PATH}`".to_owned());
        }
        if text.trim() != text {
            return Err(format!("`{text}` begins or ends with space, which headers lose"));
        }
        Ok(Template { parts })
    }

    /// The header's value; `None` if a claim is missing or empty.
    ///
    /// # Errors
    /// `bad_identity`: control bytes, invisible characters, space at an end, a separator inside a
    /// list's element, a list of lists, or more than 8 KiB.
    pub fn render(&self, verified: &Verified) -> Result<Option<HeaderValue>, Reason> {
        let mut out = String::with_capacity(VALUE_BYTES_USUAL);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Claim { path, join } => {
                    if !write_claim(&mut out, path, join.as_deref(), verified)? {
                        return Ok(None);
                    }
                }
            }
        }
        if out.len() > VALUE_BYTES_MAX {
            return Err(Reason::BadIdentity);
        }
        HeaderValue::try_from(out).map(Some).map_err(|_| Reason::BadIdentity)
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), String> {
    if text.contains('}') {
        return Err(format!("`{text}`: `}}` without `{{`"));
    }
    if !text.chars().all(is_visible) {
        return Err(format!("{text:?} holds a character that headers cannot"));
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    Ok(())
}

fn parse_claim(inside: &str) -> Result<Part, String> {
    let expected = "expected `{claims.PATH}` or `{claims.PATH|join:SEPARATOR}`";
    let (path, filter) = match inside.split_once('|') {
        Some((path, filter)) => (path, Some(filter)),
        None => (inside, None),
    };
    let path = path
        .strip_prefix("claims.")
        .filter(|path| !path.is_empty() && path.trim() == *path && !path.contains('{'))
        .ok_or_else(|| format!("`{{{inside}}}`: {expected}"))?;
    let join = match filter {
        None => None,
        Some(filter) => {
            let separator = filter
                .strip_prefix("join:")
                .filter(|separator| !separator.is_empty() && separator.chars().all(is_visible))
                .ok_or_else(|| format!("`{{{inside}}}`: {expected}"))?;
            Some(separator.into())
        }
    };
    Ok(Part::Claim { path: path.into(), join })
}

/// Writes what a claim says; false if it is missing or empty.
fn write_claim(
    out: &mut String,
    path: &str,
    join: Option<&str>,
    verified: &Verified,
) -> Result<bool, Reason> {
    let (list, separator) = match (resolve(path, verified)?, join) {
        (Resolved::Missing, _) | (Resolved::List(_), None) => return Ok(false),
        (Resolved::One(text), None) => {
            out.push_str(clean(&text)?);
            return Ok(!text.is_empty());
        }
        // With a separator one value is a list of one: it must not look like two either.
        (Resolved::One(text), Some(separator)) => (vec![text], separator),
        (Resolved::List(list), Some(separator)) => (list, separator),
    };
    // Backends trim what they split.
    let inner = match separator.trim() {
        "" => separator,
        trimmed => trimmed,
    };
    // An empty element says nothing, and would read as a name that is empty.
    let kept = || list.iter().filter(|element| !element.is_empty());
    let start = out.len();
    for (index, element) in kept().enumerate() {
        if element.contains(inner) {
            return Err(Reason::BadIdentity);
        }
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(clean(element)?);
    }
    let joined = out.get(start..).unwrap_or_default();
    // `a-` and `b` joined by `--` would come apart elsewhere; joined by `-` they cannot.
    let comes_apart = || joined.split(inner).map(str::trim).eq(kept().map(AsRef::as_ref));
    match joined.is_empty() || inner.len() == 1 || comes_apart() {
        true => Ok(!joined.is_empty()),
        false => Err(Reason::BadIdentity),
    }
}

fn resolve<'a>(path: &str, verified: &'a Verified) -> Result<Resolved<'a>, Reason> {
    let one = |text: &'a Option<Box<str>>| match text {
        Some(text) => Resolved::One(Cow::Borrowed(text)),
        None => Resolved::Missing,
    };
    let list = |texts: &'a [Box<str>]| {
        Resolved::List(texts.iter().map(|text| Cow::Borrowed(&**text)).collect())
    };
    let identity = &verified.identity;
    Ok(match path {
        "user" => one(&identity.user),
        "email" => one(&identity.email),
        "roles" => list(&identity.roles),
        "scopes" => list(&identity.scopes),
        path => match claim(&verified.claims, path) {
            None | Some(Value::Null | Value::Object(_)) => Resolved::Missing,
            Some(Value::Array(values)) => {
                let texts: Option<Vec<_>> = values.iter().map(scalar).collect();
                Resolved::List(texts.ok_or(Reason::BadIdentity)?)
            }
            Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
                scalar(value).map_or(Resolved::Missing, Resolved::One)
            }
        },
    })
}

/// Strings as they are, numbers and booleans as JSON writes them.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn clean(text: &str) -> Result<&str, Reason> {
    // Most values are printable ASCII, which the compiler looks at 16 bytes at a time.
    let printable = text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
    let plain = printable && !text.starts_with(' ') && !text.ends_with(' ');
    match plain || (text.trim() == text && text.chars().all(is_visible)) {
        true => Ok(text),
        false => Err(Reason::BadIdentity),
    }
}

/// Neither a control character nor one that shows nothing or turns the text around. Joiners
/// (U+200C, U+200D) stay: names in Persian and Hindi are written with them.
fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::claims::{Identity, IssuerId};
    use crate::policy::time::UnixSeconds;
    use serde_json::json;

    fn verified(claims: Value) -> Verified {
        let Value::Object(claims) = claims else { panic!("an object") };
        let identity = Identity {
            user: Some("alice".into()),
            email: None,
            roles: vec!["staff".into(), "admin".into()],
            scopes: Vec::new(),
        };
        Verified {
            issuer: IssuerId(0),
            subject: "alice".into(),
            session_id: None,
            token_id: None,
            issued_at: None,
            expires_at: UnixSeconds(0),
            life_s: 0,
            refresh_at: UnixSeconds(0),
            identity,
            claims,
        }
    }

    fn render(template: &str, claims: Value) -> Result<Option<String>, Reason> {
        let rendered = Template::parse(template).unwrap().render(&verified(claims))?;
        Ok(rendered.map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap()))
    }

    fn value(text: &str) -> Result<Option<String>, Reason> {
        Ok(Some(text.to_owned()))
    }

    #[test]
    fn template_is_text_and_claims() {
        let claim = |path: &str, join: Option<&str>| Part::Claim {
            path: path.into(),
            join: join.map(Into::into),
        };
        let parsed = Template::parse("u={claims.user}; {claims.https://x.example/r|join:, }!");
        let parts = vec![
            Part::Text("u=".into()),
            claim("user", None),
            Part::Text("; ".into()),
            claim("https://x.example/r", Some(", ")),
            Part::Text("!".into()),
        ];
        assert_eq!(parsed, Ok(Template { parts }));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "a}b",
            "{}",
            "{claims}",
            "{claims.}",
            "{claims.a",
            "{claims.{a}}",
            "{user}",
            "{claims.a|upper}",
            "{claims.a|join:}",
            "{claims.a|join}",
            "{claims. a}",
            " {claims.a}",
            "{claims.a} ",
            "a\r\nb",
            "a\0",
            "{claims.a|join:\n}",
        ] {
            assert!(Template::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn mapped_claims_go_before_the_token_s_own() {
        let claims = json!({"user": "forged", "roles": ["root"]});
        assert_eq!(render("{claims.user}", claims.clone()), value("alice"));
        assert_eq!(render("<{claims.roles|join:,}>", claims), value("<staff,admin>"));
    }

    #[test]
    fn scalars_and_lists_are_written_as_json_writes_them() {
        let claims = json!({"n": 7, "b": true, "s": "Zoë", "org": {"ids": [1, "x", false]}});
        let all = "{claims.n} {claims.b} {claims.s} {claims.org.ids|join:, } {claims.n|join:,}";
        assert_eq!(render(all, claims), value("7 true Zoë 1, x, false 7"));
    }

    #[test]
    fn header_of_a_missing_claim_is_absent() {
        let claims = json!({"null": null, "object": {"a": 1}, "empty": "", "none": [], "list": ["a"],
            "blank": ["", ""]});
        for path in [
            "email",
            "nope",
            "object.b",
            "null",
            "object",
            "empty",
            "list",
            "scopes|join:,",
            "none|join:,",
            "blank|join:,",
            "empty|join:,",
        ] {
            let template = format!("x {{claims.{path}}} y");
            assert_eq!(render(&template, claims.clone()), Ok(None), "{path}");
        }
    }

    #[test]
    fn claim_that_could_be_read_in_two_ways_refuses_the_request() {
        let bad = [
            "a\r\nX-Admin: 1",
            "a\nb",
            "a\0b",
            "a\tb",
            "\u{7f}",
            " a",
            "a ",
            "\u{a0}a",
            "a\u{85}",
            "a\u{200b}",
            "a\u{202e}b",
            "\u{feff}a",
            "a\u{2028}b",
            "a\u{2066}b",
        ];
        for text in bad {
            let one = render("{claims.a}", json!({"a": text}));
            let list = render("{claims.a|join:,}", json!({"a": ["x", text]}));
            assert_eq!(
                (one, list),
                (Err(Reason::BadIdentity), Err(Reason::BadIdentity)),
                "{text:?}"
            );
        }
    }

    #[test]
    fn separator_never_stands_inside_an_element() {
        for (join, list) in [
            (",", json!(["a,b"])),
            (",", json!("a,b")),
            (", ", json!(["a,b", "c"])),
            (" ", json!(["a b"])),
            ("--", json!(["a-", "-b"])),
            ("--", json!(["a-", "b"])),
            (",", json!([["a"]])),
            (",", json!([{"a": 1}])),
            (",", json!(["a", null])),
        ] {
            let found = render(&format!("{{claims.a|join:{join}}}"), json!({ "a": list }));
            assert_eq!(found, Err(Reason::BadIdentity), "{join} {list}");
        }
        assert_eq!(render("{claims.a|join:,}", json!({"a": ["a b", "", "c"]})), value("a b,c"));
    }

    #[test]
    fn value_is_bounded() {
        let long = |bytes| render("{claims.a}", json!({"a": "x".repeat(bytes)}));
        assert!(long(VALUE_BYTES_MAX).is_ok());
        assert_eq!(long(VALUE_BYTES_MAX + 1), Err(Reason::BadIdentity));
    }

    #[test]
    fn joiners_of_names_pass() {
        assert_eq!(render("{claims.a}", json!({"a": "می\u{200c}خواهم"})), value("می\u{200c}خواهم"));
    }
}

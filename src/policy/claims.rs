//! What a verified token says, and whether that is enough.
//!
//! 1. All lists of a requirement must hold; within a list any value does.
//! 2. A claim that is missing, null or of a type that has no text meets nothing.
//! 3. Values are compared as text, byte for byte: no patterns, no case folding.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::reason::Reason;
use super::time::UnixSeconds;

/// Index of an issuer in the gateway's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerId(pub u16);

/// A token whose signature, issuer, audience, type and times were checked.
///
/// Made only by [`crate::token`] (and by tests). It says who; it never says "may".
#[derive(Debug)]
pub struct Verified {
    pub issuer: IssuerId,
    /// `sub` (RFC 7519 §4.1.2).
    pub subject: Box<str>,
    /// `sid`, if the token has one.
    pub session_id: Option<Box<str>>,
    /// `jti` (RFC 7519 §4.1.7), if the token has one.
    pub token_id: Option<Box<str>>,
    /// `iat` (RFC 7519 §4.1.6), if the token has one.
    pub issued_at: Option<UnixSeconds>,
    /// `exp` (RFC 7519 §4.1.4).
    pub expires_at: UnixSeconds,
    /// `exp - iat`, or `exp` less the time the token was first seen.
    pub life_s: u64,
    /// From here on the token is in its refresh window; equal to `expires_at` where nothing is
    /// refreshed.
    pub refresh_at: UnixSeconds,
    pub identity: Identity,
    pub claims: Map<String, Value>,
}

/// The claims that the gateway itself understands, by the issuer's `claims` mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: Option<Box<str>>,
    pub email: Option<Box<str>>,
    pub roles: Vec<Box<str>>,
    pub scopes: Vec<Box<str>>,
}

/// All lists must hold; within a list any value does. An empty list asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    pub roles: Vec<Box<str>>,
    pub scopes: Vec<Box<str>>,
    /// Dotted claim path -> accepted values.
    pub claims: BTreeMap<Box<str>, Vec<Box<str>>>,
}

impl Requirement {
    /// Does this token meet the requirement?
    ///
    /// # Errors
    /// `missing_role`, `missing_scope` or `missing_value`: the first that is not met.
    pub fn check(&self, verified: &Verified) -> Result<(), Reason> {
        let meets = |wanted: &[Box<str>], held: &[Box<str>]| {
            wanted.is_empty() || wanted.iter().any(|value| held.contains(value))
        };
        if !meets(&self.roles, &verified.identity.roles) {
            return Err(Reason::MissingRole);
        }
        if !meets(&self.scopes, &verified.identity.scopes) {
            return Err(Reason::MissingScope);
        }
        for (path, accepted) in &self.claims {
            let held = claim(&verified.claims, path);
            let met = held.is_some_and(|held| accepted.iter().any(|value| equals(held, value)));
            if !accepted.is_empty() && !met {
                return Err(Reason::MissingValue);
            }
        }
        Ok(())
    }
}

/// The claim at a dotted path; null counts as missing.
///
/// A key that holds the dots itself wins, the longest first: `https://example.com/roles` is one key.
pub fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return (!value.is_null()).then_some(value);
    }
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let inner = claims.get(path.get(..dot)?)?.as_object()?;
        claim(inner, path.get(dot + 1..)?)
    })
}

/// Numbers and booleans are compared by their JSON text; of a list any element counts.
fn equals(held: &Value, wanted: &str) -> bool {
    match held {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(flag) => wanted == if *flag { "true" } else { "false" },
        Value::Array(elements) => {
            elements.iter().any(|element| !element.is_array() && equals(element, wanted))
        }
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("an object") };
        map
    }

    fn verified(roles: &[&str], scopes: &[&str], claims: Value) -> Verified {
        let list = |values: &[&str]| values.iter().map(|value| Box::from(*value)).collect();
        Verified {
            issuer: IssuerId(0),
            subject: "alice".into(),
            session_id: None,
            token_id: None,
            issued_at: None,
            expires_at: UnixSeconds(0),
            life_s: 0,
            refresh_at: UnixSeconds(0),
            identity: Identity { roles: list(roles), scopes: list(scopes), ..Identity::default() },
            claims: object(claims),
        }
    }

    fn require(roles: &[&str], scopes: &[&str], claims: &[(&str, &[&str])]) -> Requirement {
        let list = |values: &[&str]| values.iter().map(|value| Box::from(*value)).collect();
        let claims = claims.iter().map(|(path, values)| (Box::from(*path), list(values)));
        Requirement { roles: list(roles), scopes: list(scopes), claims: claims.collect() }
    }

    #[test]
    fn any_value_within_a_list_and_all_lists() {
        let asked = require(&["admin", "root"], &["read"], &[("dept", &["it", "hr"])]);
        let claims = json!({"dept": "hr"});
        let check = |roles: &[&str], scopes: &[&str], claims: &Value| {
            asked.check(&verified(roles, scopes, claims.clone()))
        };
        assert_eq!(check(&["staff", "root"], &["read"], &claims), Ok(()));
        assert_eq!(check(&["staff"], &["read"], &claims), Err(Reason::MissingRole));
        assert_eq!(check(&[], &[], &claims), Err(Reason::MissingRole));
        assert_eq!(check(&["admin"], &["reads"], &claims), Err(Reason::MissingScope));
        assert_eq!(check(&["admin"], &["read"], &json!({"dept": "x"})), Err(Reason::MissingValue));
    }

    #[test]
    fn empty_requirement_is_met_by_anyone() {
        let nothing = require(&[], &[], &[("dept", &[])]);
        assert_eq!(nothing.check(&verified(&[], &[], json!({}))), Ok(()));
    }

    #[test]
    fn every_claim_must_hold() {
        let asked = require(&[], &[], &[("a", &["1"]), ("b", &["2"])]);
        let found = asked.check(&verified(&[], &[], json!({"a": 1})));
        assert_eq!(found, Err(Reason::MissingValue));
        assert_eq!(asked.check(&verified(&[], &[], json!({"a": 1, "b": ["2"]}))), Ok(()));
    }

    #[test]
    fn values_are_compared_by_their_json_text() {
        let meets = |held: Value, wanted: &str| equals(&held, wanted);
        assert!(meets(json!("a"), "a") && !meets(json!("A"), "a") && !meets(json!("a "), "a"));
        assert!(meets(json!(7), "7") && !meets(json!(7), "7.0") && meets(json!(1.5), "1.5"));
        assert!(meets(json!(true), "true") && !meets(json!(true), "1"));
        assert!(meets(json!(["x", 7]), "7") && !meets(json!([["a"]]), "a"));
        assert!(!meets(json!(null), "null") && !meets(json!({"a": "a"}), "a"));
        assert!(!meets(json!([]), "") && meets(json!(""), ""));
    }

    #[test]
    fn path_is_followed_and_literal_keys_win() {
        let claims = object(json!({
            "realm_access": {"roles": ["a"]},
            "resource": {"my.app": {"roles": ["b"]}},
            "https://example.com/roles": ["c"],
            "https://example.com/app": {"level": 3},
            "x.y": "literal",
            "x": {"y": "nested", "z": null},
        }));
        let found = |path| claim(&claims, path).cloned();
        assert_eq!(found("realm_access.roles"), Some(json!(["a"])));
        assert_eq!(found("resource.my.app.roles"), Some(json!(["b"])));
        assert_eq!(found("https://example.com/roles"), Some(json!(["c"])));
        assert_eq!(found("https://example.com/app.level"), Some(json!(3)));
        assert_eq!(found("x.y"), Some(json!("literal")));
        for path in ["", ".", "x.", ".x", "x.z", "x.y.z", "realm_access.roles.0", "nope"] {
            assert_eq!(found(path), None, "{path}");
        }
    }
}

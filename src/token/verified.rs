//! What the rest of the gateway gets to see of a good token.

use serde_json::Value;

use super::claims::Registered;
use super::json::Object;
use super::{ClaimPaths, IssuerSettings};
use crate::policy::claims::{Identity, IssuerId, Verified, claim};
use crate::policy::time::UnixSeconds;

/// Makes the verified token; `hash` is the token's own, `now` the time it was first seen.
pub fn verified(
    issuer: IssuerId,
    settings: &IssuerSettings,
    registered: Registered,
    claims: Object,
    hash: &[u8; 32],
    now: UnixSeconds,
) -> Verified {
    let Registered { subject, session_id, token_id, expires_at, issued_at } = registered;
    let life_s = expires_at.since(issued_at.unwrap_or(now));
    let window_s = settings.window.map_or(0, |window| window.as_secs()).min(life_s / 2);
    Verified {
        issuer,
        subject,
        session_id,
        token_id,
        issued_at,
        expires_at,
        life_s,
        refresh_at: refresh_at(expires_at, window_s, hash),
        identity: identity(&settings.claims, &claims),
        claims,
    }
}

/// 70 to 100 % of the window before the end. The share follows from the token's hash: everyone who
/// sees one token agrees, and tokens issued in the same second are not refreshed in the same one.
fn refresh_at(expires_at: UnixSeconds, window_s: u64, hash: &[u8; 32]) -> UnixSeconds {
    let [first, second, ..] = *hash;
    let share = 700 + u64::from(u16::from_be_bytes([first, second])) % 301;
    UnixSeconds(expires_at.0.saturating_sub(window_s.saturating_mul(share) / 1000))
}

fn identity(paths: &ClaimPaths, claims: &Object) -> Identity {
    let first = |paths: &[Box<str>]| paths.iter().find_map(|path| claim(claims, path));
    Identity {
        user: first(&paths.user).and_then(text),
        email: first(&paths.email).and_then(text),
        roles: first(&paths.roles).map(roles).unwrap_or_default(),
        scopes: first(&paths.scopes).map(scopes).unwrap_or_default(),
    }
}

/// Whole numbers are common as user ids, and have one spelling.
fn text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) if number.is_u64() || number.is_i64() => {
            Some(number.to_string().into())
        }
        _ => None,
    }
}

/// A list, or one role. A list with anything but strings in it grants nothing: guessing what was
/// meant could only grant too much.
fn roles(value: &Value) -> Vec<Box<str>> {
    match value {
        Value::String(role) if !role.is_empty() => vec![role.as_str().into()],
        Value::Array(_) => strings(value),
        _ => Vec::new(),
    }
}

/// A list, or one string with spaces between (RFC 8693 §4.2, RFC 9068 §2.2.3).
fn scopes(value: &Value) -> Vec<Box<str>> {
    match value {
        Value::String(scopes) => {
            scopes.split(' ').filter(|s| !s.is_empty()).map(Into::into).collect()
        }
        Value::Array(_) => strings(value),
        _ => Vec::new(),
    }
}

fn strings(list: &Value) -> Vec<Box<str>> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .map(|item| item.as_str().map(Into::into))
        .collect::<Option<_>>()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::token::testing::settings;
    use std::time::Duration;

    fn identity_of(claims: Value) -> Identity {
        identity(&settings().claims, claims.as_object().unwrap())
    }

    #[test]
    fn the_first_path_that_is_present_wins() {
        let both = identity_of(json!({"sub": "alice", "roles": ["a"], "groups": ["b"]}));
        let second = identity_of(json!({"sub": "alice", "roles": null, "groups": ["b"]}));
        let wrong = identity_of(json!({"sub": "alice", "roles": 7, "groups": ["b"]}));

        assert_eq!(both.roles, [Box::from("a")]);
        assert_eq!(second.roles, [Box::from("b")]);
        assert!(wrong.roles.is_empty());
    }

    #[test]
    fn claims_become_an_identity() {
        let read = identity_of(json!({
            "sub": "alice", "email": "a@example.com", "roles": "admin", "scope": "read  write ",
        }));

        let expected = Identity {
            user: Some("alice".into()),
            email: Some("a@example.com".into()),
            roles: vec!["admin".into()],
            scopes: vec!["read".into(), "write".into()],
        };
        assert_eq!(read, expected);
        assert_eq!(
            identity_of(json!({"sub": 42, "email": "", "scp": ["a", "b c"]})),
            Identity {
                user: Some("42".into()),
                scopes: vec!["a".into(), "b c".into()],
                ..Identity::default()
            }
        );
    }

    #[test]
    fn a_list_with_anything_but_strings_grants_nothing() {
        let read = identity_of(json!({"roles": ["admin", 1], "scope": ["read", null]}));

        assert_eq!(read, Identity::default());
    }

    #[test]
    fn the_window_is_capped_at_half_the_life_and_spread_over_the_last_third() {
        let made = |exp: u64, iat: Option<u64>, window: Option<u64>, hash: u8| {
            let settings = IssuerSettings { window: window.map(Duration::from_secs), ..settings() };
            let registered = Registered {
                subject: "a".into(),
                session_id: None,
                token_id: None,
                expires_at: UnixSeconds(exp),
                issued_at: iat.map(UnixSeconds),
            };
            let now = UnixSeconds(1_000);
            let made =
                verified(IssuerId(0), &settings, registered, Object::new(), &[hash; 32], now);
            (made.life_s, made.refresh_at.0)
        };

        assert_eq!(made(2_000, Some(1_000), None, 0), (1_000, 2_000));
        assert_eq!(made(2_000, Some(1_000), Some(100), 0), (1_000, 1_930));
        // 0x5858 = 22616 = 75 * 301 + 41: 741 parts in a thousand.
        assert_eq!(made(2_000, Some(1_000), Some(100), 0x58), (1_000, 1_926));
        assert_eq!(made(1_020, Some(1_000), Some(90), 0), (20, 1_013));
        assert_eq!(made(1_020, None, Some(90), 0), (20, 1_013));
        assert_eq!(made(900, None, Some(90), 0), (0, 900));
        let spread = (0..=255).map(|hash| 2_000 - made(2_000, Some(1_000), Some(100), hash).1);
        assert!(spread.clone().all(|before| (70..=100).contains(&before)));
        assert!(spread.collect::<std::collections::BTreeSet<_>>().len() > 25);
    }
}

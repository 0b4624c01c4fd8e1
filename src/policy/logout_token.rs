//! What a logout token says, and whether it is one (OpenID Connect Back-Channel Logout 1.0 §2.4, §2.6).
//!
//! 1. Every claim that must be there is there and of its type; what must not be there is not.
//! 2. It is for this client: one of the accepted audiences is in `aud`.
//! 3. It is young. Old ones are refused, so that ids have to be remembered for minutes only.
//!
//! A signature says nothing here; [`crate::token`] has checked it before.

use std::time::Duration;

use serde_json::{Map, Value};

use super::return_to::unescaped;
use super::time::{UnixSeconds, numeric_date};

/// The member of `events` that makes a token one of logout.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// The form field that it comes in.
const FIELD: &str = "logout_token";
/// How old a logout token may be; providers give them two minutes.
pub const AGE_MAX: Duration = Duration::from_secs(300);
/// Longest `jti`, `sid` and `sub`, as in an access token.
const NAME_BYTES_MAX: usize = 1_024;

/// Accepted `typ` headers, lower-cased, without `application/`; one that is absent counts as JWT.
///
/// The specification recommends `logout+jwt`; older providers send `JWT` or nothing, which is safe because
/// `events` has to be there and `nonce` must not. Any other says that it is something else: an access
/// token (`at+jwt`) is never a logout token, whatever claims somebody can have put into it.
pub const TYPES: [&str; 2] = ["logout+jwt", "jwt"];

/// What a logout token must match.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub issuer: &'a str,
    /// At least one of these must be in `aud`.
    pub audience: &'a [String],
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// A logout token that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    /// `jti`.
    pub id: Box<str>,
    pub subject: Whom,
    /// `iat`.
    pub issued_at: UnixSeconds,
    /// From then on it would be refused anyway.
    pub good_until: UnixSeconds,
}

/// Whose sessions end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// This session (`sid`); `person`: whose it is (`sub`), if that was said.
    Session { id: Box<str>, person: Option<Box<str>> },
    /// All of this person (`sub`).
    Person(Box<str>),
}

/// Does `events` say that this is a logout token?
pub fn is_one(claims: &Map<String, Value>) -> bool {
    claims.get("events").and_then(Value::as_object).is_some_and(|events| events.contains_key(EVENT))
}

/// The token in a form. Other fields are nobody's concern (§2.5).
///
/// # Errors
/// What is wrong with the form, as a sentence.
pub fn in_form(body: &[u8]) -> Result<String, &'static str> {
    const BROKEN: &str = "the body is not a form";
    let body = std::str::from_utf8(body).map_err(|_| BROKEN)?;
    let mut found = None;
    for field in body.split('&') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        if unescaped(name).ok_or(BROKEN)? == FIELD {
            let value = unescaped(value).ok_or(BROKEN)?;
            if found.replace(value).is_some() {
                return Err("logout_token came twice");
            }
        }
    }
    found.filter(|token| !token.is_empty()).ok_or("logout_token is missing")
}

/// Judges the claims of a token whose signature holds.
///
/// # Errors
/// The first that does not hold, as a sentence that quotes nothing.
pub fn judge(
    claims: &Map<String, Value>,
    expected: &Expected<'_>,
    now: UnixSeconds,
) -> Result<LogoutToken, &'static str> {
    if claims.get("iss").and_then(Value::as_str) != Some(expected.issuer) {
        return Err("iss is not the issuer");
    }
    audience(claims.get("aud"), expected.audience)?;
    let event = claims.get("events").and_then(Value::as_object).and_then(|all| all.get(EVENT));
    if !event.ok_or("events has no logout event")?.is_object() {
        return Err("the logout event is not an object");
    }
    // What tells it from an ID token (§2.4): even a `null` is one too many.
    if claims.contains_key("nonce") {
        return Err("nonce must not be there");
    }
    let id =
        name(claims, "jti", "jti is not a string of 1 to 1024 bytes")?.ok_or("jti is missing")?;
    let (issued_at, good_until) = times(claims, expected.leeway, now)?;
    let session = name(claims, "sid", "sid is not a string of 1 to 1024 bytes")?;
    let person = name(claims, "sub", "sub is not a string of 1 to 1024 bytes")?;
    let subject = match (session, person) {
        (Some(id), person) => Whom::Session { id, person },
        (None, Some(person)) => Whom::Person(person),
        (None, None) => return Err("neither sub nor sid"),
    };
    Ok(LogoutToken { id, subject, issued_at, good_until })
}

/// `iat`, and until when the token is accepted.
fn times(
    claims: &Map<String, Value>,
    leeway: Duration,
    now: UnixSeconds,
) -> Result<(UnixSeconds, UnixSeconds), &'static str> {
    let time = |name: &str, otherwise| match claims.get(name) {
        None => Ok(None),
        Some(value) => numeric_date(value).map(Some).ok_or(otherwise),
    };
    let issued_at = time("iat", "iat is not a number")?.ok_or("iat is missing")?;
    let expires_at = time("exp", "exp is not a number")?.ok_or("exp is missing")?;
    let leeway = leeway.as_secs();
    let latest = now.plus(leeway);
    if issued_at > latest {
        return Err("iat lies ahead");
    }
    if time("nbf", "nbf is not a number")?.is_some_and(|not_before| not_before > latest) {
        return Err("nbf lies ahead");
    }
    if expires_at.plus(leeway) <= now {
        return Err("exp has passed");
    }
    let too_old = issued_at.plus(AGE_MAX.as_secs() + leeway);
    if too_old <= now {
        return Err("iat is too long ago");
    }
    Ok((issued_at, too_old.min(expires_at.plus(leeway))))
}

fn audience(named: Option<&Value>, accepted: &[String]) -> Result<(), &'static str> {
    const MALFORMED: &str = "aud is neither a string nor a list of strings";
    let named = match named.ok_or("aud is missing")? {
        Value::String(one) => vec![one.as_str()],
        Value::Array(many) => {
            many.iter().map(|one| one.as_str().ok_or(MALFORMED)).collect::<Result<Vec<_>, _>>()?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            return Err(MALFORMED);
        }
    };
    if named.iter().any(|audience| accepted.iter().any(|accepted| accepted == audience)) {
        Ok(())
    } else {
        Err("aud names no client of this gateway")
    }
}

fn name(
    claims: &Map<String, Value>,
    name: &str,
    otherwise: &'static str,
) -> Result<Option<Box<str>>, &'static str> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if (1..=NAME_BYTES_MAX).contains(&text.len()) => {
            Ok(Some(text.as_str().into()))
        }
        Some(_) => Err(otherwise),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    /// `"absent"` stands for a member that is not there.
    fn judged(change: &Value) -> Result<LogoutToken, &'static str> {
        let mut claims = json!({
            "iss": "https://id.example", "aud": "app", "sub": "alice", "sid": "s-1", "jti": "l-1",
            "iat": NOW.0 - 10, "exp": NOW.0 + 110, "events": { EVENT: {} },
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let claims = claims.as_object().unwrap().iter().filter(|(_, value)| *value != "absent");
        let claims = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
        let audience = ["app".to_owned(), "client".to_owned()];
        let leeway = Duration::from_secs(30);
        let expected = Expected { issuer: "https://id.example", audience: &audience, leeway };
        judge(&claims, &expected, NOW)
    }

    #[test]
    fn who_is_meant_is_a_session_a_persons_session_or_a_person() {
        let subject = |change: Value| judged(&change).map(|token| token.subject);
        let session = |person: Option<&str>| Whom::Session {
            id: "s-1".into(),
            person: person.map(Into::into),
        };
        assert_eq!(subject(json!({})), Ok(session(Some("alice"))));
        assert_eq!(subject(json!({"sub": "absent"})), Ok(session(None)));
        assert_eq!(subject(json!({"sid": "absent"})), Ok(Whom::Person("alice".into())));
        assert_eq!(subject(json!({"sid": "absent", "sub": "absent"})), Err("neither sub nor sid"));
    }

    #[test]
    fn it_is_good_until_the_earlier_of_its_two_ends() {
        let until = |change: Value| judged(&change).map(|token| token.good_until.0 - NOW.0);
        assert_eq!(until(json!({})), Ok(140));
        assert_eq!(until(json!({"exp": NOW.0 + 9_999})), Ok(320));
        assert_eq!(until(json!({"exp": NOW.0 - 29})), Ok(1));
        assert_eq!(until(json!({"exp": NOW.0 - 30})), Err("exp has passed"));
        assert_eq!(until(json!({"iat": NOW.0 - 329, "exp": NOW.0 + 110})), Ok(1));
        assert_eq!(until(json!({"iat": NOW.0 - 330})), Err("iat is too long ago"));
        assert!(until(json!({"iat": NOW.0 + 30, "exp": 1e300})).is_ok());
        assert_eq!(until(json!({"iat": NOW.0 + 31})), Err("iat lies ahead"));
        assert_eq!(until(json!({"nbf": NOW.0 + 31})), Err("nbf lies ahead"));
    }

    #[test]
    fn a_form_has_the_token_once_whatever_else_it_has() {
        let token = |body: &str| in_form(body.as_bytes());
        for good in ["logout_token=a.b.c", "x=1&logout%5Ftoken=a%2Eb.c&&y", "logout_token=a.b.c&"] {
            assert_eq!(token(good), Ok("a.b.c".to_owned()), "{good}");
        }
        for bad in ["", "logout_token", "logout_token=", "token=a", "logout_token=%", "x=%zz"] {
            assert!(token(bad).is_err(), "{bad}");
        }
        assert_eq!(token("logout_token=a&logout_token=a"), Err("logout_token came twice"));
        assert!(in_form(b"logout_token=\xff").is_err());
    }

    #[test]
    fn an_access_token_with_other_events_is_no_logout_token() {
        let is = |claims: Value| is_one(claims.as_object().unwrap());
        assert!(is(json!({"events": {EVENT: {}}})) && is(json!({"events": {EVENT: null}})));
        assert!(
            !is(json!({"events": [EVENT]})) && !is(json!({"events": {"x": 1}})) && !is(json!({}))
        );
    }
}

//! The registered claims (RFC 7519 §4.1), judged after the signature held.
//!
//! 1. `iss`, `aud`, `sub`, `exp` must be there and of the right type: "absent" and "did not parse"
//!    are never the branch "fine".
//! 2. `exp` has no leeway: a token is expired from the second that `exp` names. It is judged last and
//!    by the caller, because an otherwise good expired token is still worth a refresh.
//! 3. `nbf` and `iat` are optional and have the configured leeway.
//! 4. Every time is capped to the year 9999 and floored to whole seconds before anything is counted.

use serde_json::Value;

use super::IssuerSettings;
use super::json::Object;
use super::refused::Refused;
use crate::policy::logout_token;
use crate::policy::reason::Reason;
use crate::policy::time::{UnixSeconds, numeric_date};

/// Longest `sub`, `sid` and `jti`: they end in headers and logs.
const SUBJECT_BYTES_MAX: usize = 1_024;

/// The registered claims of a token that is good but for `exp`.
#[derive(Debug, PartialEq, Eq)]
pub struct Registered {
    pub subject: Box<str>,
    pub session_id: Option<Box<str>>,
    pub token_id: Option<Box<str>>,
    pub expires_at: UnixSeconds,
    pub issued_at: Option<UnixSeconds>,
}

/// `iss`, for choosing the issuer (RFC 7519 §4.1.1). An array is refused: one token, one issuer.
///
/// # Errors
/// `missing_claim`, or `malformed_token` if it is not a string.
pub fn issuer(claims: &Object) -> Result<&str, Refused> {
    match claims.get("iss") {
        Some(Value::String(iss)) => Ok(iss),
        Some(_) => Err(Refused::malformed("iss is not a string")),
        None => Err(Refused::missing("iss is missing")),
    }
}

/// Is one of `accepted` among `aud` (RFC 7519 §4.1.3)?
///
/// # Errors
/// `missing_claim`, `malformed_token` if it is neither a string nor an array of strings, or
/// `wrong_audience`.
pub fn audience(claims: &Object, accepted: &[String]) -> Result<(), Refused> {
    const MALFORMED: Refused = Refused::malformed("aud is neither a string nor a list of strings");
    let named = match claims.get("aud") {
        None => return Err(Refused::missing("aud is missing")),
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(many)) => {
            many.iter().map(|one| one.as_str().ok_or(MALFORMED)).collect::<Result<Vec<_>, _>>()?
        }
        Some(_) => return Err(MALFORMED),
    };
    if named.iter().any(|audience| accepted.iter().any(|accepted| accepted == audience)) {
        Ok(())
    } else {
        Err(Refused::because(Reason::WrongAudience, "no configured audience is in aud"))
    }
}

/// Judges everything but `exp`.
///
/// # Errors
/// The first claim that does not hold.
pub fn registered(
    claims: &Object,
    settings: &IssuerSettings,
    now: UnixSeconds,
) -> Result<Registered, Refused> {
    if issuer(claims)? != settings.url {
        return Err(Refused::because(Reason::WrongIssuer, "iss is not the issuer's url"));
    }
    // Where the API's audience is the client's id, it has all that an access token has (RFC 8725 §3.12).
    if logout_token::is_one(claims) {
        return Err(Refused::because(Reason::WrongType, "events says that it is a logout token"));
    }
    audience(claims, &settings.audience)?;
    let Some(expires_at) = time(claims, "exp", "exp is not a number")? else {
        return Err(Refused::missing("exp is missing"));
    };
    let subject = name(claims, "sub", "sub is not a string of 1 to 1024 bytes")?
        .ok_or(Refused::missing("sub is missing"))?;
    let latest = now.plus(settings.leeway.as_secs());
    if time(claims, "nbf", "nbf is not a number")?.is_some_and(|not_before| not_before > latest) {
        return Err(Refused::because(Reason::NotYetValid, "nbf lies ahead"));
    }
    let issued_at = time(claims, "iat", "iat is not a number")?;
    if issued_at.is_some_and(|issued_at| issued_at > latest) {
        return Err(Refused::because(Reason::NotYetValid, "iat lies ahead"));
    }
    let session_id = name(claims, "sid", "sid is not a string of 1 to 1024 bytes")?;
    let token_id = name(claims, "jti", "jti is not a string of 1 to 1024 bytes")?;
    Ok(Registered { subject, session_id, token_id, expires_at, issued_at })
}

fn time(
    claims: &Object,
    name: &str,
    otherwise: &'static str,
) -> Result<Option<UnixSeconds>, Refused> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => numeric_date(value).map(Some).ok_or(Refused::malformed(otherwise)),
    }
}

fn name(claims: &Object, name: &str, otherwise: &'static str) -> Result<Option<Box<str>>, Refused> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if (1..=SUBJECT_BYTES_MAX).contains(&text.len()) => {
            Ok(Some(text.as_str().into()))
        }
        Some(_) => Err(Refused::malformed(otherwise)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::time::TIME_MAX;
    use crate::token::testing::settings;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn judged(change: Value) -> Result<Registered, Refused> {
        let mut claims = json!({
            "iss": "https://issuer.example", "aud": "app", "sub": "alice", "exp": 1_800_000_300u64,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        // `"absent"` stands for a member that is not there.
        let claims = claims.as_object().unwrap();
        let claims = claims.iter().filter(|(_, value)| *value != "absent");
        let claims = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
        registered(&claims, &settings(), NOW)
    }

    #[test]
    fn good_claims_are_read() {
        let read = judged(
            json!({"iat": 1_799_999_000u64, "sid": "s-1", "jti": "t-1", "aud": ["x", "app"]}),
        );

        let expected = Registered {
            subject: "alice".into(),
            session_id: Some("s-1".into()),
            token_id: Some("t-1".into()),
            expires_at: UnixSeconds(1_800_000_300),
            issued_at: Some(UnixSeconds(1_799_999_000)),
        };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn each_claim_must_be_there_and_of_its_type() {
        use Reason::{MalformedToken, MissingClaim, NotYetValid, WrongAudience, WrongIssuer};
        for (change, reason) in [
            (json!({"iss": "absent"}), MissingClaim),
            (json!({"iss": null}), MalformedToken),
            (json!({"iss": ["https://issuer.example"]}), MalformedToken),
            (json!({"iss": "https://issuer.example/"}), WrongIssuer),
            (json!({"iss": "HTTPS://issuer.example"}), WrongIssuer),
            (json!({"iss": ""}), WrongIssuer),
            (json!({"aud": "absent"}), MissingClaim),
            (json!({"aud": null}), MalformedToken),
            (json!({"aud": 1}), MalformedToken),
            (json!({"aud": {"app": true}}), MalformedToken),
            (json!({"aud": ["app", 1]}), MalformedToken),
            (json!({"aud": []}), WrongAudience),
            (json!({"aud": "APP"}), WrongAudience),
            (json!({"aud": "app,other"}), WrongAudience),
            (json!({"aud": ["ap", "app "]}), WrongAudience),
            (json!({"sub": "absent"}), MissingClaim),
            (json!({"sub": ""}), MalformedToken),
            (json!({"sub": 7}), MalformedToken),
            (json!({"sub": "a".repeat(1_025)}), MalformedToken),
            (json!({"sid": ""}), MalformedToken),
            (json!({"sid": 1}), MalformedToken),
            (json!({"jti": ""}), MalformedToken),
            (json!({"jti": 1}), MalformedToken),
            (json!({"exp": "absent"}), MissingClaim),
            (json!({"exp": null}), MalformedToken),
            (json!({"exp": "1800000300"}), MalformedToken),
            (json!({"exp": [1_800_000_300u64]}), MalformedToken),
            (json!({"nbf": "soon"}), MalformedToken),
            (json!({"nbf": NOW.0 + 31}), NotYetValid),
            (json!({"iat": true}), MalformedToken),
            (json!({"iat": NOW.0 + 31}), NotYetValid),
        ] {
            assert_eq!(judged(change.clone()).unwrap_err().reason, reason, "{change}");
        }
    }

    #[test]
    fn leeway_is_for_nbf_and_iat() {
        assert!(judged(json!({"nbf": NOW.0 + 30, "iat": NOW.0 + 30})).is_ok());
        assert!(judged(json!({"nbf": -1, "iat": 0})).is_ok());
    }

    #[test]
    fn times_are_floored_and_capped() {
        for (value, seconds) in [
            (json!(1_800_000_300.99), 1_800_000_300),
            (json!(0), 0),
            (json!(-0.5), 0),
            (json!(-1), 0),
            (json!(i64::MIN), 0),
            (json!(u64::MAX), TIME_MAX.0),
            (json!(1e300), TIME_MAX.0),
            (json!(-1e300), 0),
            (json!(TIME_MAX.0 + 1), TIME_MAX.0),
        ] {
            assert_eq!(numeric_date(&value), Some(UnixSeconds(seconds)), "{value}");
        }
        assert_eq!(numeric_date(&json!("1")), None);
    }
}

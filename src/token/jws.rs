//! A token before anything about it is believed.
//!
//! Takes a compact serialisation apart (RFC 7515 §7.1) and reads header and claims, so that the
//! issuer can be chosen and its keys tried. Nothing read here may be acted on before
//! [`super::key_set`] has found a key for it.
//!
//! 1. The size is judged before a byte is decoded.
//! 2. Base64url without padding, one spelling for each value: a second one would give one token two
//!    hashes.
//! 3. Any `crit` is refused as `malformed_token`: it names extensions that must be understood
//!    (RFC 7515 §4.1.11), and none is. `jwk`, `jku`, `x5u`, `x5c` are never looked at.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::json::{self, Object};
use super::key::algorithm_named;
use super::refused::Refused;
use crate::policy::reason::Reason;

/// Longest `kid` that is looked up.
const KID_BYTES_MAX: usize = 256;

/// A token in parts. The name is the warning.
#[derive(Debug)]
pub struct Unverified<'a> {
    pub header: Header,
    pub claims: Object,
    /// What the signature covers: `header.claims`, as it came.
    pub signed: &'a str,
    pub signature: Vec<u8>,
}

/// What the gateway reads of a JOSE header (RFC 7515 §4.1).
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    pub algorithm: Algorithm,
    pub kid: Option<Box<str>>,
    /// Lower-cased and without `application/` (RFC 7515 §4.1.9); absent is `jwt`.
    pub token_type: Box<str>,
}

/// Takes `token` apart.
///
/// # Errors
/// `token_too_large`, `jwe_unsupported` (five parts, RFC 7516 §7.1), `wrong_algorithm` for one that
/// no issuer could have (`none` among them), else `malformed_token`.
pub fn parse(token: &str, token_bytes_max: usize) -> Result<Unverified<'_>, Refused> {
    if token.len() > token_bytes_max {
        return Err(Refused::because(Reason::TokenTooLarge, "longer than limits.max_token_bytes"));
    }
    let (header, claims, signature) = three_parts(token)?;
    let header = Header::read(&object(header, "the header is not base64url of a JSON object")?)?;
    let claims = object(claims, "the claims are not base64url of a JSON object")?;
    let Some((signed, _)) = token.rsplit_once('.') else {
        return Err(Refused::malformed("not three parts"));
    };
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| Refused::malformed("the signature is not base64url"))?;
    Ok(Unverified { header, claims, signed, signature })
}

/// Header and claims of anything that looks like a token, for showing to an operator.
pub fn peek(token: &str) -> (Option<Object>, Option<Object>) {
    let mut parts = token.split('.').map(|part| object(part, "").ok());
    (parts.next().flatten(), parts.next().flatten())
}

fn three_parts(token: &str) -> Result<(&str, &str, &str), Refused> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(signature), None, None, None) => {
            Ok((header, claims, signature))
        }
        (Some(_), Some(_), Some(_), Some(_), Some(_), None) => {
            Err(Refused::because(Reason::JweUnsupported, "five parts: an encrypted token"))
        }
        _ => Err(Refused::malformed("not three parts")),
    }
}

fn object(part: &str, otherwise: &'static str) -> Result<Object, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::malformed(otherwise))?;
    json::object(&bytes).map_err(|_| Refused::malformed(otherwise))
}

impl Header {
    fn read(members: &Object) -> Result<Header, Refused> {
        if members.contains_key("crit") {
            return Err(Refused::malformed("the header has crit, and no extension is known here"));
        }
        let algorithm = match members.get("alg") {
            Some(Value::String(word)) => algorithm_named(word).ok_or(Refused::because(
                Reason::WrongAlgorithm,
                "alg is none of the algorithms that are known here",
            ))?,
            _ => return Err(Refused::malformed("alg is missing or not a string")),
        };
        let kid = match members.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.as_str().into()),
            Some(_) => return Err(Refused::malformed("kid is not a string of at most 256 bytes")),
        };
        let token_type = match members.get("typ") {
            None => "jwt".into(),
            Some(Value::String(typ)) => bare_media_type(typ),
            Some(_) => return Err(Refused::malformed("typ is not a string")),
        };
        Ok(Header { algorithm, kid, token_type })
    }
}

/// `application/` may be left out if no other slash follows (RFC 7515 §4.1.9); case never matters.
fn bare_media_type(typ: &str) -> Box<str> {
    let lower = typ.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(rest) if !rest.contains('/') => rest.into(),
        _ => lower.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(header: &str, claims: &str, signature: &str) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(header), part(claims), part(signature))
    }

    fn refusal(token: &str) -> Reason {
        parse(token, 8192).unwrap_err().reason
    }

    #[test]
    fn a_token_comes_apart_into_what_was_signed_and_the_signature() {
        let token = encoded(
            r#"{"alg":"ES256","kid":"k1","typ":"application/AT+JWT"}"#,
            r#"{"a":1}"#,
            "sig",
        );

        let parts = parse(&token, token.len()).unwrap();

        let header = Header {
            algorithm: Algorithm::ES256,
            kid: Some("k1".into()),
            token_type: "at+jwt".into(),
        };
        assert_eq!(parts.header, header);
        assert_eq!(Value::Object(parts.claims), serde_json::json!({"a": 1}));
        assert_eq!(parts.signed, token.rsplit_once('.').unwrap().0);
        assert_eq!(parts.signature, b"sig");
    }

    #[test]
    fn size_is_judged_before_anything_is_decoded() {
        let refused = parse("not a token", 10).unwrap_err();

        assert_eq!(refused.reason, Reason::TokenTooLarge);
    }

    #[test]
    fn only_three_parts_are_a_token_and_five_are_named() {
        for (token, reason) in [
            ("", Reason::MalformedToken),
            ("a", Reason::MalformedToken),
            ("a.b", Reason::MalformedToken),
            ("a.b.c.d", Reason::MalformedToken),
            ("a.b.c.d.e", Reason::JweUnsupported),
            ("a.b.c.d.e.f", Reason::MalformedToken),
            ("..", Reason::MalformedToken),
            ("....", Reason::JweUnsupported),
        ] {
            assert_eq!(refusal(token), reason, "{token}");
        }
    }

    #[test]
    fn a_second_spelling_of_the_same_bytes_is_refused() {
        let token = encoded(r#"{"alg":"ES256"}"#, "{}", "s");
        let body = token.rsplit_once('.').unwrap().0;

        // "cw" is the one spelling of "s".
        assert!(parse(&format!("{body}.cw"), 8192).is_ok());
        for signature in ["cx", "cw==", "cw=", "c w", "cw\n", "+/", "c"] {
            assert_eq!(
                refusal(&format!("{body}.{signature}")),
                Reason::MalformedToken,
                "{signature}"
            );
        }
    }

    #[test]
    fn headers_that_are_not_plain_are_refused() {
        for (header, reason) in [
            (r#"{"alg":"none"}"#, Reason::WrongAlgorithm),
            (r#"{"alg":"None"}"#, Reason::WrongAlgorithm),
            (r#"{"alg":"es256"}"#, Reason::WrongAlgorithm),
            (r#"{"alg":"ES512"}"#, Reason::WrongAlgorithm),
            (r#"{"alg":""}"#, Reason::WrongAlgorithm),
            (r#"{"alg":null}"#, Reason::MalformedToken),
            (r#"{"alg":["ES256"]}"#, Reason::MalformedToken),
            (r"{}", Reason::MalformedToken),
            (r#"{"alg":"ES256","alg":"none"}"#, Reason::MalformedToken),
            (r#"{"alg":"ES256","x":1,"x":2}"#, Reason::MalformedToken),
            (r#"{"alg":"ES256","crit":[]}"#, Reason::MalformedToken),
            (r#"{"alg":"ES256","crit":["b64"],"b64":false}"#, Reason::MalformedToken),
            (r#"{"alg":"ES256","kid":1}"#, Reason::MalformedToken),
            (r#"{"alg":"ES256","kid":null}"#, Reason::MalformedToken),
            (r#"{"alg":"ES256","typ":null}"#, Reason::MalformedToken),
            (r#"["ES256"]"#, Reason::MalformedToken),
        ] {
            assert_eq!(refusal(&encoded(header, "{}", "s")), reason, "{header}");
        }
        let long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(KID_BYTES_MAX + 1));
        assert_eq!(refusal(&encoded(&long, "{}", "s")), Reason::MalformedToken);
    }

    #[test]
    fn typ_is_read_as_a_media_type() {
        for (typ, read) in [
            ("JWT", "jwt"),
            ("application/jwt", "jwt"),
            ("Application/At+Jwt", "at+jwt"),
            ("application/application/jwt", "application/application/jwt"),
            ("text/jwt", "text/jwt"),
            ("", ""),
        ] {
            assert_eq!(&*bare_media_type(typ), read, "{typ}");
        }
        let absent = parse(&encoded(r#"{"alg":"ES256"}"#, "{}", "s"), 8192).unwrap().header;
        assert_eq!(&*absent.token_type, "jwt");
    }
}

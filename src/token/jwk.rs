//! A JWK set (RFC 7517 §5), filtered as it is read.
//!
//! What is left out here can never verify anything. A key is left out, with a sentence, if it
//! 1. is not for verifying signatures (`use`, `key_ops`);
//! 2. is a secret (`kty` `oct`, or a `d` that publishes the private part);
//! 3. names an `alg` that the configuration does not allow, or that does not fit its type;
//! 4. is too weak, malformed, or of a type that is not known here (RFC 7517 §5 asks to ignore those).

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::Value;

use super::json;
use super::key::{Key, algorithm_named};

/// Most keys in one set. Real issuers publish two to twenty.
pub const KEYS_MAX: usize = 64;

/// What a document holds.
#[derive(Debug)]
pub struct KeySetDocument {
    pub keys: Vec<Key>,
    /// One sentence for each key that was left out.
    pub left_out: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum NoKeySet {
    #[error("not a JSON object: {0}")]
    NotJson(serde_json::Error),
    #[error("no member `keys` that is an array: not a JWK set")]
    NoKeys,
    #[error("{0} keys, at most {KEYS_MAX} are read")]
    TooMany(usize),
}

/// The members that decide, by their exact names and types.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// The private part. Only its presence matters.
    d: Option<Value>,
}

/// Reads a JWK set; `algorithms` are those that the issuer's configuration allows.
///
/// # Errors
/// The document is no JWK set, or too big a one. Unfit keys are no error.
pub fn read_set(bytes: &[u8], algorithms: &[Algorithm]) -> Result<KeySetDocument, NoKeySet> {
    let mut document = json::object(bytes).map_err(NoKeySet::NotJson)?;
    let Some(Value::Array(members)) = document.remove("keys") else {
        return Err(NoKeySet::NoKeys);
    };
    if members.len() > KEYS_MAX {
        return Err(NoKeySet::TooMany(members.len()));
    }
    let mut read = KeySetDocument { keys: Vec::new(), left_out: Vec::new() };
    for (index, member) in members.into_iter().enumerate() {
        let kid = member.get("kid").and_then(Value::as_str).map(str::to_owned);
        match serde_json::from_value(member)
            .map_err(|error| error.to_string())
            .and_then(|jwk: Jwk| jwk.into_key(algorithms).map_err(str::to_owned))
        {
            Ok(key) => read.keys.push(key),
            Err(why) => {
                read.left_out.push(format!("key {index} (kid {:?}): {why}", kid.as_deref()));
            }
        }
    }
    Ok(read)
}

impl Jwk {
    fn into_key(self, configured: &[Algorithm]) -> Result<Key, &'static str> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("its use is not sig");
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("its key_ops have no verify");
        }
        if self.d.is_some() {
            return Err("it publishes its private part");
        }
        let (material, fitting) = self.material()?;
        let named = match self.alg.as_deref() {
            None => None,
            Some(word) => Some(algorithm_named(word).ok_or("its alg is not known here")?),
        };
        if named.is_some_and(|algorithm| !fitting.contains(&algorithm)) {
            return Err("its alg does not fit its type");
        }
        let allowed = configured
            .iter()
            .copied()
            .filter(|algorithm| fitting.contains(algorithm))
            .filter(|algorithm| named.is_none_or(|named| named == *algorithm));
        Key::public(self.kid.as_deref(), &material, allowed)
            .ok_or("no configured algorithm fits it, or it is too weak or malformed")
    }

    /// The bytes of the public key, and the algorithms its type could be used with.
    fn material(&self) -> Result<(Vec<u8>, &'static [Algorithm]), &'static str> {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => Ok((self.rsa()?, &[RS256, RS384, RS512, PS256, PS384, PS512])),
            ("EC", Some("P-256")) => Ok((self.point(32)?, &[ES256])),
            ("EC", Some("P-384")) => Ok((self.point(48)?, &[ES384])),
            ("OKP", Some("Ed25519")) => Ok((decoded(self.x.as_deref(), Some(32))?, &[EdDSA])),
            ("oct", _) => Err("a secret has no place in a published key set"),
            _ => Err("its kty and crv are not known here"),
        }
    }

    fn rsa(&self) -> Result<Vec<u8>, &'static str> {
        let n = decoded(self.n.as_deref(), None)?;
        let e = decoded(self.e.as_deref(), None)?;
        // Some publishers keep the sign byte of a big integer; RFC 7518 §6.3.1.1 says not to.
        let n = n.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
        // An exponent of 1 makes every message its own signature; an even one is no RSA.
        if e == [1] || e.last().is_none_or(|last| last % 2 == 0) {
            return Err("its exponent is 1 or even");
        }
        let spki =
            RsaPublicKeyComponents { n, e }.as_der().map_err(|_| "its n or e is malformed")?;
        Ok(spki.as_ref().to_vec())
    }

    /// An uncompressed point (SEC 1 §2.3.3). `aws-lc` checks that it lies on the curve.
    fn point(&self, coordinate_bytes: usize) -> Result<Vec<u8>, &'static str> {
        let x = decoded(self.x.as_deref(), Some(coordinate_bytes))?;
        let y = decoded(self.y.as_deref(), Some(coordinate_bytes))?;
        Ok([&[4], x.as_slice(), y.as_slice()].concat())
    }
}

fn decoded(text: Option<&str>, bytes: Option<usize>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("a coordinate is missing")?;
    let value = URL_SAFE_NO_PAD.decode(text).map_err(|_| "a coordinate is not base64url")?;
    match bytes {
        Some(bytes) if value.len() != bytes => Err("a coordinate has the wrong length"),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::token::testing::{Signer, encoded};
    use Algorithm::{ES256, ES384, EdDSA, PS256, RS256, RS384};

    const ALLOWED: &[Algorithm] = &[RS256, PS256, ES256, ES384, EdDSA];

    fn read(keys: &[Value]) -> KeySetDocument {
        read_set(json!({"keys": keys}).to_string().as_bytes(), ALLOWED).unwrap()
    }

    /// The key with members replaced, or removed by `null`.
    fn with(mut jwk: Value, changes: Value) -> Value {
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        jwk
    }

    #[test]
    fn a_key_is_admitted_for_the_configured_algorithms_of_its_type() {
        let fitting = |algorithm, changes: Value| {
            let jwk = with(Signer::new(algorithm, "k").jwk(), changes);
            let read = read(&[jwk]);
            let key = read.keys.first().unwrap_or_else(|| panic!("{:?}", read.left_out));
            let all = [RS256, RS384, PS256, ES256, ES384, EdDSA, Algorithm::HS256];
            all.into_iter().filter(|algorithm| key.fits(*algorithm)).collect::<Vec<_>>()
        };

        assert_eq!(fitting(RS256, json!({"alg": null})), [RS256, PS256]);
        assert_eq!(fitting(RS256, json!({"alg": "PS256"})), [PS256]);
        assert_eq!(fitting(ES256, json!({"alg": null, "use": null})), [ES256]);
        assert_eq!(fitting(ES384, json!({"key_ops": ["sign", "verify"]})), [ES384]);
        assert_eq!(fitting(EdDSA, json!({"alg": "Ed25519", "kid": null})), [EdDSA]);
    }

    #[test]
    fn unfit_keys_are_left_out_with_a_sentence() {
        let (ec, rsa) = (Signer::new(ES256, "k").jwk(), Signer::new(RS256, "k").jwk());
        let small = encoded([0xff; 128]);
        for (key, why) in [
            (with(ec.clone(), json!({"use": "enc"})), "its use is not sig"),
            (with(ec.clone(), json!({"key_ops": ["sign"]})), "its key_ops have no verify"),
            (with(ec.clone(), json!({"d": "AQ"})), "it publishes its private part"),
            (with(ec.clone(), json!({"alg": "RS256"})), "its alg does not fit its type"),
            (with(ec.clone(), json!({"alg": "HS256"})), "its alg does not fit its type"),
            (with(ec.clone(), json!({"alg": "none"})), "its alg is not known here"),
            (with(ec.clone(), json!({"crv": "P-384"})), "a coordinate has the wrong length"),
            (with(ec.clone(), json!({"crv": "secp256k1"})), "its kty and crv are not known here"),
            (with(ec.clone(), json!({"kty": "OKP"})), "its kty and crv are not known here"),
            (with(ec.clone(), json!({"x": "A".repeat(43)})), "no configured algorithm fits it"),
            (with(ec.clone(), json!({"x": "+"})), "a coordinate is not base64url"),
            (with(ec.clone(), json!({"y": null})), "a coordinate is missing"),
            (with(ec.clone(), json!({"kid": 7})), "invalid type"),
            (with(rsa.clone(), json!({"alg": "RS384"})), "no configured algorithm fits it"),
            (
                with(rsa.clone(), json!({"n": small, "alg": null})),
                "no configured algorithm fits it",
            ),
            (with(rsa.clone(), json!({"e": "AQ"})), "its exponent is 1 or even"),
            (with(rsa.clone(), json!({"e": "AA"})), "its exponent is 1 or even"),
            (with(rsa, json!({"e": ""})), "its exponent is 1 or even"),
            (json!({"kty": "oct", "k": "c2VjcmV0"}), "a secret has no place"),
            (json!({"kty": "AKP", "pub": "AQ"}), "its kty and crv are not known here"),
            (json!({}), "missing field `kty`"),
            (json!("key"), "invalid type"),
        ] {
            let read = read(std::slice::from_ref(&key));
            assert!(read.keys.is_empty(), "{key}");
            assert!(read.left_out[0].contains(why), "{key}: {:?}", read.left_out);
        }
    }

    #[test]
    fn one_unfit_key_does_not_spoil_the_set() {
        let (good, bad) = (Signer::new(ES256, "good"), Signer::new(EdDSA, "bad"));

        let read = read(&[with(bad.jwk(), json!({"use": "enc"})), good.jwk()]);

        assert_eq!(read.keys.iter().map(Key::label).collect::<Vec<_>>(), ["good"]);
        assert_eq!(read.left_out, ["key 0 (kid Some(\"bad\")): its use is not sig"]);
    }

    #[test]
    fn what_is_no_key_set_is_an_error() {
        let refused = |text: &str| read_set(text.as_bytes(), ALLOWED).unwrap_err().to_string();

        assert!(refused("<html>").starts_with("not a JSON object"));
        assert!(refused("[]").starts_with("not a JSON object"));
        assert!(refused(r#"{"keys":[],"keys":[]}"#).contains("duplicate member"));
        assert!(refused(r#"{"keys":[{"kid":"a","kid":"b"}]}"#).contains("duplicate member"));
        assert!(refused("{}").starts_with("no member `keys`"));
        assert!(refused(r#"{"keys":{}}"#).starts_with("no member `keys`"));
        let many = json!({"keys": vec![json!({}); KEYS_MAX + 1]}).to_string();
        assert_eq!(refused(&many), "65 keys, at most 64 are read");
    }
}

//! The demo issuer's signing key and the access tokens it signs (ES256, RFC 7518 §3.4; `at+jwt`,
//! RFC 9068).
//!
//! The key is made when the demo starts and never leaves the process. Rotation is the rude kind on
//! purpose: the old key disappears from the key set at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};

use super::users::User;
use crate::policy::secret::Secret;
use crate::policy::time::UnixSeconds;

/// The audience of every access token: what the app would be called.
pub const AUDIENCE: &str = "legacy-app";

/// The random generator or the signer failed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the cryptographic library could not make a key or random bytes")]
    Crypto,
    #[error("the access token could not be signed: {0}")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

/// Signs access tokens and publishes the key to check them with.
pub struct Signer {
    issuer: String,
    current: ArcSwap<SigningKey>,
    /// How many keys there have been, for a readable `kid`.
    serial: AtomicU64,
}

struct SigningKey {
    kid: String,
    private: EncodingKey,
    public: Value,
}

/// RFC 9068 §2.2.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: u64,
    iat: u64,
    jti: String,
    sid: &'a str,
    email: &'a str,
    roles: &'a [&'a str],
}

impl Signer {
    /// A signer with a key of its own for `issuer` (the exact `iss`).
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn new(issuer: String) -> Result<Signer, TokenError> {
        let first = SigningKey::generate(1)?;
        Ok(Signer { issuer, current: ArcSwap::from_pointee(first), serial: AtomicU64::new(1) })
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The `kid` that tokens are signed with now.
    pub fn key_id(&self) -> String {
        self.current.load().kid.clone()
    }

    /// Signs from now on with a new key; the old one is gone from the key set. Returns the new `kid`.
    ///
    /// # Errors
    /// The machine has no randomness; the old key then stays.
    pub fn rotate(&self) -> Result<String, TokenError> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let key = SigningKey::generate(serial)?;
        let kid = key.kid.clone();
        self.current.store(Arc::new(key));
        Ok(kid)
    }

    /// A new access token for `user` in the session `session_id`, good for `life_s` seconds.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn mint(
        &self,
        user: &User,
        session_id: &str,
        now: UnixSeconds,
        life_s: u64,
    ) -> Result<Secret, TokenError> {
        let key = self.current.load();
        let header = Header {
            typ: Some("at+jwt".into()),
            kid: Some(key.kid.clone()),
            ..Header::new(Algorithm::ES256)
        };
        let claims = Claims {
            iss: &self.issuer,
            sub: user.name,
            aud: AUDIENCE,
            exp: now.plus(life_s).0,
            iat: now.0,
            jti: random_text::<12>()?,
            sid: session_id,
            email: user.email,
            roles: user.roles,
        };
        Ok(Secret::new(jsonwebtoken::encode(&header, &claims, &key.private)?))
    }

    /// The key set (RFC 7517 §5): the current key, alone.
    pub fn key_set(&self) -> Value {
        json!({ "keys": [self.current.load().public] })
    }
}

impl SigningKey {
    fn generate(serial: u64) -> Result<SigningKey, TokenError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| TokenError::Crypto)?;
        let private = pair.to_pkcs8v1().map_err(|_| TokenError::Crypto)?;
        // An uncompressed point: 0x04, x, y (SEC 1 §2.3.3).
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else {
            return Err(TokenError::Crypto);
        };
        // The random part tells keys of two runs apart: a gateway may outlive the demo.
        let mut run = [0; 2];
        rand::fill(&mut run).map_err(|_| TokenError::Crypto)?;
        let kid = format!("demo-{serial}-{:04x}", u16::from_be_bytes(run));
        let public = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        Ok(SigningKey { kid, private: EncodingKey::from_ec_der(private.as_ref()), public })
    }
}

/// `N` random bytes as base64url text.
///
/// # Errors
/// The machine has no randomness.
pub fn random_text<const N: usize>() -> Result<String, TokenError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| TokenError::Crypto)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::demo::users::ALICE;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn signer() -> Signer {
        Signer::new("http://127.0.0.1:4000".into()).unwrap()
    }

    /// Verifies as a stranger would: with the published key set alone.
    fn claims_by_key_set(signer: &Signer, token: &Secret) -> Option<Value> {
        let set: JwkSet = serde_json::from_value(signer.key_set()).unwrap();
        let kid = jsonwebtoken::decode_header(token.expose()).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(set.find(&kid)?).unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        rules.validate_exp = false;
        rules.set_audience(&[AUDIENCE]);
        Some(jsonwebtoken::decode::<Value>(token.expose(), &key, &rules).unwrap().claims)
    }

    #[test]
    fn the_published_key_verifies_the_token_and_its_claims_are_complete() {
        let signer = signer();
        let token = signer.mint(&ALICE, "session", NOW, 20).unwrap();

        let mut claims = claims_by_key_set(&signer, &token).unwrap();

        assert!(claims.as_object_mut().unwrap().remove("jti").is_some());
        let expected = json!({
            "iss": "http://127.0.0.1:4000", "sub": "alice", "aud": "legacy-app", "sid": "session",
            "iat": NOW.0, "exp": NOW.0 + 20, "email": "alice@example.com", "roles": ["staff"],
        });
        assert_eq!(claims, expected);
    }

    #[test]
    fn after_a_rotation_only_new_tokens_verify() {
        let signer = signer();
        let old = signer.mint(&ALICE, "session", NOW, 20).unwrap();

        let kid = signer.rotate().unwrap();

        let new = signer.mint(&ALICE, "session", NOW, 20).unwrap();
        assert_eq!(signer.key_id(), kid);
        assert!(claims_by_key_set(&signer, &new).is_some());
        assert_eq!(claims_by_key_set(&signer, &old), None);
    }

    #[test]
    fn the_key_set_never_holds_the_private_part() {
        let set = signer().key_set();
        let key = set["keys"][0].as_object().unwrap();
        let names: Vec<&str> = key.keys().map(String::as_str).collect();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    }
}

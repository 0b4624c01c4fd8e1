//! Signing keys, and tokens with sane defaults to spoil one by one.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};

/// A private key and the JWK of its public half.
pub struct SigningKey {
    pub jwk: Value,
    /// SubjectPublicKeyInfo; empty for a shared secret.
    pub public_pem: String,
    kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
}

impl SigningKey {
    pub fn es256(kid: &str) -> Arc<SigningKey> {
        Self::ec(kid, Algorithm::ES256, "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub fn es384(kid: &str) -> Arc<SigningKey> {
        Self::ec(kid, Algorithm::ES384, "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    pub fn ed25519(kid: &str) -> Arc<SigningKey> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("our own key");
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": base64(pair.public_key().as_ref())});
        let private = EncodingKey::from_ed_der(document.as_ref());
        let public: PublicKeyX509Der = pair.public_key().as_der().expect("a public key");
        Self::new(kid, Algorithm::EdDSA, private, jwk, pem("PUBLIC", public.as_ref()))
    }

    /// `algorithm` is one of RS256 to RS512 and PS256 to PS512.
    pub fn rsa(kid: &str, algorithm: Algorithm) -> Arc<SigningKey> {
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let public = aws_lc_rs::signature::KeyPair::public_key(&pair);
        let (n, e) = (public.modulus(), public.exponent());
        let jwk = json!({
            "kty": "RSA",
            "n": base64(n.big_endian_without_leading_zero()),
            "e": base64(e.big_endian_without_leading_zero()),
        });
        // jsonwebtoken wants the inner key (PKCS#1), or PEM around PKCS#8.
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der = pair.as_der().expect("PKCS#8");
        let private = EncodingKey::from_rsa_pem(pem("PRIVATE", pkcs8.as_ref()).as_bytes());
        let public: PublicKeyX509Der = public.as_der().expect("a public key");
        let public = pem("PUBLIC", public.as_ref());
        Self::new(kid, algorithm, private.expect("our own key"), jwk, public)
    }

    fn ec(
        kid: &str,
        algorithm: Algorithm,
        curve: &str,
        signing: &'static EcdsaSigningAlgorithm,
    ) -> Arc<SigningKey> {
        let document = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new()).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref()).expect("our own key");
        // SEC 1 §2.3.3: a byte 4, then x and y of equal length.
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)});
        let private = EncodingKey::from_ec_der(document.as_ref());
        let public: PublicKeyX509Der = pair.public_key().as_der().expect("a public key");
        Self::new(kid, algorithm, private, jwk, pem("PUBLIC", public.as_ref()))
    }

    pub fn hs256(secret: &str) -> Arc<SigningKey> {
        let private = EncodingKey::from_secret(secret.as_bytes());
        Self::new("shared", Algorithm::HS256, private, json!({ "kty": "oct" }), String::new())
    }

    fn new(
        kid: &str,
        algorithm: Algorithm,
        private: EncodingKey,
        mut jwk: Value,
        public_pem: String,
    ) -> Arc<Self> {
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        jwk["alg"] = json!(algorithm);
        Arc::new(SigningKey { jwk, public_pem, kid: kid.to_string(), algorithm, private })
    }
}

/// A token in the making. Starts as alice's, of role staff, fresh, for `legacy-app`.
#[derive(Clone)]
pub struct Token {
    key: Arc<SigningKey>,
    header: Map<String, Value>,
    claims: Map<String, Value>,
    ahead_s: u64,
}

/// The life of a token here: long enough that the whole default window of 90 s fits in half of it.
pub const LIFE_S: u64 = 300;

impl Token {
    pub fn new(key: &Arc<SigningKey>, issuer: &str, subject: &str) -> Token {
        let header = json!({"alg": key.algorithm, "typ": "at+jwt", "kid": key.kid});
        let claims = json!({
            "iss": issuer,
            "aud": "legacy-app",
            "sub": subject,
            "email": format!("{subject}@example.org"),
            "roles": ["staff"],
            "scope": "read",
            "jti": unique(),
        });
        let (Value::Object(header), Value::Object(claims)) = (header, claims) else {
            unreachable!("both are written as objects")
        };
        Token { key: key.clone(), header, claims, ahead_s: 0 }.aged(5)
    }

    /// Made by a clock that is ahead.
    pub fn ahead(mut self, seconds: u64) -> Token {
        self.ahead_s = seconds;
        self.aged(5)
    }

    /// Issued `age` seconds ago, with a life of [`LIFE_S`].
    pub fn aged(self, age: u64) -> Token {
        let issued = now() + self.ahead_s - age;
        self.claim("iat", issued).claim("exp", issued + LIFE_S)
    }

    /// Expires so long from now.
    pub fn lives(self, seconds: u64) -> Token {
        let expires = now() + self.ahead_s + seconds;
        self.claim("exp", expires)
    }

    /// Still valid, and so close to its end that it is renewed whatever the spread of the window.
    pub fn in_window(self) -> Token {
        self.aged(LIFE_S - 20)
    }

    pub fn expired(self) -> Token {
        self.aged(LIFE_S + 5)
    }

    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Token {
        self.claims.insert(name.to_string(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Token {
        self.claims.remove(name);
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Token {
        self.header.insert(name.to_string(), value.into());
        self
    }

    pub fn without_header(mut self, name: &str) -> Token {
        self.header.remove(name);
        self
    }

    pub fn key(mut self, key: &Arc<SigningKey>) -> Token {
        self.key = key.clone();
        self.header("kid", key.kid.clone()).header("alg", json!(key.algorithm))
    }

    /// Signs what stands here now, whatever `alg` the header claims.
    pub fn sign(&self) -> String {
        let part =
            |map: &Map<String, Value>| base64(Value::from(map.clone()).to_string().as_bytes());
        let message = format!("{}.{}", part(&self.header), part(&self.claims));
        let (key, algorithm) = (&self.key.private, self.key.algorithm);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm);
        format!("{message}.{}", signature.expect("our own key signs"))
    }
}

/// A token whose signature does not hold: its last claims byte is another one.
pub fn tampered(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let (header, claims) = message.split_once('.').expect("three parts");
    let mut bytes = URL_SAFE_NO_PAD.decode(claims).expect("base64");
    let alice = bytes.windows(5).position(|five| five == b"alice").expect("alice's token");
    bytes[alice..alice + 5].copy_from_slice(b"admin");
    format!("{header}.{}.{signature}", base64(&bytes))
}

pub fn now() -> u64 {
    evergate::clock::now().unix.0
}

/// A string that was never used before in this process.
pub fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {kind} KEY-----\n{text}\n-----END {kind} KEY-----\n")
}

//! A fake issuer for tests: keys that sign, and a small HTTP server with faults and counters.
//!
//! Tokens are signed by `jsonwebtoken`, verified by our own code: two readings of each algorithm.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as aws, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::{ClaimPaths, IssuerSettings, JwksSettings, KeySource, TokenLimits, Tokens};
use crate::policy::claims::IssuerId;
use crate::policy::time::{Now, UnixSeconds};

pub const ISSUER: IssuerId = IssuerId(0);
pub const JWKS: &str = "/jwks.json";
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
pub const NOW: Now = Now { unix: UnixSeconds(1_800_000_000), uptime: Duration::from_secs(10_000) };

static RSA_PEM: LazyLock<String> = LazyLock::new(|| {
    let pair = aws::RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    pem("PRIVATE KEY", AsDer::as_der(&pair).unwrap().as_ref())
});

/// Settings as the configuration's defaults would make them.
pub fn settings() -> IssuerSettings {
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).into()).collect();
    IssuerSettings {
        name: "default".into(),
        url: "https://issuer.example".into(),
        audience: vec!["app".into()],
        logout_audience: vec!["app".into()],
        keys: KeySource::Discovery,
        algorithms: vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA],
        leeway: Duration::from_secs(30),
        token_types: vec!["at+jwt".into(), "jwt".into()],
        claims: ClaimPaths {
            user: paths(&["sub"]),
            email: paths(&["email"]),
            roles: paths(&["roles", "groups"]),
            scopes: paths(&["scope", "scp"]),
        },
        jwks: JwksSettings {
            ttl: Duration::from_secs(600),
            min_interval: Duration::from_secs(30),
            max_stale: Duration::from_secs(86_400),
        },
        window: Some(Duration::from_secs(90)),
    }
}

pub fn limits() -> TokenLimits {
    TokenLimits { token_bytes_max: 8_192, verified_tokens_max: 1_000 }
}

pub fn tokens(settings: IssuerSettings) -> Arc<Tokens> {
    Tokens::new(vec![settings], limits()).unwrap()
}

/// Claims that hold for [`settings`] at [`NOW`], with `changes` on top.
pub fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": "https://issuer.example", "aud": "app", "sub": "alice",
        "iat": NOW.unix.0 - 10, "exp": NOW.unix.0 + 300,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|l| str::from_utf8(l).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One signing key.
pub struct Signer {
    pub algorithm: Algorithm,
    pub kid: Option<&'static str>,
    private: EncodingKey,
}

impl Signer {
    /// A new key; RSA keys are one and the same, they take long to make.
    pub fn new(algorithm: Algorithm, kid: &'static str) -> Signer {
        use Algorithm::{ES256, ES384, EdDSA, HS256};
        let ec = |curve| EcdsaKeyPair::generate(curve).unwrap().to_pkcs8v1().unwrap();
        let private = match algorithm {
            ES256 => EncodingKey::from_ec_der(ec(&aws::ECDSA_P256_SHA256_FIXED_SIGNING).as_ref()),
            ES384 => EncodingKey::from_ec_der(ec(&aws::ECDSA_P384_SHA384_FIXED_SIGNING).as_ref()),
            EdDSA => {
                let pair = Ed25519KeyPair::generate().unwrap();
                EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref())
            }
            HS256 => EncodingKey::from_secret(kid.as_bytes()),
            _ => EncodingKey::from_rsa_pem(RSA_PEM.as_bytes()).unwrap(),
        };
        Signer { algorithm, kid: Some(kid), private }
    }

    pub fn without_kid(self) -> Signer {
        Signer { kid: None, ..self }
    }

    /// The public key as a JWK with `kid` and `use`.
    pub fn jwk(&self) -> Value {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&self.private, self.algorithm).unwrap())
                .unwrap();
        jwk["use"] = json!("sig");
        if let Some(kid) = self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }

    /// `SubjectPublicKeyInfo` as PEM; RSA only.
    pub fn public_pem(&self) -> String {
        let der = aws::RsaKeyPair::from_der(self.private.as_bytes()).unwrap();
        pem("PUBLIC KEY", AsDer::as_der(der.public_key()).unwrap().as_ref())
    }

    /// The uncompressed point; P-256 only.
    pub fn public_point(&self) -> Vec<u8> {
        self.p256(&aws::ECDSA_P256_SHA256_FIXED_SIGNING).public_key().as_ref().to_vec()
    }

    /// A signature in DER instead of r and s side by side; P-256 only.
    pub fn signature_der(&self, message: &str) -> Vec<u8> {
        let pair = self.p256(&aws::ECDSA_P256_SHA256_ASN1_SIGNING);
        pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
    }

    fn p256(&self, algorithm: &'static aws::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
        EcdsaKeyPair::from_pkcs8(algorithm, self.private.as_bytes()).unwrap()
    }

    pub fn token(&self, claims: &Value) -> String {
        let mut header = json!({"alg": self.algorithm, "typ": "at+jwt"});
        if let Some(kid) = self.kid {
            header["kid"] = json!(kid);
        }
        self.signed(&header.to_string(), &claims.to_string())
    }

    /// Signs any text as header and claims.
    pub fn signed(&self, header: &str, claims: &str) -> String {
        let body = format!("{}.{}", encoded(header), encoded(claims));
        let signature =
            jsonwebtoken::crypto::sign(body.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{body}.{signature}")
    }
}

pub fn key_set(keys: &[&Signer]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

/// What the fake issuer answers.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Reply {
    pub fn ok(body: impl Into<String>) -> Reply {
        Reply { status: 200, headers: String::new(), body: body.into() }
    }

    pub fn status(status: u16) -> Reply {
        Reply { status, headers: String::new(), body: "{}".into() }
    }
}

/// An HTTP server on a free loopback port; ends with the test.
pub struct FakeIssuer {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    replies: Mutex<HashMap<String, Reply>>,
    hits: Mutex<HashMap<String, usize>>,
    /// An answer leaves only with a permit.
    gate: Semaphore,
    heard: Notify,
}

impl FakeIssuer {
    /// Serves `keys` at [`JWKS`].
    pub async fn with_keys(keys: &[&Signer]) -> FakeIssuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            replies: Mutex::default(),
            hits: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS / 2),
            heard: Notify::new(),
        });
        let issuer = FakeIssuer { url, shared: Arc::clone(&shared) };
        issuer.serve(JWKS, Reply::ok(key_set(keys)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        issuer
    }

    pub fn serve(&self, path: &str, reply: Reply) {
        self.shared.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    pub fn serve_keys(&self, keys: &[&Signer]) {
        self.serve(JWKS, Reply::ok(key_set(keys)));
    }

    /// From now on it accepts connections and says nothing.
    pub fn goes_down(&self) {
        self.shared.replies.lock().unwrap().clear();
    }

    pub fn hits(&self, path: &str) -> usize {
        self.shared.hits.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    /// Holds every answer back until `open_gate`.
    pub fn close_gate(&self) {
        self.shared.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn open_gate(&self) {
        self.open_gate_for(1_000);
    }

    pub fn open_gate_for(&self, answers: usize) {
        self.shared.gate.add_permits(answers);
    }

    /// Waits until `path` was asked for `count` times.
    pub async fn hit(&self, path: &str, count: usize) {
        let heard = async {
            while self.hits(path) < count {
                self.shared.heard.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), heard).await.expect("it was never asked");
    }

    /// Settings for an issuer whose JWK set is here.
    pub fn settings(&self) -> IssuerSettings {
        IssuerSettings { keys: KeySource::Url(format!("{}{JWKS}", self.url)), ..settings() }
    }
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    *shared.hits.lock().unwrap().entry(path.clone()).or_default() += 1;
    shared.heard.notify_one();
    shared.gate.acquire().await.unwrap().forget();
    let reply = shared.replies.lock().unwrap().get(&path).cloned();
    let Some(Reply { status, headers, body }) = reply else { return };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
}

//! From bytes to a verified token, or the reason why not.
//!
//! 1. What a token says of itself chooses nothing but where to look: its `iss` picks among the
//!    issuers that the caller accepts, its `kid` among that issuer's keys, its `alg` among the
//!    algorithms that both the configuration and the key allow.
//! 2. Order: size, parts, header, issuer, algorithm, type, signature, claims, and `exp` last, because
//!    an expired token that is good otherwise is worth a refresh.
//! 3. [`Tokens::cached`] is the hot path: no await, no lock, no allocation. It answers *who*; whether
//!    that is enough is decided anew for each request in [`crate::policy`].
//! 4. Keys are read without a lock and fetched behind the scenes; see `live_keys`.
//!
//! Never: a key, a signature or a whole token in a log or an error; a verdict without a key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use crate::policy::claims::Verified;
use crate::policy::reason::Reason;
use crate::policy::secret::Secret;

mod refused;
mod json;
mod jws;
mod key;
mod jwk;
mod pem;
mod key_set;
mod fetch;
mod discovery;
mod source;
mod unknown_kids;
mod pace;
mod live_keys;
mod claims;
mod verified;
mod issuer;
mod cache;
mod tokens;
mod logout;
mod human_time;
pub mod explain;
pub mod stats;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use discovery::Discovered;
pub use logout::LogoutVerdict;
pub use source::LoadError;
pub use tokens::Tokens;

/// Where an issuer's verification keys come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// OpenID Connect Discovery 1.0 §4: `url` less a trailing slash, then
    /// `/.well-known/openid-configuration`.
    Discovery,
    /// A JWK set (RFC 7517 §5) at a URL.
    Url(String),
    /// A JWK set in a file.
    File(PathBuf),
    /// One or more PEM public keys or certificates.
    Pem(String),
    /// A shared secret for HS256, HS384, HS512.
    Secret(Secret),
}

/// `issuers.N.claims`: dotted paths; the first that is present wins.
#[derive(Clone, Debug)]
pub struct ClaimPaths {
    pub user: Vec<Box<str>>,
    pub email: Vec<Box<str>>,
    pub roles: Vec<Box<str>>,
    pub scopes: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug)]
pub struct JwksSettings {
    /// Age at which the set is fetched again in the background.
    pub ttl: Duration,
    /// At most one fetch in this time, whatever strangers send.
    pub min_interval: Duration,
    /// Age up to which the last good set serves while the issuer is down.
    pub max_stale: Duration,
}

/// `issuers.N`, checked.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    pub name: Arc<str>,
    /// The expected `iss`, byte for byte.
    pub url: String,
    /// At least one of these must be in `aud`.
    pub audience: Vec<String>,
    /// At least one of these must be in a logout token's `aud`.
    pub logout_audience: Vec<String>,
    pub keys: KeySource,
    pub algorithms: Vec<Algorithm>,
    /// For `nbf` and `iat`; `exp` has none.
    pub leeway: Duration,
    /// Accepted `typ` values, lower-cased, without `application/`.
    pub token_types: Vec<String>,
    pub claims: ClaimPaths,
    pub jwks: JwksSettings,
    /// `refresh.window`; `None` where nothing is refreshed.
    pub window: Option<Duration>,
}

/// `limits` of this room.
#[derive(Clone, Copy, Debug)]
pub struct TokenLimits {
    pub token_bytes_max: usize,
    pub verified_tokens_max: u64,
}

/// What became of one presented token.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Signature and all claims hold, and `exp` lies ahead.
    Good(Arc<Verified>),
    /// Everything holds but `exp`.
    Expired(Arc<Verified>),
    Bad(Reason),
    /// The issuer's keys were never fetched, were withdrawn, or are older than `max_stale`; or the
    /// token names a key that is not there while the issuer does not answer.
    KeysUnavailable {
        retry_after_s: u64,
    },
}

/// What the operator has to put right before the gateway can start.
#[derive(Debug, thiserror::Error)]
pub enum TokenSetupError {
    #[error("issuer {issuer}: keys: {cause}")]
    Keys { issuer: Arc<str>, cause: LoadError },
    #[error("issuer {0}: algorithms: at least one is needed")]
    NoAlgorithm(Arc<str>),
    /// HMAC with a public key as its secret is how algorithms are confused.
    #[error("issuer {issuer}: algorithms: {algorithm:?} does not go with this kind of keys")]
    Algorithm { issuer: Arc<str>, algorithm: Algorithm },
    #[error("issuer {0}: audience: at least one is needed")]
    NoAudience(Arc<str>),
    #[error("the system gives no random bytes")]
    NoRandom,
    #[error("the HTTP client for key sets: {0}")]
    HttpClient(reqwest::Error),
}

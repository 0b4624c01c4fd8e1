//! One verification key, parsed once, and the algorithms it may be used with.
//!
//! 1. A key carries the algorithms it was admitted for; the token's `alg` only picks among them.
//!    So an RSA key can never be used as an HMAC secret, whatever a header says (RFC 8725 §3.1).
//! 2. Signatures are checked by `aws-lc-rs` with keys that stay parsed. `jsonwebtoken`'s own
//!    verifier was rejected: it clones and parses the key again at every call, for up to a
//!    tenth of a verification's time (EdDSA; less for the others).

use std::fmt;

use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use aws_lc_rs::{digest, hmac};
use jsonwebtoken::Algorithm;

use crate::policy::secret::Secret;

/// Sizes of RSA keys that are used at all (RFC 7518 §3.3, and the upper end of `aws-lc`).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A key of an issuer.
pub struct Key {
    pub kid: Option<Box<str>>,
    /// Hash of the id, the material and the algorithms: two keys with one fingerprint are one key.
    pub fingerprint: [u8; 32],
    checks: Vec<(Algorithm, Check)>,
}

enum Check {
    Public(ParsedPublicKey),
    /// Boxed: it is twenty times the size of the other.
    Shared(Box<hmac::Key>),
}

/// The algorithm of this name. `Ed25519` is the newer word for the only EdDSA there is here
/// (RFC 9864 §2.2).
pub fn algorithm_named(word: &str) -> Option<Algorithm> {
    match word {
        "Ed25519" => Some(Algorithm::EdDSA),
        word => word.parse().ok(),
    }
}

/// Is the verifying secret also the signing one?
pub fn is_shared(algorithm: Algorithm) -> bool {
    shared(algorithm).is_some()
}

/// The least length of a shared secret, in bytes (RFC 7518 §3.2); zero for public keys.
pub fn secret_bytes_min(algorithm: Algorithm) -> usize {
    shared(algorithm).map_or(0, |algorithm| algorithm.digest_algorithm().output_len)
}

impl Key {
    /// A public key: DER `SubjectPublicKeyInfo` (RFC 5280 §4.1), an uncompressed point, or the 32
    /// bytes of Ed25519. `None` if it fits none of `algorithms`, or is RSA under 2048 bits.
    pub fn public(
        kid: Option<&str>,
        material: &[u8],
        algorithms: impl IntoIterator<Item = Algorithm>,
    ) -> Option<Key> {
        let mut checks = Vec::new();
        for algorithm in algorithms {
            let Some(verification) = public(algorithm) else { continue };
            if is_rsa(algorithm) && !rsa_size_is_fit(material) {
                continue;
            }
            if let Ok(key) = ParsedPublicKey::new(verification, material) {
                checks.push((algorithm, Check::Public(key)));
            }
        }
        Key::with(kid, material, checks)
    }

    /// A shared secret. `None` if no algorithm of `algorithms` is an HMAC.
    pub fn shared(secret: &Secret, algorithms: &[Algorithm]) -> Option<Key> {
        let material = secret.expose().as_bytes();
        let checks = algorithms
            .iter()
            .filter_map(|&algorithm| {
                let key = hmac::Key::new(shared(algorithm)?, material);
                Some((algorithm, Check::Shared(Box::new(key))))
            })
            .collect();
        Key::with(None, material, checks)
    }

    /// May this key be used with `algorithm`?
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.checks.iter().any(|(fit, _)| *fit == algorithm)
    }

    /// Does `signature` over `message` hold? Never, for an algorithm the key does not fit.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.checks.iter().filter(|(fit, _)| *fit == algorithm).any(|(_, check)| match check {
            Check::Public(key) => key.verify_sig(message, signature).is_ok(),
            Check::Shared(key) => hmac::verify(key, message, signature).is_ok(),
        })
    }

    /// The id for logs.
    pub fn label(&self) -> &str {
        self.kid.as_deref().unwrap_or("(without kid)")
    }

    fn with(kid: Option<&str>, material: &[u8], checks: Vec<(Algorithm, Check)>) -> Option<Key> {
        if checks.is_empty() {
            return None;
        }
        let mut hash = digest::Context::new(&digest::SHA256);
        // Each part is closed by its length, so that no two keys can spell one text.
        let kid_bytes = kid.unwrap_or_default().as_bytes();
        hash.update(&[u8::from(kid.is_some())]);
        hash.update(kid_bytes);
        hash.update(&kid_bytes.len().to_be_bytes());
        hash.update(material);
        hash.update(&material.len().to_be_bytes());
        for (algorithm, _) in &checks {
            hash.update(format!("{algorithm:?} ").as_bytes());
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        Some(Key { kid: kid.map(Into::into), fingerprint, checks })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<_> = self.checks.iter().map(|(algorithm, _)| algorithm).collect();
        f.debug_struct("Key").field("kid", &self.kid).field("algorithms", &algorithms).finish()
    }
}

/// Also says no to what is not an RSA key at all; then no RSA algorithm fits it anyway.
fn rsa_size_is_fit(spki: &[u8]) -> bool {
    PublicEncryptingKey::from_der(spki).is_ok_and(|key| RSA_BITS.contains(&key.key_size_bits()))
}

fn is_rsa(algorithm: Algorithm) -> bool {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
}

/// `jsonwebtoken` may grow algorithms (its enum is open): an unknown one fits no key.
fn public(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        // Fixed: r and s side by side (RFC 7518 §3.4). A DER signature is another spelling, refused.
        Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDSA => &signature::ED25519,
        _ => return None,
    })
}

fn shared(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_secret_fits_hmac_alone_and_a_public_key_never() {
        let configured = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256];

        let shared = Key::shared(&Secret::new("s".repeat(32)), &configured).unwrap();
        let public = Key::public(None, &[4; 65], [Algorithm::HS256]);

        assert!(shared.fits(Algorithm::HS256));
        assert!(!shared.fits(Algorithm::RS256));
        assert!(public.is_none());
    }

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let key = Key::shared(&Secret::new("hunter2hunter2"), &[Algorithm::HS256]).unwrap();

        assert_eq!(format!("{key:?}"), "Key { kid: None, algorithms: [HS256] }");
    }

    #[test]
    fn secrets_are_as_long_as_their_hash() {
        let lengths = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512, Algorithm::ES256];

        assert_eq!(lengths.map(secret_bytes_min), [32, 48, 64, 0]);
    }
}

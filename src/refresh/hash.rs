//! Refresh tokens as the ledger knows them: keyed hashes.
//!
//! The ledger never finds a session by the token itself. A plain hash would let a reader of the
//! shared store of a later day test guesses; HMAC with a key of the operator's does not. The
//! issuer's name is hashed along, so that equal tokens of two issuers are two sessions.

use std::fmt;

use aws_lc_rs::hmac;

use crate::policy::secret::Secret;

/// HMAC-SHA-256 of an issuer and a refresh token, cut to 128 bits (RFC 2104 §5).
///
/// 128 bits because the ledger holds several a session, and a collision cannot be searched for
/// without the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 16]);

impl TokenHash {
    /// The lowest of all, where a range of an ordered set begins.
    pub(super) const FIRST: TokenHash = TokenHash([0; 16]);

    /// For spreading hashes over a few places.
    pub(super) fn first_byte(self) -> u8 {
        let TokenHash([first, ..]) = self;
        first
    }

    /// For what a browser keeps, sealed.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// What [`TokenHash::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 16]) -> TokenHash {
        TokenHash(bytes)
    }

    /// All 32 hex digits, for the keys of a store.
    pub fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// What [`TokenHash::to_hex`] wrote.
    pub fn from_hex(hex: &str) -> Option<TokenHash> {
        let whole = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u128::from_str_radix(hex, 16).ok().filter(|_| whole)?;
        Some(TokenHash(value.to_be_bytes()))
    }
}

/// Makes the hashes of one process (or, with a shared key, of several).
pub(super) struct Hasher {
    key: hmac::Key,
}

impl Hasher {
    pub fn new(key: &[u8; 32]) -> Hasher {
        Hasher { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    pub fn hash(&self, issuer: &str, refresh_token: &Secret) -> TokenHash {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(issuer.as_bytes());
        // A name cannot contain NUL, so name and token cannot be shifted against each other.
        context.update(&[0]);
        context.update(refresh_token.expose().as_bytes());
        let mut cut = [0; 16];
        for (to, from) in cut.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        TokenHash(cut)
    }
}

/// Eight hex digits: enough to follow a session through the audit lines, too few to be a key.
impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_key_issuer_and_token() {
        let token = Secret::new("rt");
        let base = Hasher::new(&[1; 32]).hash("a", &token);
        assert_eq!(base, Hasher::new(&[1; 32]).hash("a", &token));
        assert_ne!(base, Hasher::new(&[2; 32]).hash("a", &token));
        assert_ne!(base, Hasher::new(&[1; 32]).hash("b", &token));
        assert_ne!(base, Hasher::new(&[1; 32]).hash("a", &Secret::new("rt2")));
    }

    #[test]
    fn hex_leads_there_and_back() {
        let hash = TokenHash([0x0a; 16]);
        assert_eq!(hash.to_hex(), "0a".repeat(16));
        assert_eq!(TokenHash::from_hex(&hash.to_hex()), Some(hash));
        for wrong in ["", "0a", "+a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", &"0g".repeat(16)] {
            assert_eq!(TokenHash::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_audit_line_shows_eight_digits() {
        assert_eq!(format!("{0} {0:?}", TokenHash([0xab; 16])), "abababab abababab");
    }
}

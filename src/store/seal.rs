//! Sealing what the store keeps.
//!
//! AES-256-GCM-SIV (RFC 8452), because all gateways draw random nonces under one key: with plain
//! GCM two equal nonces give the key away, and after 2³² values they become likely; with SIV they
//! only show that two equal values are equal.
//!
//! A sealed value is bound to its place (the name of its key in the store): one that was copied
//! elsewhere does not open. Keys are derived from the operator's by HKDF-SHA-256 (RFC 5869) under a
//! label a purpose. The key's id stands in clear, so that a later day can have two keys.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::{constant_time, hmac};
use zeroize::Zeroizing;

use crate::policy::secret::Secret;

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 12;
/// Of a MAC; forging one takes 2¹²⁸ tries against a store that is asked a few thousand times a second.
const MARK_BYTES: usize = 16;

/// The system's cryptography refused the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot be used")]
pub struct WeakKey;

/// Seals and opens values; made once from `store.key`.
pub struct Sealer {
    key_id: [u8; KEY_ID_BYTES],
    key: RandomizedNonceKey,
    marks: hmac::Key,
    hash_key: [u8; 32],
}

impl Sealer {
    /// Derives every key.
    ///
    /// # Errors
    /// The cryptographic library refused.
    pub fn new(key: &Secret) -> Result<Sealer, WeakKey> {
        Sealer::labelled(b"evergate store", key)
    }

    /// The same for what is kept elsewhere: no key under one label is one under another.
    ///
    /// # Errors
    /// The cryptographic library refused.
    pub fn labelled(label: &[u8], key: &Secret) -> Result<Sealer, WeakKey> {
        let prk = Salt::new(HKDF_SHA256, label).extract(key.expose().as_bytes());
        let seal: Zeroizing<[u8; 32]> = Zeroizing::new(derived(&prk, b"seal")?);
        let marks: Zeroizing<[u8; 32]> = Zeroizing::new(derived(&prk, b"mark")?);
        Ok(Sealer {
            key_id: derived(&prk, b"key id")?,
            key: RandomizedNonceKey::new(&AES_256_GCM_SIV, seal.as_ref()).map_err(|_| WeakKey)?,
            marks: hmac::Key::new(hmac::HMAC_SHA256, marks.as_ref()),
            hash_key: derived(&prk, b"refresh token hash")?,
        })
    }

    /// What every gateway that shares the store hashes refresh tokens with.
    pub fn hash_key(&self) -> [u8; 32] {
        self.hash_key
    }

    /// Seals `plain` for one place. `None`: the system gives no random bytes.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let mut inside = plain.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(place), &mut inside).ok()?;
        let mut sealed = vec![VERSION];
        sealed.extend(self.key_id);
        sealed.extend(nonce.as_ref());
        sealed.extend(inside);
        Some(sealed)
    }

    /// What was sealed for this place; `None`: another key, another place, or not as it was.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (version, rest) = sealed.split_first()?;
        let (key_id, rest) = rest.split_at_checked(KEY_ID_BYTES)?;
        let (nonce, inside) = rest.split_at_checked(NONCE_BYTES)?;
        if *version != VERSION || key_id != self.key_id {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut inside = Zeroizing::new(inside.to_vec());
        let length = self.key.open_in_place(nonce, Aad::from(place), &mut inside).ok()?.len();
        inside.truncate(length);
        Some(inside)
    }

    /// A mark that only a holder of the key can make, for a value that scripts must read.
    pub fn mark(&self, place: &str, value: &str) -> String {
        self.tag(place, value.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same in bytes. Nobody without the key can tell it from random ones.
    pub fn tag(&self, place: &str, value: &[u8]) -> [u8; MARK_BYTES] {
        let mut context = hmac::Context::with_key(&self.marks);
        // A place contains no NUL, so place and value cannot be shifted against each other.
        context.update(place.as_bytes());
        context.update(&[0]);
        context.update(value);
        let mut tag = [0; MARK_BYTES];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(slot, byte)| *slot = *byte);
        tag
    }

    /// Is this the mark of this value at this place?
    pub fn is_marked(&self, place: &str, value: &str, mark: &str) -> bool {
        let expected = self.mark(place, value);
        constant_time::verify_slices_are_equal(expected.as_bytes(), mark.as_bytes()).is_ok()
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derived<const N: usize>(prk: &Prk, label: &[u8]) -> Result<[u8; N], WeakKey> {
    let mut key = [0; N];
    let filled = prk.expand(&[label], Length(N)).and_then(|okm| okm.fill(&mut key));
    filled.map(|()| key).map_err(|_| WeakKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer(key: &str) -> Sealer {
        Sealer::new(&Secret::new(key)).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_at_its_place_only() {
        let sealer = sealer("a key");
        let sealed = sealer.seal("here", b"value").unwrap();
        assert_eq!(sealer.open("here", &sealed).unwrap().as_slice(), b"value");
        assert!(sealer.open("there", &sealed).is_none());
    }

    #[test]
    fn two_gateways_with_one_key_understand_each_other_and_nobody_else_does() {
        let sealed = sealer("a key").seal("here", b"value").unwrap();
        assert_eq!(sealer("a key").open("here", &sealed).unwrap().as_slice(), b"value");
        assert!(sealer("another").open("here", &sealed).is_none());
        assert_eq!(sealer("a key").hash_key(), sealer("a key").hash_key());
        assert_ne!(sealer("a key").hash_key(), sealer("another").hash_key());
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        let sealer = sealer("a key");
        let sealed = sealer.seal("here", b"value").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open("here", &changed).is_none(), "byte {at}");
            assert!(sealer.open("here", &sealed[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn no_two_sealed_values_are_alike_and_none_shows_what_is_inside() {
        let sealer = sealer("a key");
        let (one, two) = (sealer.seal("here", b"value"), sealer.seal("here", b"value"));
        assert_ne!(one, two);
        assert!(!one.unwrap().windows(5).any(|window| window == b"value"));
    }

    #[test]
    fn a_mark_is_of_one_value_at_one_place() {
        let sealer = sealer("a key");
        let mark = sealer.mark("here", "value");
        assert!(sealer.is_marked("here", "value", &mark));
        assert!(!sealer.is_marked("there", "value", &mark));
        assert!(!sealer.is_marked("here", "other", &mark));
        assert!(!sealer.is_marked("here", "value", ""));
    }
}

//! Tokens that were verified a moment ago.
//!
//! Holds verifications, never authorisations, failures or expired tokens. An entry is found by a
//! keyed hash of the whole token (see [`VerifiedTokens::name`]), so that nobody can find a
//! second token for it; it counts only under the key-set generation it was made under and before
//! `exp`. Looking up takes no lock that others wait on.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{digest, rand};
use moka::sync::Cache;

use crate::policy::claims::Verified;

/// Longest life of an entry. It bounds memory and the wait until a shortened key list is noticed by
/// a token that is used all the time; `exp` and the generation are judged at every look.
const LIFE: Duration = Duration::from_secs(300);

/// SHA-256 of a token.
pub type TokenHash = [u8; 32];

/// What an entry is found by.
pub type Name = [u8; 32];

#[derive(Clone)]
pub struct Entry {
    pub verified: Arc<Verified>,
    /// Of the issuer's key set.
    pub generation: u64,
}

pub struct VerifiedTokens {
    entries: Cache<Name, Entry>,
    /// Of this process, never shown.
    key: [u8; 32],
}

/// SHA-256 of `token`: the same for everyone.
pub fn hash(token: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

impl VerifiedTokens {
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(entries_max: u64) -> Result<VerifiedTokens, Unspecified> {
        let mut key = [0; 32];
        rand::fill(&mut key)?;
        Ok(VerifiedTokens {
            entries: Cache::builder().max_capacity(entries_max).time_to_live(LIFE).build(),
            key,
        })
    }

    /// The name under which `token` is kept: its keyed BLAKE3 hash.
    ///
    /// Every request pays for this. SHA-256 of a token costs a fifth of all that Pingora does for a
    /// request where the processor does not help with it; a fast hash that is no strong one would
    /// let somebody look for a second token for an entry.
    pub fn name(&self, token: &str) -> Name {
        *blake3::keyed_hash(&self.key, token.as_bytes()).as_bytes()
    }

    pub fn get(&self, name: &Name) -> Option<Entry> {
        self.entries.get(name)
    }

    pub fn insert(&self, name: Name, entry: Entry) {
        self.entries.insert(name, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha_256() {
        let shown: String = hash("abc").iter().map(|byte| format!("{byte:02x}")).collect();

        assert_eq!(shown, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_name_depends_on_every_byte_and_on_the_process() {
        let tokens = VerifiedTokens::new(1).unwrap();
        let named = |text: &str| tokens.name(text);

        assert_eq!(named("abc"), named("abc"));
        let others = ["abd", "ab", "abc\0", "", "Abc"].map(named);
        assert!(!others.contains(&named("abc")));
        assert_ne!(VerifiedTokens::new(1).unwrap().name("abc"), tokens.name("abc"));
    }
}

//! The keys of one issuer at one moment, and which of them a token belongs to.
//!
//! The *generation* counts the times that a key was dropped or changed. A verification made under an
//! older generation may rest on a key that the issuer has withdrawn, so it is worth nothing; one that
//! merely saw fewer keys stays good.

use std::sync::Arc;
use std::time::Duration;

use super::jws::Unverified;
use super::key::Key;

/// Most keys tried for one token. Only tokens or keys without `kid` ever need more than one or two.
const TRIES_MAX: usize = 8;

/// Read-only once made; replaced as a whole.
#[derive(Debug)]
pub struct KeySet {
    pub keys: Vec<Arc<Key>>,
    pub generation: u64,
    /// When it came, as uptime.
    pub fetched_at: Duration,
}

/// What a set says of a token's signature.
#[derive(Debug)]
pub enum Signature {
    Good(Arc<Key>),
    /// The key that the token names is here, and did not sign it.
    Bad,
    /// The key that the token names is here, and is not for the token's algorithm.
    OtherAlgorithm,
    /// The key that signed it is not here; a newer set may have it. `tried`: keys without an id, or
    /// for a token without one, were tried and did not sign it.
    NoKey {
        tried: bool,
    },
}

/// What a new set changed, as labels for the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub added: Vec<String>,
    pub dropped: Vec<String>,
}

impl KeySet {
    /// The set that follows `old`.
    pub fn following(old: Option<&KeySet>, keys: Vec<Key>, at: Duration) -> (KeySet, Change) {
        let keys: Vec<Arc<Key>> = keys.into_iter().map(Arc::new).collect();
        let old_keys = old.map_or(&[] as &[Arc<Key>], |old| &old.keys);
        let change = Change {
            added: labels_missing_from(old_keys, &keys),
            dropped: labels_missing_from(&keys, old_keys),
        };
        let generation =
            old.map_or(0, |old| old.generation) + u64::from(!change.dropped.is_empty());
        (KeySet { keys, generation, fetched_at: at }, change)
    }

    /// Looks for the key that signed `token`.
    ///
    /// A `kid` picks the keys of that id; several keys may share one, then the algorithm tells them
    /// apart. Without a match, keys that have no id are tried; a token without `kid` is tried with
    /// every key. Only keys that fit the algorithm count.
    pub fn check(&self, token: &Unverified<'_>) -> Signature {
        let kid = token.header.kid.as_deref();
        let named = || self.keys.iter().filter(|key| kid.is_some() && key.kid.as_deref() == kid);
        if named().next().is_some() {
            return match try_keys(named(), token) {
                Tried::Signed(key) => Signature::Good(key),
                Tried::NotSigned => Signature::Bad,
                Tried::NoneFits => Signature::OtherAlgorithm,
            };
        }
        let nameless = self.keys.iter().filter(|key| kid.is_none() || key.kid.is_none());
        match try_keys(nameless, token) {
            Tried::Signed(key) => Signature::Good(key),
            Tried::NotSigned => Signature::NoKey { tried: true },
            Tried::NoneFits => Signature::NoKey { tried: false },
        }
    }
}

impl Change {
    pub fn is_none(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty()
    }
}

enum Tried {
    Signed(Arc<Key>),
    NotSigned,
    NoneFits,
}

fn try_keys<'a>(keys: impl Iterator<Item = &'a Arc<Key>>, token: &Unverified<'_>) -> Tried {
    let algorithm = token.header.algorithm;
    let mut outcome = Tried::NoneFits;
    for key in keys.filter(|key| key.fits(algorithm)).take(TRIES_MAX) {
        if key.verifies(algorithm, token.signed.as_bytes(), &token.signature) {
            return Tried::Signed(Arc::clone(key));
        }
        outcome = Tried::NotSigned;
    }
    outcome
}

fn labels_missing_from(present: &[Arc<Key>], keys: &[Arc<Key>]) -> Vec<String> {
    let is_present = |key: &Key| present.iter().any(|other| other.fingerprint == key.fingerprint);
    keys.iter().filter(|key| !is_present(key)).map(|key| key.label().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm::{ES256, EdDSA, PS256, RS256};
    use serde_json::json;

    use super::*;
    use crate::token::jwk::read_set;
    use crate::token::jws;
    use crate::token::testing::{Signer, claims, key_set, settings};

    fn keys(signers: &[&Signer]) -> Vec<Key> {
        read_set(key_set(signers).as_bytes(), &settings().algorithms).unwrap().keys
    }

    fn set(signers: &[&Signer]) -> KeySet {
        KeySet::following(None, keys(signers), Duration::ZERO).0
    }

    /// `Ok` with the label of the key, or what was said instead.
    fn said(set: &KeySet, signer: &Signer) -> Result<String, String> {
        let token = signer.token(&claims(json!({})));
        match set.check(&jws::parse(&token, 8_192).unwrap()) {
            Signature::Good(key) => Ok(key.label().to_owned()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_kid_picks_the_key() {
        let (a, b) = (Signer::new(ES256, "a"), Signer::new(ES256, "b"));
        let set = set(&[&a, &b]);

        assert_eq!(said(&set, &b), Ok("b".into()));
        assert_eq!(said(&set, &Signer::new(ES256, "a")), Err("Bad".into()));
        assert_eq!(said(&set, &Signer::new(ES256, "c")), Err("NoKey { tried: false }".into()));
    }

    #[test]
    fn keys_that_share_a_kid_are_told_apart_by_algorithm_and_by_trying() {
        let (ec, other) = (Signer::new(ES256, "k"), Signer::new(ES256, "k"));
        let (ed, rsa) = (Signer::new(EdDSA, "k"), Signer::new(RS256, "k"));
        let set = set(&[&other, &ec, &ed, &rsa]);

        for signer in [&ec, &other, &ed, &rsa] {
            assert_eq!(said(&set, signer), Ok("k".into()));
        }
    }

    #[test]
    fn a_key_for_one_algorithm_takes_no_other() {
        let set = set(&[&Signer::new(RS256, "rsa")]);

        assert_eq!(said(&set, &Signer::new(PS256, "rsa")), Err("OtherAlgorithm".into()));
        assert_eq!(said(&set, &Signer::new(ES256, "rsa")), Err("OtherAlgorithm".into()));
    }

    #[test]
    fn without_a_kid_on_either_side_keys_are_tried() {
        let (a, b) = (Signer::new(ES256, "a"), Signer::new(ES256, "b").without_kid());
        let nameless = set(&[&a, &b]);
        let stranger = Signer::new(ES256, "x");

        assert_eq!(said(&nameless, &b), Ok("(without kid)".into()));
        assert_eq!(said(&nameless, &stranger), Err("NoKey { tried: true }".into()));
        assert_eq!(said(&set(&[&a]), &stranger), Err("NoKey { tried: false }".into()));
        let stranger = stranger.without_kid();
        assert_eq!(said(&set(&[&a]), &stranger), Err("NoKey { tried: true }".into()));
    }

    #[test]
    fn tries_for_one_token_are_bounded() {
        let many: Vec<Signer> = (0..=TRIES_MAX).map(|_| Signer::new(ES256, "k")).collect();
        let set = set(&many.iter().collect::<Vec<_>>());

        assert_eq!(said(&set, &many[TRIES_MAX - 1]), Ok("k".into()));
        assert_eq!(said(&set, &many[TRIES_MAX]), Err("Bad".into()));
    }

    #[test]
    fn only_a_dropped_or_changed_key_starts_a_new_generation() {
        let (a, b, b2) =
            (Signer::new(ES256, "a"), Signer::new(EdDSA, "b"), Signer::new(EdDSA, "b"));
        let mut set = set(&[&a]);
        let mut follow = |signers: &[&Signer]| {
            let (next, change) = KeySet::following(Some(&set), keys(signers), Duration::ZERO);
            set = next;
            (set.generation, change.added.join(","), change.dropped.join(","))
        };

        assert_eq!(follow(&[&a]), (0, String::new(), String::new()));
        assert_eq!(follow(&[&b, &a]), (0, "b".into(), String::new()));
        assert_eq!(follow(&[&b]), (1, String::new(), "a".into()));
        assert_eq!(follow(&[&b2]), (2, "b".into(), "b".into()));
        assert_eq!(follow(&[]), (3, String::new(), "b".into()));
    }
}

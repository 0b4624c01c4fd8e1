//! Sealing what a browser keeps for the gateway.
//!
//! A browser may hold a value and must neither read nor change it. The first key of
//! `cookies.encryption_keys` seals, all of them open: so a key is replaced without logging anybody
//! out. A sealed value opens for the purpose only that it was sealed for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::policy::secret::Secret;
use crate::store::{Sealer, WeakKey};

/// Keys are derived under another label than a store's, so that one operator's key may serve both.
const LABEL: &[u8] = b"evergate cookies";

/// The keys of `cookies.encryption_keys`.
pub struct Seals {
    first: Sealer,
    others: Vec<Sealer>,
}

impl Seals {
    /// The first key seals, all open.
    ///
    /// # Errors
    /// The cryptographic library refused a key.
    pub fn new(first: &Secret, others: &[Secret]) -> Result<Seals, WeakKey> {
        let others = others.iter().map(|key| Sealer::labelled(LABEL, key));
        Ok(Seals {
            first: Sealer::labelled(LABEL, first)?,
            others: others.collect::<Result<_, _>>()?,
        })
    }

    /// `plain` sealed for one purpose, as text of letters, digits, `-` and `_`: 4/3 of its length and
    /// of 33 bytes more. `None`: the system gives no random bytes.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Option<String> {
        self.first.seal(purpose, plain).map(|sealed| URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What was sealed for this purpose under any of the keys.
    pub fn open(&self, purpose: &str, text: &str) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut all = std::iter::once(&self.first).chain(&self.others);
        all.find_map(|sealer| sealer.open(purpose, &sealed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seals(keys: &[&str]) -> Seals {
        let keys: Vec<Secret> = keys.iter().map(|key| Secret::new(*key)).collect();
        let (first, others) = keys.split_first().unwrap();
        Seals::new(first, others).unwrap()
    }

    fn opened(seals: &Seals, text: &str) -> Option<Vec<u8>> {
        seals.open("purpose", text).map(|plain| plain.to_vec())
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let (old, both) = (seals(&["old"]), seals(&["new", "old"]));
        let (by_old, by_both) =
            (old.seal("purpose", b"value").unwrap(), both.seal("purpose", b"value").unwrap());
        assert_eq!(opened(&both, &by_old), Some(b"value".to_vec()));
        assert_eq!(opened(&both, &by_both), Some(b"value".to_vec()));
        assert_eq!(opened(&old, &by_both), None);
        assert_eq!(opened(&seals(&["new"]), &by_both), Some(b"value".to_vec()));
    }

    #[test]
    fn a_value_opens_for_its_purpose_only_and_not_with_a_stores_key() {
        let seals = seals(&["key"]);
        let text = seals.seal("purpose", b"value").unwrap();
        assert!(seals.open("another", &text).is_none());
        let sealed = URL_SAFE_NO_PAD.decode(&text).unwrap();
        assert!(Sealer::new(&Secret::new("key")).unwrap().open("purpose", &sealed).is_none());
    }

    #[test]
    fn what_is_no_sealed_value_opens_for_nothing() {
        let seals = seals(&["key"]);
        let text = seals.seal("purpose", b"value").unwrap();
        for broken in ["", "x", "*", &text[1..], &format!("{text}="), &format!("{text}A")] {
            assert_eq!(opened(&seals, broken), None, "{broken}");
        }
    }
}

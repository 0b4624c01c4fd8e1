//! What this room counts. Metrics read it; nothing here depends on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Verdict;
use crate::policy::reason::Reason;

/// The result word of a good token; every other result is a [`Reason`]'s word.
pub const GOOD: &str = "good";

/// Counters since the process started. Relaxed: they are read for display only.
#[derive(Debug)]
pub struct TokenStats {
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    good: AtomicU64,
    /// In the order of [`Reason::ALL`].
    refused: Box<[AtomicU64]>,
}

/// The state of one issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerStats {
    pub name: Arc<str>,
    pub fetches_ok: u64,
    pub fetches_failed: u64,
    /// Keys in the set; 0 before the first one came.
    pub keys: usize,
    /// Seconds since the set was fetched; `None` before the first one came.
    pub key_set_age_s: Option<u64>,
    /// Can its tokens be verified now?
    pub usable: bool,
}

impl Default for TokenStats {
    fn default() -> TokenStats {
        TokenStats {
            cache_hits: AtomicU64::new(0),
            cache_misses: AtomicU64::new(0),
            good: AtomicU64::new(0),
            refused: Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl TokenStats {
    pub fn cache_hits(&self) -> u64 {
        self.cache_hits.load(Ordering::Relaxed)
    }

    pub fn cache_misses(&self) -> u64 {
        self.cache_misses.load(Ordering::Relaxed)
    }

    /// Complete verifications by result word, those that happened.
    pub fn verifications(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let refused = Reason::ALL.iter().map(|reason| reason.word()).zip(&self.refused);
        std::iter::once((GOOD, &self.good))
            .chain(refused)
            .map(|(word, count)| (word, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
    }

    pub(super) fn looked_up(&self, hit: bool) {
        let counter = if hit { &self.cache_hits } else { &self.cache_misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn verified(&self, verdict: &Verdict) {
        let reason = match verdict {
            Verdict::Good(_) => {
                self.good.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Verdict::Expired(_) => Reason::Expired,
            Verdict::Bad(reason) => *reason,
            Verdict::KeysUnavailable { .. } => Reason::KeysUnavailable,
        };
        if let Some(counter) = self.refused.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let stats = TokenStats::default();

        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            stats.verified(&Verdict::Bad(*reason));
        }

        assert_eq!(stats.verifications().count(), Reason::ALL.len());
        assert!(stats.verifications().all(|(_, count)| count == 1));
    }
}

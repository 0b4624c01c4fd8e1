//! One issuer: what it may sign, and which of its keys signed a token.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fetch::Fetcher;
use super::jws::{Header, Unverified};
use super::key::{Key, is_shared};
use super::key_set::Signature;
use super::live_keys::{Absence, LiveKeys, Met};
use super::pace::Wish;
use super::refused::Refused;
use super::stats::IssuerStats;
use super::{IssuerSettings, KeySource, TokenSetupError, source};
use crate::policy::reason::Reason;
use crate::policy::time::Now;

pub struct Issuer {
    pub settings: Arc<IssuerSettings>,
    pub keys: Arc<LiveKeys>,
}

/// Who wants a token verified: it decides what an unknown key may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A request: one shared fetch in `min_interval`.
    Stranger,
    /// The gateway itself: one fetch of its own.
    Ourselves,
}

/// Why no key was found.
#[derive(Debug)]
pub enum NoKey {
    Refused(Refused),
    Unavailable(&'static str),
}

/// What the keys that are here say.
enum Look {
    Found(Arc<Key>, u64),
    OtherAlgorithm,
    /// The named key is here and did not sign it.
    Bad,
    NoKey {
        tried: bool,
    },
    NoSet,
}

const BAD_SIGNATURE: NoKey =
    NoKey::Refused(Refused::because(Reason::BadSignature, "no key of the issuer signed it"));
const UNKNOWN_KEY: NoKey =
    NoKey::Refused(Refused::because(Reason::UnknownKey, "the issuer has no key of that kid"));
const OTHER_ALGORITHM: NoKey = NoKey::Refused(Refused::because(
    Reason::WrongAlgorithm,
    "the key of that kid is not for the token's alg",
));
const NO_SET: NoKey =
    NoKey::Unavailable("the issuer's keys were never fetched, were withdrawn, or are too old");
const NO_ANSWER: NoKey =
    NoKey::Unavailable("no key here signed it, and the issuer does not answer: it may have others");

impl Issuer {
    /// Checks the settings and loads the keys that are on this machine.
    ///
    /// # Errors
    /// See [`TokenSetupError`].
    pub fn new(
        settings: IssuerSettings,
        fetcher: Option<Arc<Fetcher>>,
        now: Now,
    ) -> Result<Issuer, TokenSetupError> {
        check(&settings)?;
        let local = source::load_local(&settings)
            .map_err(|cause| TokenSetupError::Keys { issuer: Arc::clone(&settings.name), cause })?;
        let settings = Arc::new(settings);
        let keys = Arc::new(LiveKeys::new(Arc::clone(&settings), fetcher, local, now));
        Ok(Issuer { settings, keys })
    }

    /// May this issuer's tokens have such a header?
    ///
    /// # Errors
    /// `wrong_algorithm`, `wrong_type`.
    pub fn admits(&self, header: &Header) -> Result<(), Refused> {
        self.admits_algorithm(header)?;
        if !self.settings.token_types.iter().any(|accepted| **accepted == *header.token_type) {
            return Err(Refused::because(
                Reason::WrongType,
                "typ is not among the issuer's token_types (absent counts as JWT)",
            ));
        }
        Ok(())
    }

    /// # Errors
    /// `wrong_algorithm`.
    pub fn admits_algorithm(&self, header: &Header) -> Result<(), Refused> {
        const OTHER: Refused =
            Refused::because(Reason::WrongAlgorithm, "alg is not among the issuer's algorithms");
        if self.settings.algorithms.contains(&header.algorithm) { Ok(()) } else { Err(OTHER) }
    }

    /// The key that signed the token and the generation of its set; asks the issuer if it may.
    ///
    /// # Errors
    /// `bad_signature`, `unknown_key`, `wrong_algorithm`, or that the keys are out of reach.
    pub async fn find_key(
        &self,
        token: &Unverified<'_>,
        asker: Asker,
        now: Now,
    ) -> Result<(Arc<Key>, u64), NoKey> {
        let kid = token.header.kid.as_deref();
        // A fetch that was joined may have started before the key came to be. For our own tokens that
        // is not good enough, so they may ask again.
        let mut asks_left = match asker {
            Asker::Stranger => 1,
            Asker::Ourselves => 2,
        };
        let mut last_met = Met::Not;
        loop {
            let look = self.look(token, now);
            let wish = match (&look, asker) {
                (Look::Found(key, generation), _) => return Ok((Arc::clone(key), *generation)),
                (Look::OtherAlgorithm, _) => return Err(OTHER_ALGORITHM),
                // Only our own tokens are worth asking whether a known id got a new key: else every
                // forged signature would cost a fetch.
                (Look::Bad, Asker::Stranger) => return Err(BAD_SIGNATURE),
                (Look::Bad | Look::NoKey { .. } | Look::NoSet, Asker::Ourselves) => Wish::Own,
                (Look::NoKey { .. }, Asker::Stranger) => Wish::Kid(kid),
                (Look::NoSet, Asker::Stranger) => Wish::AnyKey,
            };
            let met = if asks_left > 0 { self.keys.fetch(wish, now).await } else { Met::Not };
            asks_left = match met {
                Met::Not => return Err(self.give_up(&look, wish, last_met, now)),
                Met::Joined => asks_left - 1,
                Met::Fetched => 0,
            };
            last_met = met;
        }
    }

    pub fn stats(&self, now: Now) -> IssuerStats {
        let (keys, age) = self.keys.size_and_age(now).unzip();
        IssuerStats {
            name: Arc::clone(&self.settings.name),
            fetches_ok: self.keys.counts.ok.load(Ordering::Relaxed),
            fetches_failed: self.keys.counts.failed.load(Ordering::Relaxed),
            keys: keys.unwrap_or(0),
            key_set_age_s: match self.settings.keys {
                KeySource::Discovery | KeySource::Url(_) | KeySource::File(_) => {
                    age.map(|age| age.as_secs())
                }
                // What stands in the configuration does not grow old.
                KeySource::Pem(_) | KeySource::Secret(_) => Some(0),
            },
            usable: self.keys.current(now).is_some(),
        }
    }

    fn look(&self, token: &Unverified<'_>, now: Now) -> Look {
        let current = self.keys.current(now);
        let Some(set) = current.as_ref().and_then(|set| set.as_ref()) else { return Look::NoSet };
        match set.check(token) {
            Signature::Good(key) => Look::Found(key, set.generation),
            Signature::Bad => Look::Bad,
            Signature::OtherAlgorithm => Look::OtherAlgorithm,
            Signature::NoKey { tried } => Look::NoKey { tried },
        }
    }

    fn give_up(&self, look: &Look, wish: Wish<'_>, met: Met, now: Now) -> NoKey {
        let tried = match look {
            Look::Found(..) | Look::OtherAlgorithm | Look::NoSet => return NO_SET,
            Look::Bad => true,
            Look::NoKey { tried } => *tried,
        };
        match self.keys.absence(wish, met, now) {
            Absence::Doubtful => NO_ANSWER,
            Absence::Certain if tried => BAD_SIGNATURE,
            Absence::Certain => UNKNOWN_KEY,
        }
    }
}

fn check(settings: &IssuerSettings) -> Result<(), TokenSetupError> {
    let issuer = || Arc::clone(&settings.name);
    let shared = match settings.keys {
        KeySource::Secret(_) => true,
        KeySource::Discovery | KeySource::Url(_) | KeySource::File(_) | KeySource::Pem(_) => false,
    };
    if settings.algorithms.is_empty() {
        return Err(TokenSetupError::NoAlgorithm(issuer()));
    }
    if settings.audience.is_empty() {
        return Err(TokenSetupError::NoAudience(issuer()));
    }
    match settings.algorithms.iter().find(|algorithm| is_shared(**algorithm) != shared) {
        Some(&algorithm) => Err(TokenSetupError::Algorithm { issuer: issuer(), algorithm }),
        None => Ok(()),
    }
}

//! The room's door: every issuer, the verified-token cache, and the verdict on a token.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::Discovered;
use super::cache::{self, Entry, VerifiedTokens};
use super::fetch::Fetcher;
use super::issuer::{Asker, Issuer, NoKey};
use super::jws::{self, Unverified};
use super::key::Key;
use super::refused::Refused;
use super::stats::{IssuerStats, TokenStats};
use super::{IssuerSettings, KeySource, TokenLimits, TokenSetupError, Verdict};
use super::{claims, verified};
use crate::clock;
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::reason::Reason;
use crate::policy::time::Now;

/// All issuers, their key sets and the verified-token cache.
pub struct Tokens {
    /// Indexed by `IssuerId`.
    issuers: Vec<Issuer>,
    limits: TokenLimits,
    cache: VerifiedTokens,
    stats: TokenStats,
}

/// A verdict and where it comes from.
pub(super) struct Judged {
    pub verdict: Verdict,
    /// One sentence for the operator.
    pub detail: &'static str,
    pub issuer: Option<IssuerId>,
    pub key: Option<Arc<Key>>,
}

impl Tokens {
    /// Checks the settings and loads the keys that are on this machine. Nothing is fetched yet: that
    /// is for [`Tokens::keep_fresh`], or for the first token.
    ///
    /// # Errors
    /// See [`TokenSetupError`].
    pub fn new(
        issuers: Vec<IssuerSettings>,
        limits: TokenLimits,
    ) -> Result<Arc<Tokens>, TokenSetupError> {
        let is_remote = |settings: &IssuerSettings| match settings.keys {
            KeySource::Discovery | KeySource::Url(_) => true,
            KeySource::File(_) | KeySource::Pem(_) | KeySource::Secret(_) => false,
        };
        let fetcher = match issuers.iter().any(is_remote) {
            true => Some(Arc::new(Fetcher::new().map_err(TokenSetupError::HttpClient)?)),
            false => None,
        };
        let now = clock::now();
        let issuers = issuers
            .into_iter()
            .map(|settings| Issuer::new(settings, fetcher.clone(), now))
            .collect::<Result<_, _>>()?;
        let cache = VerifiedTokens::new(limits.verified_tokens_max)
            .map_err(|_| TokenSetupError::NoRandom)?;
        Ok(Arc::new(Tokens { issuers, limits, cache, stats: TokenStats::default() }))
    }

    /// Fetches every key set now and keeps it fresh; ends when it is dropped, and at once if no
    /// issuer's keys can change. The first fetch holds nothing up.
    pub async fn keep_fresh(&self) {
        let mut tasks = JoinSet::new();
        for issuer in &self.issuers {
            tasks.spawn(Arc::clone(&issuer.keys).keep_fresh(clock::now));
        }
        while tasks.join_next().await.is_some() {}
    }

    /// The verification of `token` from a moment ago, if it still holds for one of `accepted`.
    ///
    /// Ask this first. No await, no allocation, no lock that others wait on; now and then the cache
    /// tidies up in the caller's thread, if nobody else does at that moment.
    pub fn cached(&self, token: &str, accepted: &[IssuerId], now: Now) -> Option<Arc<Verified>> {
        let hit = self.look_up(token, accepted, now);
        self.stats.looked_up(hit.is_some());
        hit
    }

    /// Verifies `token` completely for one of `accepted` (chosen by its `iss`), without a look into
    /// the cache; a good one is put there.
    pub async fn verify(&self, token: &str, accepted: &[IssuerId], now: Now) -> Verdict {
        self.judge(token, accepted, Asker::Stranger, now).await.verdict
    }

    /// Verifies a token that the gateway was just given by the issuer's own backend.
    ///
    /// As [`Tokens::verify`], but an unknown key may cost one fetch even when strangers have used up
    /// theirs. `KeysUnavailable` says nothing about the token: keep it and try again.
    pub async fn verify_new(&self, token: &str, issuer: IssuerId, now: Now) -> Verdict {
        self.judge(token, &[issuer], Asker::Ourselves, now).await.verdict
    }

    /// What the issuer's discovery document says, if its keys come by it and are not too old.
    pub fn discovered(&self, issuer: IssuerId, now: Now) -> Option<Arc<Discovered>> {
        self.issuer(issuer)?.keys.discovered(now)
    }

    /// The room's counters.
    pub fn stats(&self) -> &TokenStats {
        &self.stats
    }

    /// The state of every issuer's keys, in the order of `IssuerId`.
    pub fn issuer_stats(&self, now: Now) -> Vec<IssuerStats> {
        self.issuers.iter().map(|issuer| issuer.stats(now)).collect()
    }

    /// [`Tokens::verify`] with everything that was found out.
    pub(super) async fn judge(
        &self,
        token: &str,
        accepted: &[IssuerId],
        asker: Asker,
        now: Now,
    ) -> Judged {
        let judged = match jws::parse(token, self.limits.token_bytes_max) {
            Err(refused) => Judged::refused(refused),
            Ok(parts) => match self.choose(&parts, accepted) {
                Err(refused) => Judged::refused(refused),
                Ok((id, issuer)) => {
                    let judged = self.judge_for(issuer, id, token, parts, asker, now).await;
                    Judged { issuer: Some(id), ..judged }
                }
            },
        };
        self.stats.verified(&judged.verdict);
        judged
    }

    pub(super) fn issuer(&self, id: IssuerId) -> Option<&Issuer> {
        self.issuers.get(usize::from(id.0))
    }

    pub(super) fn issuer_ids(&self) -> impl Iterator<Item = IssuerId> {
        (0..=u16::MAX).take(self.issuers.len()).map(IssuerId)
    }

    pub(super) fn token_bytes_max(&self) -> usize {
        self.limits.token_bytes_max
    }

    fn look_up(&self, token: &str, accepted: &[IssuerId], now: Now) -> Option<Arc<Verified>> {
        if token.len() > self.limits.token_bytes_max {
            return None;
        }
        let Entry { verified, generation } = self.cache.get(&self.cache.name(token))?;
        if !accepted.contains(&verified.issuer) || verified.expires_at <= now.unix {
            return None;
        }
        let set = self.issuer(verified.issuer)?.keys.current(now)?;
        let still_holds = set.as_ref()?.generation == generation;
        still_holds.then_some(verified)
    }

    /// The accepted issuer that `iss` names; no two share a url.
    pub(super) fn choose(
        &self,
        parts: &Unverified<'_>,
        accepted: &[IssuerId],
    ) -> Result<(IssuerId, &Issuer), Refused> {
        const NONE: Refused =
            Refused::because(Reason::WrongIssuer, "iss is no issuer that is accepted here");
        let named = claims::issuer(&parts.claims)?;
        let mut issuers = accepted.iter().filter_map(|id| Some((*id, self.issuer(*id)?)));
        issuers.find(|(_, issuer)| issuer.settings.url == named).ok_or(NONE)
    }

    async fn judge_for(
        &self,
        issuer: &Issuer,
        id: IssuerId,
        token: &str,
        parts: Unverified<'_>,
        asker: Asker,
        now: Now,
    ) -> Judged {
        if let Err(refused) = issuer.admits(&parts.header) {
            return Judged::refused(refused);
        }
        // Looking for the key may have waited for a fetch: time has passed since the request came.
        let stopwatch = tokio::time::Instant::now();
        let found = issuer.find_key(&parts, asker, now).await;
        let now = now.later(stopwatch.elapsed());
        let (key, generation) = match found {
            Ok(found) => found,
            Err(NoKey::Refused(refused)) => return Judged::refused(refused),
            Err(NoKey::Unavailable(detail)) => {
                let retry_after_s = issuer.keys.retry_after_s(now);
                return Judged::without_key(Verdict::KeysUnavailable { retry_after_s }, detail);
            }
        };
        let settings = &issuer.settings;
        let registered = match claims::registered(&parts.claims, settings, now.unix) {
            Ok(registered) => registered,
            Err(refused) => return Judged { key: Some(key), ..Judged::refused(refused) },
        };
        let hash = cache::hash(token);
        let verified =
            Arc::new(verified::verified(id, settings, registered, parts.claims, &hash, now.unix));
        let (verdict, detail) = if verified.expires_at <= now.unix {
            (Verdict::Expired(verified), "exp has passed; everything else holds")
        } else {
            // A renewed token is not remembered before a request shows it: the first sight of it is
            // how its session learns that the browser has the new cookies.
            if asker == Asker::Stranger {
                let name = self.cache.name(token);
                self.cache.insert(name, Entry { verified: Arc::clone(&verified), generation });
            }
            (Verdict::Good(verified), "everything holds")
        };
        Judged { key: Some(key), ..Judged::without_key(verdict, detail) }
    }
}

impl Judged {
    fn without_key(verdict: Verdict, detail: &'static str) -> Judged {
        Judged { verdict, detail, issuer: None, key: None }
    }

    fn refused(refused: Refused) -> Judged {
        Judged::without_key(Verdict::Bad(refused.reason), refused.detail)
    }
}

//! A logout token verified: the issuer's signature first, then what it says.
//!
//! As an access token is, with the same keys and algorithms. It is never remembered, and what it brings
//! about is no business of this room.

use super::issuer::{Asker, NoKey};
use super::jws;
use super::tokens::Tokens;
use crate::policy::claims::IssuerId;
use crate::policy::logout_token::{Expected, LogoutToken, TYPES, judge};
use crate::policy::time::Now;

/// What became of one logout token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogoutVerdict {
    Good(IssuerId, LogoutToken),
    /// Why not, as a sentence that quotes nothing; by whom it says that it was signed.
    Bad(Option<IssuerId>, &'static str),
    /// As [`super::Verdict::KeysUnavailable`].
    KeysUnavailable(IssuerId, u64),
}

impl Tokens {
    /// Verifies a logout token of any issuer (OpenID Connect Back-Channel Logout 1.0 §2.6).
    pub async fn verify_logout(&self, token: &str, now: Now) -> LogoutVerdict {
        let parts = match jws::parse(token, self.token_bytes_max()) {
            Ok(parts) => parts,
            Err(refused) => return LogoutVerdict::Bad(None, refused.detail),
        };
        let all: Vec<IssuerId> = self.issuer_ids().collect();
        let (id, issuer) = match self.choose(&parts, &all) {
            Ok(chosen) => chosen,
            Err(refused) => return LogoutVerdict::Bad(None, refused.detail),
        };
        if let Err(refused) = issuer.admits_algorithm(&parts.header) {
            return LogoutVerdict::Bad(Some(id), refused.detail);
        }
        if !TYPES.contains(&&*parts.header.token_type) {
            return LogoutVerdict::Bad(Some(id), "typ is neither logout+jwt nor JWT");
        }
        // Looking for the key may wait for a fetch, as for a stranger's token: whoever asks here is one.
        let stopwatch = tokio::time::Instant::now();
        match issuer.find_key(&parts, Asker::Stranger, now).await {
            Ok(_) => {}
            Err(NoKey::Refused(refused)) => return LogoutVerdict::Bad(Some(id), refused.detail),
            Err(NoKey::Unavailable(_)) => {
                return LogoutVerdict::KeysUnavailable(id, issuer.keys.retry_after_s(now));
            }
        }
        let now = now.later(stopwatch.elapsed());
        let settings = &issuer.settings;
        let expected = Expected {
            issuer: &settings.url,
            audience: &settings.logout_audience,
            leeway: settings.leeway,
        };
        match judge(&parts.claims, &expected, now.unix) {
            Ok(token) => LogoutVerdict::Good(id, token),
            Err(defect) => LogoutVerdict::Bad(Some(id), defect),
        }
    }
}

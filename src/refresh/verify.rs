//! The seam to the token room: a renewed access token is believed only after it was verified.

use std::time::Duration;

use async_trait::async_trait;

use super::events::{Detail, EndReason};
use super::record::Landing;
use crate::policy::claims::IssuerId;
use crate::policy::reason::Reason;
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::token::{Tokens, Verdict};

/// Verifies access tokens that an auth backend has just sent.
#[async_trait]
pub trait Verify: Send + Sync {
    /// Verifies completely, as for a request; may fetch the issuer's key set once.
    async fn verify(&self, access: &Secret, issuer: IssuerId, now: Now) -> Verdict;
}

#[async_trait]
impl Verify for Tokens {
    async fn verify(&self, access: &Secret, issuer: IssuerId, now: Now) -> Verdict {
        self.verify_new(access.expose(), issuer, now).await
    }
}

/// What a verdict means for the session whose renewed token it is about, and a word for the log if
/// it is no good one. `kept`: the token has been waiting since an earlier flight.
pub(super) fn judge(verdict: Verdict, kept: bool) -> (Landing, Option<Detail>) {
    let reason = match verdict {
        Verdict::Good(verified) => return (Landing::Good(verified), None),
        Verdict::Expired(verified) => {
            let detail = Detail::new("expired_on_arrival");
            return (Landing::ExpiredOnArrival(verified), Some(detail));
        }
        Verdict::KeysUnavailable { retry_after_s } => {
            let retry_after = Duration::from_secs(retry_after_s);
            return (Landing::KeysAway { retry_after }, Some(Detail::new("keys_unavailable")));
        }
        Verdict::Bad(reason) => reason,
    };
    let landing = match reason {
        // A token made for somebody else. The session cannot go on with it.
        Reason::WrongIssuer => Landing::Wrong(EndReason::WrongIssuer),
        Reason::WrongAudience => Landing::Wrong(EndReason::WrongAudience),
        // Time may mend these: a key set behind a cache that has not seen the new key yet, a
        // backend whose clock is ahead. Waiting once is enough; then another token is asked for.
        Reason::UnknownKey | Reason::NotYetValid if !kept => {
            Landing::KeysAway { retry_after: Duration::ZERO }
        }
        // The rest is a disagreement about what a token looks like: the operator's to settle, and
        // no reason to log anybody out.
        _ => Landing::Unusable,
    };
    (landing, Some(Detail::new(reason.word())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing(reason: Reason, kept: bool) -> String {
        let (landing, detail) = judge(Verdict::Bad(reason), kept);
        assert_eq!(detail, Some(Detail::new(reason.word())));
        format!("{landing:?}")
    }

    #[test]
    fn a_token_for_somebody_else_ends_the_session_and_no_other_reason_does() {
        for &reason in Reason::ALL {
            let ends = landing(reason, false).starts_with("Wrong(");
            assert_eq!(ends, matches!(reason, Reason::WrongIssuer | Reason::WrongAudience));
        }
    }

    #[test]
    fn what_time_may_mend_is_kept_once() {
        for reason in [Reason::UnknownKey, Reason::NotYetValid] {
            assert_eq!(landing(reason, false), "KeysAway { retry_after: 0ns }");
            assert_eq!(landing(reason, true), "Unusable");
        }
        assert_eq!(landing(Reason::BadSignature, false), "Unusable");
    }

    #[test]
    fn keys_out_of_reach_say_when_to_try_again() {
        let (landing, _) = judge(Verdict::KeysUnavailable { retry_after_s: 7 }, true);
        assert_eq!(format!("{landing:?}"), "KeysAway { retry_after: 7s }");
    }
}

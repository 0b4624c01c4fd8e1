//! What an open stream asks of the session that opened it.
//!
//! A stream follows its session: renewed by any tab, at any gateway, it lives on; over, it ends. To
//! ask counts as no use: nothing is noted as shown, nothing is confirmed, no spent token is counted,
//! and nobody is asked for new tokens.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::Refresher;
use super::board::Shared;
use super::hash::TokenHash;
use super::ledger::Visitor;
use super::record::{Followed, Newest};
use super::sync::pull;
use crate::policy::claims::Verified;
use crate::policy::secret::Secret;
use crate::policy::time::{Now, UnixSeconds};
use crate::token::Verdict;

/// How the session of a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing newer is known than what opened the stream.
    AsItWas,
    /// The newest access token of the session ends then. `spent`: the refresh token that opened the
    /// stream serves no longer.
    Renewed { until: UnixSeconds, spent: bool },
    /// Logged out, refused, or revoked.
    Over,
}

/// A stream's tie to its session, undone on drop.
pub struct Follower {
    shared: Arc<Shared>,
    visitor: Visitor,
    /// `None`: it was not shown, only what names it.
    refresh: Option<Secret>,
}

impl Refresher {
    /// Ties a stream to the session of the refresh token that opened it. `None`: nothing is
    /// refreshed for this issuer.
    pub fn follow(&self, access: &Arc<Verified>, refresh: Secret) -> Option<Follower> {
        let hash = self.hash(access.issuer, &refresh)?;
        Some(self.follower(access, hash, Some(refresh)))
    }

    /// As [`Refresher::follow`], by the name of the refresh token, which a browser shows elsewhere.
    pub fn follow_named(&self, access: &Arc<Verified>, refresh: TokenHash) -> Follower {
        self.follower(access, refresh, None)
    }

    fn follower(
        &self,
        access: &Arc<Verified>,
        hash: TokenHash,
        refresh: Option<Secret>,
    ) -> Follower {
        let issuer = access.issuer;
        let client = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let visitor = Visitor { issuer, client, hash, access: Some(access.clone()) };
        let mut followed = self.shared.followed.lock().unwrap_or_else(PoisonError::into_inner);
        *followed.entry(hash).or_default() += 1;
        drop(followed);
        Follower { shared: self.shared.clone(), visitor, refresh }
    }

    /// Changes whenever a session is over: the time to ask [`Follower::is_over`].
    pub fn ends(&self) -> watch::Receiver<u64> {
        self.shared.ends.subscribe()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followed = self.shared.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(streams) = followed.get_mut(&self.visitor.hash) {
            *streams -= 1;
            if *streams == 0 {
                followed.remove(&self.visitor.hash);
            }
        }
    }
}

impl Follower {
    /// How the session stands, here and in the store. If the store is away, what is known here is the
    /// best there is.
    pub async fn standing(&self, now: Now) -> Standing {
        let _ = pull(&self.shared, &self.visitor, self.refresh.as_ref()).await;
        let Newest { until, spent } = match self.followed(now) {
            Followed::Unknown => return Standing::AsItWas,
            Followed::Over => return Standing::Over,
            Followed::Renewed(newest) => newest,
        };
        let until = match until {
            Ok(until) => Some(until),
            // Another gateway's word is believed no more than the auth backend's.
            Err(unchecked) => self.verified(&unchecked, now).await,
        };
        until.map_or(Standing::AsItWas, |until| Standing::Renewed { until, spent })
    }

    /// Is the session known here to be over?
    pub fn is_over(&self, now: Now) -> bool {
        matches!(self.followed(now), Followed::Over)
    }

    fn followed(&self, now: Now) -> Followed {
        self.shared.step(|board| board.ledger.followed(&self.visitor, now))
    }

    /// The end of an access token of the same person.
    async fn verified(&self, access: &Secret, now: Now) -> Option<UnixSeconds> {
        let issuer = self.visitor.issuer;
        let Verdict::Good(new) = self.shared.verify.verify(access, issuer, now).await else {
            return None;
        };
        let same = self.visitor.access.as_ref().is_some_and(|old| old.subject == new.subject);
        same.then_some(new.expires_at)
    }
}

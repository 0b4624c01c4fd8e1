//! What a record gives: cookies for a browser, tokens for the auth backend's own route.

use super::{Access, Record, Shown, Standing};
use crate::policy::claims::Verified;
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::refresh::settings::Rotation;
use crate::refresh::{ForBackend, NewCookies};

impl Record {
    /// The head's cookies if this browser lacks them; and whether they have left before.
    pub fn deliver(&mut self, shown: Shown, now: Now) -> Option<(NewCookies, bool)> {
        // After the end there is no access token; before a check the refresh token is newer.
        let access = self.access.as_ref().filter(|_| self.unchecked.is_none())?;
        let refresh = match self.standing(shown, now) {
            Standing::Old if !self.is_confirmed() || self.rotation == Rotation::None => {
                Some(self.refresh.clone())
            }
            Standing::Newest if lacks(shown, &access.verified) => None,
            Standing::Newest | Standing::Old | Standing::Spent | Standing::Foreign => return None,
        };
        let cookies = self.cookies(access, refresh, now);
        Some((cookies, std::mem::replace(&mut self.delivered, true)))
    }

    /// What a request to the auth backend itself may show it.
    pub fn for_backend(&self, shown: Shown, now: Now) -> ForBackend {
        if self.is_over() {
            return ForBackend::Withhold;
        }
        match (self.standing(shown, now), &self.access) {
            (Standing::Newest | Standing::Old, Some(access)) => {
                ForBackend::Newest(self.cookies(access, Some(self.refresh.clone()), now))
            }
            (Standing::Newest, None) => ForBackend::AsItCame,
            (Standing::Old | Standing::Spent | Standing::Foreign, _) => ForBackend::Withhold,
        }
    }

    fn cookies(&self, access: &Access, refresh: Option<Secret>, now: Now) -> NewCookies {
        NewCookies {
            issuer: self.issuer,
            access: access.token.clone(),
            refresh,
            max_age_s: self.life_left(now).map(|left| left.as_secs()),
        }
    }
}

/// Whether the browser's access token is missing, broken, or older than the head's. One that ends
/// later is newer: never replaced by an older one.
fn lacks(shown: Shown, head: &Verified) -> bool {
    shown.access.is_none_or(|verified| verified.expires_at < head.expires_at)
}

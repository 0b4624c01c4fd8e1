//! What a record tells those that a session let pass and that are still there: open streams.

use super::{Record, Shown, Standing};
use crate::policy::secret::Secret;
use crate::policy::time::{Now, UnixSeconds};

/// What is known of the session by which a stream was opened.
#[derive(Debug)]
pub(in crate::refresh) enum Followed {
    /// Nothing but what the browser showed.
    Unknown,
    Over,
    Renewed(Newest),
}

/// The session's newest access token.
#[derive(Debug)]
pub(in crate::refresh) struct Newest {
    /// Its end, or the token itself where nobody has checked it here.
    pub until: Result<UnixSeconds, Secret>,
    /// The refresh token that the stream was opened with serves no longer.
    pub spent: bool,
}

impl Record {
    /// Says it without noting anything as shown: a stream shows nothing, it only stays open.
    pub fn followed(&self, shown: Shown, now: Now) -> Followed {
        let standing = self.standing(shown, now);
        if standing == Standing::Foreign {
            return Followed::Unknown;
        }
        if self.is_over() {
            return Followed::Over;
        }
        let until = match (&self.unchecked, &self.access) {
            (Some(unchecked), _) => Err(unchecked.clone()),
            (None, Some(access)) => Ok(access.verified.expires_at),
            (None, None) => return Followed::Unknown,
        };
        Followed::Renewed(Newest { until, spent: standing == Standing::Spent })
    }
}

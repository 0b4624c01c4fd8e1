//! The auth backend's sessions: one-time refresh tokens with reuse detection.
//!
//! A login starts a *family*. Its refresh token works once and is answered with the next one. A
//! spent token that comes back means that two parties hold the family, one of them a thief: the
//! whole family ends (RFC 9700 §4.14.2). This is the strictest backend that a gateway meets.
//!
//! A refresh token is `family.secret`. The family's name alone (128 random bits, known only to who
//! once held a token) tells a spent token from an invented one, so nothing grows with each rotation.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::tokens::{TokenError, random_text};
use super::users::User;
use crate::policy::secret::Secret;
use crate::policy::time::UnixSeconds;

/// How long a login lasts at most, in seconds.
pub const FAMILY_LIFE_S: u64 = 24 * 60 * 60;

/// Families remembered; over it the oldest login ends.
const FAMILIES_MAX: usize = 1_000;

/// All logins that have not ended.
#[derive(Default)]
pub struct Sessions {
    families: Mutex<Families>,
}

#[derive(Default)]
struct Families {
    by_name: HashMap<String, Family>,
    oldest_first: VecDeque<String>,
}

struct Family {
    user: &'static User,
    session_id: String,
    /// The one secret that works now.
    secret: Secret,
    generation: u64,
    ends_at: UnixSeconds,
}

/// A new refresh token, and whose it is.
#[derive(Debug)]
pub struct Granted {
    pub user: &'static User,
    /// The access token's `sid`; not the family's name, which is half of the refresh token.
    pub session_id: String,
    /// 1 for the login, one more for each rotation.
    pub generation: u64,
    pub refresh: Secret,
}

/// Why a refresh token was not exchanged.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error("the refresh token is not known, or its session has ended")]
    Unknown,
    #[error("a spent refresh token of {} came back; its family was ended", .0.name)]
    Reused(&'static User),
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Sessions {
    /// Starts a family for a user who has just shown the password.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn log_in(&self, user: &'static User, now: UnixSeconds) -> Result<Granted, TokenError> {
        let name = random_text::<16>()?;
        let secret = Secret::new(random_text::<24>()?);
        let session_id = random_text::<6>()?;
        let ends_at = now.plus(FAMILY_LIFE_S);
        let family = Family { user, session_id, secret, generation: 1, ends_at };
        let granted = family.granted(&name);
        let mut families = self.lock();
        if families.oldest_first.len() >= FAMILIES_MAX
            && let Some(oldest) = families.oldest_first.pop_front()
        {
            families.by_name.remove(&oldest);
        }
        families.oldest_first.push_back(name.clone());
        families.by_name.insert(name, family);
        Ok(granted)
    }

    /// Exchanges a refresh token for the next one of its family.
    ///
    /// # Errors
    /// The token is unknown or its family has ended; the token is spent (which ends the family now);
    /// the machine has no randomness.
    pub fn rotate(&self, presented: &str, now: UnixSeconds) -> Result<Granted, RotateError> {
        let (name, secret) = presented.split_once('.').ok_or(RotateError::Unknown)?;
        let next = Secret::new(random_text::<24>()?);
        let mut families = self.lock();
        let family = families.by_name.get_mut(name).ok_or(RotateError::Unknown)?;
        if family.ends_at <= now {
            families.end(name);
            return Err(RotateError::Unknown);
        }
        if family.secret.expose() != secret {
            let user = family.user;
            families.end(name);
            return Err(RotateError::Reused(user));
        }
        family.secret = next;
        family.generation += 1;
        Ok(family.granted(name))
    }

    /// Whose refresh token this is, if it would work now. Spends nothing.
    pub fn user_of(&self, presented: &str, now: UnixSeconds) -> Option<&'static User> {
        let (name, secret) = presented.split_once('.')?;
        let families = self.lock();
        let family = families.by_name.get(name)?;
        (family.secret.expose() == secret && now < family.ends_at).then_some(family.user)
    }

    /// Ends the family of this refresh token, spent or not. Returns whose it was.
    pub fn log_out(&self, presented: &str) -> Option<&'static User> {
        let (name, _) = presented.split_once('.')?;
        self.lock().end(name)
    }

    /// A panic elsewhere leaves whole entries behind: each change is a single insert or remove.
    fn lock(&self) -> MutexGuard<'_, Families> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Families {
    fn end(&mut self, name: &str) -> Option<&'static User> {
        self.oldest_first.retain(|other| other != name);
        self.by_name.remove(name).map(|family| family.user)
    }
}

impl Family {
    fn granted(&self, name: &str) -> Granted {
        Granted {
            user: self.user,
            session_id: self.session_id.clone(),
            generation: self.generation,
            refresh: Secret::new(format!("{name}.{}", self.secret.expose())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::users::{ALICE, ROOT};

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    #[test]
    fn each_refresh_token_works_once_and_brings_the_next() {
        let sessions = Sessions::default();
        let first = sessions.log_in(&ALICE, NOW).unwrap();

        let second = sessions.rotate(first.refresh.expose(), NOW).unwrap();
        let third = sessions.rotate(second.refresh.expose(), NOW).unwrap();

        assert_eq!(third.user, &ALICE);
        assert_eq!(third.generation, 3);
        assert_eq!(third.session_id, first.session_id);
    }

    #[test]
    fn a_spent_token_ends_the_whole_family_also_its_newest_token() {
        let sessions = Sessions::default();
        let first = sessions.log_in(&ALICE, NOW).unwrap();
        let second = sessions.rotate(first.refresh.expose(), NOW).unwrap();

        let reused = sessions.rotate(first.refresh.expose(), NOW);

        assert!(matches!(reused, Err(RotateError::Reused(user)) if user == &ALICE));
        let newest = sessions.rotate(second.refresh.expose(), NOW);
        assert!(matches!(newest, Err(RotateError::Unknown)));
    }

    #[test]
    fn an_invented_token_harms_nobody() {
        let sessions = Sessions::default();
        let alice = sessions.log_in(&ALICE, NOW).unwrap();

        for invented in ["", "x", ".", "family.secret"] {
            assert!(matches!(sessions.rotate(invented, NOW), Err(RotateError::Unknown)));
        }
        assert_eq!(sessions.user_of(alice.refresh.expose(), NOW), Some(&ALICE));
    }

    #[test]
    fn logging_out_ends_one_family_even_with_a_spent_token() {
        let sessions = Sessions::default();
        let alice = sessions.log_in(&ALICE, NOW).unwrap();
        let root = sessions.log_in(&ROOT, NOW).unwrap();
        let newest = sessions.rotate(alice.refresh.expose(), NOW).unwrap();

        assert_eq!(sessions.log_out(alice.refresh.expose()), Some(&ALICE));

        assert_eq!(sessions.user_of(newest.refresh.expose(), NOW), None);
        assert_eq!(sessions.user_of(root.refresh.expose(), NOW), Some(&ROOT));
    }

    #[test]
    fn a_login_ends_by_itself_after_a_day() {
        let sessions = Sessions::default();
        let alice = sessions.log_in(&ALICE, NOW).unwrap();
        let later = NOW.plus(FAMILY_LIFE_S);

        assert_eq!(sessions.user_of(alice.refresh.expose(), later), None);
        let late = sessions.rotate(alice.refresh.expose(), later);
        assert!(matches!(late, Err(RotateError::Unknown)));
    }

    #[test]
    fn the_oldest_login_makes_room_over_the_bound() {
        let sessions = Sessions::default();
        let first = sessions.log_in(&ALICE, NOW).unwrap();
        let second = sessions.log_in(&ALICE, NOW).unwrap();
        for _ in 0..FAMILIES_MAX - 1 {
            sessions.log_in(&ALICE, NOW).unwrap();
        }

        assert_eq!(sessions.user_of(first.refresh.expose(), NOW), None);
        assert_eq!(sessions.user_of(second.refresh.expose(), NOW), Some(&ALICE));
        assert_eq!(sessions.lock().by_name.len(), FAMILIES_MAX);
    }
}

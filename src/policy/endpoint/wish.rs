//! A page wishes its session renewed: what is to be done about it.
//!
//! The same facts as for any request, and another question: not *may this pass*, but *are there new
//! tokens*. Where more must be known it says so, as [`decide`](crate::policy::decide::decide) does;
//! the endpoint performs that one I/O and asks again, three rounds at most.

use crate::policy::decide::{Renewed, Session, Token, same_person};
use crate::policy::reason::Reason;

/// What to do about the wish.
#[derive(Clone, Debug)]
pub enum Wish {
    /// The access token is outside its window: there is nothing to do, and nobody is asked.
    Unneeded,
    /// Look the refresh token up, then judge again.
    LookUp,
    /// Renew and wait, then judge again.
    Renew,
    /// The session's newest token.
    Granted(Renewed),
    Refused {
        reason: Reason,
        retry_after_s: Option<u64>,
    },
}

/// Judges a wish. [`Session::Absent`] stands for a request without a refresh token.
pub fn wish(token: &Token, session: &Session) -> Wish {
    match session {
        Session::NotAsked => match token {
            Token::Valid(_) => Wish::Unneeded,
            Token::KeysUnavailable { retry_after_s } => {
                later(Reason::KeysUnavailable, *retry_after_s)
            }
            Token::InWindow(_) | Token::Expired(_) | Token::Absent | Token::Broken(_) => {
                Wish::LookUp
            }
        },
        Session::Absent | Session::Elsewhere => refused(Reason::NothingToRefresh),
        Session::Live => Wish::Renew,
        Session::Cooling { retry_after_s } => match token {
            // It has time: whoever has none goes first.
            Token::InWindow(_) | Token::Valid(_) => {
                later(Reason::RefreshUnavailable, *retry_after_s)
            }
            Token::Expired(_)
            | Token::Absent
            | Token::Broken(_)
            | Token::KeysUnavailable { .. } => Wish::Renew,
        },
        Session::Fresh(head) | Session::Renewed(head) => match token {
            Token::Valid(shown) | Token::InWindow(shown) | Token::Expired(shown)
                if !same_person(shown, head) =>
            {
                refused(Reason::RefreshRefused)
            }
            Token::Valid(_)
            | Token::InWindow(_)
            | Token::Expired(_)
            | Token::Absent
            | Token::Broken(_)
            | Token::KeysUnavailable { .. } => Wish::Granted(head.clone()),
        },
        Session::Dead | Session::Spent | Session::Ended | Session::Refused => {
            refused(Reason::RefreshRefused)
        }
        Session::Unavailable { retry_after_s } => later(Reason::RefreshUnavailable, *retry_after_s),
        Session::StoreAway { retry_after_s } => later(Reason::StoreUnavailable, *retry_after_s),
    }
}

fn refused(reason: Reason) -> Wish {
    Wish::Refused { reason, retry_after_s: None }
}

fn later(reason: Reason, retry_after_s: u64) -> Wish {
    Wish::Refused { reason, retry_after_s: Some(retry_after_s) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::claims::{Identity, IssuerId, Verified};
    use crate::policy::secret::Secret;
    use crate::policy::time::UnixSeconds;

    fn of(subject: &str) -> Arc<Verified> {
        Arc::new(Verified {
            issuer: IssuerId(0),
            subject: subject.into(),
            session_id: None,
            token_id: None,
            issued_at: None,
            expires_at: UnixSeconds(100),
            life_s: 100,
            refresh_at: UnixSeconds(60),
            identity: Identity::default(),
            claims: serde_json::Map::new(),
        })
    }

    fn tokens() -> [(&'static str, Token); 6] {
        [
            ("absent", Token::Absent),
            ("valid", Token::Valid(of("alice"))),
            ("in window", Token::InWindow(of("alice"))),
            ("expired", Token::Expired(of("alice"))),
            ("broken", Token::Broken(Reason::BadSignature)),
            ("keys unavailable", Token::KeysUnavailable { retry_after_s: 7 }),
        ]
    }

    fn head(subject: &str) -> Renewed {
        Renewed { verified: of(subject), access: Secret::new("new") }
    }

    fn told(wish: &Wish) -> String {
        match wish {
            Wish::Unneeded => "unneeded".to_owned(),
            Wish::LookUp => "look up".to_owned(),
            Wish::Renew => "renew".to_owned(),
            Wish::Granted(head) => format!("granted {}", head.verified.subject),
            Wish::Refused { reason, retry_after_s: None } => reason.to_string(),
            Wish::Refused { reason, retry_after_s: Some(s) } => format!("{reason} {s}"),
        }
    }

    #[test]
    fn before_anybody_looks_only_a_token_outside_its_window_is_enough() {
        let judged = tokens().map(|(name, token)| (name, told(&wish(&token, &Session::NotAsked))));
        let expected = [
            ("absent", "look up"),
            ("valid", "unneeded"),
            ("in window", "look up"),
            ("expired", "look up"),
            ("broken", "look up"),
            ("keys unavailable", "keys_unavailable 7"),
        ];
        assert_eq!(judged, expected.map(|(name, wish)| (name, wish.to_owned())));
    }

    #[test]
    fn what_is_known_of_the_session_decides_for_every_token() {
        for (session, expected) in [
            (Session::Absent, "nothing_to_refresh"),
            (Session::Elsewhere, "nothing_to_refresh"),
            (Session::Live, "renew"),
            (Session::Fresh(head("alice")), "granted alice"),
            (Session::Renewed(head("alice")), "granted alice"),
            (Session::Dead, "refresh_refused"),
            (Session::Spent, "refresh_refused"),
            (Session::Ended, "refresh_refused"),
            (Session::Refused, "refresh_refused"),
            (Session::Unavailable { retry_after_s: 3 }, "refresh_unavailable 3"),
            (Session::StoreAway { retry_after_s: 2 }, "store_unavailable 2"),
        ] {
            for (name, token) in tokens() {
                assert_eq!(told(&wish(&token, &session)), expected, "{name}, {session:?}");
            }
        }
    }

    #[test]
    fn a_cool_down_is_waited_for_only_by_those_who_cannot_pass() {
        let judged =
            tokens().map(|(_, token)| told(&wish(&token, &Session::Cooling { retry_after_s: 4 })));
        let later = "refresh_unavailable 4";
        assert_eq!(judged, ["renew", later, later, "renew", "renew", "renew"]);
    }

    #[test]
    fn nobody_gets_another_person_s_tokens() {
        for session in [Session::Fresh(head("mallory")), Session::Renewed(head("mallory"))] {
            for token in [Token::InWindow(of("alice")), Token::Expired(of("alice"))] {
                assert_eq!(told(&wish(&token, &session)), "refresh_refused");
            }
        }
    }
}

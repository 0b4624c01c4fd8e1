//! The list's contract, sentence by sentence.

use serde_json::Map;

use super::*;
use crate::policy::claims::Identity;

const NOW: UnixSeconds = UnixSeconds(1_000);
const LATER: UnixSeconds = UnixSeconds(1_300);

fn denials() -> Denials {
    Denials::new(&[7; 32], vec!["one".into(), "two".into()], false)
}

fn token(issuer: u16, subject: &str, sid: &str, jti: &str, iat: Option<u64>) -> Verified {
    Verified {
        issuer: IssuerId(issuer),
        subject: subject.into(),
        session_id: Some(sid.into()),
        token_id: Some(jti.into()),
        issued_at: iat.map(UnixSeconds),
        expires_at: LATER,
        life_s: 300,
        refresh_at: LATER,
        identity: Identity::default(),
        claims: Map::new(),
    }
}

fn alice() -> Verified {
    token(0, "alice", "s-1", "t-1", Some(900))
}

fn denial(what: Denied) -> Denial {
    Denial { issuer: IssuerId(0), what, lapses: LATER }
}

fn denied(what: Denied) -> Denials {
    let denials = denials();
    denials.deny(&denial(what), NOW).unwrap();
    denials
}

fn person(issued: Issued) -> Denied {
    Denied::Person { subject: "alice".into(), issued }
}

fn session(issued: Issued) -> Denied {
    Denied::Session { id: "s-1".into(), issued }
}

#[test]
fn an_empty_list_denies_nobody() {
    assert!(!denials().is_denied(&alice()));
    assert!(!denials().is_denied_unvouched(&alice()));
}

#[test]
fn a_token_a_session_and_a_person_are_denied_and_nobody_else() {
    let others = [
        token(1, "alice", "s-1", "t-1", Some(900)),
        // The same text as another kind of name.
        token(0, "t-1", "alice", "s-1", Some(900)),
    ];
    for what in [Denied::Token("t-1".into()), session(Issued::AnyTime), person(Issued::AnyTime)] {
        let denials = denied(what.clone());
        assert!(denials.is_denied(&alice()), "{what:?}");
        assert!(others.iter().all(|other| !denials.is_denied(other)), "{what:?}");
    }
}

#[test]
fn a_limit_spares_tokens_issued_from_then_on_and_none_that_does_not_say_when() {
    for limited in [person, session] {
        let denials = denied(limited(Issued::Before(UnixSeconds(950))));
        let issued = |iat| denials.is_denied(&token(0, "alice", "s-1", "t-9", iat));
        assert_eq!([issued(Some(949)), issued(Some(950)), issued(None)], [true, false, true]);
    }
}

#[test]
fn a_renewed_token_that_nobody_vouches_for_is_its_persons_however_new() {
    let limit = Issued::Before(UnixSeconds(950));
    let renewed = token(0, "alice", "s-1", "t-9", Some(2_000));
    assert!(denied(person(limit)).is_denied_unvouched(&renewed));
    assert!(!denied(session(limit)).is_denied_unvouched(&renewed));
    assert!(denied(Denied::Token("t-9".into())).is_denied_unvouched(&renewed));
}

#[test]
fn an_entry_lapses_with_its_tokens() {
    let denials = denied(session(Issued::AnyTime));
    denials.tidy(UnixSeconds(LATER.0 - 1));
    assert!(denials.is_denied(&alice()));
    denials.tidy(LATER);
    assert!(!denials.is_denied(&alice()) && denials.is_empty());
    denials.deny(&denial(session(Issued::AnyTime)), LATER).unwrap();
    assert!(denials.is_empty(), "its tokens have expired already");
}

#[test]
fn a_second_entry_widens_the_first_and_never_narrows_it() {
    let denials = denied(session(Issued::Before(UnixSeconds(950))));
    let again = |issued, lapses| {
        let what = session(issued);
        denials.deny(&Denial { issuer: IssuerId(0), what, lapses }, NOW).unwrap();
    };
    again(Issued::AnyTime, UnixSeconds(1_100));
    again(Issued::Before(UnixSeconds(1)), UnixSeconds(1_200));
    denials.tidy(UnixSeconds(1_250));

    assert!(denials.is_denied(&token(0, "bob", "s-1", "t-2", Some(5_000))));
    assert_eq!(denials.len(), 1);
}

#[test]
fn a_full_list_refuses_what_is_new_keeps_what_is_live_and_makes_room_by_time() {
    let denials = denials();
    let add =
        |number: usize, now| denials.deny(&denial(Denied::Token(number.to_string().into())), now);
    for number in 0..DENIALS_MAX {
        add(number, NOW).unwrap();
    }
    assert_eq!(add(DENIALS_MAX, NOW), Err(Full));
    assert_eq!(add(0, NOW), Ok(()), "one that is there takes no room");
    assert!(denials.is_denied(&token(0, "alice", "s", "0", None)));
    assert_eq!(denials.len(), DENIALS_MAX);

    let next = Denial { lapses: UnixSeconds(9_999), ..denial(Denied::Token("next".into())) };
    assert_eq!(denials.deny(&next, LATER), Ok(()));
    assert_eq!(denials.len(), 1);
}

#[test]
fn entries_that_stay_for_long_leave_room_for_logouts() {
    let denials = denials();
    let add = |number: usize, s: u64| {
        let what = Denied::Token(number.to_string().into());
        denials.deny(&Denial { lapses: NOW.plus(s), ..denial(what) }, NOW)
    };
    for number in 0..LONG_MAX {
        add(number, DENIED_FOR.as_secs()).unwrap();
    }
    assert_eq!(add(LONG_MAX, DENIED_FOR.as_secs()), Err(Full));
    assert_eq!(add(LONG_MAX, 300), Ok(()));
    assert_eq!(add(0, DENIED_FOR.as_secs()), Ok(()), "one that is there takes no room");
}

#[test]
fn what_is_new_is_told_and_what_is_not_is_not() {
    let denials = denials();
    let mut changes = denials.changes();
    denials.deny(&denial(person(Issued::AnyTime)), NOW).unwrap();
    assert!(changes.has_changed().unwrap());
    assert_eq!(*changes.borrow_and_update(), 1);
    denials.deny(&denial(person(Issued::AnyTime)), NOW).unwrap();
    denials.tidy(LATER);
    assert!(!changes.has_changed().unwrap());
}

#[test]
fn gateways_with_one_key_agree_on_names_however_they_number_their_issuers() {
    let (here, there) =
        (denials(), Denials::new(&[7; 32], vec!["two".into(), "one".into()], false));
    let name =
        |denials: &Denials, issuer| denials.namer.name(IssuerId(issuer), Kind::Person, "alice");
    assert_eq!(name(&here, 0), name(&there, 1));
    assert_ne!(name(&here, 0), name(&there, 0));
    let other_key = Denials::new(&[8; 32], vec!["one".into()], false);
    assert_ne!(name(&here, 0), name(&other_key, 0));
}

#[test]
fn tokens_that_name_no_session_are_denied_without_those_that_do() {
    let unnamed = |iat| Verified { session_id: None, ..token(0, "alice", "-", "t-2", iat) };
    let what = Denied::Unnamed { subject: "alice".into(), issued: Issued::Before(NOW) };
    let list = denied(what);

    assert!(list.is_denied(&unnamed(Some(999))) && list.is_denied(&unnamed(None)));
    assert!(!list.is_denied(&unnamed(Some(1_000))) && !list.is_denied(&alice()));
    let bob = Verified { subject: "bob".into(), ..unnamed(Some(999)) };
    assert!(!list.is_denied(&bob) && !list.is_denied_unvouched(&bob));
    // Brought by a refresh token alone it may be of a session that began before.
    assert!(list.is_denied_unvouched(&unnamed(Some(1_000))));
    assert!(!list.is_denied_unvouched(&alice()));
    // A session of that name, or a person, is another entry.
    assert!(!denied(session(Issued::AnyTime)).is_denied(&unnamed(Some(1))));
    let named = denied(Denied::Session { id: "alice".into(), issued: Issued::AnyTime });
    assert!(!named.is_denied(&unnamed(Some(1))));
}

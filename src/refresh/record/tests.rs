//! Every rule of the record as a claim. Times are seconds after the session was first seen.

use super::flying::Landed;
use super::*;
use crate::policy::claims::Identity;
use crate::refresh::events::{EndReason, FlightResult};
use crate::refresh::hash::Hasher;
use crate::refresh::outcome::Answer;
use crate::refresh::{ForBackend, NewCookies};

const ISSUER: IssuerId = IssuerId(0);
const LIFE: u64 = 300;
const WINDOW: u64 = 90;

fn at(seconds: u64) -> Now {
    Now::default().later(Duration::from_secs(seconds))
}

fn hash(token: &str) -> TokenHash {
    Hasher::new(&[7; 32]).hash("issuer", &Secret::new(token))
}

/// A token of `subject`, issued at `issued`.
fn verified(subject: &str, issued: u64) -> Arc<Verified> {
    Arc::new(Verified {
        issuer: ISSUER,
        subject: subject.into(),
        session_id: None,
        token_id: None,
        issued_at: None,
        expires_at: UnixSeconds(issued + LIFE),
        life_s: LIFE,
        refresh_at: UnixSeconds(issued + LIFE - WINDOW),
        identity: Identity::default(),
        claims: serde_json::Map::new(),
    })
}

fn shows(generation: u64) -> Shown<'static> {
    Shown { generation, access: None }
}

fn first() -> Record {
    first_under(Rotation::Strict)
}

fn first_under(rotation: Rotation) -> Record {
    Record::new(ISSUER, rotation, Secret::new("rt0"), hash("rt0"), at(0))
}

fn answer(access: &str, refresh: Option<&str>) -> Answer {
    Answer { access: Secret::new(access), refresh: refresh.map(Secret::new), max_age_s: None }
}

/// Asks and gets `answer` for alice at `now`, as a whole flight.
fn rotate(record: &mut Record, access: &str, refresh: Option<&str>, now: Now) {
    record.depart();
    let asked = record.generation();
    assert!(record.harvest(answer(access, refresh), refresh.map(hash), asked, now));
    let landed = record.land(asked + 1, Landing::Good(verified("alice", now.unix.0)), now, 1.0);
    assert_eq!(landed, Landed { result: FlightResult::Ok, ended: None });
}

/// A session whose second generation came at 300 s and whom nobody has shown yet.
fn rotated() -> Record {
    let mut record = first();
    rotate(&mut record, "at1", Some("rt1"), at(300));
    record
}

fn fail(record: &mut Record, landing: Landing, now: Now) {
    let generation = record.generation();
    record.depart();
    record.land(generation, landing, now, 1.0);
}

fn served(view: View) -> String {
    match view {
        View::Fresh(head) => head.access.expose().to_owned(),
        other => panic!("not served: {other:?}"),
    }
}

fn rests(view: View) -> Duration {
    match view {
        View::Resting(rest) => rest,
        other => panic!("not resting: {other:?}"),
    }
}

fn asks_with(work: Work) -> String {
    match work {
        Work::Ask { refresh, .. } => refresh.expose().to_owned(),
        Work::Check { .. } => panic!("checks"),
    }
}

fn delivered(record: &mut Record, shown: Shown, now: Now) -> Option<(String, Option<String>)> {
    let (cookies, _) = record.deliver(shown, now)?;
    let refresh = cookies.refresh.map(|refresh| refresh.expose().to_owned());
    Some((cookies.access.expose().to_owned(), refresh))
}

fn pair(access: &str, refresh: Option<&str>) -> Option<(String, Option<String>)> {
    Some((access.to_owned(), refresh.map(str::to_owned)))
}

#[test]
fn a_first_seen_token_is_live_and_is_asked_about() {
    let mut record = first();
    assert!(matches!(record.view(shows(0), at(0), None), View::Live));
    assert_eq!(asks_with(record.depart()), "rt0");
    assert!(matches!(record.view(shows(0), at(0), None), View::Running));
}

#[test]
fn an_old_token_gets_the_head_until_the_browser_shows_the_new_one() {
    let mut record = rotated();
    assert_eq!(served(record.view(shows(0), at(300), None)), "at1");
    assert_eq!(served(record.view(shows(0), at(500), None)), "at1");
    assert_eq!(delivered(&mut record, shows(0), at(500)), pair("at1", Some("rt1")));
}

#[test]
fn an_unconfirmed_head_that_has_expired_is_renewed_with_the_heads_token() {
    let mut record = rotated();
    let morning = at(10 * 3600);
    record.note_shown(shows(0), morning);
    assert!(matches!(record.view(shows(0), morning, None), View::Live));
    assert_eq!(asks_with(record.depart()), "rt1");
}

#[test]
fn showing_the_heads_token_confirms_it_and_ends_delivery() {
    let mut record = rotated();
    let head = verified("alice", 300);
    record.note_shown(Shown { generation: 1, access: Some(&head) }, at(310));
    assert_eq!(delivered(&mut record, Shown { generation: 1, access: Some(&head) }, at(310)), None);
    assert_eq!(served(record.view(shows(0), at(310), None)), "at1");
    assert_eq!(delivered(&mut record, shows(0), at(310)), None);
}

#[test]
fn an_old_token_is_spent_when_the_grace_is_over() {
    let mut record = rotated();
    record.note_shown(shows(1), at(310));
    assert_eq!(served(record.view(shows(0), at(339), None)), "at1");
    assert!(matches!(record.view(shows(0), at(340), None), View::Spent));
    assert_eq!(delivered(&mut record, shows(0), at(340)), None);
    assert!(record.still_valid(shows(0), at(340)).is_none());
}

#[test]
fn a_later_rotation_does_not_make_a_spent_token_welcome_again() {
    let mut record = rotated();
    record.note_shown(shows(1), at(310));
    rotate(&mut record, "at2", Some("rt2"), at(550));
    assert!(matches!(record.view(shows(0), at(550), None), View::Spent));
    assert_eq!(served(record.view(shows(1), at(550), None)), "at2");
    record.note_shown(shows(2), at(560));
    assert!(matches!(record.view(shows(0), at(560), None), View::Spent));
    assert_eq!(served(record.view(shows(1), at(560), None)), "at2");
}

#[test]
fn confirmations_in_quick_succession_do_not_stretch_the_grace() {
    let mut record = first();
    for generation in 1..=60 {
        let now = at(generation * 10);
        rotate(&mut record, "at", Some(&format!("rt{generation}")), now);
        record.note_shown(shows(generation), now);
    }
    assert!(record.confirmations.len() <= 5, "{}", record.confirmations.len());
    assert!(matches!(record.view(shows(56), at(600), None), View::Spent));
    assert_eq!(served(record.view(shows(57), at(599), None)), "at");
}

#[test]
fn more_confirmations_than_are_kept_make_no_spent_token_welcome() {
    let mut record = rotated();
    record.note_shown(shows(1), at(310));
    for generation in 2..100 {
        rotate(&mut record, "at", Some(&format!("rt{generation}")), at(400));
        record.note_shown(shows(generation), at(400));
    }
    assert_eq!(record.confirmations.len(), CONFIRMATIONS_MAX);
    assert!(matches!(record.view(shows(0), at(400), None), View::Spent));
    assert_eq!(served(record.view(shows(1), at(400), None)), "at");
}

#[test]
fn showing_an_old_token_does_not_confirm() {
    let mut record = rotated();
    record.note_shown(shows(0), at(310));
    assert_eq!(served(record.view(shows(0), at(400), None)), "at1");
    assert_eq!(delivered(&mut record, shows(0), at(400)), pair("at1", Some("rt1")));
}

#[test]
fn the_second_delivery_says_so() {
    let mut record = rotated();
    assert!(record.deliver(shows(0), at(300)).is_some_and(|(_, again)| !again));
    assert!(record.deliver(shows(0), at(301)).is_some_and(|(_, again)| again));
}

#[test]
fn the_first_delivery_of_the_next_head_is_a_first_one() {
    let mut record = rotated();
    record.deliver(shows(0), at(300));
    rotate(&mut record, "at2", Some("rt2"), at(550));
    assert!(record.deliver(shows(0), at(550)).is_some_and(|(_, again)| !again));
}

#[test]
fn no_cookies_leave_while_a_newer_answer_is_checked() {
    let mut record = rotated();
    record.depart();
    record.harvest(answer("at2", Some("rt2")), Some(hash("rt2")), 1, at(550));
    assert_eq!(delivered(&mut record, shows(0), at(550)), None);
    assert_eq!(delivered(&mut record, shows(1), at(550)), None);
}

#[test]
fn an_answer_without_refresh_token_replaces_the_access_token_alone() {
    let mut record = first();
    let old = verified("alice", 0);
    record.note_shown(Shown { generation: 0, access: Some(&old) }, at(250));
    rotate(&mut record, "at1", None, at(250));
    let stale = Shown { generation: 0, access: Some(&old) };
    record.note_shown(stale, at(251));
    assert_eq!(served(record.view(stale, at(251), None)), "at1");
    assert_eq!(delivered(&mut record, stale, at(251)), pair("at1", None));
    let new = verified("alice", 250);
    assert_eq!(delivered(&mut record, Shown { generation: 0, access: Some(&new) }, at(252)), None);
    record.note_shown(shows(0), at(500));
    assert_eq!(asks_with(record.depart()), "rt0");
}

#[test]
fn a_refresh_token_sent_back_unchanged_is_kept() {
    let mut record = first();
    rotate(&mut record, "at1", Some("rt0"), at(250));
    assert_eq!((record.generation(), record.refresh_generation()), (1, 0));
    assert_eq!(delivered(&mut record, shows(0), at(251)), pair("at1", None));
}

#[test]
fn a_browser_that_lost_only_its_access_cookie_gets_it_back() {
    let mut record = rotated();
    record.note_shown(shows(1), at(400));
    assert_eq!(served(record.view(shows(1), at(400), None)), "at1");
    assert_eq!(delivered(&mut record, shows(1), at(400)), pair("at1", None));
}

#[test]
fn an_access_token_that_ends_later_is_never_replaced() {
    let mut record = rotated();
    let newer = verified("alice", 301);
    assert_eq!(
        delivered(&mut record, Shown { generation: 1, access: Some(&newer) }, at(302)),
        None
    );
}

#[test]
fn another_persons_access_token_gets_nothing() {
    let mut record = rotated();
    let mallory = verified("mallory", 300);
    let shown = Shown { generation: 0, access: Some(&mallory) };
    assert!(matches!(record.view(shown, at(301), None), View::Foreign));
    assert_eq!(delivered(&mut record, shown, at(301)), None);
    assert!(record.still_valid(shown, at(301)).is_none());
    record.note_shown(Shown { generation: 1, access: Some(&mallory) }, at(301));
    assert!(!record.is_confirmed());
}

#[test]
fn a_differing_sid_is_another_session_and_a_missing_one_is_not() {
    let with = |sid: Option<&str>| Verified {
        session_id: sid.map(Into::into),
        ..Arc::into_inner(verified("alice", 0)).unwrap()
    };
    let mut record = first();
    record.note_shown(Shown { generation: 0, access: Some(&with(Some("s1"))) }, at(0));
    assert!(record.is_foreign(&with(Some("s2"))));
    assert!(!record.is_foreign(&with(Some("s1"))));
    assert!(!record.is_foreign(&with(None)));
}

#[test]
fn a_renewed_token_of_another_subject_ends_the_session() {
    for landing in [Landing::Good, Landing::ExpiredOnArrival] {
        let mut record = rotated();
        record.depart();
        record.harvest(answer("at2", Some("rt2")), Some(hash("rt2")), 1, at(600));
        let landed = record.land(2, landing(verified("mallory", 600)), at(600), 1.0);
        assert_eq!(landed.ended, Some(EndReason::WrongSubject));
        assert_eq!(landed.result, FlightResult::Misconfigured);
        assert!(matches!(record.view(shows(0), at(600), None), View::Ended));
        assert_eq!(record.deliver(shows(0), at(600)), None);
    }
}

#[test]
fn a_token_made_for_somebody_else_ends_the_session() {
    let mut record = rotated();
    fail(&mut record, Landing::Wrong(EndReason::WrongAudience), at(600));
    assert!(matches!(record.view(shows(0), at(600), None), View::Ended));
}

#[test]
fn a_refused_session_is_dead_for_all_its_tokens_and_keeps_no_secret() {
    let mut record = rotated();
    fail(&mut record, Landing::Refused, at(600));
    for generation in [0, 1] {
        assert!(matches!(record.view(shows(generation), at(601), None), View::Dead));
    }
    assert_eq!(record.refresh.expose(), "");
    assert!(record.access.is_none());
    assert_eq!(record.class(), Class::Dead);
}

#[test]
fn a_flight_that_lands_after_the_end_changes_nothing() {
    let mut record = rotated();
    record.depart();
    record.end();
    assert!(!record.harvest(answer("at2", Some("rt2")), Some(hash("rt2")), 1, at(600)));
    record.land(1, Landing::Good(verified("alice", 600)), at(600), 1.0);
    assert_eq!(record.state(), State::Ended);
    assert_eq!(delivered(&mut record, shows(0), at(600)), None);
    assert_eq!(record.refresh.expose(), "");
}

#[test]
fn an_answer_that_arrives_after_the_end_during_the_check_changes_nothing() {
    let mut record = rotated();
    record.depart();
    record.harvest(answer("at2", Some("rt2")), Some(hash("rt2")), 1, at(600));
    record.end();
    record.land(2, Landing::Good(verified("alice", 600)), at(600), 1.0);
    assert!(matches!(record.view(shows(1), at(600), None), View::Ended));
    assert!(record.access.is_none());
}

#[test]
fn what_an_older_token_is_told_does_not_touch_a_newer_head() {
    let mut record = rotated();
    record.depart();
    record.land(0, Landing::Refused, at(600), 1.0);
    assert_eq!(record.state(), State::Idle);
    assert!(matches!(record.view(shows(0), at(600), None), View::Live));
}

#[test]
fn cool_downs_double_to_thirty_seconds_and_a_success_starts_them_again() {
    let mut record = first();
    let mut rest_s = Vec::new();
    for _ in 0..7 {
        fail(&mut record, Landing::Transient { retry_after: None }, at(0));
        rest_s.push(rests(record.view(shows(0), at(0), None)).as_secs());
    }
    assert_eq!(rest_s, [1, 2, 4, 8, 16, 30, 30]);
    rotate(&mut record, "at1", Some("rt1"), at(40));
    fail(&mut record, Landing::Misconfigured, at(600));
    assert_eq!(rests(record.view(shows(0), at(600), None)), Duration::from_secs(1));
}

#[test]
fn chance_shortens_a_cool_down_by_a_quarter_at_most() {
    let mut record = first();
    record.depart();
    record.land(0, Landing::Transient { retry_after: None }, at(0), 0.0);
    assert_eq!(rests(record.view(shows(0), at(0), None)), Duration::from_millis(750));
    assert!(matches!(record.view(shows(0), at(1), None), View::Live));
}

#[test]
fn retry_after_is_honoured_up_to_five_minutes() {
    for (told, expected) in [(0, 1), (60, 60), (86_400, 300)] {
        let mut record = first();
        let retry_after = Some(Duration::from_secs(told));
        fail(&mut record, Landing::Transient { retry_after }, at(0));
        assert_eq!(rests(record.view(shows(0), at(0), None)).as_secs(), expected);
    }
}

#[test]
fn a_cooling_session_is_served_from_a_head_that_is_still_valid() {
    let mut record = rotated();
    fail(&mut record, Landing::Transient { retry_after: None }, at(550));
    assert_eq!(served(record.view(shows(0), at(550), None)), "at1");
    fail(&mut record, Landing::Transient { retry_after: None }, at(600));
    assert_eq!(rests(record.view(shows(0), at(600), None)).as_secs(), 2);
}

#[test]
fn an_ambiguous_call_of_an_expired_session_is_repeated_after_its_hard_deadline() {
    let mut record = first();
    let settled_at = Duration::from_secs(20);
    fail(&mut record, Landing::Ambiguous { settled_at }, at(1));
    assert_eq!(rests(record.view(shows(0), at(1), None)).as_secs(), 19);
    assert!(matches!(record.view(shows(0), at(20), None), View::Live));
}

#[test]
fn an_ambiguous_call_in_the_window_is_repeated_as_late_as_the_token_allows() {
    let mut record = first();
    record.note_shown(Shown { generation: 0, access: Some(&verified("alice", 0)) }, at(210));
    let settled_at = Duration::from_secs(230);
    fail(&mut record, Landing::Ambiguous { settled_at }, at(210));
    assert!(matches!(record.view(shows(0), at(294), None), View::Resting(_)));
    assert!(matches!(record.view(shows(0), at(295), None), View::Live));
}

#[test]
fn an_ambiguous_call_is_like_any_failure_where_tokens_may_be_used_again() {
    for (rotation, rest_s) in
        [(Rotation::Strict, 19), (Rotation::Grace, 19), (Rotation::ReuseOk, 1), (Rotation::None, 1)]
    {
        let mut record = first_under(rotation);
        fail(&mut record, Landing::Ambiguous { settled_at: Duration::from_secs(20) }, at(1));
        assert_eq!(rests(record.view(shows(0), at(1), None)).as_secs(), rest_s, "{rotation:?}");
    }
}

#[test]
fn an_old_token_is_spent_unless_the_backend_never_rotates() {
    for (rotation, spent) in [
        (Rotation::Strict, true),
        (Rotation::Grace, true),
        (Rotation::ReuseOk, true),
        (Rotation::None, false),
    ] {
        let mut record = first_under(rotation);
        rotate(&mut record, "at1", Some("rt1"), at(300));
        record.note_shown(shows(1), at(310));
        let view = record.view(shows(0), at(340), None);
        assert_eq!(matches!(view, View::Spent), spent, "{rotation:?}");
    }
}

#[test]
fn where_tokens_are_never_spent_whoever_shows_an_old_one_gets_the_newest_pair() {
    let mut record = first_under(Rotation::None);
    rotate(&mut record, "at1", Some("rt1"), at(300));
    record.note_shown(shows(1), at(310));
    assert_eq!(served(record.view(shows(0), at(500), None)), "at1");
    assert_eq!(delivered(&mut record, shows(0), at(500)), pair("at1", Some("rt1")));
    assert_eq!(delivered(&mut record, shows(1), at(500)), pair("at1", None));
    assert!(matches!(record.view(shows(0), at(600), None), View::Live));
    assert_eq!(asks_with(record.depart()), "rt1");
}

#[test]
fn an_absurd_expiry_does_not_overflow() {
    let mut record = first();
    let absurd = Verified {
        expires_at: UnixSeconds(u64::MAX),
        ..Arc::into_inner(verified("alice", 0)).unwrap()
    };
    record.note_shown(Shown { generation: 0, access: Some(&absurd) }, at(0));
    fail(&mut record, Landing::Ambiguous { settled_at: Duration::ZERO }, at(0));
    assert!(rests(record.view(shows(0), at(0), None)) <= LIFE_UNTOLD);
    record.depart();
    let told = Answer { max_age_s: Some(u64::MAX), ..answer("at1", Some("rt1")) };
    record.harvest(told, Some(hash("rt1")), 0, at(1));
    record.land(1, Landing::Unusable, at(1), 1.0);
    assert_eq!(record.expires(), Duration::from_secs(400 * 24 * 3600 + 1));
}

#[test]
fn two_rotations_are_apart_even_if_the_new_token_is_in_its_window_at_once() {
    let mut record = first();
    record.depart();
    record.harvest(answer("at1", Some("rt1")), Some(hash("rt1")), 0, at(300));
    // The backend handed out a token that has 50 of its 300 seconds left.
    record.land(1, Landing::Good(verified("alice", 50)), at(300), 1.0);
    assert_eq!(served(record.view(shows(1), at(301), None)), "at1");
    assert!(matches!(record.view(shows(1), at(315), None), View::Live));
}

#[test]
fn the_gap_between_rotations_is_a_quarter_of_a_short_life() {
    let mut record = first();
    record.depart();
    record.harvest(answer("at1", Some("rt1")), Some(hash("rt1")), 0, at(100));
    let short = Verified { life_s: 20, ..Arc::into_inner(verified("alice", 0)).unwrap() };
    let short = Verified { refresh_at: UnixSeconds(0), ..short };
    record.land(1, Landing::Good(Arc::new(short)), at(100), 1.0);
    assert_eq!(served(record.view(shows(1), at(104), None)), "at1");
    assert!(matches!(record.view(shows(1), at(105), None), View::Live));
}

#[test]
fn an_answer_whose_keys_are_away_is_kept_and_checked_again_without_asking() {
    let mut record = first();
    record.depart();
    record.harvest(answer("at1", Some("rt1")), Some(hash("rt1")), 0, at(300));
    let away = Landing::KeysAway { retry_after: Duration::from_secs(5) };
    let landed = record.land(1, away, at(300), 1.0);
    assert_eq!(landed, Landed { result: FlightResult::Transient, ended: None });
    assert_eq!(rests(record.view(shows(0), at(300), None)).as_secs(), 5);
    assert_eq!((record.deliver(shows(0), at(300)), record.class()), (None, Class::Kept));
    match record.depart() {
        Work::Check { access, kept } => assert_eq!((access.expose(), kept), ("at1", true)),
        Work::Ask { .. } => panic!("asked again"),
    }
    record.land(1, Landing::Good(verified("alice", 300)), at(305), 1.0);
    assert_eq!(delivered(&mut record, shows(0), at(305)), pair("at1", Some("rt1")));
}

#[test]
fn a_kept_answer_needs_no_endpoint() {
    let mut record = first();
    record.depart();
    record.harvest(answer("at1", Some("rt1")), Some(hash("rt1")), 0, at(0));
    record.land(1, Landing::KeysAway { retry_after: Duration::ZERO }, at(0), 1.0);
    let breaker = Some(Duration::from_secs(60));
    assert!(matches!(record.view(shows(0), at(1), breaker), View::Live));
}

#[test]
fn a_kept_answer_that_expired_meanwhile_leads_to_asking_with_the_new_token() {
    let mut record = first();
    record.depart();
    record.harvest(answer("at1", Some("rt1")), Some(hash("rt1")), 0, at(0));
    record.land(1, Landing::KeysAway { retry_after: Duration::ZERO }, at(0), 1.0);
    record.depart();
    let work = record.outlived(1, verified("alice", 0)).unwrap();
    assert_eq!(asks_with(work), "rt1");
    record.unchecked = Some(Secret::new("at2"));
    assert!(record.outlived(1, verified("mallory", 0)).is_none());
}

#[test]
fn a_check_says_nothing_about_a_head_that_came_meanwhile() {
    let mut record = first();
    record.depart();
    record.harvest(answer("at1", Some("rt1")), Some(hash("rt1")), 0, at(0));
    record.land(1, Landing::KeysAway { retry_after: Duration::ZERO }, at(0), 1.0);
    record.depart();
    (record.generation, record.unchecked) = (2, Some(Secret::new("at2")));
    let work = record.outlived(1, verified("alice", 0)).unwrap();
    assert!(matches!(work, Work::Check { access, .. } if access == Secret::new("at2")));
    assert!(record.access.is_none());
}

#[test]
fn a_token_that_expired_on_the_way_cools_down_and_keeps_the_new_refresh_token() {
    let mut record = first();
    record.depart();
    record.harvest(answer("at1", Some("rt1")), Some(hash("rt1")), 0, at(900));
    let landed = record.land(1, Landing::ExpiredOnArrival(verified("alice", 300)), at(900), 1.0);
    assert_eq!(landed, Landed { result: FlightResult::Misconfigured, ended: None });
    assert_eq!(rests(record.view(shows(0), at(900), None)).as_secs(), 1);
    assert_eq!(delivered(&mut record, shows(0), at(900)), pair("at1", Some("rt1")));
    assert_eq!(asks_with(record.depart()), "rt1");
}

#[test]
fn an_unusable_token_keeps_the_session_and_the_new_refresh_token() {
    let mut record = first();
    record.depart();
    record.harvest(answer("opaque", Some("rt1")), Some(hash("rt1")), 0, at(0));
    record.land(1, Landing::Unusable, at(0), 1.0);
    assert_eq!((record.deliver(shows(0), at(0)), record.class()), (None, Class::Kept));
    assert_eq!(asks_with(record.depart()), "rt1");
}

#[test]
fn an_unusable_token_leaves_the_one_before_in_use() {
    let mut record = rotated();
    record.depart();
    record.harvest(answer("opaque", Some("rt2")), Some(hash("rt2")), 1, at(550));
    record.land(2, Landing::Unusable, at(550), 1.0);
    assert_eq!(served(record.view(shows(1), at(550), None)), "at1");
    assert_eq!(delivered(&mut record, shows(1), at(550)), pair("at1", Some("rt2")));
}

#[test]
fn the_auth_backend_never_sees_a_spent_token() {
    let mut record = first();
    assert_eq!(record.for_backend(shows(0), at(0)), ForBackend::AsItCame);
    rotate(&mut record, "at1", Some("rt1"), at(300));
    let newest = ForBackend::Newest(NewCookies {
        issuer: ISSUER,
        access: Secret::new("at1"),
        refresh: Some(Secret::new("rt1")),
        max_age_s: None,
    });
    assert_eq!(record.for_backend(shows(0), at(301)), newest);
    record.note_shown(shows(1), at(302));
    assert_eq!(record.for_backend(shows(0), at(332)), ForBackend::Withhold);
    assert_eq!(record.for_backend(shows(1), at(332)), newest);
    record.end();
    assert_eq!(record.for_backend(shows(1), at(333)), ForBackend::Withhold);
}

#[test]
fn a_record_lives_as_long_as_its_refresh_token_and_says_what_is_left() {
    let mut record = first();
    assert_eq!(record.expires(), LIFE_UNTOLD);
    record.depart();
    assert_eq!(record.expires(), Duration::MAX);
    let told = Answer { max_age_s: Some(3_600), ..answer("at1", Some("rt1")) };
    record.harvest(told, Some(hash("rt1")), 0, at(300));
    record.land(1, Landing::Good(verified("alice", 300)), at(300), 1.0);
    assert_eq!(record.expires(), Duration::from_secs(3_900));
    let (cookies, _) = record.deliver(shows(0), at(900)).unwrap();
    assert_eq!(cookies.max_age_s, Some(3_000));
    rotate(&mut record, "at2", None, at(1_000));
    assert_eq!(record.expires(), Duration::from_secs(3_900));
}

#[test]
fn use_prolongs_a_record_but_a_spent_token_does_not() {
    let mut record = rotated();
    record.note_shown(shows(1), at(400));
    assert_eq!(record.expires(), LIFE_UNTOLD + Duration::from_secs(400));
    record.note_shown(shows(0), at(500));
    assert_eq!(record.expires(), LIFE_UNTOLD + Duration::from_secs(400));
    record.end();
    record.note_shown(shows(1), at(500));
    assert_eq!(record.expires(), LIFE_UNTOLD + Duration::from_secs(400));
}

#[test]
fn only_what_is_lost_for_good_is_kept_at_any_price() {
    let mut record = first();
    assert_eq!(record.class(), Class::Unproven);
    record.depart();
    assert_eq!(record.class(), Class::Kept);
    let mut record = rotated();
    assert_eq!(record.class(), Class::Kept);
    record.note_shown(shows(1), at(310));
    assert_eq!(record.class(), Class::Confirmed);
    record.depart();
    record.harvest(answer("at2", None), None, 1, at(600));
    record.land(2, Landing::KeysAway { retry_after: Duration::ZERO }, at(600), 1.0);
    assert_eq!(record.class(), Class::Kept);
    record.end();
    assert_eq!(record.class(), Class::Ended);
}

//! What every [`SessionStore`] must do, one test a sentence of its contract.
//!
//! `store_tests!` makes the tests for one kind of store: over a real Redis in `redis/tests.rs`, and
//! over whatever stands in for it elsewhere, so that a stand-in cannot behave otherwise. `tests/it`
//! includes this file for a real cluster and real sentinels, so it names nothing by `crate`.

use aws_lc_rs::digest;

use super::*;

/// A store as two gateways have it, and power over its time and memory.
#[async_trait]
pub trait Subject: Send + Sync {
    fn one(&self) -> &dyn SessionStore;
    fn other(&self) -> &dyn SessionStore;
    /// Makes time pass for the store alone.
    async fn pass(&self, time: Duration);
    /// The store forgets everything.
    async fn lose_memory(&self);
}

/// Hands every claim's name to another macro, with what was given.
macro_rules! claims {
    ([$($then:tt)*] $($given:tt)*) => {
        $($then)*! { $($given)* =>
            a_token_nobody_had_is_found_nowhere
            the_first_to_claim_gets_it_and_others_wait
            a_claim_of_one_gateway_is_another_ones_not_even_by_its_number
            a_claim_lapses_and_may_be_taken_over
            a_renewed_claim_does_not_lapse
            a_claim_that_was_taken_over_can_be_neither_kept_nor_sent
            a_sent_claim_is_taken_over_by_nobody
            a_lapsed_claim_cannot_be_sent
            a_gateway_that_sent_and_is_silent_gets_a_while_then_counts_as_lost
            a_lost_claim_is_taken_over_by_those_who_dare
            a_lost_claim_about_an_older_token_holds_nobody_up
            a_gateway_that_counted_as_lost_may_still_publish
            who_knows_less_than_the_store_is_told
            nobody_departs_while_the_record_cools
            another_flights_release_changes_nothing
            a_release_frees_the_claim_and_keeps_the_head
            a_withdrawn_claim_leaves_no_session_that_it_had_made
            a_session_that_was_told_under_an_older_name_is_seen_by_the_newer_one
            every_token_of_a_session_finds_it
            a_head_that_keeps_its_refresh_token_keeps_that_ones_generation
            an_older_head_does_not_replace_a_newer_one
            the_same_head_again_changes_no_claim
            a_token_of_another_session_stays_that_sessions
            a_token_that_names_a_session_stays_that_sessions
            a_token_that_comes_back_is_the_newest
            a_dead_session_has_no_head_and_a_newer_one_overrules_that
            a_session_with_a_newer_head_does_not_die_of_an_older_one
            a_logout_is_final
            what_nobody_knew_can_be_over_too
            a_confirmation_is_noted_once_with_its_age
            only_a_living_session_is_confirmed
            confirmations_are_bounded_and_the_newest_stay
            confirmations_of_two_gateways_are_one_set
            news_wake_those_who_wait
            a_closed_session_is_news_at_every_gateway
            who_waits_in_vain_waits_no_longer_than_it_said
            a_store_that_lost_its_memory_settles_first
            a_record_published_again_after_that_settles_too
            a_lost_memory_is_counted_and_can_be_restored
            a_session_is_remembered_for_a_day_after_its_last_use
            a_session_is_remembered_for_as_long_as_its_token_lives
            a_spent_token_is_known_for_as_long_as_its_session
            a_stranger_whose_token_is_over_is_soon_forgotten
        }
    };
}

/// A test a claim; the expression opens a [`Subject`].
#[allow(unused_macros, reason = "tests/it runs them one by one instead")]
macro_rules! store_tests {
    ($open:expr) => {
        $crate::refresh::store::tests::claims! {
            [$crate::refresh::store::tests::store_tests] $open
        }
    };
    ($open:expr => $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let subject = $open.await;
                $crate::refresh::store::tests::$name(&subject).await;
            }
        )*
    };
}
#[allow(unused_imports, reason = "tests/it runs them one by one instead")]
pub(crate) use {claims, store_tests};

macro_rules! one_by_one {
    (=> $($name:ident)*) => {
        /// Every claim in turn, for stores that take long to start. Each begins with an empty one.
        #[allow(dead_code, reason = "the tests of a single server run side by side")]
        pub async fn one_by_one<S: Subject>(open: impl AsyncFn() -> S) {
            $(
                println!("{}", stringify!($name));
                let subject = open().await;
                $name(&subject).await;
            )*
        }
    };
}
claims! { [one_by_one] }

const NONE: Duration = Duration::ZERO;
const SETTLE: Duration = Duration::from_secs(10);
const FLIGHT: ClaimId = ClaimId(7);
const HOUR: Duration = Duration::from_secs(3600);

fn hash(token: &str) -> TokenHash {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let hex: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    TokenHash::from_hex(&hex).expect("hex")
}

fn id(token: &str) -> SessionId {
    SessionId(hash(token))
}

fn head(generation: u64) -> StoredHead {
    let access = Secret::new(format!("access {generation}"));
    StoredHead { access, refresh: Secret::new(format!("refresh {generation}")) }
}

/// The head of session `s`; its refresh token is called `s` and the generation.
fn publication(session: &str, generation: u64) -> Publication {
    Publication {
        id: id(session),
        generation,
        refresh_generation: generation,
        head: head(generation),
        hash: hash(&format!("{session}{generation}")),
        life_left: None,
        confirmations: Vec::new(),
        aliases: Vec::new(),
    }
}

async fn published(store: &dyn SessionStore, session: &str, generation: u64) {
    assert_eq!(store.publish(&publication(session, generation)).await, Ok(None));
}

async fn claim(store: &dyn SessionStore, session: &str, generation: u64) -> Claim {
    store.claim(id(session), generation, FLIGHT, false, SETTLE).await.expect("the store answers")
}

async fn found(store: &dyn SessionStore, token: &str) -> Option<Sighting> {
    store.find(hash(token)).await.expect("the store answers")
}

async fn stored(store: &dyn SessionStore, session: &str) -> Stored {
    found(store, session).await.expect("the session is there").stored
}

/// A time that began as `whole` and has run for a moment.
fn nearly(left: Duration, whole: Duration) -> bool {
    left <= whole && left + Duration::from_secs(2) > whole
}

fn taken(claim: &Claim, whole: Duration) -> bool {
    matches!(claim, Claim::Taken(left) if nearly(*left, whole))
}

fn generations(stored: &Stored) -> Vec<u64> {
    let mut shown: Vec<u64> = stored.confirmations.iter().map(|(shown, _)| *shown).collect();
    shown.sort_unstable();
    shown
}

pub async fn a_token_nobody_had_is_found_nowhere(s: &dyn Subject) {
    assert_eq!(found(s.one(), "rt").await, None);
}

pub async fn the_first_to_claim_gets_it_and_others_wait(s: &dyn Subject) {
    assert_eq!(claim(s.one(), "s", 0).await, Claim::Ours);
    assert!(taken(&claim(s.other(), "s", 0).await, CLAIMED_FOR));
    assert_eq!(claim(s.other(), "another", 0).await, Claim::Ours);
    let stored = stored(s.other(), "s").await;
    assert_eq!((stored.life, stored.generation, stored.head), (Life::Live, 0, None));
}

pub async fn a_claim_of_one_gateway_is_another_ones_not_even_by_its_number(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    assert_eq!(s.one().keep(id("s"), FLIGHT).await, Ok(true));
    assert_eq!(s.other().keep(id("s"), FLIGHT).await, Ok(false));
    assert_eq!(s.other().sent(id("s"), FLIGHT, SETTLE).await, Ok(false));
    assert_eq!(s.one().sent(id("s"), ClaimId(8), SETTLE).await, Ok(false));
    assert_eq!(s.one().sent(id("s"), FLIGHT, SETTLE).await, Ok(true));
}

pub async fn a_claim_lapses_and_may_be_taken_over(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    s.pass(CLAIMED_FOR).await;
    assert_eq!(claim(s.other(), "s", 0).await, Claim::Ours);
}

pub async fn a_renewed_claim_does_not_lapse(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    for _ in 0..5 {
        s.pass(CLAIM_RENEWED_EVERY).await;
        assert_eq!(s.one().keep(id("s"), FLIGHT).await, Ok(true));
    }
    assert!(taken(&claim(s.other(), "s", 0).await, CLAIMED_FOR));
}

pub async fn a_claim_that_was_taken_over_can_be_neither_kept_nor_sent(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    s.pass(CLAIMED_FOR).await;
    claim(s.other(), "s", 0).await;
    assert_eq!(s.one().keep(id("s"), FLIGHT).await, Ok(false));
    assert_eq!(s.one().sent(id("s"), FLIGHT, SETTLE).await, Ok(false));
    assert_eq!(s.other().sent(id("s"), FLIGHT, SETTLE).await, Ok(true));
}

pub async fn a_sent_claim_is_taken_over_by_nobody(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    s.one().sent(id("s"), FLIGHT, SETTLE).await.unwrap();
    s.pass(CLAIMED_FOR).await;
    assert_eq!(s.one().keep(id("s"), FLIGHT).await, Ok(true));
    let left = SETTLE + SENT_SLACK - CLAIMED_FOR;
    assert!(taken(&claim(s.other(), "s", 0).await, left));
    let daring = s.other().claim(id("s"), 0, FLIGHT, true, SETTLE).await.unwrap();
    assert!(taken(&daring, left));
}

pub async fn a_lapsed_claim_cannot_be_sent(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    s.pass(CLAIMED_FOR).await;
    assert_eq!(s.one().sent(id("s"), FLIGHT, SETTLE).await, Ok(false));
    assert_eq!(s.one().sent(id("unknown"), FLIGHT, SETTLE).await, Ok(false));
}

/// A gateway that sent, and whose claim lapsed.
async fn silent(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    s.one().sent(id("s"), FLIGHT, SETTLE).await.unwrap();
    s.pass(SETTLE + SENT_SLACK).await;
}

pub async fn a_gateway_that_sent_and_is_silent_gets_a_while_then_counts_as_lost(s: &dyn Subject) {
    silent(s).await;
    assert!(taken(&claim(s.other(), "s", 0).await, LOST_AFTER));
    s.pass(LOST_AFTER - Duration::from_secs(1)).await;
    assert!(taken(&claim(s.other(), "s", 0).await, Duration::from_secs(1)));
    s.pass(Duration::from_secs(1)).await;
    assert_eq!(claim(s.other(), "s", 0).await, Claim::Lost);
    assert_eq!(claim(s.other(), "s", 0).await, Claim::Lost);
}

pub async fn a_lost_claim_is_taken_over_by_those_who_dare(s: &dyn Subject) {
    silent(s).await;
    let daring = async || s.other().claim(id("s"), 0, FLIGHT, true, SETTLE).await.unwrap();
    assert!(taken(&daring().await, LOST_AFTER));
    s.pass(LOST_AFTER).await;
    assert_eq!(daring().await, Claim::Ours);
    assert_eq!(s.one().sent(id("s"), FLIGHT, SETTLE).await, Ok(false));
}

pub async fn a_lost_claim_about_an_older_token_holds_nobody_up(s: &dyn Subject) {
    silent(s).await;
    assert!(taken(&claim(s.other(), "s", 0).await, LOST_AFTER));
    s.pass(LOST_AFTER).await;
    assert_eq!(claim(s.other(), "s", 0).await, Claim::Lost);
    assert_eq!(claim(s.other(), "s", 1).await, Claim::Ours);
}

pub async fn a_gateway_that_counted_as_lost_may_still_publish(s: &dyn Subject) {
    silent(s).await;
    claim(s.other(), "s", 0).await;
    s.pass(LOST_AFTER).await;
    published(s.one(), "s", 1).await;
    let moved = claim(s.other(), "s", 0).await;
    assert!(matches!(moved, Claim::Moved(stored) if stored.head == Some(head(1))));
    assert_eq!(claim(s.other(), "s", 1).await, Claim::Ours);
}

pub async fn who_knows_less_than_the_store_is_told(s: &dyn Subject) {
    published(s.one(), "s", 3).await;
    let Claim::Moved(stored) = claim(s.other(), "s", 2).await else { panic!("it has moved") };
    let rotated = stored.rotated.filter(|ago| nearly(NONE, *ago));
    let expected = Stored {
        life: Life::Live,
        generation: 3,
        refresh_generation: 3,
        head: Some(head(3)),
        confirmations: Vec::new(),
        cooling: None,
        failures: 0,
        rotated,
        life_left: None,
    };
    assert_eq!(stored, expected);
    assert!(rotated.is_some());
    assert_eq!(claim(s.other(), "s", 3).await, Claim::Ours);
}

pub async fn nobody_departs_while_the_record_cools(s: &dyn Subject) {
    let cooling = Duration::from_secs(20);
    claim(s.one(), "s", 0).await;
    s.one().release(id("s"), FLIGHT, Some(cooling), 2).await.unwrap();
    let Claim::Moved(stored) = claim(s.other(), "s", 0).await else { panic!("it cools") };
    assert!(nearly(stored.cooling.unwrap(), cooling));
    assert_eq!(stored.failures, 2);
    s.pass(cooling).await;
    assert_eq!(claim(s.other(), "s", 0).await, Claim::Ours);
    published(s.other(), "s", 1).await;
    assert_eq!(self::stored(s.one(), "s").await.failures, 0);
}

pub async fn another_flights_release_changes_nothing(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    s.other().release(id("s"), FLIGHT, Some(HOUR), 1).await.unwrap();
    s.other().release(id("unknown"), FLIGHT, Some(HOUR), 1).await.unwrap();
    assert_eq!(s.one().keep(id("s"), FLIGHT).await, Ok(true));
    assert_eq!(stored(s.one(), "s").await.cooling, None);
    assert_eq!(found(s.one(), "unknown").await, None);
}

pub async fn a_release_frees_the_claim_and_keeps_the_head(s: &dyn Subject) {
    published(s.one(), "s", 1).await;
    claim(s.one(), "s", 1).await;
    s.one().release(id("s"), FLIGHT, None, 0).await.unwrap();
    assert_eq!(claim(s.other(), "s", 1).await, Claim::Ours);
    assert_eq!(stored(s.one(), "s").await.head, Some(head(1)));
}

pub async fn a_withdrawn_claim_leaves_no_session_that_it_had_made(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    s.other().withdraw(id("s"), FLIGHT).await.unwrap();
    assert!(taken(&claim(s.other(), "s", 0).await, CLAIMED_FOR), "another's claim stays");
    s.one().withdraw(id("s"), FLIGHT).await.unwrap();
    assert_eq!(found(s.one(), "s").await, None);
    published(s.one(), "t", 1).await;
    claim(s.one(), "t", 1).await;
    s.one().withdraw(id("t"), FLIGHT).await.unwrap();
    assert_eq!(stored(s.one(), "t").await.head, Some(head(1)));
    assert_eq!(claim(s.other(), "t", 1).await, Claim::Ours);
}

pub async fn a_session_that_was_told_under_an_older_name_is_seen_by_the_newer_one(s: &dyn Subject) {
    assert_eq!(claim(s.one(), "s1", 0).await, Claim::Ours);
    assert_eq!(s.one().elsewhere(id("s1")).await, Ok(None));
    published(s.other(), "s", 1).await;
    assert_eq!(s.one().elsewhere(id("s1")).await, Ok(Some(id("s"))));
    // And the one that told sees that it is claimed under the newer name.
    assert_eq!(found(s.other(), "s1").await.unwrap().id, id("s1"));
    s.one().withdraw(id("s1"), FLIGHT).await.unwrap();
    assert_eq!(found(s.other(), "s1").await.unwrap().id, id("s"));
}

pub async fn every_token_of_a_session_finds_it(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    published(s.one(), "s", 1).await;
    published(s.one(), "s", 2).await;
    for (token, generation) in [("s", 0), ("s1", 1), ("s2", 2)] {
        let sighting = found(s.other(), token).await.expect("it is known");
        assert_eq!((sighting.id, sighting.generation), (id("s"), generation), "{token}");
        assert_eq!(sighting.stored.head, Some(head(2)));
    }
    assert_eq!(found(s.other(), "s3").await, None);
}

pub async fn a_head_that_keeps_its_refresh_token_keeps_that_ones_generation(s: &dyn Subject) {
    published(s.one(), "s", 1).await;
    let same = Publication {
        generation: 2,
        refresh_generation: 1,
        hash: hash("s1"),
        ..publication("s", 2)
    };
    assert_eq!(s.one().publish(&same).await, Ok(None));
    let sighting = found(s.other(), "s1").await.unwrap();
    assert_eq!(sighting.generation, 1);
    assert_eq!((sighting.stored.generation, sighting.stored.refresh_generation), (2, 1));
}

pub async fn an_older_head_does_not_replace_a_newer_one(s: &dyn Subject) {
    published(s.one(), "s", 2).await;
    let newer = s.other().publish(&publication("s", 1)).await.unwrap().expect("it was refused");
    assert_eq!((newer.generation, newer.head), (2, Some(head(2))));
    assert_eq!(stored(s.one(), "s").await.head, Some(head(2)));
}

pub async fn the_same_head_again_changes_no_claim(s: &dyn Subject) {
    published(s.one(), "s", 1).await;
    claim(s.one(), "s", 1).await;
    s.one().sent(id("s"), FLIGHT, SETTLE).await.unwrap();
    published(s.other(), "s", 1).await;
    assert!(taken(&claim(s.other(), "s", 1).await, SETTLE + SENT_SLACK));
    published(s.one(), "s", 2).await;
    assert_eq!(claim(s.other(), "s", 2).await, Claim::Ours);
}

pub async fn a_token_of_another_session_stays_that_sessions(s: &dyn Subject) {
    published(s.one(), "alice", 1).await;
    let confused = Publication { hash: hash("alice1"), ..publication("bob", 1) };
    s.other().publish(&confused).await.unwrap();
    assert_eq!(found(s.one(), "alice1").await.unwrap().id, id("alice"));
}

pub async fn a_token_that_names_a_session_stays_that_sessions(s: &dyn Subject) {
    claim(s.one(), "alice", 0).await;
    let confused = Publication { hash: hash("alice"), ..publication("bob", 1) };
    s.other().publish(&confused).await.unwrap();
    assert_eq!(found(s.one(), "alice").await.unwrap().id, id("alice"));
}

pub async fn a_token_that_comes_back_is_the_newest(s: &dyn Subject) {
    published(s.one(), "s", 1).await;
    for (generation, token) in [(2, "s"), (3, "s1")] {
        let back = Publication { hash: hash(token), ..publication("s", generation) };
        s.one().publish(&back).await.unwrap();
        assert_eq!(found(s.other(), token).await.unwrap().generation, generation);
    }
}

pub async fn a_dead_session_has_no_head_and_a_newer_one_overrules_that(s: &dyn Subject) {
    published(s.one(), "s", 1).await;
    claim(s.one(), "s", 1).await;
    assert_eq!(s.one().close(id("s"), 1, Life::Dead).await, Ok(None));
    let Claim::Moved(dead) = claim(s.other(), "s", 1).await else { panic!("it is dead") };
    assert_eq!((dead.life, dead.generation, dead.head), (Life::Dead, 1, None));
    // The same refresh token again: that is the one that was refused.
    let refused = s.other().publish(&publication("s", 1)).await.unwrap();
    assert_eq!(refused.map(|stored| stored.life), Some(Life::Dead));
    published(s.other(), "s", 2).await;
    assert_eq!(stored(s.one(), "s2").await.life, Life::Live);
}

pub async fn a_session_with_a_newer_head_does_not_die_of_an_older_one(s: &dyn Subject) {
    published(s.one(), "s", 2).await;
    let goes_on = s.other().close(id("s"), 1, Life::Dead).await.unwrap().expect("it goes on");
    assert_eq!((goes_on.life, goes_on.head), (Life::Live, Some(head(2))));
}

pub async fn a_logout_is_final(s: &dyn Subject) {
    published(s.one(), "s", 2).await;
    claim(s.one(), "s", 2).await;
    assert_eq!(s.other().close(id("s"), 0, Life::Ended).await, Ok(None));
    let refused = s.one().publish(&publication("s", 3)).await.unwrap().expect("it was refused");
    assert_eq!((refused.life, refused.head), (Life::Ended, None));
    assert_eq!(s.one().close(id("s"), 9, Life::Dead).await, Ok(None));
    assert_eq!(stored(s.other(), "s2").await.life, Life::Ended);
    assert!(matches!(claim(s.one(), "s", 9).await, Claim::Moved(_)));
}

pub async fn what_nobody_knew_can_be_over_too(s: &dyn Subject) {
    for (session, life) in [("a", Life::Dead), ("b", Life::Ended)] {
        assert_eq!(s.one().close(id(session), 0, life).await, Ok(None));
        assert_eq!(stored(s.other(), session).await.life, life);
        assert!(matches!(claim(s.other(), session, 0).await, Claim::Moved(_)));
    }
    // Who knows a newer token than the dead one may ask with it.
    assert_eq!(claim(s.other(), "a", 1).await, Claim::Ours);
}

pub async fn a_confirmation_is_noted_once_with_its_age(s: &dyn Subject) {
    published(s.one(), "s", 1).await;
    s.one().confirm(id("s"), 1).await.unwrap();
    s.pass(HOUR).await;
    s.other().confirm(id("s"), 1).await.unwrap();
    let stored = stored(s.other(), "s").await;
    assert_eq!(generations(&stored), [1]);
    assert!(stored.confirmations.iter().all(|(_, age)| nearly(HOUR, *age)));
}

pub async fn only_a_living_session_is_confirmed(s: &dyn Subject) {
    s.one().confirm(id("s"), 1).await.unwrap();
    assert_eq!(found(s.one(), "s").await, None);
    s.one().close(id("s"), 1, Life::Dead).await.unwrap();
    s.one().confirm(id("s"), 1).await.unwrap();
    assert!(generations(&stored(s.one(), "s").await).is_empty());
}

pub async fn confirmations_are_bounded_and_the_newest_stay(s: &dyn Subject) {
    published(s.one(), "s", 40).await;
    for generation in 1..=20 {
        s.one().confirm(id("s"), generation).await.unwrap();
    }
    // None has outlived its grace: the first keeps spent what was spent long ago.
    let kept: Vec<u64> = [1].into_iter().chain(6..=20).collect();
    assert_eq!(generations(&stored(s.one(), "s").await), kept);
    s.pass(HOUR).await;
    for generation in 21..=40 {
        s.one().confirm(id("s"), generation).await.unwrap();
    }
    let kept: Vec<u64> = [20].into_iter().chain(26..=40).collect();
    assert_eq!(generations(&stored(s.one(), "s").await), kept);
}

pub async fn confirmations_of_two_gateways_are_one_set(s: &dyn Subject) {
    published(s.one(), "s", 3).await;
    s.one().confirm(id("s"), 2).await.unwrap();
    let again = Publication { confirmations: vec![(1, HOUR), (2, HOUR)], ..publication("s", 3) };
    s.other().publish(&again).await.unwrap();
    let stored = stored(s.one(), "s").await;
    assert_eq!(generations(&stored), [1, 2]);
    // The first to be shown counts.
    assert!(stored.confirmations.iter().all(|(_, age)| nearly(HOUR, *age)));
}

pub async fn news_wake_those_who_wait(s: &dyn Subject) {
    for (session, news) in [("a", 0), ("b", 1), ("c", 2)] {
        claim(s.one(), session, 0).await;
        claim(s.other(), session, 0).await;
        let waits = s.other().told(id(session), HOUR);
        let waits = tokio::time::timeout(Duration::from_secs(10), waits);
        let tells = async {
            match news {
                0 => published(s.one(), session, 1).await,
                1 => s.one().release(id(session), FLIGHT, None, 1).await.unwrap(),
                _ => assert_eq!(s.one().close(id(session), 0, Life::Dead).await, Ok(None)),
            }
        };
        assert!(tokio::join!(waits, tells).0.is_ok(), "{session}");
    }
}

pub async fn a_closed_session_is_news_at_every_gateway(s: &dyn Subject) {
    let mut heard = [s.one().closed(), s.other().closed()];
    published(s.one(), "a", 1).await;
    // A refused one goes on, and is no news.
    s.one().close(id("a"), 0, Life::Dead).await.unwrap().expect("it goes on");
    s.one().close(id("b"), 0, Life::Dead).await.unwrap();
    s.other().close(id("a"), 0, Life::Ended).await.unwrap();
    for heard in &mut heard {
        for session in ["b", "a"] {
            let word = tokio::time::timeout(Duration::from_secs(10), heard.recv()).await;
            assert_eq!(*word.expect("in time").unwrap(), *id(session).0.to_hex());
        }
    }
}

pub async fn who_waits_in_vain_waits_no_longer_than_it_said(s: &dyn Subject) {
    let waits = s.one().told(id("s"), Duration::from_millis(20));
    assert!(tokio::time::timeout(Duration::from_secs(10), waits).await.is_ok());
}

pub async fn a_store_that_lost_its_memory_settles_first(s: &dyn Subject) {
    claim(s.one(), "s", 0).await;
    s.one().sent(id("s"), FLIGHT, SETTLE).await.unwrap();
    s.lose_memory().await;
    assert_eq!(s.one().sent(id("s"), FLIGHT, SETTLE).await, Ok(false));
    let settling =
        |claim: &Claim, left| matches!(claim, Claim::Settling(rest) if nearly(*rest, left));
    assert!(settling(&claim(s.other(), "s", 0).await, SETTLE + SENT_SLACK));
    s.pass(SETTLE).await;
    assert!(settling(&claim(s.other(), "s", 0).await, SENT_SLACK));
    s.pass(SENT_SLACK).await;
    assert_eq!(claim(s.other(), "s", 0).await, Claim::Ours);
}

pub async fn a_record_published_again_after_that_settles_too(s: &dyn Subject) {
    published(s.one(), "s", 4).await;
    s.lose_memory().await;
    published(s.other(), "s", 4).await;
    assert!(matches!(claim(s.other(), "s", 4).await, Claim::Settling(_)));
    assert!(matches!(claim(s.other(), "s", 3).await, Claim::Moved(_)));
}

pub async fn a_lost_memory_is_counted_and_can_be_restored(s: &dyn Subject) {
    let mut losses = s.one().losses();
    published(s.one(), "s", 2).await;
    s.lose_memory().await;
    let noticed = tokio::time::timeout(Duration::from_secs(10), losses.changed());
    assert!(noticed.await.is_ok());
    let aliases: Vec<_> = (1..60).map(|old| (hash(&format!("s{old}")), old)).collect();
    let restored = Publication { aliases, ..publication("s", 60) };
    assert_eq!(s.one().publish(&restored).await, Ok(None));
    assert_eq!(found(s.other(), "s59").await.map(|sighting| sighting.generation), Some(59));
    for _ in 0..500 {
        if found(s.other(), "s1").await.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the oldest token was not restored");
}

pub async fn a_session_is_remembered_for_a_day_after_its_last_use(s: &dyn Subject) {
    published(s.one(), "s", 1).await;
    for _ in 0..3 {
        s.pass(20 * HOUR).await;
        assert!(found(s.other(), "s1").await.is_some());
    }
    s.pass(25 * HOUR).await;
    assert_eq!(found(s.other(), "s").await, None);
    assert_eq!(found(s.other(), "s1").await, None);
}

pub async fn a_session_is_remembered_for_as_long_as_its_token_lives(s: &dyn Subject) {
    let told = Publication { life_left: Some(100 * HOUR), ..publication("s", 1) };
    s.one().publish(&told).await.unwrap();
    s.pass(99 * HOUR).await;
    let left = stored(s.one(), "s1").await.life_left;
    assert!(nearly(left.unwrap(), HOUR));
    s.pass(HOUR).await;
    assert_eq!(found(s.one(), "s1").await, None);
}

pub async fn a_spent_token_is_known_for_as_long_as_its_session(s: &dyn Subject) {
    for generation in 1..=40 {
        published(s.one(), "s", generation).await;
    }
    for generation in 41..=50 {
        s.pass(10 * HOUR).await;
        published(s.one(), "s", generation).await;
        // Tokens are prolonged beside the request; the clock here runs a little faster than it may.
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for generation in 1..=50 {
        let sighting = found(s.other(), &format!("s{generation}")).await;
        assert_eq!(sighting.map(|it| it.generation), Some(generation), "generation {generation}");
    }
}

pub async fn a_stranger_whose_token_is_over_is_soon_forgotten(s: &dyn Subject) {
    s.one().close(id("s"), 0, Life::Dead).await.unwrap();
    s.one().close(id("t"), 0, Life::Ended).await.unwrap();
    s.pass(Duration::from_secs(301)).await;
    assert_eq!((found(s.one(), "s").await, found(s.one(), "t").await), (None, None));
}

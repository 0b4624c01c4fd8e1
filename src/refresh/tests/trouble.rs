//! What fails, and that nobody is logged out by it.

use std::sync::atomic::Ordering;

use tokio::time::sleep;

use super::super::*;
use super::fake::*;

fn unsent() -> Fault {
    let detail = Detail::new("connect");
    Fault::Say(Outcome::Transient { detail, retry_after: None, unsent: true })
}

fn misconfigured() -> Fault {
    Fault::Say(Outcome::Misconfigured(Detail::new("invalid_client")))
}

#[tokio::test(start_paused = true)]
async fn a_request_that_found_no_connection_is_tried_twice_more() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    (0..2).for_each(|_| world.backend.fault(unsent()));
    assert_eq!(world.renew(&alice).await, token("alice", 0));
    assert_eq!(world.backend.calls(), 3);
    (0..3).for_each(|_| world.backend.fault(unsent()));
    let bob = world.backend.log_in("bob");
    assert_eq!(world.renew(&bob).await, "unavailable 1");
    assert_eq!(world.backend.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_cools_down_and_the_next_request_waits_for_it() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(transient());
    assert_eq!(world.renew(&alice).await, "unavailable 1");
    assert_eq!(world.look_up(&alice).await, "cooling 1");
    assert_eq!(world.renew(&alice).await, token("alice", 1));
    assert_eq!(world.now().uptime, Duration::from_secs(1));
    assert_eq!(world.backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_rest_is_told_exactly_and_at_once() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Say(Outcome::Transient {
        detail: Detail::new("busy"),
        retry_after: Some(Duration::from_secs(42)),
        unsent: false,
    }));
    assert_eq!(world.renew(&alice).await, "unavailable 42");
    sleep(Duration::from_millis(12_500)).await;
    assert_eq!(world.renew(&alice).await, "unavailable 30");
    assert_eq!(world.now().uptime, Duration::from_millis(12_500));
    assert_eq!(world.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failure_in_the_window_starts_no_flight_until_it_has_cooled_down() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(transient());
    let request = world.shows_both(&alice, "alice", 250);
    let handle = world.refresher.start(&request, world.now()).unwrap();
    handle.settled(WAIT).await;
    assert_eq!(handle.deliverable(world.now()).await, None);
    assert_eq!(world.look_up(&alice).await, "cooling 1");
    let handle = world.refresher.start(&request, world.now()).unwrap();
    assert_eq!((handle.in_flight(), world.backend.calls()), (false, 1));
    seconds(1).await;
    assert!(world.refresher.start(&request, world.now()).unwrap().in_flight());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_still_valid_serves_while_the_backend_is_down() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.renew(&alice).await;
    seconds(250).await;
    world.backend.fault(transient());
    assert_eq!(world.renew(&alice).await, token("alice", 0));
    world.backend.fault(Fault::Delay(Duration::from_secs(9)));
    seconds(1).await;
    assert_eq!(world.renew(&alice).await, token("alice", 0));
    assert_eq!(world.backend.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_stop_all_calls_for_two_seconds_then_one_probes() {
    let world = Arc::new(World::new());
    for number in 0..5 {
        world.backend.fault(transient());
        world.renew(&world.backend.log_in(&format!("person{number}"))).await;
    }
    let alice = world.backend.log_in("alice");
    assert_eq!(world.look_up(&alice).await, "cooling 2");
    assert_eq!(world.refresher.gauges().open_breakers, [Arc::from("default")]);
    assert_eq!(world.backend.calls(), 5);
    world.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let bob = world.backend.log_in("bob");
    let served = tokio::join!(world.renew(&alice), world.renew(&bob));
    // Either may be the probe; the other waits for what it finds.
    let one_probed = [(2, 3), (3, 2)].map(|(a, b)| (token("alice", a), token("bob", b)));
    assert!(one_probed.contains(&served), "{served:?}");
    assert_eq!(world.backend.calls(), 7);
    assert!(world.refresher.gauges().open_breakers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_after_the_rotation_is_asked_for_once_more_after_the_hard_deadline() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::ResetAfter);
    assert_eq!(world.renew(&alice).await, "unavailable 20");
    seconds(14).await;
    assert_eq!(world.renew(&alice).await, "unavailable 6");
    assert_eq!(world.backend.calls(), 1);
    seconds(2).await;
    assert_eq!(world.renew(&alice).await, "refused");
    assert_eq!((world.backend.calls(), world.now().uptime), (2, TIMEOUT));
    assert_eq!(world.counts()["ambiguous"], 1);
}

fn rotating(rotation: Rotation) -> World {
    let world = World::with(RefreshSettings { rotation, ..settings() });
    let takes_old_tokens = rotation != Rotation::Strict;
    world.backend.takes_old_tokens.store(takes_old_tokens, Ordering::Relaxed);
    world
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_at_once_and_once_if_the_backend_gives_grace() {
    let world = rotating(Rotation::Grace);
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::ResetAfter);
    assert_eq!(world.renew(&alice).await, token("alice", 0));
    assert_eq!(world.backend.shown(), ["alice.0", "alice.0"]);
    let bob = world.backend.log_in("bob");
    (0..2).for_each(|_| world.backend.fault(Fault::ResetAfter));
    assert_eq!(world.renew(&bob).await, "unavailable 20");
    assert_eq!((world.backend.calls(), world.counts()["ambiguous"]), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_stays_lost_if_the_second_call_says_nothing_about_the_token() {
    // Less by the pauses before the second call: the deadline is the first one's.
    let silent: [(&[Fault], &str); 3] = [
        (&[unsent(), unsent(), unsent()], "unavailable 19"),
        (&[transient()], "unavailable 20"),
        (&[misconfigured()], "unavailable 20"),
    ];
    for (second, told) in silent {
        let world = rotating(Rotation::Grace);
        let alice = world.backend.log_in("alice");
        world.backend.fault(Fault::ResetAfter);
        second.iter().for_each(|fault| world.backend.fault(fault.clone()));
        assert_eq!(world.renew(&alice).await, told, "{second:?}");
        assert_eq!((world.backend.calls(), world.counts()["ambiguous"]), (1 + second.len(), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_not_asked_for_again_when_the_grace_may_be_over() {
    let world = rotating(Rotation::Grace);
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Hang);
    assert_eq!(world.renew(&alice).await, "unavailable 1");
    seconds(20).await;
    assert_eq!((world.backend.calls(), world.counts()["ambiguous"]), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_after_a_cool_down_where_tokens_may_be_used_again() {
    for rotation in [Rotation::ReuseOk, Rotation::None] {
        let world = rotating(rotation);
        let alice = world.backend.log_in("alice");
        world.backend.fault(Fault::ResetAfter);
        assert_eq!(world.renew(&alice).await, "unavailable 1");
        assert_eq!(world.renew(&alice).await, token("alice", 1));
        assert_eq!(world.backend.shown(), ["alice.0", "alice.0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_before_the_rotation_costs_nothing_but_time() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::ResetBefore);
    world.renew(&alice).await;
    seconds(20).await;
    assert_eq!(world.renew(&alice).await, token("alice", 20));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_hangs_is_given_up_at_the_hard_deadline() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Hang);
    assert_eq!(world.renew(&alice).await, "unavailable 1");
    assert_eq!(world.refresher.gauges().in_flight, 1);
    sleep(Duration::from_millis(15_500)).await;
    assert_eq!(world.refresher.gauges().in_flight, 0);
    assert_eq!(world.look_up(&alice).await, "cooling 1");
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_panics_lands_and_the_session_lives() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Panic);
    assert_eq!(world.renew(&alice).await, "unavailable 20");
    assert_eq!(world.refresher.gauges().in_flight, 0);
    seconds(20).await;
    assert_eq!(world.renew(&alice).await, token("alice", 20));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_panics_does_not_keep_the_breaker_open() {
    let world = World::new();
    for number in 0..5 {
        world.backend.fault(transient());
        world.renew(&world.backend.log_in(&format!("person{number}"))).await;
    }
    seconds(2).await;
    world.backend.fault(Fault::Panic);
    world.renew(&world.backend.log_in("probe")).await;
    seconds(2).await;
    let alice = world.backend.log_in("alice");
    assert_eq!(world.renew(&alice).await, token("alice", 4));
    assert!(world.refresher.gauges().open_breakers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_client_secret_logs_nobody_out_and_calls_the_operator() {
    let world = World::new();
    let tokens: Vec<Secret> =
        ["alice", "bob", "carol"].map(|name| world.backend.log_in(name)).into();
    for token in &tokens {
        world.backend.fault(misconfigured());
        assert_eq!(world.renew(token).await, "unavailable 1");
    }
    let detail = Detail::new("invalid_client");
    let alarm = RefreshEvent::Misconfigured { issuer: "default".into(), detail };
    assert_eq!(world.events().iter().filter(|event| **event == alarm).count(), 1);
    seconds(1).await;
    for token in &tokens {
        assert!(world.renew(token).await.contains(" at "));
    }
}

#[tokio::test(start_paused = true)]
async fn one_misconfigured_session_alone_is_no_alarm() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    for _ in 0..5 {
        world.backend.fault(misconfigured());
        world.renew(&alice).await;
        seconds(30).await;
    }
    let alarm = |event: &RefreshEvent| matches!(event, RefreshEvent::Misconfigured { .. });
    assert!(!world.events().iter().any(alarm));
    assert_eq!(world.counts()["misconfigured"], 5);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expired_on_the_way_makes_no_loop_and_loses_no_refresh_token() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    seconds(1_000).await;
    world.backend.fault(Fault::Access(token("alice", 0)));
    assert_eq!(world.renew(&alice).await, "unavailable 1");
    assert_eq!((world.backend.calls(), world.counts()["misconfigured"]), (1, 1));
    assert_eq!(world.renew(&alice).await, token("alice", 1_001));
    assert_eq!(world.backend.shown(), ["alice.0", "alice.1"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_checked_is_kept_until_the_keys_are_back() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.verifier.keys_away.store(true, Ordering::Relaxed);
    assert_eq!(world.renew(&alice).await, "unavailable 3");
    assert_eq!(world.renew(&alice).await, "unavailable 3");
    world.verifier.keys_away.store(false, Ordering::Relaxed);
    assert_eq!(world.renew(&alice).await, token("alice", 0));
    assert_eq!(world.backend.shown(), ["alice.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_given_up_and_the_answer_is_kept() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.verifier.hangs.store(true, Ordering::Relaxed);
    assert_eq!(world.renew(&alice).await, "unavailable 1");
    sleep(Duration::from_millis(15_500)).await;
    world.verifier.hangs.store(false, Ordering::Relaxed);
    assert_eq!(world.renew(&alice).await, token("alice", 0));
    assert_eq!(world.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_outlived_its_check_is_replaced_in_the_same_flight() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.verifier.keys_away.store(true, Ordering::Relaxed);
    world.renew(&alice).await;
    world.verifier.keys_away.store(false, Ordering::Relaxed);
    seconds(LIFE_S).await;
    assert_eq!(world.renew(&alice).await, token("alice", LIFE_S));
    assert_eq!(world.backend.shown(), ["alice.0", "alice.1"]);
    assert_eq!(world.now().uptime, Duration::from_secs(LIFE_S));
}

#[tokio::test(start_paused = true)]
async fn a_key_nobody_knows_yet_is_waited_for_once() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Access("unknown_key".to_owned()));
    assert_eq!(world.renew(&alice).await, "unavailable 1");
    assert_eq!(world.renew(&alice).await, "unavailable 2");
    assert_eq!(world.backend.calls(), 1);
    assert_eq!(world.renew(&alice).await, token("alice", 3));
    assert_eq!(world.backend.shown(), ["alice.0", "alice.1"]);
}

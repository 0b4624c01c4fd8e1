//! Limits, reached.

use super::super::board::WAITERS_MAX;
use super::super::*;
use super::fake::*;

#[tokio::test(start_paused = true)]
async fn strangers_with_random_tokens_neither_hammer_nor_push_anybody_out() {
    let world = World::with_room_for(50);
    let alice = world.backend.log_in("alice");
    world.renew(&alice).await;
    world.refresher.note_shown(&world.shows(&Secret::new("alice.1")), world.now());
    for number in 0..1_000 {
        assert_eq!(world.renew(&Secret::new(format!("random{number}"))).await, "refused");
    }
    assert_eq!(world.backend.calls(), 1 + 20);
    assert_eq!(world.look_up(&Secret::new("alice.1")).await, token("alice", 0));
    assert_eq!(world.refresher.gauges().sessions, SessionCounts { idle: 1, ..Default::default() });
}

#[tokio::test(start_paused = true)]
async fn strangers_cannot_push_sessions_out_while_the_backend_is_down() {
    let world = World::with_room_for(10);
    let alice = world.backend.log_in("alice");
    world.renew(&alice).await;
    world.refresher.note_shown(&world.shows(&Secret::new("alice.1")), world.now());
    for number in 0..100 {
        world.backend.fault(transient());
        world.renew(&Secret::new(format!("random{number}"))).await;
    }
    assert_eq!(world.look_up(&Secret::new("alice.1")).await, token("alice", 0));
    let sessions = world.refresher.gauges().sessions;
    assert!(sessions.idle + sessions.cooling <= 10, "{sessions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_random_tokens_from_one_address_waits_for_the_first_answers() {
    let world = World::new();
    for number in 0..100 {
        world.backend.fault(Fault::Delay(Duration::from_secs(1)));
        let token = Secret::new(format!("random{number}"));
        world.refresher.start(&world.shows(&token), world.now());
    }
    assert_eq!(world.refresher.gauges().in_flight, 20);
    assert!(world.look_up(&Secret::new("another")).await.starts_with("cooling"));
    seconds(2).await;
    assert_eq!(world.look_up(&Secret::new("another")).await, "dead");
    assert_eq!(world.backend.calls(), 20);
}

#[tokio::test(start_paused = true)]
async fn tokens_first_shown_while_the_backend_was_down_are_no_way_around_the_limit() {
    let world = World::new();
    let tokens: Vec<_> = (0..100).map(|number| Secret::new(format!("random{number}"))).collect();
    for token in &tokens {
        world.backend.fault(transient());
        world.renew(token).await;
    }
    let before = world.backend.calls();
    world.backend.mend();
    seconds(60).await;
    for token in &tokens {
        assert_eq!(world.renew(token).await, "refused");
    }
    assert_eq!(world.backend.calls() - before, 20);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_stays_refused_while_the_breaker_is_open() {
    let world = World::new();
    let unknown = Secret::new("nobody.0");
    world.renew(&unknown).await;
    for number in 0..5 {
        world.backend.fault(transient());
        world.renew(&world.backend.log_in(&format!("person{number}"))).await;
    }
    assert_eq!(world.look_up(&world.backend.log_in("alice")).await, "cooling 2");
    assert_eq!(world.look_up(&unknown).await, "dead");
}

#[tokio::test(start_paused = true)]
async fn a_token_longer_than_any_cookie_is_not_looked_at() {
    let world = World::new();
    assert_eq!(world.renew(&Secret::new("x".repeat(8 * 1024 + 1))).await, "absent");
    assert_eq!(world.backend.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn when_only_unconfirmed_sessions_are_left_no_flight_starts_in_the_window() {
    let world = World::with_room_for(16);
    for number in 0..15 {
        let token = world.backend.log_in(&format!("person{number}"));
        assert!(world.renew(&token).await.contains(" at "));
    }
    let alice = world.backend.log_in("alice");
    let request = world.shows_both(&alice, "alice", 250);
    assert!(world.refresher.start(&request, world.now()).is_none());
    assert!(world.events().contains(&RefreshEvent::LedgerFull { issuer: "default".into() }));
    assert_eq!(world.backend.calls(), 15);
    assert_eq!(world.renew(&alice).await, token("alice", 0));
    let bob = world.backend.log_in("bob");
    assert!(world.renew(&bob).await.starts_with("unavailable"));
    assert_eq!(world.backend.calls(), 16);
    assert_eq!(world.renew(&Secret::new("person0.0")).await, token("person0", 0));
}

#[tokio::test(start_paused = true)]
async fn there_are_only_so_many_waiters() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    let waiting: Vec<_> = (0..WAITERS_MAX).map(|_| world.refresher.shared.waiting()).collect();
    assert!(waiting.iter().all(Option::is_some));
    assert_eq!(world.renew(&alice).await, "unavailable 1");
    assert_eq!((world.backend.calls(), world.refresher.gauges().waiters), (0, WAITERS_MAX));
    drop(waiting);
    assert_eq!(world.renew(&alice).await, token("alice", 0));
}

#[tokio::test(start_paused = true)]
async fn there_are_only_so_many_flights() {
    let world = World::with_room_for(10_000);
    for number in 0..1_100_u32 {
        let token = world.backend.log_in(&format!("person{number}"));
        world.backend.fault(Fault::Delay(Duration::from_secs(1)));
        let client = IpAddr::from(number.to_be_bytes());
        let request =
            Presented { client, ..world.shows_both(&token, &format!("person{number}"), 250) };
        world.refresher.start(&request, world.now());
    }
    assert_eq!(world.refresher.gauges().in_flight, 1_024);
    assert!(world.refresher.drain(Duration::from_secs(2)).await);
    assert_eq!(world.backend.calls(), 1_024);
}

#[tokio::test(start_paused = true)]
async fn draining_waits_for_flights_but_not_for_ever() {
    let world = World::new();
    assert!(world.refresher.drain(Duration::ZERO).await);
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_secs(3)));
    world.refresher.start(&world.shows_both(&alice, "alice", 250), world.now());
    assert!(!world.refresher.drain(Duration::from_secs(2)).await);
    assert!(world.refresher.drain(Duration::from_secs(2)).await);
    assert_eq!(world.look_up(&alice).await, token("alice", 0));
}

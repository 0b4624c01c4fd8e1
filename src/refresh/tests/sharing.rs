//! Many requests, one grant; and whoever comes late finds what the others got.

use std::collections::HashSet;

use tokio::time::sleep;

use super::super::*;
use super::fake::*;

#[tokio::test(start_paused = true)]
async fn forty_requests_with_one_expired_token_make_one_grant() {
    let world = Arc::new(World::new());
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_millis(100)));
    let requests: Vec<_> = (0..40)
        .map(|_| {
            let (world, alice) = (world.clone(), alice.clone());
            tokio::spawn(async move { (world.renew(&alice).await, world.cookies(&alice).await) })
        })
        .collect();
    let mut answers = HashSet::new();
    for request in requests {
        answers.insert(request.await.unwrap());
    }
    let cookies = Some((token("alice", 0), Some("alice.1".to_owned())));
    assert_eq!(answers, HashSet::from([(token("alice", 0), cookies)]));
    assert_eq!(world.backend.shown(), ["alice.0"]);
    assert_eq!((world.counts()["ok"], world.counts()["shared"]), (1, 39));
    assert_eq!(world.refresher.gauges().in_flight, 0);
    assert_eq!(world.refresher.gauges().waiters, 0);
}

#[tokio::test(start_paused = true)]
async fn the_flight_says_how_many_requests_shared_it() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_millis(100)));
    tokio::join!(world.renew(&alice), world.renew(&alice), world.renew(&alice));
    let finished = RefreshEvent::Finished {
        issuer: Arc::from("default"),
        trigger: Trigger::Expired,
        result: FlightResult::Ok,
        shared_by: 2,
        took: Duration::from_millis(100),
    };
    assert!(world.events().contains(&finished));
}

#[tokio::test(start_paused = true)]
async fn the_old_token_is_served_without_a_grant_40_ms_and_5_s_later() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    let first = world.renew(&alice).await;
    for pause in [40, 5_000] {
        sleep(Duration::from_millis(pause)).await;
        assert_eq!(world.look_up(&alice).await, first);
        assert_eq!(world.cookies(&alice).await, Some((first.clone(), Some("alice.1".to_owned()))));
    }
    assert_eq!(world.backend.calls(), 1);
    assert!(world.events().contains(&RefreshEvent::Redelivered { issuer: "default".into() }));
}

#[tokio::test(start_paused = true)]
async fn the_next_morning_an_unconfirmed_session_is_renewed_with_its_newest_token() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.renew(&alice).await;
    seconds(10 * 3600).await;
    assert_eq!(world.renew(&alice).await, token("alice", 36_000));
    assert_eq!(world.backend.shown(), ["alice.0", "alice.1"]);
    assert_eq!(world.cookies(&alice).await.unwrap().1, Some("alice.2".to_owned()));
    assert!(!world.backend.is_dead("alice"));
}

#[tokio::test(start_paused = true)]
async fn after_confirmation_and_grace_the_old_token_is_spent_and_never_asked_about() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.renew(&alice).await;
    world.refresher.note_shown(&world.shows(&Secret::new("alice.1")), world.now());
    seconds(29).await;
    assert_eq!(
        (world.look_up(&alice).await, world.cookies(&alice).await),
        (token("alice", 0), None)
    );
    seconds(1).await;
    assert_eq!(world.look_up(&alice).await, "spent");
    assert_eq!(world.renew(&alice).await, "spent");
    seconds(3600).await;
    assert_eq!(world.renew(&alice).await, "spent");
    assert_eq!(world.backend.calls(), 1);
    let spent = |event: &RefreshEvent| matches!(event, RefreshEvent::SpentShown { .. });
    assert_eq!(world.events().iter().filter(|event| spent(event)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn clients_that_hang_up_cancel_nothing() {
    let world = Arc::new(World::new());
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let requests: Vec<_> = (0..3)
        .map(|_| {
            let (world, alice) = (world.clone(), alice.clone());
            tokio::spawn(async move { world.renew(&alice).await })
        })
        .collect();
    sleep(Duration::from_millis(100)).await;
    requests.iter().for_each(|request| request.abort());
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.refresher.gauges().waiters, 0);
    seconds(1).await;
    assert_eq!(world.look_up(&alice).await, token("alice", 0));
    assert_eq!(world.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_later_than_all_waiters_is_harvested() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_secs(7)));
    let (first, second) = tokio::join!(world.renew(&alice), world.renew(&alice));
    assert_eq!((first.as_str(), second.as_str()), ("unavailable 1", "unavailable 1"));
    assert_eq!(world.renew(&alice).await, token("alice", 0));
    assert_eq!(world.backend.shown(), ["alice.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_flight_in_the_window_brings_cookies_within_the_hold() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_millis(100)));
    let request = world.shows_both(&alice, "alice", 250);
    assert_eq!(told(&world.refresher.look_up(&request, world.now()).await.0), "live");
    let handle = world.refresher.start(&request, world.now()).unwrap();
    assert!(handle.in_flight());
    assert_eq!(handle.deliverable(world.now()).await, None);
    handle.settled(Duration::from_millis(250)).await;
    assert!(!handle.in_flight());
    let cookies = handle.deliverable(world.now()).await.unwrap();
    assert_eq!(cookies.access.expose(), token("alice", 0));
    assert_eq!(world.now().uptime, Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_slow_flight_in_the_window_is_delivered_by_the_next_response() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_secs(2)));
    let request = world.shows_both(&alice, "alice", 250);
    let handle = world.refresher.start(&request, world.now()).unwrap();
    handle.settled(Duration::from_millis(250)).await;
    assert_eq!((handle.deliverable(world.now()).await, handle.in_flight()), (None, true));
    seconds(2).await;
    assert_eq!(world.look_up(&alice).await, token("alice", 0));
    assert_eq!(world.cookies(&alice).await.unwrap().1, Some("alice.1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_expired_request_joins_a_flight_that_began_in_the_window() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_secs(1)));
    world.refresher.start(&world.shows_both(&alice, "alice", 299), world.now()).unwrap();
    assert_eq!(world.renew(&alice).await, token("alice", 0));
    assert_eq!(world.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_rotated_a_moment_ago_is_not_rotated_again() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    // What the backend hands out has ten seconds left: it is in its window at once.
    seconds(LIFE_S).await;
    world.backend.fault(Fault::Access(token("alice", 10)));
    assert_eq!(world.renew(&alice).await, token("alice", 10));
    let newest = Secret::new("alice.1");
    assert_eq!(world.look_up(&newest).await, token("alice", 10));
    assert_eq!(world.renew(&newest).await, token("alice", 10));
    assert_eq!(world.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_keeps_refresh_tokens_gets_its_access_token_to_the_browser() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    let request = world.shows_both(&alice, "alice", 250);
    world.backend.fault(Fault::KeepRefresh);
    let handle = world.refresher.start(&request, world.now()).unwrap();
    handle.settled(WAIT).await;
    let cookies = handle.deliverable(world.now()).await.unwrap();
    assert_eq!((cookies.access.expose(), cookies.refresh), (token("alice", 0).as_str(), None));
    let later = world.shows_both(&alice, "alice", 0);
    let (_, handle) = world.refresher.look_up(&later, world.now()).await;
    assert_eq!(handle.unwrap().deliverable(world.now()).await, None);
}

#[tokio::test(start_paused = true)]
async fn two_sessions_are_never_mixed() {
    let world = Arc::new(World::new());
    let names: Vec<String> = (0..15).map(|number| format!("person{number}")).collect();
    for (name, delay) in names.iter().zip((0..15).rev()) {
        world.backend.log_in(name);
        world.backend.fault(Fault::Delay(Duration::from_millis(7 * delay)));
    }
    let requests = (0..10).flat_map(|_| names.clone()).map(|name| {
        let world = world.clone();
        tokio::spawn(async move {
            let own = Secret::new(format!("{name}.0"));
            let served = world.renew(&own).await;
            let cookies = world.cookies(&own).await.unwrap();
            (name, served, cookies)
        })
    });
    for request in requests.collect::<Vec<_>>() {
        let (name, served, cookies) = request.await.unwrap();
        assert_eq!(served, token(&name, 0));
        assert_eq!(cookies, (token(&name, 0), Some(format!("{name}.1"))));
    }
    assert_eq!(world.backend.calls(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_beside_another_persons_access_token_counts_as_absent() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.renew(&alice).await;
    let mixed = world.shows_both(&alice, "mallory", 250);
    let (session, handle) = world.refresher.look_up(&mixed, world.now()).await;
    assert_eq!((told(&session).as_str(), handle.is_none()), ("absent", true));
    let (session, _) = world.refresher.renew(&mixed, WAIT, world.now()).await;
    assert_eq!(told(&session), "absent");
    assert!(world.refresher.start(&mixed, world.now()).is_none());
    assert_eq!(world.backend.calls(), 1);
}

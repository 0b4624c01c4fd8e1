//! A backend that bears only so many refreshes a second.

use std::num::NonZeroU32;

use tokio::time::sleep;

use super::super::*;
use super::fake::*;

fn world() -> World {
    World::with(RefreshSettings { budget: NonZeroU32::new(1), ..settings() })
}

fn people(world: &World, count: usize) -> Vec<Secret> {
    (0..count).map(|number| world.backend.log_in(&format!("person{number}"))).collect()
}

fn count(world: &World, wanted: BudgetResult) -> usize {
    let is = |event: &RefreshEvent| matches!(event, RefreshEvent::Budget { result, .. } if *result == wanted);
    world.events().iter().filter(|event| is(event)).count()
}

#[tokio::test(start_paused = true)]
async fn the_expired_are_served_one_a_second_and_the_last_is_told_when_to_come() {
    let world = world();
    let people = people(&world, 7);
    let told = futures_util::future::join_all(people.iter().map(|token| world.renew(token))).await;
    let mut expected: Vec<String> =
        (0..5).map(|number| token(&format!("person{number}"), number)).collect();
    // Its turn comes at the very moment its wait is over: the next request finds what it brought.
    expected.extend(["unavailable 1".to_owned(), "unavailable 6".to_owned()]);
    assert_eq!(told, expected);
    seconds(1).await;
    assert_eq!(world.look_up(&people[5]).await, token("person5", 5));
    assert_eq!((count(&world, BudgetResult::Queued), count(&world, BudgetResult::Full)), (5, 1));
    assert_eq!(world.backend.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_session_has_one_place_however_many_requests_want_it_renewed() {
    let world = world();
    let people = people(&world, 2);
    world.renew(&people[0]).await;
    let requests = (0..10).map(|_| world.renew(&people[1]));
    let told = futures_util::future::join_all(requests).await;
    assert_eq!(told, vec![token("person1", 1); 10]);
    assert_eq!((count(&world, BudgetResult::Queued), world.backend.calls()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn in_the_window_nothing_waits_and_nothing_starts() {
    let world = world();
    let people = people(&world, 2);
    world.renew(&people[0]).await;
    let request = world.shows_both(&people[1], "person1", 250);
    assert!(world.refresher.start(&request, world.now()).is_none());
    assert_eq!((count(&world, BudgetResult::Postponed), world.backend.calls()), (1, 1));
    seconds(1).await;
    assert!(world.refresher.start(&request, world.now()).unwrap().in_flight());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_in_the_queue_finds_its_session_renewed() {
    let world = world();
    let people = people(&world, 2);
    world.renew(&people[0]).await;
    let gone = timeout(Duration::from_millis(100), world.renew(&people[1])).await;
    assert!(gone.is_err());
    seconds(1).await;
    assert_eq!(world.look_up(&people[1]).await, token("person1", 1));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_in_the_queue_is_not_asked_for() {
    let world = world();
    let people = people(&world, 2);
    world.renew(&people[0]).await;
    let (told, ()) = tokio::join!(world.renew(&people[1]), async {
        sleep(Duration::from_millis(500)).await;
        world.refresher.end(ISSUER, &people[1], world.now()).await;
    });
    assert_eq!((told.as_str(), world.backend.calls()), ("ended", 1));
    assert_eq!(world.refresher.gauges().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_in_the_queue_when_the_breaker_opens_leaves_the_backend_alone() {
    let five = NonZeroU32::new(5);
    let world = World::with(RefreshSettings { budget: five, ..settings() });
    let people = people(&world, 6);
    (0..5).for_each(|_| world.backend.fault(transient()));
    let told = futures_util::future::join_all(people.iter().map(|token| world.renew(token))).await;
    assert_eq!(told[5], "unavailable 2");
    assert_eq!((world.backend.calls(), count(&world, BudgetResult::Queued)), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_only_has_to_be_checked_costs_no_turn() {
    let world = world();
    let people = people(&world, 2);
    world.verifier.keys_away.store(true, Ordering::Relaxed);
    assert_eq!(world.renew(&people[0]).await, "unavailable 3");
    world.verifier.keys_away.store(false, Ordering::Relaxed);
    seconds(3).await;
    assert_eq!(world.renew(&people[1]).await, token("person1", 3));
    assert_eq!(world.renew(&people[0]).await, token("person0", 0));
    assert_eq!(world.now().uptime, Duration::from_secs(3));
}

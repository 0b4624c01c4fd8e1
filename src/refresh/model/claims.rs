//! What holds in every order that was tried.

use std::time::Duration;

use shuttle::future::spawn;

use super::primitives::{pass, uptime};
use super::world::{DAY, Manner, RunningTime, World, in_every_order, now};
use crate::refresh::tests::fake::{ISSUER, TIMEOUT, WAIT, token};

#[test]
fn requests_at_once_share_one_grant_and_all_are_served() {
    in_every_order(|| async {
        let world = World::new(Manner::Good);
        let alice = world.backend.log_in("alice");
        for request in [(); 4].map(|()| world.renews(&alice)) {
            assert_eq!(request.await.unwrap().told, token("alice", 0));
        }
        assert!(world.refresher.drain(DAY).await);
        assert_eq!(world.backend.shown(), ["alice.0"]);
        assert_eq!(world.delivered(&alice).await.as_deref(), Some("alice.1"));
        world.assert_at_rest();
    });
}

#[test]
fn a_client_that_hangs_up_cancels_nothing_and_keeps_no_place() {
    in_every_order(|| async {
        let world = World::new(Manner::Good);
        let alice = world.backend.log_in("alice");
        let gone = [(); 2].map(|()| world.renews_and_hangs_up(&alice));
        let there = [(); 2].map(|()| world.renews(&alice));
        for request in gone {
            request.await.unwrap();
        }
        for request in there {
            assert_eq!(request.await.unwrap().told, token("alice", 0));
        }
        assert!(world.refresher.drain(DAY).await);
        assert_eq!(world.backend.shown(), ["alice.0"]);
        world.assert_at_rest();
    });
}

#[test]
fn the_result_is_kept_when_every_client_hangs_up() {
    in_every_order(|| async {
        let world = World::new(Manner::Good);
        let alice = world.backend.log_in("alice");
        for request in [(); 2].map(|()| world.renews_and_hangs_up(&alice)) {
            request.await.unwrap();
        }
        assert!(world.refresher.drain(DAY).await);
        let asked = world.backend.calls();
        assert!(asked <= 1, "{asked} calls");
        // Either all hung up before anything departed, or the result waits for the next request.
        let kept = world.delivered(&alice).await;
        assert_eq!(kept.as_deref(), (asked == 1).then_some("alice.1"));
        world.assert_at_rest();
    });
}

#[test]
fn a_landing_between_look_and_join_is_not_missed() {
    in_every_order(|| async {
        let world = World::new(Manner::Good);
        let alice = world.backend.log_in("alice");
        let flies = world.renews(&alice);
        for request in [(); 3].map(|()| world.looks_then_renews(&alice)) {
            let told = request.await.unwrap();
            // `Live` is what a look-up during a flight says, too: the edge then renews, and joins.
            assert_eq!(told, token("alice", 0));
        }
        assert_eq!(flies.await.unwrap().told, token("alice", 0));
        assert_eq!(world.backend.shown(), ["alice.0"]);
    });
}

#[test]
fn a_response_that_holds_for_its_flight_takes_the_cookies_along() {
    in_every_order(|| async {
        let world = World::new(Manner::Good);
        let alice = world.backend.log_in("alice");
        let responses = [(); 3].map(|()| {
            let (world, shows) = (world.clone(), world.shows(&alice));
            spawn(async move {
                let handle = world.refresher.start(&shows, now()).unwrap();
                handle.settled(WAIT).await;
                let cookies = handle.deliverable(now()).await.unwrap();
                assert_eq!(cookies.refresh.unwrap().expose(), "alice.1");
            })
        });
        for response in responses {
            response.await.unwrap();
        }
        assert_eq!(world.backend.shown(), ["alice.0"]);
        world.assert_at_rest();
    });
}

#[test]
fn after_a_logout_nothing_is_served_and_nothing_delivered() {
    in_every_order(|| async {
        let world = World::new(Manner::Good);
        let alice = world.backend.log_in("alice");
        let before = [(); 2].map(|()| world.renews(&alice));
        let (room, left) = (world.clone(), alice.clone());
        let logout = spawn(async move {
            room.refresher.end(ISSUER, &left, now()).await;
            assert_eq!(room.delivered(&left).await, None);
            room.renews(&left).await.unwrap().told
        });
        let told = logout.await.unwrap();
        assert!(["ended", "refused"].contains(&told.as_str()), "{told}");
        for request in before {
            let told = request.await.unwrap().told;
            let known = ["ended".to_owned(), "refused".to_owned(), token("alice", 0)];
            assert!(known.contains(&told), "{told}");
        }
        assert!(world.refresher.drain(DAY).await);
        assert_eq!(world.delivered(&alice).await, None);
        world.assert_no_double_spend();
        world.assert_at_rest();
    });
}

#[test]
fn a_flight_that_panics_leaves_nobody_waiting() {
    in_every_order(|| async {
        let world = World::new(Manner::Panics);
        let alice = world.backend.log_in("alice");
        for request in [(); 3].map(|()| world.renews(&alice)) {
            let told = request.await.unwrap().told;
            assert_eq!(told, format!("unavailable {}", TIMEOUT.as_secs()));
        }
        assert!(world.refresher.drain(DAY).await);
        world.assert_no_double_spend();
        world.assert_at_rest();
    });
}

#[test]
fn a_refusal_reaches_every_waiter_and_is_asked_for_once() {
    in_every_order(|| async {
        let world = World::new(Manner::Refuses);
        let alice = world.backend.log_in("alice");
        for request in [(); 3].map(|()| world.renews(&alice)) {
            assert_eq!(request.await.unwrap().told, "refused");
        }
        world.assert_at_rest();
    });
}

#[test]
fn flights_of_different_sessions_do_not_mix() {
    in_every_order(|| async {
        let world = World::new(Manner::Good);
        let people = ["alice", "bob", "carol"];
        let requests = people.map(|name| {
            let refresh = world.backend.log_in(name);
            (name, refresh.clone(), [(); 2].map(|()| world.renews(&refresh)))
        });
        for (name, refresh, pair) in requests {
            for request in pair {
                assert_eq!(request.await.unwrap().told, token(name, 0));
            }
            assert_eq!(world.delivered(&refresh).await, Some(format!("{name}.1")));
        }
        world.assert_no_double_spend();
        world.assert_at_rest();
    });
}

#[test]
fn two_gateways_at_once_share_one_grant() {
    in_every_order(|| async {
        let [here, there] = World::pair(Manner::Good);
        let alice = here.backend.log_in("alice");
        for request in [&here, &there, &here, &there].map(|world| world.renews(&alice)) {
            assert_eq!(request.await.unwrap().told, token("alice", 0));
        }
        for world in [&here, &there] {
            assert!(world.refresher.drain(DAY).await);
            assert_eq!(world.delivered(&alice).await.as_deref(), Some("alice.1"));
            world.assert_at_rest();
        }
        assert_eq!(here.backend.shown(), ["alice.0"]);
    });
}

#[test]
fn a_moment_after_a_logout_at_one_gateway_the_other_delivers_nothing() {
    in_every_order(|| async {
        let [here, there] = World::pair(Manner::Good);
        let alice = here.backend.log_in("alice");
        let requests = [&here, &there].map(|world| world.renews(&alice));
        there.refresher.end(ISSUER, &alice, now()).await;
        for request in requests {
            let told = request.await.unwrap().told;
            let known = ["ended".to_owned(), "refused".to_owned(), token("alice", 0)];
            assert!(known.contains(&told), "{told}");
        }
        for world in [&here, &there] {
            assert!(world.refresher.drain(DAY).await);
        }
        // What a gateway has just read from the store it believes for a quarter of a second.
        pass(Duration::from_millis(250));
        for world in [&here, &there] {
            assert_eq!(world.delivered(&alice).await, None);
            world.assert_at_rest();
        }
        here.assert_no_double_spend();
    });
}

#[test]
fn a_drain_ends_when_what_had_departed_has_landed() {
    in_every_order(|| async {
        let world = World::new(Manner::Good);
        let people = ["alice", "bob", "carol"].map(|name| (name, world.backend.log_in(name)));
        for (_, refresh) in &people {
            world.refresher.start(&world.shows(refresh), now()).unwrap();
        }
        assert!(world.refresher.drain(DAY).await);
        for (name, refresh) in &people {
            assert_eq!(world.look_up(refresh).await, token(name, 0));
        }
        world.assert_at_rest();
    });
}

#[test]
fn a_waiter_ends_by_landing_or_by_its_deadline_and_a_late_answer_is_kept() {
    in_every_order(|| async {
        let time = RunningTime::start();
        let world = World::new(Manner::Takes(Duration::from_secs(7)));
        let alice = world.backend.log_in("alice");
        for request in [(); 3].map(|()| world.renews(&alice)) {
            let ended = request.await.unwrap();
            let in_time = ended.told.starts_with("alice at ");
            assert!(in_time || ended.at >= WAIT, "{ended:?}");
        }
        world.lands().await;
        world.assert_no_double_spend();
        world.assert_answer_is_kept(&alice, "alice.1").await;
        world.assert_at_rest();
        drop(time);
    });
}

#[test]
fn a_drain_that_gives_up_does_so_at_its_deadline() {
    in_every_order(|| async {
        let time = RunningTime::start();
        let world = World::new(Manner::Takes(Duration::from_secs(7)));
        let alice = world.backend.log_in("alice");
        world.refresher.start(&world.shows(&alice), now()).unwrap();
        let deadline = Duration::from_secs(3);
        if !world.refresher.drain(deadline).await {
            assert!(uptime() >= deadline);
        }
        world.lands().await;
        world.assert_answer_is_kept(&alice, "alice.1").await;
        world.assert_at_rest();
        drop(time);
    });
}

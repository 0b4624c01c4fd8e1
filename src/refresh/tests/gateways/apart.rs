//! Gateways that know different things of one session.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_answered_flight_does_not_free_its_claim_before_the_answer_is_known() {
    let house = House::of(1);
    let alice = house.backend.log_in("alice");
    house.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let (told, ()) = tokio::join!(house.asks(0, &alice), async {
        sleep(Duration::from_millis(500)).await;
        house.cut_all(true);
    });
    seconds(1).await;
    assert_eq!((told, house.store.calls("release")), (token("alice", 0), 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_restarted_empty_makes_no_two_sessions_of_one() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(1, &alice).await;
    seconds(LIFE_S).await;
    house.store.forget_all();
    house.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let newest = secret("alice.1");
    tokio::join!(house.asks(0, &newest), house.asks(1, &newest));
    seconds(2 * TIMEOUT.as_secs()).await;
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_claimed_by_another_name_while_it_is_told_is_asked_for_once() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    house.cut(0, true);
    house.store.forget_all();
    seconds(LIFE_S).await;
    house.cut(0, false);
    house.ways[0].slow.store(true, Ordering::Relaxed);
    house.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let newest = secret("alice.1");
    // Gateway 0 has looked and is telling; gateway 1 claims what the store does not know yet.
    let (told, _) = tokio::join!(house.asks(0, &newest), async {
        sleep(Duration::from_millis(10)).await;
        house.asks(1, &newest).await
    });
    assert!(told.starts_with("alice at ") || told.starts_with("unavailable"), "{told}");
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_flight_whose_session_gets_another_name_meanwhile_still_lands() {
    let house = House::with(2, rotating(Rotation::ReuseOk), OnFailure::Local);
    house.backend.takes_old_tokens.store(true, Ordering::Relaxed);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    seconds(LIFE_S).await;
    let newest = secret("alice.1");
    house.backend.fault(Fault::Delay(Duration::from_secs(4)));
    let (told, _) = tokio::join!(house.asks(0, &newest), async {
        sleep(Duration::from_millis(10)).await;
        house.cut_all(true);
        house.store.forget_all();
        house.asks(1, &newest).await;
        house.cut(1, false);
        seconds(1).await;
        house.cut(0, false);
    });
    assert_eq!(told, token("alice", LIFE_S));
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1", "alice.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_only_one_gateway_has_survives_the_stores_other_name_for_its_session() {
    let house = House::with(2, settings(), OnFailure::Local);
    let alice = house.backend.log_in("alice");
    house.asks(1, &alice).await;
    seconds(LIFE_S).await;
    house.cut(0, true);
    let newest = secret("alice.1");
    house.asks(0, &newest).await;
    house.cut(0, false);
    assert_eq!(house.asks(0, &newest).await, token("alice", LIFE_S));
    seconds(1).await;
    assert_eq!(house.asks(1, &newest).await, token("alice", LIFE_S));
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_was_overtaken_unseen_does_not_ask_with_the_older_token() {
    let limited = RefreshSettings { budget: std::num::NonZeroU32::new(1), ..settings() };
    let house = House::with(2, limited, OnFailure::Local);
    let (other, alice) = (house.backend.log_in("bob"), house.backend.log_in("alice"));
    house.asks(0, &other).await;
    let world = &house.gateways[0];
    // It has the claim and waits a second for its turn.
    tokio::join!(world.renew(&alice), async {
        sleep(Duration::from_millis(10)).await;
        house.cut(1, true);
        house.asks(1, &alice).await;
        house.cut(1, false);
        sleep(Duration::from_millis(510)).await;
        world.cookies(&alice).await;
        house.cut(0, true);
    });
    seconds(5).await;
    assert_eq!(house.backend.shown(), ["bob.0", "alice.0"]);
}

/// Gateway 0 is not heard of from its sending on, while gateway 1 gives the session up.
async fn given_up(house: &House) {
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    let newest = secret("alice.1");
    house.asks(1, &newest).await;
    seconds(LIFE_S).await;
    house.backend.fault(Fault::Delay(TIMEOUT - Duration::from_secs(1)));
    let world = &house.gateways[0];
    world.refresher.start(&world.shows(&newest), world.now());
    sleep(Duration::from_millis(5)).await;
    house.cut(0, true);
    seconds((TIMEOUT + SENT_SLACK).as_secs()).await;
    house.asks(1, &newest).await;
    assert_eq!(house.asks(1, &newest).await, "dead");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_counted_as_lost_brings_the_session_back_for_all() {
    let house = House::of(2);
    given_up(&house).await;
    house.cut(0, false);
    seconds(1).await;
    let told = house.asks(1, &secret("alice.1")).await;
    assert!(told.starts_with("alice at "), "{told}");
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_brings_a_session_back_that_was_given_up_and_then_logged_out() {
    let house = House::of(2);
    given_up(&house).await;
    let world = &house.gateways[1];
    world.refresher.end(ISSUER, &secret("alice.1"), world.now()).await;
    house.cut(0, false);
    seconds(1).await;
    assert_eq!(house.gateways[0].cookies(&secret("alice.1")).await, None);
    assert_eq!(house.asks(0, &secret("alice.1")).await, "ended");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_the_store_missed_is_told_later() {
    let house = House::of(2);
    let unknown = secret("nobody.0");
    house.backend.fault(Fault::Delay(Duration::from_secs(1)));
    tokio::join!(house.asks(0, &unknown), async {
        sleep(Duration::from_millis(500)).await;
        house.cut(0, true);
    });
    house.cut(0, false);
    seconds(1).await;
    assert_eq!(house.asks(1, &unknown).await, "dead");
    assert_eq!(house.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_logout_is_told_again_to_a_store_that_has_lost_its_memory() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    house.asks(1, &alice).await;
    let world = &house.gateways[0];
    world.refresher.end(ISSUER, &alice, world.now()).await;
    house.store.forget_all();
    seconds(1).await;
    assert_eq!(house.asks(1, &alice).await, "ended");
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_a_long_outage_swallowed_is_told_at_the_next_sight() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    house.asks(1, &alice).await;
    house.cut(0, true);
    let world = &house.gateways[0];
    world.refresher.end(ISSUER, &alice, world.now()).await;
    seconds(70).await;
    house.cut(0, false);
    assert_eq!(house.asks(0, &alice).await, "ended");
    seconds(1).await;
    assert_eq!(house.asks(1, &alice).await, "ended");
}

#[tokio::test(start_paused = true)]
async fn a_logout_waits_once_for_a_store_that_is_away() {
    let house = House::of(1);
    let alice = house.backend.log_in("alice");
    house.cut(0, true);
    let (world, before) = (&house.gateways[0], Instant::now());
    world.refresher.end(ISSUER, &alice, world.now()).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "looking it up was the wait");
}

#[tokio::test(start_paused = true)]
async fn strangers_who_log_out_while_the_store_is_away_leave_only_so_much_to_write() {
    let house = House::of(1);
    house.cut(0, true);
    let world = &house.gateways[0];
    for number in 0..10_100 {
        world.refresher.end(ISSUER, &secret(&number.to_string()), world.now()).await;
    }
    sleep(Duration::from_millis(10)).await;
    let before = house.store.calls("close");
    sleep(Duration::from_millis(500)).await;
    assert_eq!((before, house.store.calls("close")), (10_100, 20_100));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_failed_without_a_rest_is_away_all_the_same() {
    let house = House::of(1);
    let alice = house.backend.log_in("alice");
    house.cut(0, true);
    house.ways[0].rests.store(false, Ordering::Relaxed);
    assert_eq!(house.asks(0, &alice).await, "storeaway { retry_after_s: 1 }");
    assert_eq!(house.backend.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_who_comes_first_does_not_say_whose_a_stored_head_is() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    let world = &house.gateways[1];
    let mallory = world.shows_both(&alice, "mallory", LIFE_S);
    world.refresher.look_up(&mallory, world.now()).await;
    world.refresher.renew(&mallory, WAIT, world.now()).await;
    assert_eq!(house.asks(1, &alice).await, token("alice", 0));
    assert_eq!(house.asks(0, &alice).await, token("alice", 0));
}

//! Several gateways over one store.

mod apart;

use std::sync::atomic::Ordering;

use super::super::*;
use super::fake::*;
use super::fake_store::{Connection, FakeStore};
use crate::refresh::store::{LOST_AFTER, SENT_SLACK};
use tokio::time::{Instant, sleep};

/// Gateways of one house, their backend and their store.
struct House {
    gateways: Vec<World>,
    ways: Vec<Arc<Connection>>,
    backend: Arc<Backend>,
    store: Arc<FakeStore>,
}

impl House {
    fn of(gateways: usize) -> House {
        House::with(gateways, settings(), OnFailure::Deny)
    }

    fn with(gateways: usize, settings: RefreshSettings, on_failure: OnFailure) -> House {
        let (store, backend, begin) = (FakeStore::new(), Arc::<Backend>::default(), Instant::now());
        let ways: Vec<_> = (0..gateways).map(|n| store.connect(&n.to_string())).collect();
        let world = |way: &Arc<Connection>| {
            let store = Some((way.clone() as Arc<dyn SessionStore>, on_failure));
            World::over(settings.clone(), 1_000, backend.clone(), begin, store)
        };
        House { gateways: ways.iter().map(world).collect(), ways, backend, store }
    }

    fn cut(&self, gateway: usize, away: bool) {
        self.ways[gateway].away.store(away, Ordering::Relaxed);
    }

    fn cut_all(&self, away: bool) {
        (0..self.ways.len()).for_each(|gateway| self.cut(gateway, away));
    }

    /// What an expired request is told: it is looked up, and renewed if that is called for.
    async fn asks(&self, gateway: usize, token: &Secret) -> String {
        let world = &self.gateways[gateway];
        match world.look_up(token).await.as_str() {
            "live" => world.renew(token).await,
            word if word.starts_with("cooling") => world.renew(token).await,
            word => word.to_owned(),
        }
    }
}

fn rotating(rotation: Rotation) -> RefreshSettings {
    RefreshSettings { rotation, ..settings() }
}

fn secret(token: &str) -> Secret {
    Secret::new(token)
}

#[tokio::test(start_paused = true)]
async fn ninety_requests_over_three_gateways_make_one_grant() {
    let house = House::of(3);
    let alice = house.backend.log_in("alice");
    house.backend.fault(Fault::Delay(Duration::from_millis(300)));
    let asks = (0..90).map(|n| house.asks(n % 3, &alice));
    let told = futures_util::future::join_all(asks).await;
    assert!(told.iter().all(|told| *told == token("alice", 0)), "{told:?}");
    assert_eq!(house.backend.shown(), ["alice.0"]);
    let ok: usize =
        house.gateways.iter().filter_map(|world| world.counts().get("ok").copied()).sum();
    assert_eq!(ok, 1, "the others count as shared");
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_head_is_delivered_by_any_gateway_the_next_morning() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    seconds(10 * 3600).await;
    assert_eq!(house.asks(1, &alice).await, token("alice", 36_000));
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1"]);
    let newest = (token("alice", 36_000), Some("alice.2".to_owned()));
    assert_eq!(house.gateways[1].cookies(&alice).await, Some(newest));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_head_is_delivered_by_any_gateway_without_asking() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    assert_eq!(house.asks(1, &alice).await, token("alice", 0));
    let newest = (token("alice", 0), Some("alice.1".to_owned()));
    assert_eq!(house.gateways[1].cookies(&alice).await, Some(newest));
    assert_eq!(house.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_one_gateway_saw_confirmed_is_spent_at_all_after_the_grace() {
    let house = House::of(3);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    let world = &house.gateways[1];
    world.refresher.note_shown(&world.shows(&secret("alice.1")), world.now());
    seconds(29).await;
    assert_eq!(house.asks(2, &alice).await, token("alice", 0));
    seconds(1).await;
    assert_eq!(house.asks(2, &alice).await, "spent");
    assert_eq!(house.asks(0, &alice).await, "spent");
    assert_eq!(house.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_logout_at_one_gateway_ends_the_session_at_all_and_no_late_response_revives_it() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    let (late, elsewhere) = (&house.gateways[0], &house.gateways[1]);
    let (_, handle) = late.refresher.look_up(&late.shows(&alice), late.now()).await;
    elsewhere.refresher.end(ISSUER, &secret("alice.1"), elsewhere.now()).await;
    seconds(1).await;
    assert_eq!(handle.unwrap().deliverable(late.now()).await, None);
    assert_eq!(house.asks(0, &alice).await, "ended");
    assert_eq!(house.asks(1, &alice).await, "ended");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_one_gateway_heard_refused_is_dead_at_all() {
    let house = House::of(2);
    let unknown = secret("nobody.0");
    assert_eq!(house.asks(0, &unknown).await, "refused");
    assert_eq!(house.asks(1, &unknown).await, "dead");
    assert_eq!(house.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_another_gateway_was_quicker_than_is_no_refusal() {
    let house = House::with(2, rotating(Rotation::Strict), OnFailure::Local);
    let alice = house.backend.log_in("alice");
    assert_eq!(house.asks(1, &alice).await, token("alice", 0));
    // Gateway 0 does not see the store, and asks alone with a token that is spent.
    house.cut(0, true);
    house.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let (told, ()) = tokio::join!(house.asks(0, &alice), async {
        sleep(Duration::from_millis(500)).await;
        house.cut(0, false);
    });
    assert_eq!((told, house.backend.calls()), (token("alice", 0), 2));
}

#[tokio::test(start_paused = true)]
async fn a_rest_after_a_failure_is_a_rest_for_all_gateways() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.backend.fault(transient());
    assert!(house.asks(0, &alice).await.starts_with("unavailable"));
    assert_eq!(house.gateways[1].look_up(&alice).await, "cooling 1");
    assert_eq!(house.asks(1, &alice).await, token("alice", 1));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_away_after_sending_publishes_when_it_is_back() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.backend.fault(Fault::Delay(Duration::from_millis(10)));
    let cut = async {
        sleep(Duration::from_millis(5)).await;
        house.cut(0, true);
        sleep(Duration::from_secs(5)).await;
        house.cut(0, false);
    };
    let (told, _, other) = tokio::join!(house.asks(0, &alice), cut, async {
        sleep(Duration::from_millis(1_000)).await;
        house.asks(1, &alice).await
    });
    assert_eq!(told, token("alice", 0));
    assert_eq!(other, token("alice", 0));
    assert_eq!(house.backend.shown(), ["alice.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_lost_after_sending_costs_one_login_and_no_second_use() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    lose_after_sending(&house, &alice).await;
    assert_eq!(house.asks(1, &alice).await, "unavailable 1");
    seconds((TIMEOUT + SENT_SLACK + LOST_AFTER).as_secs()).await;
    assert_eq!(house.asks(1, &alice).await, "dead");
    assert_eq!(house.backend.shown(), ["alice.0"]);
}

#[tokio::test(start_paused = true)]
async fn where_a_second_use_is_welcome_a_lost_gateway_costs_nothing() {
    for rotation in [Rotation::Grace, Rotation::ReuseOk, Rotation::None] {
        let house = House::with(2, rotating(rotation), OnFailure::Deny);
        house.backend.takes_old_tokens.store(true, Ordering::Relaxed);
        let alice = house.backend.log_in("alice");
        lose_after_sending(&house, &alice).await;
        // Under `grace` a lost answer may have been asked for twice.
        seconds((TIMEOUT + SENT_SLACK).as_secs() + 5).await;
        let told = house.asks(1, &alice).await;
        assert!(told.starts_with("alice at "), "{rotation:?}: {told}");
    }
}

/// Its second call may be on its way until then.
#[tokio::test(start_paused = true)]
async fn under_grace_a_lost_gateway_is_given_the_time_for_its_second_call() {
    let house = House::with(2, rotating(Rotation::Grace), OnFailure::Deny);
    house.backend.takes_old_tokens.store(true, Ordering::Relaxed);
    let alice = house.backend.log_in("alice");
    lose_after_sending(&house, &alice).await;
    seconds((TIMEOUT + SENT_SLACK).as_secs()).await;
    house.asks(1, &alice).await;
    assert_eq!(house.backend.calls(), 1);
}

/// Gateway 0 has sent and will never be heard of again.
async fn lose_after_sending(house: &House, token: &Secret) {
    house.backend.fault(Fault::Hang);
    let world = &house.gateways[0];
    world.refresher.start(&world.shows(token), world.now());
    sleep(Duration::from_millis(5)).await;
    assert_eq!(house.store.calls("sent"), 1);
    house.cut(0, true);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_nobody_is_renewed_where_that_might_kill_a_session() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.cut_all(true);
    assert_eq!(house.asks(0, &alice).await, "storeaway { retry_after_s: 2 }");
    assert_eq!(house.backend.calls(), 0);
    house.cut_all(false);
    assert_eq!(house.asks(0, &alice).await, token("alice", 0));
}

#[tokio::test(start_paused = true)]
async fn without_the_store_a_head_that_is_known_here_still_serves() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    house.cut_all(true);
    seconds(60).await;
    assert_eq!(house.asks(0, &alice).await, token("alice", 0));
}

#[tokio::test(start_paused = true)]
async fn without_the_store_and_by_the_operators_leave_each_gateway_renews_alone() {
    let house = House::with(2, rotating(Rotation::ReuseOk), OnFailure::Local);
    let alice = house.backend.log_in("alice");
    house.cut_all(true);
    assert_eq!(house.asks(0, &alice).await, token("alice", 0));
    house.cut_all(false);
    seconds(1).await;
    assert_eq!(house.asks(1, &alice).await, token("alice", 0), "told when the store was back");
    assert_eq!(house.backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_the_store_a_window_is_used_from_its_last_third_on() {
    let house = House::with(1, rotating(Rotation::ReuseOk), OnFailure::Local);
    let alice = house.backend.log_in("alice");
    house.cut_all(true);
    let world = &house.gateways[0];
    let early = world.shows_both(&alice, "alice", LIFE_S - 31);
    let late = world.shows_both(&alice, "alice", LIFE_S - 30);
    let early = world.refresher.look_up(&early, world.now()).await.0;
    let late = world.refresher.look_up(&late, world.now()).await.0;
    assert_eq!((told(&early).as_str(), told(&late).as_str()), ("cooling 1", "live"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_dies_between_claim_and_publishing_loses_nothing() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let (told, _) = tokio::join!(house.asks(0, &alice), async {
        sleep(Duration::from_millis(500)).await;
        house.cut_all(true);
    });
    assert_eq!(told, token("alice", 0));
    seconds(40).await;
    house.cut_all(false);
    seconds(1).await;
    assert_eq!(house.asks(1, &alice).await, token("alice", 0));
    assert_eq!(house.backend.shown(), ["alice.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_restarted_empty_under_a_flight_leads_to_no_second_use() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.backend.fault(Fault::Delay(Duration::from_secs(3)));
    let (told, other) = tokio::join!(house.asks(0, &alice), async {
        sleep(Duration::from_millis(500)).await;
        house.store.forget_all();
        house.asks(1, &alice).await
    });
    assert_eq!((told, other), (token("alice", 0), token("alice", 0)));
    assert_eq!(house.backend.shown(), ["alice.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_restarted_empty_is_told_again_what_only_it_and_one_gateway_knew() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    house.store.forget_all();
    seconds(1).await;
    assert_eq!(house.asks(1, &alice).await, token("alice", 0));
    seconds(TIMEOUT.as_secs() + 300).await;
    let told = house.asks(1, &alice).await;
    assert!(told.starts_with("alice at "), "{told}");
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_until_the_store_knows_all() {
    let house = House::of(1);
    let alice = house.backend.log_in("alice");
    house.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let world = &house.gateways[0];
    world.refresher.start(&world.shows(&alice), world.now());
    sleep(Duration::from_millis(500)).await;
    house.cut_all(true);
    assert!(!world.refresher.drain(Duration::from_secs(2)).await);
    house.cut_all(false);
    assert!(world.refresher.drain(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn another_persons_head_in_the_store_is_not_taken_for_ones_own() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    let world = &house.gateways[1];
    let mallory = world.shows_both(&alice, "mallory", LIFE_S);
    let (session, _) = world.refresher.renew(&mallory, WAIT, world.now()).await;
    assert!(!told(&session).starts_with("alice"), "{session:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_its_gateway_could_only_name_is_the_newest_all_the_same() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    seconds(LIFE_S).await;
    // The alias of `alice.2` is written and its record is not; then the gateway dies.
    house.store.name_only(true);
    house.asks(0, &secret("alice.1")).await;
    house.cut(0, true);
    house.store.name_only(false);
    seconds(LIFE_S).await;
    assert_eq!(house.asks(1, &secret("alice.2")).await, token("alice", 600));
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1", "alice.2"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_told_to_a_store_that_is_left_alone_after_a_failure() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.backend.fault(Fault::Delay(Duration::from_millis(100)));
    let (told, ()) = tokio::join!(house.asks(0, &alice), async {
        sleep(Duration::from_millis(50)).await;
        house.ways[0].left_alone.store(true, Ordering::Relaxed);
    });
    assert_eq!(told, token("alice", 0));
    let asked = Instant::now();
    assert_eq!(house.asks(1, &alice).await, token("alice", 0));
    assert_eq!(asked.elapsed(), Duration::ZERO, "nobody waits for it");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_store_did_not_take_is_told_before_it_has_rested() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.backend.fault(Fault::Delay(Duration::from_millis(100)));
    let (told, ()) = tokio::join!(house.asks(0, &alice), async {
        sleep(Duration::from_millis(50)).await;
        house.cut(0, true);
        sleep(Duration::from_millis(300)).await;
        house.ways[0].left_alone.store(true, Ordering::Relaxed);
        house.cut(0, false);
        sleep(Duration::from_millis(300)).await;
    });
    assert_eq!(told, token("alice", 0));
    let asked = Instant::now();
    assert_eq!(house.asks(1, &alice).await, token("alice", 0));
    assert_eq!(asked.elapsed(), Duration::ZERO, "nobody waits for it");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_waits_for_leaves_a_dead_store_alone() {
    let house = House::with(1, settings(), OnFailure::Local);
    let alice = house.backend.log_in("alice");
    house.cut(0, true);
    assert_eq!(house.asks(0, &alice).await, token("alice", 0));
    seconds(5).await;
    assert_eq!(house.store.calls("publish at once"), 0);
}

#[tokio::test(start_paused = true)]
async fn while_an_answer_cannot_be_published_nobody_else_may_ask() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.store.name_only(true);
    assert_eq!(house.asks(0, &alice).await, token("alice", 0));
    let (others, ()) = tokio::join!(house.asks(1, &alice), async {
        seconds(3).await;
        house.store.name_only(false);
    });
    assert_eq!(others, token("alice", 0));
    assert_eq!(house.backend.shown(), ["alice.0"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_two_gateways_met_under_two_names_is_asked_for_once() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    seconds(LIFE_S).await;
    house.cut(0, true);
    house.store.forget_all();
    // Gateway 1 meets the session by its second token while the store knows nothing of it. Before it
    // may ask, gateway 0 tells the store of it under its old name, and wants to ask as well.
    let second = secret("alice.1");
    tokio::join!(house.asks(1, &second), async {
        seconds(3).await;
        house.cut(0, false);
        seconds(TIMEOUT.as_secs() - 5).await;
        house.asks(0, &second).await;
    });
    seconds(5).await;
    for gateway in [0, 1] {
        assert!(house.asks(gateway, &second).await.starts_with("alice at "));
    }
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1"]);
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_an_emptied_store_knows_by_another_name_is_not_undone() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    house.cut(0, true);
    house.store.forget_all();
    let elsewhere = &house.gateways[1];
    elsewhere.refresher.end(ISSUER, &secret("alice.1"), elsewhere.now()).await;
    house.cut(0, false);
    seconds(1).await;
    assert_eq!(house.asks(0, &alice).await, "ended");
    assert_eq!(house.asks(0, &secret("alice.1")).await, "ended");
}

#[tokio::test(start_paused = true)]
async fn two_names_told_at_one_moment_are_asked_for_once() {
    let house = House::of(2);
    let alice = house.backend.log_in("alice");
    house.asks(0, &alice).await;
    seconds(LIFE_S).await;
    house.cut(0, true);
    house.store.forget_all();
    seconds((TIMEOUT + SENT_SLACK).as_secs()).await;
    // The store has settled, and gateway 0 could not tell it anything yet.
    let second = secret("alice.1");
    house.cut(0, false);
    let (told, others) = tokio::join!(house.asks(0, &second), house.asks(1, &second));
    seconds(5).await;
    for gateway in [0, 1] {
        let now = house.asks(gateway, &second).await;
        assert!(now.starts_with("alice at "), "{told} {others} {now}");
    }
    assert_eq!(house.backend.shown(), ["alice.0", "alice.1"]);
}

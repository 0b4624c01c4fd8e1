//! Several gateways over a real Redis server: one grant, whatever freezes, dies or forgets.
//!
//! The strict backend kills a session at the second use of a refresh token, so that every story ends
//! with the same question: was there one?

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::support::backend::{Counts, Pair};
use super::support::fleet::Fleet;
use super::support::*;

/// One grant, and no refresh token shown twice.
const ONE_GRANT: Counts = Counts { grants: 1, reuses: 0, unknown: 0 };

/// Waits that a test can afford.
const QUICK: &str = ", wait: 2s, timeout: 4s";

fn page(pair: &Pair) -> Ask {
    get("/page").pair(pair)
}

#[tokio::test(flavor = "multi_thread")]
async fn ninety_parallel_requests_over_three_gateways_make_one_grant() {
    let fleet = Fleet::of(3, QUICK, "").await;
    let pair = fleet.backend.login("alice", Token::expired);
    fleet.backend.fail_once(Fault::Delay(Duration::from_millis(300)));

    let replies = join_all((0..90).map(|n| fleet.send(n % 3, page(&pair)))).await;

    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200; 90]);
    let pair = replies[0].new_pair();
    assert!(pair.is_some() && replies.iter().all(|reply| reply.new_pair() == pair));
    assert_eq!(fleet.backend.counts(), ONE_GRANT);
    let mut results = (0.0, 0.0);
    for gateway in &fleet.gateways {
        let metrics = gateway.metrics().await;
        let count = |result: &str| {
            metrics.value(&format!(
                "evergate_refresh_total{{issuer=\"default\",result=\"{result}\",trigger=\"expired\"}}"
            ))
        };
        results = (results.0 + count("ok"), results.1 + count("shared") + count("delivered"));
    }
    assert_eq!(results.0, 1.0);
    assert!(results.1 >= 89.0, "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_store_lets_the_valid_pass_keeps_the_expired_and_logs_nobody_out() {
    let fleet = Fleet::of(2, QUICK, "").await;
    let (expired, valid) =
        (fleet.backend.login("alice", Token::expired), fleet.backend.login("bob", |token| token));
    fleet.redis.pause();

    let replies = join_all((0..20).map(|n| fleet.send(n % 2, page(&expired)))).await;
    let reasons: Vec<_> = replies.iter().map(|reply| (reply.status, reply.reason())).collect();
    assert_eq!(reasons, vec![(503, "store_unavailable".to_string()); 20]);
    assert!(replies.iter().all(|reply| !reply.head.all("retry-after").is_empty()));
    assert_eq!(fleet.send(0, page(&valid)).await.status, 200);
    assert_eq!(fleet.gateways[0].metrics().await.value("evergate_store_degraded"), 1.0);

    fleet.redis.resume();
    // Each gateway notices for itself that the store is back.
    back(&fleet, 0, &expired).await;
    back(&fleet, 1, &expired).await;
    assert_eq!(fleet.backend.counts(), ONE_GRANT);
    assert_eq!(fleet.gateways[0].metrics().await.value("evergate_store_degraded"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_window_a_dead_store_is_no_reason_to_wait_or_to_refresh() {
    let mut fleet = Fleet::of(1, QUICK, "").await;
    let pair = fleet.backend.login("alice", Token::in_window);
    fleet.redis.kill();

    let reply = fleet.send(0, page(&pair)).await;

    assert_eq!((reply.status, reply.new_pair()), (200, None));
    assert_eq!(fleet.backend.counts(), Counts::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_operators_leave_a_gateway_without_its_store_renews_alone() {
    let mut fleet =
        Fleet::of(1, ", wait: 2s, timeout: 4s, rotation: reuse_ok", ", on_failure: local").await;
    let pair = fleet.backend.login("alice", Token::expired);
    fleet.redis.kill();

    let reply = fleet.send(0, page(&pair)).await;

    assert_eq!((reply.status, reply.new_pair().is_some()), (200, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_killed_between_claim_and_publishing_loses_nothing() {
    let mut fleet = Fleet::of(2, QUICK, "").await;
    let pair = fleet.backend.login("alice", Token::expired);
    fleet.backend.fail_once(Fault::Delay(Duration::from_secs(1)));
    let before = fleet.backend.token_calls();

    let asked = tokio::spawn(page(&pair).send(fleet.gateways[0].address));
    eventually("the backend is asked", async || fleet.backend.token_calls() > before).await;
    fleet.redis.kill();
    let reply = asked.await.expect("answered");
    assert_eq!((reply.status, reply.new_pair().is_some()), (200, true));

    fleet.redis.restart().await;
    back(&fleet, 1, &pair).await;
    assert_eq!(fleet.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_restarted_empty_under_a_grant_leads_to_no_second_use() {
    let mut fleet = Fleet::of(3, QUICK, "").await;
    let pair = fleet.backend.login("alice", Token::expired);
    fleet.backend.fail_once(Fault::Delay(Duration::from_millis(1_500)));
    let before = fleet.backend.token_calls();

    let asked = tokio::spawn(page(&pair).send(fleet.gateways[0].address));
    eventually("the backend is asked", async || fleet.backend.token_calls() > before).await;
    fleet.redis.restart().await;
    let others = join_all((0..10).map(|n| fleet.send(1 + n % 2, page(&pair)))).await;
    let reply = asked.await.expect("answered");

    assert_eq!((reply.status, reply.new_pair().is_some()), (200, true));
    assert!(others.iter().all(|other| matches!(other.status, 200 | 503)), "nobody is logged out");
    back(&fleet, 1, &pair).await;
    back(&fleet, 2, &pair).await;
    assert_eq!(fleet.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_on_an_emptied_store_waits_for_those_that_fly() {
    for restarted in [true, false] {
        let mut fleet = Fleet::of(2, ", wait: 1s, timeout: 8s", "").await;
        let pair = fleet.backend.login("alice", Token::expired);
        fleet.gateways[1].kill().await;
        // It cannot notice now, however soon it would.
        let asked = frozen_after_sending(&fleet, &pair).await;
        match restarted {
            true => fleet.redis.restart().await,
            false => fleet.redis.command(&["FLUSHALL"]).await,
        }

        fleet.gateways[1].start_again().await;
        let newcomer = fleet.send(1, page(&pair)).await;
        assert_eq!(newcomer.status, 503, "restarted: {restarted}");
        fleet.gateways[0].program.signal("CONT");

        assert!(matches!(asked.await.expect("answered").status, 200 | 503));
        back(&fleet, 1, &pair).await;
        assert_eq!(fleet.backend.counts(), ONE_GRANT, "restarted: {restarted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_frozen_right_after_it_sent_brings_its_answer_when_it_wakes() {
    let fleet = Fleet::of(2, ", wait: 2s, timeout: 8s", "").await;
    let pair = fleet.backend.login("alice", Token::expired);
    let asked = frozen_after_sending(&fleet, &pair).await;

    let meanwhile = fleet.send(1, page(&pair)).await;
    assert_eq!((meanwhile.status, meanwhile.reason().as_str()), (503, "refresh_unavailable"));
    sleep(Duration::from_secs(3)).await;
    fleet.gateways[0].program.signal("CONT");

    assert!(matches!(asked.await.expect("answered").status, 200 | 503));
    back(&fleet, 1, &pair).await;
    assert_eq!(fleet.backend.counts(), ONE_GRANT);
    no_panic(&fleet);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_right_after_it_sent_costs_one_login_and_no_second_use() {
    let mut fleet = Fleet::of(2, QUICK, "").await;
    let pair = fleet.backend.login("alice", Token::expired);
    let asked = frozen_after_sending(&fleet, &pair).await;
    fleet.gateways[0].kill().await;
    asked.abort();

    // Until no answer can come any more, and its gateway has had the time to publish it.
    let mut last = fleet.send(1, page(&pair)).await;
    assert_eq!(last.status, 503);
    for _ in 0..100 {
        if last.status != 503 {
            break;
        }
        sleep(Duration::from_millis(200)).await;
        last = fleet.send(1, page(&pair)).await;
    }
    assert_eq!((last.status, last.reason().as_str()), (401, "refresh_refused"));
    assert_eq!(fleet.backend.counts(), ONE_GRANT);

    let ended = fleet.gateways[1].metrics().await;
    let lost = ended.value(r#"evergate_sessions_ended_total{reason="lost"}"#);
    assert_eq!(lost, 1.0);

    let again = fleet.backend.login("alice", |token| token);
    assert_eq!(fleet.send(1, page(&again)).await.status, 200);
    no_panic(&fleet);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_delivers_what_the_browser_never_got() {
    let mut fleet = Fleet::of(1, QUICK, "").await;
    let pair = fleet.backend.login("alice", Token::expired);
    let lost = fleet.send(0, page(&pair)).await;
    fleet.gateways[0].restart().await;

    let reply = fleet.send(0, page(&pair)).await;

    assert_eq!((reply.status, reply.new_pair()), (200, lost.new_pair()));
    assert_eq!(fleet.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_spent_at_one_gateway_is_spent_at_a_restarted_one() {
    let mut fleet = Fleet::of(1, ", wait: 2s, timeout: 4s, on_reuse: revoke", "").await;
    let pair = fleet.backend.login("alice", Token::expired);
    let newest = fleet.send(0, page(&pair)).await.new_pair().expect("renewed");
    fleet.send(0, page(&newest)).await;
    sleep(Duration::from_secs(31)).await;
    fleet.gateways[0].restart().await;

    let reply = fleet.send(0, page(&pair)).await;

    assert_eq!((reply.status, reply.reason().as_str()), (401, "refresh_refused"));
    assert_eq!(fleet.backend.counts(), ONE_GRANT, "the spent token is not shown to the backend");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_at_one_gateway_is_a_logout_at_all() {
    let fleet = Fleet::of(2, QUICK, "").await;
    let pair = fleet.backend.login("alice", Token::expired);
    let newest = fleet.send(0, page(&pair)).await.new_pair().expect("renewed");
    let out = fleet.send(1, post("/auth/logout", "").pair(&newest)).await;
    assert_eq!(out.status, 204);

    // What a gateway knows of a session may be a moment old, but no cookie leaves on that.
    eventually("it is over there, too", async || {
        let reply = fleet.send(0, page(&pair)).await;
        assert_eq!(reply.new_pair(), None);
        reply.status == 401
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_store_can_be_read_or_lives_for_ever() {
    let fleet = Fleet::of(1, QUICK, "").await;
    let pair = fleet.backend.login("alice", Token::expired);
    let newest = fleet.send(0, page(&pair)).await.new_pair().expect("renewed");

    let keys: Vec<String> = fleet.redis.command(&["KEYS", "*"]).await;
    assert!(keys.len() > 2, "{keys:?}");
    for key in &keys {
        let life: i64 = fleet.redis.command(&["PTTL", key]).await;
        assert!(life > 0, "{key} lives for ever");
        let kind: String = fleet.redis.command(&["TYPE", key]).await;
        let value: Vec<Vec<u8>> = match kind.as_str() {
            "hash" => fleet.redis.command(&["HGETALL", key]).await,
            "zset" => fleet.redis.command(&["ZRANGE", key, "0", "-1"]).await,
            "set" => fleet.redis.command(&["SMEMBERS", key]).await,
            _ => vec![fleet.redis.command(&["GET", key]).await],
        };
        let text = format!("{key} {}", String::from_utf8_lossy(&value.concat()));
        for secret in [&pair.refresh, &newest.refresh, &newest.access, &"alice".to_string()] {
            assert!(!text.contains(secret.as_str()), "{key} shows a token or a name");
        }
    }
}

/// Gateway 0 has sent the grant for this session, and stands still.
async fn frozen_after_sending(fleet: &Fleet, pair: &Pair) -> tokio::task::JoinHandle<Reply> {
    let before = fleet.backend.token_calls();
    fleet.backend.fail_once(Fault::Delay(Duration::from_millis(500)));
    let asked = tokio::spawn(page(pair).send(fleet.gateways[0].address));
    eventually("the backend is asked", async || fleet.backend.token_calls() > before).await;
    fleet.gateways[0].program.signal("STOP");
    asked
}

/// Waits until this gateway serves this session again; it never logs it out meanwhile.
async fn back(fleet: &Fleet, gateway: usize, pair: &Pair) {
    for _ in 0..100 {
        let reply = fleet.send(gateway, page(pair)).await;
        if reply.status == 200 {
            return;
        }
        assert_eq!(reply.status, 503, "{}", reply.text());
        sleep(Duration::from_millis(200)).await;
    }
    panic!("never served again");
}

fn no_panic(fleet: &Fleet) {
    for gateway in &fleet.gateways {
        let output = gateway.program.output();
        assert!(!output.contains("panicked"), "{output}");
    }
}

//! Taking tokens back before they expire: the deny list, and who may put something on it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::support::backend::Pair;
use super::support::fleet::Fleet;
use super::support::*;

/// What a request with a denied token gets.
const REVOKED: (u16, &str) = (401, "revoked");

fn revoke(body: &str) -> Ask {
    post("/sessions/revoke", body).header("Content-Type", "application/json")
}

fn page(pair: &Pair) -> Ask {
    get("/page").pair(pair)
}

async fn answered(world: &World, ask: Ask) -> (u16, String) {
    let reply = ask.send(world.gateway.address).await;
    let reason = if reply.status == 401 { reply.reason() } else { String::new() };
    (reply.status, reason)
}

async fn revoked(world: &World, body: &str) {
    let reply = revoke(body).send(world.gateway.admin).await;
    assert_eq!((reply.status, reply.text().as_str()), (204, ""), "{body}");
}

fn is(answered: &(u16, String), expected: (u16, &str)) {
    assert_eq!((answered.0, answered.1.as_str()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_ends_though_its_token_was_verified_and_no_other_does() {
    let world = World::start().await;
    let one = world.backend.login("alice", |token| token.claim("sid", "s-1"));
    let other = world.backend.login("alice", |token| token.claim("sid", "s-2"));
    for pair in [&one, &other, &one, &other] {
        assert_eq!(answered(&world, page(pair)).await.0, 200);
    }

    revoked(&world, r#"{"sid": "s-1"}"#).await;

    is(&answered(&world, page(&one)).await, REVOKED);
    is(&answered(&world, page(&other)).await, (200, ""));
    let alone = get("/page").header("Cookie", &format!("__Host-refresh={}", one.refresh));
    is(&answered(&world, alone).await, (401, "refresh_refused"));
    assert_eq!(world.backend.token_calls(), 0, "a revoked session is not renewed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_cannot_have_a_revoked_session_renewed() {
    let world = World::start().await;
    let renewal = |pair: &Pair| post("/_evergate/refresh", "").header("X-Evergate", "1").pair(pair);
    for (number, aged) in [Token::in_window, Token::expired].into_iter().enumerate() {
        let sid = format!("s-{number}");
        let pair = world.backend.login("alice", |token| aged(token).claim("sid", sid.as_str()));
        revoked(&world, &format!(r#"{{"sid": "{sid}"}}"#)).await;
        is(&answered(&world, renewal(&pair)).await, REVOKED);
    }
    assert_eq!(world.backend.token_calls(), 0, "a revoked session is not renewed");

    // Nor is a token handed out that was denied before the backend brought it.
    world.backend.grant_claim("sid", "s-new");
    revoked(&world, r#"{"sid": "s-new"}"#).await;
    let pair = world.backend.login("alice", |token| token.expired().without("sid"));
    let reply = renewal(&pair).send(world.gateway.address).await;
    assert_eq!((reply.status, reply.new_pair()), (401, None), "{}", reply.text());
    assert_eq!(world.backend.token_calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backends_own_route_is_shown_nothing_of_a_revoked_session() {
    let world = World::start().await;
    let shown = async |ask: Ask| ask.send(world.gateway.address).await.text();
    let me = || get("/auth/me");
    let pair = world.backend.login("alice", |token| token);
    assert!(shown(me().pair(&pair)).await.contains("refresh_token="), "as long as it is good");

    // Renewed, so that its newest tokens are the gateway's to give.
    let renewed = world.backend.login("alice", Token::expired);
    let page = get("/page").pair(&renewed).send(world.gateway.address).await;
    assert_eq!(page.status, 200);
    revoked(&world, r#"{"sub": "alice"}"#).await;

    let alone = me().header("Cookie", &format!("__Host-refresh={}", renewed.refresh));
    for ask in [me().pair(&pair), me().pair(&renewed), alone] {
        assert_eq!(shown(ask).await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_as_a_bearer_and_the_next_one_is_not() {
    let world = World::start().await;
    let token = |id: &str| world.backend.token("alice").claim("jti", id).sign();
    let bearer = |id: &str| get("/page").bearer(&token(id));

    revoked(&world, r#"{"jti": "t-1", "issuer": "default"}"#).await;

    let refused = bearer("t-1").send(world.gateway.address).await;
    is(&(refused.status, refused.reason()), REVOKED);
    let challenge = r#"Bearer realm="evergate", error="invalid_token""#;
    assert_eq!(refused.head.all("www-authenticate"), [challenge]);
    assert_eq!(answered(&world, bearer("t-2")).await.0, 200);
    let optional = get("/optional/x").bearer(&token("t-1")).send(world.gateway.address).await;
    assert_eq!(optional.status, 200);
    assert!(world.upstream.record.last().head.all("x-forwarded-user").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_person_is_out_everywhere_and_the_next_login_works() {
    let world = World::start().await;
    let [valid, in_window, expired] = [|token| token, Token::in_window, Token::expired]
        .map(|shape: fn(Token) -> Token| world.backend.login("alice", shape));
    let bob = world.backend.login("bob", |token| token);

    revoked(&world, r#"{"sub": "alice"}"#).await;

    for pair in [&valid, &in_window, &expired] {
        is(&answered(&world, page(pair)).await, REVOKED);
    }
    assert_eq!(world.backend.token_calls(), 0);
    assert_eq!(answered(&world, page(&bob)).await.0, 200);
    world.skip(Duration::from_secs(10));
    let again = world.backend.login("alice", |token| token);
    assert_eq!(answered(&world, page(&again)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_alone_does_not_bring_a_revoked_person_back() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token);
    let alone = || get("/page").header("Cookie", &format!("__Host-refresh={}", pair.refresh));
    revoked(&world, r#"{"sub": "alice"}"#).await;
    world.skip(Duration::from_secs(60));

    let first = alone().send(world.gateway.address).await;
    let second = alone().send(world.gateway.address).await;

    is(&(first.status, first.reason()), REVOKED);
    assert!(first.new_pair().is_none());
    is(&(second.status, second.reason()), (401, "refresh_refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_while_its_renewal_is_under_way_gets_nothing_of_it() {
    for (shape, status) in [(Token::expired as fn(Token) -> Token, 401), (Token::in_window, 200)] {
        let world = World::changed("s3cret }", "s3cret, hold: 3s }").await;
        let pair = world.backend.login("alice", shape);
        world.backend.fail_once(Fault::Delay(Duration::from_millis(800)));
        let asked = tokio::spawn(page(&pair).send(world.gateway.address));
        eventually("the backend is asked", async || world.backend.token_calls() > 0).await;

        revoked(&world, r#"{"sub": "alice"}"#).await;

        let reply = asked.await.unwrap();
        assert_eq!((reply.status, reply.new_pair()), (status, None));
        is(&answered(&world, page(&pair)).await, REVOKED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_sent_to_the_login_page() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token);
    revoked(&world, r#"{"sub": "alice"}"#).await;

    let reply = get("/page?a=1").navigation().pair(&pair).send(world.gateway.address).await;

    assert_eq!(reply.status, 302);
    assert_eq!(reply.head.all("location"), ["/auth/login?return_to=%2Fpage%3Fa%3D1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_is_not_clear_does_nothing_and_says_what_to_do() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token.claim("sid", "s-1"));
    let good = r#"{"sid": "s-1"}"#;
    let long = format!(r#"{{"sid": "{}"}}"#, "x".repeat(1_025));
    let huge = format!(r#"{{"sid": "{}"}}"#, "x".repeat(5_000));
    let refused = [
        (get("/sessions/revoke"), 405, "POST only"),
        (post("/sessions/revoke", good), 415, "Content-Type"),
        (revoke(good).header("Origin", "http://127.0.0.1:9901"), 403, "not from a web page"),
        (revoke(good).header("Sec-Fetch-Site", "none"), 403, "not from a web page"),
        (revoke(r#"{"sid": "s-1", "sub": "alice"}"#), 400, "exactly one"),
        (revoke(r#"{"issuer": "default"}"#), 400, "exactly one"),
        (revoke(r#"{"sid": "s-1", "until": 7}"#), 400, "unknown field `until`"),
        (revoke(r#"{"sid": "s-1", "sid": "s-2"}"#), 400, "duplicate field"),
        (revoke(r#"{"sid": 1}"#), 400, "the body must be like"),
        (revoke(r#"{"sid": ""}"#), 400, "1 to 1024 bytes"),
        (revoke(r#"{"sid": "s-1", "issuer": "other"}"#), 400, "there are: default"),
        (revoke("sid=s-1"), 400, "the body must be like"),
        (revoke(&long), 400, "1 to 1024 bytes"),
        (revoke(&huge), 413, "4 KiB"),
    ];
    for (ask, status, words) in refused {
        let reply = ask.send(world.gateway.admin).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        assert!(reply.text().contains(words), "{words}: {}", reply.text());
    }
    assert_eq!(answered(&world, page(&pair)).await.0, 200);
    assert_eq!(world.gateway.metrics().await.value("evergate_denials"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_are_counted_and_not_on_the_public_listener() {
    let world = World::start().await;
    revoked(&world, r#"{"sub": "alice"}"#).await;
    revoked(&world, r#"{"sub": "alice"}"#).await;

    let metrics = world.gateway.metrics().await;
    assert_eq!(metrics.value("evergate_denials"), 1.0);
    assert_eq!(metrics.value("evergate_revocations_total{source=\"admin\"}"), 2.0);
    let public = revoke(r#"{"sub": "bob"}"#).send(world.gateway.address).await;
    assert_eq!(public.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_revokes_all_refuse_within_a_second() {
    let fleet = Fleet::of(2, "", "").await;
    let pair = fleet.backend.login("alice", |token| token.claim("sid", "s-1"));
    for gateway in [0, 1] {
        assert_eq!(fleet.send(gateway, page(&pair)).await.status, 200);
    }

    let reply = revoke(r#"{"sid": "s-1"}"#).send(fleet.gateways[0].admin).await;
    let since = Instant::now();
    while fleet.send(1, page(&pair)).await.status == 200 && since.elapsed().as_secs() < 5 {
        sleep(Duration::from_millis(20)).await;
    }

    let took = since.elapsed();
    assert_eq!(reply.status, 204);
    assert!(took < Duration::from_secs(1), "{took:?}");
    for gateway in [0, 1] {
        assert_eq!(fleet.send(gateway, page(&pair)).await.reason(), "revoked");
        let alone = get("/page").header("Cookie", &format!("__Host-refresh={}", pair.refresh));
        assert_eq!(fleet.send(gateway, alone).await.reason(), "refresh_refused");
    }
    assert_eq!(fleet.backend.token_calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_knows_what_was_revoked_before_its_first_request() {
    let mut fleet = Fleet::of(2, "", "").await;
    let token = fleet.backend.token("alice").sign();
    revoke(r#"{"sub": "alice"}"#).send(fleet.gateways[0].admin).await;

    fleet.gateways[1].restart().await;

    let reply = fleet.send(1, get("/page").bearer(&token)).await;
    assert_eq!((reply.status, reply.reason().as_str()), REVOKED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_cannot_read_what_was_revoked_is_not_ready_unless_it_may_work_alone() {
    for (store, ready) in [(", on_failure: deny", 503), (", on_failure: local", 200)] {
        let mut fleet = Fleet::of(1, ", rotation: reuse_ok", store).await;
        let asked = async |fleet: &Fleet| get("/readyz").send(fleet.gateways[0].admin).await;
        eventually("it is ready", async || asked(&fleet).await.status == 200).await;
        fleet.redis.kill();
        fleet.gateways[0].restart().await;
        // Its keys are there soon, the list is not.
        sleep(Duration::from_millis(500)).await;

        let reply = asked(&fleet).await;

        assert_eq!(reply.status, ready, "{store}: {}", reply.text());
        assert_eq!(reply.text().contains("deny list"), ready == 503);
        fleet.redis.restart().await;
        eventually("it is ready again", async || asked(&fleet).await.status == 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_keeps_nobody_from_revoking_and_learns_it_later() {
    let fleet = Fleet::of(2, "", "").await;
    let token = fleet.backend.token("alice").sign();
    let asked = |gateway| fleet.send(gateway, get("/page").bearer(&token));
    assert_eq!([asked(0).await.status, asked(1).await.status], [200, 200]);
    fleet.redis.pause();

    let reply = revoke(r#"{"sub": "alice"}"#).send(fleet.gateways[0].admin).await;

    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!([asked(0).await.status, asked(1).await.status], [401, 200]);
    fleet.redis.resume();
    eventually("the other gateway knows", async || asked(1).await.status == 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_forgot_is_told_again_by_who_still_knows() {
    for forget in ["restart", "flush"] {
        let mut fleet = Fleet::of(2, "", "").await;
        let token = fleet.backend.token("alice").sign();
        revoke(r#"{"sub": "alice"}"#).send(fleet.gateways[0].admin).await;
        match forget {
            "restart" => fleet.redis.restart().await,
            _ => fleet.redis.command(&["FLUSHALL"]).await,
        }

        let entries =
            async || -> u64 { fleet.redis.command(&["ZCARD", "evergate:{denials}:ends"]).await };
        eventually("the store has it again", async || entries().await == 1).await;

        fleet.gateways[1].restart().await;
        let reply = fleet.send(1, get("/page").bearer(&token)).await;
        assert_eq!((reply.status, reply.reason().as_str()), REVOKED, "{forget}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_does_not_say_who_was_revoked_and_takes_nobodys_word_for_it() {
    let fleet = Fleet::of(1, "", "").await;
    let token = fleet.backend.token("bob").sign();
    for name in ["alice", "bob-not"] {
        revoke(&format!(r#"{{"sub": "{name}"}}"#)).send(fleet.gateways[0].admin).await;
    }
    let entries: Vec<String> =
        fleet.redis.command(&["ZRANGE", "evergate:{denials}:order", "0", "-1"]).await;
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| !entry.contains("alice") && !entry.contains("bob")));
    let life: i64 = fleet.redis.command(&["PTTL", "evergate:{denials}:order"]).await;
    assert!((1..=30 * 24 * 3_600_000).contains(&life), "{life}");

    let forged = entries[0].replace(':', ":1:");
    for list in ["ends", "order"] {
        let list = format!("evergate:{{denials}}:{list}");
        let _: i64 = fleet.redis.command(&["ZADD", &list, "9000000000000000", &forged]).await;
    }
    sleep(Duration::from_millis(1_200)).await;

    assert_eq!(fleet.send(0, get("/page").bearer(&token)).await.status, 200);
    let denials = fleet.gateways[0].metrics().await.value("evergate_denials");
    assert_eq!(denials, 2.0);
}

//! What comes after the auth backend has failed: sessions live on, spent tokens stay unshown, a dead
//! endpoint is left alone. What each failure means for the request that meets it is in `tables.rs`.

use std::time::Duration;

use futures_util::future::join_all;

use super::support::backend::Pair;
use super::support::*;

/// A short wait and a short call, so that the failures that never answer are over soon.
async fn world() -> World {
    World::changed("client_secret: s3cret", "client_secret: s3cret, wait: 400ms, timeout: 800ms")
        .await
}

fn refuse(status: u16, error: &'static str) -> Fault {
    Fault::Refuse { status, error, retry_after: None }
}

/// No grant is made, and nothing is said about the session: it lives on.
fn harmless() -> Vec<Fault> {
    vec![
        // transient
        refuse(500, "server_error"),
        refuse(502, ""),
        refuse(503, "temporarily_unavailable"),
        refuse(408, ""),
        refuse(425, ""),
        Fault::Refuse { status: 429, error: "slow_down", retry_after: Some("7") },
        // misconfigured
        refuse(401, "invalid_client"),
        refuse(400, "unauthorized_client"),
        refuse(400, "unsupported_grant_type"),
        refuse(400, "invalid_scope"),
        refuse(404, ""),
        refuse(405, ""),
        refuse(415, ""),
        refuse(418, ""),
        Fault::Redirect,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_survives_every_failure_that_did_not_spend_its_token() {
    join_all(harmless().into_iter().map(async |fault| {
        let world = world().await;
        world.backend.fail(fault.clone());
        let pair = world.backend.login("alice", Token::expired);
        let address = world.gateway.address;
        assert_eq!(get("/page").pair(&pair).send(address).await.status, 503, "{fault:?}");
        world.backend.heal();
        // Longer than any cool-down that these ask for.
        world.skip(Duration::from_secs(8));
        assert_eq!(get("/page").pair(&pair).send(address).await.status, 200, "{fault:?}");
        assert_eq!((world.backend.counts().grants, world.backend.counts().reuses), (1, 0));
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_token_is_not_shown_again_after_a_lost_answer() {
    join_all([Fault::Hang, Fault::ResetAfterGrant, Fault::Html, Fault::Garbage].map(
        async |fault| {
            let world = world().await;
            world.backend.fail_once(fault.clone());
            let pair = world.backend.login("alice", Token::expired);
            for _ in 0..5 {
                get("/page").pair(&pair).send(world.gateway.address).await;
            }
            assert_eq!(world.backend.counts().reuses, 0, "{fault:?}: the family was killed");
        },
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_token_endpoint_opens_the_breaker_and_is_left_alone() {
    let world = world().await;
    world.backend.fail(refuse(503, ""));
    let pairs: Vec<Pair> = (0..12).map(|_| world.backend.login("alice", Token::expired)).collect();

    for pair in &pairs {
        let reply = get("/page").pair(pair).send(world.gateway.address).await;
        assert_eq!(reply.status, 503);
        let metrics = world.gateway.metrics().await;
        if metrics.sum("evergate_breaker_open") == 1.0 {
            let asked = world.backend.token_calls();
            assert_eq!(asked, 5, "five failures in a row open it");
            return;
        }
    }
    panic!("the breaker never opened: {} calls", world.backend.token_calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_down_gives_503_to_the_expired_and_nothing_to_the_valid() {
    let mut world = world().await;
    let (valid, expired) =
        (world.backend.token("alice").sign(), world.backend.login("alice", Token::expired));
    assert_eq!(get("/page").access(&valid).send(world.gateway.address).await.status, 200);

    world.backend.stop();

    assert_eq!(get("/page").access(&valid).send(world.gateway.address).await.status, 200);
    let refused = get("/page").fetch().pair(&expired).send(world.gateway.address).await;
    assert_eq!((refused.status, refused.reason().as_str()), (503, "refresh_unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_was_never_reached_gives_503_on_its_routes_only() {
    let (mut backend, upstream) = (Backend::start().await, Upstream::start().await);
    let token = backend.token("alice").sign();
    backend.stop();
    let gateway = Gateway::start(&world::place(STANDARD, &backend, &upstream)).await;

    let page = get("/page").fetch().access(&token).send(gateway.address).await;
    let public = get("/static/app.css").send(gateway.address).await;
    let stranger = get("/page").fetch().send(gateway.address).await;

    assert_eq!((page.status, page.reason().as_str()), (503, "keys_unavailable"));
    assert!(page.head.get("retry-after").is_some());
    assert_eq!((public.status, stranger.status), (200, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_that_has_expired_already_starts_no_loop_and_keeps_the_session() {
    let world = world().await;
    world.backend.fail_once(Fault::ExpiredToken);
    let pair = world.backend.login("alice", Token::expired);
    let address = world.gateway.address;

    let refused = get("/page").fetch().pair(&pair).send(address).await;
    let calls = world.backend.token_calls();
    eventually("the next renewal serves", async || {
        get("/page").pair(&pair).send(address).await.status == 200
    })
    .await;

    assert_eq!((refused.status, refused.reason().as_str(), calls), (503, "refresh_unavailable", 1));
    let counts = world.backend.counts();
    assert_eq!(
        (counts.grants, counts.reuses),
        (2, 0),
        "the rotated token was used, not the spent one"
    );
}

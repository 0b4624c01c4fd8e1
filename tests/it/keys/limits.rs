//! Limits: what is too large, and what is forgotten first.

use super::{is, outcome, page, top};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_head_over_its_limits_is_431_and_loses_the_cookies_that_made_it_so() {
    for (limit, headers) in [("max_header_bytes: 2KiB", 1), ("max_headers: 20", 20)] {
        let world = top(&format!("limits: {{ {limit} }}")).await;
        let long = "x".repeat(1024);
        let fits = get("/static/x").header("X-Long", &long);
        let ask = (0..headers).fold(fits.clone(), |ask, n| ask.header(&format!("X-{n}"), &long));

        assert_eq!(fits.send(world.gateway.address).await.status, 200, "{limit}");
        let reply = ask.send(world.gateway.address).await;

        assert_eq!(outcome(&reply), is(431, "header_too_large"), "{limit}");
        let cookies = reply.cookies();
        assert!(cookies.values().all(|cookie| cookie.clears()));
        for name in ["__Host-access", "__Host-access.3", "__Host-refresh", "__Host-refresh.0"] {
            assert!(cookies.contains_key(name), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_over_its_limit_is_not_even_decoded() {
    let world = top("limits: { max_token_bytes: 1KiB }").await;
    let token = world.backend.token("alice");

    let fits = page(&world, &token).await;
    let large = page(&world, &token.claim("pad", "x".repeat(1024))).await;

    assert_eq!(fits.status, 200);
    assert_eq!(outcome(&large), is(401, "token_too_large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn max_body_holds_for_all_routes_and_a_route_may_say_otherwise() {
    let yaml = STANDARD.replacen("listen:", "limits: { max_body: 1KiB }\nlisten:", 1);
    let world = World::with(&format!("{yaml}  - {{ path: /upload, max_body: 4KiB }}\n")).await;
    let token = world.backend.token("alice").sign();
    for (target, length, expected) in
        [("/page", 1024, 200), ("/page", 1025, 413), ("/upload", 4096, 200), ("/upload", 4097, 413)]
    {
        let ask = post(target, &"x".repeat(length)).access(&token);
        assert_eq!(ask.send(world.gateway.address).await.status, expected, "{target} {length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_tokens_are_remembered_than_verified_tokens_says() {
    for (limit, forgotten) in [(1000, false), (1, true)] {
        let world = top(&format!("limits: {{ verified_tokens: {limit} }}")).await;
        let tokens: Vec<Token> =
            (0..100).map(|n| world.backend.token(&format!("person-{n}"))).collect();
        let signed: Vec<String> = tokens.iter().map(Token::sign).collect();
        for token in signed.iter().chain(&signed) {
            let reply = get("/page").access(token).send(world.gateway.address).await;
            assert_eq!(reply.status, 200);
        }
        let misses =
            world.gateway.metrics().await.value("evergate_verified_token_cache_misses_total");
        assert_eq!(misses > 150.0, forgotten, "{limit}: {misses}");
        assert!(misses >= 100.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_sessions_full_of_unconfirmed_ones_the_window_does_without() {
    let world = top("limits: { sessions: 1 }").await;
    let (alice, bob) = (
        world.backend.login("alice", Token::expired),
        world.backend.login("bob", Token::in_window),
    );

    let first = get("/page").pair(&alice).send(world.gateway.address).await;
    let second = get("/slow/100").pair(&bob).send(world.gateway.address).await;

    assert_eq!((first.status, second.status), (200, 200));
    assert!(first.new_pair().is_some() && second.new_pair().is_none());
    assert_eq!(world.backend.token_calls(), 1, "alice's newest token is not forgotten for bob's");
}

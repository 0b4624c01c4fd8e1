//! Cookies: ours stay with us, all others pass byte for byte.

use super::support::backend::Pair;
use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn other_cookies_pass_byte_for_byte_and_in_order() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token);
    let ask = get("/page")
        .header("Cookie", "b=2; a=\"1 , x\"; $odd; =empty")
        .header("Cookie", &format!("__Host-access={}; c=3", pair.access))
        .header("Cookie", &format!("__Host-refresh={}", pair.refresh))
        .header("Cookie", "b=2; d==;e=5");

    assert_eq!(ask.send(world.gateway.address).await.status, 200);

    let seen = world.upstream.record.last().head.all("cookie").join("|");
    assert_eq!(seen, "b=2; a=\"1 , x\"; $odd; =empty; c=3; b=2; d==;e=5");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_cookies_reach_the_app_on_no_route() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token);
    for target in ["/page", "/static/x", "/optional/x"] {
        assert_eq!(get(target).pair(&pair).send(world.gateway.address).await.status, 200);
        assert_eq!(world.upstream.record.last().head.all("cookie"), [""; 0], "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_came_twice_is_refused_and_expired_so_that_a_reload_recovers() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token);
    let twice = get("/page").navigation().pair(&pair).access(&pair.access);

    let reply = twice.send(world.gateway.address).await;

    assert_eq!(reply.status, 400);
    let cookies = reply.cookies();
    assert_eq!(cookies.keys().collect::<Vec<_>>(), ["__Host-access", "__Host-refresh"]);
    for cookie in cookies.values() {
        assert_eq!(cookie.value, "");
        assert_eq!(
            cookie.attributes,
            set(["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=0"])
        );
    }
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_only_look_like_ours_are_the_apps() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let names = ["x__Host-access", "__Host-access2", "__Secure-access", "access_token"];
    let line: Vec<String> = names.iter().map(|name| format!("{name}={token}")).collect();

    let page = get("/page").header("Cookie", &line.join("; "));
    let refused = page.send(world.gateway.address).await;
    let public = get("/static/x").header("Cookie", &line[..2].join("; "));
    public.send(world.gateway.address).await;

    assert_eq!((refused.status, refused.reason().as_str()), (401, "no_credentials"));
    assert_eq!(world.upstream.record.last().head.all("cookie"), [line[..2].join("; ")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_cannot_set_our_cookies_in_any_spelling() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let evil = [
        "__Host-access=evil; Path=/; Secure",
        "__Host-refresh=evil; Path=/; Secure",
        "  __Host-access = evil; Path=/",
        "__host-access=evil; Path=/",
        "__Host-access.0=evil; Path=/; Secure",
        "access_token=evil; Path=/",
    ];
    let headers: Vec<(&str, &str)> =
        evil.iter().chain(&["good=1; Path=/"]).map(|line| ("Set-Cookie", *line)).collect();
    world.upstream.answer(200, &headers, "");

    let reply = get("/page").access(&token).send(world.gateway.address).await;

    let left: Vec<&str> = reply.head.all("set-cookie");
    let ours = |line: &&&str| line.to_lowercase().contains("__host-");
    assert_eq!(left.iter().find(ours), None);
    assert!(left.contains(&"good=1; Path=/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_name_is_read_and_moved_to_ours_at_the_next_renewal() {
    let names = "cookies: { access: { name: __Host-access, accept: [old_access] }, \
                 refresh: { name: __Host-refresh, accept: [old_refresh] } }\nlisten:";
    let world = World::changed("listen:", names).await;
    let pair = world.backend.login("alice", Token::expired);
    let old = format!("old_access={}; old_refresh={}; x=1", pair.access, pair.refresh);

    let reply = get("/page").header("Cookie", &old).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    assert_eq!(world.upstream.record.last().head.all("cookie"), ["x=1"]);
    let cookies = reply.cookies();
    for (old, new) in [("old_access", "__Host-access"), ("old_refresh", "__Host-refresh")] {
        assert!(!cookies[new].clears(), "{new}");
        assert!(cookies.get(old).is_none_or(|cookie| cookie.clears()), "{old}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_token_is_split_and_read_back() {
    let world = World::start().await;
    world.backend.grant_claim("pad", "x".repeat(5000));
    let pair = world.backend.login("alice", Token::expired);
    let mut browser = Browser::new(world.gateway.address);
    browser.jar = [("__Host-refresh".to_string(), pair.refresh)].into();

    let first = browser.fetch("/page").await;
    let second = browser.fetch("/page").await;

    let cookies = first.cookies();
    let set: Vec<&str> =
        cookies.iter().filter(|(_, c)| !c.clears()).map(|(name, _)| name.as_str()).collect();
    assert_eq!(set, ["__Host-access.0", "__Host-access.1", "__Host-refresh"]);
    assert!(cookies.values().all(|cookie| cookie.value.len() <= 3800));
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(world.backend.counts().grants, 1);
    assert_eq!(world.upstream.record.last().head.all("cookie"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_token_after_a_large_one_expires_the_stale_parts() {
    let world = World::start().await;
    let large = world.backend.token("alice").claim("pad", "x".repeat(5000)).expired().sign();
    let refresh = world.backend.login("alice", |token| token).refresh;
    let (one, two) = large.split_at(3000);
    let line = format!("__Host-access.0={one}; __Host-access.1={two}; __Host-refresh={refresh}");

    let reply = get("/page").header("Cookie", &line).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    let cookies = reply.cookies();
    assert!(!cookies["__Host-access"].clears());
    for stale in ["__Host-access.0", "__Host-access.1"] {
        assert!(cookies.get(stale).is_some_and(|cookie| cookie.clears()), "{stale}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_on_loopback_uses_plain_names_without_secure() {
    let world =
        World::changed("listen:", "cookies: { secure: false, same_site: strict }\nlisten:").await;
    let Pair { access, refresh } = world.backend.login("alice", Token::expired);
    let line = format!("evergate_access={access}; evergate_refresh={refresh}");

    let reply = get("/page").header("Cookie", &line).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    let cookies = reply.cookies();
    assert_eq!(cookies.keys().collect::<Vec<_>>(), ["evergate_access", "evergate_refresh"]);
    assert_eq!(
        cookies["evergate_access"].attributes,
        set(["Path=/", "HttpOnly", "SameSite=Strict"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_token_as_cookie_and_bearer_is_one_credential() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();

    let reply = get("/page").access(&token).bearer(&token).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
}

//! Refreshing, and the cookies that it sets.

use super::{MS, refresh, top};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn hold_0s_never_holds_a_response() {
    let world = refresh("hold: 0s").await;
    world.backend.fail_once(Fault::Delay(MS(100)));
    let pair = world.backend.login("alice", Token::in_window);

    let reply = get("/page").pair(&pair).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.new_pair()), (200, None));
    eventually("refreshed all the same", async || world.backend.counts().grants == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_with_more_left_than_the_window_is_left_alone() {
    let world = refresh("window: 5s").await;
    let pair = world.backend.login("alice", Token::in_window);

    let reply = get("/slow/100").pair(&pair).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.new_pair()), (200, None));
    assert_eq!(world.backend.token_calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_auth_says_how_the_gateway_proves_itself() {
    let secret = "client_id: evergate, client_secret: s3cret";
    for (keys, authorization, in_body) in [
        (format!("{secret}, client_auth: post"), false, "client_secret=s3cret"),
        (format!("{secret}, client_auth: basic"), true, "refresh_token="),
        ("client_id: evergate".to_string(), false, "client_id=evergate"),
    ] {
        let world = World::changed(secret, &keys).await;
        let pair = world.backend.login("alice", Token::expired);
        assert_eq!(get("/page").pair(&pair).send(world.gateway.address).await.status, 200);

        let asked = world.backend.record.all().into_iter().find(|seen| seen.target == "/token");
        let asked = asked.expect("asked");
        assert_eq!(asked.head.get("authorization").is_some(), authorization, "{keys}");
        let body = String::from_utf8_lossy(&asked.body).to_string();
        assert!(body.contains(in_body), "{keys}: {body}");
        assert_eq!(body.contains("s3cret"), keys.ends_with("post"), "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backends_own_cookie_names_are_the_operators_to_say() {
    let world = refresh("backend_cookies: { access: at, refresh: rt }").await;
    let pair = world.backend.login("alice", |token| token);

    let me = get("/auth/me").pair(&pair).send(world.gateway.address).await;

    assert_eq!(me.text(), format!("at={}; rt={}", pair.access, pair.refresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_under_an_old_name_moves_even_where_the_backend_keeps_it() {
    let world = top("cookies: { refresh: { accept: [old_refresh] } }").await;
    world.backend.fail_once(Fault::NoRefreshToken);
    let pair = world.backend.login("alice", Token::expired);
    let old = format!("__Host-access={}; old_refresh={}", pair.access, pair.refresh);

    let reply = get("/page").header("Cookie", &old).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.cookies()["__Host-refresh"].value, pair.refresh);
    assert!(reply.cookies().get("old_refresh").is_none_or(|cookie| cookie.clears()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_four_cookies_goes_out_and_comes_back() {
    let world = top("limits: { max_token_bytes: 16KiB, max_header_bytes: 64KiB }").await;
    world.backend.grant_claim("pad", "x".repeat(9500));
    let pair = world.backend.login("alice", Token::expired);
    let mut browser = Browser::new(world.gateway.address);
    browser.jar = [("__Host-refresh".to_string(), pair.refresh)].into();

    let first = browser.fetch("/page").await;
    let second = browser.fetch("/page").await;

    assert_eq!((first.status, second.status), (200, 200));
    let names: Vec<&str> = browser.jar.keys().map(String::as_str).collect();
    let parts = ["__Host-access.0", "__Host-access.1", "__Host-access.2", "__Host-access.3"];
    assert_eq!(names, [parts.as_slice(), &["__Host-refresh"]].concat());
    assert_eq!(world.backend.counts().grants, 1);
}

//! `session.max_lifetime` and `session.idle_timeout`: sessions that end though nobody logs out.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::support::backend::Pair;
use super::support::*;

const S: fn(u64) -> Duration = Duration::from_secs;
const STAMP: &str = "__Host-stamp";
const KEY: &str = "0123456789abcdef0123456789abcdef";
/// As in docs/session-limits.md: a twentieth more than ten minutes.
const IDLE_MAX: u64 = 630;
const BOTH: &str = "max_lifetime: 1h, idle_timeout: 10m";

fn with(limits: &str, keys: &str) -> String {
    file(limits, &format!("encryption_keys: [{keys}]"))
}

fn file(limits: &str, cookies: &str) -> String {
    let routes = STANDARD.replacen(
        "  - { path: /* }",
        "  - { path: /poll, passive: true }\n  - { path: /* }",
        1,
    );
    format!("session: {{ {limits} }}\ncookies: {{ {cookies} }}\n{routes}")
}

async fn world(limits: &str) -> World {
    World::with(&with(limits, KEY)).await
}

/// A browser that holds this pair and has asked for nothing yet.
fn holding(gateway: &Gateway, pair: &Pair) -> Browser {
    let mut browser = Browser::new(gateway.address);
    browser.jar.insert("__Host-access".into(), pair.access.clone());
    browser.jar.insert("__Host-refresh".into(), pair.refresh.clone());
    browser
}

/// A browser that has logged in a moment ago.
async fn alice(world: &World) -> Browser {
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut browser = holding(&world.gateway, &pair);
    assert_eq!(browser.fetch("/page").await.status, 200);
    assert!(browser.jar.contains_key(STAMP));
    browser
}

fn pair_of(browser: &Browser) -> Pair {
    let cookie = |name: &str| browser.jar.get(name).cloned().unwrap_or_default();
    Pair { access: cookie("__Host-access"), refresh: cookie("__Host-refresh") }
}

async fn session(browser: &mut Browser) -> serde_json::Value {
    browser.fetch("/_evergate/session").await.json()
}

async fn refresh(browser: &mut Browser) -> Reply {
    browser.send(post("/_evergate/refresh", "").fetch().header("X-Evergate", "1")).await
}

/// 401, with this reason.
fn refused(reply: &Reply, reason: &str) {
    assert_eq!((reply.status, reply.reason().as_str()), (401, reason));
}

/// The answer that ends a session takes every cookie of it away.
fn takes_all_away(reply: &Reply) {
    let cookies: Vec<_> = reply.cookies().into_iter().map(|(n, c)| (n, c.clears())).collect();
    let names = ["__Host-access", "__Host-refresh", STAMP];
    assert_eq!(cookies, names.map(|name| (name.to_string(), true)));
}

async fn over(world: &World, limit: &str) -> f64 {
    let series = format!("evergate_sessions_over_total{{limit=\"{limit}\"}}");
    world.gateway.metrics().await.value(&series)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_dies_although_a_page_polls_session_refresh_and_a_passive_route() {
    let world = world(BOTH).await;
    let mut browser = alice(&world).await;

    for waited in (70..IDLE_MAX).step_by(70) {
        world.skip(S(70));
        let told = session(&mut browser).await;
        assert_eq!(told["active"], true, "{waited}");
        let ends = told["idle_expires_in"].as_u64().expect("seconds") + waited;
        assert!((IDLE_MAX - 2..=IDLE_MAX).contains(&ends), "{ends} after {waited}");
        assert_eq!(refresh(&mut browser).await.status, 200);
        let prefetch = get("/page").header("Sec-Purpose", "prefetch").fetch();
        assert_eq!(browser.send(prefetch).await.status, 200);
        assert_eq!(browser.fetch("/poll").await.status, 200);
    }
    assert!(world.backend.counts().grants >= 2, "its tokens were renewed meanwhile");
    let last = pair_of(&browser);
    world.skip(S(71));

    let reply = browser.fetch("/poll").await;
    refused(&reply, "session_expired");
    takes_all_away(&reply);
    assert_eq!(session(&mut browser).await["active"], false);
    // Nor is the pair of any use without the stamp, in a cookie or as a bearer.
    let bare = get("/page").pair(&last).fetch().send(world.gateway.address).await;
    refused(&bare, "revoked");
    let bearer = get("/page").bearer(&last.access).send(world.gateway.address).await;
    refused(&bearer, "revoked");
    let alone = get("/page").header("Cookie", &format!("__Host-refresh={}", last.refresh));
    refused(&alone.send(world.gateway.address).await, "session_expired");
    assert_eq!(over(&world, "idle_timeout").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn use_keeps_a_session_alive_and_its_cookie_is_rare() {
    let world = world("idle_timeout: 10m").await;
    let mut browser = alice(&world).await;
    let mut stamped = 0;
    for _ in 0..200 {
        world.skip(S(10));
        let reply = browser.fetch("/page").await;
        assert_eq!(reply.status, 200);
        stamped += u32::from(reply.cookies().contains_key(STAMP));
    }
    assert!((50..=70).contains(&stamped), "{stamped} in 2000 s, one in 30 s");

    world.skip(S(590));
    assert_eq!(browser.fetch("/page").await.status, 200);
    world.skip(S(IDLE_MAX + 1));
    refused(&browser.fetch("/page").await, "session_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_use_and_no_refresh_prolongs_the_lifetime() {
    let world = world(BOTH).await;
    let mut browser = alice(&world).await;
    for _ in 0..17 {
        world.skip(S(200));
        assert_eq!(browser.fetch("/page").await.status, 200);
    }
    let told = session(&mut browser).await;
    let left = told["session_expires_in"].as_u64().expect("seconds");
    assert!((198..=200).contains(&left), "{left}");
    assert!(told["refresh_in"].as_u64() <= Some(left), "{told}");

    world.skip(S(201));
    let reply = browser.navigate("/page?x=1").await;
    let location = reply.head.all("location");
    assert_eq!((reply.status, location), (302, vec!["/auth/login?return_to=%2Fpage%3Fx%3D1"]));
    takes_all_away(&reply);
    assert_eq!((over(&world, "max_lifetime").await, world.backend.counts().reuses), (1.0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_asks_when_the_session_is_over_and_hears_it() {
    let world = world("max_lifetime: 100s").await;
    let mut browser = alice(&world).await;

    let told = session(&mut browser).await;

    assert_eq!((&told["active"], &told["refresh_in"]), (&true.into(), &told["session_expires_in"]));
    world.skip(S(101));
    let reply = refresh(&mut browser).await;
    refused(&reply, "session_expired");
    takes_all_away(&reply);
    assert_eq!(world.backend.token_calls(), 0);
}

/// What it takes away would else be the cookies of a login that was quicker.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_that_ends_a_session_does_not_wait_for_the_backend() {
    let revocation = "s3cret, revocation_url: \"http://BACKEND/hang\"";
    let world = World::with(&with(BOTH, KEY).replacen("s3cret", revocation, 1)).await;
    let mut browser = alice(&world).await;
    world.skip(S(3601));

    let since = Instant::now();
    let reply = browser.fetch("/page").await;

    assert!(since.elapsed() < S(2), "{:?}", since.elapsed());
    refused(&reply, "session_expired");
    takes_all_away(&reply);
    let failed = "evergate_backend_revocations_total{issuer=\"default\",result=\"failed\"}";
    eventually("the backend was asked", async || {
        world.gateway.metrics().await.value(failed) == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_refresh_token_has_limits_too_and_its_token_is_denied() {
    let world = world("max_lifetime: 100s").await;
    let access = world.backend.token("alice").aged(0).sign();
    let mut browser = Browser::new(world.gateway.address);
    browser.jar.insert("__Host-access".into(), access.clone());
    assert_eq!(browser.fetch("/page").await.status, 200);
    world.skip(S(101));

    refused(&browser.fetch("/page").await, "session_expired");
    let bearer = get("/page").bearer(&access).send(world.gateway.address).await;
    refused(&bearer, "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backends_own_route_is_judged_like_others() {
    let world = world(BOTH).await;
    let pair = world.backend.login("alice", |token| token.aged(0));

    let reply = get("/auth/me").fetch().pair(&pair).send(world.gateway.address).await;

    assert!(reply.text().contains("refresh_token="), "{}", reply.text());
    assert_eq!(reply.cookies().keys().collect::<Vec<_>>(), [STAMP]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stamp_a_session_is_as_old_as_its_token_says() {
    let world = world(BOTH).await;
    let told = async |shape: fn(Token) -> Token, auth: Option<u64>| {
        let auth = auth.map(|ago| keys::now() - ago);
        let pair = world.backend.login("alice", |token| match auth {
            Some(time) => shape(token).claim("auth_time", time),
            None => shape(token),
        });
        let mut browser = holding(&world.gateway, &pair);
        (
            browser.fetch("/page").await.status,
            session(&mut browser).await["session_expires_in"].clone(),
        )
    };

    let (status, left) = told(|token| token.aged(30), None).await;
    assert_eq!(status, 200);
    assert!((3565..=3570).contains(&left.as_u64().expect("seconds")), "{left}");
    let (status, left) = told(|token| token.aged(30), Some(3000)).await;
    assert_eq!(status, 200);
    assert!((595..=600).contains(&left.as_u64().expect("seconds")), "{left}");
    assert_eq!(told(|token| token.aged(30), Some(3601)).await.0, 401);
    assert_eq!(told(Token::expired, None).await.0, 401);
    assert_eq!(over(&world, "unknown").await, 1.0);
    assert_eq!(world.backend.token_calls(), 0, "nobody renews what began nobody knows when");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_that_was_forged_or_is_somebody_elses_counts_for_nothing() {
    let world = world(BOTH).await;
    let mut alice = alice(&world).await;
    let bob = world.backend.login("bob", |token| token.aged(0));
    let mut bob = holding(&world.gateway, &bob);
    world.skip(S(400));
    bob.jar.insert(STAMP.into(), alice.jar[STAMP].clone());
    refused(&bob.fetch("/page").await, "session_expired");

    // Nor with a refresh token alone: whose it is shows when it is renewed.
    let carol = world.backend.login("carol", |token| token.aged(0));
    let cookies = format!("__Host-refresh={}; {STAMP}={}", carol.refresh, alice.jar[STAMP]);
    let reply = get("/page").fetch().header("Cookie", &cookies).send(world.gateway.address).await;
    refused(&reply, "session_expired");
    takes_all_away(&reply);

    alice.jar.insert(STAMP.into(), "A".repeat(120));
    refused(&alice.fetch("/page").await, "session_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_that_is_dropped_takes_the_session_along_once_it_was_renewed() {
    let world = world(BOTH).await;
    let mut browser = alice(&world).await;
    world.skip(S(295));
    let renewed = browser.fetch("/page").await;
    let order: Vec<_> =
        renewed.head.all("set-cookie").iter().map(|line| line.split('=').next()).collect();
    assert_eq!(order, [Some(STAMP), Some("__Host-access"), Some("__Host-refresh")]);
    let thief = get("/page").fetch().pair(&pair_of(&browser));

    let reply = thief.send(world.gateway.address).await;

    refused(&reply, "session_expired");
    takes_all_away(&reply);
    refused(&browser.fetch("/page").await, "revoked");
    assert_eq!(over(&world, "unknown").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_token_alone_or_beside_a_made_up_one_gets_no_new_stamp() {
    for refresh in ["", "; __Host-refresh=made-up"] {
        let world = world(BOTH).await;
        let mut browser = alice(&world).await;
        world.skip(S(295));
        assert_eq!(browser.fetch("/page").await.status, 200);
        let cookies = format!("__Host-access={}{refresh}", browser.jar["__Host-access"]);

        let reply =
            get("/page").fetch().header("Cookie", &cookies).send(world.gateway.address).await;

        refused(&reply, "session_expired");
        takes_all_away(&reply);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_first_requests_without_a_stamp_all_pass() {
    let world = world(BOTH).await;
    let pair = world.backend.login("alice", Token::in_window);

    let ask = || get("/page").fetch().pair(&pair).send(world.gateway.address);
    let replies = futures_util::future::join_all((0..20).map(|_| ask())).await;
    let later = ask().await;

    assert_eq!(client::statuses(&replies), [200; 20]);
    assert_eq!((later.status, later.cookies().len()), (200, 3));
    assert_eq!(world.backend.counts().grants, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_renewed_before_there_were_limits_goes_on_at_a_gateway_with_them() {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let redis = Redis::used().await;
    let store = format!("store: {{ kind: redis, url: \"{}\", key: {KEY} }}", redis.url());
    let start = async |yaml: &str| {
        let yaml = format!("{store}\n{yaml}");
        Gateway::start(&super::support::world::place(&yaml, &backend, &upstream)).await
    };
    let (old, new) = (start(STANDARD).await, start(&file(BOTH, "same_site: lax")).await);
    let mut browser = holding(&old, &backend.login("alice", Token::expired));
    assert_eq!(browser.fetch("/page").await.status, 200);
    [&old, &new].into_iter().for_each(|gateway| gateway.skip(S(280)));
    backend.skip(S(280));

    let ask = || get("/page").fetch().pair(&pair_of(&browser)).send(new.address);
    let replies = futures_util::future::join_all((0..20).map(|_| ask())).await;

    assert_eq!(client::statuses(&replies), [200; 20]);
    // It has heard from the store by now that this refresh token came by a renewal.
    let heard =
        "evergate_refresh_total{issuer=\"default\",result=\"delivered\",trigger=\"window\"}";
    eventually("it is heard", async || new.metrics().await.value(heard) > 0.0).await;
    let later = ask().await;
    assert_eq!((later.status, later.cookies().contains_key(STAMP)), (200, true));
}

/// The tokens of a handle are renewed before the browser has the stamp, or though it never gets it.
#[tokio::test(flavor = "multi_thread")]
async fn under_a_handle_a_stamp_may_come_later_than_the_tokens_and_makes_them_no_younger() {
    let yaml = with(BOTH, KEY).replacen("s3cret", "s3cret, carrier: server", 1);
    let world = World::with(&yaml).await;
    let mut browser = Browser::new(world.gateway.address);
    assert_eq!(browser.submit("/auth/login", "user=alice").await.status, 303);
    browser.jar.remove(STAMP);
    world.skip(S(280));

    // In the window: the first renews the tokens, and each answer with a stamp is lost.
    let session_cookie = format!("__Host-session={}", browser.jar["__Host-session"]);
    let ask = || get("/page").fetch().header("Cookie", &session_cookie);
    let replies: Vec<_> = futures_util::stream::iter(0..20)
        .then(|_| ask().send(world.gateway.address))
        .collect()
        .await;
    assert_eq!(client::statuses(&replies), [200; 20]);
    let left = session(&mut browser).await["session_expires_in"].as_u64().expect("seconds");

    assert_eq!(world.backend.counts().grants, 1);
    assert!((3310..=3320).contains(&left), "{left}: 280 s after the token was issued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_sets_the_same_token_again_ends_nobody_whose_answer_was_lost() {
    let adopting = with(BOTH, KEY).replacen(
        "  - { path: /poll",
        "  - { path: /login, auth: public, adopt_tokens: true }\n  - { path: /poll",
        1,
    );
    let world = World::with(&adopting).await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let same = format!("access_token={}; Path=/", pair.access);
    world.upstream.page_with("/login", &[("Set-Cookie", &same)], "hello");

    let set = get("/login").fetch().pair(&pair).send(world.gateway.address).await;
    let lost = get("/page").fetch().pair(&pair).send(world.gateway.address).await;

    assert!(set.cookies().contains_key(STAMP), "{:?}", set.headers());
    assert_eq!(lost.status, 200, "{}", lost.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_stamp_of_the_same_session_gains_nothing() {
    let world = world(BOTH).await;
    let mut browser = alice(&world).await;
    let old = browser.jar[STAMP].clone();
    for _ in 0..4 {
        world.skip(S(200));
        assert_eq!(browser.fetch("/page").await.status, 200);
    }
    assert_ne!(browser.jar[STAMP], old);

    browser.jar.insert(STAMP.into(), old);
    refused(&browser.fetch("/page").await, "session_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_afterwards_starts_anew_and_a_logout_leaves_no_stamp() {
    let world = world(BOTH).await;
    let mut browser = Browser::new(world.gateway.address);
    let login = browser.submit("/auth/login", "user=alice").await;
    let lines = login.head.all("set-cookie");
    let ours = lines.iter().find(|line| line.starts_with("__Host-"));
    assert!(ours.is_some_and(|line| line.starts_with(STAMP)), "it leaves first: {lines:?}");
    let stamp = &login.cookies()[STAMP];
    let attributes = ["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=34560000"];
    assert_eq!(stamp.attributes, set(attributes));
    world.skip(S(IDLE_MAX + 1));

    // The login page itself, without having been refused before.
    assert_eq!(browser.submit("/auth/login", "user=alice").await.status, 303);
    assert_eq!(browser.fetch("/page").await.status, 200);
    let left = session(&mut browser).await["session_expires_in"].as_u64();
    assert!(left > Some(3_590), "{left:?}");
    let leave = post("/_evergate/logout", "").fetch().header("X-Evergate", "1");
    takes_all_away(&browser.send(leave).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_renews_of_its_own_accord_makes_a_session_no_younger() {
    let world = world("max_lifetime: 1h").await;
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    for _ in 0..13 {
        world.skip(S(250));
        assert_eq!(browser.submit("/auth/login", "user=alice").await.status, 303);
    }
    let left = session(&mut browser).await["session_expires_in"].as_u64().expect("seconds");
    assert!((345..=350).contains(&left), "{left}");

    world.skip(S(351));
    let me = browser.fetch("/auth/me").await;
    assert!(!me.text().contains("token"), "the backend is shown nothing of a session that is over");
    takes_all_away(&me);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_renews_of_its_own_accord_counts_with_its_stamp_only() {
    let world = world("max_lifetime: 1h").await;
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    world.skip(S(250));
    browser.submit("/auth/login", "user=alice").await;
    let thief = get("/page").fetch().pair(&pair_of(&browser));

    refused(&thief.send(world.gateway.address).await, "session_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_token_tells_of_makes_it_young_again() {
    let world = world("max_lifetime: 1h").await;
    world.backend.grant_claim("sid", "first");
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    world.skip(S(250));

    world.backend.grant_claim("sid", "second");
    browser.submit("/auth/login", "user=alice").await;

    let left = session(&mut browser).await["session_expires_in"].as_u64().expect("seconds");
    assert!(left > 3_590, "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_whose_clock_is_ahead_makes_no_session_younger_by_renewing_it() {
    let world = world("max_lifetime: 1h").await;
    world.backend.grant_claim("auth_time", keys::now() + 20);
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    world.skip(S(250));

    browser.submit("/auth/login", "user=alice").await;

    let left = session(&mut browser).await["session_expires_in"].as_u64().expect("seconds");
    assert!((3_345..=3_350).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_again_has_its_own_handle_and_survives_that_its_answer_was_lost() {
    let yaml = with("max_lifetime: 1h", KEY).replacen("s3cret", "s3cret, carrier: server", 1);
    let world = World::with(&yaml).await;
    let (began, again) = (keys::now(), S(3_000));
    world.backend.grant_claim("sid", "one");
    world.backend.grant_claim("auth_time", began);
    let mut browser = Browser::new(world.gateway.address);
    assert_eq!(browser.submit("/auth/login", "user=alice").await.status, 303);
    let jar = browser.jar.clone();
    world.skip(again);
    world.backend.grant_claim("auth_time", began + again.as_secs());
    assert_eq!(browser.submit("/auth/login", "user=alice").await.status, 303);

    world.skip(S(700));
    let mut lost = Browser::new(world.gateway.address);
    lost.jar = jar;

    refused(&lost.fetch("/page").await, "no_credentials");
    assert_eq!(browser.fetch("/page").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_brings_a_refresh_token_alone_has_a_stamp_that_becomes_the_persons() {
    let yaml = with(BOTH, KEY).replacen("upstream: \"http://BACKEND\", ", "", 1);
    let world = World::with(&yaml).await;
    let refresh = world.backend.login("alice", |token| token).refresh;
    let line = format!("refresh_token={refresh}; Path=/");
    world.upstream.answer(200, &[("Set-Cookie", &line)], "logged in");
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    let first = browser.jar[STAMP].clone();
    world.skip(S(100));

    assert_eq!(browser.fetch("/page").await.status, 200);
    assert_ne!(browser.jar[STAMP], first);
    let left = session(&mut browser).await["session_expires_in"].as_u64().expect("seconds");
    assert!((3_490..=3_500).contains(&left), "{left}");

    // The first stamp was that refresh token's and nobody's else.
    browser.jar.insert(STAMP.into(), first);
    refused(&browser.fetch("/page").await, "session_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_route_passes_them_as_nobody_and_takes_the_cookies() {
    let world = world(BOTH).await;
    let mut browser = alice(&world).await;
    world.skip(S(IDLE_MAX + 1));

    let reply = browser.fetch("/optional/page").await;

    assert_eq!(reply.status, 200);
    takes_all_away(&reply);
    let seen = world.upstream.record.last().head;
    assert!(seen.all("x-forwarded-user").is_empty() && seen.all("cookie").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_never_sees_a_stamp_and_cannot_set_one() {
    for limits in [BOTH, ""] {
        let world = world(limits).await;
        world.upstream.answer(200, &[("Set-Cookie", "__Host-stamp=x; Path=/; Secure")], "hello");
        let pair = world.backend.login("alice", |token| token.aged(0));
        let mut browser = holding(&world.gateway, &pair);
        browser.jar.insert(STAMP.into(), "planted".into());

        let reply = browser.fetch("/page").await;

        assert_eq!(world.upstream.record.last().head.all("cookie"), [""; 0]);
        let set: Vec<_> = reply.cookies().into_keys().collect();
        assert_eq!(set, if limits.is_empty() { vec![] } else { vec![STAMP.to_string()] });
        assert!(reply.cookies().get(STAMP).is_none_or(|stamp| stamp.value != "x"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_has_no_limits() {
    let world = world(BOTH).await;
    let token = world.backend.token("alice").aged(200);
    let old = token.claim("auth_time", keys::now() - 9_000).sign();

    let reply = get("/page").bearer(&old).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.cookies().len()), (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stamp_that_came_twice_is_refused_and_expired() {
    let world = world(BOTH).await;
    let browser = alice(&world).await;
    let cookies = format!("{STAMP}=a; __Host-access={}; {STAMP}=b", browser.jar["__Host-access"]);

    let reply = get("/page").fetch().header("Cookie", &cookies).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.reason().as_str()), (400, "duplicate_credential"));
    takes_all_away(&reply);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stamp_has_names_like_the_other_cookies() {
    for (names, name) in [
        ("secure: false", "evergate_stamp"),
        ("stamp: { name: __Host-seen, accept: [__Host-stamp] }", "__Host-seen"),
    ] {
        let yaml = file(BOTH, &format!("encryption_keys: [{KEY}], {names}"));
        let world = World::with(&yaml).await;
        let reply = post("/auth/login", "user=alice").send(world.gateway.address).await;
        assert!(reply.cookies().contains_key(name), "{:?}", reply.cookies());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_with_one_key_agree_also_while_it_is_replaced() {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let new = "fedcba9876543210fedcba9876543210";
    let start = async |keys: &str| {
        Gateway::start(&super::support::world::place(&with(BOTH, keys), &backend, &upstream)).await
    };
    let (here, there) = (start(KEY).await, start(&format!("{new}, {KEY}")).await);
    let pair = backend.login("alice", |token| token.aged(0));
    let mut browser = holding(&here, &pair);
    assert_eq!(browser.fetch("/page").await.status, 200);

    let cookies: Vec<String> = browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let ask = || get("/page").fetch().header("Cookie", &cookies.join("; "));
    assert_eq!(ask().send(there.address).await.cookies().len(), 0);
    there.skip(S(150));
    assert_eq!(
        ask().send(there.address).await.cookies().keys().next().map(String::as_str),
        Some(STAMP)
    );
    there.skip(S(IDLE_MAX - 149));
    refused(&ask().send(there.address).await, "session_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_share_a_store_share_its_key_and_every_end() {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let redis = Redis::start().await;
    let store = format!("store: {{ kind: redis, url: \"{}\", key: {KEY} }}", redis.url());
    let yaml = format!("{store}\n{}", file("idle_timeout: 60s", "same_site: lax"));
    let yaml = super::support::world::place(&yaml, &backend, &upstream);
    let (here, there) = (Gateway::start(&yaml).await, Gateway::start(&yaml).await);
    let pair = backend.login("alice", |token| token.aged(0));
    let mut browser = holding(&here, &pair);
    assert_eq!(browser.fetch("/page").await.status, 200);
    let cookies: Vec<String> = browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let all = || get("/page").fetch().header("Cookie", &cookies.join("; ")).send(there.address);
    assert_eq!(all().await.cookies().len(), 0);
    here.skip(S(64));

    refused(&browser.fetch("/page").await, "session_expired");

    eventually("the other gateway knows", async || all().await.status == 401).await;
    refused(&all().await, "revoked");
}

async fn socket(browser: &Browser) -> tokio_tungstenite::WebSocketStream<TcpStream> {
    let cookies: Vec<String> = browser.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let mut request = "ws://app.test/ws".into_client_request().expect("a URL");
    request.headers_mut().insert("cookie", cookies.join("; ").parse().expect("a value"));
    let stream = TcpStream::connect(browser.address()).await.expect("the gateway listens");
    tokio_tungstenite::client_async(request, stream).await.expect("a handshake").0
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_websocket_keeps_nothing_alive_and_ends_with_its_session() {
    let world = world(BOTH).await;
    let mut browser = alice(&world).await;
    let mut socket = socket(&browser).await;
    for _ in 0..3 {
        world.skip(S(200));
        assert_eq!(refresh(&mut browser).await.status, 200);
    }
    world.skip(S(31));

    refused(&browser.fetch("/poll").await, "session_expired");

    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(S(2), ended).await.expect("it ends with the session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_lasts_no_longer_than_its_session_though_nobody_asks() {
    let yaml = with("max_lifetime: 1h", KEY).replacen(
        "{ path: /* }",
        "{ path: /*, cut_on_expiry: false }",
        1,
    );
    let world = World::with(&yaml).await;
    let browser = alice(&world).await;
    let mut socket = socket(&browser).await;
    world.skip(S(3_590));
    let quiet = timeout(S(2), socket.next()).await;
    assert!(quiet.is_err(), "it is open");

    world.skip(S(10));

    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(S(3), ended).await.expect("it ends with the session");
}

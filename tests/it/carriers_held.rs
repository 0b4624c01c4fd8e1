//! Tokens that a page cannot have: `carrier: sealed`, both in one cookie that only gateways can open,
//! and `carrier: server`, a handle in the cookie and both at the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evergate::clock;
use evergate::policy::kept::Kept;
use evergate::policy::secret::Secret;
use evergate::session::held::HeldTokens;
use evergate::session::seal::Seals;
use evergate::store::{Sealer, Store, StoreAddress, StoreSettings};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::support::backend::Counts;
use super::support::keys::LIFE_S;
use super::support::world::place;
use super::support::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const NEW_KEY: &str = "fedcba9876543210fedcba9876543210";
const ONE_GRANT: Counts = Counts { grants: 1, reuses: 0, unknown: 0 };
const SESSION: &str = "__Host-session";
const BOTH: [&str; 2] = ["sealed", "server"];
/// So that a token is in its window, and past its end.
const WINDOW: Duration = Duration::from_secs(LIFE_S - 20);
const EXPIRY: Duration = Duration::from_secs(LIFE_S + 5);

/// The standard file with this carrier, and one more line at the top.
fn yaml(carrier: &str, line: &str) -> String {
    let refresh = format!("client_secret: s3cret, wait: 2s, timeout: 4s, carrier: {carrier}");
    let standard = STANDARD.replacen("client_secret: s3cret", &refresh, 1);
    format!("{line}\n{standard}")
}

fn keys(keys: &str) -> String {
    format!("cookies: {{ encryption_keys: [{keys}] }}")
}

async fn world(carrier: &str) -> World {
    World::with(&yaml(carrier, &keys(KEY))).await
}

/// Another gateway before the same app: as after a restart with another file.
async fn another(world: &World, carrier: &str, line: &str) -> Gateway {
    Gateway::start(&place(&yaml(carrier, line), &world.backend, &world.upstream)).await
}

/// Alice's browser, right after the login page.
async fn alice(gateway: &Gateway) -> Browser {
    let mut browser = Browser::new(gateway.address);
    assert_eq!(browser.submit("/auth/login", "user=alice").await.status, 303);
    browser
}

/// The same cookies at another gateway.
fn at(gateway: &Gateway, browser: &Browser) -> Browser {
    let mut moved = Browser::new(gateway.address);
    moved.jar = browser.jar.clone();
    moved
}

fn names(browser: &Browser) -> Vec<&str> {
    browser.jar.keys().map(String::as_str).filter(|name| *name != "theme").collect()
}

fn with(ask: Ask, jar: &BTreeMap<String, String>) -> Ask {
    let pairs: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
    ask.header("Cookie", &pairs.join("; "))
}

/// A sealed session of a refresh token alone.
fn with_sealed(ask: Ask, issuer: &str, refresh: &str) -> Ask {
    let kept = Kept { issuer: issuer.into(), access: None, refresh: Some(Secret::new(refresh)) };
    let seals = Seals::new(&Secret::new(KEY), &[]).expect("a key");
    let bytes = kept.to_bytes().expect("short");
    let text = seals.seal("session cookie", &bytes).expect("random bytes");
    ask.header("Cookie", &format!("{SESSION}=s1.{text}"))
}

fn answer(reply: &Reply) -> (u16, String) {
    (reply.status, if reply.status >= 400 { reply.reason() } else { String::new() })
}

fn refused(reason: &str) -> (u16, String) {
    (401, reason.to_string())
}

fn form(target: &str) -> Ask {
    post(target, "").header("Accept", "text/html").header("Sec-Fetch-Site", "same-origin")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_leaves_one_cookie_in_which_nobody_finds_a_token_and_the_app_sees_none() {
    for (carrier, kind) in [("sealed", "s1."), ("server", "h1.")] {
        let world = world(carrier).await;
        let mut browser = Browser::new(world.gateway.address);
        let login = browser.submit("/auth/login", "user=alice").await;
        let page = browser.fetch("/page").await;
        let me = browser.fetch("/auth/me").await.text();

        let cookies = login.cookies();
        assert_eq!(cookies.keys().collect::<Vec<_>>(), [SESSION, "theme"]);
        let ours = set(["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=3600"]);
        assert_eq!(cookies[SESSION].attributes, ours);
        assert!(cookies[SESSION].value.starts_with(kind), "{}", cookies[SESSION].value);
        assert_eq!((page.status, page.cookies().len()), (200, 0));
        let seen = world.upstream.record.last();
        assert_eq!(seen.head.all("x-forwarded-user"), ["alice"]);
        assert_eq!(seen.head.all("cookie"), ["theme=dark"]);
        // The backend gets its own tokens back; the browser has none of them.
        assert!(me.contains("access_token=eyJ") && me.contains("refresh_token=rt-"), "{me}");
        for token in me.split("; ").filter_map(|pair| pair.split_once("_token=")) {
            assert!(!cookies[SESSION].value.contains(token.1));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_window_the_page_takes_the_new_session_along() {
    for carrier in BOTH {
        let world = world(carrier).await;
        let mut browser = alice(&world.gateway).await;
        let before = browser.jar[SESSION].clone();
        world.skip(WINDOW);

        let renewing = browser.fetch("/slow/200").await;
        world.skip(Duration::from_secs(60));
        let later = browser.fetch("/page").await;

        assert_eq!((renewing.status, later.status), (200, 200), "{carrier}");
        assert_eq!(renewing.cookies().keys().collect::<Vec<_>>(), [SESSION]);
        assert_eq!(later.cookies().len(), 0);
        assert_eq!(browser.jar[SESSION] == before, carrier == "server", "{carrier}");
        assert_eq!(world.backend.counts(), ONE_GRANT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_expired_requests_make_one_grant_and_the_browser_goes_on() {
    for carrier in BOTH {
        let world = world(carrier).await;
        let mut browser = alice(&world.gateway).await;
        world.skip(EXPIRY);
        world.backend.fail_once(Fault::Delay(Duration::from_millis(100)));

        let old = browser.jar.clone();
        let ask = || with(get("/page").fetch(), &old).send(world.gateway.address);
        let replies = join_all((0..20).map(|_| ask())).await;
        // Of the last response that had a cookie.
        let newest = replies.iter().filter_map(|reply| reply.cookies().remove(SESSION)).next_back();
        browser.jar.insert(SESSION.into(), newest.expect("delivered").value);
        let next = browser.fetch("/page").await;
        let old_again = ask().await;

        assert_eq!(client::statuses(&replies), [200; 20], "{carrier}");
        assert_eq!((next.status, next.cookies().len(), old_again.status), (200, 0, 200));
        assert_eq!(world.backend.counts(), ONE_GRANT);
        // The next renewal is made with what the first one brought.
        world.skip(EXPIRY);
        assert_eq!(browser.fetch("/page").await.status, 200);
        assert_eq!(world.backend.counts(), Counts { grants: 2, reuses: 0, unknown: 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_backend_ended_is_a_login_and_nothing_of_it_is_held() {
    for carrier in BOTH {
        let world = world(carrier).await;
        let mut browser = alice(&world.gateway).await;
        world.skip(EXPIRY);
        world.backend.fail(Fault::Refuse {
            status: 400,
            error: "invalid_grant",
            retry_after: None,
        });

        let first = browser.fetch("/page").await;
        let second = browser.fetch("/page").await;
        let page = browser.navigate("/page").await;

        assert_eq!(answer(&first), refused("refresh_refused"), "{carrier}");
        let expected = if carrier == "server" { "no_credentials" } else { "refresh_refused" };
        assert_eq!(answer(&second), refused(expected));
        assert!(first.cookies().is_empty() && second.cookies().is_empty());
        assert_eq!((page.status, world.backend.token_calls()), (302, 1));
        world.backend.heal();
        browser.submit("/auth/login", "user=alice").await;
        assert_eq!(browser.fetch("/page").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_response_brings_nothing_back_after_a_logout() {
    for carrier in BOTH {
        let world = world(carrier).await;
        world.backend.grant_claim("sid", "s-1");
        let mut browser = alice(&world.gateway).await;
        world.skip(WINDOW);
        let old = browser.jar.clone();
        let slow = tokio::spawn(with(get("/slow/800"), &old).send(world.gateway.address));
        eventually("it is renewed", async || world.backend.counts() == ONE_GRANT).await;

        let out = browser.send(form("/_evergate/logout")).await;
        let late = slow.await.expect("answered");
        let again = with(get("/page").fetch(), &old).send(world.gateway.address).await;

        assert_eq!((out.status, names(&browser)), (303, vec![]), "{carrier}");
        assert!(out.cookies()[SESSION].clears());
        assert_eq!((late.status, late.cookies().len()), (200, 0));
        let expected = if carrier == "server" { "no_credentials" } else { "revoked" };
        assert_eq!(answer(&again), refused(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_backend_itself_renews_keeps_its_handle_and_another_persons_does_not() {
    let world = world("server").await;
    let mut browser = alice(&world.gateway).await;
    let mut under_way = at(&world.gateway, &browser);

    world.skip(EXPIRY);
    browser.submit("/auth/login", "user=alice").await;
    let renewed = (browser.jar == under_way.jar, under_way.fetch("/page").await.status);
    browser.submit("/auth/login", "user=bob").await;
    let another = (browser.jar == under_way.jar, under_way.fetch("/page").await.status);

    assert_eq!((renewed, another), ((true, 200), (false, 401)));
    assert_eq!(browser.fetch("/page").await.status, 200);
    assert_eq!(world.upstream.record.last().head.all("x-forwarded-user"), ["bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backends_own_logout_and_the_next_login_end_what_was_before() {
    for carrier in BOTH {
        let world = world(carrier).await;
        // So that the gateway still knows what it refuses when the tokens have expired.
        world.backend.grant_life(60);
        let mut browser = alice(&world.gateway).await;
        let first = browser.jar.clone();
        browser.submit("/auth/login", "user=bob").await;
        let second = browser.jar.clone();
        let bob = browser.fetch("/page").await;
        assert_eq!(world.upstream.record.last().head.all("x-forwarded-user"), ["bob"]);
        let out = browser.submit("/auth/logout", "").await;
        world.skip(Duration::from_secs(65));

        assert_ne!(first[SESSION], second[SESSION]);
        assert_eq!((bob.status, out.status, names(&browser)), (200, 204, vec![]), "{carrier}");
        for (jar, sealed) in [(first, "refresh_refused"), (second, "revoked")] {
            let reply = with(get("/page").fetch(), &jar).send(world.gateway.address).await;
            let expected = if carrier == "server" { "no_credentials" } else { sealed };
            assert_eq!(answer(&reply), refused(expected), "{carrier}");
        }
        assert_eq!(world.backend.token_calls(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_and_nobody_is_logged_out() {
    let world = world("sealed").await;
    let mut browser = alice(&world.gateway).await;
    let rotating = another(&world, "sealed", &keys(&format!("{NEW_KEY}, {KEY}"))).await;
    let rotated = another(&world, "sealed", &keys(NEW_KEY)).await;

    let old = at(&rotated, &browser).fetch("/page").await;
    browser = at(&rotating, &browser);
    let during = browser.fetch("/page").await;
    world.backend.skip(EXPIRY);
    rotating.skip(EXPIRY);
    rotated.skip(EXPIRY);
    let renewed = browser.fetch("/page").await;
    let after = at(&rotated, &browser).fetch("/page").await;

    assert_eq!(answer(&old), refused("malformed_token"), "nobody has the old key any more");
    assert_eq!((during.status, during.cookies().len()), (200, 0));
    assert_eq!((renewed.status, after.status), (200, 200));
    assert_eq!(world.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_cookie_that_no_gateway_wrote_is_refused_and_never_passed_over() {
    let world = world("sealed").await;
    let browser = alice(&world.gateway).await;
    let good = &browser.jar[SESSION];
    let plain = world.backend.login("alice", |token| token);
    let seals = Seals::new(&Secret::new(KEY), &[]).expect("a key");
    let other = format!("s1.{}", seals.seal("another purpose", b"\x04main\0\0\0\x01ar").unwrap());
    let tampered = |at: usize| {
        let flipped = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{flipped}{}", &good[..at], &good[at + 1..])
    };

    let forged = [tampered(3), tampered(40), tampered(good.len() - 8), other, "x".into()];
    for value in forged.iter().chain([&good[..good.len() - 4].to_string()]) {
        for beside in ["", &format!("; __Host-access={}", plain.access)] {
            let ask = get("/page").header("Cookie", &format!("{SESSION}={value}{beside}"));
            let reply = ask.send(world.gateway.address).await;
            assert_eq!(answer(&reply), refused("malformed_token"), "{value}{beside}");
        }
    }
    let twice = format!("{SESSION}={good}; {SESSION}={good}");
    let twice = get("/page").header("Cookie", &twice).send(world.gateway.address).await;
    assert_eq!((twice.status, twice.reason().as_str()), (400, "duplicate_credential"));
    assert!(twice.cookies()[SESSION].clears());
    let large = get("/page").header("Cookie", &"x".repeat(40_000));
    let large = large.send(world.gateway.address).await;
    let parts = large.cookies().into_keys().filter(|name| name.starts_with(SESSION)).count();
    assert_eq!((large.status, parts), (431, 5), "whole and in four parts");
    let stale = format!("{SESSION}={good}; __Host-access=junk; __Host-refresh=junk");
    assert_eq!(get("/page").header("Cookie", &stale).send(world.gateway.address).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_alone_is_renewed_for_its_own_issuer_and_for_no_other() {
    let world = world("sealed").await;
    let ask = async |issuer: &str| {
        let refresh = world.backend.login("alice", |token| token).refresh;
        with_sealed(get("/page"), issuer, &refresh).send(world.gateway.address).await
    };

    let own = ask("default").await;
    assert_eq!((own.status, world.backend.counts()), (200, ONE_GRANT));
    assert_eq!(own.cookies().keys().collect::<Vec<_>>(), [SESSION]);
    assert_eq!(answer(&ask("another").await), refused("no_credentials"));
    assert_eq!(world.backend.token_calls(), 1);
}

/// Staff sealed, guests in plain cookies; and a page for guests only.
const TWO_ISSUERS: &str = r#"
listen: 127.0.0.1:0
admin: { address: "127.0.0.1:0" }
upstream: http://UPSTREAM
issuers:
  staff:
    url: "http://BACKEND"
    audience: legacy-app
    refresh: { url: "http://BACKEND/token", client_id: evergate, carrier: sealed }
  guests:
    url: "http://OTHER"
    audience: legacy-app
    refresh: { url: "http://OTHER/token", client_id: evergate }
policies:
  guests: { issuer: [guests] }
routes:
  - { path: /guests/*, policy: guests }
  - { path: /* }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_issuers_each_session_is_carried_its_own_way_and_renewed_on_its_own_routes() {
    let guests = Backend::start().await;
    let yaml = TWO_ISSUERS.replace("OTHER", &guests.address.to_string());
    let world = World::with(&format!("{}{yaml}", keys(KEY))).await;
    let ask = async |target: &str, issuer: &str, backend: &Backend| {
        let refresh = backend.login("alice", |token| token).refresh;
        with_sealed(get(target), issuer, &refresh).send(world.gateway.address).await
    };

    let elsewhere = ask("/guests/x", "staff", &world.backend).await;
    let staff = ask("/page", "staff", &world.backend).await;
    let guest = ask("/guests/x", "guests", &guests).await;

    assert_eq!(answer(&elsewhere), refused("no_credentials"));
    assert_eq!((staff.status, world.backend.counts()), (200, ONE_GRANT));
    assert_eq!(staff.cookies().keys().collect::<Vec<_>>(), [SESSION]);
    assert_eq!((guest.status, guests.counts()), (200, ONE_GRANT));
    let moved: Vec<_> = guest.cookies().into_iter().map(|(name, it)| (name, it.clears())).collect();
    let expected = [("__Host-access", false), ("__Host-refresh", false), (SESSION, true)];
    assert_eq!(moved, expected.map(|(name, clears)| (name.to_string(), clears)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_with_a_bearer_token_or_for_a_public_page_needs_no_session_cookie_to_be_good() {
    for value in ["s1.x", "h1.AAAAAAAAAAAAAAAAAAAAAA", "x"] {
        let world = world("sealed").await;
        let token = world.backend.login("alice", |token| token).access;
        let cookie = |ask: Ask| ask.header("Cookie", &format!("{SESSION}={value}; a=1"));

        let public = cookie(get("/static/x")).send(world.gateway.address).await;
        let public_sees = world.upstream.record.last().head.all("cookie").join("; ");
        let alone = get("/page").bearer(&token).send(world.gateway.address).await;

        assert_eq!((public.status, public_sees.as_str(), alone.status), (200, "a=1", 200));
    }
    let world = world("server").await;
    let mut browser = alice(&world.gateway).await;
    let me = browser.fetch("/auth/me").await.text();
    let own = me.split("; ").find_map(|pair| pair.strip_prefix("access_token=")).expect("a token");
    let other = world.backend.login("bob", |token| token).access;
    let mut beside = async |token: &str| browser.send(get("/page").bearer(token)).await;
    assert_eq!(beside(own).await.status, 200);
    let differs = beside(&other).await;
    assert_eq!((differs.status, differs.reason().as_str()), (400, "conflicting_credentials"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_four_cookies_goes_out_and_comes_back_and_a_longer_one_never_leaves() {
    let limits = "limits: { max_token_bytes: 16KiB, max_header_bytes: 64KiB }";
    let world = World::with(&yaml("sealed", &format!("{limits}\n{}", keys(KEY)))).await;
    world.backend.grant_claim("pad", "x".repeat(7_500));
    let mut browser = alice(&world.gateway).await;
    let parts: Vec<String> = (0..4).map(|part| format!("{SESSION}.{part}")).collect();
    assert_eq!(names(&browser), parts);
    assert_eq!(browser.fetch("/page").await.status, 200);

    // It shrinks, and what it does not use any more goes.
    world.backend.grant_claim("pad", "x".repeat(3_000));
    world.skip(EXPIRY);
    assert_eq!(browser.fetch("/page").await.status, 200);
    assert_eq!(names(&browser), parts[..2]);

    world.backend.grant_claim("pad", "x".repeat(9_000));
    world.skip(EXPIRY);
    let too_long = browser.fetch("/page").await;
    assert_eq!((too_long.status, too_long.cookies().len()), (200, 0));
    assert_eq!(browser.fetch("/page").await.status, 200, "the record has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_carrier_changes_and_nobody_is_logged_out() {
    // Each step's gateway finds what the one before it wrote, and writes it its own way.
    let redis = Redis::used().await;
    let line = format!("store: {{ kind: redis, url: \"{}\", key: {KEY} }}", redis.url());
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let plain = ["__Host-access", "__Host-refresh"];
    let steps = [
        ("cookie", plain.as_slice()),
        ("sealed", &[SESSION]),
        ("server", &[SESSION]),
        ("cookie", &plain),
        ("server", &[SESSION]),
        ("sealed", &[SESSION]),
        ("cookie", &plain),
    ];
    let (mut browser, mut ahead) = (None::<Browser>, Duration::ZERO);
    for (number, (carrier, expected)) in steps.iter().enumerate() {
        let gateway = Gateway::start(&place(&yaml(carrier, &line), &backend, &upstream)).await;
        gateway.skip(ahead);
        let mut moved = match &browser {
            Some(browser) => at(&gateway, browser),
            None => alice(&gateway).await,
        };
        let before = moved.jar.clone();
        let valid = moved.fetch("/page").await;
        assert_eq!((valid.status, valid.cookies().len(), &moved.jar), (200, 0, &before));
        if number % 2 == 1 {
            // Where the backend keeps the refresh token, it moves all the same.
            backend.fail_once(Fault::NoRefreshToken);
        }
        gateway.skip(EXPIRY);
        backend.skip(EXPIRY);
        ahead += EXPIRY;
        let renewed = moved.fetch("/page").await;
        assert_eq!((renewed.status, names(&moved)), (200, expected.to_vec()), "step {number}");
        assert_eq!(moved.fetch("/page").await.status, 200);
        browser = Some(moved);
    }
    assert_eq!(backend.counts(), Counts { grants: 7, reuses: 0, unknown: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_refresh_cookie_with_a_path_and_back_a_session_goes_on_as_well() {
    let redis = Redis::used().await;
    let line = format!("store: {{ kind: redis, url: \"{}\", key: {KEY} }}", redis.url());
    for carrier in BOTH {
        let (backend, upstream) = (Backend::start().await, Upstream::start().await);
        let started = async |carrier: &str, ahead: Duration| {
            let gateway = Gateway::start(&place(&yaml(carrier, &line), &backend, &upstream)).await;
            gateway.skip(ahead);
            gateway
        };
        let before = started(carrier, Duration::ZERO).await;
        let browser = alice(&before).await;
        backend.skip(EXPIRY);

        let path = started("path", EXPIRY).await;
        let mut there = at(&path, &browser);
        let moved = there.fetch("/page").await;
        let scoped = ["__Host-access", "__Host-bounced", "__Secure-refresh"];
        assert_eq!((moved.status, names(&there)), (200, scoped.to_vec()), "{carrier}");

        let back = started(carrier, 2 * EXPIRY).await;
        backend.skip(EXPIRY);
        let mut back = at(&back, &there);
        let renewed = post("/_evergate/refresh", "").fetch().header("X-Evergate", "1");
        let renewed = back.send(renewed).await;
        // What the refresh path remembers of a browser runs out by itself.
        let kept = vec!["__Host-bounced", SESSION];
        assert_eq!((renewed.status, names(&back)), (200, kept), "{carrier}");
        assert_eq!(back.fetch("/page").await.status, 200);
        assert_eq!(backend.counts(), Counts { grants: 2, reuses: 0, unknown: 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_shared_store_a_restart_is_a_login_and_a_strangers_handle_is_nobody() {
    let world = world("server").await;
    let mut browser = alice(&world.gateway).await;
    assert_eq!(browser.fetch("/page").await.status, 200);
    let restarted = another(&world, "server", "").await;

    let after = at(&restarted, &browser).fetch("/page").await;
    let mut stranger = at(&world.gateway, &browser);
    stranger.jar.insert(SESSION.into(), "h1.AAAAAAAAAAAAAAAAAAAAAA".into());
    let optional = stranger.fetch("/optional/x").await;
    let stranger = stranger.fetch("/page").await;

    assert_eq!(answer(&after), refused("no_credentials"));
    assert_eq!(answer(&stranger), refused("no_credentials"));
    assert_eq!((optional.status, world.backend.token_calls()), (200, 0));
    assert!(world.upstream.record.last().head.all("x-forwarded-user").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_know_a_session_however_it_is_carried() {
    for carrier in BOTH {
        let world = world(carrier).await;
        let mut browser = alice(&world.gateway).await;
        world.skip(WINDOW);

        let session = browser.fetch("/_evergate/session").await;
        let ask = post("/_evergate/refresh", "").fetch().header("X-Evergate", "1");
        let refreshed = browser.send(ask.header("Origin", "http://app.test")).await;

        assert_eq!(session.json()["user"], "alice", "{carrier}");
        assert_eq!((refreshed.status, world.backend.counts()), (200, ONE_GRANT));
        assert_eq!(refreshed.cookies().keys().collect::<Vec<_>>(), [SESSION]);
        assert_eq!(browser.fetch("/page").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_wants_the_access_token_gets_the_newest() {
    for carrier in BOTH {
        let route = "  - { path: /api/*, pass_access_token: true }\n";
        let world = World::with(&(yaml(carrier, &keys(KEY)) + route)).await;
        let mut browser = alice(&world.gateway).await;
        let mut passed = Vec::new();
        for _ in 0..2 {
            assert_eq!(browser.fetch("/api/x").await.status, 200, "{carrier}");
            passed.push(world.upstream.record.last().head.all("authorization").concat());
            world.skip(EXPIRY);
        }
        assert!(passed.iter().all(|value| value.starts_with("Bearer eyJ")), "{passed:?}");
        assert_ne!(passed[0], passed[1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_follows_the_session_that_its_cookie_stood_for() {
    for carrier in BOTH {
        let world = world(carrier).await;
        world.backend.grant_claim("sid", "s-1");
        let mut browser = alice(&world.gateway).await;
        let events = with(get("/events?gap=600000").event_stream(), &browser.jar);
        let open = tokio::spawn(events.send(world.gateway.address));
        eventually("it is open", async || world.upstream.record.count() == 1).await;
        sleep(Duration::from_millis(200)).await;

        // Another tab renews the session: the stream outlives the token that opened it.
        world.skip(EXPIRY);
        assert_eq!(browser.fetch("/page").await.status, 200, "{carrier}");
        world.skip(Duration::from_secs(60));
        sleep(Duration::from_secs(3)).await;
        assert!(!open.is_finished(), "{carrier}: cut though the session lives");

        browser.send(form("/_evergate/logout")).await;
        let since = Instant::now();
        eventually("it is cut", async || open.is_finished()).await;
        assert!(since.elapsed() < Duration::from_secs(1), "{carrier}");
    }
}

/// Two gateways that share a Redis, with `carrier: server`.
struct Two {
    backend: Backend,
    upstream: Upstream,
    redis: Redis,
    gateways: [Gateway; 2],
}

impl Two {
    async fn start() -> Two {
        let redis = Redis::used().await;
        let line = format!("store: {{ kind: redis, url: \"{}\", key: {KEY} }}", redis.url());
        let (backend, upstream) = (Backend::start().await, Upstream::start().await);
        let yaml = place(&yaml("server", &line), &backend, &upstream);
        let gateways = [Gateway::start(&yaml).await, Gateway::start(&yaml).await];
        Two { backend, upstream, redis, gateways }
    }

    fn skip(&self, time: Duration) {
        self.backend.skip(time);
        self.gateways.iter().for_each(|gateway| gateway.skip(time));
    }

    async fn page(&self, gateway: usize, browser: &Browser) -> Reply {
        at(&self.gateways[gateway], browser).fetch("/page").await
    }

    /// The names under which tokens are held.
    async fn held(&self) -> Vec<String> {
        self.redis.command(&["KEYS", "evergate:held:*"]).await
    }

    /// Waits until this gateway asks the store again.
    async fn back(&self, gateway: usize, browser: &Browser) {
        eventually("the store is asked again", async || {
            let metrics = self.gateways[gateway].metrics().await;
            self.page(gateway, browser).await;
            metrics.value("evergate_store_degraded") == 0.0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_is_good_at_every_gateway_and_nobody_reads_it_in_the_store() {
    let two = Two::start().await;
    let browser = alice(&two.gateways[0]).await;
    two.skip(EXPIRY);
    two.backend.fail_once(Fault::Delay(Duration::from_millis(100)));

    let replies = join_all((0..20).map(|number| two.page(number % 2, &browser))).await;
    let next = [two.page(0, &browser).await, two.page(1, &browser).await];
    two.skip(EXPIRY);
    let later = two.page(1, &browser).await;

    assert_eq!(client::statuses(&replies), [200; 20]);
    assert_eq!((client::statuses(&next), later.status), (vec![200; 2], 200));
    assert_eq!(two.backend.counts(), Counts { grants: 2, reuses: 0, unknown: 0 });
    let names = two.held().await;
    assert_eq!(names.len(), 1, "one login, one handle: {names:?}");
    let value: Vec<u8> = two.redis.command(&["GET", &names[0]]).await;
    let text = format!("{}{}", names[0], String::from_utf8_lossy(&value));
    for secret in ["alice", "rt-", "eyJ", &browser.jar[SESSION][3..]] {
        assert!(!text.contains(secret), "the store shows {secret}");
    }
    let life: i64 = two.redis.command(&["PTTL", &names[0]]).await;
    assert!((1..=25 * 3_600_000).contains(&life), "{life}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_at_one_gateway_takes_the_handle_from_all() {
    let two = Two::start().await;
    let mut browser = alice(&two.gateways[0]).await;
    let old = at(&two.gateways[0], &browser);
    assert_eq!(two.page(1, &browser).await.status, 200);

    let out = browser.send(form("/_evergate/logout")).await;

    assert_eq!((out.status, two.held().await.len()), (303, 0));
    for gateway in [0, 1] {
        assert_eq!(answer(&two.page(gateway, &old).await), refused("no_credentials"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_other_cookies_than_the_handle_again_and_again_draws_one_handle() {
    let two = Two::start().await;
    let pair = two.backend.login("alice", Token::expired);
    let sealed = with_sealed(get("/page").fetch(), "default", &pair.refresh);
    let plain = get("/page").fetch().header("Cookie", &format!("__Host-refresh={}", pair.refresh));

    let mut handles = BTreeSet::new();
    for number in 0..20 {
        let ask = if number % 3 == 0 { sealed.clone() } else { plain.clone() };
        let reply = ask.send(two.gateways[number % 2].address).await;
        assert_eq!(reply.status, 200);
        handles.insert(reply.cookies()[SESSION].value.clone());
    }

    assert_eq!((handles.len(), two.held().await.len()), (1, 1), "{handles:?}");
    assert_eq!(two.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_carrier_became_path_the_refresh_path_removes_what_a_refused_handle_held() {
    let two = Two::start().await;
    let browser = alice(&two.gateways[0]).await;
    let line = format!("store: {{ kind: redis, url: \"{}\", key: {KEY} }}", two.redis.url());
    let path = Gateway::start(&place(&yaml("path", &line), &two.backend, &two.upstream)).await;
    two.skip(EXPIRY);
    path.skip(EXPIRY);
    two.backend.fail(Fault::Refuse { status: 400, error: "invalid_grant", retry_after: None });
    assert_eq!(two.held().await.len(), 1);

    let reply = at(&path, &browser).navigate("/_evergate/refresh").await;

    assert_eq!((reply.status, two.held().await.len()), (302, 0), "{:?}", reply.headers());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_store_logs_nobody_out_and_nobody_waits_for_it() {
    for killed in [false, true] {
        let mut two = Two::start().await;
        let browser = alice(&two.gateways[0]).await;
        assert_eq!(two.page(0, &browser).await.status, 200);
        match killed {
            true => two.redis.kill(),
            false => two.redis.pause(),
        }

        let since = Instant::now();
        let replies = join_all((0..20).map(|_| two.page(0, &browser))).await;
        let took = since.elapsed();
        let stranger = two.page(1, &browser).await;
        let public = at(&two.gateways[1], &browser).fetch("/static/x").await;

        assert_eq!(client::statuses(&replies), [200; 20], "as it was before");
        assert!(took < Duration::from_secs(1), "{took:?} for all: 50 ms and the machine's own");
        assert_eq!((stranger.status, stranger.reason().as_str()), (503, "store_unavailable"));
        assert_eq!(stranger.head.all("retry-after"), ["1"]);
        assert!(stranger.cookies().is_empty());
        assert_eq!(public.status, 200);
        if killed {
            // It has forgotten everything.
            two.redis.restart().await;
            two.back(0, &browser).await;
            assert_eq!(answer(&two.page(0, &browser).await), refused("no_credentials"));
            let again = alice(&two.gateways[0]).await;
            assert_eq!(two.page(0, &again).await.status, 200);
        } else {
            two.redis.resume();
            two.back(1, &browser).await;
            assert_eq!(two.page(1, &browser).await.status, 200, "nobody was logged out");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_in_or_is_renewed_without_the_store_has_a_sealed_session_until_it_is_back() {
    let two = Two::start().await;
    two.redis.pause();
    let mut browser = alice(&two.gateways[0]).await;
    assert!(browser.jar[SESSION].starts_with("s1."), "{}", browser.jar[SESSION]);
    for gateway in [0, 1] {
        assert_eq!(two.page(gateway, &browser).await.status, 200);
    }

    two.redis.resume();
    two.back(0, &browser).await;
    two.skip(EXPIRY);
    let reply = browser.fetch("/page").await;

    assert_eq!((reply.status, names(&browser)), (200, vec![SESSION]));
    assert!(browser.jar[SESSION].starts_with("h1."), "{}", browser.jar[SESSION]);
    two.back(1, &browser).await;
    assert_eq!(two.page(1, &browser).await.status, 200);
    assert_eq!(two.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_without_the_store_is_told_when_it_is_back() {
    let two = Two::start().await;
    let mut browser = alice(&two.gateways[0]).await;
    let old = at(&two.gateways[0], &browser);
    assert_eq!(two.page(0, &browser).await.status, 200);
    two.redis.pause();

    let out = browser.send(form("/_evergate/logout")).await;
    let meanwhile = two.page(0, &old).await;
    two.redis.resume();
    two.back(0, &old).await;
    two.back(1, &old).await;

    assert_eq!((out.status, answer(&meanwhile)), (303, refused("no_credentials")));
    for gateway in [0, 1] {
        assert_eq!(answer(&two.page(gateway, &old).await), refused("no_credentials"));
    }
    assert_eq!(two.held().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_store_too_only_who_has_read_the_newest_pair_writes_and_never_after_a_logout() {
    let redis = Redis::start().await;
    let one = || {
        let address = StoreAddress::parse(&redis.url()).expect("a URL of ours");
        let settings = StoreSettings { address, password: None, key: Secret::new(KEY) };
        let store = std::sync::Arc::new(Store::open(&settings, "one", Duration::from_secs(5)));
        HeldTokens::new(10, Sealer::new(&settings.key).expect("a key"), Some(store))
    };
    let pair =
        |name: &str| Kept { issuer: "main".into(), access: Some(Secret::new(name)), refresh: None };
    let (here, there, now, life) = (one(), one(), clock::now(), Duration::from_secs(60));
    let handle = here.hold(pair("1"), life, now).await.expect("stored");
    let read = async |gateway: &HeldTokens| gateway.find(handle, now).await.expect("answered");
    let (_, slow) = read(&here).await.expect("held");
    let (_, quick) = read(&there).await.expect("held");

    assert_eq!(there.replace(quick, pair("3"), life, now).await, Ok(true));
    assert_eq!(here.replace(slow, pair("2"), life, now).await, Ok(false));
    let (newest, place) = read(&here).await.expect("held");
    assert_eq!(*newest, pair("3"));

    here.remove_unchanged(slow, now).await;
    assert!(read(&there).await.is_some(), "it has become another's");
    there.remove(quick, now).await;
    assert_eq!(here.replace(place, pair("4"), life, now).await, Ok(false));
    assert!(read(&here).await.is_none() && read(&there).await.is_none());
    let left: i64 = redis.command(&["DBSIZE"]).await;
    assert_eq!(left, 0);
}

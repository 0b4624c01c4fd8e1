//! Leaving: `{gateway_path}/logout`, and the auth backend's own logout page.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::support::backend::Pair;
use super::support::fleet::Fleet;
use super::support::*;

const LOGOUT: &str = "/_evergate/logout";

/// As a form of ours is sent.
fn form(target: &str) -> Ask {
    post(target, "")
        .header("Accept", "text/html")
        .header("Sec-Fetch-Mode", "navigate")
        .header("Sec-Fetch-Dest", "document")
        .header("Sec-Fetch-Site", "same-origin")
}

fn page(pair: &Pair) -> Ask {
    get("/page").pair(pair)
}

fn refresh_alone(pair: &Pair) -> Ask {
    get("/page").header("Cookie", &format!("__Host-refresh={}", pair.refresh))
}

async fn with_revocation(path: &str) -> World {
    let keys = format!("s3cret, revocation_url: \"http://BACKEND{path}\" }}");
    World::changed("s3cret }", &keys).await
}

fn revocations(world: &World) -> Vec<String> {
    let seen = world.backend.record.all().into_iter().filter(|seen| seen.target == "/revoke");
    seen.map(|seen| String::from_utf8_lossy(&seen.body).to_string()).collect()
}

/// Status and reason of what these tokens get now.
async fn is_over(world: &World, pair: &Pair) {
    let with_both = page(pair).send(world.gateway.address).await;
    let with_bearer = get("/page").bearer(&pair.access).send(world.gateway.address).await;
    let alone = refresh_alone(pair).send(world.gateway.address).await;
    let answers = [with_both, with_bearer, alone].map(|reply| (reply.status, reply.reason()));
    let expected = ["revoked", "revoked", "refresh_refused"];
    assert_eq!(answers, expected.map(|reason| (401, reason.to_string())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_leaves_and_nothing_of_the_session_works_any_more() {
    let world = with_revocation("/revoke").await;
    let pair = world.backend.login("alice", |token| token.claim("sid", "s-1"));
    assert_eq!(page(&pair).send(world.gateway.address).await.status, 200);

    let target = format!("{LOGOUT}?return_to=%2Fbye%3Fx%3D1");
    let reply = form(&target).pair(&pair).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.head.all("location")), (303, vec!["/bye?x=1"]));
    assert_eq!(reply.head.all("cache-control"), ["no-store"]);
    let cleared: Vec<_> = reply.cookies().into_iter().map(|(n, c)| (n, c.clears())).collect();
    assert_eq!(cleared, [("__Host-access".into(), true), ("__Host-refresh".into(), true)]);
    is_over(&world, &pair).await;
    let body = format!("token={}&token_type_hint=refresh_token", pair.refresh);
    assert_eq!(revocations(&world), [body]);
    assert!(!world.backend.is_alive(&pair.refresh));
    assert_eq!((world.backend.token_calls(), world.upstream.record.count()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_answered_204_and_a_second_logout_is_as_fine_as_the_first() {
    let world = with_revocation("/revoke").await;
    let pair = world.backend.login("alice", |token| token);
    let leave = || post(LOGOUT, "").fetch().header("X-Evergate", "1");

    let replies = [
        leave().pair(&pair).send(world.gateway.address).await,
        leave().pair(&pair).send(world.gateway.address).await,
        leave().send(world.gateway.address).await,
    ];

    assert_eq!(client::statuses(&replies), [204, 204, 204]);
    is_over(&world, &pair).await;
    assert_eq!(revocations(&world).len(), 1, "a spent or ended token is not shown again");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_refresh_token_is_revoked_and_every_access_token_of_the_sid_denied() {
    let world = with_revocation("/revoke").await;
    world.backend.grant_claim("sid", "s-1");
    let old = world.backend.login("alice", |token| token.in_window().claim("sid", "s-1"));
    let new = page(&old).send(world.gateway.address).await.new_pair().expect("renewed");

    let reply = form(LOGOUT).pair(&old).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.head.all("location")), (303, vec!["/"]));
    assert_eq!(
        revocations(&world),
        [format!("token={}&token_type_hint=refresh_token", new.refresh)]
    );
    is_over(&world, &old).await;
    is_over(&world, &new).await;
    assert_eq!(world.backend.counts().reuses, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_without_a_sid_are_denied_each_by_its_jti() {
    let world = World::start().await;
    let old = world.backend.login("alice", Token::in_window);
    let new = page(&old).send(world.gateway.address).await.new_pair().expect("renewed");

    form(LOGOUT).pair(&old).send(world.gateway.address).await;

    is_over(&world, &old).await;
    is_over(&world, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_login_works_though_the_backend_keeps_the_sid() {
    let world = World::start().await;
    let login = || world.backend.login("alice", |token| token.claim("sid", "s-1"));
    let first = login();
    form(LOGOUT).pair(&first).send(world.gateway.address).await;
    world.skip(Duration::from_secs(1));

    let again = login();

    assert_eq!(page(&again).send(world.gateway.address).await.status, 200);
    is_over(&world, &first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn get_asks_first_and_ends_nothing() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token);

    let reply = get(LOGOUT).navigation().pair(&pair).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    assert!(reply.text().contains("<form method=\"post\"><button>Log out</button></form>"));
    let headers = [
        "cache-control: no-store",
        "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; form-action \
         'self'; frame-ancestors 'none'",
        "content-type: text/html; charset=utf-8",
        "cross-origin-resource-policy: same-origin",
        "referrer-policy: same-origin",
        "x-content-type-options: nosniff",
    ];
    let mut shown = reply.headers();
    shown.retain(|line| !line.ends_with(": *"));
    assert_eq!(shown, set(headers));
    assert_eq!(page(&pair).send(world.gateway.address).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_logs_nobody_out() {
    let world = with_revocation("/revoke").await;
    let pair = world.backend.login("alice", |token| token);
    let forged = [
        post(LOGOUT, "").header("Sec-Fetch-Site", "cross-site"),
        post(LOGOUT, "").header("Sec-Fetch-Site", "same-site"),
        post(LOGOUT, "").header("Origin", "https://evil.test"),
        post(LOGOUT, "").header("Origin", "null"),
        post(LOGOUT, ""),
        post(LOGOUT, "").header("X-Evergate", "1").header("Origin", "https://evil.test"),
    ];
    for ask in forged {
        let reply = ask.pair(&pair).send(world.gateway.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (403, "cross_site"));
        assert!(reply.cookies().is_empty());
    }
    assert_eq!(page(&pair).send(world.gateway.address).await.status, 200);
    assert!(revocations(&world).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_does_not_answer_keeps_nobody_logged_in() {
    for path in ["/hang", "/no-such-page"] {
        let world = with_revocation(path).await;
        let pair = world.backend.login("alice", |token| token);

        let since = Instant::now();
        let reply = form(LOGOUT).pair(&pair).send(world.gateway.address).await;

        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
        assert_eq!(reply.status, 303, "{path}");
        is_over(&world, &pair).await;
        let failed = "evergate_backend_revocations_total{issuer=\"default\",result=\"failed\"}";
        eventually("it is counted", async || world.gateway.metrics().await.value(failed) == 1.0)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_client_leaves_with_its_token() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();

    let reply = post(LOGOUT, "").bearer(&token).send(world.gateway.address).await;

    assert_eq!(reply.status, 204);
    let after = get("/page").bearer(&token).send(world.gateway.address).await;
    assert_eq!((after.status, after.reason().as_str()), (401, "revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_site_data_is_the_operators_to_want() {
    for (keys, expected) in [
        ("listen:", vec![]),
        ("logout: { clear_site_data: true }\nlisten:", vec!["\"cache\", \"storage\""]),
    ] {
        let world = World::changed("listen:", keys).await;
        let reply = form(LOGOUT).send(world.gateway.address).await;
        assert_eq!(reply.head.all("clear-site-data"), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backends_own_logout_page_denies_the_access_token_too() {
    let world = World::start().await;
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    let pair = Pair {
        access: browser.jar["__Host-access"].clone(),
        refresh: browser.jar["__Host-refresh"].clone(),
    };

    browser.submit("/auth/logout", "").await;

    is_over(&world, &pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_left_at_one_gateway_has_left_at_all_within_a_second() {
    let fleet = Fleet::of(2, "", "").await;
    let pair = fleet.backend.login("alice", |token| token);
    assert_eq!(fleet.send(1, page(&pair)).await.status, 200);

    let reply = fleet.send(0, form(LOGOUT).pair(&pair)).await;
    let since = Instant::now();
    let alone = fleet.send(1, refresh_alone(&pair)).await;
    while fleet.send(1, page(&pair)).await.status == 200 && since.elapsed().as_secs() < 5 {
        sleep(Duration::from_millis(20)).await;
    }

    assert_eq!(reply.status, 303);
    assert_eq!(alone.reason(), "refresh_refused");
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(fleet.send(1, page(&pair)).await.reason(), "revoked");
}

/// A world whose backend's discovery document says this from the beginning.
async fn announced(members: &[(&'static str, &'static str)], refresh: &str, issuer: &str) -> World {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    for (name, value) in members {
        backend.announce(name, value);
    }
    let yaml = STANDARD
        .replace("s3cret }", &format!("s3cret{refresh} }}"))
        .replace("audience: legacy-app", &format!("audience: legacy-app{issuer}"));
    let gateway = Gateway::start(&world::place(&yaml, &backend, &upstream)).await;
    World { backend, upstream, gateway }
}

/// Logs in and leaves; what the backend was asked to revoke until then.
async fn revoked_by_leaving(world: &World) -> (Pair, Vec<String>) {
    let pair = world.backend.login("alice", |token| token);
    assert_eq!(page(&pair).send(world.gateway.address).await.status, 200);
    let reply = form(LOGOUT).pair(&pair).send(world.gateway.address).await;
    assert_eq!(reply.status, 303);
    (pair, revocations(world))
}

const REVOKE: (&str, &str) = ("revocation_endpoint", "BACKEND/revoke");

#[tokio::test(flavor = "multi_thread")]
async fn where_to_revoke_is_known_by_discovery() {
    let world = announced(&[REVOKE], "", "").await;

    let (pair, asked) = revoked_by_leaving(&world).await;

    assert_eq!(asked, [format!("token={}&token_type_hint=refresh_token", pair.refresh)]);
    assert!(!world.backend.is_alive(&pair.refresh));
    let seen = world.backend.record.all();
    let seen = seen.iter().find(|seen| seen.target == "/revoke").expect("asked");
    assert_eq!(seen.head.all("authorization").len(), 1, "the client proves itself");
    is_over(&world, &pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_to_revoke_who_is_not_meant_or_not_safe() {
    let keys = ", keys: { url: \"http://BACKEND/jwks\" }";
    for (members, refresh, issuer) in [
        (&[][..], "", ""),
        (&[REVOKE], ", revocation_url: none", ""),
        // Keys from elsewhere: nobody reads the document.
        (&[REVOKE], "", keys),
        // The document is about another server than the one that renews.
        (&[REVOKE, ("token_endpoint", "BACKEND/oauth/token")], "", ""),
        (&[REVOKE, ("token_endpoint", "https://id.example/token")], "", ""),
        // Nowhere that a secret may be sent to.
        (&[("revocation_endpoint", "http://10.255.255.1/revoke")], "", ""),
        (&[("revocation_endpoint", "/revoke")], "", ""),
    ] {
        let world = announced(members, refresh, issuer).await;
        let since = Instant::now();
        let (pair, asked) = revoked_by_leaving(&world).await;
        assert!(asked.is_empty(), "{members:?} {refresh} {issuer}: {asked:?}");
        assert!(since.elapsed() < Duration::from_millis(1_500), "{:?}", since.elapsed());
        is_over(&world, &pair).await;
        let metrics = world.gateway.metrics().await;
        assert_eq!(metrics.sum("evergate_backend_revocations_total"), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_endpoint_that_is_announced_later_is_found_with_the_next_keys() {
    let world = announced(&[], "", ", jwks: { ttl: 1s, min_interval: 100ms }").await;
    assert!(revoked_by_leaving(&world).await.1.is_empty());

    world.backend.announce(REVOKE.0, REVOKE.1);

    eventually("it is found", async || !revoked_by_leaving(&world).await.1.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_waits_for_no_discovery() {
    let mut world = announced(&[REVOKE], "", "").await;
    let pair = world.backend.login("alice", |token| token);
    world.backend.stop();
    let fresh = Gateway::start(&world::place(STANDARD, &world.backend, &world.upstream)).await;

    let since = Instant::now();
    let reply = form(LOGOUT).header("Cookie", &format!("__Host-refresh={}", pair.refresh));
    let reply = reply.send(fresh.address).await;

    assert_eq!(reply.status, 303);
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(fresh.metrics().await.sum("evergate_backend_revocations_total"), 0.0);
}

//! The gateway's own endpoints: what is left of a session, a page that has it renewed, and the
//! script that does so by itself.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::support::backend::{Counts, Pair};
use super::support::client::{ask, statuses, the_pair};
use super::support::keys::{LIFE_S, now};
use super::support::*;

const SESSION: &str = "/_evergate/session";
const REFRESH: &str = "/_evergate/refresh";
const SCRIPT: &str = "/_evergate/script.js";
const NO_GRANT: Counts = Counts { grants: 0, reuses: 0, unknown: 0 };
const ONE_GRANT: Counts = Counts { grants: 1, reuses: 0, unknown: 0 };

/// What a page of ours sends.
fn wish() -> Ask {
    post(REFRESH, "").fetch().header("Origin", "https://app.test").header("X-Evergate", "1")
}

fn in_window(world: &World) -> Pair {
    world.backend.login("alice", Token::in_window)
}

/// What the session endpoint says, less the gateway's time, which has to be right.
async fn told(world: &World, ask: Ask) -> Value {
    let reply = ask.send(world.gateway.address).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    without_time(&reply)
}

fn without_time(reply: &Reply) -> Value {
    let mut told = reply.json();
    let time = told.as_object_mut().expect("an object").remove("server_time");
    let time = time.and_then(|time| time.as_u64()).expect("seconds");
    assert!(now().abs_diff(time) <= 2, "{time}");
    told
}

fn nobody() -> Value {
    json!({
        "active": false, "access_expires_in": null, "refresh_in": null,
        "refresh_expires_in": null, "session_expires_in": null, "idle_expires_in": null,
        "user": null,
    })
}

fn seconds(told: &Value, key: &str) -> u64 {
    told[key].as_u64().unwrap_or_else(|| panic!("{key} in {told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_told_in_seconds_left_and_costs_the_backend_nothing() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token);

    let told = told(&world, get(SESSION).fetch().pair(&pair)).await;

    let (left, wait) = (seconds(&told, "access_expires_in"), seconds(&told, "refresh_in"));
    assert!((LIFE_S - 10..=LIFE_S - 5).contains(&left), "{told}");
    // The window is 90 s, and its beginning is spread over 70 to 100 % of it.
    assert!((left - 90..=left - 63).contains(&wait), "{told}");
    assert_eq!(told["user"], "alice");
    assert_eq!((told["active"].as_bool(), &told["refresh_expires_in"]), (Some(true), &Value::Null));
    assert_eq!((world.backend.token_calls(), world.upstream.record.count()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_that_nobody_is_logged_in() {
    let world = World::start().await;
    let expired = world.backend.token("alice").expired().sign();
    let forged = tampered(&world.backend.token("alice").sign());
    for ask in [get(SESSION), get(SESSION).access(&expired), get(SESSION).access(&forged)] {
        assert_eq!(told(&world, ask).await, nobody());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_can_be_renewed_is_active_and_due_at_once() {
    let world = World::start().await;
    let expired = world.backend.login("alice", Token::expired);
    let due = |user: Value, left: u64| {
        json!({
            "active": true, "access_expires_in": left, "refresh_in": 0,
            "refresh_expires_in": null, "session_expires_in": null, "idle_expires_in": null,
            "user": user,
        })
    };
    let only = format!("__Host-refresh={}", expired.refresh);

    assert_eq!(told(&world, get(SESSION).pair(&expired)).await, due("alice".into(), 0));
    assert_eq!(told(&world, get(SESSION).header("Cookie", &only)).await, due(Value::Null, 0));
    assert_eq!(world.backend.token_calls(), 0);

    world.backend.fail(Fault::Refuse { status: 400, error: "invalid_grant", retry_after: None });
    get("/page").fetch().pair(&expired).send(world.gateway.address).await;
    assert_eq!(told(&world, get(SESSION).pair(&expired)).await, nobody(), "it is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_is_told_how_long_it_lasts_and_has_nothing_to_refresh_with() {
    let world = World::start().await;
    let told = told(&world, get(SESSION).bearer(&world.backend.token("alice").sign())).await;
    assert_eq!((&told["active"], &told["refresh_in"]), (&json!(true), &Value::Null));
    assert!(seconds(&told, "access_expires_in") > 0);

    let bearer = wish().bearer(&world.backend.token("alice").sign());
    let reply = bearer.send(world.gateway.address).await;
    assert_eq!((reply.status, reply.reason().as_str()), (409, "nothing_to_refresh"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_the_refresh_token_is_told_where_the_backend_tells_it() {
    let yaml = STANDARD.replace("/token\", client_id", "/refresh\", protocol: cookie, client_id");
    let yaml = yaml.replace(", client_id: evergate, client_secret: s3cret", "");
    let world = World::with(&yaml).await;

    let pair = wish().pair(&in_window(&world)).send(world.gateway.address).await.new_pair();
    let told = told(&world, get(SESSION).pair(&pair.expect("cookies"))).await;

    assert!((3590..=3600).contains(&seconds(&told, "refresh_expires_in")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_its_session_renewed_and_hears_what_is_left() {
    let world = World::start().await;

    let reply = wish().pair(&in_window(&world)).send(world.gateway.address).await;

    assert_eq!(reply.status, 200, "{}", reply.text());
    let told = without_time(&reply);
    assert!(seconds(&told, "access_expires_in") >= LIFE_S - 2, "{told}");
    let names: Vec<String> = reply.cookies().into_keys().collect();
    assert_eq!(names, ["__Host-access", "__Host-refresh"]);
    let next = get("/page").pair(&reply.new_pair().expect("cookies"));
    assert_eq!(next.send(world.gateway.address).await.status, 200);
    assert_eq!(world.backend.counts(), ONE_GRANT);
    let metrics = world.gateway.metrics().await;
    let total = "evergate_refresh_total{issuer=\"default\",result=\"ok\",trigger=\"client\"}";
    assert_eq!(metrics.value(total), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_a_flight_is_on_its_way_joins_it() {
    let world = World::start().await;
    let old = in_window(&world);
    world.backend.fail_once(Fault::Delay(Duration::from_millis(300)));

    let pages = (0..10).map(|_| wish().pair(&old).send(world.gateway.address));
    let replies = join_all(pages).await;

    assert_eq!(statuses(&replies), [200; 10]);
    assert!(!the_pair(&replies).refresh.is_empty());
    assert_eq!(world.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_again_asks_nobody() {
    let world = World::start().await;
    let old = in_window(&world);

    let first = wish().pair(&old).send(world.gateway.address).await;
    let new = first.new_pair().expect("cookies");
    let lost = wish().pair(&old).send(world.gateway.address).await;
    let again = wish().pair(&new).send(world.gateway.address).await;

    assert_eq!((lost.status, lost.new_pair()), (200, Some(new)), "a lost answer is given again");
    assert_eq!((again.status, again.new_pair()), (200, None), "a fresh token needs nothing");
    assert!(seconds(&again.json(), "refresh_in") > 0);
    assert_eq!(world.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_renewed_as_well() {
    let world = World::start().await;
    let old = world.backend.login("alice", Token::expired);
    let reply = wish().pair(&old).send(world.gateway.address).await;
    assert_eq!((reply.status, reply.json()["user"].as_str()), (200, Some("alice")));
    assert!(reply.new_pair().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_is_401_and_none_at_all_is_409() {
    let world = World::start().await;
    let pair = in_window(&world);
    world.backend.fail(Fault::Refuse { status: 400, error: "invalid_grant", retry_after: None });

    let dead = wish().pair(&pair).send(world.gateway.address).await;
    let none = wish().access(&pair.access).send(world.gateway.address).await;

    assert_eq!((dead.status, dead.reason().as_str()), (401, "refresh_refused"));
    assert_eq!((none.status, none.reason().as_str()), (409, "nothing_to_refresh"));
    assert_eq!((dead.new_pair(), none.new_pair()), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_down_gives_503_and_says_when_to_come_back() {
    let mut world = World::start().await;
    let pair = in_window(&world);
    // The keys are known before it goes.
    assert_eq!(get(SESSION).pair(&pair).send(world.gateway.address).await.status, 200);
    world.backend.stop();

    let reply = wish().pair(&pair).send(world.gateway.address).await;
    let page = get("/page").pair(&pair).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.reason().as_str()), (503, "refresh_unavailable"));
    let wait = reply.head.get("retry-after").and_then(|wait| wait.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| (1..=60).contains(&wait)), "{wait:?}");
    assert_eq!(page.status, 200, "the token still holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_our_own_page_has_a_session_renewed() {
    let world = World::start().await;
    let pair = in_window(&world);
    let bare = || post(REFRESH, "").pair(&pair);
    let ours = || bare().header("X-Evergate", "1");
    for (what, ask) in [
        ("no header", bare()),
        ("another header", bare().header("X-Evergate", "true")),
        ("a form", bare().navigation().header("Origin", "http://app.test")),
        ("cross-site", ours().header("Sec-Fetch-Site", "cross-site")),
        ("a sibling", ours().header("Sec-Fetch-Site", "same-site")),
        ("typed in", ours().header("Sec-Fetch-Site", "none")),
        ("another origin", ours().header("Origin", "https://evil.test")),
        ("another port", ours().header("Origin", "https://app.test:8443")),
        ("an opaque origin", ours().header("Origin", "null")),
    ] {
        let reply = ask.send(world.gateway.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (403, "cross_site"), "{what}");
    }
    assert_eq!(world.backend.counts(), NO_GRANT);
    assert_eq!(ours().send(world.gateway.address).await.status, 200, "an old browser of ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_origin_is_granted_no_preflight() {
    let world = World::start().await;
    let preflight = ask("OPTIONS", REFRESH)
        .header("Origin", "https://evil.test")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "x-evergate");
    let reply = preflight.send(world.gateway.address).await;
    assert_eq!((reply.status, reply.head.get("allow")), (405, Some("POST")));
    assert_eq!(reply.head.get("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_s_refresh_cookie_never_renews_another_s_session() {
    let world = World::start().await;
    let (alice, mallory) = (in_window(&world), world.backend.login("mallory", Token::in_window));
    let mixed = Pair { access: alice.access, refresh: mallory.refresh };
    let reply = wish().pair(&mixed).send(world.gateway.address).await;
    assert_eq!((reply.status, reply.reason().as_str()), (401, "refresh_refused"));
    assert_eq!(reply.new_pair(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_twice_or_is_too_long_is_refused() {
    let world = World::start().await;
    let twice = wish().header("Cookie", "__Host-refresh=a; __Host-refresh=b");
    let long = wish().body(&"x".repeat(64 * 1024 + 1));
    let (twice, long) =
        (twice.send(world.gateway.address).await, long.send(world.gateway.address).await);
    assert_eq!((twice.status, twice.reason().as_str()), (400, "duplicate_credential"));
    assert!(twice.cookies()["__Host-refresh"].clears());
    assert_eq!((long.status, long.reason().as_str()), (413, "body_too_large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_below_the_path_is_the_gateway_s_and_no_route_s() {
    let world = World::with(&STANDARD.replace("path: /* }", "path: /*, auth: public }")).await;
    for (method, target, expected) in [
        ("GET", "/_evergate", (404, None)),
        ("GET", "/_evergate/", (404, None)),
        ("GET", "/_evergate/session/", (404, None)),
        ("GET", "/_evergate/admin", (404, None)),
        ("POST", SESSION, (405, Some("GET, HEAD"))),
        ("GET", REFRESH, (405, Some("POST"))),
        ("DELETE", SCRIPT, (405, Some("GET, HEAD"))),
        ("GET", "/%5Fevergate/session", (200, None)),
        ("HEAD", SESSION, (200, None)),
    ] {
        let reply = ask(method, target).send(world.gateway.address).await;
        assert_eq!((reply.status, reply.head.get("allow")), expected, "{method} {target}");
    }
    assert_eq!(world.upstream.record.count(), 0);
    get("/_evergates").send(world.gateway.address).await;
    assert_eq!(world.upstream.record.lines(), ["GET /_evergates"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_path_moves_all_of_it() {
    let world = World::changed("listen:", "gateway_path: /.well-known/gate\nlisten:").await;
    let session = get("/.well-known/gate/session").send(world.gateway.address).await;
    let script = get("/.well-known/gate/script.js").send(world.gateway.address).await;
    let old = get(SESSION).fetch().send(world.gateway.address).await;
    assert_eq!((session.status, script.status), (200, 200));
    assert!(script.text().contains("const base = \"/.well-known/gate/\";"));
    assert_eq!(old.reason(), "no_credentials", "a path like any other");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answers_are_kept_nowhere_but_the_script_is_asked_for_anew() {
    let world = World::start().await;
    let session = get(SESSION).send(world.gateway.address).await;
    let script = get(SCRIPT).send(world.gateway.address).await;
    let tag = script.head.get("etag").expect("a tag").to_string();
    let known = get(SCRIPT).header("If-None-Match", &format!("\"x\", W/{tag}"));
    let known = known.send(world.gateway.address).await;
    let common = ["cross-origin-resource-policy: same-origin", "x-content-type-options: nosniff"];
    let own = |lines: [&str; 2]| {
        let mut all = set(common);
        all.extend(set(["x-request-id: *", "content-length: *"]));
        all.extend(set(lines));
        all
    };

    let json = ["cache-control: no-store", "content-type: application/json"];
    assert_eq!(session.headers(), own(json));
    let mut kept = own(["cache-control: no-cache", "content-type: text/javascript; charset=utf-8"]);
    kept.insert(format!("etag: {tag}"));
    assert_eq!(script.headers(), kept);
    assert!(script.body.len() < 2_048);
    assert_eq!((known.status, known.body.len(), known.head.get("etag")), (304, 0, Some(&*tag)));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_have_names_of_their_own_in_the_metrics() {
    let world = World::start().await;
    get(SESSION).send(world.gateway.address).await;
    post(REFRESH, "").send(world.gateway.address).await;
    for series in [
        "evergate_requests_total{code=\"200\",method=\"GET\",route=\"gateway:session\"}",
        "evergate_decisions_total{decision=\"serve\",reason=\"ok\",route=\"gateway:session\"}",
        "evergate_requests_total{code=\"403\",method=\"POST\",route=\"gateway:refresh\"}",
        "evergate_decisions_total{decision=\"answer\",reason=\"cross_site\",route=\"gateway:refresh\"}",
    ] {
        // Counted at the end of a request, which may be after its answer.
        eventually(series, async || world.gateway.metrics().await.value(series) == 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_hints_at_the_refresh_where_that_may_help() {
    let world =
        World::with(&format!("{STANDARD}  - {{ path: /b, credentials: [bearer] }}\n")).await;
    let expired = world.backend.token("alice").expired().sign();
    for (what, ask, hint) in [
        ("a fetch", get("/page").fetch(), Some(REFRESH)),
        ("a fetch with a cookie", get("/page").fetch().access(&expired), Some(REFRESH)),
        ("a navigation", get("/page").navigation(), None),
        ("a bearer", get("/page").fetch().bearer(&expired), None),
        ("a route without cookies", get("/b").fetch(), None),
        ("a missing page", get("/_evergate/x").fetch(), None),
    ] {
        let reply = ask.send(world.gateway.address).await;
        assert_eq!(reply.head.get("x-evergate-refresh"), hint, "{what}: {}", reply.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_the_session_confirms_nothing() {
    let world = World::start().await;
    let old = in_window(&world);
    let new = wish().pair(&old).send(world.gateway.address).await.new_pair().expect("cookies");

    told(&world, get(SESSION).pair(&new)).await;
    world.skip(Duration::from_secs(60));
    let lost = wish().pair(&old).send(world.gateway.address).await;

    assert_eq!(lost.status, 200, "the old token is no spent one: nobody has used the new one");
}

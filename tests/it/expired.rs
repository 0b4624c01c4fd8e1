//! An access token that has expired, or is missing, beside a refresh token: the request waits, is
//! served with the new identity, and nobody is asked twice.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::support::backend::{Counts, Pair};
use super::support::*;

const ONE_GRANT: Counts = Counts { grants: 1, reuses: 0, unknown: 0 };

fn expired(world: &World) -> Pair {
    world.backend.login("alice", Token::expired)
}

#[tokio::test(flavor = "multi_thread")]
async fn forty_parallel_requests_make_one_grant_and_the_old_cookie_works_on() {
    let world = World::start().await;
    let (old, address) = (expired(&world), world.gateway.address);
    world.backend.fail_once(Fault::Delay(Duration::from_millis(100)));

    let replies = join_all((0..40).map(|_| get("/page").pair(&old).send(address))).await;
    sleep(Duration::from_millis(40)).await;
    let soon = get("/page").pair(&old).send(address).await;
    world.skip(Duration::from_secs(5));
    let later = get("/page").pair(&old).send(address).await;

    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200; 40]);
    let pairs: BTreeSet<_> = replies
        .iter()
        .chain([&soon, &later])
        .map(|reply| reply.new_pair().expect("cookies on every reply"))
        .map(|pair| (pair.access, pair.refresh))
        .collect();
    assert_eq!(pairs.len(), 1, "every reply carries the same cookies");
    assert_eq!((soon.status, later.status), (200, 200));
    assert_eq!(world.backend.counts(), ONE_GRANT);
    assert!(world.backend.is_alive(&old.refresh), "the family lives");
    assert_eq!(world.upstream.record.count(), 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_cookies_carry_the_gateways_attributes_and_work() {
    let world = World::start().await;
    let mut browser = Browser::new(world.gateway.address);
    let old = expired(&world);
    browser.jar =
        [("__Host-access".into(), old.access), ("__Host-refresh".into(), old.refresh)].into();

    let first = browser.navigate("/page").await;
    let second = browser.navigate("/page").await;

    let cookies = first.cookies();
    assert_eq!(cookies.keys().collect::<Vec<_>>(), ["__Host-access", "__Host-refresh"]);
    for cookie in cookies.values() {
        assert_eq!(cookie.attributes, set(["Path=/", "Secure", "HttpOnly", "SameSite=Lax"]));
    }
    assert_eq!((second.status, second.cookies().len()), (200, 0));
    assert_eq!(world.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_sees_the_new_identity() {
    let world = World::start().await;
    let old = expired(&world);
    world.backend.grant_roles(&["staff", "admin"]);

    let reply = get("/admin/").pair(&old).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    assert_eq!(world.upstream.record.last().head.all("x-forwarded-groups"), ["staff,admin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_post_reaches_the_app_once_with_its_body() {
    let world = World::start().await;
    world.backend.fail_once(Fault::Delay(Duration::from_millis(100)));

    let ask = post("/save", "precious").pair(&expired(&world));
    let reply = ask.send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    assert_eq!(world.upstream.record.lines(), ["POST /save"]);
    assert_eq!(world.upstream.record.last().body, b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_does_not_lose_the_grant() {
    let world = World::start().await;
    let old = expired(&world);
    world.backend.fail_once(Fault::Delay(Duration::from_millis(300)));

    let mut stream = client::connect(world.gateway.address).await;
    stream.write_all(&get("/page").pair(&old).bytes()).await.expect("written");
    eventually("the backend is asked", async || world.backend.token_calls() == 1).await;
    drop(stream);
    let back = get("/page").pair(&old).send(world.gateway.address).await;

    assert_eq!((back.status, world.backend.counts()), (200, ONE_GRANT));
    assert!(back.new_pair().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_the_wait_is_harvested() {
    let world = World::changed("client_secret: s3cret", "client_secret: s3cret, wait: 300ms").await;
    let old = expired(&world);
    world.backend.fail_once(Fault::Delay(Duration::from_millis(800)));

    let early = get("/page").fetch().pair(&old).send(world.gateway.address).await;
    assert_eq!((early.status, early.reason().as_str()), (503, "refresh_unavailable"));
    eventually("the late answer serves", async || {
        get("/page").pair(&old).send(world.gateway.address).await.status == 200
    })
    .await;

    assert_eq!(world.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_new_cookie_was_shown_the_old_one_passes_without_cookies() {
    let world = World::start().await;
    let old = expired(&world);
    let new =
        get("/page").pair(&old).send(world.gateway.address).await.new_pair().expect("cookies");
    // The browser shows the new refresh token where the gateway looks at it: with no valid access
    // token beside it.
    let shown = get("/page").header("Cookie", &format!("__Host-refresh={}", new.refresh));
    assert_eq!(shown.send(world.gateway.address).await.status, 200);

    let late = get("/page").pair(&old).send(world.gateway.address).await;

    assert_eq!((late.status, late.new_pair()), (200, None));
    assert_eq!(world.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_session_is_told_to_log_in_and_the_backend_is_asked_once() {
    let world = World::start().await;
    let forged = Pair { refresh: "rt-never-issued".into(), ..expired(&world) };

    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(get("/page").fetch().pair(&forged).send(world.gateway.address).await);
    }
    let page = get("/page").navigation().pair(&forged).send(world.gateway.address).await;

    for reply in &replies {
        assert_eq!((reply.status, reply.reason().as_str()), (401, "refresh_refused"));
        assert!(reply.cookies().is_empty(), "another tab may just have logged in");
    }
    assert_eq!(page.status, 302);
    assert_eq!(world.backend.counts(), Counts { grants: 0, reuses: 0, unknown: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_endpoint_is_asked_as_rfc_6749_says() {
    let world = World::start().await;
    let old = expired(&world);

    get("/page").pair(&old).send(world.gateway.address).await;

    let calls = world.backend.record.all();
    let call = calls.iter().find(|seen| seen.target == "/token").expect("a call");
    // RFC 6749 §2.3.1: both halves form-encoded, then joined and put in base64.
    assert_eq!(call.head.all("authorization"), ["Basic ZXZlcmdhdGU6czNjcmV0"]);
    assert_eq!(call.head.all("content-type"), ["application/x-www-form-urlencoded"]);
    assert_eq!(call.head.all("cookie"), [""; 0]);
    let body = String::from_utf8_lossy(&call.body).to_string();
    let fields: BTreeSet<String> = body.split('&').map(str::to_string).collect();
    let refresh = format!("refresh_token={}", old.refresh);
    assert_eq!(fields, set(["grant_type=refresh_token", refresh.as_str()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_made_backend_is_asked_with_its_own_cookie() {
    let world = World::changed(
        "BACKEND/token\", client_id: evergate, client_secret: s3cret",
        "BACKEND/refresh\", protocol: cookie",
    )
    .await;
    let old = expired(&world);

    let reply = get("/page").pair(&old).send(world.gateway.address).await;

    assert_eq!((reply.status, world.backend.counts()), (200, ONE_GRANT));
    let calls = world.backend.record.all();
    let call = calls.iter().find(|seen| seen.target == "/refresh").expect("a call");
    let shown = call.head.all("cookie").join("; ");
    assert!(shown.split("; ").any(|pair| pair == format!("refresh_token={}", old.refresh)));
    let cookies = reply.cookies();
    assert_eq!(cookies.keys().collect::<Vec<_>>(), ["__Host-access", "__Host-refresh"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_backend_is_asked_and_understood_by_pointers() {
    let pointers = "BACKEND/json\", protocol: json, send: /session/refresh, \
                    receive: { access: /data/access, refresh: /data/refresh }";
    let world =
        World::changed("BACKEND/token\", client_id: evergate, client_secret: s3cret", pointers)
            .await;
    let old = expired(&world);

    let reply = get("/page").pair(&old).send(world.gateway.address).await;

    assert_eq!((reply.status, world.backend.counts()), (200, ONE_GRANT));
    let calls = world.backend.record.all();
    let call = calls.iter().find(|seen| seen.target == "/json").expect("a call");
    let sent: serde_json::Value = serde_json::from_slice(&call.body).expect("JSON");
    assert_eq!(sent, json!({ "session": { "refresh": old.refresh } }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_a_grant_under_way() {
    let world = World::start().await;
    let old = expired(&world);
    world.backend.fail_once(Fault::Delay(Duration::from_millis(500)));
    let mut stream = client::connect(world.gateway.address).await;
    stream.write_all(&get("/page").pair(&old).bytes()).await.expect("written");
    eventually("the backend is asked", async || world.backend.token_calls() == 1).await;
    drop(stream);

    let finished = world.gateway.shutdown(Duration::from_secs(10)).await;

    assert!(finished);
    assert_eq!(world.backend.counts(), ONE_GRANT, "what was sent was not cut off");
}

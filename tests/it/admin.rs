//! The private listener: alive, ready, and what is counted.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn livez_says_ok_and_nothing_else_is_there() {
    let world = World::start().await;
    eventually("the first keys are there", async || {
        get("/readyz").send(world.gateway.admin).await.status == 200
    })
    .await;

    for (target, status) in
        [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/debug", 404)]
    {
        let reply = get(target).send(world.gateway.admin).await;
        assert_eq!(reply.status, status, "{target}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_pages_are_not_on_the_public_listener() {
    let world = World::start().await;
    for target in ["/livez", "/readyz", "/metrics", "/status"] {
        assert_eq!(get(target).send(world.gateway.address).await.status, 401, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_ready_until_the_keys_of_every_issuer_are_there() {
    let (mut backend, upstream) = (Backend::start().await, Upstream::start().await);
    backend.stop();
    let gateway = Gateway::start(&world::place(STANDARD, &backend, &upstream)).await;

    let ready = get("/readyz").send(gateway.admin).await;
    let alive = get("/livez").send(gateway.admin).await;

    assert_eq!((ready.status, alive.status), (503, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_decisions_are_counted_by_configured_names_only() {
    let yaml = STANDARD.replace("{ path: /* }", "{ path: /*, name: app }");
    let world = World::with(&yaml).await;
    let token = world.backend.token("alice").sign();
    let address = world.gateway.address;
    get("/page/1").access(&token).send(address).await;
    get("/page/2").access(&token).send(address).await;
    get("/page/3").fetch().send(address).await;
    client::ask("BREW", "/page/4").access(&token).send(address).await;
    // A request is counted when it has ended, which its client may know a moment earlier.
    eventually("all are counted", async || {
        world.gateway.metrics().await.sum("evergate_requests_total") >= 4.0
    })
    .await;

    let metrics = world.gateway.metrics().await;

    let rows: BTreeSet<&str> = metrics
        .0
        .lines()
        .filter(|line| {
            line.starts_with("evergate_requests_total")
                || line.starts_with("evergate_decisions_total")
        })
        .filter(|line| line.contains("route=\"app\""))
        .collect();
    assert_eq!(
        rows,
        BTreeSet::from([
            "evergate_decisions_total{decision=\"answer\",reason=\"no_credentials\",route=\"app\"} 1",
            "evergate_decisions_total{decision=\"forward\",reason=\"ok\",route=\"app\"} 3",
            "evergate_requests_total{code=\"200\",method=\"GET\",route=\"app\"} 2",
            "evergate_requests_total{code=\"200\",method=\"other\",route=\"app\"} 1",
            "evergate_requests_total{code=\"401\",method=\"GET\",route=\"app\"} 1",
        ])
    );
}

/// What this story cannot move: one needs a fault inside the gateway itself, one a store.
const QUIET: [&str; 2] = ["evergate_panics_total", "evergate_store_degraded"];

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_moves() {
    let yaml = STANDARD.replace("client_secret: s3cret", "client_secret: s3cret, hold: 2s");
    let world = World::with(&yaml.replace("path: /* }", "path: /*, inject_script: true }")).await;
    let address = world.gateway.address;
    let mut moved = BTreeSet::new();
    let mut look = async || {
        let metrics = world.gateway.metrics().await;
        for name in metrics.names() {
            let total = metrics.sum(&name) + metrics.sum(&format!("{name}_count"));
            if total > 0.0 {
                moved.insert(name);
            }
        }
        metrics.names()
    };

    // A page; a valid token twice; one in its window whose header is held; a lost answer delivered again.
    let valid = world.backend.token("alice").sign();
    world.upstream.answer(200, &[("Content-Type", "text/html")], "<head>");
    get("/page").navigation().access(&valid).send(address).await;
    get("/page").access(&valid).send(address).await;
    world.backend.fail_once(Fault::Delay(Duration::from_millis(200)));
    let window = world.backend.login("alice", Token::in_window);
    get("/page").pair(&window).send(address).await;
    let new = get("/page").pair(&window).send(address).await.new_pair().expect("again");
    look().await;

    // Flights, waiters and connections while they last.
    world.backend.fail_once(Fault::Delay(Duration::from_millis(500)));
    let expired = world.backend.login("alice", Token::expired);
    let ask = get("/page").pair(&expired);
    let waiting = tokio::spawn(async move { ask.send(address).await });
    eventually("a flight runs", async || world.backend.token_calls() == 2).await;
    look().await;
    assert_eq!(waiting.await.expect("no panic").status, 200);

    // A spent token, a stream and the end of its session, and a breaker.
    let mut stream = client::connect(address).await;
    let ask = get("/events?gap=600000").event_stream().pair(&new);
    stream.write_all(&ask.bytes()).await.expect("sent");
    wire::read_head(&mut stream).await.expect("a head");
    look().await;
    get("/page").pair(&new).send(address).await;
    world.skip(Duration::from_secs(31));
    get("/page").pair(&window).send(address).await;
    let revoke = post("/sessions/revoke", r#"{"jti": "t-1"}"#);
    revoke.header("Content-Type", "application/json").send(world.gateway.admin).await;
    post("/auth/logout", "").pair(&new).send(address).await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
    world.backend.fail(Fault::Refuse { status: 503, error: "", retry_after: None });
    for _ in 0..6 {
        let pair = world.backend.login("alice", Token::expired);
        get("/page").pair(&pair).send(address).await;
    }
    let names = look().await;

    let still: BTreeSet<String> =
        names.difference(&moved).filter(|name| !QUIET.contains(&name.as_str())).cloned().collect();
    assert_eq!(still, BTreeSet::new(), "never moved");
    assert!(names.iter().all(|name| name.starts_with("evergate_")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_metrics() {
    let world = World::start().await;
    let pair = world.backend.login("alice", Token::expired);
    let new =
        get("/page").pair(&pair).send(world.gateway.address).await.new_pair().expect("cookies");

    let text = world.gateway.metrics().await.0;

    for secret in [&pair.access, &pair.refresh, &new.access, &new.refresh, "s3cret", "alice"] {
        assert!(!text.contains(secret), "{secret} is in the metrics");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overhead_is_the_gateways_own_time_without_the_auth_backends() {
    let world = World::start().await;
    world.backend.fail_once(Fault::Delay(std::time::Duration::from_millis(800)));
    let pair = world.backend.login("alice", Token::expired);

    assert_eq!(get("/page").pair(&pair).send(world.gateway.address).await.status, 200);

    let metrics = world.gateway.metrics().await;
    assert_eq!(metrics.value("evergate_overhead_seconds_count"), 1.0);
    assert!(metrics.value("evergate_overhead_seconds_sum") < 0.4);
    assert!(metrics.value("evergate_refresh_seconds_sum") > 0.7);
}

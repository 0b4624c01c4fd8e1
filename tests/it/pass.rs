//! Requests that pass: what reaches the app, and what comes back.

use jsonwebtoken::Algorithm;

use super::support::client::ask;
use super::support::*;

/// What every forwarded request of the raw client carries, beside the identity.
const PLAIN: [&str; 5] = [
    "host: app.test",
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-host: app.test",
    "x-forwarded-proto: http",
    "x-request-id: *",
];
const ALICE: [&str; 3] = [
    "x-forwarded-email: alice@example.org",
    "x-forwarded-groups: staff",
    "x-forwarded-user: alice",
];

fn lines(parts: &[&[&str]]) -> std::collections::BTreeSet<String> {
    parts.concat().into_iter().map(str::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_cookie_passes_with_identity_and_without_the_token() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();

    let reply = get("/page?q=1").access(&token).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    let seen = world.upstream.record.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/page?q=1"));
    assert_eq!(seen.headers(), lines(&[&PLAIN, &ALICE]));
    assert_eq!(
        reply.headers(),
        set([
            "cache-control: private",
            "content-length: *",
            "content-type: text/plain",
            "x-request-id: *"
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_bearer_passes_with_identity_and_without_the_token() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();

    let reply = get("/page").bearer(&token).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    assert_eq!(world.upstream.record.last().headers(), lines(&[&PLAIN, &ALICE]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_route_looks_at_no_token_and_passes_no_identity() {
    let world = World::start().await;
    let token = tampered(&world.backend.token("alice").sign());

    let reply = get("/static/app.css").access(&token).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    assert_eq!(world.upstream.record.last().headers(), lines(&[&PLAIN]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_optional_route_passes_strangers_anonymous_and_people_by_name() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();

    for (ask, expected) in [
        (get("/optional/x"), lines(&[&PLAIN])),
        (get("/optional/x").access(&token), lines(&[&PLAIN, &ALICE])),
        (get("/optional/x").access(&tampered(&token)), lines(&[&PLAIN])),
    ] {
        assert_eq!(ask.send(world.gateway.address).await.status, 200);
        assert_eq!(world.upstream.record.last().headers(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_opens_its_route_and_no_other_role_does() {
    let world = World::start().await;
    let staff = world.backend.token("alice").sign();
    let admin = world.backend.token("root").claim("roles", vec!["staff", "admin"]).sign();

    let refused = get("/admin/").access(&staff).send(world.gateway.address).await;
    let passed = get("/admin/").access(&admin).send(world.gateway.address).await;

    assert_eq!((refused.status, refused.reason().as_str()), (403, "missing_role"));
    assert_eq!(passed.status, 200);
    assert_eq!(world.upstream.record.last().head.all("x-forwarded-groups"), ["staff,admin"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_and_the_routes_own_requirement_must_both_hold() {
    let yaml = format!(
        "{STANDARD}  - {{ path: /both/*, policy: readers, require: {{ claims: {{ tenant: [blue] }} }} }}\n\
         policies: {{ readers: {{ require: {{ scopes: [read] }}, source_ips: [127.0.0.0/8] }} }}\n"
    );
    let world = World::with(&yaml).await;
    let alice = || world.backend.token("alice");

    for (token, expected) in [
        (alice().claim("tenant", "blue"), (200, "")),
        (alice(), (403, "missing_value")),
        (alice().claim("tenant", "red"), (403, "missing_value")),
        (alice().claim("tenant", "blue").claim("scope", "write"), (403, "missing_scope")),
    ] {
        let reply = get("/both/x").access(&token.sign()).send(world.gateway.address).await;
        let reason = if reply.status == 200 { String::new() } else { reply.reason() };
        assert_eq!((reply.status, reason.as_str()), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_verifies() {
    let world = World::changed(
        "audience: legacy-app",
        "audience: legacy-app, algorithms: [RS256, PS256, ES256, ES384, EdDSA], jwks: { min_interval: 1ms }",
    )
    .await;
    let keys = [
        SigningKey::es384("p384"),
        SigningKey::ed25519("ed"),
        SigningKey::rsa("rs", Algorithm::RS256),
        SigningKey::rsa("ps", Algorithm::PS256),
    ];
    for key in &keys {
        world.backend.publish(key);
    }
    for key in &keys {
        let token = world.backend.token("alice").key(key).sign();
        let reply = get("/page").access(&token).send(world.gateway.address).await;
        assert_eq!(reply.status, 200, "{}: {}", key.jwk["alg"], reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_credentials_pass_and_a_cookie_only_route_leaves_bearers_to_the_app() {
    let yaml = format!("{STANDARD}  - {{ path: /own/*, credentials: [cookie] }}\n");
    let world = World::with(&yaml).await;
    let token = world.backend.token("alice").sign();

    for (target, authorization) in [("/page", "Basic YTpi"), ("/own/x", "Bearer the-apps-own")] {
        let ask = get(target).access(&token).header("Authorization", authorization);
        assert_eq!(ask.send(world.gateway.address).await.status, 200);
        assert_eq!(world.upstream.record.last().head.all("authorization"), [authorization]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stripped_prefix_is_gone_for_the_app_only() {
    let yaml = format!("{STANDARD}  - {{ path: /api/*, rewrite: {{ strip_prefix: /api }} }}\n");
    let world = World::with(&yaml).await;
    let token = world.backend.token("alice").sign();

    for target in ["/api/items?x=1", "/api", "/api/"] {
        assert_eq!(get(target).access(&token).send(world.gateway.address).await.status, 200);
    }

    assert_eq!(world.upstream.record.lines(), ["GET /items?x=1", "GET /", "GET /"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_choose_the_route_and_a_body_arrives_whole() {
    let yaml = format!("{STANDARD}  - {{ path: /items, methods: [POST] }}\n");
    let world = World::with(&yaml).await;
    let token = world.backend.token("alice").sign();

    let posted = post("/items", "a body\nof two lines").access(&token);
    let posted = posted.send(world.gateway.address).await;
    let deleted = ask("DELETE", "/items").access(&token).send(world.gateway.address).await;

    assert_eq!((posted.status, deleted.status), (200, 405));
    assert_eq!(deleted.head.all("allow"), ["POST"]);
    assert_eq!(world.upstream.record.lines(), ["POST /items"]);
    assert_eq!(world.upstream.record.last().body, b"a body\nof two lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_is_answered_without_a_body() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();

    let reply = ask("HEAD", "/page").access(&token).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.head.all("content-length")), (200, vec!["5"]));
    assert_eq!(world.upstream.record.lines(), ["HEAD /page"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_passes_bare_where_the_route_says_so_and_only_there() {
    let yaml = format!("{STANDARD}  - {{ path: /cors/*, preflight: pass }}\n");
    let world = World::with(&yaml).await;
    let preflight = |target| {
        ask("OPTIONS", target)
            .header("Origin", "https://other.test")
            .header("Access-Control-Request-Method", "PUT")
            .header("Cookie", "x=1")
            .header("Authorization", "Basic YTpi")
    };

    let passed = preflight("/cors/x").send(world.gateway.address).await;
    let denied = preflight("/page").send(world.gateway.address).await;

    assert_eq!((passed.status, denied.status), (200, 401));
    let origin = ["access-control-request-method: PUT", "origin: https://other.test"];
    assert_eq!(world.upstream.record.last().headers(), lines(&[&PLAIN, &origin]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_verified_once_and_then_found() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();

    for _ in 0..3 {
        get("/page").access(&token).send(world.gateway.address).await;
    }

    let metrics = world.gateway.metrics().await;
    assert_eq!(metrics.value("evergate_verified_token_cache_hits_total"), 2.0);
    assert_eq!(metrics.value("evergate_verified_token_cache_misses_total"), 1.0);
}

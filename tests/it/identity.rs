//! Whose request it is, is said by the gateway and by nobody else.

use std::collections::BTreeSet;

use super::support::*;

/// What a stranger may try. None of it may reach the app, on any route.
const FORGED: [(&str, &str); 24] = [
    ("X-Forwarded-User", "root"),
    ("x-forwarded-user", "root"),
    ("X_Forwarded_User", "root"),
    ("X-Forwarded_User", "root"),
    ("X.Forwarded.User", "root"),
    ("X-FORWARDED-EMAIL", "root@example.org"),
    ("X-Forwarded-Groups", "admin"),
    ("X_FORWARDED_GROUPS", "admin"),
    ("X-Forwarded-For", "10.0.0.1"),
    ("X-Forwarded-Host", "evil.test"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "443"),
    ("X-Forwarded-Uri", "/static/x"),
    ("X-Forwarded-Path", "/static/x"),
    ("X-Forwarded-Prefix", "/static"),
    ("Forwarded", "for=10.0.0.1;host=evil.test"),
    ("X-Real-IP", "10.0.0.1"),
    ("X-Original-URL", "/admin/"),
    ("X-Original-URI", "/admin/"),
    ("X-Rewrite-URL", "/admin/"),
    ("Proxy", "http://evil.test"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-HTTP-Method", "DELETE"),
    ("X-Method-Override", "DELETE"),
];

fn forge(ask: Ask) -> Ask {
    FORGED.iter().fold(ask, |ask, (name, value)| ask.header(name, value))
}

fn plain() -> BTreeSet<String> {
    set([
        "host: app.test",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: app.test",
        "x-forwarded-proto: http",
        "x-request-id: *",
    ])
}

fn alice() -> BTreeSet<String> {
    let identity = [
        "x-forwarded-email: alice@example.org",
        "x-forwarded-groups: staff",
        "x-forwarded-user: alice",
    ];
    &plain() | &set(identity)
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_reach_the_app_on_no_route() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    for (ask, expected) in [
        (get("/page").access(&token), alice()),
        (get("/page").bearer(&token), alice()),
        (get("/static/x"), plain()),
        (get("/optional/x"), plain()),
    ] {
        assert_eq!(forge(ask).send(world.gateway.address).await.status, 200);
        assert_eq!(world.upstream.record.last().headers(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_do_not_reach_the_auth_backend_either() {
    let world = World::start().await;

    forge(get("/auth/login")).send(world.gateway.address).await;

    let seen = world.backend.record.all();
    let login = seen.iter().find(|seen| seen.target == "/auth/login").expect("a request");
    assert_eq!(login.headers(), plain());
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_headers_do_not_ride_on_a_websocket_handshake() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();

    let reply = forge(get("/ws").websocket().access(&token)).send(world.gateway.address).await;

    assert_eq!(reply.status, 101);
    let head = world.upstream.record.last().head;
    assert_eq!(head.all("x-forwarded-user"), ["alice"]);
    let evil = head.headers.iter().find(|(_, value)| {
        ["root", "evil.test", "10.0.0.1", "DELETE"].iter().any(|word| value.contains(word))
    });
    assert_eq!(evil, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn naming_an_identity_header_in_connection_does_not_remove_it() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();

    let ask = get("/page")
        .access(&token)
        .header("Connection", "X-Forwarded-User, X-Forwarded-Groups, X-Request-Id, keep-alive");
    assert_eq!(ask.send(world.gateway.address).await.status, 200);

    assert_eq!(world.upstream.record.last().headers(), alice());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_managed_on_one_route_is_stripped_on_all() {
    let yaml = format!(
        "{STANDARD}  - {{ path: /dav/*, identity_headers: {{ X-Remote-User: \"{{claims.user}}\" }} }}\n"
    );
    let world = World::with(&yaml).await;
    let token = world.backend.token("alice").sign();

    let there = get("/dav/x").access(&token).header("X-Remote-User", "root");
    there.send(world.gateway.address).await;
    let seen_there = world.upstream.record.last().headers();
    let elsewhere = get("/page").access(&token).header("x_remote_user", "root");
    elsewhere.send(world.gateway.address).await;

    assert_eq!(seen_there, &plain() | &set(["x-remote-user: alice"]));
    assert_eq!(world.upstream.record.last().headers(), alice());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_claim_means_no_header() {
    let world = World::start().await;
    let token = world.backend.token("alice").without("email").without("roles").sign();

    get("/page").access(&token).send(world.gateway.address).await;

    assert_eq!(
        world.upstream.record.last().headers(),
        &plain() | &set(["x-forwarded-user: alice"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_cannot_be_written_safely_refuses_the_request() {
    let world = World::start().await;
    let alice = || world.backend.token("alice");
    for token in [
        alice().claim("sub", "alice\r\nX-Forwarded-User: root"),
        alice().claim("email", "a\u{0}b"),
        alice().claim("roles", vec!["staff,admin"]),
        alice().claim("roles", vec!["staff", "a\nb"]),
    ] {
        let reply = get("/page").fetch().access(&token.sign()).send(world.gateway.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (403, "bad_identity"));
    }
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_may_say_where_a_request_came_from() {
    let trusted =
        "listeners: { default: { address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.1/32] } }";
    let world = World::changed("listen: 127.0.0.1:0", trusted).await;
    let token = world.backend.token("alice").sign();

    let ask = get("/page")
        .access(&token)
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "www.app.test");
    assert_eq!(ask.send(world.gateway.address).await.status, 200);

    let head = world.upstream.record.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["203.0.113.9, 127.0.0.1"]);
    assert_eq!(head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(head.all("x-forwarded-host"), ["www.app.test"]);
    assert_eq!(head.all("x-forwarded-user"), ["alice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_token_goes_on_only_where_the_operator_says_so() {
    let yaml = format!("{STANDARD}  - {{ path: /api/*, pass_access_token: true }}\n");
    let world = World::with(&yaml).await;
    let token = world.backend.token("alice").sign();

    get("/api/x").access(&token).send(world.gateway.address).await;

    assert_eq!(world.upstream.record.last().head.all("authorization"), [format!("Bearer {token}")]);
}

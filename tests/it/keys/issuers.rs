//! Issuers: clocks, token types, claims, key sets, and several of them.

use super::{is, issuer, outcome, page};
use crate::support::backend::Pair;
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn leeway_is_for_clocks_that_differ() {
    let (strict, lenient) = (issuer("leeway: 0s").await, issuer("leeway: 5m").await);
    for world in [&strict, &lenient] {
        let soon = keys::now() + 60;
        let token = world.backend.token("alice").claim("nbf", soon).claim("exp", soon + 600);
        let reply = page(world, &token).await;
        let expected = if std::ptr::eq(world, &lenient) { 200 } else { 401 };
        assert_eq!(reply.status, expected, "{}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_token_types_that_are_named_are_accepted() {
    let world = issuer("token_types: [\"application/vnd.app+jwt\"]").await;
    for (kind, expected) in [
        ("vnd.app+jwt", is(200, "")),
        ("application/VND.app+JWT", is(200, "")),
        ("at+jwt", is(401, "wrong_type")),
    ] {
        let token = world.backend.token("alice").header("typ", kind);
        assert_eq!(outcome(&page(&world, &token).await), expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_say_where_a_token_says_who_it_is_for() {
    let world = issuer(
        "claims: { user: [login.name, sub], email: mail, roles: realm.roles, scopes: rights }",
    )
    .await;
    let token = world
        .backend
        .token("alice")
        .claim("login", serde_json::json!({"name": "al"}))
        .claim("mail", "al@example.org")
        .claim("realm", serde_json::json!({"roles": ["admin", "ops"]}));

    let reply = get("/admin/").access(&token.sign()).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    let head = world.upstream.record.last().head;
    let identity = ["x-forwarded-user", "x-forwarded-email", "x-forwarded-groups"];
    assert_eq!(
        identity.map(|name| head.get(name)),
        [Some("al"), Some("al@example.org"), Some("admin,ops")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_set_is_fetched_again_at_its_ttl() {
    let world = issuer("jwks: { ttl: 1s, min_interval: 100ms }").await;
    let fetches = || world.backend.record.lines().iter().filter(|l| *l == "GET /jwks").count();

    eventually("nobody asked, and it was fetched three times", async || fetches() >= 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_keys_serve_until_max_stale() {
    let mut world = issuer("jwks: { ttl: 1s, min_interval: 100ms, max_stale: 2s }").await;
    assert_eq!(page(&world, &world.backend.token("alice")).await.status, 200);

    world.backend.stop();
    let stale = page(&world, &world.backend.token("bob")).await;
    eventually("too stale", async || page(&world, &world.backend.token("eve")).await.status == 503)
        .await;

    assert_eq!(stale.status, 200);
    let reply = page(&world, &world.backend.token("alice")).await;
    assert_eq!(outcome(&reply), is(503, "keys_unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_issuers_the_refresh_cookie_names_its_own() {
    let other = Backend::start().await;
    let issuers = format!(
        "issuers: {{ home: {{ url: \"http://BACKEND\", audience: legacy-app, \
         refresh: {{ url: \"http://BACKEND/token\" }} }}, other: {{ url: \"http://{0}\", \
         audience: legacy-app, refresh: {{ url: \"http://{0}/token\" }} }} }}",
        other.address
    );
    let world = World::with(&format!(
        "listen: 127.0.0.1:0\nadmin: {{ address: \"127.0.0.1:0\" }}\nupstream: http://UPSTREAM\n\
         {issuers}\nroutes: [{{ path: /* }}]\n"
    ))
    .await;
    let Pair { access, refresh } = other.login("alice", Token::expired);
    let named = Pair { access: access.clone(), refresh: format!("other~{refresh}") };

    let bare = get("/page").pair(&Pair { access, refresh }).send(world.gateway.address).await;
    let reply = get("/page").pair(&named).send(world.gateway.address).await;

    assert_eq!(outcome(&bare), is(401, "expired"), "a bare value belongs to nobody");
    assert_eq!(reply.status, 200);
    assert!(reply.cookies()["__Host-refresh"].value.starts_with("other~rt-"));
    assert_eq!((other.counts().grants, world.backend.token_calls()), (1, 0));
}

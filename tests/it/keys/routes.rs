//! Routes: what they take from the rest of the file, and what they keep.

use super::{is, outcome, page, route};
use crate::support::parts::Folder;
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_for_routes_that_do_not_say_otherwise() {
    let other = Upstream::start().await;
    let keys = format!(
        "upstreams: {{ app: {{ servers: [\"http://UPSTREAM\"] }}, \
         other: {{ servers: [\"http://{}\"] }} }}\n\
         defaults: {{ upstream: other, policy: readers }}\n\
         policies: {{ readers: {{ require: {{ scopes: [read] }} }}, anyone: {{}} }}",
        other.address
    );
    let yaml = STANDARD.replacen("upstream: http://UPSTREAM", &keys, 1);
    let route = "  - { path: /open, upstream: app, policy: anyone }\n";
    let world = World::with(&format!("{yaml}{route}")).await;
    let writer = world.backend.token("alice").claim("scope", "write");

    let default = page(&world, &writer).await;
    let open = get("/open").access(&writer.sign()).send(world.gateway.address).await;
    let reader = page(&world, &world.backend.token("alice")).await;

    assert_eq!(outcome(&default), is(403, "missing_scope"));
    assert_eq!((open.status, reader.status), (200, 200));
    assert_eq!(world.upstream.record.lines(), ["GET /open"]);
    assert_eq!(other.record.lines(), ["GET /page"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_can_want_one_issuer_and_known_addresses() {
    let other = Backend::start().await;
    let keys = format!(
        "listeners: {{ default: {{ address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.1] }} }}\n\
         issuers: {{ home: {{ url: \"http://BACKEND\", audience: legacy-app }}, \
         other: {{ url: \"http://{}\", audience: legacy-app }} }}\n\
         policies: {{ ours: {{ issuer: home }}, office: {{ source_ips: [10.0.0.0/8] }} }}",
        other.address
    );
    let world = World::with(&format!(
        "admin: {{ address: \"127.0.0.1:0\" }}\nupstream: http://UPSTREAM\n{keys}\nroutes:\n  \
         - {{ path: /ours/*, policy: ours }}\n  - {{ path: /office/*, policy: office }}\n"
    ))
    .await;
    let (home, foreign) = (world.backend.token("alice").sign(), other.token("alice").sign());
    let from = |target, token, address| {
        get(target).access(token).header("X-Forwarded-For", address).send(world.gateway.address)
    };

    assert_eq!(from("/ours/x", &home, "10.1.1.1").await.status, 200);
    let wrong = from("/ours/x", &foreign, "10.1.1.1").await;
    assert_eq!(outcome(&wrong), is(401, "wrong_issuer"));
    assert_eq!(from("/office/x", &foreign, "10.1.1.1").await.status, 200);
    let away = from("/office/x", &home, "192.0.2.1").await;
    assert_eq!(outcome(&away), is(403, "source_ip"));
}

#[tokio::test(flavor = "multi_thread")]
async fn included_files_bring_their_routes() {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let folder = Folder::new();
    folder.write("more.yaml", "routes: [{ path: /more/*, auth: public }]\n");
    let yaml = format!("{STANDARD}include: [more.yaml]\n");
    let file = folder.write("gateway.yaml", &world::place(&yaml, &backend, &upstream));
    let gateway = Gateway::from_file(&file).await;

    assert_eq!(get("/more/x").send(gateway.address).await.status, 200);
    assert_eq!(get("/page").send(gateway.address).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_untouched_leaves_the_apps_headers() {
    let world = route("path: /shared/*, cache: untouched").await;
    let token = world.backend.token("alice").sign();
    for (target, expected) in
        [("/page", "private, max-age=60"), ("/shared/x", "public, max-age=60, s-maxage=600")]
    {
        let headers = [("Cache-Control", "public, max-age=60, s-maxage=600")];
        world.upstream.answer(200, &headers, "");
        let reply = get(target).access(&token).send(world.gateway.address).await;
        assert_eq!(reply.head.all("cache-control"), [expected], "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_on_a_renewed_session_still_brings_its_cookies() {
    let world = World::start().await;
    let pair = world.backend.login("alice", Token::expired);

    let reply = get("/admin/").fetch().pair(&pair).send(world.gateway.address).await;

    assert_eq!(outcome(&reply), is(403, "missing_role"));
    assert!(reply.new_pair().is_some());
    assert_eq!(reply.head.all("cache-control"), ["no-store"]);
}

//! The gateway's own answers: the table "Answers", with whole header sets.

use super::support::client::ask;
use super::support::*;

const BASE: [&str; 3] = ["cache-control: no-store", "content-length: *", "x-request-id: *"];
const PAGE: [&str; 4] = [
    "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "content-type: text/html; charset=utf-8",
    "referrer-policy: no-referrer",
    "x-content-type-options: nosniff",
];
const JSON: [&str; 2] = ["content-type: application/json", "x-content-type-options: nosniff"];
const HINT: &str = "x-evergate-refresh: /_evergate/refresh";
const STRANGER: &str = "www-authenticate: Bearer realm=\"evergate\"";
const BAD_TOKEN: &str = "www-authenticate: Bearer realm=\"evergate\", error=\"invalid_token\"";
const TO_LOGIN: &str = "location: /auth/login?return_to=%2Fpage%3Fa%3D1";

fn lines(parts: &[&[&str]]) -> std::collections::BTreeSet<String> {
    parts.concat().into_iter().map(str::to_string).collect()
}

fn form(target: &str) -> Ask {
    post(target, "a=1").navigation().header("Content-Type", "application/x-www-form-urlencoded")
}

/// The standard world without a login page.
async fn without_redirect() -> World {
    World::changed("on_denied: { browser: { redirect: \"/auth/login?return_to={url}\" } }", "")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_answered_in_the_shape_that_was_asked_for() {
    let world = World::start().await;
    let address = world.gateway.address;
    let target = "/page?a=1";
    for (what, ask, status, headers) in [
        ("navigation", get(target).navigation(), 302, lines(&[&BASE, &[TO_LOGIN]])),
        (
            "accepts html",
            get(target).header("Accept", "text/html"),
            302,
            lines(&[&BASE, &[TO_LOGIN]]),
        ),
        ("fetch", get(target).fetch(), 401, lines(&[&BASE, &JSON, &[STRANGER, HINT]])),
        (
            "curl",
            get(target).header("Accept", "*/*"),
            401,
            lines(&[&BASE, &JSON, &[STRANGER, HINT]]),
        ),
        ("delete", ask("DELETE", target), 401, lines(&[&BASE, &JSON, &[STRANGER, HINT]])),
        ("websocket", get("/ws").websocket(), 401, lines(&[&BASE, &JSON, &[STRANGER]])),
        ("event stream", get("/events").event_stream(), 401, lines(&[&BASE, &JSON, &[STRANGER]])),
    ] {
        let reply = ask.send(address).await;
        assert_eq!((reply.status, reply.headers()), (status, headers), "{what}");
    }
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_cannot_be_judged_now_is_not_lost_by_a_reload() {
    let world = World::start().await;
    let pair = world.backend.login("alice", Token::expired);
    world.backend.fail(Fault::Refuse { status: 500, error: "", retry_after: None });

    let page = get("/page").navigation().pair(&pair).send(world.gateway.address).await;
    let form = form("/save").pair(&pair).send(world.gateway.address).await;

    let reloads = |reply: &Reply| reply.text().contains("http-equiv=\"refresh\"");
    assert_eq!((page.status, reloads(&page)), (503, true));
    assert_eq!((form.status, reloads(&form)), (503, false));
    assert!(form.text().contains("go back and send it again"), "{}", form.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_redirected_by_303_so_that_it_is_not_sent_again() {
    let world = World::start().await;

    // What a POST asked for cannot be asked for again by GET: the page with the form is returned to.
    let ask = form("/save").header("Referer", "http://app.test/page?a=1");
    let reply = ask.send(world.gateway.address).await;

    assert_eq!((reply.status, reply.headers()), (303, lines(&[&BASE, &[TO_LOGIN]])));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_login_page_a_person_gets_an_accessible_401_page() {
    let world = without_redirect().await;

    let reply = get("/page").navigation().send(world.gateway.address).await;

    assert_eq!((reply.status, reply.headers()), (401, lines(&[&BASE, &PAGE, &[STRANGER]])));
    let page = reply.text();
    let id = reply.head.get("x-request-id").expect("an id");
    for part in ["<html lang=\"en\">", "<title>", "<main>", "<h1>", "no_credentials", id] {
        assert!(page.contains(part), "{part} is missing in {page}");
    }
    assert!(!page.contains("<script"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_of_an_answer_has_four_members_at_most() {
    let world = World::start().await;

    // The page to come back to is the one that the script runs in.
    let ask = get("/api/items").fetch().header("Referer", "http://app.test/page?a=1");
    let reply = ask.send(world.gateway.address).await;

    let id = reply.head.get("x-request-id").expect("an id");
    let expected = serde_json::json!({
        "error": "unauthorized",
        "reason": "no_credentials",
        "request_id": id,
        "login_url": "/auth/login?return_to=%2Fpage%3Fa%3D1",
    });
    assert_eq!(reply.json(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flaw_of_a_token_has_its_reason() {
    let world = World::start().await;
    let token = || world.backend.token("alice");
    let stranger = SigningKey::es256("nobody-knows-this-kid");
    let same_kid = SigningKey::es256("key-1");
    for (value, reason) in [
        ("not-a-token".to_string(), "malformed_token"),
        ("a.b.c".to_string(), "malformed_token"),
        ("a.b.c.d.e".to_string(), "jwe_unsupported"),
        (token().claim("pad", "x".repeat(9000)).sign(), "token_too_large"),
        (token().header("alg", "none").sign(), "wrong_algorithm"),
        (token().header("alg", "HS256").sign(), "wrong_algorithm"),
        (token().key(&stranger).sign(), "unknown_key"),
        (token().key(&same_kid).sign(), "bad_signature"),
        (tampered(&token().sign()), "bad_signature"),
        (token().claim("iss", "http://elsewhere.test").sign(), "wrong_issuer"),
        (token().claim("aud", "another-app").sign(), "wrong_audience"),
        (token().header("typ", "id+jwt").sign(), "wrong_type"),
        (token().claim("nbf", keys::now() + 600).sign(), "not_yet_valid"),
        (
            token().claim("iat", keys::now() + 600).claim("exp", keys::now() + 900).sign(),
            "not_yet_valid",
        ),
        (token().without("sub").sign(), "missing_claim"),
        (token().without("exp").sign(), "missing_claim"),
        (token().header("crit", vec!["b64"]).sign(), "malformed_token"),
        (token().expired().sign(), "expired"),
    ] {
        let reply = get("/page").fetch().bearer(&value).send(world.gateway.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (401, reason), "{value:.80}");
        assert_eq!(reply.headers(), lines(&[&BASE, &JSON, &[BAD_TOKEN]]), "{reason}");
    }
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_about_tokens_has_its_status_and_reason() {
    let world = World::changed("  - { path: /* }", "  - { path: /app/*, methods: [GET] }").await;
    let token = world.backend.token("alice").sign();
    let other = world.backend.token("bob").sign();
    for (ask, status, reason) in [
        (get("/nowhere"), 404, "no_route"),
        (post("/app/x", "a"), 405, "method_not_allowed"),
        (ask("TRACE", "/app/x"), 405, "method_not_allowed"),
        (get("/admin/x").access(&token), 403, "missing_role"),
        (get("/app//x").access(&token), 400, "ambiguous_path"),
        (get("/app/x").access(&token).bearer(&other), 400, "conflicting_credentials"),
        (get("/app/x").access(&token).access(&token), 400, "duplicate_credential"),
        (get("/app/x").header("X-Big", &"a".repeat(40_000)), 431, "header_too_large"),
    ] {
        let what = String::from_utf8_lossy(&ask.bytes()[..20]).to_string();
        let reply = ask.fetch().send(world.gateway.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (status, reason), "{what}");
        assert_eq!(reply.head.all("cache-control"), ["no-store"], "{what}");
        assert_eq!(reply.head.all("x-request-id").len(), 1, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_refused_before_anyone_asks_who_it_is() {
    let world = World::start().await;

    let navigation = get("/a/../b").navigation().send(world.gateway.address).await;

    assert_eq!((navigation.status, navigation.headers()), (400, lines(&[&BASE, &PAGE])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_gives_502_and_one_that_sleeps_504() {
    let timeouts =
        "upstreams: { app: { servers: [\"http://UPSTREAM\"], timeouts: { read: 300ms } } }";
    let mut world = World::changed("upstream: http://UPSTREAM", timeouts).await;
    let token = world.backend.token("alice").sign();

    let slept = get("/hang").fetch().access(&token).send(world.gateway.address).await;
    world.upstream.stop();
    let down = get("/page").fetch().access(&token).send(world.gateway.address).await;
    let page = get("/page").navigation().access(&token).send(world.gateway.address).await;

    assert_eq!((slept.status, slept.reason().as_str()), (504, "upstream_timeout"));
    assert_eq!((down.status, down.reason().as_str()), (502, "upstream_unreachable"));
    assert_eq!((page.status, page.headers()), (502, lines(&[&BASE, &PAGE])));
}

#[tokio::test(flavor = "multi_thread")]
async fn unavailable_is_told_in_the_shape_that_was_asked_for() {
    let world = World::start().await;
    let address = world.gateway.address;
    world.backend.fail(Fault::Refuse { status: 503, error: "", retry_after: None });
    let asks = [
        (get("/page").navigation(), 503, "text/html; charset=utf-8"),
        (get("/page").fetch(), 503, "application/json"),
        (post("/page", "a").fetch(), 503, "application/json"),
        (get("/ws").websocket(), 503, "application/json"),
        (get("/events").event_stream(), 200, "text/event-stream"),
    ];
    for (ask, status, media_type) in asks {
        let pair = world.backend.login("alice", Token::expired);
        let reply = ask.pair(&pair).send(address).await;
        assert_eq!((reply.status, reply.head.all("content-type")), (status, vec![media_type]));
        match media_type {
            "text/event-stream" => assert!(reply.text().starts_with("retry: "), "{}", reply.text()),
            "application/json" => assert_eq!(reply.reason(), "refresh_unavailable"),
            _ => assert!(reply.text().contains("http-equiv=\"refresh\""), "reloads itself"),
        }
    }
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_can_say_who_is_answered() {
    let yaml = format!(
        "{STANDARD}  - {{ path: /api/*, answer_as: program }}\n  - {{ path: /ui/*, answer_as: browser }}\n"
    );
    let world = World::with(&yaml).await;

    let api = get("/api/x").navigation().send(world.gateway.address).await;
    let ui = get("/ui/x").fetch().send(world.gateway.address).await;

    assert_eq!((api.status, ui.status), (401, 302));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_too_large_is_refused_by_its_length_and_by_its_bytes() {
    let world = World::changed("  - { path: /* }", "  - { path: /*, max_body: 1KiB }").await;
    let token = world.backend.token("alice").sign();

    let told = post("/page", &"x".repeat(2000)).fetch().access(&token);
    let told = told.send(world.gateway.address).await;
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 2000, "x".repeat(2000));
    let mut chunked =
        post("/page", "").access(&token).header("Transfer-Encoding", "chunked").bytes();
    chunked.extend(chunk.as_bytes());
    let counted = raw(world.gateway.address, &chunked).await;

    assert_eq!((told.status, told.reason().as_str()), (413, "body_too_large"));
    assert_eq!((counted.status, counted.reason().as_str()), (413, "body_too_large"));
    let bodies: usize = world.upstream.record.all().iter().map(|seen| seen.body.len()).sum();
    assert_eq!(bodies, 0, "nothing of it counts as a request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_too_large_costs_no_renewal() {
    let world = World::changed("  - { path: /* }", "  - { path: /*, max_body: 1KiB }").await;
    for shape in [Token::in_window, Token::expired] {
        let pair = world.backend.login("alice", shape);
        let ask = post("/page", &"x".repeat(2000)).fetch().pair(&pair);
        assert_eq!(ask.send(world.gateway.address).await.status, 413);
    }
    assert_eq!(world.backend.token_calls(), 0);
}

//! Pages of another origin that send a bearer token: they can read what the gateway answers in the app's
//! place, if their origin is trusted, and nobody else's page can.

use fantoccini::Client;
use serde_json::{Value, json};

use super::browser::browser;
use super::support::client::ask;
use super::support::*;

const SPA: &str = "https://spa.example";
const INVALID: &str = r#"www-authenticate: Bearer realm="evergate", error="invalid_token""#;
/// What lets a page of [`SPA`] read an answer.
const READABLE: [&str; 3] = [
    "access-control-allow-origin: https://spa.example",
    "access-control-expose-headers: WWW-Authenticate, X-Request-Id, Retry-After, X-Evergate-Refresh",
    "vary: Origin",
];
/// What every answer of the gateway's to a program has.
const ANSWER: [&str; 5] = [
    "cache-control: no-store",
    "content-length: *",
    "content-type: application/json",
    "x-content-type-options: nosniff",
    "x-request-id: *",
];

/// The standard world, in which pages of [`SPA`] are trusted and may send tokens to `/api/*`.
async fn world() -> World {
    let trusted = format!("csrf: {{ trusted_origins: [{SPA}, \"https://two.example:8443\"] }}\n");
    let api = "  - { path: /api/*, preflight: pass }\n";
    World::with(&format!("{trusted}{}{api}", STANDARD.trim_start())).await
}

/// As a page of another origin fetches.
fn from(origin: &str, target: &str) -> Ask {
    get(target)
        .header("Accept", "*/*")
        .header("Origin", origin)
        .header("Sec-Fetch-Mode", "cors")
        .header("Sec-Fetch-Site", "cross-site")
}

fn lines(groups: &[&[&str]]) -> std::collections::BTreeSet<String> {
    groups.iter().flat_map(|group| group.iter()).map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_page_can_read_that_its_token_is_no_good_and_why() {
    let world = world().await;
    let (token, send) = (world.backend.token("alice"), world.gateway.address);
    let expired = from(SPA, "/api/x").bearer(&token.clone().expired().sign()).send(send).await;
    let forged = from(SPA, "/api/x").bearer(&tampered(&token.sign())).send(send).await;
    let nobody = from(SPA, "/api/x").send(send).await;

    let told = [&expired, &forged, &nobody].map(|reply| (reply.status, reply.reason()));
    let reasons = ["expired", "bad_signature", "no_credentials"];
    assert_eq!(told, reasons.map(|reason| (401, reason.to_string())));
    assert_eq!(expired.headers(), lines(&[&ANSWER, &READABLE, &[INVALID]]));
    assert_eq!(forged.headers(), lines(&[&ANSWER, &READABLE, &[INVALID]]));
    let plain = ["www-authenticate: Bearer realm=\"evergate\"", HINT];
    assert_eq!(nobody.headers(), lines(&[&ANSWER, &READABLE, &plain]));
}

const HINT: &str = "x-evergate-refresh: /_evergate/refresh";

#[tokio::test(flavor = "multi_thread")]
async fn every_other_answer_of_the_gateway_can_be_read_too() {
    let mut world = world().await;
    let token = world.backend.token("alice").sign();
    let renewal = || world.backend.login("alice", Token::expired);
    world.backend.fail(Fault::Refuse { status: 500, error: "server_error", retry_after: None });
    world.upstream.stop();
    let large = "9".repeat(12);
    for (request, status, reason) in [
        (from(SPA, "/admin/x").bearer(&token), 403, "missing_role"),
        (from(SPA, "/api//x").bearer(&token), 400, "ambiguous_path"),
        (from(SPA, "/_evergate/nothing").bearer(&token), 404, "no_route"),
        (from(SPA, "/_evergate/refresh").bearer(&token), 405, "method_not_allowed"),
        (
            from(SPA, "/api/x").bearer(&token).header("Content-Length", &large),
            413,
            "body_too_large",
        ),
        (
            from(SPA, "/api/x").bearer(&token).header("X-Y", &"y".repeat(40_000)),
            431,
            "header_too_large",
        ),
        (from(SPA, "/api/x").bearer(&token), 502, "upstream_unreachable"),
        (from(SPA, "/api/x").pair(&renewal()), 503, "refresh_unavailable"),
    ] {
        let reply = request.send(world.gateway.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (status, reason));
        let cors: Vec<_> =
            reply.headers().into_iter().filter(|line| line.starts_with("access-control")).collect();
        assert_eq!(
            (cors, reply.head.all("vary")),
            (READABLE[..2].to_vec().into_iter().map(String::from).collect(), vec!["Origin"]),
            "{reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_any_other_origin_can_read_nothing() {
    let world = world().await;
    let token = world.backend.token("alice").expired().sign();
    for origin in [
        "https://evil.test",
        "null",
        "http://spa.example",
        "https://spa.example:443",
        "https://spa.example.evil.test",
        "https://evil.test/https://spa.example",
        "https://SPA.example",
        "https://two.example",
        "*",
    ] {
        let reply = from(origin, "/api/x").bearer(&token).send(world.gateway.address).await;
        assert_eq!(reply.headers(), lines(&[&ANSWER, &[INVALID]]), "{origin}");
    }
    let twice = from(SPA, "/api/x").header("Origin", SPA).bearer(&token);
    let none = get("/api/x").bearer(&token);
    for request in [twice, none] {
        let reply = request.send(world.gateway.address).await;
        assert_eq!(reply.headers(), lines(&[&ANSWER, &[INVALID]]));
    }
    let standard = World::start().await;
    let reply = from(SPA, "/page").bearer(&standard.backend.token("alice").expired().sign());
    let reply = reply.send(standard.gateway.address).await;
    assert_eq!(reply.headers(), lines(&[&ANSWER, &[INVALID]]), "nobody is trusted by default");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_s_own_cors_headers_are_the_app_s() {
    let world = world().await;
    let token = world.backend.token("alice").sign();
    for own in [
        &[("Access-Control-Allow-Origin", "https://other.example"), ("Vary", "Cookie")][..],
        &[("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Credentials", "true")],
        &[],
    ] {
        world.upstream.answer(401, own, "the app's");
        let reply = from(SPA, "/api/x").bearer(&token).send(world.gateway.address).await;
        assert_eq!((reply.status, reply.text().as_str()), (401, "the app's"));
        let cors = |line: &String| line.starts_with("access-control") || line.starts_with("vary");
        let shown: std::collections::BTreeSet<_> =
            reply.headers().into_iter().filter(cors).collect();
        let own: std::collections::BTreeSet<_> =
            own.iter().map(|(name, value)| format!("{}: {value}", name.to_lowercase())).collect();
        assert_eq!(shown, own);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_grants_no_preflight_the_app_does_where_the_route_lets_it() {
    let world = world().await;
    let preflight = |target: &str| {
        ask("OPTIONS", target)
            .header("Origin", SPA)
            .header("Access-Control-Request-Method", "PUT")
            .header("Access-Control-Request-Headers", "authorization")
    };
    let granted =
        [("Access-Control-Allow-Origin", SPA), ("Access-Control-Allow-Headers", "authorization")];
    world.upstream.answer(204, &granted, "");

    let passed = preflight("/api/x").send(world.gateway.address).await;
    let denied = preflight("/page").send(world.gateway.address).await;
    let endpoint = preflight("/_evergate/refresh").send(world.gateway.address).await;

    assert_eq!(passed.status, 204);
    assert_eq!(passed.head.all("access-control-allow-headers"), ["authorization"]);
    // A preflight succeeds with an ok status only (Fetch §4.8): these two do not.
    assert_eq!((denied.status, endpoint.status), (401, 405));
    for reply in [&denied, &endpoint] {
        assert!(reply.head.get("access-control-allow-headers").is_none());
        assert!(reply.head.get("access-control-allow-methods").is_none());
    }
    assert_eq!(world.upstream.record.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_lets_no_page_use_somebody_s_cookies() {
    let world = world().await;
    let pair = world.backend.login("alice", Token::in_window);
    let wish = post("/_evergate/refresh", "").header("X-Evergate", "1");
    let logout = post("/_evergate/logout", "").header("X-Evergate", "1");
    for request in [wish, logout] {
        let request = request.header("Origin", SPA).header("Sec-Fetch-Site", "cross-site");
        let reply = request.pair(&pair).send(world.gateway.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (403, "cross_site"));
        // Whose cookies came along may be told: without this header no page can read it.
        assert!(reply.head.get("access-control-allow-credentials").is_none());
        assert!(reply.cookies().is_empty());
    }
    assert_eq!(world.backend.token_calls(), 0);
    // What an endpoint serves is for pages of its own origin.
    let told = from(SPA, "/_evergate/session").pair(&pair).send(world.gateway.address).await;
    assert_eq!((told.status, told.head.get("access-control-allow-origin")), (200, None));
}

/// What a script of a page of this app gets: status, challenge and reason, or that it may read nothing.
async fn fetched(page: &Client, url: &str, init: &str) -> Value {
    let script = format!(
        "const done = arguments[0]; fetch('{url}', {init})
           .then(async r => [r.status, r.headers.get('www-authenticate'), (await r.json()).reason])
           .then(done, error => done(error.name))"
    );
    page.execute_async(&script, Vec::new()).await.expect("the script runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_browser_lets_a_trusted_page_read_and_no_other() {
    let spa = Upstream::start().await;
    spa.page("/spa", "<!doctype html><title>spa</title>");
    let origin = format!("http://{}", spa.address);
    let api = format!("{}  - {{ path: /api/*, preflight: pass }}\n", STANDARD.trim_start());
    let trusting = World::with(&format!("csrf: {{ trusted_origins: \"{origin}\" }}\n{api}")).await;
    let other = World::with(&api).await;
    let (_driver, page) = browser().await;
    page.goto(&format!("{origin}/spa")).await.expect("the page");
    let mut told = Vec::new();
    for world in [&trusting, &other] {
        // The app grants the preflight.
        let granted = [
            ("Access-Control-Allow-Origin", origin.as_str()),
            ("Access-Control-Allow-Headers", "authorization"),
        ];
        world.upstream.answer(204, &granted, "");
        let url = format!("http://{}/api/x", world.gateway.address);
        let token = world.backend.token("alice").expired().sign();
        let bearer = format!("{{ headers: {{ Authorization: 'Bearer {token}' }} }}");
        told.push(fetched(&page, &url, &bearer).await);
        told.push(fetched(&page, &url, "{}").await);
        told.push(fetched(&page, &url, "{ credentials: 'include' }").await);
    }

    let expired = json!([401, INVALID.trim_start_matches("www-authenticate: "), "expired"]);
    let nobody = json!([401, "Bearer realm=\"evergate\"", "no_credentials"]);
    let unread = json!("TypeError");
    // With cookies nothing can be read, trusted or not.
    assert_eq!(told, [expired, nobody, unread.clone(), unread.clone(), unread.clone(), unread]);
    assert_eq!(trusting.upstream.record.lines(), ["OPTIONS /api/x"]);
}

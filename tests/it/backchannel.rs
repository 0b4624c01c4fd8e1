//! The auth backend ends sessions: OpenID Connect Back-Channel Logout. Against a real provider it is in
//! `oidc.rs`.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::support::backend::Pair;
use super::support::fleet::Fleet;
use super::support::*;

const PATH: &str = "/_evergate/backchannel-logout";
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
const FORM: &str = "application/x-www-form-urlencoded";

/// A logout token of alice's session s-1, as a provider makes it for the client `evergate`.
fn token(backend: &Backend) -> Token {
    backend
        .token("alice")
        .header("typ", "logout+jwt")
        .claim("aud", "evergate")
        .claim("events", json!({ EVENT: {} }))
        .claim("sid", "s-1")
}

fn form(token: &str) -> Ask {
    post(PATH, &format!("logout_token={token}")).header("Content-Type", FORM)
}

async fn logged_out(world: &World, token: Token) {
    let reply = form(&token.sign()).send(world.gateway.address).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, ""));
}

fn page(pair: &Pair) -> Ask {
    get("/page").pair(pair)
}

/// The refresh token, and no access token beside it.
fn alone(pair: &Pair) -> Ask {
    get("/page").header("Cookie", &format!("__Host-refresh={}", pair.refresh))
}

/// What becomes of a request: `ok`, or why not.
async fn told(world: &World, ask: Ask) -> String {
    let reply = ask.send(world.gateway.address).await;
    if reply.status == 200 { "ok".to_string() } else { reply.reason() }
}

fn with_sid(world: &World, user: &str, sid: &str) -> Pair {
    world.backend.login(user, |token| token.claim("sid", sid))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ended_at_the_provider_ends_here_and_no_other_does() {
    let world = World::start().await;
    let (one, other) = (with_sid(&world, "alice", "s-1"), with_sid(&world, "alice", "s-2"));
    for pair in [&one, &other] {
        assert_eq!(told(&world, page(pair)).await, "ok");
    }

    let logout = form(&token(&world.backend).without("sub").sign());
    let reply = logout.header("Origin", "null").send(world.gateway.address).await;

    let headers = [
        "cache-control: no-store",
        "content-length: *",
        "cross-origin-resource-policy: same-origin",
        "x-content-type-options: nosniff",
        "x-request-id: *",
    ];
    assert_eq!((reply.status, reply.headers()), (200, set(headers)));
    assert_eq!(told(&world, page(&one)).await, "revoked");
    assert_eq!(told(&world, alone(&one)).await, "refresh_refused");
    assert_eq!(told(&world, page(&other)).await, "ok");
    // Whatever is still signed for this session is no proof: it is over.
    world.skip(Duration::from_secs(60));
    assert_eq!(told(&world, page(&with_sid(&world, "alice", "s-1"))).await, "revoked");
    assert_eq!((world.backend.token_calls(), world.upstream.record.count()), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sid_a_person_is_out_everywhere_and_the_next_login_works() {
    let world = World::start().await;
    let (one, other) = (with_sid(&world, "alice", "s-1"), world.backend.login("alice", |t| t));
    let bob = world.backend.login("bob", |token| token);

    logged_out(&world, token(&world.backend).without("sid")).await;

    assert_eq!(told(&world, page(&one)).await, "revoked");
    assert_eq!(told(&world, page(&other)).await, "revoked");
    assert_eq!(told(&world, page(&bob)).await, "ok");
    world.skip(Duration::from_secs(1));
    let again = world.backend.login("alice", |token| token.aged(0));
    assert_eq!(told(&world, page(&again)).await, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_comes_late_ends_nothing_that_was_issued_after_it() {
    let world = World::start().await;
    let late = token(&world.backend).without("sid").aged(120);
    let before = world.backend.login("alice", |token| token.aged(121));
    let within = world.backend.login("alice", |token| token.aged(120));
    let after = world.backend.login("alice", |token| token.aged(100));

    logged_out(&world, late).await;

    let answers = [told(&world, page(&before)).await, told(&world, page(&within)).await];
    assert_eq!(answers, ["revoked", "revoked"]);
    assert_eq!(told(&world, page(&after)).await, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_name_no_session_end_with_any_session_of_their_person() {
    let world = World::start().await;
    let unnamed = world.backend.login("alice", |token| token);
    let hidden = world.backend.login("alice", |token| token);
    let (other, bob) = (with_sid(&world, "alice", "s-2"), world.backend.login("bob", |t| t));

    logged_out(&world, token(&world.backend)).await;

    assert_eq!(told(&world, page(&unnamed)).await, "revoked");
    assert_eq!(told(&world, page(&other)).await, "ok");
    assert_eq!(told(&world, page(&bob)).await, "ok");
    // Nor does a refresh token alone bring the session back: the new token is nobody's either.
    assert_eq!(told(&world, alone(&hidden)).await, "revoked");
    assert_eq!(told(&world, alone(&hidden)).await, "refresh_refused");
    world.skip(Duration::from_secs(1));
    let again = world.backend.login("alice", |token| token.aged(0));
    assert_eq!(told(&world, page(&again)).await, "ok");
}

/// Lays changes over a token: see tests/data/logout_token_attacks.txt.
fn changed(mut token: Token, header: &Value, claims: &Value) -> Token {
    for (name, value) in header.as_object().expect("an object") {
        token = match value.as_str() {
            Some("@absent") => token.without_header(name),
            _ => token.header(name, value.clone()),
        };
    }
    for (name, value) in claims.as_object().expect("an object") {
        let time = value.as_str().and_then(|text| text.strip_prefix("@now"));
        token = match (value.as_str(), time) {
            (_, Some(offset)) => {
                let offset: i64 = offset.parse().expect("seconds");
                token.claim(name, keys::now().checked_add_signed(offset).expect("a time"))
            }
            (Some("@absent"), _) => token.without(name),
            _ => token.claim(name, value.clone()),
        };
    }
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn each_defect_is_refused_and_ends_nothing() {
    let world = World::start().await;
    let pair = with_sid(&world, "alice", "s-1");
    let stranger = SigningKey::es256("stranger");
    let list = include_str!("../data/logout_token_attacks.txt");
    let list = list.replace("BACKEND", &world.backend.address.to_string());
    let lines: Vec<_> =
        list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(lines.len() > 50);
    let kid = kid(&token(&world.backend).sign());
    for line in &lines {
        let [says, signed, header, claims] = *line.splitn(4, " | ").collect::<Vec<_>>() else {
            panic!("four columns: {line}")
        };
        let json = |text: &str| serde_json::from_str(text).expect("JSON");
        let good = changed(token(&world.backend), &json(header), &json(claims));
        let sent = match signed {
            "ec" => good.sign(),
            "stranger" => good.key(&stranger).header("kid", kid.as_str()).sign(),
            "unknown" => good.key(&stranger).sign(),
            "tampered" => tampered(&good.sign()),
            "none" => {
                let whole = good.sign();
                format!("{}.", whole.rsplit_once('.').expect("three parts").0)
            }
            other => panic!("signed how? {other}"),
        };
        let reply = form(&sent).send(world.gateway.address).await;
        assert_eq!(reply.status, 400, "{line}: {}", reply.text());
        let expected = json!({"error": "invalid_request", "error_description": says});
        assert_eq!(reply.json(), expected, "{line}");
        assert_eq!(reply.head.all("cache-control"), ["no-store"]);
    }
    let metrics = world.gateway.metrics().await;
    assert_eq!(metrics.value("evergate_denials"), 0.0);
    assert_eq!(metrics.sum("evergate_backchannel_logouts_total"), lines.len() as f64);
    assert_eq!(told(&world, page(&pair)).await, "ok");
    // The same token without a defect is good: each line shows its own.
    logged_out(&world, token(&world.backend)).await;
    assert_eq!(told(&world, page(&pair)).await, "revoked");
}

/// The `kid` of a token's header.
fn kid(token: &str) -> String {
    use base64::Engine;
    let header = token.split('.').next().expect("a header");
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).expect("base64");
    let header: Value = serde_json::from_slice(&header).expect("JSON");
    header["kid"].as_str().expect("a kid").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_token_counts_once() {
    let world = World::start().await;
    let pair = with_sid(&world, "alice", "s-1");
    let sent = token(&world.backend).without("sid").sign();
    let replies = [
        form(&sent).send(world.gateway.address).await,
        form(&sent).send(world.gateway.address).await,
    ];

    assert_eq!(client::statuses(&replies), [200, 400]);
    let expected = json!({
        "error": "invalid_request", "error_description": "this logout token was seen before",
    });
    assert_eq!(replies[1].json(), expected);
    assert_eq!(told(&world, page(&pair)).await, "revoked");
    let metrics = world.gateway.metrics().await;
    let count = |result: &str| {
        metrics.value(&format!(
            "evergate_backchannel_logouts_total{{issuer=\"default\",result=\"{result}\"}}"
        ))
    };
    assert_eq!([count("ok"), count("replayed"), count("invalid")], [1.0, 1.0, 0.0]);
    assert_eq!(metrics.value("evergate_revocations_total{source=\"backchannel\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_is_a_small_form_by_post() {
    let world = World::start().await;
    let pair = with_sid(&world, "alice", "s-1");
    let token = || token(&world.backend).sign();
    let says = |words: &str| json!({"error": "invalid_request", "error_description": words});
    for (ask, words) in [
        (post(PATH, "").header("Content-Type", FORM), "logout_token is missing"),
        (
            post(PATH, &format!("token={}", token())).header("Content-Type", FORM),
            "logout_token is missing",
        ),
        (form(&format!("{0}&logout_token={0}", token())), "logout_token came twice"),
        (form("%zz"), "the body is not a form"),
        (form("x.y"), "not three parts"),
        (form("a.b.c.d.e"), "five parts: an encrypted token"),
        (form(&"x".repeat(9_000)), "longer than limits.max_token_bytes"),
        (
            post(PATH, &format!("logout_token={}", token())),
            "the body is not application/x-www-form-urlencoded",
        ),
        (
            post(PATH, &json!({"logout_token": token()}).to_string())
                .header("Content-Type", "application/json"),
            "the body is not application/x-www-form-urlencoded",
        ),
    ] {
        let reply = ask.send(world.gateway.address).await;
        assert_eq!((reply.status, reply.json()), (400, says(words)));
    }
    let large = form(&format!("{}&x={}", token(), "y".repeat(64 * 1024)));
    let reply = large.send(world.gateway.address).await;
    assert_eq!((reply.status, reply.reason().as_str()), (413, "body_too_large"));
    let chunked =
        post(PATH, "").header("Content-Type", FORM).header("Transfer-Encoding", "chunked");
    let piece = format!("{:x}\r\n{}\r\n0\r\n\r\n", 70_000, "y".repeat(70_000));
    let reply = raw(world.gateway.address, &[chunked.bytes(), piece.into_bytes()].concat()).await;
    assert_eq!((reply.status, reply.reason().as_str()), (413, "body_too_large"));
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let reply = client::ask(method, PATH).send(world.gateway.address).await;
        assert_eq!((reply.status, reply.head.all("allow")), (405, vec!["POST"]), "{method}");
    }
    assert_eq!(world.gateway.metrics().await.value("evergate_denials"), 0.0);
    assert_eq!(told(&world, page(&pair)).await, "ok");
    assert_eq!(world.upstream.record.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_with_other_fields_and_escapes_is_read_as_forms_are() {
    let world = World::start().await;
    let sent = token(&world.backend).sign().replace('.', "%2E");
    let ask = post(PATH, &format!("a=b+c&logout%5Ftoken={sent}&d"))
        .header("Content-Type", &format!("{FORM}; charset=UTF-8"));
    assert_eq!(ask.send(world.gateway.address).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_no_type_or_of_type_jwt_will_do() {
    let world = World::start().await;
    for kind in ["logout+jwt", "application/logout+JWT", "JWT"] {
        logged_out(&world, token(&world.backend).header("typ", kind)).await;
    }
    logged_out(&world, token(&world.backend).without_header("typ")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_for_the_api_the_refreshing_client_or_a_client_that_is_named() {
    for (more, aud, status) in [
        ("", json!("legacy-app"), 200),
        ("", json!("evergate"), 200),
        ("", json!(["other", "evergate"]), 200),
        ("", json!("login-app"), 400),
        (", logout_audience: [login-app, second]", json!("login-app"), 200),
        (", logout_audience: second", json!("second"), 200),
    ] {
        let keys = format!("audience: legacy-app{more}");
        let world = World::changed("audience: legacy-app", &keys).await;
        let sent = token(&world.backend).claim("aud", aud.clone()).sign();
        let reply = form(&sent).send(world.gateway.address).await;
        assert_eq!(reply.status, status, "{aud} {more}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_keys_are_out_of_reach_it_is_told_to_come_again() {
    let mut world = World::start().await;
    let sent = token(&world.backend).sign();
    world.backend.stop();
    let fresh = Gateway::start(&world::place(STANDARD, &world.backend, &world.upstream)).await;

    let reply = form(&sent).send(fresh.address).await;

    assert_eq!((reply.status, reply.reason().as_str()), (503, "keys_unavailable"));
    assert!(reply.head.get("retry-after").is_some());
    let away = "evergate_backchannel_logouts_total{issuer=\"default\",result=\"keys_unavailable\"}";
    assert_eq!(fresh.metrics().await.value(away), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_issuer_there_is_no_such_endpoint() {
    let yaml = "listen: 127.0.0.1:0\nadmin: { address: \"127.0.0.1:0\" }\n\
                upstream: http://UPSTREAM\nroutes: [{ path: /*, auth: public }]\n";
    let world = World::with(yaml).await;
    let reply = form(&token(&world.backend).sign()).send(world.gateway.address).await;
    assert_eq!((reply.status, reply.reason().as_str()), (404, "no_route"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_token_is_no_access_token() {
    let world = World::start().await;
    let sent = token(&world.backend).claim("aud", "legacy-app").header("typ", "JWT").sign();
    for ask in [get("/page").bearer(&sent), get("/page").access(&sent)] {
        assert_eq!(told(&world, ask).await, "wrong_type");
    }
    let other = world.backend.token("alice").claim("events", json!({"https://x.test/e": {}}));
    assert_eq!(told(&world, get("/page").bearer(&other.sign())).await, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_ends_its_own_sessions_only() {
    let other = Backend::start().await;
    let issuers = format!(
        "issuers: {{ home: {{ url: \"http://BACKEND\", audience: legacy-app }}, \
         other: {{ url: \"http://{}\", audience: legacy-app }} }}",
        other.address
    );
    let world = World::with(&format!(
        "listen: 127.0.0.1:0\nadmin: {{ address: \"127.0.0.1:0\" }}\nupstream: http://UPSTREAM\n\
         {issuers}\nroutes: [{{ path: /* }}]\n"
    ))
    .await;
    let bearer =
        |backend: &Backend| get("/page").bearer(&backend.token("alice").claim("sid", "s-1").sign());
    let sent = token(&other).claim("aud", "legacy-app").claim("jti", "one").sign();
    let home = token(&world.backend).claim("aud", "legacy-app").claim("jti", "one");

    assert_eq!(form(&sent).send(world.gateway.address).await.status, 200);

    assert_eq!(told(&world, bearer(&world.backend)).await, "ok");
    assert_eq!(told(&world, bearer(&other)).await, "revoked");
    // An id of one issuer's is not seen because the other used it.
    logged_out(&world, home).await;
    assert_eq!(told(&world, bearer(&world.backend)).await, "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gateway_is_told_all_refuse_within_a_second() {
    let fleet = Fleet::of(2, "", "").await;
    let unnamed = fleet.backend.login("alice", |token| token);
    let named = fleet.backend.login("alice", |token| token.claim("sid", "s-1"));
    for pair in [&unnamed, &named] {
        assert_eq!(fleet.send(1, page(pair)).await.status, 200);
    }

    let reply = fleet.send(0, form(&token(&fleet.backend).sign())).await;
    let since = Instant::now();
    for pair in [&unnamed, &named] {
        while fleet.send(1, page(pair)).await.status == 200 && since.elapsed().as_secs() < 5 {
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(fleet.send(1, page(pair)).await.reason(), "revoked");
    }

    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
}

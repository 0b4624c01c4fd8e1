//! Who signs: where keys come from, what happens when they change or cannot be had, and several
//! issuers side by side.

use std::collections::BTreeSet;

use super::support::parts::Folder;
use super::support::*;

/// A kid that was never seen is looked up at once, not only half a minute after the last fetch.
async fn impatient() -> World {
    World::changed("audience: legacy-app", "audience: legacy-app, jwks: { min_interval: 1ms }")
        .await
}

fn key_set_fetches(backend: &Backend) -> usize {
    backend.record.lines().iter().filter(|line| *line == "GET /jwks").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_a_url_a_file_a_pem_or_a_shared_secret() {
    let folder = Folder::new();
    let (ec, ed) = (SigningKey::es256("in-a-file"), SigningKey::ed25519("in-a-pem"));
    let secret = "a shared secret of at least 32 bytes";
    let set = serde_json::json!({ "keys": [ec.jwk] }).to_string();
    let file = folder.write("keys.json", &set).display().to_string();
    let pem = serde_json::to_string(&ed.public_pem).expect("text");
    for (source, key) in [
        ("url: \"http://BACKEND/jwks\"".to_string(), None),
        (format!("file: \"{file}\""), Some(ec)),
        (format!("pem: {pem}"), Some(ed)),
        (format!("secret: \"{secret}\""), Some(SigningKey::hs256(secret))),
    ] {
        let to = format!("audience: legacy-app, keys: {{ {source} }}");
        let world = World::changed("audience: legacy-app", &to).await;
        let own = world.backend.token("alice");
        let other = own.clone().key(&SigningKey::es256("key-1"));
        let good = key.map_or(own.clone(), |key| own.key(&key));

        let good = get("/page").access(&good.sign()).send(world.gateway.address).await;
        let other = get("/page").access(&other.sign()).send(world.gateway.address).await;

        assert_eq!((good.status, other.status), (200, 401), "{source}: {}", good.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_signing_key_is_found_by_its_kid() {
    let world = impatient().await;
    let first = world.backend.token("alice").sign();
    assert_eq!(get("/page").access(&first).send(world.gateway.address).await.status, 200);

    world.backend.rotate_key(true);
    let second = world.backend.token("alice").sign();

    for token in [&second, &first] {
        assert_eq!(get("/page").access(token).send(world.gateway.address).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_issuer_withdrew_ends_what_was_verified_with_it() {
    let world = impatient().await;
    let old = world.backend.token("alice").sign();
    assert_eq!(get("/page").access(&old).send(world.gateway.address).await.status, 200);

    world.backend.rotate_key(false);
    let new = world.backend.token("alice").sign();
    let new = get("/page").access(&new).send(world.gateway.address).await;
    let old = get("/page").fetch().access(&old).send(world.gateway.address).await;

    assert_eq!(new.status, 200);
    assert_eq!((old.status, old.reason().as_str()), (401, "unknown_key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_does_not_end_a_session() {
    let world = World::start().await;
    let pair = world.backend.login("alice", Token::expired);

    world.backend.rotate_key(false);
    let reply = get("/page").pair(&pair).send(world.gateway.address).await;

    assert_eq!(reply.status, 200, "a flight may fetch keys although strangers may not");
    assert!(reply.new_pair().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_with_made_up_kids_make_no_traffic_to_the_issuer() {
    let world = World::start().await;
    let token = world.backend.token("alice");
    assert_eq!(get("/page").access(&token.sign()).send(world.gateway.address).await.status, 200);
    let before = key_set_fetches(&world.backend);

    let asks = (0..50).map(|number| {
        let token = token.clone().header("kid", format!("made-up-{number}"));
        get("/page").fetch().access(&token.sign()).send(world.gateway.address)
    });
    let replies = futures_util::future::join_all(asks).await;

    let reasons: BTreeSet<String> = replies.iter().map(Reply::reason).collect();
    assert_eq!(reasons, set(["unknown_key"]));
    assert!(key_set_fetches(&world.backend) - before <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_keys_serve_while_the_issuer_is_down() {
    let mut world = World::start().await;
    let token = world.backend.token("alice");
    assert_eq!(get("/page").access(&token.sign()).send(world.gateway.address).await.status, 200);

    world.backend.stop();
    let unseen = token.claim("jti", "never seen before").sign();

    assert_eq!(get("/page").access(&unseen).send(world.gateway.address).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_no_verifier_should_use_are_left_out() {
    let world = impatient().await;
    let key = SigningKey::es256("for-encryption");
    let mut jwk = key.jwk.clone();
    jwk["use"] = "enc".into();
    world.backend.publish_jwk(jwk);

    let token = world.backend.token("alice").key(&key).sign();
    let reply = get("/page").fetch().access(&token).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.reason().as_str()), (401, "unknown_key"));
}

/// Two issuers, each with a token endpoint of its own.
async fn two() -> (World, Backend) {
    let other = Backend::start().await;
    let yaml = STANDARD
        .replace("issuer: { url: \"http://BACKEND\", audience: legacy-app }\n", "")
        .replace("refresh: { url: \"http://BACKEND/token\", client_id: evergate, client_secret: s3cret }\n", "")
        .replace("  - { path: /auth/*, auth: public, upstream: \"http://BACKEND\", adopt_tokens: true }\n", "")
        + "issuers:\n  \
           staff: { url: \"http://BACKEND\", audience: legacy-app, refresh: { url: \"http://BACKEND/token\" } }\n  \
           guests: { url: \"http://OTHER\", audience: legacy-app, refresh: { url: \"http://OTHER/token\" } }\n";
    (World::with(&yaml.replace("OTHER", &other.address.to_string())).await, other)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_two_issuers_pass_by_their_own_keys_only() {
    let (world, guests) = two().await;
    let crossed = world.backend.token("alice").claim("iss", format!("http://{}", guests.address));

    for (token, status) in
        [(world.backend.token("alice"), 200), (guests.token("bob"), 200), (crossed, 401)]
    {
        let reply = get("/page").access(&token.sign()).send(world.gateway.address).await;
        assert_eq!(reply.status, status);
    }
    let seen = world.upstream.record.all();
    let users: Vec<_> = seen.iter().flat_map(|seen| seen.head.all("x-forwarded-user")).collect();
    assert_eq!(users, ["alice", "bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_issuers_the_refresh_cookie_says_who_is_asked() {
    let (world, guests) = two().await;
    let refresh = guests.login("bob", Token::expired).refresh;
    let named = get("/page").header("Cookie", &format!("__Host-refresh=guests~{refresh}"));
    let bare = guests.login("bob", Token::expired);

    let named = named.send(world.gateway.address).await;
    let bare = get("/page").fetch().pair(&bare).send(world.gateway.address).await;

    assert_eq!(named.status, 200, "{}", named.text());
    assert!(named.cookies()["__Host-refresh"].value.starts_with("guests~"));
    // The forged or expired access token beside it chooses nothing, not even the issuer.
    assert_eq!((bare.status, bare.reason().as_str()), (401, "expired"));
    assert_eq!((guests.token_calls(), world.backend.token_calls()), (1, 0));
}

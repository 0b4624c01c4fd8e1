//! Where keys come from.

use super::*;

async fn discovered(issuer: &FakeIssuer, url: &str, document: Value) -> String {
    issuer.serve(DISCOVERY, Reply::ok(document.to_string()));
    let signer = Signer::new(ES256, "k");
    issuer.serve_keys(&[&signer]);
    let tokens = tokens(IssuerSettings { url: url.to_owned(), ..settings() });
    verdict(&tokens, &signer.token(&claims(json!({"iss": url}))), NOW).await
}

#[tokio::test]
async fn discovery_finds_the_key_set_whatever_slash_the_issuer_ends_in() {
    for slash in ["", "/"] {
        let issuer = FakeIssuer::with_keys(&[]).await;
        let url = format!("{}{slash}", issuer.url);
        let document = json!({"issuer": url, "jwks_uri": format!("{}{JWKS}", issuer.url)});

        assert_eq!(discovered(&issuer, &url, document).await, "good alice");
    }
}

#[tokio::test]
async fn a_discovery_document_about_another_issuer_brings_no_keys() {
    let issuer = FakeIssuer::with_keys(&[]).await;
    let (url, jwks) = (issuer.url.clone(), format!("{}{JWKS}", issuer.url));
    for document in [
        json!({"issuer": format!("{url}/"), "jwks_uri": jwks}),
        json!({"issuer": url.to_uppercase(), "jwks_uri": jwks}),
        json!({"issuer": [url], "jwks_uri": jwks}),
        json!({"jwks_uri": jwks}),
        json!({"issuer": url}),
        json!({"issuer": url, "jwks_uri": "http://issuer.example/jwks"}),
        json!({"issuer": url, "jwks_uri": "file:///etc/passwd"}),
        json!({"issuer": url, "jwks_uri": "/jwks.json"}),
    ] {
        let said = discovered(&issuer, &url, document.clone()).await;
        assert_eq!(said, "unavailable 1", "{document}");
    }
    assert_eq!(issuer.hits(JWKS), 0);
}

#[tokio::test]
async fn a_key_set_file_is_read_at_start_and_again_for_an_unknown_kid() {
    let (old, new) = (Signer::new(ES256, "old"), Signer::new(ES256, "new"));
    let directory = std::env::temp_dir().join(format!("evergate-token-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("jwks.json");
    std::fs::write(&path, key_set(&[&old])).unwrap();
    let file = || IssuerSettings { keys: KeySource::File(path.clone()), ..settings() };
    let tokens = tokens(file());

    assert_eq!(verdict(&tokens, &old.token(&lasting()), NOW).await, "good alice");
    std::fs::write(&path, key_set(&[&new])).unwrap();
    assert_eq!(verdict(&tokens, &new.token(&lasting()), NOW).await, "good alice");
    assert_eq!(verdict(&tokens, &old.token(&lasting()), NOW).await, "unknown_key");

    std::fs::remove_dir_all(&directory).unwrap();
    assert!(Tokens::new(vec![file()], limits()).is_err());
}

#[tokio::test]
async fn pem_keys_take_tokens_with_and_without_kid_and_ask_nobody() {
    let rsa = Signer::new(RS256, "k");
    let keys = KeySource::Pem(rsa.public_pem());
    let tokens = tokens(IssuerSettings { keys, ..settings() });
    let forged = Signer::new(ES256, "k").token(&lasting());

    assert_eq!(verdict(&tokens, &rsa.token(&lasting()), NOW).await, "good alice");
    assert_eq!(verdict(&tokens, &rsa.without_kid().token(&lasting()), NOW).await, "good alice");
    assert_eq!(verdict(&tokens, &forged, later(1_000_000)).await, "unknown_key");
}

#[test]
fn settings_that_cannot_work_are_refused_at_start() {
    let secret = |text: &str| KeySource::Secret(Secret::new(text));
    let long = "s".repeat(32);
    let refused = |keys: KeySource, algorithms: &[Algorithm]| {
        let algorithms = algorithms.to_vec();
        let settings = IssuerSettings { keys, algorithms, ..settings() };
        Tokens::new(vec![settings], limits()).err().map(|error| error.to_string())
    };

    assert_eq!(refused(secret(&long), &[HS256]), None);
    for (keys, algorithms, part) in [
        (secret("short"), &[HS256][..], "secret: 5 bytes, its algorithms need at least 32"),
        (secret(&long), &[HS256, Algorithm::HS512], "need at least 64"),
        (secret(&long), &[HS256, RS256], "RS256 does not go with this kind of keys"),
        (KeySource::Discovery, &[ES256, HS256], "HS256 does not go with this kind of keys"),
        (KeySource::Discovery, &[], "algorithms: at least one is needed"),
        (KeySource::Pem("x".into()), &[ES256], "no section `BEGIN PUBLIC KEY`"),
        (KeySource::File("/nonexistent/jwks.json".into()), &[ES256], "/nonexistent/jwks.json"),
    ] {
        let error = refused(keys, algorithms).unwrap();
        assert!(error.starts_with("issuer default: ") && error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn keys_are_fetched_before_anybody_asks_and_again_ahead_of_their_ttl() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let mut settings = issuer.settings();
    settings.jwks.ttl = seconds(0);
    let tokens = tokens(settings);
    let background = tokio::spawn({
        let tokens = Arc::clone(&tokens);
        async move { tokens.keep_fresh().await }
    });

    issuer.hit(JWKS, 2).await;

    background.abort();
    assert!(background.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn keys_that_never_change_need_no_background() {
    let keys = KeySource::Secret(Secret::new("s".repeat(32)));
    let tokens = tokens(IssuerSettings { keys, algorithms: vec![HS256], ..settings() });

    tokens.keep_fresh().await;

    assert!(tokens.issuer_stats(NOW)[0].usable);
}

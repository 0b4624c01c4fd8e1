//! An issuer that is down, or answers nonsense.

use super::*;

#[tokio::test]
async fn stale_keys_serve_while_the_issuer_is_down_but_not_for_ever() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    let day = 86_400;
    let token = signer.token(&claims(json!({"exp": NOW.unix.0 + 10 * day})));
    tokens.verify(&token, &[ISSUER], NOW).await;
    issuer.goes_down();

    assert_eq!(verdict(&tokens, &token, later(day - 1)).await, "good alice");
    assert!(tokens.cached(&token, &[ISSUER], later(day - 1)).is_some());
    assert!(tokens.cached(&token, &[ISSUER], later(day + 1)).is_none());
    assert_eq!(verdict(&tokens, &token, later(day + 1)).await, "unavailable 1");
}

#[tokio::test]
async fn down_at_start_is_unavailable_with_back_off_and_then_it_recovers() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[]).await;
    issuer.goes_down();
    let tokens = tokens(issuer.settings());
    let token = signer.token(&lasting());
    // A margin over each pause: the failed fetches take a little time of their own.
    let mut said = Vec::new();
    for after in [0, 1, 2, 5, 10, 19, 36, 67, 68] {
        said.push((verdict(&tokens, &token, later(after)).await, issuer.hits(JWKS)));
    }
    issuer.serve_keys(&[&signer]);
    said.push((verdict(&tokens, &token, later(98)).await, issuer.hits(JWKS)));

    let unavailable = |wait: u64, hits: usize| (format!("unavailable {wait}"), hits);
    assert_eq!(
        said,
        [
            unavailable(1, 1),
            unavailable(1, 1),
            unavailable(2, 2),
            unavailable(4, 3),
            unavailable(8, 4),
            unavailable(16, 5),
            unavailable(30, 6),
            unavailable(30, 7),
            unavailable(30, 7),
            ("good alice".to_owned(), 8),
        ]
    );
}

#[tokio::test]
async fn answers_that_are_no_key_set_bring_no_keys() {
    let signer = Signer::new(ES256, "k");
    let elsewhere = FakeIssuer::with_keys(&[&signer]).await;
    let target = format!("location: {}{JWKS}\r\n", elsewhere.url);
    let keys = key_set(&[&signer]);
    let padded = |size: usize| format!("{}{keys}", " ".repeat(size - keys.len()));
    let unfit = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k"}]}).to_string();
    for reply in [
        Reply { status: 302, headers: target.clone(), body: keys.clone() },
        Reply { status: 307, headers: target, body: String::new() },
        Reply { status: 404, headers: String::new(), body: keys.clone() },
        Reply { status: 204, headers: String::new(), body: String::new() },
        Reply::ok(padded(10 * 1024 * 1024)),
        Reply::ok(padded(256 * 1024 + 1)),
        Reply::ok("<html>"),
        Reply::ok(r#"{"keys":[]}"#),
        Reply::ok(unfit),
    ] {
        let issuer = FakeIssuer::with_keys(&[]).await;
        issuer.serve(JWKS, reply.clone());
        let said = verdict(&tokens(issuer.settings()), &signer.token(&lasting()), NOW).await;
        assert_eq!(said, "unavailable 1", "{}: {:.60}", reply.status, reply.body);
    }
    assert_eq!(elsewhere.hits(JWKS), 0);
    let issuer = FakeIssuer::with_keys(&[]).await;
    issuer.serve(JWKS, Reply::ok(padded(256 * 1024)));
    let said = verdict(&tokens(issuer.settings()), &signer.token(&lasting()), NOW).await;
    assert_eq!(said, "good alice");
}

#[tokio::test]
async fn a_set_whose_keys_were_all_withdrawn_fails_closed() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    let token = signer.token(&lasting());
    tokens.verify(&token, &[ISSUER], NOW).await;
    issuer.serve_keys(&[]);
    let unknown = Signer::new(ES256, "unknown").token(&lasting());

    assert_eq!(verdict(&tokens, &unknown, later(30)).await, "unavailable 1");
    assert!(tokens.cached(&token, &[ISSUER], later(30)).is_none());
    assert_eq!(verdict(&tokens, &token, later(31)).await, "unavailable 1");
    issuer.serve_keys(&[&signer]);
    assert_eq!(verdict(&tokens, &token, later(32)).await, "good alice");
}

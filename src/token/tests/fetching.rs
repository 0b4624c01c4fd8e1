//! How often an issuer is asked, and by whom.

use super::*;

#[tokio::test]
async fn a_storm_of_unknown_kids_makes_one_fetch_in_min_interval() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    tokens.verify(&signer.token(&lasting()), &[ISSUER], NOW).await;
    issuer.close_gate();
    let storm = |now: Now, count: usize| {
        let tokens = Arc::clone(&tokens);
        let mut set = tokio::task::JoinSet::new();
        for index in 0..count {
            let tokens = Arc::clone(&tokens);
            let header = json!({"alg": "ES256", "kid": format!("random-{}-{index}", now.unix.0)});
            let token = signer.signed(&header.to_string(), &lasting().to_string());
            set.spawn(async move { verdict(&tokens, &token, now).await });
        }
        set
    };

    // Within the interval of the first fetch: none at all, nobody waits.
    assert!(storm(later(29), 50).join_all().await.iter().all(|word| word == "unknown_key"));
    let waiting = storm(later(30), 50);
    issuer.open_gate();

    assert!(waiting.join_all().await.iter().all(|word| word == "unknown_key"));
    assert!(storm(later(59), 50).join_all().await.iter().all(|word| word == "unknown_key"));
    assert_eq!(issuer.hits(JWKS), 2);
}

#[tokio::test]
async fn one_random_kid_again_and_again_is_remembered_for_a_minute() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    let unknown = Signer::new(ES256, "unknown").token(&lasting());
    let mut hits = Vec::new();

    for after in [0, 31, 59, 60, 91, 119, 120] {
        assert_eq!(verdict(&tokens, &unknown, later(after)).await, "unknown_key");
        hits.push(issuer.hits(JWKS));
    }

    assert_eq!(hits, [1, 1, 1, 2, 2, 2, 3]);
}

#[tokio::test]
async fn a_changed_key_set_clears_the_unknown_kids() {
    let (old, new) = (Signer::new(ES256, "old"), Signer::new(ES256, "new"));
    let issuer = FakeIssuer::with_keys(&[&old]).await;
    let tokens = tokens(issuer.settings());
    let token = new.token(&lasting());
    assert_eq!(verdict(&tokens, &token, NOW).await, "unknown_key");
    let third = Signer::new(ES256, "third");
    issuer.serve_keys(&[&old, &third]);
    assert_eq!(verdict(&tokens, &third.token(&lasting()), later(30)).await, "good alice");
    issuer.serve_keys(&[&old, &third, &new]);

    assert_eq!(verdict(&tokens, &token, later(59)).await, "unknown_key");
    // Under the minute since it was first unknown, but the set has changed since.
    assert_eq!(verdict(&tokens, &token, later(60)).await, "good alice");
}

#[tokio::test]
async fn failed_fetches_count_against_the_interval() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    tokens.verify(&signer.token(&lasting()), &[ISSUER], NOW).await;
    issuer.serve(JWKS, Reply::status(500));
    let unknown = Signer::new(ES256, "unknown").token(&lasting());

    for after in [30, 31, 59] {
        let said = verdict(&tokens, &unknown, later(after)).await;
        assert!(said.starts_with("unavailable"), "{said}");
    }

    assert_eq!(issuer.hits(JWKS), 2);
}

#[tokio::test]
async fn our_own_new_token_has_its_own_fetch() {
    let (old, new) = (Signer::new(ES256, "old"), Signer::new(ES256, "new"));
    let issuer = FakeIssuer::with_keys(&[&old]).await;
    let tokens = tokens(issuer.settings());
    let token = new.token(&lasting());
    assert_eq!(verdict(&tokens, &token, NOW).await, "unknown_key");
    issuer.serve_keys(&[&old, &new]);
    assert_eq!(verdict(&tokens, &token, later(1)).await, "unknown_key");

    let renewed = tokens.verify_new(&token, ISSUER, later(1)).await;

    assert_eq!(word(&renewed), "good alice");
    // Remembered only once a request shows it.
    assert!(tokens.cached(&token, &[ISSUER], later(1)).is_none());
    assert_eq!(issuer.hits(JWKS), 2);
}

#[tokio::test]
async fn our_own_new_token_asks_again_after_joining_an_older_fetch() {
    let (old, new) = (Signer::new(ES256, "old"), Signer::new(ES256, "new"));
    let issuer = FakeIssuer::with_keys(&[&old]).await;
    let tokens = tokens(issuer.settings());
    issuer.close_gate();
    let first = tokio::spawn({
        let (tokens, token) = (Arc::clone(&tokens), old.token(&lasting()));
        async move { verdict(&tokens, &token, NOW).await }
    });
    issuer.hit(JWKS, 1).await;
    let ours = tokio::spawn({
        let (tokens, token) = (Arc::clone(&tokens), new.token(&lasting()));
        async move { word(&tokens.verify_new(&token, ISSUER, NOW).await) }
    });
    issuer.open_gate_for(1);
    issuer.hit(JWKS, 2).await;
    issuer.serve_keys(&[&old, &new]);
    issuer.open_gate();

    assert_eq!(first.await.unwrap(), "good alice");
    assert_eq!(ours.await.unwrap(), "good alice");
    assert_eq!(issuer.hits(JWKS), 2);
}

#[tokio::test]
async fn our_own_new_token_finds_a_new_key_under_an_old_kid() {
    let (old, new) = (Signer::new(ES256, "k"), Signer::new(ES256, "k"));
    let issuer = FakeIssuer::with_keys(&[&old]).await;
    let tokens = tokens(issuer.settings());
    let (before, after) = (old.token(&lasting()), new.token(&lasting()));
    tokens.verify(&before, &[ISSUER], NOW).await;
    issuer.serve_keys(&[&new]);

    assert_eq!(verdict(&tokens, &after, later(60)).await, "bad_signature");
    assert_eq!(word(&tokens.verify_new(&after, ISSUER, later(60)).await), "good alice");

    assert!(tokens.cached(&before, &[ISSUER], later(60)).is_none());
}

#[tokio::test]
async fn our_own_new_token_is_not_condemned_while_the_issuer_is_down() {
    let old = Signer::new(ES256, "old");
    let issuer = FakeIssuer::with_keys(&[&old]).await;
    let tokens = tokens(issuer.settings());
    tokens.verify(&old.token(&lasting()), &[ISSUER], NOW).await;
    issuer.goes_down();

    let new = Signer::new(ES256, "new").token(&lasting());
    let same_kid = Signer::new(ES256, "old").token(&lasting());

    assert_eq!(word(&tokens.verify_new(&new, ISSUER, later(9)).await), "unavailable 1");
    assert_eq!(word(&tokens.verify_new(&same_kid, ISSUER, later(9)).await), "unavailable 2");
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_cancel_the_fetch() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    issuer.close_gate();
    let token = signer.token(&lasting());
    let caller = tokio::spawn({
        let (tokens, token) = (Arc::clone(&tokens), token.clone());
        async move { verdict(&tokens, &token, NOW).await }
    });
    issuer.hit(JWKS, 1).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    issuer.open_gate();

    assert_eq!(verdict(&tokens, &token, NOW).await, "good alice");
    assert_eq!(issuer.hits(JWKS), 1);
}

#[tokio::test]
async fn a_stranger_who_guesses_the_next_kid_cannot_condemn_our_own_new_token() {
    let (old, new) = (Signer::new(ES256, "old"), Signer::new(ES256, "new"));
    let issuer = FakeIssuer::with_keys(&[&old]).await;
    let tokens = tokens(issuer.settings());
    let guessed = Signer::new(ES256, "new").token(&lasting());
    assert_eq!(verdict(&tokens, &guessed, NOW).await, "unknown_key");
    issuer.goes_down();

    let ours = tokens.verify_new(&new.token(&lasting()), ISSUER, later(9)).await;

    assert_eq!(word(&ours), "unavailable 1");
}

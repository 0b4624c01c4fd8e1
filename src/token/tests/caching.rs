//! What the verified-token cache may answer.

use super::*;

#[tokio::test]
async fn a_verified_token_is_a_hit_until_it_expires() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    let token = signer.token(&claims(json!({})));
    let cached = |now| tokens.cached(&token, &[ISSUER], now);

    assert!(cached(NOW).is_none());
    let Verdict::Good(verified) = tokens.verify(&token, &[ISSUER], NOW).await else { panic!() };

    assert!(Arc::ptr_eq(&cached(NOW).unwrap(), &verified));
    assert!(cached(later(299)).is_some());
    assert!(cached(later(300)).is_none());
    assert_eq!((tokens.stats().cache_hits(), tokens.stats().cache_misses()), (2, 2));
}

#[tokio::test]
async fn a_hit_counts_only_for_an_accepted_issuer_and_the_whole_token() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = Tokens::new(vec![issuer.settings(), settings()], limits()).unwrap();
    let token = signer.token(&claims(json!({})));
    tokens.verify(&token, &[ISSUER], NOW).await;

    assert!(tokens.cached(&token, &[IssuerId(1), ISSUER], NOW).is_some());
    assert!(tokens.cached(&token, &[IssuerId(1)], NOW).is_none());
    assert!(tokens.cached(&token, &[], NOW).is_none());
    assert!(tokens.cached(&token[..token.len() - 1], &[ISSUER], NOW).is_none());
    assert!(tokens.cached(&format!("{token}="), &[ISSUER], NOW).is_none());
}

#[tokio::test]
async fn neither_failures_nor_expired_tokens_are_kept() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    let expired = signer.token(&claims(json!({"exp": NOW.unix.0})));
    let wrong = signer.token(&claims(json!({"aud": "x"})));

    for token in [&expired, &wrong] {
        tokens.verify(token, &[ISSUER], NOW).await;
        assert!(tokens.cached(token, &[ISSUER], NOW).is_none());
        // Also when the clock is set back.
        assert!(tokens.cached(token, &[ISSUER], Now::default()).is_none());
    }
}

#[tokio::test]
async fn a_dropped_key_ends_its_cached_verdict_at_once() {
    let (old, new) = (Signer::new(ES256, "old"), Signer::new(ES256, "new"));
    let issuer = FakeIssuer::with_keys(&[&old]).await;
    let tokens = tokens(issuer.settings());
    let token = old.token(&lasting());
    tokens.verify(&token, &[ISSUER], NOW).await;
    issuer.serve_keys(&[&new]);

    let renewed = tokens.verify(&new.token(&lasting()), &[ISSUER], later(30)).await;

    assert_eq!(word(&renewed), "good alice");
    assert!(tokens.cached(&token, &[ISSUER], later(30)).is_none());
    assert_eq!(verdict(&tokens, &token, later(30)).await, "unknown_key");
}

#[tokio::test]
async fn an_added_key_leaves_cached_verdicts_alone() {
    let (old, new) = (Signer::new(ES256, "old"), Signer::new(ES256, "new"));
    let issuer = FakeIssuer::with_keys(&[&old]).await;
    let tokens = tokens(issuer.settings());
    let token = old.token(&lasting());
    tokens.verify(&token, &[ISSUER], NOW).await;
    issuer.serve_keys(&[&new, &old]);

    tokens.verify(&new.token(&lasting()), &[ISSUER], later(30)).await;

    assert!(tokens.cached(&token, &[ISSUER], later(30)).is_some());
}

//! What is shown of it all.

use super::*;
use crate::token::explain::ExplainedTime;
use crate::token::stats::IssuerStats;

#[tokio::test]
async fn counters_tell_what_happened() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    let before = tokens.issuer_stats(NOW);
    let good = signer.token(&lasting());
    for token in [&good, &good, "x", &signer.token(&claims(json!({"exp": 1})))] {
        tokens.verify(token, &[ISSUER], NOW).await;
    }
    issuer.goes_down();
    tokens.verify_new(&Signer::new(ES256, "x").token(&lasting()), ISSUER, later(20)).await;

    let results = [("good", 2), ("expired", 1), ("malformed_token", 1), ("keys_unavailable", 1)];
    let counted: BTreeMap<_, _> = tokens.stats().verifications().collect();
    assert_eq!(counted, BTreeMap::from(results));
    let never = IssuerStats {
        name: "default".into(),
        fetches_ok: 0,
        fetches_failed: 0,
        keys: 0,
        key_set_age_s: None,
        usable: false,
    };
    assert_eq!(before, std::slice::from_ref(&never));
    let fetched = IssuerStats {
        fetches_ok: 1,
        fetches_failed: 1,
        keys: 1,
        key_set_age_s: Some(19),
        usable: true,
        ..never
    };
    assert_eq!(tokens.issuer_stats(later(20)), [fetched]);
}

#[tokio::test]
async fn an_explanation_shows_everything_but_the_signature() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    let claims = claims(json!({}));
    let token = signer.token(&claims);

    let explained = tokens.explain(&token, NOW).await;

    assert_eq!(word(&explained.verdict), "good alice");
    assert_eq!(explained.key.as_deref(), Some("k"));
    assert_eq!(&*explained.issuer.as_ref().unwrap().name, "default");
    assert_eq!(explained.claims.clone().map(Value::Object), Some(claims));
    let expected = ExplainedTime {
        claim: "exp",
        at: UnixSeconds(1_800_000_300),
        iso: "2027-01-15T08:05:00Z".into(),
        relative: "in 5 min".into(),
    };
    assert_eq!(explained.times.last(), Some(&expected));
    let signature = token.rsplit('.').next().unwrap();
    assert!(!format!("{explained:?}").contains(signature));
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_in_a_sentence() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());

    let wrong = tokens.explain(&signer.token(&claims(json!({"aud": "x"}))), NOW).await;
    let garbage = tokens.explain("garbage", NOW).await;

    assert_eq!(wrong.detail, "no configured audience is in aud");
    assert_eq!(wrong.key.as_deref(), Some("k"));
    assert_eq!(garbage.detail, "not three parts");
    assert!(garbage.header.is_none() && garbage.issuer.is_none());
}

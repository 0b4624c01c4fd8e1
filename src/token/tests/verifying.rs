//! What verifies and what does not.

use super::*;

#[tokio::test]
async fn every_algorithm_verifies_what_jsonwebtoken_signed() {
    for algorithm in [RS256, Algorithm::RS512, PS256, Algorithm::PS384, ES256, ES384, EdDSA] {
        let signer = Signer::new(algorithm, "k");
        let issuer = FakeIssuer::with_keys(&[&signer]).await;
        let tokens = tokens(IssuerSettings { algorithms: vec![algorithm], ..issuer.settings() });

        let token = signer.token(&claims(json!({})));

        assert_eq!(verdict(&tokens, &token, NOW).await, "good alice", "{algorithm:?}");
        let other = Signer::new(algorithm, "k").signed("{}", "{}");
        let forged =
            format!("{}.{}", token.rsplit_once('.').unwrap().0, other.rsplit('.').next().unwrap());
        assert_eq!(verdict(&tokens, &forged, NOW).await, "bad_signature", "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_shared_secret_verifies_hmac() {
    let signer = Signer::new(HS256, "0123456789abcdef0123456789abcdef");
    let keys = KeySource::Secret(Secret::new("0123456789abcdef0123456789abcdef"));
    let tokens = tokens(IssuerSettings { keys, algorithms: vec![HS256], ..settings() });

    let token = signer.token(&claims(json!({})));
    let forged = Signer::new(HS256, "another secret").token(&claims(json!({})));

    assert_eq!(verdict(&tokens, &token, NOW).await, "good alice");
    assert_eq!(verdict(&tokens, &forged, NOW).await, "bad_signature");
}

#[tokio::test]
async fn a_verified_token_says_who_and_until_when() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    let claims = claims(json!({"sid": "s", "roles": ["staff"], "aud": ["x", "app"]}));

    let Verdict::Good(verified) = tokens.verify(&signer.token(&claims), &[ISSUER], NOW).await
    else {
        panic!("not good")
    };

    assert_eq!(verified.issuer, ISSUER);
    assert_eq!(verified.session_id.as_deref(), Some("s"));
    assert_eq!(verified.expires_at, UnixSeconds(1_800_000_300));
    assert_eq!(verified.life_s, 310);
    assert!((210..=237).contains(&verified.refresh_at.since(NOW.unix)));
    assert_eq!(verified.identity.roles, [Box::from("staff")]);
    assert_eq!(Value::Object(verified.claims.clone()), claims);
}

#[tokio::test]
async fn a_token_expires_in_the_second_that_exp_names() {
    let signer = Signer::new(ES256, "k");
    let issuer = FakeIssuer::with_keys(&[&signer]).await;
    let tokens = tokens(issuer.settings());
    let fractional = signer.token(&claims(json!({"exp": NOW.unix.0 as f64 + 10.9})));
    let huge = signer.token(&claims(json!({"exp": u64::MAX})));

    assert_eq!(verdict(&tokens, &fractional, later(9)).await, "good alice");
    assert_eq!(verdict(&tokens, &fractional, later(10)).await, "expired");
    let Verdict::Good(huge) = tokens.verify(&huge, &[ISSUER], NOW).await else { panic!() };
    assert_eq!(huge.expires_at, UnixSeconds(253_402_300_799));
}

#[tokio::test]
async fn an_oversized_token_is_refused_before_it_is_read() {
    let tokens = tokens(settings());

    assert_eq!(verdict(&tokens, &"a".repeat(8_193), NOW).await, "token_too_large");
    assert_eq!(verdict(&tokens, &"a".repeat(8_192), NOW).await, "malformed_token");
}

#[tokio::test]
async fn the_issuer_is_chosen_among_the_accepted_ones_alone() {
    let (one, two) = (Signer::new(ES256, "k"), Signer::new(ES256, "k"));
    let (first, second) =
        (FakeIssuer::with_keys(&[&one]).await, FakeIssuer::with_keys(&[&two]).await);
    let other = IssuerSettings { url: "https://two.example".into(), ..second.settings() };
    let tokens = Tokens::new(vec![first.settings(), other], limits()).unwrap();
    let token = two.token(&claims(json!({"iss": "https://two.example"})));
    let stolen = two.token(&claims(json!({})));
    let both = [ISSUER, IssuerId(1)];

    assert_eq!(word(&tokens.verify(&token, &both, NOW).await), "good alice");
    assert_eq!(word(&tokens.verify(&token, &[ISSUER], NOW).await), "wrong_issuer");
    assert_eq!(word(&tokens.verify(&token, &[], NOW).await), "wrong_issuer");
    assert_eq!(word(&tokens.verify(&token, &[IssuerId(7)], NOW).await), "wrong_issuer");
    assert_eq!(word(&tokens.verify(&stolen, &both, NOW).await), "bad_signature");
}

#[tokio::test]
async fn every_attack_of_the_list_is_refused_for_its_reason() {
    let signers = Attackers::new();
    let issuer = FakeIssuer::with_keys(&[&signers.ec, &signers.rsa]).await;
    let tokens = tokens(issuer.settings());
    let list = include_str!("../../../tests/data/jwt_attacks.txt");
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut counted = 0;

    for line in lines {
        let mut columns = line.splitn(4, '|').map(str::trim);
        let [reason, signed, header, claims] = std::array::from_fn(|_| columns.next().unwrap());
        let token = signers.token(signed, header, claims);
        assert_eq!(verdict(&tokens, &token, NOW).await, reason, "{line}");
        counted += 1;
    }

    assert!(counted > 80, "{counted}");
    let good = signers.token("ec", r#"{"alg":"ES256","kid":"ec"}"#, "{@good}");
    assert_eq!(verdict(&tokens, &good, NOW).await, "good alice");
}

struct Attackers {
    ec: Signer,
    rsa: Signer,
    stranger: Signer,
}

impl Attackers {
    fn new() -> Attackers {
        let (ec, rsa) = (Signer::new(ES256, "ec"), Signer::new(RS256, "rsa"));
        Attackers { ec, rsa, stranger: Signer::new(ES256, "ec") }
    }

    fn token(&self, signed: &str, header: &str, payload: &str) -> String {
        let good = claims(json!({})).to_string();
        let payload = payload.replace("@good", good.trim_matches(['{', '}']));
        let (ec, body) = (
            self.ec.signed(header, &payload),
            format!("{}.{}", encoded(header), encoded(&payload)),
        );
        let hmac = |secret: &[u8]| {
            let key = jsonwebtoken::EncodingKey::from_secret(secret);
            let mac = jsonwebtoken::crypto::sign(body.as_bytes(), &key, HS256).unwrap();
            format!("{body}.{mac}")
        };
        match signed {
            "ec" => ec,
            "rsa" => self.rsa.signed(header, &payload),
            "none" => format!("{body}."),
            "der" => format!("{body}.{}", encoded(self.ec.signature_der(&body))),
            "zeros" => format!("{body}.{}", encoded([0; 64])),
            "stranger" => self.stranger.signed(header, &payload),
            "short" => ec[..ec.len() - 2].to_owned(),
            "pem" => hmac(self.rsa.public_pem().as_bytes()),
            "point" => hmac(&self.ec.public_point()),
            "empty" => hmac(b""),
            "raw" => header.to_owned(),
            other => panic!("{other}"),
        }
    }
}

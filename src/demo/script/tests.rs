use super::*;
use crate::demo::events::Bus;
use crate::demo::legacy_app::{self, Pace};
use crate::demo::tokens::Signer;
use crate::demo::{listen, serve};

async fn claims_against(gateway: SocketAddr) -> (bool, Vec<Claim>) {
    let signer = Signer::new("http://127.0.0.1:4000".into()).unwrap();
    let controls = Controls::new(signer, Bus::new(), Duration::from_secs(6));
    let mut claims = Vec::new();
    let all_held = run(gateway, &controls, |claim| claims.push(claim.clone())).await.unwrap();
    (all_held, claims)
}

fn held(claims: &[Claim]) -> Vec<&'static str> {
    claims.iter().filter(|claim| claim.held).map(|claim| claim.text).collect()
}

/// Nobody asked the backend, so this one claim is true of every world below.
const NO_REUSE: &str = "in all this time no spent refresh token was shown to the backend";

#[tokio::test]
async fn an_app_with_no_gateway_before_it_passes_for_none() {
    let (app, listener) = listen("the app", 0).await.unwrap();
    serve(listener, legacy_app::router(Pace::default()));

    let (all_held, claims) = claims_against(app).await;

    assert!(!all_held);
    assert_eq!(held(&claims), [NO_REUSE]);
}

#[tokio::test]
async fn a_gateway_that_does_not_answer_fails_every_claim_and_is_not_waited_for() {
    let (closed, listener) = listen("nobody", 0).await.unwrap();
    drop(listener);

    let (all_held, claims) = claims_against(closed).await;

    assert!(!all_held);
    assert_eq!(held(&claims), [NO_REUSE]);
    assert_eq!(claims.len(), 19);
}

#[test]
fn a_claim_is_one_line_that_starts_with_its_verdict() {
    let claim = Claim { held: false, text: "the app greets her", seen: "401 expired".into() };
    assert_eq!(claim.to_string(), "FAIL  the app greets her  (401 expired)");
}

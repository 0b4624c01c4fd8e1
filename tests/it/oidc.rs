//! A real OpenID provider (`oidc-provider` from npm): discovery, JWKS, and refresh tokens that
//! rotate and whose reuse revokes the grant, and back-channel logout.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::support::backend::Pair;
use super::support::client::{statuses, the_pair};
use super::support::keys::base64;
use super::support::parts::{Program, free_port, installed, repository};
use super::support::*;

const CLIENT: &str = "evergate";
const SECRET: &str = "a secret: with a colon & a space";
const CALLBACK: &str = "https://app.test/callback";

struct Provider {
    issuer: String,
    program: Program,
}

impl Provider {
    async fn start(access_token_ttl_s: u32) -> Provider {
        Provider::telling(access_token_ttl_s, &[]).await
    }

    /// As [`Provider::start`]; `env` says who is told of logouts, and how.
    async fn telling(access_token_ttl_s: u32, env: &[(&str, &str)]) -> Provider {
        let mut command = Command::new(installed("tests/parts/oidc/node_modules/.bin/node"));
        command.arg("server.mjs").current_dir(repository("tests/parts/oidc"));
        command.env("ACCESS_TOKEN_TTL_S", access_token_ttl_s.to_string());
        command.envs(env.iter().copied());
        let mut program = Program::start(&mut command);
        Provider { issuer: program.says("ready ").await, program }
    }

    /// Its own log: what became of refresh tokens, in order.
    fn refresh_grants(&self) -> Vec<String> {
        let output = self.program.output();
        let grants = output.lines().filter(|line| line.starts_with("grant "));
        grants.filter(|line| !line.ends_with("authorization_code")).map(str::to_string).collect()
    }

    /// Logs alice in by the authorisation code flow with PKCE (RFC 6749 §4.1, RFC 7636), as an app
    /// with a login of its own would.
    async fn log_in(&self) -> Pair {
        self.log_in_by(&mut Browser::new(self.address())).await
    }

    fn address(&self) -> SocketAddr {
        self.issuer.trim_start_matches("http://").parse().expect("an address")
    }

    /// Logs whoever is logged in with this browser out, at the provider's own page.
    async fn log_out(&self, browser: &mut Browser) {
        let host = self.address().to_string();
        let page = get("/session/end").host(&host).navigation();
        let text = browser.send(page).await.text();
        let secret = text.split_once("name=\"xsrf\" value=\"").expect("a form").1;
        let secret = secret.split('"').next().expect("a value");
        let form = post("/session/end/confirm", &format!("xsrf={secret}&logout=yes"));
        let form = form.header("Content-Type", "application/x-www-form-urlencoded");
        let reply = browser.send(form.host(&host).navigation()).await;
        assert_eq!(reply.status, 303, "{}", reply.text());
    }

    /// As [`Provider::log_in`]; the browser keeps the provider's own session.
    async fn log_in_by(&self, browser: &mut Browser) -> Pair {
        let verifier = base64(&[7; 32]);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
        let challenge = base64(digest.as_ref());
        let mut target = format!(
            "/auth?client_id={CLIENT}&response_type=code&redirect_uri={CALLBACK}\
             &scope=openid%20app&code_challenge={challenge}&code_challenge_method=S256"
        );
        let address = self.address();
        let code = loop {
            let ask = get(&target).host(&address.to_string()).navigation();
            let reply = browser.send(ask).await;
            let location = reply.head.get("location").expect("a redirect").to_string();
            if let Some((_, query)) = location.split_once("/callback?code=") {
                break query.split('&').next().expect("a code").to_string();
            }
            target = location.trim_start_matches(&self.issuer).to_string();
        };
        self.exchange(&code, &verifier).await
    }

    async fn exchange(&self, code: &str, verifier: &str) -> Pair {
        let body = format!(
            "grant_type=authorization_code&code={code}&redirect_uri={CALLBACK}&code_verifier={verifier}"
        );
        let address = self.issuer.trim_start_matches("http://").parse().expect("an address");
        // RFC 6749 §2.3.1: both halves are form-encoded before they are joined.
        let credentials = "evergate:a+secret%3A+with+a+colon+%26+a+space";
        use base64::Engine;
        let basic = base64::engine::general_purpose::STANDARD.encode(credentials);
        let reply = post("/token", &body)
            .host(self.issuer.trim_start_matches("http://"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Authorization", &format!("Basic {basic}"))
            .send(address)
            .await;
        let tokens = reply.json();
        let token = |name: &str| tokens[name].as_str().unwrap_or_else(|| panic!("{tokens}")).into();
        Pair { access: token("access_token"), refresh: token("refresh_token") }
    }

    fn yaml(&self) -> String {
        STANDARD
            .replace("http://BACKEND/token", &format!("{}/token", self.issuer))
            .replace("url: \"http://BACKEND\"", &format!("url: \"{}\"", self.issuer))
            .replace("client_secret: s3cret", &format!("client_secret: \"{SECRET}\""))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_real_provider_passes_by_discovery_and_jwks() {
    let provider = Provider::start(300).await;
    let world = World::with(&provider.yaml()).await;
    let pair = provider.log_in().await;

    let reply = get("/page").access(&pair.access).send(world.gateway.address).await;

    assert_eq!(reply.status, 200, "{}", reply.text());
    let head = world.upstream.record.last().head;
    assert_eq!(head.all("x-forwarded-user"), ["alice"]);
    assert_eq!(head.all("x-forwarded-email"), ["alice@example.org"]);
    assert_eq!(head.all("x-forwarded-groups"), ["staff"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_stays_logged_in_over_many_rotations() {
    let provider = Provider::start(2).await;
    let world = World::with(&provider.yaml()).await;
    let Pair { access, refresh } = provider.log_in().await;
    let mut browser = Browser::new(world.gateway.address);
    browser.jar =
        [("__Host-access".into(), access), ("__Host-refresh".into(), refresh.clone())].into();

    // Real tokens age in real time: twelve requests over six seconds live through three tokens.
    let mut refresh_tokens = std::collections::BTreeSet::from([refresh]);
    for _ in 0..12 {
        let reply = browser.navigate("/page").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        refresh_tokens.insert(browser.jar["__Host-refresh"].clone());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    assert!(refresh_tokens.len() >= 3, "rotated {} times", refresh_tokens.len() - 1);
    assert_eq!(world.upstream.record.last().head.all("x-forwarded-user"), ["alice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_parallel_requests_at_expiry_are_one_grant_and_the_old_token_serves_on() {
    let provider = Provider::start(3).await;
    let world = World::with(&provider.yaml()).await;
    let address = world.gateway.address;
    let mut pair = provider.log_in().await;

    for round in 1..=2 {
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        let old = pair;
        let replies = join_all((0..20).map(|_| get("/page").pair(&old).send(address))).await;
        let late = get("/page").header("Cookie", &format!("__Host-refresh={}", old.refresh));
        let late = late.send(address).await;

        assert_eq!(statuses(&replies), [200; 20], "round {round}: {}", replies[0].text());
        pair = the_pair(&replies);
        assert_eq!((late.status, late.new_pair()), (200, Some(pair.clone())));
        assert_eq!(provider.refresh_grants(), vec!["grant refresh_token"; round]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_parallel_requests_in_the_window_are_one_grant_and_nobody_waits() {
    let provider = Provider::start(6).await;
    let world = World::with(&provider.yaml()).await;
    let (pair, address) = (provider.log_in().await, world.gateway.address);
    // The window is the last half of so short a life.
    tokio::time::sleep(Duration::from_millis(4_000)).await;

    let replies = join_all((0..20).map(|_| get("/slow/500").pair(&pair).send(address))).await;

    assert_eq!(statuses(&replies), [200; 20], "{}", replies[0].text());
    assert_ne!(the_pair(&replies), pair);
    assert_eq!(provider.refresh_grants(), ["grant refresh_token"]);
    let metrics = world.gateway.metrics().await;
    let flights = "evergate_refresh_total{issuer=\"default\",result=\"ok\",trigger=\"window\"}";
    assert_eq!((metrics.value(flights), metrics.value("evergate_refresh_waiters")), (1.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_used_elsewhere_is_refused_and_revokes_the_grant() {
    let provider = Provider::start(2).await;
    let world = World::with(&provider.yaml()).await;
    let pair = provider.log_in().await;
    let thief = World::with(&provider.yaml()).await;
    let bare = get("/page").header("Cookie", &format!("__Host-refresh={}", pair.refresh));
    assert_eq!(bare.send(thief.gateway.address).await.status, 200);
    tokio::time::sleep(Duration::from_millis(2_500)).await;

    let owner = get("/page").fetch().pair(&pair).send(world.gateway.address).await;

    assert_eq!((owner.status, owner.reason().as_str()), (401, "refresh_refused"));
    let log = ["grant refresh_token", "grant revoked", "grant refused refresh_token"];
    assert_eq!(provider.refresh_grants(), log);
}

/// Two sessions of alice's, each with an open stream; one logs out at the provider. What the two get then,
/// and how long it took until the stream of the one that ended was cut.
async fn after_a_logout_at_the_provider(session_required: &str) -> [String; 2] {
    let port = free_port().await;
    let uri = format!("http://127.0.0.1:{port}/_evergate/backchannel-logout");
    let env = [("BACKCHANNEL_LOGOUT_URI", uri.as_str()), ("SESSION_REQUIRED", session_required)];
    let provider = Provider::telling(300, &env).await;
    let yaml = provider.yaml().replace("listen: 127.0.0.1:0", &format!("listen: 127.0.0.1:{port}"));
    let world = World::with(&yaml).await;
    let (mut one, mut other) = (Browser::new(provider.address()), Browser::new(provider.address()));
    let first = provider.log_in_by(&mut one).await;
    let second = provider.log_in_by(&mut other).await;
    for pair in [&first, &second] {
        assert_eq!(get("/page").pair(pair).send(world.gateway.address).await.status, 200);
    }
    let mut stream = client::connect(world.gateway.address).await;
    let ask = get("/events?gap=600000").event_stream().pair(&first);
    stream.write_all(&ask.bytes()).await.expect("sent");
    let head = wire::read_head(&mut stream).await.expect("a head").expect("an answer");
    assert_eq!(head.word(1), "200");

    provider.log_out(&mut one).await;

    let told = Instant::now();
    let mut answers = [String::new(), String::new()];
    for (pair, answer) in [&first, &second].into_iter().zip(&mut answers) {
        let reply = get("/page").pair(pair).send(world.gateway.address).await;
        *answer = if reply.status == 200 { "ok".into() } else { reply.reason() };
    }
    let ended = timeout(Duration::from_secs(1), stream.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_ok() && told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    let log = provider.program.output();
    assert!(log.contains("backchannel success") && !log.contains("backchannel error"), "{log}");
    // Whoever logs in again is in.
    let again = provider.log_in_by(&mut one).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let later = provider.log_in_by(&mut Browser::new(provider.address())).await;
    for pair in if session_required == "1" { vec![again, later] } else { vec![later] } {
        assert_eq!(get("/page").pair(&pair).send(world.gateway.address).await.status, 200);
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_at_a_real_provider_ends_here_with_its_streams() {
    assert_eq!(after_a_logout_at_the_provider("1").await, ["revoked", "ok"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_provider_that_names_no_session_ends_all_of_the_person() {
    assert_eq!(after_a_logout_at_the_provider("0").await, ["revoked", "revoked"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_revokes_the_grant_at_a_real_provider_that_says_where() {
    let provider = Provider::start(300).await;
    let world = World::with(&provider.yaml()).await;
    let pair = provider.log_in().await;
    assert_eq!(get("/page").pair(&pair).send(world.gateway.address).await.status, 200);

    let logout = post("/_evergate/logout", "").header("X-Evergate", "1").pair(&pair);
    let reply = logout.send(world.gateway.address).await;

    assert_eq!((reply.status, provider.refresh_grants()), (204, vec!["grant revoked".to_string()]));
    let asked = "evergate_backend_revocations_total{issuer=\"default\",result=\"ok\"}";
    assert_eq!(world.gateway.metrics().await.value(asked), 1.0);
}

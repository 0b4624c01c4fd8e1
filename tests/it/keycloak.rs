//! A real Keycloak with "revoke refresh token" on: a refresh token works once, and its second use
//! ends the session. It needs Java and 170 MB, so it runs only when asked: `./dev test --keycloak`.
//!
//! Access tokens live 4 s (`tests/parts/keycloak/realm.json`) and age in real time, so these
//! stories do wait for the end of one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::support::backend::Pair;
use super::support::client::{statuses, the_pair};
use super::support::parts::{Program, installed, repository};
use super::support::*;

/// Until an access token has expired, or is in its window.
const TO_THE_END: Duration = Duration::from_millis(4_500);
const INTO_THE_WINDOW: Duration = Duration::from_millis(2_600);

const REALM: &str = "/realms/evergate/protocol/openid-connect";
const REFRESHED: &str = "type=\"REFRESH_TOKEN\"";
const REFUSED: &str = "type=\"REFRESH_TOKEN_ERROR\"";

struct Keycloak {
    address: SocketAddr,
    program: Program,
}

impl Keycloak {
    /// The one that other stories use at this moment, or a new one: it needs ten seconds to start,
    /// and ends with the last story that holds it.
    async fn start() -> Arc<Keycloak> {
        static RUNNING: Mutex<Weak<Keycloak>> = Mutex::const_new(Weak::new());
        let mut running = RUNNING.lock().await;
        if let Some(keycloak) = running.upgrade() {
            return keycloak;
        }
        let script = installed("target/parts/keycloak/bin/kc.sh");
        let import = repository("target/parts/keycloak/data/import");
        std::fs::create_dir_all(&import).expect("target/ is ours");
        std::fs::copy(repository("tests/parts/keycloak/realm.json"), import.join("realm.json"))
            .expect("the realm");
        let port = parts::free_port().await;
        let mut command = Command::new("bash");
        command.arg(script).args(["start", "--optimized", "--import-realm", "--cache=local"]);
        command.args(["--hostname-strict=false", "--http-enabled=true", "--http-host=127.0.0.1"]);
        // Its own log of grants: what it did, whatever the gateway believes.
        command.arg("--spi-events-listener-jboss-logging-success-level=info");
        command.arg(format!("--http-port={port}")).env("JAVA_OPTS_KC_HEAP", "-Xms64m -Xmx512m");
        let mut program = Program::start(&mut command);
        program.says_within("Listening on: ", Duration::from_secs(120)).await;
        let keycloak = Arc::new(Keycloak { address: ([127, 0, 0, 1], port).into(), program });
        *running = Arc::downgrade(&keycloak);
        keycloak
    }

    /// A gateway before it, and an app.
    async fn world(&self) -> World {
        let yaml = STANDARD
            .replace("http://BACKEND/token", &format!("http://{}{REALM}/token", self.address))
            .replace(
                "url: \"http://BACKEND\"",
                &format!("url: \"http://{}/realms/evergate\"", self.address),
            );
        World::with(&yaml).await
    }

    /// RFC 6749 §4.3: how a program gets a session without a browser. Also says its session's name.
    async fn log_in(&self, client: &str, user: &str) -> (Pair, String) {
        let form = format!("grant_type=password&username={user}&password=wonderland");
        let reply = self.token(client, &form).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let text = |name: &str| reply.json()[name].as_str().expect(name).to_string();
        (
            Pair { access: text("access_token"), refresh: text("refresh_token") },
            text("session_state"),
        )
    }

    /// Shows it a refresh token behind the gateway's back.
    async fn refresh(&self, client: &str, refresh: &str) -> Reply {
        self.token(client, &format!("grant_type=refresh_token&refresh_token={refresh}")).await
    }

    async fn token(&self, client: &str, form: &str) -> Reply {
        self.post(
            &format!("{REALM}/token"),
            &format!("client_id={client}&client_secret=s3cret&{form}"),
        )
        .send(self.address)
        .await
    }

    /// As an administrator does: every session of this person ends.
    async fn log_out(&self, user: &str) {
        let (warden, _) = self.log_in("evergate", "warden").await;
        let found = get(&format!("/admin/realms/evergate/users?username={user}&exact=true"))
            .host(&self.address.to_string())
            .bearer(&warden.access)
            .send(self.address)
            .await;
        let id = found.json()[0]["id"].as_str().expect("a person").to_string();
        let reply = self
            .post(&format!("/admin/realms/evergate/users/{id}/logout"), "")
            .header("Content-Length", "0")
            .bearer(&warden.access)
            .send(self.address)
            .await;
        assert_eq!(reply.status, 204, "{}", reply.text());
    }

    fn post(&self, target: &str, form: &str) -> Ask {
        post(target, form)
            .host(&self.address.to_string())
            .header("Content-Type", "application/x-www-form-urlencoded")
    }

    /// What its own log says of this session: grants for a refresh token, and refusals.
    fn grants(&self, session: &str) -> (usize, usize) {
        let log = self.program.output();
        let count = |kind: &str| {
            log.lines().filter(|line| line.contains(kind) && line.contains(session)).count()
        };
        (count(REFRESHED), count(REFUSED))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and a Keycloak: ./dev test --keycloak"]
async fn twenty_parallel_requests_at_expiry_are_one_grant_and_so_is_the_next_rotation() {
    let keycloak = Keycloak::start().await;
    let world = keycloak.world().await;
    let address = world.gateway.address;
    let (mut pair, session) = keycloak.log_in("evergate", "alice").await;

    for round in 1..=3 {
        sleep(TO_THE_END).await;
        let replies = join_all((0..20).map(|_| get("/page").pair(&pair).send(address))).await;

        assert_eq!(statuses(&replies), [200; 20], "round {round}: {}", replies[0].text());
        let new = the_pair(&replies);
        assert_ne!(new, pair);
        pair = new;
        assert_eq!(keycloak.grants(&session), (round, 0));
    }
    let seen = world.upstream.record.all();
    let users: BTreeSet<_> =
        seen.iter().flat_map(|seen| seen.head.all("x-forwarded-email")).collect();
    assert_eq!(users, BTreeSet::from(["alice@example.org"]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and a Keycloak: ./dev test --keycloak"]
async fn twenty_parallel_requests_in_the_window_are_one_grant_that_nobody_waits_for() {
    let keycloak = Keycloak::start().await;
    let world = keycloak.world().await;
    let address = world.gateway.address;
    let (pair, session) = keycloak.log_in("evergate", "bob").await;
    sleep(INTO_THE_WINDOW).await;

    let replies = join_all((0..20).map(|_| get("/slow/500").pair(&pair).send(address))).await;

    assert_eq!(statuses(&replies), [200; 20], "{}", replies[0].text());
    the_pair(&replies);
    assert_eq!(keycloak.grants(&session), (1, 0));
    let metrics = world.gateway.metrics().await;
    let flights = "evergate_refresh_total{issuer=\"default\",result=\"ok\",trigger=\"window\"}";
    assert_eq!(metrics.value(flights), 1.0, "{}", metrics.0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and a Keycloak: ./dev test --keycloak"]
async fn whom_an_administrator_logged_out_is_told_to_log_in_at_the_next_renewal() {
    let keycloak = Keycloak::start().await;
    let world = keycloak.world().await;
    let address = world.gateway.address;
    let (pair, session) = keycloak.log_in("evergate", "carol").await;
    keycloak.log_out("carol").await;
    sleep(TO_THE_END).await;

    let fetches = join_all((0..20).map(|_| get("/page").fetch().pair(&pair).send(address))).await;
    let page = get("/page").navigation().pair(&pair).send(address).await;

    assert_eq!(statuses(&fetches), [401; 20]);
    assert!(fetches.iter().all(|reply| reply.reason() == "refresh_refused"));
    assert!(fetches.iter().all(|reply| reply.cookies().is_empty()));
    assert_eq!(
        (page.status, page.head.get("location")),
        (302, Some("/auth/login?return_to=%2Fpage"))
    );
    assert_eq!(world.upstream.record.count(), 0);
    assert_eq!(keycloak.grants(&session).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and a Keycloak: ./dev test --keycloak"]
async fn a_token_that_was_used_elsewhere_is_refused_and_ends_the_session() {
    let keycloak = Keycloak::start().await;
    let world = keycloak.world().await;
    let address = world.gateway.address;
    let (pair, session) = keycloak.log_in("evergate", "dave").await;
    let thief = keycloak.refresh("evergate", &pair.refresh).await;
    sleep(TO_THE_END).await;

    let owner = get("/page").fetch().pair(&pair).send(address).await;
    let stolen = thief.json()["refresh_token"].as_str().expect("the thief's").to_string();
    let thief = keycloak.refresh("evergate", &stolen).await;

    assert_eq!((owner.status, owner.reason().as_str()), (401, "refresh_refused"));
    assert_eq!(thief.status, 400, "the second use ended it for the thief, too");
    assert_eq!(keycloak.grants(&session), (1, 2));
    let metrics = world.gateway.metrics().await;
    let refused =
        "evergate_refresh_total{issuer=\"default\",result=\"refused\",trigger=\"expired\"}";
    assert_eq!(metrics.value(refused), 1.0, "{}", metrics.0);
}

/// `tests/data/refresh_answers.txt` lists what auth backends say, so that a unit test can judge it.
/// What Keycloak says is not from its documentation, but from here.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Java and a Keycloak: ./dev test --keycloak"]
async fn what_it_answers_is_what_the_list_of_answers_says() {
    let keycloak = Keycloak::start().await;
    let session = async || keycloak.log_in("evergate", "erin").await.0.refresh;
    let again = session().await;
    assert_eq!(keycloak.refresh("evergate", &again).await.status, 200);
    let logged_out = session().await;
    keycloak.log_out("erin").await;
    let (brief, _) = keycloak.log_in("brief", "erin").await;
    sleep(Duration::from_secs(4)).await;
    let (live, other) = (session().await, keycloak.log_in("brief", "erin").await.0.refresh);
    let reused = session().await;
    assert_eq!(keycloak.refresh("evergate", &reused).await.status, 200);

    let answers = [
        ("expired", keycloak.refresh("brief", &brief.refresh).await),
        ("logged out", keycloak.refresh("evergate", &logged_out).await),
        ("reused", keycloak.refresh("evergate", &reused).await),
        ("another client's", keycloak.refresh("evergate", &other).await),
        ("no token at all", keycloak.refresh("evergate", "rubbish").await),
        ("unknown client", keycloak.refresh("nobody", &live).await),
    ];

    let list = include_str!("../data/refresh_answers.txt");
    for (what, reply) in answers {
        let body: Value = reply.json();
        let line = format!("oauth2 | {} | | {body} ", reply.status);
        assert!(list.contains(&line), "{what}: not in the list: {line}");
    }
}

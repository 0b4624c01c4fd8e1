//! The two tables of refreshing, row by row: `tests/data/refresh_table.txt`. Each line there is one
//! situation in a world of its own (strict backend, real gateway, app) and what everybody saw of
//! it. A change of behaviour is a diff of that file; write it anew with `EVERGATE_BLESS=1`. The
//! first column, what the contract asks for, is written by hand and checked against the rest.

mod arrange;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use self::arrange::Session;
use self::look::{Look, answered, served};
use super::support::client::ask;
use super::support::*;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/refresh_table.txt");
/// Worlds at one time: each is a gateway with listeners of its own.
const WORLDS_MAX: usize = 8;
const SECONDS: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

/// Every way in which a token endpoint can fail; `tests/it/support/backend.rs` says what each does.
const FAULTS: &[(&str, Fault)] = &[
    ("delay", Fault::Delay(Duration::from_millis(300))),
    ("hang", Fault::Hang),
    ("reset", Fault::ResetAfterGrant),
    ("html", Fault::Html),
    ("garbage", Fault::Garbage),
    ("no_token", Fault::NoToken),
    ("10_mib", Fault::Huge),
    ("1_byte_a_second", Fault::SlowBytes),
    ("wrong_subject", Fault::WrongSubject),
    ("wrong_issuer", Fault::WrongIssuer),
    ("wrong_audience", Fault::WrongAudience),
    ("expired_token", Fault::ExpiredToken),
    ("no_refresh_token", Fault::NoRefreshToken),
    ("redirect", Fault::Redirect),
    ("invalid_grant", refuse(400, "invalid_grant")),
    ("invalid_grant_401", refuse(401, "invalid_grant")),
    ("invalid_grant_403", refuse(403, "invalid_grant")),
    ("login_required", refuse(400, "login_required")),
    ("interaction_required", refuse(400, "interaction_required")),
    ("consent_required", refuse(400, "consent_required")),
    ("invalid_client", refuse(401, "invalid_client")),
    ("unauthorized_client", refuse(400, "unauthorized_client")),
    ("unsupported_grant_type", refuse(400, "unsupported_grant_type")),
    ("invalid_scope", refuse(400, "invalid_scope")),
    ("404", refuse(404, "")),
    ("405", refuse(405, "")),
    ("415", refuse(415, "")),
    ("418", refuse(418, "")),
    ("408", refuse(408, "")),
    ("425", refuse(425, "")),
    ("429", Fault::Refuse { status: 429, error: "slow_down", retry_after: Some("7") }),
    ("500", refuse(500, "server_error")),
    ("502", refuse(502, "")),
    ("503", refuse(503, "temporarily_unavailable")),
];

const fn refuse(status: u16, error: &'static str) -> Fault {
    Fault::Refuse { status, error, retry_after: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_tables_is_as_written_down() {
    let written = std::fs::read_to_string(TABLE).expect("the table");
    let lines = written.lines().enumerate().map(async |(number, line)| {
        let told = match Row::parse(line) {
            Some(row) => format!("{row} => {}", row.play().await),
            None => line.to_string(),
        };
        (number, told)
    });
    // In any order, so that nobody waits for a row that waits for a timeout.
    let told: BTreeMap<usize, String> =
        stream::iter(lines).buffer_unordered(WORLDS_MAX).collect().await;
    let told: Vec<String> = told.into_values().collect();

    if std::env::var_os("EVERGATE_BLESS").is_some() {
        std::fs::write(TABLE, told.join("\n") + "\n").expect("our own file");
    }
    let changed: Vec<_> =
        told.iter().zip(written.lines()).filter(|(new, old)| new != old).collect();
    assert!(changed.is_empty(), "if it was meant, EVERGATE_BLESS=1: {changed:#?}");
    for row in told.iter().filter_map(|line| Row::parse(line)) {
        assert!(row.keeps_the_contract(), "not what {} means: {row} => {}", row.action, row.told);
    }
}

#[test]
fn every_fault_and_every_kind_of_client_has_its_rows() {
    let written = std::fs::read_to_string(TABLE).expect("the table");
    let rows: Vec<Row> = written.lines().filter_map(Row::parse).collect();
    let mut missing = Vec::new();
    for (fault, _) in FAULTS {
        for access in ["in_window", "expired"] {
            let there = |row: &&Row| row.backend == *fault && row.access == access;
            if !rows.iter().any(|row| there(&row)) {
                missing.push(format!("{access} with {fault}"));
            }
        }
    }
    for client in ["navigation", "head", "fetch", "post", "form", "websocket", "event_stream"] {
        for action in ["PASS", "BLOCK", "LOGIN", "UNAVAILABLE"] {
            if !rows.iter().any(|row| row.client == client && row.action == action) {
                missing.push(format!("{action} told to {client}"));
            }
        }
    }
    let broken =
        ["bad_signature", "wrong_issuer", "wrong_audience", "wrong_type", "unknown_key", "missing"];
    for access in broken {
        for action in ["BLOCK", "LOGIN", "UNAVAILABLE"] {
            if !rows.iter().any(|row| row.access == access && row.action == action) {
                missing.push(format!("{action} with {access}"));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
    let unique: BTreeSet<String> = rows.iter().map(|row| row.to_string()).collect();
    assert_eq!(unique.len(), rows.len(), "a situation stands there twice");
}

/// One line: a situation, and what is told of it.
struct Row<'a> {
    /// PASS, BLOCK (then pass), LOGIN or UNAVAILABLE.
    action: &'a str,
    access: &'a str,
    refresh: &'a str,
    backend: &'a str,
    client: &'a str,
    told: &'a str,
}

impl std::fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row { action, access, refresh, backend, client, told: _ } = self;
        write!(f, "{action} | {access} | {refresh} | {backend} | {client}")
    }
}

impl<'a> Row<'a> {
    /// `None` for a comment or an empty line.
    fn parse(line: &'a str) -> Option<Row<'a>> {
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (situation, told) = line.split_once(" =>").unwrap_or((line, ""));
        let fields: Vec<&str> = situation.split('|').map(str::trim).collect();
        let [action, access, refresh, backend, client] = fields[..] else {
            panic!("five fields: {line}")
        };
        Some(Row { action, access, refresh, backend, client, told: told.trim() })
    }

    /// Makes the situation and says what everybody saw.
    async fn play(&self) -> String {
        let world = self.world().await;
        let refresh = Session { world: &world }.arrange(self.refresh).await;
        let access = self.access_token(&world);
        world.backend.grant_roles(&["staff", "renewed"]);
        match self.backend {
            "-" | "ok" | "down" => {}
            "slower_than_wait" => world.backend.fail(Fault::Delay(MS(2_600))),
            "slower_than_hold" => world.backend.fail(Fault::Delay(MS(600))),
            fault => {
                let found = FAULTS.iter().find(|(name, _)| *name == fault);
                world.backend.fail(found.unwrap_or_else(|| panic!("no fault {fault}")).1.clone());
            }
        }
        let before = Look::at(&world).await;

        let reply = self.ask(access, refresh).send(world.gateway.address).await;

        let answer = answered(&reply, served(&world).len() > before.served, &world);
        let after = Look::settled(&world).await;
        assert_eq!(world.backend.counts().reuses, 0, "{self}: a family was killed");
        format!("{answer} | {}", before.until(&after, &world))
    }

    async fn world(&self) -> World {
        let (wait, hold) = match (self.refresh, self.backend) {
            ("live, breaker open", _) => ("500ms", "6s"),
            (_, "slower_than_hold") => ("2s", "50ms"),
            (_, _) => ("2s", "6s"),
        };
        let keys = format!("client_secret: s3cret, wait: {wait}, hold: {hold}, timeout: 3900ms");
        let mut yaml = STANDARD.replace("client_secret: s3cret", &keys);
        if self.backend == "down" {
            // Not a port that was free a moment ago: another row's world might get it.
            let nobody = format!("127.0.0.1:{}/token", parts::free_port().await);
            yaml = yaml.replace("BACKEND/token", &nobody);
        }
        let yaml = match self.client {
            "navigation, no login page" => yaml
                .lines()
                .filter(|line| !line.contains("on_denied"))
                .map(|line| format!("{line}\n"))
                .collect(),
            _ => yaml,
        };
        let world = World::with(&yaml).await;
        // The keys are there before anything else happens.
        let token = world.backend.token("alice").sign();
        assert_eq!(get("/warm").access(&token).send(world.gateway.address).await.status, 200);
        world
    }

    fn access_token(&self, world: &World) -> Option<String> {
        // By its roles the app's record tells it from the head and from a renewed one.
        let shown = |token: Token| token.claim("roles", vec!["staff", "shown"]);
        let alice = || shown(world.backend.token("alice"));
        let bob = || shown(world.backend.token("bob"));
        let token = match self.access {
            "missing" => return None,
            "valid" => alice(),
            "in_window" => alice().in_window(),
            "expired" => alice().expired(),
            "in_window, another's" => bob().in_window(),
            "expired, another's" => bob().expired(),
            "bad_signature" => return Some(tampered(&alice().sign())),
            "wrong_issuer" => alice().claim("iss", "http://elsewhere.test"),
            "wrong_audience" => alice().claim("aud", "another-app"),
            "wrong_type" => alice().header("typ", "id+jwt"),
            "unknown_key" => alice().header("kid", "never-published"),
            other => panic!("no access token `{other}`"),
        };
        Some(token.sign())
    }

    fn ask(&self, access: Option<String>, refresh: Option<String>) -> Ask {
        let request = match self.client {
            "navigation" | "navigation, no login page" => get("/page").navigation(),
            "head" => ask("HEAD", "/page").navigation(),
            "fetch" | "bearer" => get("/page").fetch(),
            "post" => post("/save", "precious").fetch(),
            "form" => post("/save", "precious").navigation(),
            "websocket" => get("/ws").websocket(),
            "event_stream" => get("/events?gap=1").event_stream(),
            "image" => get("/logo").header("Sec-Fetch-Dest", "image"),
            "curl" => get("/page"),
            "navigation, old browser" => get("/page").header("Accept", "text/html,*/*;q=0.8"),
            "preflight" => ask("OPTIONS", "/page")
                .header("Origin", "https://app.test")
                .header("Access-Control-Request-Method", "PUT"),
            "prefetch" => get("/page").navigation().header("Sec-Purpose", "prefetch"),
            other => panic!("no client `{other}`"),
        };
        let bearer = access.as_ref().filter(|_| self.client == "bearer");
        let request = bearer.iter().fold(request, |request, token| request.bearer(token));
        let cookies = [
            access.iter().filter(|_| bearer.is_none()).map(|t| format!("__Host-access={t}")).next(),
            refresh.map(|token| format!("__Host-refresh={token}")),
        ];
        let cookies: Vec<String> = cookies.into_iter().flatten().collect();
        if cookies.is_empty() { request } else { request.header("Cookie", &cookies.join("; ")) }
    }

    /// Does what was told mean what the first column says?
    fn keeps_the_contract(&self) -> bool {
        let [answer, _calls, app, _counted] = self.told.split(" | ").collect::<Vec<_>>()[..] else {
            return false;
        };
        let (served, cookies) = (app != "nobody", answer.contains('+'));
        let asks_for_login = answer.starts_with("401 ") || answer.contains("location=/auth/login");
        let comes_back = answer.contains("retry");
        match self.action {
            "PASS" => served && app != "alice renewed",
            "BLOCK" => app == "alice renewed" && cookies,
            "LOGIN" => !served && !cookies && asks_for_login,
            // An expired token may have come with a new refresh token, which must not be lost.
            "UNAVAILABLE" => !served && comes_back && !asks_for_login,
            other => panic!("no action `{other}`"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_waits_three_seconds_for_a_renewal_and_a_page_longer() {
    let keys = "client_secret: s3cret, wait: 4s, timeout: 5s";
    let world = World::changed("client_secret: s3cret", keys).await;
    world.backend.fail(Fault::Hang);
    let took = async |ask: Ask| {
        let pair = world.backend.login("alice", Token::expired);
        let begun = Instant::now();
        assert_eq!(ask.pair(&pair).send(world.gateway.address).await.status, 503);
        begun.elapsed()
    };

    let (socket, page) = tokio::join!(took(get("/ws").websocket()), took(get("/page").fetch()));

    assert!((SECONDS(3)..MS(3_900)).contains(&socket), "{socket:?}");
    assert!(page >= SECONDS(4), "{page:?}");
}

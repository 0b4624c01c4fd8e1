//! Every carrier under every kind of request at every age of its tokens: what the browser receives and
//! what the app sees.
//!
//! The answers are the tables of `docs/carriers.md`; a change of behaviour is a diff of that page. Write
//! them anew with `EVERGATE_BLESS=1`.

mod browser;
mod visitor;

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;

use super::support::parts::repository;
use super::support::*;
use visitor::Visitor;

/// In the order of the page.
const CARRIERS: [&str; 4] = ["cookie", "path", "sealed", "server"];
/// What a browser asks for.
const KINDS: [&str; 6] =
    ["navigation", "fetch", "form POST", "upload of 20 MB", "WebSocket", "event stream"];
/// How old the session's tokens are.
const AGES: [&str; 4] = ["valid", "in the window", "expired", "expired, session over"];

/// The life of an access token, in seconds; its window begins between 90 and 63 s before its end.
const LIFE_S: u64 = 300;
const UPLOAD_BYTES: usize = 20_000_000;
const BEGIN: &str = "<!-- The tables below are written by a test. -->\n";
const END: &str = "<!-- The tables end here. -->\n";

/// The standard file with this carrier.
fn file_with(carrier: &str) -> String {
    let keys = "cookies: { encryption_keys: [\"a key for tests, at least thirty-two bytes\"] }";
    STANDARD
        .replace("client_secret: s3cret", &format!("client_secret: s3cret, carrier: {carrier}"))
        .replacen("listen:", &format!("{keys}\nlisten:"), 1)
}

/// One carrier's world with somebody logged in.
async fn logged_in(carrier: &str) -> (World, Visitor) {
    let world = World::with(&file_with(carrier)).await;
    world.backend.grant_life(LIFE_S);
    let mut visitor = Visitor::new(world.gateway.address);
    let login = visitor.submit("/auth/login", "user=alice").await;
    assert_eq!(login.status, 303, "{carrier}");
    (world, visitor)
}

fn age(world: &World, age: &str) {
    let passes = match age {
        "valid" => 0,
        "in the window" => LIFE_S - 40,
        _ => LIFE_S + 1,
    };
    world.skip(Duration::from_secs(passes));
    if age == "expired, session over" {
        let error = "invalid_grant";
        world.backend.fail(Fault::Refuse { status: 400, error, retry_after: None });
    }
}

/// The target of each kind, and how it is asked for.
fn asking(kind: &str) -> Ask {
    match kind {
        "navigation" => get("/page?a=1").navigation(),
        "fetch" => get("/data").fetch(),
        "form POST" => post("/form", "a=1").navigation(),
        "upload of 20 MB" => post("/upload", &"x".repeat(UPLOAD_BYTES)).fetch(),
        "WebSocket" => get("/ws").websocket(),
        "event stream" => get("/events?gap=1").event_stream(),
        _ => unreachable!("{kind}"),
    }
}

/// What became of one request: what the browser received, arrow by arrow, and whom the app saw.
async fn cell(carrier: &str, kind: &str, at: &str) -> String {
    let (world, mut visitor) = logged_in(carrier).await;
    age(&world, at);
    let replies = visitor.follow(asking(kind)).await;
    let mut told: Vec<String> = replies.iter().map(|reply| described(carrier, reply)).collect();
    for seen in world.upstream.record.all() {
        let (cookies, user) = (seen.head.all("cookie"), seen.head.all("x-forwarded-user"));
        assert_eq!(cookies, ["theme=dark"], "{carrier}, {kind}, {at}: no cookie of ours");
        assert_eq!(user, ["alice"]);
        let whole = seen.method != "POST" || [3, UPLOAD_BYTES].contains(&seen.body.len());
        assert!(whole, "{carrier}, {kind}, {at}: {} bytes", seen.body.len());
    }
    told.push(match world.upstream.record.count() {
        0 => "app: nothing".to_string(),
        1 => "app: alice".to_string(),
        more => panic!("{carrier}, {kind}, {at}: the app saw it {more} times"),
    });
    assert_eq!(world.backend.counts().reuses, 0, "{carrier}, {kind}, {at}");
    assert!(world.backend.counts().grants <= 1, "{carrier}, {kind}, {at}");
    if at != "expired, session over" {
        let next = visitor.follow(get("/next").navigation()).await;
        assert_eq!(next.last().map(|last| last.status), Some(200), "{carrier}, {kind}, {at}");
    }
    told.join(", ")
}

/// A status, where it leads, and whether it brings new tokens.
fn described(carrier: &str, reply: &Reply) -> String {
    let to = reply.head.get("location").map(|to| to.split('?').next().unwrap_or_default());
    let to = to.map_or(String::new(), |to| format!(" to `{to}`"));
    let hint = reply.head.get("x-evergate-refresh").map_or("", |_| " with a hint");
    let is_token = |name: &String| name != "__Host-bounced";
    let sets = reply.cookies().iter().any(|(name, cookie)| is_token(name) && !cookie.clears());
    let new = if sets && carrier != "server" { " + cookies" } else { "" };
    format!("{}{to}{hint}{new}", reply.status)
}

async fn table(carrier: &str) -> String {
    let mut table = format!("\n### `{carrier}`\n\n| | {} |\n", AGES.join(" | "));
    table += &format!("| --- |{}\n", " --- |".repeat(AGES.len()));
    for kind in KINDS {
        let cells = join_all(AGES.map(|at| cell(carrier, kind, at))).await;
        table += &format!("| {kind} | {} |\n", cells.join(" | "));
    }
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_the_page_are_what_happens() {
    let file = repository("docs/carriers.md");
    let page = fs::read_to_string(&file).expect("docs/carriers.md");
    let (before, rest) = page.split_once(BEGIN).expect("where the tables begin");
    let (_, after) = rest.split_once(END).expect("where they end");

    let mut tables = String::new();
    for carrier in CARRIERS {
        tables += &table(carrier).await;
    }
    let now = format!("{before}{BEGIN}{tables}\n{END}{after}");

    if std::env::var_os("EVERGATE_BLESS").is_some() {
        fs::write(&file, &now).expect("written");
    } else {
        assert_eq!(page, now, "if it was meant, EVERGATE_BLESS=1");
    }
}

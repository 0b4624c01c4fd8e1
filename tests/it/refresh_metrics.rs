//! Every metric of refreshing, moved by a test of its name and read where operators read it: from
//! the admin listener. A test compares all series of its metric, so that a wrong label is noticed.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use super::support::backend::Pair;
use super::support::fleet::Fleet;
use super::support::parts::repository;
use super::support::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A world in which whoever holds a header holds it long enough.
async fn world(keys: &str) -> World {
    World::changed("client_secret: s3cret", &format!("client_secret: s3cret, {keys}")).await
}

/// Every series of this metric that is not zero: its labels (less the issuer's) and its value.
async fn moved(world: &World, metric: &str) -> BTreeMap<String, f64> {
    let text = world.gateway.metrics().await.0;
    let series = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let labels = series.strip_prefix(&format!("evergate_{metric}"))?;
        let labels = match labels.strip_prefix('{') {
            Some(labels) => labels.strip_suffix('}')?,
            None if labels.is_empty() => "",
            None => return None,
        };
        let labels = labels.split(',').filter(|label| *label != "issuer=\"default\"");
        let labels = labels.collect::<Vec<_>>().join(",").replace('"', "");
        Some((labels, value.parse().expect("a number")))
    });
    series.filter(|(_, value)| *value != 0.0).collect()
}

fn expected<const N: usize>(series: [(&str, f64); N]) -> BTreeMap<String, f64> {
    series.map(|(labels, value)| (labels.to_string(), value)).into()
}

async fn page(world: &World, pair: &Pair) -> Reply {
    get("/page").fetch().pair(pair).send(world.gateway.address).await
}

/// A request under way in a task of its own, whose flight has begun.
async fn flying(world: &World, pair: &Pair) -> tokio::task::JoinHandle<Reply> {
    let (ask, address) = (get("/page").fetch().pair(pair), world.gateway.address);
    let before = world.backend.token_calls();
    let task = tokio::spawn(async move { ask.send(address).await });
    eventually("it flies", async || world.backend.token_calls() > before).await;
    task
}

fn fault(status: u16, error: &'static str) -> Fault {
    Fault::Refuse { status, error, retry_after: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_total_counts_every_trigger_and_every_result() {
    let world = world("hold: 5s").await;
    for shape in [Token::in_window, Token::expired] {
        let ok = world.backend.login("alice", shape);
        page(&world, &ok).await;
        // Its answer got lost, as far as the browser is concerned.
        page(&world, &ok).await;
        world.backend.fail_once(Fault::Delay(MS(300)));
        let shared = world.backend.login("alice", shape);
        let first = flying(&world, &shared).await;
        page(&world, &shared).await;
        first.await.expect("no panic");
        for fault in [fault(400, "invalid_grant"), fault(503, ""), Fault::Html, fault(404, "")] {
            world.backend.fail_once(fault);
            page(&world, &world.backend.login("alice", shape)).await;
        }
    }

    let each = ["window", "expired"].map(|trigger| {
        [
            ("ok", 2.0),
            ("shared", 1.0),
            ("delivered", 1.0),
            ("refused", 1.0),
            ("transient", 1.0),
            ("ambiguous", 1.0),
            ("misconfigured", 1.0),
        ]
        .map(|(result, count)| (format!("result={result},trigger={trigger}"), count))
    });
    assert_eq!(moved(&world, "refresh_total").await, each.into_iter().flatten().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_seconds_is_how_long_the_backend_took() {
    let world = world("hold: 5s").await;
    for shape in [Token::in_window, Token::expired] {
        world.backend.fail_once(Fault::Delay(MS(250)));
        page(&world, &world.backend.login("alice", shape)).await;
    }

    assert_eq!(moved(&world, "refresh_seconds_count").await, expected([("", 2.0)]));
    let sum = moved(&world, "refresh_seconds_sum").await[""];
    assert!((0.5..5.0).contains(&sum), "{sum}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_in_flight_counts_flights_and_not_requests() {
    let world = world("hold: 5s").await;
    world.backend.fail(Fault::Delay(MS(500)));
    let pairs = [Token::in_window, Token::expired].map(|shape| world.backend.login("alice", shape));

    let mut tasks = Vec::new();
    for pair in &pairs {
        tasks.push(flying(&world, pair).await);
    }
    let during = moved(&world, "refresh_in_flight").await;
    join_all(tasks).await;

    assert_eq!(during, expected([("", 2.0)]));
    assert_eq!(moved(&world, "refresh_in_flight").await, expected([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_waiters_counts_requests_that_wait_and_not_those_that_pass() {
    let world = world("hold: 5s").await;
    let (window, expired) = (
        world.backend.login("alice", Token::in_window),
        world.backend.login("bob", Token::expired),
    );
    world.backend.fail(Fault::Delay(MS(800)));
    let address = world.gateway.address;

    let asks = [&window, &expired, &expired, &expired].map(|pair| get("/page").pair(pair));
    let tasks = asks.map(|ask| tokio::spawn(async move { ask.send(address).await }));
    eventually("three wait", async || {
        moved(&world, "refresh_waiters").await == expected([("", 3.0)])
    })
    .await;
    join_all(tasks).await;

    assert_eq!(moved(&world, "refresh_waiters").await, expected([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_overlap_total_says_whether_the_cookies_were_in_time_held_or_late() {
    let world = world("hold: 400ms").await;
    for (path, delay) in [("/slow/600", MS(0)), ("/page", MS(150)), ("/page", MS(900))] {
        world.backend.fail_once(Fault::Delay(delay));
        let pair = world.backend.login("alice", Token::in_window);
        get(path).pair(&pair).send(world.gateway.address).await;
    }

    let each = [("result=in_time", 1.0), ("result=held", 1.0), ("result=late", 1.0)];
    assert_eq!(moved(&world, "refresh_overlap_total").await, expected(each));
}

#[tokio::test(flavor = "multi_thread")]
async fn held_header_seconds_is_how_long_headers_were_held() {
    let world = world("hold: 5s").await;
    world.backend.fail_once(Fault::Delay(MS(300)));
    page(&world, &world.backend.login("alice", Token::in_window)).await;
    // Nothing is held for whoever waited already.
    page(&world, &world.backend.login("bob", Token::expired)).await;

    assert_eq!(moved(&world, "held_header_seconds_count").await, expected([("", 1.0)]));
    let sum = moved(&world, "held_header_seconds_sum").await[""];
    assert!((0.1..3.0).contains(&sum), "{sum}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivered_total_counts_cookies_that_had_left_before() {
    let world = World::start().await;
    let pair = world.backend.login("alice", Token::expired);
    for times in [0.0, 1.0, 2.0] {
        assert!(page(&world, &pair).await.new_pair().is_some());
        let counted = moved(&world, "redelivered_total").await.remove("").unwrap_or_default();
        assert_eq!(counted, times);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_counts_records_in_each_state() {
    let world = World::start().await;
    let login = || world.backend.login("alice", Token::expired);
    // Only who has been renewed once has a record that can die.
    let (dead, ended) = (login(), login());
    page(&world, &dead).await;
    let newest = page(&world, &ended).await.new_pair().expect("cookies");
    world.skip(Duration::from_secs(301));
    world.backend.fail_once(fault(400, "invalid_grant"));
    assert_eq!(page(&world, &dead).await.status, 401);
    post("/auth/logout", "").pair(&newest).send(world.gateway.address).await;
    page(&world, &login()).await;
    world.backend.fail_once(fault(503, ""));
    page(&world, &login()).await;
    world.backend.fail_once(Fault::Delay(MS(500)));
    let running = flying(&world, &login()).await;

    let states = ["idle", "running", "cooling", "dead", "ended"];
    let each = states.map(|state| (format!("state={state}"), 1.0)).into();
    assert_eq!(moved(&world, "sessions").await, each);
    assert_eq!(running.await.expect("no panic").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn spent_token_presented_total_counts_old_tokens_after_the_grace() {
    let world = World::start().await;
    let old = world.backend.login("alice", Token::expired);
    let new = page(&world, &old).await.new_pair().expect("cookies");
    page(&world, &new).await;
    page(&world, &old).await;
    assert_eq!(moved(&world, "spent_token_presented_total").await, expected([]));

    world.skip(Duration::from_secs(31));
    page(&world, &old).await;
    page(&world, &old).await;

    assert_eq!(moved(&world, "spent_token_presented_total").await, expected([("", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_ended_total_says_why() {
    let world = world("on_reuse: revoke").await;
    let login = || world.backend.login("alice", Token::expired);
    for fault in
        [fault(400, "invalid_grant"), Fault::WrongSubject, Fault::WrongIssuer, Fault::WrongAudience]
    {
        world.backend.fail_once(fault);
        page(&world, &login()).await;
    }
    let new = page(&world, &login()).await.new_pair().expect("cookies");
    post("/auth/logout", "").pair(&new).send(world.gateway.address).await;
    let old = login();
    let new = page(&world, &old).await.new_pair().expect("cookies");
    page(&world, &new).await;
    world.skip(Duration::from_secs(31));
    page(&world, &old).await;

    let reasons =
        ["refused", "wrong_subject", "wrong_issuer", "wrong_audience", "logged_out", "reuse"];
    let each = reasons.map(|reason| (format!("reason={reason}"), 1.0)).into();
    assert_eq!(moved(&world, "sessions_ended_total").await, each);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_ended_total_counts_those_that_made_room() {
    let yaml = format!("{STANDARD}limits: {{ sessions: 1 }}\n");
    let world = World::with(&yaml).await;
    let first = world.backend.login("alice", Token::expired);
    let shown = page(&world, &first).await.new_pair().expect("cookies");
    page(&world, &shown).await;

    let second = page(&world, &world.backend.login("bob", Token::expired)).await;

    assert_eq!(second.status, 200);
    let evicted = expected([("reason=evicted", 1.0)]);
    assert_eq!(moved(&world, "sessions_ended_total").await, evicted);
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_open_is_1_from_the_fifth_failure_until_a_probe_succeeds() {
    let world = World::start().await;
    world.backend.fail(fault(503, ""));
    for number in 1..=5 {
        assert_eq!(moved(&world, "breaker_open").await, expected([]), "before failure {number}");
        page(&world, &world.backend.login("alice", Token::expired)).await;
    }
    assert_eq!(moved(&world, "breaker_open").await, expected([("", 1.0)]));

    world.backend.heal();
    world.skip(Duration::from_secs(2));
    let probe = page(&world, &world.backend.login("alice", Token::expired)).await;

    assert_eq!(probe.status, 200);
    assert_eq!(moved(&world, "breaker_open").await, expected([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_budget_total_counts_who_queues_who_is_turned_away_and_who_is_postponed() {
    let world = world("budget: 1, wait: 1500ms").await;
    let pairs = [0; 3].map(|_| world.backend.login("alice", Token::expired));

    // One departs, one in a second, one would have to wait for two.
    let mut statuses: Vec<u16> = join_all(pairs.iter().map(|pair| page(&world, pair)))
        .await
        .iter()
        .map(|r| r.status)
        .collect();
    page(&world, &world.backend.login("alice", Token::in_window)).await;

    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    let each = [("result=full", 1.0), ("result=postponed", 1.0), ("result=queued", 1.0)];
    assert_eq!(moved(&world, "refresh_budget_total").await, expected(each));
}

#[tokio::test(flavor = "multi_thread")]
async fn store_degraded_is_1_while_the_shared_store_does_not_answer() {
    let fleet = Fleet::of(1, "", "").await;
    let degraded = async || fleet.gateways[0].metrics().await.value("evergate_store_degraded");
    let expired = || get("/page").pair(&fleet.backend.login("alice", Token::expired));
    assert_eq!(fleet.send(0, expired()).await.status, 200);
    assert_eq!(degraded().await, 0.0);

    fleet.redis.pause();
    assert_eq!(fleet.send(0, expired()).await.status, 503);
    assert_eq!(degraded().await, 1.0);

    fleet.redis.resume();
    eventually("it answers again", async || {
        fleet.send(0, expired()).await;
        degraded().await == 0.0
    })
    .await;
}

/// The text between two markers of a source file.
fn section(file: &str, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(repository(file)).expect("a source file");
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("no `{from}` in {file}"));
    rest.split_once(to).map_or(rest, |(section, _)| section).to_string()
}

/// Every story's text.
fn stories() -> String {
    let files = std::fs::read_dir(repository("tests/it")).expect("the stories");
    let files = files.map(|file| file.expect("a file").path());
    files
        .filter(|path| path.is_file())
        .map(|path| std::fs::read_to_string(path).expect("text"))
        .collect()
}

#[test]
fn every_metric_of_refreshing_has_a_test_of_its_name() {
    let registered = section("src/metrics.rs", "impl RefreshMetrics {", "#[cfg(test)]");
    let registered: String = registered.split_whitespace().collect();
    let names: Vec<&str> =
        registered.split("(r,\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(names.len() >= 12, "{names:?}");
    let stories = stories();

    let untested: Vec<_> =
        names.iter().filter(|name| !stories.contains(&format!("async fn {name}_"))).collect();

    assert!(untested.is_empty(), "no test named after {untested:?}");
}

#[test]
fn every_word_of_their_labels_stands_in_a_test() {
    let stories = stories();
    let mut untested = Vec::new();
    for words in ["fn trigger_word", "fn result_word", "fn budget_word", "fn end_word"] {
        let words = section("src/server/telemetry.rs", words, "\n}\n");
        let words = words.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next());
        let tested = |word: &&str| {
            ["=", "\""].iter().any(|before| stories.contains(&format!("{before}{word}\"")))
        };
        untested.extend(words.filter(|word| !tested(word)).map(str::to_string));
    }
    assert_eq!(untested, [""; 0], "no test counts these");
}

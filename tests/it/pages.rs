//! The page script in a real browser: whatever its clock says, its tabs have the session renewed
//! once a period, and nobody sees it.

use std::time::Duration;

use fantoccini::Client;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::browser::browser;
use super::support::parts::Program;
use super::support::*;

/// As an app would send it: the script first. Before it stands what the story looks at, and what
/// happens elsewhere just before this page asks for a refresh.
const PAGE: &str = r#"<!doctype html><title>app</title>
<script>
  const { now } = Date, send = fetch;
  Date.now = () => now() + WRONG;
  window.told = [];
  for (const name of ["session", "logout"]) {
    addEventListener("evergate:" + name, event => told.push([name, event.detail.active]));
  }
  window.fetch = async (url, init) => {
    const { elsewhere } = window;
    if (elsewhere && String(url).endsWith("/refresh")) {
      window.elsewhere = null;
      await elsewhere();
    }
    return send(url, init);
  };
  const login = () => send("/auth/login", { method: "POST", body: "user=alice", redirect: "manual" });
  const logout = () => send("/auth/logout", { method: "POST" });
</script>
<script src="/_evergate/script.js"></script>"#;

/// The life of an access token here, in seconds. Half of it is the window.
const LIFE_S: u64 = 6;
/// Three to five periods.
const WATCHED: Duration = Duration::from_secs(14);

/// A world for a browser, and the browser, logged in at the app's page.
struct Tabs {
    world: World,
    browser: Client,
    _driver: Program,
}

impl Tabs {
    /// The browser's clock is wrong by so much.
    async fn open(wrong_ms: i64) -> Tabs {
        let world = World::changed("listen:", "cookies: { secure: false }\nlisten:").await;
        world.backend.grant_life(LIFE_S);
        let page = PAGE.replace("WRONG", &wrong_ms.to_string());
        world.upstream.page("/static/app", &page);
        let (driver, browser) = browser().await;
        let tabs = Tabs { world, browser, _driver: driver };
        tabs.load().await;
        tabs.script("await login(); await evergate.session()").await;
        tabs
    }

    async fn load(&self) {
        let url = format!("http://{}/static/app", self.world.gateway.address);
        self.browser.goto(&url).await.expect("a page");
    }

    async fn another(&self) {
        let tab = self.browser.new_window(true).await.expect("a tab");
        self.browser.switch_to_window(tab.handle).await.expect("the tab");
        self.load().await;
    }

    async fn script(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {script} }})().then(done, e => done(String(e)))"
        );
        self.browser.execute_async(&script, Vec::new()).await.expect("the script runs")
    }

    /// Requests that this endpoint has served.
    async fn served(&self, endpoint: &str) -> f64 {
        let labels = format!("decision=\"serve\",reason=\"ok\",route=\"gateway:{endpoint}\"");
        let metrics = self.world.gateway.metrics().await;
        metrics.value(&format!("evergate_decisions_total{{{labels}}}"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_tabs_make_one_refresh_a_period_whatever_the_clock_says() {
    let tabs = Tabs::open(600_000).await;
    for _ in 1..5 {
        tabs.another().await;
    }

    let before = tabs.world.backend.counts();
    sleep(WATCHED).await;
    let after = tabs.world.backend.counts();

    // A period ends where the window begins, 3 or 4 s after a token was granted, or a little later.
    let grants = after.grants - before.grants;
    assert!((3..=5).contains(&grants), "{grants} grants in {WATCHED:?}");
    assert_eq!((after.reuses, after.unknown), (0, 0));
    let served = tabs.served("refresh").await;
    assert!(served <= f64::from(after.grants + 2), "{served} requests for {after:?}");
    for tab in tabs.browser.windows().await.expect("its tabs") {
        tabs.browser.switch_to_window(tab).await.expect("the tab");
        let told = tabs.script("return [told.length, told.filter(([, active]) => !active)]").await;
        let heard = told[0].as_u64().expect("a number");
        assert!(heard >= u64::from(grants), "every tab hears of every refresh: {told}");
        assert!(told[1].as_array().is_some_and(|over| over.len() <= 1), "before the login: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_was_refused_is_tried_once_more_when_there_is_a_new_session() {
    let tabs = Tabs::open(-600_000).await;
    for fetch in [
        "fetch('/a')",
        "fetch('/b', { method: 'POST', body: 'x=1' })",
        "fetch(new Request('/c', { method: 'POST', body: 'x=2' }))",
    ] {
        // Another tab logs out, and in again: after this page's request, before its refresh.
        let story = format!("await logout(); elsewhere = login; return (await {fetch}).status");
        assert_eq!(tabs.script(&story).await, 200, "{fetch}");
    }
    let seen = tabs.world.upstream.record.all();
    let seen: Vec<(&str, &[u8])> = seen
        .iter()
        .map(|seen| (seen.target.as_str(), seen.body.as_slice()))
        .filter(|(target, _)| target.len() == 2)
        .collect();
    assert_eq!(seen, [("/a", &b""[..]), ("/b", b"x=1"), ("/c", b"x=2")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_told_once_that_the_session_is_over() {
    let tabs = Tabs::open(0).await;
    let first = tabs.browser.window().await.expect("the tab");
    tabs.another().await;

    let statuses = "return [(await fetch('/a')).status, (await fetch('/b')).status]";
    let refused = tabs.script(&format!("told.length = 0; await logout(); {statuses}")).await;
    let ends = "return told.filter(([name]) => name === 'logout')";
    let here = tabs.script(ends).await;
    tabs.browser.switch_to_window(first).await.expect("the other tab");
    let there = tabs.script(ends).await;

    assert_eq!(refused, json!([401, 401]));
    let once = json!([["logout", false]]);
    assert_eq!((here, there), (once.clone(), once));
    let vain = "evergate_requests_total{code=\"409\",method=\"POST\",route=\"gateway:refresh\"}";
    assert_eq!(tabs.world.gateway.metrics().await.value(vain), 1.0, "nobody asks twice in vain");
}

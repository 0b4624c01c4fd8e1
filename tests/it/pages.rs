//! The page script in a real browser: whatever its clock says, its tabs have the session renewed
//! once a period, and nobody sees it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fantoccini::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::browser::browser;
use super::support::backend::Counts;
use super::support::keys;
use super::support::parts::Program;
use super::support::wire::{self, Guard};
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

/// What a browser sends, head by head, on its way to the gateway.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Vec<u8>>>>);

impl Recorder {
    /// Stands before the gateway from now on.
    async fn before(&self, gateway: SocketAddr) -> (SocketAddr, Guard) {
        let record = self.clone();
        wire::listen(move |stream| {
            let record = record.clone();
            async move {
                let (mut from, mut to) = stream.into_inner().into_split();
                let onward = TcpStream::connect(gateway).await.expect("the gateway listens");
                let (mut back, mut on) = onward.into_split();
                let index = {
                    let mut all = record.0.lock().expect("no panic");
                    all.push(Vec::new());
                    all.len() - 1
                };
                let sent = async {
                    let mut buffer = [0; 8192];
                    while let Ok(read @ 1..) = from.read(&mut buffer).await {
                        let bytes = &buffer[..read];
                        record.0.lock().expect("no panic")[index].extend(bytes);
                        if on.write_all(bytes).await.is_err() {
                            break;
                        }
                    }
                };
                let answered = tokio::io::copy(&mut back, &mut to);
                tokio::select! { () = sent => (), _ = answered => () }
            }
        })
        .await
    }

    /// The target of every request, with the names and values of its cookies in one line.
    fn requests(&self) -> Vec<(String, String)> {
        let mut requests: Vec<(String, String)> = Vec::new();
        for bytes in &*self.0.lock().expect("no panic") {
            for line in String::from_utf8_lossy(bytes).split("\r\n") {
                if let Some(request) = line.strip_suffix(" HTTP/1.1") {
                    let target = request.split(' ').next_back().unwrap_or_default();
                    requests.push((target.to_string(), String::new()));
                } else if let (Some(cookies), Some((_, seen))) =
                    (line.to_ascii_lowercase().strip_prefix("cookie: "), requests.last_mut())
                {
                    *seen += cookies;
                }
            }
        }
        requests
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_carrier_path_the_refresh_token_travels_to_the_refresh_path_only() {
    let keys = "s3cret, carrier: path }\ncookies: { secure: false }";
    let world = World::changed("s3cret }", keys).await;
    // What the script does every 20 s, it does five times a second here.
    let script = "<!doctype html>
        <script>const slow = setInterval; setInterval = (f, ms) => slow(f, ms / 100)</script>
        <script src=\"/_evergate/script.js\"></script>";
    world.upstream.page("/static/app", "<!doctype html>");
    world.upstream.page("/app?a=b", script);
    let recorder = Recorder::default();
    let (address, _guard) = recorder.before(world.gateway.address).await;
    let (_driver, browser) = browser().await;
    let goto = async |path: &str| browser.goto(&format!("http://{address}{path}")).await;
    let run = async |script: &str| {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {script} }})().then(done, e => done(String(e)))"
        );
        browser.execute_async(&script, Vec::new()).await.expect("the script runs")
    };
    let life = Duration::from_secs(keys::LIFE_S + 1);

    goto("/static/app").await.expect("a page");
    run("await fetch('/auth/login', { method: 'POST', body: 'user=alice', redirect: 'manual' })")
        .await;
    world.skip(life);
    goto("/app?a=b").await.expect("a page, by way of the refresh path");
    assert_eq!(
        browser.current_url().await.expect("a page").as_str(),
        format!("http://{address}/app?a=b")
    );
    assert_eq!(world.backend.counts().grants, 1);
    world.skip(life);
    let ten = "return (await Promise.all([...Array(10)].map((_, i) => fetch('/data/' + i)))).map(a => a.status)";
    assert_eq!(run(ten).await, json!([200; 10].to_vec()));
    assert_eq!(world.backend.counts().grants, 2, "ten fetches, one refresh");
    let form = "const f = document.createElement('form'), i = document.createElement('iframe');
                Object.assign(f, { method: 'post', action: '/form', target: 'there' });
                i.name = 'there';
                document.body.append(f, i);
                const done = new Promise(loaded => i.onload = loaded);
                f.submit();
                await done;
                return i.contentWindow.location.pathname";
    assert_eq!(run(form).await, json!("/form"));
    let socket = "const socket = new WebSocket(`ws://${location.host}/ws`);
                  await new Promise((open, failed) => Object.assign(socket, { onopen: open, onerror: failed }));
                  socket.close()";
    assert_eq!(run(socket).await, json!(null));
    let asked = || {
        let requests = recorder.requests();
        requests.iter().filter(|(target, _)| target == "/_evergate/session").count()
    };
    for wakes in [
        "dispatchEvent(new Event('visibilitychange'))",
        "dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))",
        "const { now } = Date; Date.now = () => now() + 3600000",
    ] {
        sleep(Duration::from_millis(500)).await;
        let before = asked();
        sleep(Duration::from_millis(500)).await;
        assert_eq!(asked(), before, "nothing happens by itself");
        run(wakes).await;
        eventually("whoever wakes up is told what is left", async || asked() > before).await;
    }
    let out = "const out = await fetch('/_evergate/logout', { method: 'POST', headers: { 'X-Evergate': '1' } });
               return [out.status, (await fetch('/data/x')).status]";
    assert_eq!(run(out).await, json!([204, 401]));

    let requests = recorder.requests();
    let with_token = requests.iter().filter(|(_, cookies)| cookies.contains("evergate_refresh"));
    let targets: Vec<&str> =
        with_token.map(|(target, _)| target.split('?').next().unwrap_or_default()).collect();
    assert!(requests.len() > 20 && targets.len() >= 3, "{requests:?}");
    assert!(targets.iter().all(|target| *target == "/_evergate/refresh"), "{targets:?}");
    let app = world.upstream.record.all();
    assert!(
        app.iter()
            .all(|seen| seen.head.get("cookie").is_none_or(|line| !line.contains("evergate_")))
    );
    assert_eq!(world.backend.counts(), Counts { grants: 2, reuses: 0, unknown: 0 });
}

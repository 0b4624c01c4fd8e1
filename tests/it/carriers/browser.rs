//! A real browser with each carrier: login, tokens that expire, ten parallel fetches, a form, a
//! WebSocket, and a logout in another tab.

use std::time::Duration;

use fantoccini::{Client, Locator};
use serde_json::{Value, json};

use super::{CARRIERS, LIFE_S, file_with};
use crate::browser::browser;
use crate::support::parts::Program;
use crate::support::*;

/// The app's page. The script stands in it, as an app with carrier `path` would have it.
const PAGE: &str = r#"<!doctype html><title>app</title><script src="/_evergate/script.js"></script>
<form method=post action=/form><input name=a value=1><button>Send</button></form>
<script>
  window.cut = false;
  const open = () => new Promise((done, failed) => {
    const socket = new WebSocket(`ws://${location.host}/ws`);
    socket.onopen = () => socket.send("hello");
    socket.onmessage = event => done(event.data);
    socket.onerror = () => failed("no socket");
    socket.onclose = () => window.cut = true;
  });
  const logout = () => fetch("/_evergate/logout", { method: "POST", headers: { "X-Evergate": "1" } });
</script>"#;

struct Tab {
    world: World,
    browser: Client,
    _driver: Program,
}

impl Tab {
    /// Sent to the login page, and logged in there.
    async fn logged_in(carrier: &str) -> Tab {
        let plain = file_with(carrier).replace("cookies: {", "cookies: { secure: false,");
        let world = World::with(&plain).await;
        world.backend.grant_life(LIFE_S);
        for path in ["/home", "/form"] {
            world.upstream.page(path, PAGE);
        }
        let (driver, browser) = browser().await;
        let tab = Tab { world, browser, _driver: driver };
        tab.load().await;
        tab.element("input[name=user]").await.send_keys("alice").await.expect("typed");
        tab.element("button").await.click().await.expect("sent");
        assert_eq!(tab.title().await, "app", "{carrier}: logged in");
        tab
    }

    async fn load(&self) {
        let url = format!("http://{}/home", self.world.gateway.address);
        self.browser.goto(&url).await.expect("a page");
    }

    async fn element(&self, css: &str) -> fantoccini::elements::Element {
        self.browser.wait().for_element(Locator::Css(css)).await.expect("it is there")
    }

    async fn title(&self) -> String {
        self.element("form").await;
        self.browser.title().await.expect("a title")
    }

    async fn script(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[0]; (async () => {{ {script} }})().then(done, e => done(String(e)))"
        );
        self.browser.execute_async(&script, Vec::new()).await.expect("the script runs")
    }

    /// Everybody's access token has expired, and no timer has told the page.
    fn expire(&self) {
        self.world.skip(Duration::from_secs(LIFE_S + 1));
    }

    /// With carrier `path` what is no page of its own cannot wait for a renewal: the page asks first.
    async fn ready(&self, carrier: &str) {
        self.expire();
        if carrier == "path" {
            assert_eq!(self.script("return await evergate.refresh()").await, true);
        }
    }
}

async fn story(carrier: &str) {
    let tab = Tab::logged_in(carrier).await;

    tab.expire();
    tab.load().await;
    assert_eq!(tab.title().await, "app", "{carrier}: a page after expiry");

    tab.expire();
    let fetches = "return await Promise.all(Array.from({ length: 10 }, \
                   async (_, n) => (await fetch('/data/' + n)).status))";
    assert_eq!(tab.script(fetches).await, json!(vec![200; 10]), "{carrier}: fetches after expiry");

    tab.ready(carrier).await;
    tab.element("button").await.click().await.expect("sent");
    eventually("the app has the form", async || {
        tab.world.upstream.record.all().iter().any(|seen| seen.body == b"a=1")
    })
    .await;
    assert_eq!(tab.title().await, "app", "{carrier}: a form after expiry");

    tab.ready(carrier).await;
    assert_eq!(tab.script("return await open()").await, "hello", "{carrier}: a WebSocket");

    let first = tab.browser.window().await.expect("the tab");
    let second = tab.browser.new_window(true).await.expect("a tab");
    tab.browser.switch_to_window(second.handle).await.expect("the other tab");
    tab.load().await;
    assert_eq!(tab.script("return (await logout()).status").await, 204, "{carrier}: a logout");
    tab.browser.switch_to_window(first).await.expect("the tab");
    assert_eq!(tab.script("return (await fetch('/data')).status").await, 401, "{carrier}: is out");
    eventually("the WebSocket is closed", async || tab.script("return cut").await == true).await;

    let counts = tab.world.backend.counts();
    assert_eq!((counts.grants, counts.reuses, counts.unknown), (4, 0, 0), "{carrier}");
    let seen = tab.world.upstream.record.all();
    let strangers =
        seen.iter().filter(|seen| seen.head.all("x-forwarded-user") != ["alice"]).count();
    assert_eq!(strangers, 0, "{carrier}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_notices_no_expiry_with_any_carrier_and_every_logout() {
    for carrier in CARRIERS {
        story(carrier).await;
    }
}

//! A real browser at the demo: logs in, sees a name, watches tokens being renewed, presses every
//! button. Screenshots are kept in `target/screenshots`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;

use super::support::gateway::evergate;
use super::support::parts::{Folder, Program, free_port, repository};

/// The demo in a process of its own, and a browser at its front page.
struct Demo {
    browser: Client,
    url: String,
    _driver: Program,
    _demo: Program,
    folder: Folder,
}

impl Demo {
    async fn open() -> Demo {
        let folder = Folder::new();
        let mut command = evergate();
        command.args(["demo", "--port", "0"]).current_dir(&folder.0);
        let mut demo = Program::start(&mut command);
        let url = format!("http://{}", demo.says("Open  http://").await);
        let (driver, browser) = browser().await;
        browser.goto(&url).await.expect("the front page");
        Demo { browser, url, _driver: driver, _demo: demo, folder }
    }

    async fn log_in(&self) {
        self.click("#enter").await;
        self.find("input[name=password]").await;
        self.click("form[method=post] button").await;
        self.until("#who", "it greets by name", |text| text.starts_with("alice")).await;
    }

    async fn find(&self, selector: &str) -> fantoccini::elements::Element {
        let wait = self.browser.wait().at_most(Duration::from_secs(10));
        let found = wait.for_element(Locator::Css(selector)).await;
        found.unwrap_or_else(|error| panic!("{selector}: {error}"))
    }

    async fn click(&self, selector: &str) {
        self.find(selector).await.click().await.unwrap_or_else(|e| panic!("{selector}: {e}"));
    }

    async fn text(&self, selector: &str) -> String {
        self.find(selector).await.text().await.expect("its text")
    }

    /// Waits at most a minute, which is the life of three tokens.
    async fn until(&self, selector: &str, what: &str, holds: impl Fn(&str) -> bool) -> String {
        for _ in 0..300 {
            let text = self.text(selector).await;
            if holds(&text) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("never happened: {what}; {selector} says {:?}", self.text(selector).await);
    }

    /// Presses one of the experiments' buttons and returns what went as it should and what did not.
    async fn press(&self, id: &str) -> (String, String) {
        self.click(&format!("#{id}")).await;
        let output = format!("#{id} + output");
        self.until(&output, "the experiment ends", |text| !text.is_empty()).await;
        let lines = |class| {
            format!(
                "return [...document.querySelectorAll('#{id} + output .{class}')].map(e => e.textContent).join('\\n')"
            )
        };
        (self.script(&lines("ok")).await, self.script(&lines("no")).await)
    }

    async fn script(&self, script: &str) -> String {
        let value = self.browser.execute(script, Vec::new()).await.expect("the script runs");
        value.as_str().map_or_else(|| value.to_string(), str::to_string)
    }

    async fn screenshot(&self, name: &str) {
        let folder = repository("target/screenshots");
        fs::create_dir_all(&folder).expect("target/ is ours");
        let picture = self.browser.screenshot().await.expect("a picture");
        fs::write(folder.join(format!("{name}.png")), picture).expect("written");
    }
}

/// A browser, and the program that drives it: dropped, it takes the browser along.
pub async fn browser() -> (Program, Client) {
    let driver = std::env::var("CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".to_string());
    // With port 0 it takes one of IPv6 that may be taken for IPv4, and gives up.
    let port = free_port().await;
    let mut driver = Program::start(Command::new(driver).arg(format!("--port={port}")));
    let port = driver.says("started successfully on port ").await;
    let browser = launch(port.trim_end_matches('.')).await;
    (driver, browser)
}

async fn launch(port: &str) -> Client {
    // Chromium's own sandbox needs rights that containers and root do not have; it shows only our
    // own pages here.
    let arguments =
        ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400"];
    let serde_json::Value::Object(capabilities) =
        json!({ "goog:chromeOptions": { "args": arguments } })
    else {
        unreachable!("written as an object")
    };
    let mut builder = ClientBuilder::new(HttpConnector::new());
    builder.capabilities(capabilities);
    builder.connect(&format!("http://127.0.0.1:{port}")).await.expect("Chromium starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_and_stays_logged_in_while_tokens_are_renewed() {
    let demo = Demo::open().await;
    demo.screenshot("1-stranger").await;

    demo.log_in().await;
    demo.screenshot("2-logged-in").await;
    let renewed =
        |at_least: u32| move |text: &str| text.parse::<u32>().is_ok_and(|times| times >= at_least);
    demo.until("#renewed", "a renewal", renewed(1)).await;
    demo.screenshot("3-renewed").await;
    demo.until("#renewed", "another renewal", renewed(2)).await;

    assert!(demo.text("#who").await.starts_with("alice"));
    assert_eq!(demo.text("#lost").await, "0", "nobody was logged out");
    demo.browser
        .goto(&format!("{}app/", demo.url.trim_end_matches("app/")))
        .await
        .expect("the app");
    assert!(demo.text("body").await.contains("alice"), "the app greets by name");
    demo.screenshot("4-the-app").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_button_of_the_demo_does_what_it_says() {
    let demo = Demo::open().await;
    demo.log_in().await;

    for id in ["tamper", "forge", "admin", "rotate", "parallel"] {
        let (good, bad) = demo.press(id).await;
        assert!(!good.is_empty() && bad.is_empty(), "{id}: {good:?}, but {bad:?}");
    }
    demo.screenshot("5-experiments").await;
    let (stopped, bad) = demo.press("stop").await;
    assert!(bad.is_empty(), "{stopped:?}, but {bad:?}");
    demo.until("#state", "the page says so", |text| text.contains("session is kept")).await;
    demo.screenshot("6-backend-stopped").await;
    let (started, bad) = demo.press("stop").await;
    assert!(bad.is_empty(), "{started:?}, but {bad:?}");
    demo.until("#state", "it renews again", |text| text.starts_with("Fresh")).await;

    assert_eq!(demo.text("#lost").await, "0", "nobody was logged out");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_fits_on_a_phone_and_loads_nothing_from_elsewhere() {
    let demo = Demo::open().await;
    demo.browser.set_window_size(400, 900).await.expect("a small window");
    demo.log_in().await;

    let wide = demo.script("return document.documentElement.scrollWidth > innerWidth").await;
    let outside = demo
        .script("return performance.getEntriesByType('resource').filter(e => !e.name.startsWith(location.origin) && !e.name.startsWith('data:')).length")
        .await;

    demo.screenshot("7-phone").await;
    assert_eq!((wide.as_str(), outside.as_str()), ("false", "0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_that_the_demo_leaves_is_good_to_go_on_with() {
    let demo = Demo::open().await;

    let file = demo.folder.0.join("gateway-demo.yaml");
    let mut check = Program::start(evergate().arg("check").arg("-c").arg(file));

    assert_eq!(check.ended().await.code(), Some(0), "{}", check.output());
}

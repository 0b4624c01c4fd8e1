use std::time::Duration;

use super::*;
use crate::demo::http_client::http_client;
use crate::demo::{listen, serve};

const FAST: Pace = Pace { slow: Duration::from_millis(1), tick: Duration::from_millis(1) };

/// A running app's address.
async fn app() -> String {
    let (address, listener) = listen("the app", 0).await.unwrap();
    serve(listener, router(FAST));
    format!("http://{address}")
}

async fn get_as(user: &str, url: &str) -> String {
    let request = http_client().unwrap().get(url).header("X-Forwarded-User", user);
    request.send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn the_home_page_greets_by_header_and_lists_what_it_received() {
    let html = get_as("alice", &format!("{}/", app().await)).await;

    assert!(html.contains("<h1>Welcome, alice!</h1>"), "{html}");
    assert!(html.contains("<tt>x-forwarded-user</tt></td><td><tt>alice</tt>"), "{html}");
    assert!(html.contains("visitor number <b>000001</b>"), "{html}");
}

#[tokio::test]
async fn markup_in_a_header_is_shown_not_run() {
    let app = app().await;
    for path in ["/", "/admin/", "/slow"] {
        let html = get_as("<img src=x onerror=alert(1)>", &format!("{app}{path}")).await;
        assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;"), "{path}: {html}");
        assert!(!html.contains("<img"), "{path}: {html}");
    }
}

#[tokio::test]
async fn without_the_header_everybody_is_a_stranger() {
    let html = reqwest::Client::get(&http_client().unwrap(), format!("{}/", app().await));
    let html = html.send().await.unwrap().text().await.unwrap();
    assert!(html.contains("Welcome, stranger!"), "{html}");
}

#[tokio::test]
async fn printenv_gives_the_headers_as_text() {
    let text = get_as("alice", &format!("{}/cgi-bin/printenv", app().await)).await;
    assert!(text.lines().any(|line| line == "x-forwarded-user: alice"), "{text}");
}

#[tokio::test]
async fn the_clock_ticks_while_somebody_listens() {
    let client = http_client().unwrap();
    let mut answer = client.get(format!("{}/events", app().await)).send().await.unwrap();
    let mut text = String::new();
    while text.matches("data:").count() < 3 {
        text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(text.starts_with("data: 1\n\ndata: 2\n\ndata: 3\n\n"), "{text}");
}

#[tokio::test]
async fn an_upload_is_counted_to_the_byte_however_large() {
    let body = vec![7_u8; 5 * 1024 * 1024 + 3];
    let request = http_client().unwrap().post(format!("{}/upload", app().await)).body(body);

    let html = request.send().await.unwrap().text().await.unwrap();

    assert!(html.contains("<b>5242883</b> bytes arrived"), "{html}");
}

#[tokio::test]
async fn an_unknown_page_is_an_honest_404() {
    let url = format!("{}/nowhere", app().await);
    let answer = http_client().unwrap().get(url).send().await.unwrap();
    assert_eq!(answer.status(), 404);
}

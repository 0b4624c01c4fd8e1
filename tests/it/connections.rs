//! Connections: kept where both sides may keep them, tried again only where that is harmless, and
//! answered even where a hook of ours fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use evergate::proxy::observe::{Event, Observer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::wire::{self, Stream};
use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_keeps_its_connection_over_pages_and_refusals() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let mut stream = client::connect(world.gateway.address).await;

    for (ask, expected) in [
        (get("/page").access(&token), 200),
        (get("/page"), 401),
        (post("/page", "body").access(&token), 200),
        (client::ask("HEAD", "/page"), 401),
        (get("/nowhere/../x"), 400),
        (get("/page").access(&token), 200),
    ] {
        stream.write_all(&ask.bytes()).await.expect("still open");
        let method = String::from_utf8_lossy(&ask.bytes()).split(' ').next().map(str::to_string);
        let reply = client::read_reply(&mut stream, &method.expect("a method")).await;
        assert_eq!(reply.status, expected);
        assert_eq!(reply.head.all("connection"), ["keep-alive"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_failure_says_that_the_connection_ends() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let mut stream = client::connect(world.gateway.address).await;
    stream.write_all(&get("/reset").access(&token).bytes()).await.expect("sent");

    let reply = client::read_reply(&mut stream, "GET").await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("closed in order");

    assert_eq!((reply.status, reply.head.all("connection")), (502, vec!["close"]));
    assert_eq!(rest, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_without_a_host_is_served_and_the_app_gets_one() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let request = format!("GET /page HTTP/1.0\r\nCookie: __Host-access={token}\r\n\r\n");
    let mut stream = client::connect(world.gateway.address).await;
    stream.write_all(request.as_bytes()).await.expect("sent");

    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("closed at the end");

    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    let seen = world.upstream.record.last();
    assert_eq!(seen.head.start, "GET /page HTTP/1.1");
    assert_eq!(seen.head.all("host"), [world.upstream.address.to_string()]);
}

/// An app that keeps its connections and closes them when the second request comes, as a server
/// does whose idle time is over just then. Counts the requests that it was sent.
async fn forgetful() -> (std::net::SocketAddr, wire::Guard, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let (address, guard) = wire::listen(move |mut stream: Stream| {
        let count = count.clone();
        async move {
            let mut answered = false;
            while let Ok(Some(head)) = wire::read_head(&mut stream).await {
                let _ = wire::read_body(&mut stream, &head).await;
                count.fetch_add(1, Ordering::SeqCst);
                if answered {
                    return;
                }
                answered = stream.write_all(&wire::response(200, &[], b"ok")).await.is_ok();
            }
        }
    })
    .await;
    (address, guard, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_breaks_is_tried_again_only_where_nothing_can_happen_twice() {
    for (second, status, sent) in [
        (get("/page"), 200, 3),
        (client::ask("HEAD", "/page"), 200, 3),
        (client::ask("DELETE", "/page"), 200, 3),
        (client::ask("POST", "/page"), 502, 2),
        (post("/page", "only once"), 502, 2),
        (client::ask("PUT", "/page").body("only once"), 502, 2),
    ] {
        let (app, _guard, seen) = forgetful().await;
        let world = World::changed("http://UPSTREAM", &format!("http://{app}")).await;
        let token = world.backend.token("alice").sign();
        let first = get("/page").access(&token).send(world.gateway.address).await;
        assert_eq!(first.status, 200);

        let reply = second.access(&token).send(world.gateway.address).await;

        assert_eq!((reply.status, seen.load(Ordering::SeqCst)), (status, sent), "{reply:?}");
    }
}

/// Panics at every event of one kind, as a mistake of ours in a hook would.
fn panics_at(matches: fn(&Event<'_>) -> bool) -> Option<Observer> {
    Some(Arc::new(move |event: Event<'_>| assert!(!matches(&event), "meant to panic")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_deciding_answers_500_and_is_counted_and_the_gateway_lives() {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let observer = panics_at(|event| matches!(event, Event::Verified { .. }));
    let gateway = Gateway::watched(&world::place(STANDARD, &backend, &upstream), observer).await;
    let token = backend.token("alice").sign();

    let page = get("/page").access(&token).fetch().send(gateway.address).await;
    let public = get("/static/x").send(gateway.address).await;

    assert_eq!((page.status, page.reason().as_str(), public.status), (500, "internal", 200));
    assert_eq!(upstream.record.lines(), ["GET /static/x"]);
    assert_eq!(gateway.metrics().await.value("evergate_panics_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_while_answering_costs_one_connection_and_is_counted() {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let observer = panics_at(|event| matches!(event, Event::Answered { .. }));
    let gateway = Gateway::watched(&world::place(STANDARD, &backend, &upstream), observer).await;
    let mut stream = client::connect(gateway.address).await;
    stream.write_all(&get("/page").bytes()).await.expect("sent");

    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let public = get("/static/x").send(gateway.address).await;

    assert_eq!((answer, public.status), (Vec::new(), 200));
    // Once for the answer, once for the answer to that.
    assert_eq!(gateway.metrics().await.value("evergate_panics_total"), 2.0);
}

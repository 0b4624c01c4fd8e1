//! Bodies, WebSockets and event streams: nothing is kept back, nothing is sent twice, and an early
//! answer arrives.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::support::*;

/// The standard world whose upstream may be silent for 300 ms, and streams for a minute.
async fn impatient() -> World {
    let upstream = "upstreams: { app: { servers: [\"http://UPSTREAM\"], \
                    timeouts: { read: 300ms, stream_idle: 60s } } }";
    World::changed("upstream: http://UPSTREAM", upstream).await
}

async fn websocket(address: SocketAddr, token: &str) -> WebSocketStream<TcpStream> {
    let mut request = "ws://app.test/ws".into_client_request().expect("a URL");
    let cookie = format!("__Host-access={token}").parse().expect("a header");
    request.headers_mut().insert("Cookie", cookie);
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    tokio_tungstenite::client_async(request, stream).await.expect("a handshake").0
}

async fn echo(socket: &mut WebSocketStream<TcpStream>, text: &str) -> String {
    socket.send(Message::text(text)).await.expect("sent");
    let answer = timeout(Duration::from_secs(5), socket.next()).await.expect("in time");
    answer.expect("open").expect("a message").into_text().expect("text").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_talks_through_the_gateway_and_is_not_cut_when_silent() {
    let world = impatient().await;
    let token = world.backend.token("alice").sign();
    let mut socket = websocket(world.gateway.address, &token).await;

    let first = echo(&mut socket, "one").await;
    sleep(Duration::from_millis(900)).await;
    let second = echo(&mut socket, &"two".repeat(20_000)).await;

    assert_eq!((first.as_str(), second.len()), ("one", 60_000));
    assert_eq!(world.upstream.record.last().head.all("x-forwarded-user"), ["alice"]);
    assert_eq!(world.upstream.record.last().head.all("cookie"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_of_a_stranger_is_refused_before_the_app_hears_of_it() {
    let world = World::start().await;

    let reply = get("/ws").websocket().send(world.gateway.address).await;

    assert_eq!(reply.status, 401);
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_waits_three_seconds_for_a_refresh_and_no_longer() {
    let world = World::changed("client_secret: s3cret", "client_secret: s3cret, wait: 9s").await;
    world.backend.fail_once(Fault::Delay(Duration::from_secs(8)));
    let pair = world.backend.login("alice", Token::expired);
    let begun = Instant::now();

    let reply = get("/ws").websocket().pair(&pair).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.reason().as_str()), (503, "refresh_unavailable"));
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_not_asked_for_properly_is_refused() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    for ask in [
        get("/page").header("Upgrade", "websocket"),
        post("/page", "body").header("Upgrade", "websocket").header("Connection", "Upgrade"),
    ] {
        let reply = ask.access(&token).send(world.gateway.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (400, "bad_request"));
    }
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one_and_silence_does_not_end_them() {
    let world = impatient().await;
    let token = world.backend.token("alice").sign();
    let mut stream = client::connect(world.gateway.address).await;
    let ask = get("/events?gap=400").event_stream().access(&token);
    stream.write_all(&ask.bytes()).await.expect("sent");

    let head = wire::read_head(&mut stream).await.expect("a head").expect("an answer");
    let begun = Instant::now();
    let mut events = Vec::new();
    while let Some(chunk) = wire::read_chunk(&mut stream).await.expect("a chunk") {
        events.push((String::from_utf8_lossy(&chunk).to_string(), begun.elapsed()));
    }

    assert_eq!(head.word(1), "200");
    let texts: Vec<&str> = events.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"]);
    assert!(events[2].1 - events[0].1 > Duration::from_millis(600), "not at once: {events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_reaches_the_app_piece_by_piece() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let ask = post("/trickle", "").access(&token).header("Transfer-Encoding", "chunked");
    let mut stream = client::connect(world.gateway.address).await;
    stream.write_all(&ask.bytes()).await.expect("sent");

    for number in 1..=3 {
        stream.write_all(b"5\r\npiece\r\n").await.expect("sent");
        eventually("the piece is there before the next is sent", async || {
            world.upstream.record.count() == number
        })
        .await;
    }
    stream.write_all(b"0\r\n\r\n").await.expect("sent");

    let reply = client::read_reply(&mut stream, "POST").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "3 pieces"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_of_the_app_reaches_a_client_that_still_uploads() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let body = "x".repeat(5 * 1024 * 1024);

    let reply = post("/early", &body).access(&token).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.text().as_str()), (413, "too much"));
    assert_eq!(world.upstream.record.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_of_ours_reaches_a_client_that_sends_first_and_reads_then() {
    let world = World::start().await;
    let ask = post("/page", &"x".repeat(5 * 1024 * 1024)).fetch();
    let mut stream = client::connect(world.gateway.address).await;

    // Unlike the raw client, this one does not read before it has written everything.
    let written = timeout(Duration::from_secs(10), stream.write_all(&ask.bytes())).await;

    assert!(written.expect("not stuck").is_ok(), "the connection was reset");
    let reply = client::read_reply(&mut stream, "POST").await;
    assert_eq!((reply.status, reply.reason().as_str()), (401, "no_credentials"));
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_ever_sent_twice() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let warm = get("/page").access(&token).send(world.gateway.address).await;
    assert_eq!(warm.status, 200);

    for method in ["POST", "PUT", "DELETE"] {
        let before = world.upstream.record.count();
        let ask = client::ask(method, "/reset").body("only once").access(&token);
        assert_eq!(ask.send(world.gateway.address).await.status, 502, "{method}");
        assert_eq!(world.upstream.record.count() - before, 1, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_is_answered_without_its_body() {
    let world = World::start().await;
    let ask = client::ask("POST", "/page")
        .header("Expect", "100-continue")
        .header("Content-Length", "1000000");
    let mut stream = client::connect(world.gateway.address).await;
    stream.write_all(&ask.bytes()).await.expect("sent");

    let head = wire::read_head(&mut stream).await.expect("a head").expect("an answer");

    assert_eq!(head.word(1), "401", "and no 100 before it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_response_arrives_whole() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let body = "0123456789abcdef".repeat(512 * 1024);
    world.upstream.answer(200, &[], &body);

    let reply = get("/page").access(&token).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.body.len()), (200, body.len()));
    assert!(reply.body == body.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_servers_could_frame_in_two_ways_is_refused() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let cookie = format!("Cookie: __Host-access={token}\r\n");
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content_Length: 5\r\n",
        "Transfer_Encoding: chunked\r\n",
    ] {
        let request = format!(
            "POST /page HTTP/1.1\r\nHost: app.test\r\n{cookie}{framing}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n"
        );
        let mut stream = client::connect(world.gateway.address).await;
        stream.write_all(request.as_bytes()).await.expect("sent");
        let status = client::read_reply(&mut stream, "POST").await.status;
        let folded = framing.contains('_');
        // A name that only folds to a framing header is dropped, and the request has no body.
        assert_eq!(status, if folded { 200 } else { 400 }, "{framing}");
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_millis(200), stream.read_to_end(&mut rest)).await;
        let lines = world.upstream.record.lines();
        assert!(lines.iter().all(|line| line == "POST /page"), "{framing}: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_answers_at_once_does_not_lose_its_websockets() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    // One in four died when this was written: see src/proxy/upgrade.rs.
    for _ in 0..100 {
        let mut socket = websocket(world.gateway.address, &token).await;
        assert_eq!(echo(&mut socket, "one").await, "one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upgrade_and_a_dead_app_are_answered_as_usual() {
    let mut world = World::start().await;
    let token = world.backend.token("alice").sign();
    let ask = get("/page").websocket().access(&token);

    world.upstream.answer(403, &[], "no");
    let refused = ask.clone().send(world.gateway.address).await;
    world.upstream.stop();
    let dead = ask.send(world.gateway.address).await;

    assert_eq!((refused.status, refused.text().as_str()), (403, "no"));
    assert_eq!((dead.status, dead.reason().as_str()), (502, "upstream_unreachable"));
}

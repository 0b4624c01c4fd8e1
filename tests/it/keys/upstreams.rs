//! Where requests come in and go: sockets, timeouts, Host, TLS, turns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::{MS, before, is, outcome, page, route};
use crate::support::parts::{Folder, repository};
use crate::support::wire::{self, Guard, Stream};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_served_and_a_stale_one_is_replaced() {
    let folder = Folder::new();
    let path = folder.0.join("gateway.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("our folder"));
    let listeners = format!(
        "listeners: {{ default: {{ address: \"127.0.0.1:0\" }}, \
         local: {{ address: \"unix:{}\" }} }}",
        path.display()
    );
    let world = World::changed("listen: 127.0.0.1:0", &listeners).await;
    let stream = tokio::net::UnixStream::connect(&path).await.expect("somebody listens");
    let mut stream = BufReader::new(stream);
    stream.write_all(&get("/static/x").bytes()).await.expect("sent");

    let reply = client::read_reply(&mut stream, "GET").await;

    assert_eq!(reply.status, 200);
    assert_eq!(world.upstream.record.last().head.all("x-forwarded-for"), ["127.0.0.1"]);
}

/// A server whose queue of connections is full: one more is never taken.
async fn full() -> (SocketAddr, Vec<TcpStream>, tokio::net::TcpListener) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(1).expect("a listener");
    let address = listener.local_addr().expect("bound");
    let mut queue = Vec::new();
    while let Ok(stream) = timeout(MS(200), TcpStream::connect(address)).await {
        queue.push(stream.expect("queued"));
    }
    (address, queue, listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_how_long_a_server_may_take_to_accept() {
    let (address, _queue, _listener) = full().await;
    let world = before(&format!("http://{address}"), "timeouts: { connect: 200ms }").await;
    let begun = Instant::now();

    let reply = page(&world, &world.backend.token("alice")).await;

    assert_eq!(outcome(&reply), is(504, "upstream_timeout"));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn write_is_how_long_the_app_may_take_to_take_a_body() {
    let (address, _guard) = wire::listen(async |mut stream: Stream| {
        let _ = wire::read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    // After it an answer may still be there to be read: a server that wants no more says so.
    let timeouts = "timeouts: { write: 200ms, read: 200ms }";
    let world = before(&format!("http://{address}"), timeouts).await;
    let ask = post("/page", &"x".repeat(12 << 20)).access(&world.backend.token("alice").sign());

    let reply = ask.send(world.gateway.address).await;

    assert_eq!(outcome(&reply), is(504, "upstream_timeout"));
}

/// An app that counts its connections.
async fn counted() -> (SocketAddr, Guard, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let (address, guard) = wire::listen(move |mut stream: Stream| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            while let Ok(Some(head)) = wire::read_head(&mut stream).await {
                if head.get("upgrade").is_some() {
                    let switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                                     Connection: Upgrade\r\n\r\n";
                    let _ = stream.write_all(switched).await;
                    let _ = stream.flush().await;
                    let (mut from, mut to) = tokio::io::split(stream);
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    return;
                }
                let _ = stream.write_all(&wire::response(200, &[], b"ok")).await;
            }
        }
    })
    .await;
    (address, guard, connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_is_how_long_an_unused_connection_is_kept() {
    for (idle, expected) in [("60s", 1), ("50ms", 2)] {
        let (address, _guard, connections) = counted().await;
        let keys = format!("timeouts: {{ idle: {idle} }}");
        let world = before(&format!("http://{address}"), &keys).await;
        let token = world.backend.token("alice");

        assert_eq!(page(&world, &token).await.status, 200);
        sleep(MS(300)).await;
        assert_eq!(page(&world, &token).await.status, 200);

        assert_eq!(connections.load(Ordering::SeqCst), expected, "{idle}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_idle_ends_a_stream_that_nobody_uses() {
    let world = before("http://UPSTREAM", "timeouts: { stream_idle: 200ms }").await;
    let mut stream = client::connect(world.gateway.address).await;
    let ask = get("/ws").websocket().access(&world.backend.token("alice").sign());
    stream.write_all(&ask.bytes()).await.expect("sent");

    assert_eq!(client::read_reply(&mut stream, "GET").await.status, 101);
    let mut rest = Vec::new();
    let ended = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;

    assert!(ended.is_ok(), "still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routes_timeouts_go_before_its_upstreams() {
    let world = route("path: /slow/*, timeouts: { read: 100ms }").await;
    let ask = get("/slow/3000").access(&world.backend.token("alice").sign());

    assert_eq!(outcome(&ask.send(world.gateway.address).await), is(504, "upstream_timeout"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_sees_the_host_that_the_operator_chose() {
    for (key, expected) in [("preserve", "app.test"), ("upstream", ""), ("app.internal:81", "")] {
        let world = before("http://UPSTREAM", &format!("host_header: \"{key}\"")).await;
        assert_eq!(page(&world, &world.backend.token("alice")).await.status, 200);

        let seen = world.upstream.record.last().head;
        let own = world.upstream.address.to_string();
        let expected = match key {
            "upstream" => own.as_str(),
            "preserve" => expected,
            literal => literal,
        };
        assert_eq!(seen.all("host"), [expected]);
        assert_eq!(seen.all("x-forwarded-host"), ["app.test"]);
    }
}

/// An app that speaks TLS, with a certificate for `app.internal` of an authority of its own.
async fn tls_app() -> (SocketAddr, Guard) {
    let data = |name: &str| repository("tests/data/tls").join(name);
    let certificate = CertificateDer::from_pem_file(data("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(data("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    wire::listen(move |stream: Stream| {
        let accepting = acceptor.accept(stream.into_inner());
        async move {
            let Ok(stream) = accepting.await else { return };
            let mut stream = BufReader::new(stream);
            while let Ok(Some(head)) = wire::read_head(&mut stream).await {
                if head.get("upgrade").is_some() {
                    let switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                                     Connection: Upgrade\r\n\r\n";
                    let _ = stream.write_all(switched).await;
                    let _ = stream.flush().await;
                    let (mut from, mut to) = tokio::io::split(stream);
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    return;
                }
                let _ = stream.write_all(&wire::response(200, &[], b"over tls")).await;
                let _ = stream.flush().await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_with_tls_is_reached_only_with_its_authority_and_its_name() {
    let (address, _guard) = tls_app().await;
    let ca = repository("tests/data/tls/ca.pem");
    for (keys, expected) in [
        (format!("tls: {{ ca: {}, server_name: app.internal }}", ca.display()), 200),
        (format!("tls: {{ ca: {}, server_name: other.internal }}", ca.display()), 502),
        (format!("tls: {{ ca: {} }}", ca.display()), 502),
        ("tls: { server_name: app.internal }".to_string(), 502),
    ] {
        let world = before(&format!("https://{address}"), &keys).await;
        let reply = page(&world, &world.backend.token("alice")).await;
        assert_eq!(reply.status, expected, "{keys}");
        assert_eq!(reply.text() == "over tls", expected == 200, "{keys}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_reaches_an_app_with_tls() {
    let (address, _guard) = tls_app().await;
    let ca = repository("tests/data/tls/ca.pem");
    let keys = format!("tls: {{ ca: {}, server_name: app.internal }}", ca.display());
    let world = before(&format!("https://{address}"), &keys).await;
    let mut stream = client::connect(world.gateway.address).await;
    let ask = get("/ws").websocket().access(&world.backend.token("alice").sign());
    stream.write_all(&ask.bytes()).await.expect("sent");

    let head = wire::read_head(&mut stream).await.expect("a head").expect("an answer");
    stream.write_all(b"ping").await.expect("sent");
    let mut echoed = [0; 4];
    let answer = timeout(Duration::from_secs(5), stream.read_exact(&mut echoed)).await;

    assert!(head.start.contains(" 101 "), "{}", head.start);
    assert!(answer.is_ok_and(|read| read.is_ok()) && &echoed == b"ping");
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_that_trust_differently_share_no_connection() {
    let (address, _guard) = tls_app().await;
    let ca = repository("tests/data/tls/ca.pem");
    let upstreams = format!(
        "upstreams: {{ app: {{ servers: [\"https://{address}\"], \
         tls: {{ ca: {}, server_name: app.internal }} }}, \
         strict: {{ servers: [\"https://{address}\"], tls: {{ server_name: app.internal }} }} }}\n\
         defaults: {{ upstream: app }}",
        ca.display()
    );
    let yaml = STANDARD.replacen("upstream: http://UPSTREAM", &upstreams, 1);
    let world = World::with(&format!("{yaml}  - {{ path: /strict, upstream: strict }}\n")).await;
    let token = world.backend.token("alice");

    assert_eq!(page(&world, &token).await.status, 200);
    let strict = get("/strict").access(&token.sign()).send(world.gateway.address).await;

    assert_eq!(outcome(&strict), is(502, "upstream_unreachable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_take_turns_and_a_dead_one_is_passed_by() {
    let (one, two) = (Upstream::start().await, Upstream::start().await);
    let mut dead = Upstream::start().await;
    dead.stop();
    let servers = [one.address, two.address, dead.address].map(|a| format!("http://{a}"));
    let world = before(&servers.join("\", \""), "timeouts: { connect: 1s }").await;
    let token = world.backend.token("alice");

    for _ in 0..12 {
        assert_eq!(page(&world, &token).await.status, 200);
    }

    assert_eq!(one.record.count() + two.record.count(), 12);
    assert!(one.record.count() >= 3 && two.record.count() >= 3);
}

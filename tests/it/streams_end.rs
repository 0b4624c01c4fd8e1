//! Open streams end with the session that opened them, not with the access token, and not later.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::browser::browser;
use super::support::backend::{Counts, Pair};
use super::support::wire::Stream;
use super::support::*;

const S: fn(u64) -> Duration = Duration::from_secs;
/// The life of a token in these stories, and what a stream outlives it by at most.
const LIFE: Duration = Duration::from_secs(300);
const GRACE: Duration = Duration::from_secs(30);
/// A gateway looks at its deadlines each second.
const SOON: Duration = Duration::from_secs(3);
/// The promise for a session that ends.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The store's key in these stories.
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The two kinds of stream that a page holds open, on one session.
struct Open {
    socket: WebSocketStream<TcpStream>,
    events: Stream,
}

impl Open {
    async fn by(gateway: &Gateway, cookies: impl Fn(Ask) -> Ask) -> Open {
        let ask = cookies(get("/events?gap=600000").event_stream());
        Open { socket: socket(gateway, &cookies).await, events: download(gateway, ask).await }
    }

    async fn of(gateway: &Gateway, pair: &Pair) -> Open {
        Open::by(gateway, |ask| ask.pair(pair)).await
    }

    /// Both are there and quiet, for `time`.
    async fn last(&mut self, time: Duration) {
        let quiet = timeout(time, self.events.read_u8()).await;
        assert!(quiet.is_err(), "the event stream ended");
        self.socket.send(Message::text("there?")).await.expect("open");
        let echo = timeout(S(5), self.socket.next()).await.expect("in time").expect("open");
        assert_eq!(echo.expect("open").into_text().expect("text").as_str(), "there?");
    }

    /// Both end within `time`.
    async fn end(&mut self, time: Duration) {
        timeout(time, async {
            tokio::join!(rest(&mut self.events), async {
                while let Some(Ok(_)) = self.socket.next().await {}
            })
        })
        .await
        .expect("both end");
    }
}

async fn socket(gateway: &Gateway, cookies: impl Fn(Ask) -> Ask) -> WebSocketStream<TcpStream> {
    let bytes = cookies(get("/ws")).bytes();
    let text = String::from_utf8(bytes).expect("a head");
    let mut request = "ws://app.test/ws".into_client_request().expect("a URL");
    for line in text.lines().skip(2).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a header");
        let name: http::HeaderName = name.parse().expect("a name");
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let stream = TcpStream::connect(gateway.address).await.expect("the gateway listens");
    tokio_tungstenite::client_async(request, stream).await.expect("a handshake").0
}

/// A response of which the head and the first piece have come.
async fn download(gateway: &Gateway, ask: Ask) -> Stream {
    let mut stream = client::connect(gateway.address).await;
    stream.write_all(&ask.bytes()).await.expect("sent");
    let head = wire::read_head(&mut stream).await.expect("a head").expect("an answer");
    assert_eq!(head.word(1), "200");
    let piece = wire::read_chunk(&mut stream).await.expect("a chunk").expect("a piece");
    assert_eq!(piece, b"data: 1\n\n");
    stream
}

/// Reads to the end, whatever kind of end it is.
async fn rest(stream: &mut Stream) {
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

async fn logout(gateway: &Gateway, pair: &Pair) {
    let out = post("/auth/logout", "").pair(pair).send(gateway.address).await;
    assert_eq!(out.status, 204);
}

/// The gateway has noticed the end of every response.
async fn none_is_open(world: &World) {
    eventually("none is open", async || {
        world.gateway.metrics().await.value("evergate_streams_open") == 0.0
    })
    .await;
}

/// How many streams were cut, by reason.
async fn cut(gateway: &Gateway) -> BTreeMap<String, f64> {
    let text = gateway.metrics().await.0;
    let series = text.lines().filter_map(|line| {
        let (reason, count) =
            line.strip_prefix("evergate_streams_cut_total{reason=\"")?.split_once("\"} ")?;
        Some((reason.to_string(), count.parse().expect("a number")))
    });
    series.collect()
}

fn counts<const N: usize>(series: [(&str, f64); N]) -> BTreeMap<String, f64> {
    series.map(|(reason, count)| (reason.to_string(), count)).into()
}

/// The standard world, its last route with more keys.
async fn world(keys: &str) -> World {
    World::changed("{ path: /* }", &format!("{{ path: /*, {keys} }}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_a_refresh_by_another_tab_and_end_after_the_last_token() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut open = Open::of(&world.gateway, &pair).await;

    world.skip(LIFE - S(10));
    let new = get("/page").fetch().pair(&pair).send(world.gateway.address).await.new_pair();
    let new = new.expect("renewed");
    // The browser shows the new pair, and the old refresh token is spent by the time of the look.
    get("/page").fetch().pair(&new).send(world.gateway.address).await;
    world.skip(S(10) + GRACE + S(5));
    open.last(SOON).await;
    assert_eq!(world.backend.counts().grants, 1);
    assert_eq!(world.gateway.metrics().await.value("evergate_streams_open"), 2.0);

    world.skip(LIFE);
    open.end(SOON).await;
    assert_eq!(cut(&world.gateway).await, counts([("expired", 2.0)]));
    none_is_open(&world).await;
    assert_eq!(world.backend.counts().grants, 1, "nobody renews for a stream");
    assert_eq!(world.backend.counts().reuses, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_a_refresh_though_they_do_not_show_their_refresh_token() {
    let world = World::changed("s3cret }", "s3cret, carrier: path }").await;
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    let kept = |names: &[&'static str]| {
        let pairs = names.iter().map(|name| format!("{name}={}", browser.jar[*name]));
        pairs.collect::<Vec<_>>().join("; ")
    };
    let (own, told) = (kept(&["__Host-access"]), kept(&["__Host-access", "__Host-bounced"]));
    let mut open = Open::by(&world.gateway, |ask| ask.header("Cookie", &told)).await;
    let mut untied = Open::by(&world.gateway, |ask| ask.header("Cookie", &own)).await;

    world.skip(LIFE - S(20));
    let wish = post("/_evergate/refresh", "").fetch().header("X-Evergate", "1");
    assert_eq!(browser.send(wish).await.cookies().len(), 3, "renewed");
    world.skip(S(20) + GRACE + S(5));

    open.last(SOON).await;
    untied.end(SOON).await;
    assert_eq!(world.backend.counts().grants, 1);
    world.skip(LIFE);
    open.end(SOON).await;
    assert_eq!(cut(&world.gateway).await, counts([("expired", 4.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_within_the_grace_after_their_token_and_not_before_it() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut open = Open::of(&world.gateway, &pair).await;

    world.skip(LIFE + S(2));
    open.last(SOON).await;
    world.skip(GRACE);
    open.end(SOON).await;

    assert_eq!(cut(&world.gateway).await, counts([("expired", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_were_opened_together_do_not_all_come_back_together() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut streams = Vec::new();
    for _ in 0..40 {
        let ask = get("/events?gap=600000").event_stream().pair(&pair);
        streams.push(download(&world.gateway, ask).await);
    }
    let gone = async || cut(&world.gateway).await.get("expired").copied().unwrap_or_default();

    world.skip(LIFE + S(5));
    sleep(SOON).await;
    let before = gone().await;
    world.skip(S(11));
    sleep(Duration::from_millis(1_500)).await;
    let amid = gone().await;
    world.skip(S(14));

    assert_eq!(before, 0.0, "15 s at least");
    assert!((1.0..40.0).contains(&amid), "{amid} of 40 together");
    eventually("all end", async || gone().await == 40.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_in_another_tab_ends_streams_at_once_and_nobody_elses() {
    let world = World::start().await;
    let [alice, bob] =
        ["alice", "bob"].map(|name| world.backend.login(name, |token| token.aged(0)));
    let mut hers = Open::of(&world.gateway, &alice).await;
    let mut his = Open::of(&world.gateway, &bob).await;

    logout(&world.gateway, &alice).await;

    hers.end(AT_ONCE).await;
    his.last(Duration::from_millis(300)).await;
    assert_eq!(cut(&world.gateway).await, counts([("ended", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_streams_that_an_older_refresh_token_opened() {
    let world = World::start().await;
    let pair = world.backend.login("alice", Token::in_window);
    let mut open = Open::of(&world.gateway, &pair).await;
    eventually("it is renewed", async || world.backend.counts().grants == 1).await;
    let new = get("/page").fetch().pair(&pair).send(world.gateway.address).await.new_pair();

    logout(&world.gateway, &new.expect("renewed")).await;

    open.end(AT_ONCE).await;
    assert_eq!(cut(&world.gateway).await, counts([("ended", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_the_auth_backend_ends_streams() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut open = Open::of(&world.gateway, &pair).await;
    world.backend.fail(Fault::Refuse { status: 400, error: "invalid_grant", retry_after: None });

    world.skip(LIFE - S(10));
    let page = get("/page").fetch().pair(&pair).send(world.gateway.address).await;

    assert_eq!(page.status, 200, "its access token still holds");
    open.end(AT_ONCE).await;
    assert_eq!(cut(&world.gateway).await, counts([("ended", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_asked_for_after_the_logout_with_the_old_cookies_is_refused() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    logout(&world.gateway, &pair).await;

    let ask = get("/events?gap=600000").event_stream().pair(&pair);
    let reply = ask.send(world.gateway.address).await;

    assert_eq!((reply.status, reply.reason().as_str()), (401, "revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_opened_with_a_spent_refresh_token_does_not_follow_the_session() {
    let world = World::start().await;
    let old = world.backend.login("alice", Token::in_window);
    let page = |pair: Pair| get("/page").fetch().pair(&pair).send(world.gateway.address);
    let new = page(old.clone()).await.new_pair().expect("renewed");
    page(new).await;
    world.skip(GRACE + S(1));
    // A copy of the old cookies, with an access token of hers that still holds.
    let access = world.backend.token("alice").aged(250).sign();
    let copy = Pair { access, refresh: old.refresh };
    let mut stolen = Open::of(&world.gateway, &copy).await;
    sleep(Duration::from_millis(300)).await;

    world.skip(S(50) + GRACE);

    stolen.end(SOON).await;
    assert_eq!(cut(&world.gateway).await, counts([("expired", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bearers_streams_end_with_their_token() {
    let world = World::start().await;
    let token = world.backend.token("alice").aged(0).sign();
    let mut open = Open::by(&world.gateway, |ask| ask.bearer(&token)).await;

    world.skip(LIFE - S(5));
    open.last(Duration::from_millis(1_200)).await;
    world.skip(S(5) + GRACE);

    open.end(SOON).await;
    assert_eq!(cut(&world.gateway).await, counts([("expired", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_on_expiry_false_lets_streams_outlive_their_token_and_not_their_session() {
    let world = world("cut_on_expiry: false").await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut open = Open::of(&world.gateway, &pair).await;

    world.skip(10 * LIFE);
    open.last(SOON).await;
    logout(&world.gateway, &pair).await;

    open.end(AT_ONCE).await;
    assert_eq!(cut(&world.gateway).await, counts([("ended", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_max_age_ends_streams_however_good_their_token() {
    let world = world("stream_max_age: 2m").await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut open = Open::of(&world.gateway, &pair).await;

    world.skip(S(100));
    open.last(Duration::from_millis(1_200)).await;
    world.skip(S(20));

    open.end(SOON).await;
    assert_eq!(cut(&world.gateway).await, counts([("max_age", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_max_age_holds_for_streams_of_nobody() {
    let world = World::changed(
        "{ path: /static/*, auth: public }",
        "{ path: /ws, auth: public, stream_max_age: 2m }\n  - { path: /events, auth: public }",
    );
    let world = world.await;
    let mut limited = socket(&world.gateway, |ask| ask).await;
    let mut free = download(&world.gateway, get("/events?gap=600000").event_stream()).await;

    world.skip(S(121));

    let ended = async { while let Some(Ok(_)) = limited.next().await {} };
    timeout(SOON, ended).await.expect("it ends");
    assert!(timeout(S(2), free.read_u8()).await.is_err(), "nothing limits it");
}

/// Two gateways over one Redis, with clocks of their own; `keys`: more keys of the last route.
async fn two(keys: &str) -> (Backend, [Gateway; 2], (Upstream, Redis)) {
    two_by(&STANDARD.replacen("{ path: /* }", &format!("{{ path: /*{keys} }}"), 1)).await
}

async fn two_by(yaml: &str) -> (Backend, [Gateway; 2], (Upstream, Redis)) {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let redis = Redis::used().await;
    let store = format!("store: {{ kind: redis, url: \"{}\", key: {KEY} }}", redis.url());
    let yaml = world::place(&format!("{store}\n{yaml}"), &backend, &upstream);
    let gateways = [Gateway::start(&yaml).await, Gateway::start(&yaml).await];
    (backend, gateways, (upstream, redis))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_at_another_gateway_ends_streams_at_once() {
    let (backend, [here, there], _parts) = two("").await;
    // One session that no gateway has ever renewed, and one that the other gateway has renewed.
    let [fresh, old] = ["alice", "bob"].map(|name| backend.login(name, |token| token.aged(0)));
    let mut opens = [Open::of(&here, &fresh).await, Open::of(&here, &old).await];
    let renewable = Pair { access: backend.token("bob").in_window().sign(), ..old };
    let renewed = get("/page").fetch().pair(&renewable).send(there.address).await.new_pair();

    logout(&there, &fresh).await;
    opens[0].end(AT_ONCE).await;
    opens[1].last(Duration::from_millis(300)).await;
    logout(&there, &renewed.expect("renewed")).await;
    opens[1].end(AT_ONCE).await;

    assert_eq!(cut(&here).await, counts([("ended", 4.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_a_refresh_at_another_gateway() {
    let (backend, [here, there], _parts) = two("").await;
    let pair = backend.login("alice", |token| token.aged(0));
    let mut open = Open::of(&here, &pair).await;
    let skip = |time| {
        backend.skip(time);
        [&here, &there].into_iter().for_each(|gateway| gateway.skip(time));
    };

    skip(LIFE - S(10));
    let new = get("/page").fetch().pair(&pair).send(there.address).await.new_pair();
    assert!(new.is_some(), "renewed");
    skip(S(10) + GRACE + S(5));
    open.last(SOON).await;
    skip(LIFE);
    open.end(SOON).await;

    assert_eq!(cut(&here).await, counts([("expired", 2.0)]));
    assert_eq!((backend.counts().grants, backend.counts().reuses), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_refresh_token_that_they_never_showed_streams_follow_another_gateway_too() {
    let path = STANDARD.replacen("s3cret }", "s3cret, carrier: path }", 1);
    let (backend, [here, there], _parts) = two_by(&path).await;
    let mut browser = Browser::new(there.address);
    browser.submit("/auth/login", "user=alice").await;
    let everywhere = |browser: &Browser| {
        let pairs = ["__Host-access", "__Host-bounced"].map(|n| format!("{n}={}", browser.jar[n]));
        pairs.join("; ")
    };
    let cookies = everywhere(&browser);
    let mut open = Open::by(&here, |ask| ask.header("Cookie", &cookies)).await;
    let skip = |time| {
        backend.skip(time);
        [&here, &there].into_iter().for_each(|gateway| gateway.skip(time));
    };

    skip(LIFE - S(20));
    let wish = post("/_evergate/refresh", "").fetch().header("X-Evergate", "1");
    assert_eq!(browser.send(wish).await.cookies().len(), 3, "renewed");
    skip(S(20) + GRACE + S(5));
    open.last(SOON).await;
    let cookies = everywhere(&browser);
    let mut newer = Open::by(&here, |ask| ask.header("Cookie", &cookies)).await;
    newer.last(SOON).await;

    let leave = |target: &str| post(target, "").fetch().header("X-Evergate", "1");
    let led = browser.send(leave("/_evergate/logout")).await;
    let address = led.head.all("location")[0].to_string();
    let out = browser.send(leave(&address)).await;
    assert_eq!((led.status, out.status), (307, 204), "{}", out.text());
    tokio::join!(open.end(AT_ONCE), newer.end(AT_ONCE));
    assert_eq!(backend.counts(), Counts { grants: 1, reuses: 0, unknown: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_missed_the_news_asks_a_minute_after_its_token_at_the_latest() {
    let (backend, [here, there], (_upstream, redis)) = two(", cut_on_expiry: false").await;
    let pair = backend.login("alice", Token::in_window);
    let page = || get("/page").fetch().pair(&pair).send(there.address);
    page().await;
    eventually("it is renewed", async || page().await.new_pair().is_some()).await;
    let mut open = Open::of(&here, &pair).await;

    // As if a gateway had ended it while this one did not hear the store.
    let records: Vec<String> = redis.command(&["KEYS", "evergate:*:s:*"]).await;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    let _: i64 = redis.command(&["HDEL", record, "head"]).await;
    let _: i64 = redis.command(&["HSET", record, "life", "ended"]).await;
    open.last(Duration::from_millis(1_200)).await;
    here.skip(LIFE + GRACE + S(61));

    open.end(SOON).await;
    assert_eq!(cut(&here).await, counts([("ended", 2.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_at_another_gateway_ends_streams_at_once() {
    let (backend, [here, there], _parts) = two("").await;
    let token = |person: &str| backend.token(person).aged(0).claim("sid", format!("s-{person}"));
    let [alice, bob] = ["alice", "bob"].map(|person| token(person).sign());
    let mut hers = Open::by(&here, |ask| ask.bearer(&alice)).await;
    let mut his = Open::by(&here, |ask| ask.access(&bob)).await;
    let revoke = |body| {
        let ask = post("/sessions/revoke", body).header("Content-Type", "application/json");
        ask.send(there.admin)
    };

    assert_eq!(revoke(r#"{"sid": "s-alice"}"#).await.status, 204);
    hers.end(AT_ONCE).await;
    his.last(Duration::from_millis(300)).await;
    assert_eq!(revoke(r#"{"sub": "bob"}"#).await.status, 204);
    his.end(AT_ONCE).await;

    assert_eq!(cut(&here).await, counts([("ended", 4.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_whose_response_has_ended_is_not_cut() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut stream = client::connect(world.gateway.address).await;
    let ask = get("/events?gap=0").event_stream().pair(&pair);
    stream.write_all(&ask.bytes()).await.expect("sent");
    let events = client::read_reply(&mut stream, "GET").await;
    assert_eq!(events.text().matches("data").count(), 3);
    none_is_open(&world).await;

    logout(&world.gateway, &pair).await;
    world.skip(LIFE + GRACE + S(5));
    sleep(S(2)).await;

    // Somebody else's request, as behind a proxy that keeps its connections.
    let bob = get("/page").access(&world.backend.token("bob").sign());
    stream.write_all(&bob.bytes()).await.expect("sent");
    assert_eq!(client::read_reply(&mut stream, "GET").await.status, 200);
    assert_eq!(cut(&world.gateway).await, counts([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_download_is_a_stream_from_its_third_second_on() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut stream = download(&world.gateway, get("/drip/200").pair(&pair)).await;
    let open = async || world.gateway.metrics().await.value("evergate_streams_open");
    assert_eq!(open().await, 0.0);

    eventually("it counts as a stream", async || open().await == 1.0).await;
    logout(&world.gateway, &pair).await;

    timeout(AT_ONCE, rest(&mut stream)).await.expect("it ends");
    assert_eq!(cut(&world.gateway).await, counts([("ended", 1.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_cut_does_not_keep_the_gateway_from_ending() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut open = Open::of(&world.gateway, &pair).await;
    logout(&world.gateway, &pair).await;
    open.end(AT_ONCE).await;

    assert!(world.gateway.shutdown(S(5)).await, "cut connections have gone");
}

/// The code and the reason that a WebSocket is told at its end; `None`: nothing.
async fn goodbye(socket: &mut WebSocketStream<TcpStream>) -> Option<(u16, String)> {
    let told = async {
        let mut told = None;
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(frame)) = message {
                told = Some((frame.code.into(), frame.reason.as_str().to_owned()));
            }
        }
        told
    };
    timeout(SOON, told).await.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_told_why_it_ends_and_an_event_stream_gets_nothing() {
    for (keys, skipped, expected) in [
        ("name: app", S(0), (1008, "session ended")),
        ("name: app", LIFE + GRACE, (1012, "token expired")),
        ("stream_max_age: 2m", S(120), (1012, "open for too long")),
    ] {
        let world = world(keys).await;
        let pair = world.backend.login("alice", |token| token.aged(0));
        let mut open = Open::of(&world.gateway, &pair).await;
        open.last(Duration::from_millis(100)).await;

        match skipped {
            Duration::ZERO => logout(&world.gateway, &pair).await,
            skipped => world.skip(skipped),
        }

        let (code, reason) = goodbye(&mut open.socket).await.expect("a goodbye");
        assert_eq!((code, reason.as_str()), expected);
        let mut more = Vec::new();
        let _ = open.events.read_to_end(&mut more).await;
        assert_eq!(more, b"", "{expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_is_cut_amid_a_message_gets_no_more_of_it_and_nothing_else() {
    const SENT: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\n\r\n\x81\x02hi\x81\x7e\x01\x00half";
    let (app, _guard) = wire::listen(|mut stream| async move {
        wire::read_head(&mut stream).await.expect("a request").expect("a head");
        stream.write_all(SENT).await.expect("open");
        std::future::pending().await
    })
    .await;
    let world = World::with(&STANDARD.replace("http://UPSTREAM", &format!("http://{app}"))).await;
    let pair = world.backend.login("alice", |token| token.aged(0));
    let mut stream = client::connect(world.gateway.address).await;
    stream.write_all(&get("/ws").websocket().pair(&pair).bytes()).await.expect("open");
    let head = wire::read_head(&mut stream).await.expect("a head").expect("an answer");
    assert_eq!(head.word(1), "101");
    let mut frames = vec![0; b"..hi....half".len()];
    stream.read_exact(&mut frames).await.expect("what was sent");
    assert_eq!(frames, b"\x81\x02hi\x81\x7e\x01\x00half");

    logout(&world.gateway, &pair).await;

    let mut more = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut more)).await.expect("it ends");
    assert_eq!(more, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_browser_s_page_is_told_why() {
    let world = World::changed("listen:", "cookies: { secure: false }\nlisten:").await;
    world.upstream.page("/static/app", "<!doctype html><title>app</title>");
    let (_driver, browser) = browser().await;
    browser.goto(&format!("http://{}/static/app", world.gateway.address)).await.expect("a page");
    let story = "const done = arguments[0]; (async () => { \
        const send = { method: 'POST', body: 'user=alice', redirect: 'manual' }; \
        await fetch('/auth/login', send); \
        const socket = new WebSocket(`ws://${location.host}/ws`); \
        await new Promise(opened => socket.onopen = opened); \
        socket.send('there?'); \
        await new Promise(heard => socket.onmessage = heard); \
        const end = new Promise(closed => socket.onclose = closed); \
        await fetch('/auth/logout', { method: 'POST' }); \
        const { code, reason } = await end; \
        return [code, reason]; })().then(done, e => done(String(e)))";
    let told = browser.execute_async(story, Vec::new()).await.expect("the script runs");
    assert_eq!(told, serde_json::json!([1008, "session ended"]));
}

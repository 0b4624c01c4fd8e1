//! What attackers send, over the wire: each test is a claim that holds whatever is sent. What was
//! once a hole stands here with what it let through.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::process::Process;
use super::support::backend::Pair;
use super::support::*;

/// Whatever comes back, until the end or half a second of silence after the first bytes. Nothing is
/// waited for longer than five seconds.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    exchange_within(Duration::from_secs(5), address, bytes).await
}

/// The same with another wait for the first bytes.
async fn exchange_within(mut wait: Duration, address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = client::connect(address).await;
    let _ = stream.write_all(bytes).await;
    let (mut reply, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(Ok(read @ 1..)) = timeout(wait, stream.read(&mut buffer)).await {
        reply.extend_from_slice(&buffer[..read]);
        wait = Duration::from_millis(500);
    }
    String::from_utf8_lossy(&reply).to_string()
}

/// The lines of an attack list: first word and the rest, with `\r`, `\n`, `\t` and `\xNN` as bytes.
fn list(text: &'static str) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let (word, rest) = line.split_once(' ').expect("two columns");
        (word, unescaped(rest.trim_start()))
    })
}

fn unescaped(text: &str) -> Vec<u8> {
    let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t");
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).expect("two hex digits"));
        bytes.extend(rest.as_bytes());
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_framed_in_one_way_or_refused() {
    let world = World::start().await;
    let cases: Vec<_> = list(include_str!("../data/framing.txt")).enumerate().collect();
    assert!(cases.len() > 60, "the list is read");
    let wrong = join_all(cases.into_iter().map(async |(number, (verdict, rest))| {
        let target = format!("/static/{number}");
        let head = format!("POST {target} HTTP/1.1\r\nHost: app.test\r\n");
        let reply = exchange(world.gateway.address, &[head.as_bytes(), &rest].concat()).await;
        let seen = world.upstream.record.all();
        let bodies: Vec<_> =
            seen.into_iter().filter(|one| one.target == target).map(|one| one.body).collect();
        let good = match verdict {
            "body" => bodies == [b"hello"] && reply.starts_with("HTTP/1.1 200"),
            "empty" => bodies == [b""] && reply.starts_with("HTTP/1.1 200"),
            "refused" => bodies.is_empty() && (reply.is_empty() || reply.starts_with("HTTP/1.1 4")),
            other => panic!("not a verdict: {other}"),
        };
        (!good)
            .then(|| format!("{verdict} {:?}: {bodies:?} {reply}", String::from_utf8_lossy(&rest)))
    }))
    .await;
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!world.upstream.record.lines().iter().any(|line| line.contains("smuggled")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_case_of_a_method_opens_no_route() {
    let yaml = format!(
        "{STANDARD}  - {{ path: /m, methods: [POST], require: {{ roles: [admin] }} }}\n  - {{ path: /m, auth: public }}\n"
    );
    let world = World::with(&yaml).await;
    // Many backends turn methods into upper case: to them `post` is the POST that needs a role.
    for (method, status) in [
        ("POST", 401),
        ("post", 401),
        ("PoSt", 401),
        ("TRACE", 405),
        ("trace", 405),
        ("connect", 405),
        ("GET", 200),
        ("patch", 200),
    ] {
        let reply = client::ask(method, "/m").send(world.gateway.address).await;
        assert_eq!(reply.status, status, "{method}");
    }
    assert_eq!(world.upstream.record.lines(), ["GET /m", "patch /m"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_no_host_name_is_refused_and_falls_to_no_other_hosts_routes() {
    let yaml = format!(
        "{STANDARD}  - {{ host: closed.test, path: /*, require: {{ roles: [admin] }} }}\n  - {{ path: /open/*, auth: public }}\n"
    );
    let world = World::with(&yaml).await;
    let hosts: [&[u8]; 16] = [
        b"closed.test\xff",
        b"\xffclosed.test",
        b"cl\xc3\xb6sed.test",
        b"closed.test:x",
        b"closed.test:80:80",
        b"closed.test..",
        b"closed.test,open.test",
        b"closed.test open.test",
        b"closed.test/",
        b"closed.test#",
        b"closed%2etest",
        b"user@closed.test",
        b".closed.test",
        b"[closed.test]",
        b"*",
        b"",
    ];
    for host in hosts {
        let request = [b"GET /open/x HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
        let reply = exchange(world.gateway.address, &request).await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{:?}: {reply}", String::from_utf8_lossy(host));
    }
    for host in ["closed.test", "CLOSED.test.", "closed.test:80", "closed.test:"] {
        let reply = get("/open/x").host(host).send(world.gateway.address).await;
        assert_eq!(reply.status, 401, "{host}");
    }
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interim_response_brings_no_cookie() {
    let world = World::start().await;
    for status in ["100 Continue", "103 Early Hints"] {
        for cookie in ["__Host-access=evil", "refresh_token=its-own"] {
            let interim =
                format!("HTTP/1.1 {status}\r\nLink: </a>\r\nSet-Cookie: {cookie}\r\n\r\n");
            let answer = wire::response(200, &[], b"hello");
            world.upstream.answer_raw([interim.as_bytes(), &answer].concat());

            let reply = exchange(world.gateway.address, &get("/static/x").bytes()).await;

            assert!(reply.contains("hello"), "{reply}");
            assert!(!reply.to_lowercase().contains("set-cookie"), "{reply}");
        }
    }
}

/// Answers of an auth backend that is one of the upstream's canned ones.
async fn adopting(answers: &[&[(&str, &str)]]) -> (World, Vec<Vec<String>>) {
    let world = World::changed(
        "upstream: \"http://BACKEND\", adopt_tokens",
        "upstream: \"http://UPSTREAM\", adopt_tokens",
    )
    .await;
    let alice = world.backend.login("alice", |token| token);
    let bob = world.backend.token("bob").sign();
    let mut set = Vec::new();
    for headers in answers {
        let headers: Vec<(&str, String)> =
            headers.iter().map(|(name, value)| (*name, value.replace("BOB", &bob))).collect();
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        world.upstream.answer(200, &headers, "");
        let reply = get("/auth/x").pair(&alice).send(world.gateway.address).await;
        let names = reply.cookies().into_iter().map(|(name, cookie)| {
            let what = if cookie.clears() { "cleared" } else { "set" };
            format!("{name} {what}")
        });
        set.push(names.collect());
    }
    (world, set)
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_pair_that_the_backend_takes_away_does_not_stay_beside_the_other_half() {
    let (_world, set) = adopting(&[
        &[("Set-Cookie", "access_token=BOB"), ("Set-Cookie", "refresh_token=; Max-Age=0")],
        &[("Set-Cookie", "refresh_token=rt-bob"), ("Set-Cookie", "access_token=; Max-Age=0")],
        &[("Set-Cookie", "access_token=BOB")],
    ])
    .await;
    assert_eq!(
        set,
        [
            vec!["__Host-access set", "__Host-refresh cleared"],
            vec!["__Host-access cleared", "__Host-refresh set"],
            vec!["__Host-access set"],
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_who_asks_is_stored_by_no_shared_cache() {
    let world = World::changed(
        "upstream: \"http://BACKEND\", adopt_tokens",
        "upstream: \"http://UPSTREAM\", adopt_tokens",
    )
    .await;
    let pair = world.backend.login("alice", |token| token);
    let shared = [
        ("Cache-Control", "PUBLIC, max-age=60, S-MaxAge = 60"),
        ("CDN-Cache-Control", "max-age=60"),
        ("Surrogate-Control", "max-age=60"),
    ];
    for target in ["/page", "/optional/x", "/admin/x", "/auth/me"] {
        for status in [200, 304, 404, 500] {
            world.upstream.answer(status, &shared, "");
            let reply = get(target).pair(&pair).send(world.gateway.address).await;
            let cache = reply.head.all("cache-control");
            assert!(["private, max-age=60", "no-store"].contains(&cache[0]), "{target}: {cache:?}");
            assert_eq!(cache.len(), 1, "{target}");
            assert_eq!(reply.head.get("cdn-cache-control"), None, "{target}");
            assert_eq!(reply.head.get("surrogate-control"), None, "{target}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_read_is_not_the_proxys_own() {
    let yaml = format!(
        "{}policies: {{ inside: {{ source_ips: [127.0.0.0/8, \"2001:db8::/32\"] }} }}\n",
        STANDARD
            .replacen(
                "listen: 127.0.0.1:0",
                "listeners: { default: { address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.1/32] } }",
                1,
            )
            .replacen("- { path: /* }", "- { path: /*, policy: inside }", 1)
    );
    let world = World::with(&yaml).await;
    let token = world.backend.token("alice").sign();
    for (said, status) in [
        (vec![], 200),
        (vec!["127.0.0.9"], 200),
        (vec!["2001:db8::1"], 200),
        (vec!["[2001:db8::1]:4711"], 200),
        (vec!["127.0.0.9:4711"], 200),
        (vec!["203.0.113.9"], 403),
        (vec!["203.0.113.9:4711"], 403),
        (vec!["127.0.0.9, 203.0.113.9"], 403),
        (vec!["127.0.0.9", "203.0.113.9"], 403),
        (vec!["203.0.113.9, 127.0.0.1"], 403),
        (vec!["203.0.113.9", "127.0.0.1"], 403),
        (vec!["unknown"], 403),
        (vec!["127.0.0.9 203.0.113.9"], 403),
        (vec!["127.0.0.9, \u{fffd}"], 403),
        (vec!["0177.0.0.9"], 403),
    ] {
        let ask = said
            .iter()
            .fold(get("/page").access(&token), |ask, line| ask.header("X-Forwarded-For", line));
        assert_eq!(ask.send(world.gateway.address).await.status, status, "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_quotes_a_response_that_could_not_be_parsed() {
    let process = Process::with("log: { format: json, level: trace }").await;
    let token = process.backend.token("alice").sign();
    for header in
        ["Set-Cookie: refresh_token=s3cret-1\x01", "X-A: b\rSet-Cookie: a=s3cret-2", "s3cret-3"]
    {
        let answer = format!("HTTP/1.1 200 OK\r\n{header}\r\nContent-Length: 5\r\n\r\nhello");
        process.upstream.answer_raw(answer);
        let reply = get("/page?s3cret-4").access(&token).send(process.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (502, "upstream_unreachable"));
    }
    let output = process.program.output();
    assert!(output.contains("upstream_unreachable"), "{output}");
    for secret in ["s3cret-", token.as_str()] {
        assert!(!output.contains(secret), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_utf_8_pass_at_every_log_level() {
    let process = Process::with("log: { format: json, level: trace }").await;
    let token = process.backend.token("alice").sign();
    process
        .upstream
        .answer_raw(&b"HTTP/1.1 200 OK\r\nX-Name: J\xfcrgen\r\nContent-Length: 5\r\n\r\nhello"[..]);

    let reply = get("/page").access(&token).send(process.address).await;

    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    assert!(!process.program.output().contains("panicked"), "{}", process.program.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_header_has_one_reading_or_none() {
    let world = World::start().await;
    let token = world.backend.token("alice").sign();
    let (head, tail) = token.split_at(token.len() / 2);
    for (verdict, line) in list(include_str!("../data/cookie_attacks.txt")) {
        let words =
            [("TOKEN", token.as_str()), ("HEAD", head), ("TAIL", tail), ("\n", "\r\nCookie: ")];
        let mut request = b"GET /page HTTP/1.1\r\nHost: app.test\r\nCookie: ".to_vec();
        request
            .extend(words.iter().fold(line.clone(), |line, (from, to)| replaced(&line, from, to)));
        request.extend(b"\r\n\r\n");
        let before = world.upstream.record.count();

        let reply = exchange(world.gateway.address, &request).await;

        let seen = &world.upstream.record.all()[before..];
        let line = String::from_utf8_lossy(&line);
        match verdict {
            "alice" => {
                assert!(reply.starts_with("HTTP/1.1 200"), "{line}: {reply}");
                assert_eq!(seen[0].head.all("x-forwarded-user"), ["alice"], "{line}");
                let cookies = seen[0].head.all("cookie").concat();
                assert!(!cookies.contains(head) && !cookies.contains(tail), "{line}: {cookies}");
            }
            reason => {
                assert!(reply.contains(&format!("\"reason\":\"{reason}\"")), "{line}: {reply}");
                assert!(seen.is_empty(), "{line}");
            }
        }
    }
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|some| some == from.as_bytes()) {
        out.extend([&rest[..at], to.as_bytes()].concat());
        rest = &rest[at + from.len()..];
    }
    [out.as_slice(), rest].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_two_people_never_become_one_session() {
    let bearer = |pair: &Pair| {
        get("/page")
            .header("Cookie", &format!("__Host-refresh={}", pair.refresh))
            .bearer(&pair.access)
    };
    let mixed = |access: &str, refresh: &str| {
        get("/page").pair(&Pair { access: access.to_string(), refresh: refresh.to_string() })
    };
    let world = World::start().await;
    let address = world.gateway.address;
    let alice = || world.backend.login("alice", Token::expired);
    let bob = world.backend.token("bob");
    let tokens = [
        bob.sign(),
        bob.clone().in_window().sign(),
        tampered(&world.backend.token("alice").sign()),
    ];
    // Who passes, and whether the auth backend is asked.
    for (what, ask, who, calls) in [
        (
            "bob's good token beside alice's session",
            mixed(&tokens[0], &alice().refresh),
            Some("bob"),
            0,
        ),
        (
            "a forged token beside alice's session",
            mixed(&tokens[2], &alice().refresh),
            Some("alice"),
            1,
        ),
        (
            "bob's expired token beside alice's session",
            mixed(&bob.clone().expired().sign(), &alice().refresh),
            None,
            1,
        ),
        ("alice's session beside an expired bearer", bearer(&alice()), None, 0),
        ("a refresh token that is nobody's", mixed(&tokens[2], "rt-forged"), None, 1),
        ("one with a parameter of its own", mixed(&tokens[2], "x&grant_type=password"), None, 1),
        ("one that names an issuer", mixed(&tokens[2], "other~rt"), None, 1),
    ] {
        let (before, asked) = (world.upstream.record.count(), world.backend.token_calls());
        let reply = ask.send(address).await;
        let seen = world.upstream.record.all();
        let passed = seen[before..].iter().flat_map(|one| one.head.all("x-forwarded-user")).next();
        assert_eq!((passed, world.backend.token_calls() - asked), (who, calls), "{what}");
        assert_eq!(reply.new_pair().is_some(), who == Some("alice"), "{what}");
    }
    assert_eq!(world.backend.counts().reuses, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_mixed_under_concurrency_each_stay_whose_they_are() {
    let world = World::start().await;
    let people: Vec<String> = (0..6).map(|number| format!("person{number}")).collect();
    let pairs: Vec<Pair> =
        people.iter().map(|name| world.backend.login(name, Token::expired)).collect();
    let asks = (0..60).map(|number| {
        let (person, pair) = (&people[number % 6], &pairs[number % 6]);
        let target = format!("/page?{person}");
        async move { (person, get(&target).pair(pair).send(world.gateway.address).await) }
    });

    let replies = join_all(asks).await;

    for (person, reply) in replies {
        assert_eq!(reply.status, 200, "{person}");
    }
    for seen in world.upstream.record.all() {
        let person = seen.target.strip_prefix("/page?").expect("whose page it is");
        assert_eq!(seen.head.all("x-forwarded-user"), [person]);
    }
    let counts = world.backend.counts();
    assert_eq!((counts.grants, counts.reuses), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_unknown_kids_does_not_become_one_of_fetches() {
    let world = World::start().await;
    let good = world.backend.token("alice");
    assert_eq!(get("/page").access(&good.sign()).send(world.gateway.address).await.status, 200);
    let fetches =
        || world.backend.record.lines().iter().filter(|line| *line == "GET /jwks").count();
    let before = fetches();

    let asks = (0..100).map(|number| {
        let token = good.clone().header("kid", format!("../{number}")).sign();
        get("/page").access(&token).send(world.gateway.address)
    });
    let replies = join_all(asks).await;

    assert!(replies.iter().all(|reply| reply.status == 401));
    assert!(fetches() - before <= 1, "{} fetches", fetches() - before);
    assert_eq!(get("/page").access(&good.sign()).send(world.gateway.address).await.status, 200);
}

/// Requests to start from; `TOKEN` is alice's.
const CORPUS: [&str; 6] = [
    "GET /page?a=1 HTTP/1.1\r\nHost: app.test\r\nCookie: a=b; __Host-access=TOKEN; c=d\r\n\r\n",
    "GET /page HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer TOKEN\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n",
    "GET http://app.test/static/%7ex/y HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, x-a\r\n\r\n",
    "OPTIONS /optional/x HTTP/1.1\r\nHost: app.test:80\r\nOrigin: http://app.test\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
    "POST /static/x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "GET /static/x HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCookie: __Host-refresh=rt; __Host-access.0=x\r\n\r\n",
];
/// What means something to some parser.
const PIECES: [&[u8]; 32] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"=",
    b"\"",
    b"%2f",
    b"%2e",
    b"..",
    b"//",
    b"\\",
    b"#",
    b"?",
    b"\xff",
    b"\xc3\xa9",
    b"X-Forwarded-User: evil\r\n",
    b"x_forwarded.user: evil\r\n",
    b"Connection: x-forwarded-user, cookie\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: evil.test\r\n",
    b"Cookie: __Host-access=x\r\n",
    b"Expect: 100-continue\r\n",
    b"HTTP/1.0",
    b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    b"Upgrade: h2c\r\n",
    b"Sec-Fetch-Mode: navigate\r\n",
];
const ROUNDS: usize = 1_000;

/// xorshift64 (Marsaglia 2003): the same sequence on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    /// One or two changes: a byte flipped, dropped or doubled, a piece put in, the end cut off.
    fn mutated(&mut self, request: &[u8]) -> Vec<u8> {
        let mut bytes = request.to_vec();
        for _ in 0..=self.below(2) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 if bytes.len() > 1 => _ = bytes.remove(at),
                2 => bytes.insert(at, bytes[at]),
                3 => bytes.truncate(at.max(1)),
                _ => _ = bytes.splice(at..at, PIECES[self.below(PIECES.len())].iter().copied()),
            }
        }
        bytes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_requests_are_answered_or_hung_up_on_and_never_forge_an_identity() {
    let process = Process::with("log: { format: json, level: trace }").await;
    let token = process.backend.token("alice").sign();
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let requests: Vec<Vec<u8>> = (0..ROUNDS)
        .map(|round| {
            chance.mutated(CORPUS[round % CORPUS.len()].replace("TOKEN", &token).as_bytes())
        })
        .collect();

    let replies = futures_util::stream::iter(&requests)
        .map(|request| exchange_within(Duration::from_secs(1), process.address, request))
        .buffer_unordered(128)
        .collect::<Vec<_>>()
        .await;

    let answered = replies.iter().filter(|reply| reply.starts_with("HTTP/1.1 ")).count();
    assert!(replies.iter().all(|reply| reply.is_empty() || reply.starts_with("HTTP/1.1 ")));
    assert!(answered > ROUNDS / 2, "{answered} answers: the mutations are too wild");
    assert!(!replies.iter().any(|reply| reply.starts_with("HTTP/1.1 500")));
    let seen = process.upstream.record.all();
    assert!(seen.len() > ROUNDS / 10, "{} got through: the mutations are too wild", seen.len());
    for one in seen {
        for (name, value) in &one.head.headers {
            let folded = name.to_lowercase().replace(['_', '.', '!', '~'], "-");
            let forged = folded == "x-forwarded-user" && value != "alice";
            let ours = |pair: &str| {
                let name = pair.split('=').next().unwrap_or_default().trim();
                pair.contains('=')
                    && ["__Host-access", "__Host-access.0", "__Host-refresh"].contains(&name)
            };
            let leaked = folded == "cookie" && value.split(';').any(ours);
            assert!(!forged && !leaked, "{one:?}");
        }
    }
    let output = process.program.output();
    assert!(!output.contains("panicked"), "a panic");
    assert!(!output.contains(&token), "a token in the log");
}

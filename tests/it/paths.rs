//! Targets over the wire: what was matched is what the app sees, byte for byte; everything that can
//! be read in two ways is refused. The list is the one of the core's own tests.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::support::*;

const LIST: &str = include_str!("../data/paths.txt");

/// One line of the list.
struct Case {
    target: Vec<u8>,
    /// What the app sees; `None` is 400.
    forwarded: Option<Vec<u8>>,
}

/// The list by switches; lines that name another Host than the list's own are left to the core.
fn cases() -> BTreeMap<&'static str, Vec<Case>> {
    let mut cases: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
    for line in LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(switches), Some(target), Some(verdict)) =
            (words.next(), words.next(), words.next())
        else {
            panic!("not a case: {line}")
        };
        let forwarded = (verdict == "=").then(|| words.next().expect("a path").as_bytes().to_vec());
        cases.entry(switches).or_default().push(Case { target: bytes(target), forwarded });
    }
    cases
}

/// `\xNN` is one byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(hex, 16).expect("two hex digits"));
        bytes.extend(rest.as_bytes());
    }
    bytes
}

/// Pingora's parser is stricter than the core in two places, and answers before any hook.
fn parser_refuses(target: &[u8]) -> bool {
    target.iter().any(|byte| b"<>`".contains(byte)) || target.windows(2).any(|two| two == b".:")
}

/// A raw space or control byte is escaped by Pingora before anyone sees it: what is then judged and
/// forwarded has no such byte.
fn escaped(target: &[u8], seen: &[Vec<u8>]) -> bool {
    let raw = |byte: &u8| *byte <= b' ' || *byte == 0x7f;
    target.iter().any(raw) && seen.len() == 1 && !seen[0].iter().any(raw)
}

fn yaml(switches: &str) -> String {
    let keys: Vec<&str> = switches
        .split('+')
        .filter_map(|switch| match switch {
            "merge" => Some("double_slash: merge"),
            "resolve" => Some("dot_segments: resolve"),
            "keep" => Some("encoded_slash: keep"),
            "java" => Some("parameters: java"),
            _ => None,
        })
        .collect();
    let paths = format!("paths: {{ {} }}\nlisten:", keys.join(", "));
    let (head, _) = STANDARD.split_once("routes:").expect("it has routes");
    let open = format!("{head}routes:\n  - {{ path: /*, auth: public }}\n");
    open.replacen("listen:", &paths, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_sees_the_canonical_target_or_nothing() {
    let all = cases();
    assert!(all.values().map(Vec::len).sum::<usize>() > 100, "the list is the core's");
    let wrong = join_all(all.into_iter().map(async |(switches, cases)| {
        let world = World::with(&yaml(switches)).await;
        let mut wrong = Vec::new();
        for case in cases {
            let before = world.upstream.record.count();
            let text = String::from_utf8_lossy(&case.target).to_string();
            let request =
                [b"GET ", &case.target[..], b" HTTP/1.1\r\nHost: app.example:8080\r\n\r\n"]
                    .concat();
            let status = raw(world.gateway.address, &request).await.status;
            let seen = world.upstream.record.all()[before..].to_vec();
            let seen: Vec<Vec<u8>> = seen.into_iter().map(|one| one.target.into_bytes()).collect();
            let good = match &case.forwarded {
                Some(target) => status == 200 && seen == [target.as_slice()],
                None => status == 400 && seen.is_empty(),
            };
            let stricter = status == 400 && parser_refuses(&case.target);
            if !(good || stricter || escaped(&case.target, &seen)) {
                let seen: Vec<_> = seen.iter().map(|one| String::from_utf8_lossy(one)).collect();
                wrong.push(format!("{switches} {text}: {status}, the app saw {seen:?}"));
            }
        }
        wrong
    }))
    .await
    .concat();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_closed_path_opens_it() {
    let world = World::start().await;
    let spellings = [
        "/admin",
        "/admin/",
        "/admin/x",
        "/admin?x=/static/",
        "/%61dmin/x",
        "/static/../admin/x",
        "/static/%2e%2e/admin/x",
        "/static/..%2fadmin/x",
        "/static/..;/admin/x",
        "//admin/x",
        "/static//../admin/x",
        "/static/%252e%252e/admin/x",
        "/static\\..\\admin\\x",
        "/./admin/x",
        "/admin#/static/x",
        "/admin/x;/static/",
        "/admin%00/static/x",
    ];
    for target in spellings {
        let reply = get(target).send(world.gateway.address).await;
        assert!(matches!(reply.status, 400 | 401), "{target}: {}", reply.status);
    }
    assert_eq!(world.upstream.record.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_chooses_and_cannot_be_contradicted() {
    let yaml = format!(
        "{STANDARD}  - {{ host: open.test, path: /*, auth: public }}\n  - {{ host: \"*.deep.test\", path: /*, auth: public }}\n"
    );
    let world = World::with(&yaml).await;
    let address = world.gateway.address;
    for (target, host, status) in [
        ("/x", "open.test", 200),
        ("/x", "OPEN.test:8080", 200),
        ("/x", "open.test.", 200),
        ("/x", "a.b.deep.test", 200),
        ("/x", "deep.test", 401),
        ("/x", "app.test", 401),
        ("http://open.test/x", "open.test", 200),
        ("http://open.test/x", "app.test", 400),
        ("http://app.test/x", "open.test", 400),
    ] {
        let reply = get(target).host(host).send(address).await;
        assert_eq!(reply.status, status, "{target} at {host}");
    }
    let none = raw(address, b"GET /x HTTP/1.1\r\n\r\n").await;
    let two = get("/x").host("open.test").header("Host", "app.test").send(address).await;
    assert_eq!((none.status, two.status), (400, 400));
}

//! The page script in pages that do not know of it: it goes in, the rest of the page stays what it
//! was, and what is left alone is left alone to the byte.

use std::time::Duration;

use evergate::policy::inject::Kept as Reason;
use fantoccini::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::browser::browser;
use super::support::client::{ask, connect, raw, read_reply};
use super::support::wire::{Guard, Head, Stream};
use super::support::*;

const TAG: &str = "<script src=\"/_evergate/script.js\"></script>";
const HTML: (&str, &str) = ("Content-Type", "text/html; charset=utf-8");
const NAVIGATION_VARIES: &str = "vary: sec-fetch-mode, accept";

/// All pages get the script, but those below `/plain/`.
const ROUTES: &str = "  - { path: /plain/*, auth: public }
  - { path: /open/*, auth: public, inject_script: true }
  - { path: /*, inject_script: true }
";

fn yaml() -> String {
    STANDARD.replace("  - { path: /* }\n", ROUTES)
}

async fn world() -> World {
    World::with(&yaml()).await
}

/// Somebody who is logged in goes there.
fn visit(world: &World, target: &str) -> Ask {
    get(target).navigation().access(&world.backend.token("alice").sign())
}

async fn counted(world: &World, result: &str) -> f64 {
    let name = format!("evergate_script_injections_total{{result=\"{result}\"}}");
    world.gateway.metrics().await.value(&name)
}

/// Every series of the metric that is not 0.
async fn all_counted(world: &World) -> Vec<String> {
    let metrics = world.gateway.metrics().await;
    let name = "evergate_script_injections_total{result=\"";
    let lines = metrics.0.lines().filter_map(|line| line.strip_prefix(name));
    lines.map(|line| line.replace("\"}", "")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_gets_the_script_and_a_head_that_fits() {
    let world = world().await;
    let headers = [
        HTML,
        ("ETag", "\"v1\""),
        ("Accept-Ranges", "bytes"),
        ("Repr-Digest", "sha-256=:AAAA:"),
        ("Content-Security-Policy", "default-src 'self'"),
        ("Set-Cookie", "theme=dark"),
        ("Vary", "Cookie"),
    ];
    world.upstream.answer(200, &headers, "<!doctype html><html><head lang=en><title>t</title>");

    let ask = visit(&world, "/page").header("Accept-Encoding", "gzip, br");
    let reply = ask.send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.text(), format!("<!doctype html><html><head lang=en>{TAG}<title>t</title>"));
    let mut told: Vec<String> = reply.headers().into_iter().collect();
    told.retain(|line| !line.starts_with("vary"));
    let expected = [
        "accept-ranges: none",
        "cache-control: private",
        "content-security-policy: default-src 'self'",
        "content-type: text/html; charset=utf-8",
        "etag: W/\"v1\"",
        "set-cookie: theme=dark",
        "transfer-encoding: chunked",
        "x-request-id: *",
    ];
    assert_eq!(told, expected);
    assert_eq!(reply.head.all("vary"), ["Cookie", "sec-fetch-mode, accept"]);
    let seen = world.upstream.record.last();
    assert_eq!(seen.head.all("accept-encoding"), ["identity"]);
    assert_eq!(all_counted(&world).await, ["injected 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tag_carries_the_nonce_that_the_page_has() {
    let world = world().await;
    let policy = "script-src 'nonce-cjRuZDBt' 'strict-dynamic'; object-src 'none'; base-uri 'none'";
    world.upstream.answer(200, &[HTML, ("Content-Security-Policy", policy)], "<head>x");

    let reply = visit(&world, "/page").send(world.gateway.address).await;

    let tag = TAG.replace("></", " nonce=\"cjRuZDBt\"></");
    assert_eq!(reply.text(), format!("<head>{tag}x"));
}

/// What leaves as it came: the request, the app's answer, and why.
type Kept = (fn(Ask) -> Ask, &'static [(&'static str, &'static str)], &'static str);

const KEPT: &[Kept] = &[
    (Ask::navigation, &[("Content-Encoding", "gzip")], "encoded"),
    (Ask::navigation, &[("Content-Disposition", "attachment; filename=a.html")], "attachment"),
    (Ask::navigation, &[("Cache-Control", "private, no-transform")], "no_transform"),
    (Ask::navigation, &[("Content-Security-Policy", "script-src 'sha256-x'")], "csp_script"),
    (Ask::navigation, &[("Content-Security-Policy", "connect-src 'none'")], "csp_connect"),
    (Ask::navigation, &[("Content-Security-Policy", "sandbox allow-scripts")], "csp_sandbox"),
    (Ask::navigation, &[("Integrity-Policy", "blocked-destinations=(script)")], "integrity_policy"),
    (Ask::fetch, &[("ETag", "\"v1\"")], "fetched"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_left_alone_is_what_it_is_elsewhere() {
    let world = world().await;
    let page = "<!doctype html><head><title>t</title>";
    for (by, headers, kept) in KEPT {
        let headers =
            [&[("Content-Type", "text/html"), ("Accept-Ranges", "bytes")], *headers].concat();
        let mut replies = Vec::new();
        for target in ["/page", "/plain/page"] {
            world.upstream.answer(200, &headers, page);
            let access = world.backend.token("alice").sign();
            let ask = by(get(target)).header("Accept-Encoding", "gzip").access(&access);
            replies.push(ask.send(world.gateway.address).await);
        }
        let (here, elsewhere) = (&replies[0], &replies[1]);
        assert_eq!(here.text(), page, "{kept}");
        assert_eq!(here.head.get("content-length"), elsewhere.head.get("content-length"), "{kept}");
        let mut told = here.headers();
        assert_eq!(told.remove(NAVIGATION_VARIES), *kept == "fetched", "{told:?}");
        // Elsewhere is public.
        if !headers.iter().any(|(name, _)| *name == "Cache-Control") {
            assert!(told.remove("cache-control: private"), "{told:?}");
        }
        assert_eq!(told, elsewhere.headers(), "{kept}");
        assert_eq!(counted(&world, kept).await, 1.0, "{kept}");
    }
    assert_eq!(counted(&world, "injected").await, 0.0);
    // What a script or a page's part asks for is asked for as it was.
    let seen = world.upstream.record.all();
    let fetched: Vec<_> =
        seen.iter().rev().take(2).map(|s| s.head.get("accept-encoding")).collect();
    assert_eq!(fetched, [Some("gzip"); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_without_a_place_for_it_pass_as_they_came() {
    let world = world().await;
    let (html, utf_16) = (HTML.1, "text/html; charset=utf-16le");
    for (kind, page, kept) in [
        (html, "<!-- nothing -->", "empty"),
        (html, "", "empty"),
        (html, "<\0h\0", "charset"),
        (utf_16, "<\0h\0", "charset"),
        ("application/xhtml+xml", "<html><head/></html>", "no_head"),
        (html, &format!("<!--{}--><head>", "x".repeat(64 * 1024)), "too_far"),
    ] {
        let before = counted(&world, kept).await;
        world.upstream.answer(200, &[("Content-Type", kind)], page);
        let reply = visit(&world, "/page").send(world.gateway.address).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, page), "{kept}");
        assert_eq!(counted(&world, kept).await, before + 1.0, "{kept}");
    }
    assert_eq!(counted(&world, "injected").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_page_is_not_even_counted() {
    let world = world().await;
    for kind in ["text/plain", "application/json", "image/svg+xml", "text/css"] {
        world.upstream.answer(200, &[("Content-Type", kind)], "<head>");
        let reply = visit(&world, "/page").send(world.gateway.address).await;
        assert_eq!(
            (reply.text().as_str(), reply.head.get("content-length")),
            ("<head>", Some("6"))
        );
    }
    assert_eq!(all_counted(&world).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revalidated_page_is_the_one_that_the_browser_has() {
    let world = world().await;
    let not_modified = || world.upstream.answer(304, &[("ETag", "\"v1\"")], "");
    world.upstream.answer(200, &[HTML, ("ETag", "\"v1\"")], "<head>");
    let page = visit(&world, "/page").send(world.gateway.address).await;
    let etag = page.head.get("etag").expect("an etag").to_owned();
    assert_eq!(etag, "W/\"v1\"");

    not_modified();
    let known = format!("\"v0\", {etag}");
    let again = visit(&world, "/page").header("If-None-Match", &known).send(world.gateway.address);
    let again = again.await;
    not_modified();
    let other = visit(&world, "/image").header("If-None-Match", "\"v1\"");
    let other = other.send(world.gateway.address).await;

    assert_eq!((again.status, again.head.get("etag")), (304, Some("W/\"v1\"")));
    assert_eq!((other.status, other.head.get("etag")), (304, Some("\"v1\"")));
    let seen = world.upstream.record.all();
    assert_eq!(seen[1].head.get("if-none-match"), Some(known.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_head_of_a_page_is_told_as_it_would_be_and_not_counted() {
    let world = world().await;
    let access = world.backend.token("alice").sign();
    let mut told = Vec::new();
    for encoding in ["identity", "gzip"] {
        let headers = [HTML, ("ETag", "\"v1\""), ("Content-Encoding", encoding)];
        world.upstream.answer(200, &headers, "<head>");
        let ask = ask("HEAD", "/page").navigation().access(&access);
        let reply = ask.send(world.gateway.address).await;
        told.push(["etag", "content-length"].map(|name| reply.head.get(name).map(str::to_owned)));
    }
    let expected = [[Some("W/\"v1\""), None], [Some("\"v1\""), Some("6")]];
    assert_eq!(told, expected.map(|pair| pair.map(|value| value.map(str::to_owned))));
    assert_eq!(all_counted(&world).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_gateway_s_own_have_no_script() {
    let mut world = world().await;
    let nobody = get("/page").navigation().send(world.gateway.address).await;
    let nowhere = visit(&world, "/a//b").send(world.gateway.address).await;
    let ended = visit(&world, "/page");
    world.upstream.stop();
    let down = ended.send(world.gateway.address).await;
    assert_eq!((nobody.status, nowhere.status, down.status), (302, 400, 502));
    for reply in [nobody, nowhere, down] {
        assert!(!reply.text().contains("script"), "{}", reply.text());
    }
    assert_eq!(all_counted(&world).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn error_pages_and_answers_to_forms_of_the_app_are_pages_too() {
    let world = world().await;
    let access = world.backend.token("alice").sign();
    let form = post("/page", "a=1").navigation().access(&access);
    for (ask, status) in [(form, 422), (visit(&world, "/gone"), 404), (visit(&world, "/x"), 503)] {
        world.upstream.answer(status, &[HTML], "<p>sorry");
        let reply = ask.send(world.gateway.address).await;
        assert_eq!((reply.status, reply.text()), (status, format!("{TAG}<p>sorry")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_client_gets_the_page_as_it_is() {
    let world = world().await;
    world.upstream.answer(200, &[HTML], "<head>");
    let bytes = String::from_utf8(visit(&world, "/page").bytes()).expect("text");
    let reply = raw(world.gateway.address, bytes.replacen("1.1", "1.0", 1).as_bytes()).await;
    assert_eq!((reply.text().as_str(), reply.head.get("content-length")), ("<head>", Some("6")));
    assert_eq!(counted(&world, "http_1_0").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_goes_on_after_a_page() {
    let world = world().await;
    let mut stream = connect(world.gateway.address).await;
    for page in ["<head>one", "two", "<!-- three -->", "<html><head>four"] {
        world.upstream.answer(200, &[HTML], page);
        stream.write_all(&visit(&world, "/page").bytes()).await.expect("open");
        let reply = read_reply(&mut stream, "GET").await;
        assert_eq!(reply.text().replace(TAG, ""), page);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_known_from_a_trusted_proxy() {
    let listen =
        "listeners: { default: { address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.1] } }";
    let world = World::with(&yaml().replace("listen: 127.0.0.1:0", listen)).await;
    let open = self::world().await;
    for (world, proto, result) in [
        (&world, "https", "injected"),
        (&world, "http", "csp_script"),
        (&open, "https", "csp_script"),
    ] {
        world.upstream.answer(200, &[HTML, ("Content-Security-Policy", "script-src https:")], "x");
        visit(world, "/page").header("X-Forwarded-Proto", proto).send(world.gateway.address).await;
        assert_eq!(counted(world, result).await, 1.0, "{proto}");
    }
}

/// An app that sends a page in pieces, each when the story says so.
struct Author {
    world: World,
    pieces: mpsc::Sender<&'static str>,
    _app: Guard,
}

impl Author {
    async fn start() -> Author {
        let (pieces, queue) = mpsc::channel(1);
        let queue = std::sync::Arc::new(tokio::sync::Mutex::new(queue));
        let (address, app) = wire::listen(move |stream| {
            let queue = queue.clone();
            async move { write_pieces(stream, &mut *queue.lock().await).await }
        })
        .await;
        let yaml = yaml().replace("http://UPSTREAM", &format!("http://{address}"));
        Author { world: World::with(&yaml).await, pieces, _app: app }
    }
}

async fn write_pieces(mut stream: Stream, queue: &mut mpsc::Receiver<&'static str>) {
    wire::read_head(&mut stream).await.expect("a request").expect("a head");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("open");
    while let Some(piece) = queue.recv().await {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        stream.write_all(chunk.as_bytes()).await.expect("open");
    }
    stream.write_all(b"0\r\n\r\n").await.expect("open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_of_a_page_leaves_when_it_comes() {
    let author = Author::start().await;
    let mut stream = connect(author.world.gateway.address).await;
    stream.write_all(&visit(&author.world, "/page").bytes()).await.expect("open");
    let head: Head = wire::read_head(&mut stream).await.expect("a head").expect("a head");
    assert_eq!(head.all("transfer-encoding"), ["chunked"]);
    let script = format!("<head>{TAG}");
    for (sent, comes) in [
        ("<!doctype html>\n<", "<!doctype html>\n"),
        ("html class='a'", "<html class='a'"),
        ("><!-- a ", "><!-- a "),
        ("--><he", "-->"),
        ("ad", ""),
        (">", script.as_str()),
        ("<title>", "<title>"),
        ("<head>", "<head>"),
    ] {
        author.pieces.send(sent).await.expect("the app waits");
        if comes.is_empty() {
            let nothing = timeout(Duration::from_millis(200), stream.read_u8()).await;
            assert!(nothing.is_err(), "{sent}");
            continue;
        }
        let chunk = timeout(Duration::from_secs(5), wire::read_chunk(&mut stream)).await;
        let chunk = chunk.expect("at once").expect("a chunk").expect("not the last");
        assert_eq!(String::from_utf8_lossy(&chunk), comes, "{sent}");
    }
    drop(author.pieces);
    assert_eq!(wire::read_chunk(&mut stream).await.expect("the end"), None);
}

#[test]
fn every_reason_is_explained() {
    let docs = include_str!("../../docs/client-refresh.md");
    for reason in Reason::ALL {
        assert!(docs.contains(&format!("\n| `{}` |", reason.word())), "{reason:?}");
    }
}

/// A page that knows nothing of the gateway, under a policy as strict as they come. It keeps what the
/// browser complains of, and what is said on its window.
const STRICT: &str = r#"<!doctype html><html lang=en><head><meta charset=utf-8><title>app</title>
<script nonce=cjRuZDBt>
  const told = [], complaints = [];
  addEventListener("evergate:session", event => told.push(event.detail.active));
  addEventListener("securitypolicyviolation", event => complaints.push(event.violatedDirective));
</script></head><body>app</body></html>"#;
const POLICY: &str = "default-src 'none'; script-src 'nonce-cjRuZDBt' 'strict-dynamic'; \
     connect-src 'self'; require-trusted-types-for 'script'; base-uri 'none'";

async fn evaluate(browser: &Client, script: &str) -> Value {
    let script = format!(
        "const done = arguments[0]; (async () => {{ {script} }})().then(done, e => done(String(e)))"
    );
    browser.execute_async(&script, Vec::new()).await.expect("the script runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_knows_nothing_has_its_session_renewed_by_a_timer() {
    let world = World::with(&format!("cookies: {{ secure: false }}\n{}", yaml())).await;
    world.backend.grant_life(6);
    let headers = [HTML, ("Content-Security-Policy", POLICY)];
    world.upstream.page_with("/open/app", &headers, STRICT);
    let (_driver, browser) = browser().await;
    let url = format!("http://{}/open/app", world.gateway.address);
    browser.goto(&url).await.expect("a page");
    let login =
        "await fetch('/auth/login', { method: 'POST', body: 'user=alice', redirect: 'manual' });";
    evaluate(&browser, login).await;
    // From now on it only stays open.
    browser.goto(&url).await.expect("a page");
    let before = world.backend.counts().grants;

    tokio::time::sleep(Duration::from_secs(11)).await;

    let grants = world.backend.counts().grants - before;
    assert!((2..=4).contains(&grants), "{grants} grants, a period of 3 to 4 s");
    let first = "const script = document.head.firstElementChild; \
         return [script.getAttribute('src'), script.nonce, complaints, [...new Set(told)]]";
    let expected = json!(["/_evergate/script.js", "cjRuZDBt", [], [true]]);
    assert_eq!(evaluate(&browser, first).await, expected);
    let left = evaluate(&browser, "return (await (await fetch('/x')).text())").await;
    assert_eq!(left, "hello", "who is logged in passes");
}

/// Pages as they ought not to be, and as they ought to.
const ODD: &[(&str, &str)] = &[
    ("text/html", "<!doctype html><html><head lang=a><title>t</title></head><body>b"),
    ("text/html", "<!doctype html><title>t</title><p>b"),
    ("text/html", "<title>t</title><p>no doctype"),
    (
        "text/html",
        "<!-- <head> --><!DOCTYPE html><HTML data-a='<head>'><HEAD data-b=\"x>y\"><title>t",
    ),
    ("text/html", "<!doctype html \"a><head data-a>\"><title>t</title>"),
    ("text/html", "<!--><head data-a><title>--></title>"),
    ("text/html", "<!-- a --!><head data-a><title>t</title> -->"),
    ("text/html", "<head =\"a>b\"><title>t</title>"),
    ("text/html", "<head a/=\"b>c\">d"),
    ("text/html", "<header>h</header><p>b"),
    ("text/html", "text <head data-a> more"),
    ("text/html", "<html data-a><!-- c --><html data-b><body data-c>b"),
    ("text/html", "<!doctype html><html data-a><frameset><frame></frameset>"),
    (
        "text/html",
        "<?xml version='1.0'?><!DOCTYPE html PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"x>y\"><p>b",
    ),
    ("text/html", "<head/><title>t</title><![if !IE]><p>b<![endif]>"),
    ("text/html", "</p><title>t</title>"),
    ("text/html", "< head><title>t</title>"),
    ("text/html; charset=utf-8", "\u{feff}<!doctype html><head data-a><title>\u{e9}</title>"),
    (
        "application/xhtml+xml",
        "<?xml version=\"1.0\"?><!DOCTYPE html><html xmlns=\"http://www.w3.org/1999/xhtml\">\
         <!-- c --><head data-a=\">\"><title>t</title></head><body><p/></body></html>",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn to_a_real_browser_the_script_is_the_first_in_the_head_and_all_else_is_as_it_was() {
    let world = world().await;
    let (_driver, browser) = browser().await;
    let look = "const script = document.head.firstElementChild; \
         const ours = script?.getAttribute('src') == '/_evergate/script.js' && !!window.evergate; \
         if (ours) script.remove(); \
         const page = new XMLSerializer().serializeToString(document); \
         return [ours, [document.compatMode, document.characterSet, page]]";
    for (kind, page) in ODD {
        let mut seen = Vec::new();
        for target in ["/open/page", "/plain/page"] {
            world.upstream.page_with(target, &[("Content-Type", kind)], page);
            let url = format!("http://{}{target}", world.gateway.address);
            browser.goto(&url).await.expect("a page");
            seen.push(evaluate(&browser, look).await);
        }
        assert_eq!((&seen[0][0], &seen[1][0]), (&json!(true), &json!(false)), "{page}");
        assert_eq!(seen[0][1], seen[1][1], "{page}");
    }
}

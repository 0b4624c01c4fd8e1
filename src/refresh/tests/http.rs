//! The HTTP client against a small server that does what it is told.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::*;
use super::fake::settings;
use crate::policy::time::UnixSeconds;

/// What the server does with one request, once it has read it.
#[derive(Clone)]
enum Act {
    Answer(String),
    /// Sends this and then nothing, with the connection open.
    Stall(String),
    /// Closes without a word.
    Close,
    /// Speaks plain HTTP before it was asked, as a server does that was greeted in TLS.
    Blurt,
    /// Sends a good head and an endless body.
    Flood,
}

struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(act: Act) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, act.clone(), seen.clone()));
            }
        });
        Server { address, requests }
    }

    fn request(&self) -> String {
        self.requests.lock().unwrap().join("\n---\n")
    }
}

async fn serve(mut stream: TcpStream, act: Act, seen: Arc<Mutex<Vec<String>>>) {
    if matches!(act, Act::Blurt) {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        return std::future::pending().await;
    }
    let request = read_request(&mut stream).await;
    seen.lock().unwrap().push(request);
    // A client that has had enough closes; that is its right.
    match act {
        Act::Answer(answer) => _ = stream.write_all(answer.as_bytes()).await,
        Act::Stall(start) => {
            let _ = stream.write_all(start.as_bytes()).await;
            std::future::pending::<()>().await;
        }
        Act::Close | Act::Blurt => {}
        Act::Flood => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n").await;
            while stream.write_all(&[b' '; 8192]).await.is_ok() {}
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return text;
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    Act::Answer(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
}

fn oauth2() -> Protocol {
    let client_auth = ClientAuth::Basic(Secret::new("s3cret"));
    Protocol::OAuth2 { client_id: Some("app".to_owned()), client_auth }
}

fn cookies() -> Protocol {
    Protocol::Cookie { access_name: "at".to_owned(), refresh_name: "rt".to_owned() }
}

fn backend(url: String, protocol: Protocol) -> HttpBackend {
    // An error means that another test was first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let timeout = Duration::from_millis(500);
    HttpBackend::new(&RefreshSettings { url, protocol, timeout, ..settings() }).unwrap()
}

async fn ask(backend: &HttpBackend) -> Outcome {
    let ask = Ask { refresh: Secret::new("R 0"), access: Some(Secret::new("A0")) };
    backend.renew(&ask, Now { unix: UnixSeconds(784_111_777), ..Now::default() }).await
}

/// One call to a server that does this.
async fn call(protocol: Protocol, act: Act) -> (Outcome, Server) {
    let server = Server::start(act).await;
    let outcome = ask(&backend(format!("http://{}/token", server.address), protocol)).await;
    (outcome, server)
}

fn renewed(access: &str, refresh: &str, max_age_s: Option<u64>) -> Outcome {
    let (access, refresh) = (Secret::new(access), Some(Secret::new(refresh)));
    Outcome::Renewed(Answer { access, refresh, max_age_s })
}

fn ambiguous(word: &'static str, status: Option<u16>) -> Outcome {
    Outcome::Ambiguous(Detail { word, status })
}

/// The whole request as the server saw it, header lines sorted (their order is the client's).
fn sorted(request: &str) -> Vec<String> {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
    lines.sort();
    lines.push(body.to_owned());
    lines
}

#[tokio::test]
async fn an_oauth2_grant_is_this_request_and_no_other() {
    let body = r#"{"access_token":"A1","refresh_token":"R1","refresh_expires_in":60}"#;
    let (outcome, server) = call(oauth2(), answer("200 OK", "", body)).await;
    assert_eq!(outcome, renewed("A1", "R1", Some(60)));
    let expected = [
        "POST /token HTTP/1.1",
        "accept: application/json",
        "authorization: Basic YXBwOnMzY3JldA==",
        "content-length: 44",
        "content-type: application/x-www-form-urlencoded",
        &format!("host: {}", server.address),
        "grant_type=refresh_token&refresh_token=R+0",
    ];
    let mut expected: Vec<String> = expected.map(str::to_owned).into();
    expected[3] = format!("content-length: {}", expected[6].len());
    assert_eq!(sorted(&server.request()), expected);
}

#[tokio::test]
async fn a_cookie_backend_gets_its_own_cookies_and_an_empty_post() {
    let set = "Set-Cookie: at=A1; Path=/; HttpOnly\r\nSet-Cookie: rt=R1; Path=/; Max-Age=60\r\n";
    let (outcome, server) = call(cookies(), answer("200 OK", set, "ok")).await;
    assert_eq!(outcome, renewed("A1", "R1", Some(60)));
    let expected = [
        "POST /token HTTP/1.1",
        "accept: application/json",
        "content-length: 0",
        "cookie: rt=R 0; at=A0",
        &format!("host: {}", server.address),
        "",
    ];
    assert_eq!(sorted(&server.request()), expected);
}

#[tokio::test]
async fn a_json_backend_gets_json() {
    let protocol = Protocol::Json {
        send_refresh: "/auth/token".to_owned(),
        receive_access: "/data/at".to_owned(),
        receive_refresh: "/data/rt".to_owned(),
    };
    let body = r#"{"data":{"at":"A1","rt":"R1"}}"#;
    let (outcome, server) = call(protocol, answer("200 OK", "", body)).await;
    assert_eq!(outcome, renewed("A1", "R1", None));
    let expected = [
        "POST /token HTTP/1.1",
        "accept: application/json",
        "content-length: 24",
        "content-type: application/json",
        &format!("host: {}", server.address),
        r#"{"auth":{"token":"R 0"}}"#,
    ];
    assert_eq!(sorted(&server.request()), expected);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(answer("200 OK", "", r#"{"access_token":"A"}"#)).await;
    let location = format!("Location: http://{}/\r\n", elsewhere.address);
    let (outcome, _) = call(oauth2(), answer("307 Temporary Redirect", &location, "")).await;
    assert_eq!(outcome, Outcome::Misconfigured(Detail { word: "redirect", status: Some(307) }));
    assert_eq!(elsewhere.request(), "");
}

#[tokio::test]
async fn ten_mebibytes_are_not_read() {
    let (outcome, _) = call(oauth2(), Act::Flood).await;
    assert_eq!(outcome, ambiguous("body_too_large", Some(200)));
}

#[tokio::test]
async fn a_slow_body_ends_at_the_timeout() {
    let start = "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"access_token\":";
    let (outcome, _) = call(oauth2(), Act::Stall(start.to_owned())).await;
    assert_eq!(outcome, ambiguous("body_timeout", Some(200)));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_ambiguous() {
    let start = "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{\"access_token\":\"A\"}";
    let (outcome, _) = call(oauth2(), Act::Answer(start.to_owned())).await;
    assert_eq!(outcome, ambiguous("body_cut_off", Some(200)));
}

#[tokio::test]
async fn cookies_count_though_the_body_breaks_off() {
    let start =
        "HTTP/1.1 200 OK\r\nSet-Cookie: at=A1\r\nSet-Cookie: rt=R1\r\nContent-Length: 90\r\n\r\n";
    let (outcome, _) = call(cookies(), Act::Answer(start.to_owned())).await;
    assert_eq!(outcome, renewed("A1", "R1", None));
}

#[tokio::test]
async fn a_server_that_never_answers_is_ambiguous_and_asked_once() {
    let (outcome, server) = call(oauth2(), Act::Stall(String::new())).await;
    assert_eq!(outcome, ambiguous("timeout", None));
    assert_eq!(server.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_connection_that_closes_after_the_request_is_ambiguous_and_not_tried_again() {
    let (outcome, server) = call(oauth2(), Act::Close).await;
    assert_eq!(outcome, ambiguous("reset", None));
    assert_eq!(server.requests.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn garbage_is_ambiguous() {
    let (outcome, _) = call(oauth2(), Act::Answer("\x16\x03\x01garbage\r\n\r\n".to_owned())).await;
    assert_eq!(outcome, ambiguous("reset", None));
}

#[tokio::test]
async fn nobody_listening_is_transient_and_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    drop(listener);
    let outcome = ask(&backend(url, oauth2())).await;
    let detail = Detail::new("connect");
    assert_eq!(outcome, Outcome::Transient { detail, retry_after: None, unsent: true });
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_misconfigured() {
    let server = Server::start(Act::Blurt).await;
    let outcome = ask(&backend(format!("https://{}/token", server.address), oauth2())).await;
    assert_eq!(outcome, Outcome::Misconfigured(Detail::new("tls")));
}

#[tokio::test]
async fn retry_after_comes_through() {
    let (outcome, _) = call(oauth2(), answer("429 Slow Down", "Retry-After: 7\r\n", "")).await;
    let detail = Detail { word: "busy", status: Some(429) };
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!(outcome, Outcome::Transient { detail, retry_after, unsent: false });
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_is_refused_unasked() {
    let server = Server::start(Act::Close).await;
    let backend = backend(format!("http://{}/", server.address), cookies());
    let ask = Ask { refresh: Secret::new("R\r\nX: y"), access: None };
    assert_eq!(backend.renew(&ask, Now::default()).await, Outcome::Refused);
    assert_eq!(server.request(), "");
}

#[tokio::test]
async fn no_outcome_shows_a_token() {
    let body = r#"{"access_token":"A1","refresh_token":"R1"}"#;
    let (outcome, _) = call(oauth2(), answer("200 OK", "", body)).await;
    let text = format!("{outcome:?}");
    assert!(!text.contains("A1") && !text.contains("R1"), "{text}");
}

#[test]
fn a_bad_url_is_named() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let settings = RefreshSettings { url: "not a url".to_owned(), ..settings() };
    let error = HttpBackend::new(&settings).err().unwrap();
    assert_eq!(error.to_string(), "refresh url `not a url` is not a URL");
}

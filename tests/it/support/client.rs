//! Clients that show every byte: a raw one, and one that behaves like a browser with its cookies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::backend::Pair;
use super::wire::{self, Head, Stream};

/// No answer takes longer; a hanging gateway fails the test instead of stopping it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A request in the making. Adds `Host: app.test` and, with a body, its length; nothing else.
#[derive(Clone)]
pub struct Ask {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

pub fn get(target: &str) -> Ask {
    ask("GET", target)
}

pub fn post(target: &str, body: &str) -> Ask {
    ask("POST", target).body(body)
}

pub fn ask(method: &str, target: &str) -> Ask {
    let headers = vec![("Host".to_string(), "app.test".to_string())];
    Ask { method: method.to_string(), target: target.to_string(), headers, body: Vec::new() }
}

impl Ask {
    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    pub fn host(mut self, host: &str) -> Ask {
        self.headers[0].1 = host.to_string();
        self
    }

    pub fn body(mut self, body: &str) -> Ask {
        self.body = body.as_bytes().to_vec();
        self
    }

    pub fn bearer(self, token: &str) -> Ask {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn access(self, token: &str) -> Ask {
        self.header("Cookie", &format!("__Host-access={token}"))
    }

    pub fn pair(self, pair: &Pair) -> Ask {
        let (access, refresh) = (&pair.access, &pair.refresh);
        self.header("Cookie", &format!("__Host-access={access}; __Host-refresh={refresh}"))
    }

    /// As a browser loads a page.
    pub fn navigation(self) -> Ask {
        self.header("Accept", "text/html,application/xhtml+xml")
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Dest", "document")
            .header("Sec-Fetch-Site", "same-origin")
    }

    /// As a page's script fetches.
    pub fn fetch(self) -> Ask {
        self.header("Accept", "application/json")
            .header("Sec-Fetch-Mode", "cors")
            .header("Sec-Fetch-Dest", "empty")
            .header("Sec-Fetch-Site", "same-origin")
    }

    /// As a page opens a WebSocket.
    pub fn websocket(self) -> Ask {
        self.header("Upgrade", "websocket")
            .header("Connection", "Upgrade")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    /// As a page opens an event stream.
    pub fn event_stream(self) -> Ask {
        self.header("Accept", "text/event-stream")
    }

    pub fn is_event_stream(&self) -> bool {
        self.headers.iter().any(|(_, value)| value == "text/event-stream")
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        text += "\r\n";
        [text.as_bytes(), &self.body].concat()
    }

    pub async fn send(self, address: SocketAddr) -> Reply {
        raw(address, &self.bytes()).await
    }
}

/// Sends these bytes on a new connection and reads one reply.
///
/// Writes and reads at the same time, as real clients do: the gateway may answer while bytes are
/// still under way, and the answer must arrive all the same.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Reply {
    let (reading, mut writing) = connect(address).await.into_inner().into_split();
    let method = String::from_utf8_lossy(bytes).split(' ').next().unwrap_or_default().to_string();
    let mut stream = BufReader::new(reading);
    let write = async {
        let _ = writing.write_all(bytes).await;
        // Held open: a half-closed connection would be another story.
        std::future::pending::<()>().await
    };
    tokio::select! {
        reply = read_reply(&mut stream, &method) => reply,
        () = write => unreachable!("the writer never ends"),
    }
}

pub async fn connect(address: SocketAddr) -> Stream {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a TCP socket");
    BufReader::new(stream)
}

/// Reads one reply to a request of this method.
pub async fn read_reply(stream: &mut (impl AsyncBufRead + Unpin), method: &str) -> Reply {
    let read = async {
        loop {
            let head = wire::read_head(stream).await.expect("a whole head").expect("an answer");
            let status: u16 = head.word(1).parse().expect("a status");
            if status == 100 {
                continue;
            }
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let body = match bodiless {
                true => Vec::new(),
                false => wire::read_body(stream, &head).await.expect("a whole body"),
            };
            return Reply { status, head, body };
        }
    };
    tokio::time::timeout(ANSWER_TIMEOUT, read).await.expect("an answer in time")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).to_string()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The `reason` of a JSON answer of the gateway.
    pub fn reason(&self) -> String {
        self.json()["reason"].as_str().expect("an answer of the gateway").to_string()
    }

    /// Every header as `name: value`, the values that differ at each request replaced by `*`; less
    /// Date and Connection, which any HTTP server adds.
    pub fn headers(&self) -> BTreeSet<String> {
        let mut lines = self.head.set(&["date", "x-request-id", "content-length"]);
        lines.retain(|line| !line.starts_with("connection: ") && line != "date: *");
        lines
    }

    /// Every Set-Cookie by name. A name that came twice fails the test.
    pub fn cookies(&self) -> BTreeMap<String, SetCookie> {
        let mut cookies = BTreeMap::new();
        for line in self.head.all("set-cookie") {
            let (name, cookie) = SetCookie::parse(line);
            assert!(cookies.insert(name, cookie).is_none(), "set twice: {line}");
        }
        cookies
    }

    /// The gateway's cookies of this reply; `None` when it set none.
    pub fn new_pair(&self) -> Option<Pair> {
        let mut cookies = self.cookies();
        let access = cookies.remove("__Host-access")?.value;
        let refresh = cookies.remove("__Host-refresh").map(|cookie| cookie.value);
        Some(Pair { access, refresh: refresh.unwrap_or_default() })
    }
}

pub fn statuses(replies: &[Reply]) -> Vec<u16> {
    replies.iter().map(|reply| reply.status).collect()
}

/// The one pair that all these replies bring.
pub fn the_pair(replies: &[Reply]) -> Pair {
    let pairs: Vec<Pair> = replies.iter().map(|reply| reply.new_pair().expect("cookies")).collect();
    assert!(pairs.iter().all(|pair| *pair == pairs[0]), "one pair for all");
    pairs[0].clone()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie {
    pub value: String,
    pub attributes: BTreeSet<String>,
}

impl SetCookie {
    fn parse(line: &str) -> (String, SetCookie) {
        let mut parts = line.split("; ");
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a cookie");
        let attributes = parts.map(str::to_string).collect();
        (name.to_string(), SetCookie { value: value.to_string(), attributes })
    }

    pub fn clears(&self) -> bool {
        self.attributes.contains("Max-Age=0")
    }
}

/// Keeps cookies as a browser does, for one origin.
pub struct Browser {
    address: SocketAddr,
    pub jar: BTreeMap<String, String>,
}

impl Browser {
    pub fn new(address: SocketAddr) -> Browser {
        Browser { address, jar: BTreeMap::new() }
    }

    /// Where it sends its requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn navigate(&mut self, target: &str) -> Reply {
        self.send(get(target).navigation()).await
    }

    pub async fn fetch(&mut self, target: &str) -> Reply {
        self.send(get(target).fetch()).await
    }

    pub async fn submit(&mut self, target: &str, form: &str) -> Reply {
        let ask = post(target, form).header("Content-Type", "application/x-www-form-urlencoded");
        self.send(ask.navigation()).await
    }

    pub async fn send(&mut self, ask: Ask) -> Reply {
        let pairs: Vec<String> = self.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let ask = if pairs.is_empty() { ask } else { ask.header("Cookie", &pairs.join("; ")) };
        let reply = ask.send(self.address).await;
        for (name, cookie) in reply.cookies() {
            if cookie.clears() {
                self.jar.remove(&name);
            } else {
                self.jar.insert(name, cookie.value);
            }
        }
        reply
    }
}

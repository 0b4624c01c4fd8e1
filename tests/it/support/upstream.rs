//! The app behind the gateway: knows nothing of tokens, and records every request as it came.
//!
//! Paths with a behaviour: `/slow/MS` waits; `/events` streams three server-sent
//! events (`?gap=MS` apart); `/drip/MS` sends a piece every so often, until the client has gone; `/ws`
//! echoes a WebSocket; `/early` answers 413 without reading the body; `/trickle` reads the body piece by
//! piece and answers with how many pieces came; `/reset` closes without an answer; `/hang` never
//! answers. Everything else takes the next canned answer, or 200 `hello`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::wire::{self, Guard, Head, Stream};

/// One request as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub head: Head,
    pub body: Vec<u8>,
}

impl Seen {
    /// Every header as `name: value`, the values that differ at each request replaced by `*`.
    pub fn headers(&self) -> BTreeSet<String> {
        self.head.set(&["x-request-id"])
    }
}

/// What a server has seen, in order.
#[derive(Clone, Default)]
pub struct Record(Arc<Mutex<Vec<Seen>>>);

impl Record {
    pub fn add(&self, head: &Head, body: Vec<u8>) {
        let seen = Seen {
            method: head.word(0).to_string(),
            target: head.word(1).to_string(),
            head: head.clone(),
            body,
        };
        self.0.lock().expect("no panic under the lock").push(seen);
    }

    pub fn all(&self) -> Vec<Seen> {
        self.0.lock().expect("no panic under the lock").clone()
    }

    pub fn count(&self) -> usize {
        self.all().len()
    }

    pub fn last(&self) -> Seen {
        self.all().pop().expect("a request got here")
    }

    /// Methods and targets, in order.
    pub fn lines(&self) -> Vec<String> {
        self.all().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }
}

pub struct Upstream {
    pub address: SocketAddr,
    pub record: Record,
    answers: Answers,
    guard: Option<Guard>,
}

impl Upstream {
    pub async fn start() -> Upstream {
        let record = Record::default();
        let answers = Answers::default();
        let (for_record, for_answers) = (record.clone(), answers.clone());
        let (address, guard) = wire::listen(move |stream| {
            let (record, answers) = (for_record.clone(), for_answers.clone());
            async move {
                // An error here is a peer that went away, which is its right.
                let _ = serve(stream, record, answers).await;
            }
        })
        .await;
        Upstream { address, record, answers, guard: Some(guard) }
    }

    /// The next request is answered so.
    pub fn answer(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        self.answer_raw(wire::response(status, headers, body.as_bytes()));
    }

    /// The next request is answered with these bytes, and nothing is added.
    pub fn answer_raw(&self, bytes: impl Into<Vec<u8>>) {
        self.answers.lock().expect("no panic under the lock").next.push_back(bytes.into());
    }

    /// Every request for this path is answered with this page.
    pub fn page(&self, path: &str, html: &str) {
        self.page_with(path, &[("Content-Type", "text/html")], html);
    }

    /// The same with these headers.
    pub fn page_with(&self, path: &str, headers: &[(&str, &str)], html: &str) {
        let page = wire::response(200, headers, html.as_bytes());
        self.answers.lock().expect("no panic under the lock").pages.insert(path.to_string(), page);
    }

    /// From now on nobody listens there.
    pub fn stop(&mut self) {
        self.guard = None;
    }
}

#[derive(Default)]
struct Canned {
    next: VecDeque<Vec<u8>>,
    pages: HashMap<String, Vec<u8>>,
}

type Answers = Arc<Mutex<Canned>>;

async fn serve(mut stream: Stream, record: Record, answers: Answers) -> std::io::Result<()> {
    while let Some(head) = wire::read_head(&mut stream).await? {
        let target = head.word(1).to_string();
        match target.split('?').next().unwrap_or_default() {
            "/ws" => {
                record.add(&head, Vec::new());
                return echo(stream, &head).await;
            }
            "/events" => {
                record.add(&head, Vec::new());
                let gap =
                    target.strip_prefix("/events?gap=").map_or(100, |ms| ms.parse().expect("ms"));
                return events(stream, Duration::from_millis(gap)).await;
            }
            "/early" => {
                record.add(&head, Vec::new());
                let answer = wire::response(413, &[("Connection", "close")], b"too much");
                stream.write_all(&answer).await?;
                // A real server lingers a little, so that its answer is not lost to a reset.
                tokio::time::sleep(Duration::from_millis(200)).await;
                return Ok(());
            }
            "/trickle" => {
                let mut pieces = Vec::new();
                while let Some(piece) = wire::read_chunk(&mut stream).await? {
                    // Each piece is acknowledged by a record, so that a test can wait for it.
                    record.add(&head, piece.clone());
                    pieces.push(piece);
                }
                let text = format!("{} pieces", pieces.len());
                stream.write_all(&wire::response(200, &[], text.as_bytes())).await?;
                continue;
            }
            "/reset" => {
                let body = wire::read_body(&mut stream, &head).await?;
                record.add(&head, body);
                return Ok(());
            }
            _ => {}
        }
        let body = wire::read_body(&mut stream, &head).await?;
        record.add(&head, body);
        if let Some(ms) = target.strip_prefix("/drip/") {
            return drip(stream, Duration::from_millis(ms.parse().expect("milliseconds"))).await;
        }
        if let Some(ms) = target.strip_prefix("/slow/") {
            tokio::time::sleep(Duration::from_millis(ms.parse().expect("milliseconds"))).await;
        }
        if target == "/hang" {
            std::future::pending::<()>().await;
        }
        let canned = {
            let mut canned = answers.lock().expect("no panic under the lock");
            let page = canned.pages.get(&target).cloned();
            page.or_else(|| canned.next.pop_front())
        };
        let answer = canned
            .unwrap_or_else(|| wire::response(200, &[("Content-Type", "text/plain")], b"hello"));
        let answer = if head.word(0) == "HEAD" { without_body(answer) } else { answer };
        stream.write_all(&answer).await?;
    }
    Ok(())
}

fn without_body(mut answer: Vec<u8>) -> Vec<u8> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    answer.truncate(end + 4);
    answer
}

async fn echo(mut stream: Stream, head: &Head) -> std::io::Result<()> {
    let key = head.get("sec-websocket-key").unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(message).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A download without end, which says nothing of it in its head.
async fn drip(mut stream: Stream, gap: Duration) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    loop {
        stream.write_all(b"9\r\ndata: 1\n\n\r\n").await?;
        stream.flush().await?;
        tokio::time::sleep(gap).await;
    }
}

/// Three events with a gap between them, then the end.
async fn events(mut stream: Stream, gap: Duration) -> std::io::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    for number in 1..=3 {
        let event = format!("data: {number}\n\n");
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        stream.flush().await?;
        tokio::time::sleep(gap).await;
    }
    stream.write_all(b"0\r\n\r\n").await
}

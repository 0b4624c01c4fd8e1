//! HTTP/1.1 by hand: what stands on the wire is what a test sees. No library between, because a
//! library would tidy up exactly what the stories are about: order, spelling, duplicates, framing.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub type Stream = BufReader<TcpStream>;

/// The first line and the headers of a request or a response, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub start: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of the first header of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// The values of every header of this name, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = |(found, _): &&(String, String)| found.eq_ignore_ascii_case(name);
        self.headers.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// Every header as `name: value` with a lower-case name; the values of `varying` become `*`.
    pub fn set(&self, varying: &[&str]) -> BTreeSet<String> {
        let line = |(name, value): &(String, String)| {
            let name = name.to_ascii_lowercase();
            let value = if varying.contains(&name.as_str()) { "*" } else { value };
            format!("{name}: {value}")
        };
        let set: BTreeSet<String> = self.headers.iter().map(line).collect();
        assert_eq!(set.len(), self.headers.len(), "a header came twice: {:?}", self.headers);
        set
    }

    /// The n-th word of the first line: method and target, or version and status.
    pub fn word(&self, n: usize) -> &str {
        self.start.split(' ').nth(n).unwrap_or_default()
    }
}

/// Reads a head; `None` when the peer closed before the first byte.
pub async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Head>> {
    let mut head = Head::default();
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_string();
        line.clear();
        if head.start.is_empty() {
            head.start = text;
        } else if let Some((name, value)) = text.split_once(':') {
            head.headers.push((name.to_string(), value.trim().to_string()));
        } else {
            return Ok(Some(head));
        }
    }
    if head.start.is_empty() { Ok(None) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads the body that `head` announces. A response without framing lasts until the close.
pub async fn read_body(
    stream: &mut (impl AsyncBufRead + Unpin),
    head: &Head,
) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.get("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        while let Some(chunk) = read_chunk(stream).await? {
            body.extend(chunk);
        }
    } else if let Some(length) = head.get("content-length") {
        body.resize(length.parse().expect("a length"), 0);
        stream.read_exact(&mut body).await?;
    } else if head.start.starts_with("HTTP/") {
        stream.read_to_end(&mut body).await?;
    }
    Ok(body)
}

/// One chunk; `None` for the last one, whose trailers are skipped.
pub async fn read_chunk(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let size = line.trim().split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(size, 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
    let mut chunk = vec![0; size];
    stream.read_exact(&mut chunk).await?;
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        if size > 0 || line.trim().is_empty() {
            return Ok((size > 0).then_some(chunk));
        }
    }
}

/// A response with a Content-Length.
pub fn response(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} Fake\r\n");
    for (name, value) in headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    if status != 304 && status != 204 {
        bytes += &format!("Content-Length: {}\r\n", body.len());
    }
    bytes += "\r\n";
    [bytes.as_bytes(), body].concat()
}

/// Accepts on a free loopback port for as long as the returned guard lives.
pub async fn listen<F>(serve: impl Fn(Stream) -> F + Send + 'static) -> (SocketAddr, Guard)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.set_nodelay(true);
            connections.spawn(serve(BufReader::new(stream)));
        }
    });
    (address, Guard(task))
}

/// Stops a server, and every connection it has, when dropped.
pub struct Guard(tokio::task::JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

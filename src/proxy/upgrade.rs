//! Connections for WebSockets: as any other, but never answered before they were asked.
//!
//! Pingora 0.9.1 tells its upstream half that a request without a body has ended by a message in a
//! queue. If the upstream's 101 is read before that message, the message is taken for the end of the
//! WebSocket, and the connection closes at once (`proxy_handle_upstream`; one in four with a quick
//! upstream on a busy machine). So a socket here says "nothing yet" a few times after each write,
//! which lets the queue be read first. Rejected: delaying the 101 in a filter, which runs too late.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Two would do: the two halves take turns in being polled first.
const TURNS: u8 = 3;

/// Makes `peer` a connection for one WebSocket, never shared with another request.
pub fn for_websocket(peer: &mut HttpPeer) {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
    // Pingora's pool knows sockets by their descriptor, which these do not show. A refused upgrade
    // must therefore not come back from the pool: a group of its own, kept for no time.
    peer.group_key = NEXT.fetch_add(1, Ordering::Relaxed);
    peer.options.idle_timeout = Some(Duration::ZERO);
    peer.options.custom_l4 = Some(Arc::new(Connector));
}

#[derive(Debug)]
struct Connector;

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "not an IP address");
        };
        let socket = TcpStream::connect(address)
            .await
            .or_err(ErrorType::ConnectError, "connecting for a WebSocket")?;
        Ok(VirtualSocketStream::new(Box::new(Socket { socket, turns: 0 })).into())
    }
}

#[derive(Debug)]
struct Socket {
    socket: TcpStream,
    /// How often a read will still be put off.
    turns: u8,
}

impl VirtualSocket for Socket {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            // Keep-alive is not configured; what Pingora adds later is not ours to guess.
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.turns > 0 {
            self.turns -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.turns = TURNS;
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

//! A switch for each client connection: once thrown, its reads and writes fail.
//!
//! A WebSocket that nobody uses runs no hook of Pingora's, so nothing could tell it to end. Here the
//! socket itself does: a thrown switch wakes whoever waits for it, Pingora meets an error as if the
//! client had gone, drops both sides and writes its log line. Rejected: dropping the connection's
//! task, which would lose that line; a close frame, which would need every frame's length to be
//! followed, as one sent amid a message would be taken for its text.
//!
//! While nothing waits for the socket, it costs one atomic load a call.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::digest::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Cuts one connection, for good.
#[derive(Debug, Default)]
pub struct Switch {
    thrown: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Switch {
    pub fn throw(&self) {
        self.thrown.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    /// # Errors
    /// It was thrown.
    fn check(&self) -> io::Result<()> {
        if self.thrown.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the stream was cut"));
        }
        Ok(())
    }

    /// What a call on the socket came to, `waiter` being told if it has to wait.
    fn guard<T>(
        &self,
        waiter: &AtomicWaker,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.check()?;
        let outcome = call(cx);
        if outcome.is_pending() {
            waiter.register(cx.waker());
            // It may have been thrown before anybody could be woken.
            self.check()?;
        }
        outcome
    }
}

/// Gives a connection its switch.
pub(super) fn with_switch(stream: Stream) -> Stream {
    Box::new(Switched { stream, switch: Arc::default() })
}

/// The switch of a connection that was accepted here.
pub fn switch_of(stream: &dyn Any) -> Option<Arc<Switch>> {
    stream.downcast_ref::<Switched>().map(|switched| switched.switch.clone())
}

#[derive(Debug)]
struct Switched {
    stream: Stream,
    switch: Arc<Switch>,
}

impl AsyncRead for Switched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Switched { stream, switch } = &mut *self;
        switch.guard(&switch.reader, cx, |cx| Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Switched { stream, switch } = &mut *self;
        switch.guard(&switch.writer, cx, |cx| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Switched { stream, switch } = &mut *self;
        switch.guard(&switch.writer, cx, |cx| Pin::new(stream).poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Switched { stream, switch } = &mut *self;
        switch.guard(&switch.writer, cx, |cx| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Switched {
    async fn shutdown(&mut self) {
        self.stream.shutdown().await;
    }
}

#[async_trait]
impl Peek for Switched {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.stream.try_peek(buffer).await
    }
}

impl UniqueID for Switched {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Switched {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Switched {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl GetProxyDigest for Switched {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for Switched {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::protocols::l4::stream::Stream as L4;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// A connection with a switch, the switch, and its other end.
    async fn connected() -> (Stream, Arc<Switch>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = L4::from(listener.accept().await.unwrap().0);
        let stream = with_switch(Box::new(accepted));
        let switch = switch_of((*stream).as_any()).unwrap();
        (stream, switch, client)
    }

    #[tokio::test]
    async fn who_waits_for_a_byte_hears_that_the_switch_was_thrown() {
        let (mut stream, switch, _client) = connected().await;
        let waiting = tokio::spawn(async move { stream.read_u8().await });
        tokio::task::yield_now().await;
        switch.throw();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn who_waits_for_room_hears_it_too() {
        let (mut stream, switch, _client) = connected().await;
        let waiting = tokio::spawn(async move {
            loop {
                stream.write_all(&[0; 65_536]).await?;
            }
            #[allow(unreachable_code)]
            Ok::<(), io::Error>(())
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        switch.throw();
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn what_has_arrived_is_not_read_after_the_cut() {
        let (mut stream, switch, mut client) = connected().await;
        client.write_all(b"x").await.unwrap();
        switch.throw();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(stream.write_all(b"x").await.is_err());
    }

    #[tokio::test]
    async fn a_connection_whose_switch_rests_is_as_it_was() {
        let (mut stream, _switch, mut client) = connected().await;
        stream.write_all(b"there").await.unwrap();
        stream.flush().await.unwrap();
        let mut text = [0; 5];
        client.read_exact(&mut text).await.unwrap();
        client.write_all(b"back").await.unwrap();
        drop(client);
        let mut back = String::new();
        stream.read_to_string(&mut back).await.unwrap();
        assert_eq!((&text[..], back.as_str()), (&b"there"[..], "back"));
    }
}

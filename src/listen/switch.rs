//! A switch for each client connection: once thrown, its reads and writes fail.
//!
//! A WebSocket that nobody uses runs no hook of Pingora's, so nothing could tell it to end. Here the
//! socket itself does: a thrown switch wakes whoever waits for it, Pingora meets an error as if the
//! client had gone, drops both sides and writes its log line. Rejected: dropping the connection's
//! task, which would lose that line.
//!
//! A WebSocket is told goodbye first, by a close frame, if it stands between two frames and takes the
//! bytes at once: so the length of each frame is followed ([`Frames`]). One that stands amid a frame,
//! where a goodbye would be taken for its text, ends without. To wait for the frame's end was
//! rejected: whoever is cut may be the one that does not read on.
//!
//! While nothing waits for the socket, it costs one atomic load a call, and two for a write.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
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

use super::frames::Frames;

/// The client's bytes that are read and dropped after a goodbye.
const DROPPED_BYTES_MAX: usize = 64 * 1024;
const CLOSE_FRAME: u8 = 0x88;

/// Cuts one connection, for good.
#[derive(Debug, Default)]
pub struct Switch {
    thrown: AtomicBool,
    has_frames: AtomicBool,
    goodbye: OnceLock<Goodbye>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// What a WebSocket is told at its end (RFC 6455 §7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goodbye {
    pub code: u16,
    /// At most 123 bytes.
    pub reason: &'static str,
}

impl Switch {
    pub fn throw(&self, goodbye: Goodbye) {
        let _ = self.goodbye.set(goodbye);
        self.thrown.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
    }

    /// A WebSocket's handshake is about to be answered: what is written from now on is a head, and then
    /// frames.
    pub fn follow_frames(&self) {
        self.has_frames.store(true, Ordering::Release);
    }

    fn is_thrown(&self) -> bool {
        self.thrown.load(Ordering::Acquire)
    }
}

impl Goodbye {
    /// A server's frames have no mask (RFC 6455 §5.1).
    fn frame(self) -> Vec<u8> {
        let mut frame = vec![CLOSE_FRAME, u8::try_from(2 + self.reason.len()).unwrap_or(2)];
        frame.extend(self.code.to_be_bytes());
        frame.extend(self.reason.bytes());
        frame
    }
}

/// Gives a connection its switch.
pub(super) fn with_switch(stream: Stream) -> Stream {
    Box::new(Switched { stream, switch: Arc::default(), frames: None })
}

/// The switch of a connection that was accepted here.
pub fn switch_of(stream: &dyn Any) -> Option<Arc<Switch>> {
    stream.downcast_ref::<Switched>().map(|switched| switched.switch.clone())
}

#[derive(Debug)]
struct Switched {
    stream: Stream,
    switch: Arc<Switch>,
    /// Of a WebSocket.
    frames: Option<Box<Frames>>,
}

impl Switched {
    /// What a call on the socket comes to, the switch's `waiter` being told if it has to wait.
    fn guard<T>(
        &mut self,
        waiter: fn(&Switch) -> &AtomicWaker,
        cx: &mut Context<'_>,
        call: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.switch.is_thrown() {
            return self.cut(cx);
        }
        let outcome = call(Pin::new(&mut self.stream), cx);
        if outcome.is_pending() {
            waiter(&self.switch).register(cx.waker());
            // It may have been thrown before anybody could be woken.
            if self.switch.is_thrown() {
                return self.cut(cx);
            }
        }
        outcome
    }

    fn cut<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.say_goodbye(cx);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the stream was cut")))
    }

    /// Once, and only as much as can be said at once.
    fn say_goodbye(&mut self, cx: &mut Context<'_>) {
        let (Some(frames), Some(goodbye)) = (self.frames.take(), self.switch.goodbye.get()) else {
            return;
        };
        if !frames.may_say_goodbye() {
            return;
        }
        let mut stream = Pin::new(&mut self.stream);
        let _ = stream.as_mut().poll_write(cx, &goodbye.frame());
        let _ = stream.as_mut().poll_flush(cx);
        // A socket that is closed on bytes nobody read resets the connection, and the goodbye might be
        // lost.
        let (mut scratch, mut dropped) = ([0; 4096], 0);
        while dropped < DROPPED_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut scratch);
            match stream.as_mut().poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    dropped += buffer.filled().len()
                }
                Poll::Ready(_) | Poll::Pending => break,
            }
        }
    }

    /// These slices of what was to be written are on their way, up to `length` bytes.
    fn note<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>, mut length: usize) {
        if !self.switch.has_frames.load(Ordering::Acquire) {
            return;
        }
        // Taken at the goodbye, after which nothing is written.
        let frames = self.frames.get_or_insert_default();
        for slice in slices {
            let written = slice.get(..length).unwrap_or(slice);
            frames.written(written);
            length -= written.len();
        }
    }
}

impl AsyncRead for Switched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.guard(|switch| &switch.reader, cx, |stream, cx| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let call = |stream: Pin<&mut Stream>, cx: &mut Context<'_>| stream.poll_write(cx, bytes);
        let outcome = self.guard(|switch| &switch.writer, cx, call);
        if let Poll::Ready(Ok(length)) = outcome {
            self.note([bytes].into_iter(), length);
        }
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let call =
            |stream: Pin<&mut Stream>, cx: &mut Context<'_>| stream.poll_write_vectored(cx, slices);
        let outcome = self.guard(|switch| &switch.writer, cx, call);
        if let Poll::Ready(Ok(length)) = outcome {
            self.note(slices.iter().map(|slice| &**slice), length);
        }
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.guard(|switch| &switch.writer, cx, |stream, cx| stream.poll_flush(cx))
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

    const GOODBYE: Goodbye = Goodbye { code: 1008, reason: "over" };
    const FRAME: &[u8] = b"\x88\x06\x03\xf0over";

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
        switch.throw(GOODBYE);
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
        switch.throw(GOODBYE);
        assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn what_has_arrived_is_not_read_after_the_cut() {
        let (mut stream, switch, mut client) = connected().await;
        client.write_all(b"x").await.unwrap();
        switch.throw(GOODBYE);
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

    /// What a client gets of a WebSocket that was cut after these bytes, and how it ends.
    async fn heard(writes: &[&[u8]], follow: bool, unread: &[u8]) -> Vec<u8> {
        let (mut stream, switch, mut client) = connected().await;
        if follow {
            switch.follow_frames();
        }
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
        for bytes in writes {
            stream.write_all(bytes).await.unwrap();
        }
        stream.flush().await.unwrap();
        client.write_all(unread).await.unwrap();
        switch.throw(GOODBYE);
        assert!(stream.read_u8().await.is_err() && stream.write_all(b"x").await.is_err());
        drop(stream);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        bytes.split_off(end)
    }

    #[tokio::test]
    async fn a_websocket_is_told_goodbye_once_between_two_frames() {
        let whole: &[u8] = b"\x81\x02hi";
        assert_eq!(heard(&[], true, b"").await, FRAME);
        assert_eq!(heard(&[whole], true, b"unread").await, [whole, FRAME].concat());
        assert_eq!(heard(&[b"\x81", b"\x02h", b"i"], true, b"").await, [whole, FRAME].concat());
    }

    #[tokio::test]
    async fn amid_a_frame_or_after_the_app_s_goodbye_nothing_is_said() {
        for bytes in [&b"\x81"[..], b"\x81\x02", b"\x81\x02h", b"\x88\x02\x03\xe8"] {
            assert_eq!(heard(&[bytes], true, b"").await, bytes);
        }
        assert_eq!(heard(&[b"other"], false, b"").await, b"other", "no WebSocket");
    }

    #[tokio::test]
    async fn frames_that_leave_in_several_slices_are_followed() {
        let (mut stream, switch, mut client) = connected().await;
        switch.follow_frames();
        let slices = [&b"HTTP/1.1 101 S\r\n\r\n\x81"[..], b"\x02h", b"i"].map(io::IoSlice::new);
        let length = stream.write_vectored(&slices).await.unwrap();
        let rest = b"HTTP/1.1 101 S\r\n\r\n\x81\x02hi".get(length..).unwrap();
        stream.write_all(rest).await.unwrap();
        switch.throw(GOODBYE);
        assert!(stream.flush().await.is_err());
        drop(stream);
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).await.unwrap();
        assert!(bytes.ends_with(&[b"\x81\x02hi", FRAME].concat()), "{bytes:?}");
    }

    #[tokio::test]
    async fn of_several_slices_only_what_was_taken_counts() {
        let slices = [&b"HTTP/1.1 101 S\r\n\r\n\x81"[..], b"\x02h", b"i"];
        let whole: usize = slices.iter().map(|slice| slice.len()).sum();
        for (taken, at_a_gap) in [(whole, true), (whole - 1, false), (whole - 4, true), (5, false)]
        {
            let (stream, _, _client) = connected().await;
            let mut switched = Switched { stream, switch: Arc::default(), frames: None };
            switched.switch.follow_frames();
            switched.note(slices.into_iter(), taken);
            let frames = switched.frames.as_ref().unwrap();
            assert_eq!(frames.may_say_goodbye(), at_a_gap, "{taken}");
        }
    }
}

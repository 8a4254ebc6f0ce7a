//! A connection that gives up on a peer that does not begin to speak, or stops reading, and closes so that the last
//! answer arrives.
//!
//! hyper has no write time limit: without one, a peer that never reads keeps its connection, and the answer buffered
//! for it, for as long as it likes. Nor has it a limit for the first bytes, by which it tells HTTP/2 from HTTP/1.1.
//! And a socket that is closed with bytes unread resets the connection: a peer in the middle of a long upload, such as
//! `ollama create`, would see a broken pipe instead of the refusal it was just sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::pulse::Pulse;

/// How long what the peer still sends is read and dropped before the socket is closed; nginx calls it lingering.
const LINGER: Duration = Duration::from_secs(2);
/// What an HTTP/2 client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct TimeoutIo<S> {
    stream: S,
    patience: Duration,
    /// Runs while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Until the peer's first bytes tell what it speaks.
    greeting: Option<Greeting>,
    /// Runs from our last byte on.
    lingering: Option<Pin<Box<Sleep>>>,
    pulse: Arc<Pulse>,
}

struct Greeting {
    /// Bytes of [`PREFACE`] so far.
    seen: usize,
    over: Pin<Box<Sleep>>,
}

impl<S> TimeoutIo<S> {
    /// Limits for `stream`: `patience` for each write, `greeting` for the first bytes; a client of HTTP/2 is told to
    /// `pulse`.
    pub(super) fn new(stream: S, patience: Duration, greeting: Duration, pulse: Arc<Pulse>) -> Self {
        let greeting = Greeting { seen: 0, over: Box::pin(tokio::time::sleep(greeting)) };
        Self { stream, patience, stalled: None, greeting: Some(greeting), lingering: None, pulse }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer stopped reading")))
    }

    fn heard(&mut self, bytes: &[u8]) {
        let Some(greeting) = &mut self.greeting else { return };
        let rest = &PREFACE[greeting.seen..];
        let compared = rest.len().min(bytes.len());
        if bytes[..compared] != rest[..compared] {
            self.greeting = None;
        } else if compared == rest.len() {
            self.greeting = None;
            self.pulse.speaks_h2();
        } else {
            greeting.seen += compared;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(greeting) = &mut this.greeting {
            if read.is_ready() {
                this.heard(&buf.filled()[before..]);
            } else if greeting.over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer said nothing")));
            }
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TimeoutIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // under TLS it is here that a write waits
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let lingering = match &mut this.lingering {
            Some(lingering) => lingering,
            None => {
                let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
                ready!(this.watch(cx, shut))?;
                this.lingering.insert(Box::pin(tokio::time::sleep(LINGER)))
            }
        };
        let mut dropped = [0; 16 << 10];
        loop {
            let mut dropped = ReadBuf::new(&mut dropped);
            let read = Pin::new(&mut this.stream).poll_read(cx, &mut dropped);
            match read {
                Poll::Ready(Ok(())) if !dropped.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return lingering.as_mut().poll(cx).map(Ok),
            }
        }
    }
}

//! A socket that remembers whether its last write found no room: the client has stopped reading.
//!
//! Ollama's generations meet their clients at a hand-over without a buffer, so only a connection that is stuck in a
//! write when its client leaves keeps a generation from noticing (`ollama-facts` B6).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Whether a connection's client has left no room for what is written; clones see the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Stuck(Arc<AtomicBool>);

impl Stuck {
    pub(super) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Notes how a write went; one that failed says nothing about room.
    fn saw<T>(&self, write: &Poll<io::Result<T>>) {
        match write {
            Poll::Pending => self.0.store(true, Ordering::Relaxed),
            Poll::Ready(Ok(_)) => self.0.store(false, Ordering::Relaxed),
            Poll::Ready(Err(_)) => {}
        }
    }
}

/// The socket.
pub(super) struct Watched {
    socket: TcpStream,
    stuck: Stuck,
}

impl Watched {
    pub(super) fn new(socket: TcpStream) -> (Self, Stuck) {
        let stuck = Stuck::default();
        (Self { socket, stuck: stuck.clone() }, stuck)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.stuck.saw(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.stuck.saw(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

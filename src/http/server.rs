//! The accept loop: our own, because `axum::serve` sets neither `TCP_NODELAY` nor a header time limit.
//!
//! Owns the listener and its end. A connection's life is in `connection`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::Clock;

use super::access::AccessLog;
use super::connection::{self, Common};
use super::tls::Tls;

/// Between the end of accepting and the end of idle connections.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How much and how long one connection may.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a peer to begin, for the whole head of a request, and for a kept-alive connection between two requests.
    pub header_timeout: Duration,
    /// For a peer that does not read what is sent to it.
    pub write_timeout: Duration,
    /// Connections open at once; more wait in the kernel's queue.
    pub connections: usize,
}

/// A bound listener.
pub struct Server {
    listener: TcpListener,
    limits: Limits,
    clock: Clock,
    tls: Option<Tls>,
    log: Option<AccessLog>,
}

impl Server {
    /// Binds `address` (port 0 picks a free one).
    ///
    /// # Errors
    /// A sentence that names the address and the usual remedy.
    pub async fn bind(address: SocketAddr, limits: Limits, clock: Clock) -> Result<Self, String> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            format!("cannot listen on {address}: {error}; choose another address, or stop what listens there")
        })?;
        Ok(Self { listener, limits, clock, tls: None, log: None })
    }

    /// The same, speaking TLS with this certificate and nothing else.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// The same, with a line in this log for each answer that no application is told of.
    #[must_use]
    pub fn with_log(self, log: Option<AccessLog>) -> Self {
        Self { log, ..self }
    }

    /// The real address.
    ///
    /// # Errors
    /// A sentence, when the system does not say.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.listener.local_addr().map_err(|error| format!("the listening address is unknown: {error}"))
    }

    /// Serves until `stop`; then closes the door and waits for what is open, until `cut`.
    pub async fn run(self, app: Router, stop: CancellationToken, cut: CancellationToken) {
        let Self { listener, limits, clock, tls, log } = self;
        let closing = CancellationToken::new();
        let common = Arc::new(Common { app, limits, clock, tls, log, closing: closing.clone(), cut });
        let places = Arc::new(Semaphore::new(limits.connections));
        let open = TaskTracker::new();
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = stop.cancelled() => break,
                next = next => next,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // out of file descriptors, most often: what is open may end meanwhile
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let common = Arc::clone(&common);
            open.spawn(async move {
                connection::serve(common, stream, peer).await;
                drop(place);
            });
        }
        drop(listener);
        // a connection that was accepted but not yet read would be closed unheard
        tokio::time::sleep(LAST_WORDS).await;
        closing.cancel();
        open.close();
        open.wait().await;
    }
}

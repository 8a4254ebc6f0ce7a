//! The accept loop: our own, because `axum::serve` sets neither `TCP_NODELAY` nor a header time limit.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use futures_util::FutureExt;
use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::leftover::Leftover;
use super::path_key::lift_key;
use super::timeout_io::TimeoutIo;

/// Between the end of accepting and the end of idle connections.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// How much and how long one connection may.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the whole head of a request, and for a kept-alive connection between two requests.
    pub header_timeout: Duration,
    /// For a peer that does not read what is sent to it.
    pub write_timeout: Duration,
    /// Connections open at once; more wait in the kernel's queue.
    pub connections: usize,
}

/// A bound listener.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    limits: Limits,
}

impl Server {
    /// Binds `address` (port 0 picks a free one).
    ///
    /// # Errors
    /// A sentence that names the address and the usual remedy.
    pub async fn bind(address: SocketAddr, limits: Limits) -> Result<Self, String> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            format!("cannot listen on {address}: {error}; choose another address, or stop what listens there")
        })?;
        Ok(Self { listener, limits })
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
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, self.listener.accept().await)
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
            let connection = graceful.watch(self.connection(stream, peer, app.clone()));
            let cut = cut.clone();
            tokio::spawn(async move {
                tokio::select! {
                    // a peer that leaves or misbehaves is its own affair; what it cost is in the ledger
                    _ = connection => {}
                    () = cut.cancelled() => {}
                }
                drop(place);
            });
        }
        drop(self.listener);
        // a connection that was accepted but not yet read would be closed unheard
        tokio::time::sleep(LAST_WORDS).await;
        tokio::select! {
            () = graceful.shutdown() => {}
            () = cut.cancelled() => {}
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        app: Router,
    ) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + Send + use<> {
        // without it the first token of a stream waits for the peer's delayed acknowledgement
        let _ = stream.set_nodelay(true);
        keep_alive(&stream);
        let io = TokioIo::new(TimeoutIo::new(stream, self.limits.write_timeout));
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            lift_key(&mut request);
            let (request, leftover) = Leftover::lend(request);
            let answer = guarded(app.clone().oneshot(request));
            async move {
                let response = answer.await?;
                Ok::<_, Infallible>(match leftover {
                    Some(leftover) => leftover.settle(response).await,
                    None => response,
                })
            }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .title_case_headers(true)
            .max_buf_size(64 << 10)
            .serve_connection(io, service)
    }
}

/// A panic costs the request it happens in and nothing else; Ollama, too, answers 500 without a body then.
async fn guarded(answer: impl Future<Output = Result<Response, Infallible>>) -> Result<Response, Infallible> {
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(answered) => answered,
        Err(_) => {
            tracing::error!("a request met a defect of the gateway; please report it with the panic's text above");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            Ok(response)
        }
    }
}

/// A peer that vanishes without a word is noticed in about a minute.
fn keep_alive(stream: &TcpStream) {
    let probes = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&probes);
}

//! One connection's life: handshake, version, exchanges, goodbye.
//!
//! Owns the limits that hold below a request, on HTTP/1.1 and HTTP/2 alike. Which routes there are is none of its
//! business.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Version;
use http::header::{CONNECTION, HOST, HeaderValue};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::domain::Clock;

use super::access::{AccessLog, Arrived, guarded};
use super::leftover::Leftover;
use super::order::ordered;
use super::path_key::lift_key;
use super::pulse::{Pulse, Rhythm, Verdict};
use super::server::Limits;
use super::timeout_io::TimeoutIo;
use super::tls::Tls;

/// Requests at once on one HTTP/2 connection; more wait at the peer.
const STREAMS: u32 = 256;
/// Bytes of a request's head, on either version.
const HEAD: u32 = 64 << 10;
/// Bytes that hyper buffers of an HTTP/2 answer which the peer does not read; more stay with the answer.
const UNSENT: usize = 64 << 10;
/// Streams that a peer may have reset before they were looked at, and that it may have made us reset: a flood of either
/// ends the connection.
const RESETS: (usize, usize) = (20, 256);
/// A peer that vanishes without a word is noticed in about a minute.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// What the connections of a listener share.
pub(super) struct Common {
    pub(super) app: Router,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) tls: Option<Tls>,
    /// For answers that the ledger does not know of.
    pub(super) log: Option<AccessLog>,
    /// Finish what is open and go.
    pub(super) closing: CancellationToken,
    /// Go.
    pub(super) cut: CancellationToken,
}

impl Common {
    /// Logs an answer to what is no request.
    fn unreadable(&self, peer: SocketAddr, status: u16, why: &str) {
        if let Some(log) = &self.log {
            log.unreadable(peer, status, why, &self.clock);
        }
    }
}

/// Serves a connection to its end. A peer that leaves or misbehaves is its own affair; what it cost is in the ledger.
pub(super) async fn serve(common: Arc<Common>, stream: TcpStream, peer: SocketAddr) {
    // without it the first token of a stream waits for the peer's delayed acknowledgement
    let _ = stream.set_nodelay(true);
    keep_alive(&stream);
    let cut = common.cut.clone();
    let life = async {
        let Some(tls) = common.tls.clone() else { return converse(common, stream, peer).await };
        let shaking = timeout(common.limits.header_timeout, shake(&common, tls, stream, peer));
        let shaken = common.closing.run_until_cancelled(shaking).await;
        if let Some(Ok(Some(stream))) = shaken {
            converse(common, stream, peer).await;
        }
    };
    cut.run_until_cancelled(life).await;
}

/// The TLS handshake. A peer that speaks plain HTTP here is told so, as Go's server does.
async fn shake(
    common: &Common,
    tls: Tls,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    const PLAIN: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let mut first = [0];
    stream.peek(&mut first).await.ok()?;
    if first[0].is_ascii_uppercase() {
        let _ = stream.write_all(PLAIN).await;
        common.unreadable(peer, 400, "plain HTTP where TLS is spoken");
        return None;
    }
    match tls.acceptor.accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
    }
}

async fn converse<S>(common: Arc<Common>, stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = common.limits;
    let pulse = Arc::new(Pulse::default());
    let io = TimeoutIo::new(stream, limits.write_timeout, limits.header_timeout, Arc::clone(&pulse));
    let (ours, closing, shared) = (Arc::clone(&pulse), common.closing.clone(), Arc::clone(&common));
    let service =
        hyper::service::service_fn(move |request| answer(Arc::clone(&shared), Arc::clone(&ours), peer, request));
    let builder = builder(limits);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let rhythm = Rhythm::new(limits.header_timeout, limits.write_timeout);
    let mut beats = interval(rhythm.every);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut h2, mut leaving) = (false, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                let error = ended.err();
                let error = error.as_ref().and_then(|error| error.downcast_ref::<hyper::Error>());
                if let Some(error) = error.filter(|error| error.is_parse()) {
                    let status = if error.is_parse_too_large() { 431 } else { 400 };
                    common.unreadable(peer, status, &error.to_string());
                }
                return;
            }
            () = closing.cancelled(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
            () = pulse.until_h2(), if !h2 => {
                h2 = true;
                beats.reset();
            }
            _ = beats.tick(), if h2 => match pulse.beat(rhythm) {
                Verdict::Stay => {}
                Verdict::Leave => connection.as_mut().graceful_shutdown(),
                Verdict::Drop => return,
            },
        }
    }
}

fn builder(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .title_case_headers(true)
        .max_buf_size(HEAD as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD)
        .max_send_buf_size(UNSENT)
        .max_pending_accept_reset_streams(RESETS.0)
        .max_local_error_reset_streams(RESETS.1)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    builder
}

/// Whether the connection closes after this request, by the caller's wish or its age.
fn ends(request: &hyper::Request<Incoming>) -> bool {
    let says = |word: &str| {
        let values = request.headers().get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(word))
    };
    says("close") || (request.version() == Version::HTTP_10 && !says("keep-alive"))
}

/// One exchange.
async fn answer(
    common: Arc<Common>,
    pulse: Arc<Pulse>,
    peer: SocketAddr,
    mut request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    name_host(&mut request);
    lift_key(&mut request);
    if request.version() == Version::HTTP_2 {
        // a stream ends by itself and takes no other along, so nothing of its body needs to be read
        let busy = pulse.begin();
        let response = handled(&common, peer, request.map(Body::new)).await;
        return Ok(ordered(response, &common.clock).map(|body| busy.watch(body)));
    }
    let ends = ends(&request);
    let (request, leftover) = Leftover::lend(request);
    let mut response = handled(&common, peer, request).await;
    if ends {
        // what a handler says of it does not hold; hyper says that it closes
        response.headers_mut().remove(CONNECTION);
    }
    let response = match leftover {
        Some(leftover) => leftover.settle(response).await,
        None => response,
    };
    Ok(ordered(response, &common.clock))
}

/// The answer of the routes, and its line in the log where it is to have one.
async fn handled(common: &Common, peer: SocketAddr, request: hyper::Request<Body>) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let arrived = Arrived { peer, method, uri, at: common.clock.now() };
    let app = common.app.clone();
    let response = guarded(async { app.oneshot(request).await.unwrap_or_else(|never| match never {}) }).await;
    if let Some(log) = &common.log {
        log.answered(&arrived, &response, &common.clock);
    }
    response
}

/// A target that names its authority, as on HTTP/2, says more than the header.
fn name_host<B>(request: &mut hyper::Request<B>) {
    let Some(authority) = request.uri().authority() else { return };
    let host = authority.as_str().rsplit('@').next().unwrap_or_default();
    if let Ok(host) = HeaderValue::from_str(host) {
        request.headers_mut().insert(HOST, host);
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

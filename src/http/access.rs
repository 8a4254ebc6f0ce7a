//! One log line for each answer that the ledger has no record of: it was made without an application, for an operator, or a
//! defect cut the request short.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use futures_util::FutureExt;
use http::{Method, StatusCode, Uri};
use tracing::Level;

use crate::domain::{Clock, Moment};
use crate::ledger::Access;
use crate::telemetry::LogLines;

/// Marks an answer of the gateway's: its request is in the ledger.
#[derive(Clone, Copy)]
pub(super) struct Entered;

/// Why an answer is what it is, where its status does not say it.
#[derive(Clone)]
pub(super) struct Reason(pub(super) String);

/// Probes, scrapes and what dashboards read come every few seconds, and nobody looks for them in a log.
const QUIET: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/v1/queue", "/v1/fleet"];

/// Where a listener's lines go.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// The log.
    pub lines: LogLines,
    /// The listener's name in its lines.
    pub listener: &'static str,
    /// Whether probes, scrapes and dashboards' reads have lines, too.
    pub probes: bool,
}

/// A request as it arrived.
pub(super) struct Arrived {
    pub(super) peer: SocketAddr,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) at: Moment,
}

impl AccessLog {
    /// Writes the line of an answer, if it is to have one.
    pub(super) fn answered(&self, request: &Arrived, response: &Response, clock: &Clock) {
        let (path, status, told) = (request.uri.path(), response.status(), response.extensions());
        // one that was refused, or met a defect, is no probe that does its work
        let failed = status.is_client_error() || status == StatusCode::INTERNAL_SERVER_ERROR;
        let probe = QUIET.contains(&path) && !failed;
        if told.get::<Entered>().is_some() || (probe && !self.probes) {
            return;
        }
        let level = match status {
            StatusCode::INTERNAL_SERVER_ERROR => Level::ERROR,
            _ if probe => Level::DEBUG,
            _ => Level::INFO,
        };
        let access = Access {
            at: clock.wall(),
            level,
            listener: self.listener,
            peer: request.peer.ip(),
            target: Some((request.method.as_str(), path)),
            status: status.as_u16(),
            total: clock.now().since(request.at),
            reason: told.get::<Reason>().map(|Reason(why)| why.as_str()),
        };
        access.enter(&self.lines);
    }

    /// Writes the line of an answer to what could not be read as a request.
    pub(super) fn unreadable(&self, peer: SocketAddr, status: u16, reason: &str, clock: &Clock) {
        let (at, total, level, listener) = (clock.wall(), Duration::ZERO, Level::INFO, self.listener);
        let access = Access { at, level, listener, peer: peer.ip(), target: None, status, total, reason: Some(reason) };
        access.enter(&self.lines);
    }
}

/// A panic costs the request it happens in and nothing else; Ollama, too, answers 500 without a body then.
pub(super) async fn guarded(answer: impl Future<Output = Response>) -> Response {
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        let why = "a defect of the gateway; please report it with the panic's text above";
        tracing::error!("a request met {why}");
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response.extensions_mut().insert(Reason(why.to_owned()));
        response
    })
}

//! One log line for each answer that the ledger has no record of: it was made before the request had an application.

use std::net::SocketAddr;
use std::time::Duration;

use axum::response::Response;
use http::{Method, Uri};

use crate::domain::{Clock, Moment};
use crate::ledger::Access;
use crate::telemetry::LogLines;

/// Marks an answer of the gateway's: its request is in the ledger.
#[derive(Clone, Copy)]
pub(super) struct Entered;

/// Why an answer is what it is, where its status does not say it.
#[derive(Clone)]
pub(super) struct Reason(pub(super) String);

/// Probes come every few seconds, and nobody looks for them in a log.
const QUIET: [&str; 2] = ["/healthz", "/readyz"];

/// A request as it arrived.
pub(super) struct Arrived {
    pub(super) peer: SocketAddr,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) at: Moment,
}

impl Arrived {
    /// Writes the line of this answer to it, if it is to have one.
    pub(super) fn answered(&self, response: &Response, clock: &Clock, log: &LogLines) {
        let (path, told) = (self.uri.path(), response.extensions());
        if told.get::<Entered>().is_some() || QUIET.contains(&path) {
            return;
        }
        let access = Access {
            at: clock.wall(),
            peer: self.peer.ip(),
            target: Some((self.method.as_str(), path)),
            status: response.status().as_u16(),
            total: clock.now().since(self.at),
            reason: told.get::<Reason>().map(|Reason(why)| why.as_str()),
        };
        access.enter(log);
    }
}

/// Writes the line of an answer to what could not be read as a request.
pub(super) fn unreadable(peer: SocketAddr, status: u16, reason: &str, clock: &Clock, log: &LogLines) {
    let (at, total) = (clock.wall(), Duration::ZERO);
    Access { at, peer: peer.ip(), target: None, status, total, reason: Some(reason) }.enter(log);
}

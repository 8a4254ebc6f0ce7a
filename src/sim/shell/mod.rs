//! The pure parts put on the network: connections, routes, pacing in real time, what tests may see and upset.
//!
//! Owns sockets, timers and the order of checks per route; who runs when is `core`, what is said is `text`.
//! Invariants: whatever a request holds is given back when its future or body is dropped (so a client that
//! leaves is noticed by the connection); no lock is held across an await.

mod app;
mod control;
mod embed;
mod http;
mod levers;
mod manage;
mod once;
mod pace;
mod server;
mod stage;
mod stream;
mod talk;
mod watched;

pub use control::{Fault, Lie, Seen, Tally};
pub use server::Sim;

use std::sync::Arc;

use ::http::StatusCode;

/// The fault for the request that just arrived, as far as it is not over and done with here: a delay is waited out,
/// and a set answer is the `Err`.
async fn faulty(app: &Arc<app::App>) -> Result<Option<Fault>, http::Final> {
    match app.stage.control.next_fault() {
        Some(Fault::DelayHeaders(time)) => {
            tokio::time::sleep(time).await;
            Ok(None)
        }
        Some(Fault::Answer { status, body }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Err(http::Final { status, body })
        }
        other => Ok(other),
    }
}

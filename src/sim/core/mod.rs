//! Ollama's scheduler as a pure machine: runners, slots, the single loader, victims, idle expiry.
//!
//! Owns who may run when: state + call + `now` → [`Action`]s. It does not know HTTP, text or how long an
//! answer takes (the driver says when a slot is let go), reads no clock and draws no random numbers, so
//! that it runs the same under real and under virtual time. The driver must call [`Core::tick`] at
//! [`Core::next_due`]; things that fell due are done in order, each at its own moment.
//!
//! Kept as Ollama 0.32 does it, defects included: one loader takes the queue strictly in order and waits
//! inline for evictions; a victim stays usable meanwhile and a new `keep_alive` revives it; a load dies with
//! the client that asked for it; requests for a loaded model overtake all of that and wait without bound for
//! a slot; whoever leaves the queue keeps his place in it and is never told anything; whoever leaves while the
//! loader has his request still costs an eviction and the start of a load. [`Core::ideal`] mends the last two.
//! Invariants: never more tickets busy on a runner than it has slots; at most one load at a time; a runner
//! with requests inside is never unloaded.

mod machine;
mod runner;
#[cfg(test)]
mod tests;
mod upset;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::model::Model;
use super::options::RunnerOptions;
use crate::domain::Moment;

pub(super) use machine::Core;
pub(super) use upset::RunnerFault;

/// A request's number; the driver gives each its own.
pub(super) type Id = u64;

/// The right to one slot: a request and which of its inputs.
pub(super) type Ticket = (Id, u32);

/// What the server was started with.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Runners in memory at most.
    pub(super) max_loaded: usize,
    /// Requests waiting for a load at most (`OLLAMA_MAX_QUEUE`).
    pub(super) max_queue: usize,
    /// Bytes for runners; `None` for plenty.
    pub(super) memory: Option<u64>,
    /// How long an idle runner stays (`OLLAMA_KEEP_ALIVE`); `Duration::MAX` is for ever.
    pub(super) keep_alive: Duration,
}

/// A request for a runner.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) id: Id,
    /// The runner's key: the blob of the weights.
    pub(super) weights: Arc<str>,
    /// The tag asked for; `/api/ps` names the one that caused the load.
    pub(super) tag: Arc<Model>,
    pub(super) options: RunnerOptions,
    /// Replaces the runner's own; `None` leaves it.
    pub(super) keep_alive: Option<Duration>,
    /// How long a load takes.
    pub(super) load: Duration,
    /// Bytes the runner needs with these options.
    pub(super) memory: u64,
    /// Requests it serves at once.
    pub(super) slots: usize,
}

/// What the driver must tell whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// The request has its runner, after this wait in the queue and for the load.
    Ready { id: Id, waited: Duration },
    /// The queue for loads is full.
    Busy { id: Id },
    /// The load for the request failed.
    Failed { id: Id, why: LoadFault },
    /// The ticket has its slot.
    Slot(Ticket),
}

/// What goes wrong with a load. The room that it needs is made all the same, and each load that fails is its
/// request's alone: those behind it in the queue try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadFault {
    /// It takes its time and then fails with this text (500).
    Fails(String),
    /// It does not end by itself, only with the client that asked for it.
    NeverEnds,
    /// The weights are gone from the disk: it fails at once (404).
    Missing,
}

/// What `/api/ps` shows of a runner.
#[derive(Debug, Clone)]
pub(super) struct Resident {
    pub(super) tag: Arc<Model>,
    pub(super) memory: u64,
    /// Bytes of it that fit into the server's memory.
    pub(super) fitting: u64,
    pub(super) num_ctx: u64,
    /// When it will be unloaded: stale while it works, `None` for never.
    pub(super) expires: Option<Moment>,
}

/// What happened to the runners of one blob so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunnerCounts {
    /// Loads begun, those that failed or died with their client included.
    pub loads: u64,
    /// Requests inside now: waiting for the load, for a slot, or running.
    pub inside: usize,
    /// The most there ever were at once.
    pub peak_inside: usize,
    /// The most slots ever busy at once.
    pub peak_running: usize,
    /// Requests whose client left them in the queue for loads: never answered, their handlers never return.
    pub leaked_handlers: u64,
}

/// Counts by blob.
pub(super) type Counts = BTreeMap<Arc<str>, RunnerCounts>;

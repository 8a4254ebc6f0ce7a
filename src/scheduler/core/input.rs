//! What goes into the core and what comes out.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::{AppName, Class, EndpointId, LoadOrder, Moment, RequestId, ResidencyCommand};

use super::memory::GpuSet;
use super::outlook::Estimate;

/// A request's number in the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub u64);

/// A place where a ticket may run.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Slots of the ticket's runner there; the newest value counts.
    pub slots: u32,
    /// Bytes the runner is expected to need; what was seen of it counts more.
    pub need: u64,
    /// Seconds its first load is expected to take.
    pub guess: f64,
    /// How long the runner stays without work; `Duration::MAX` is for ever, and then it is never a victim.
    pub keep_alive: Duration,
    /// How it is loaded.
    pub order: Arc<LoadOrder>,
}

/// What an endpoint has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes for runners, where known. Else it is learned from what was resident together.
    pub bytes: Option<u64>,
    /// Runners (`OLLAMA_MAX_LOADED_MODELS`).
    pub models: u32,
    /// Its GPUs, where it names any; endpoints may share one.
    pub gpus: GpuSet,
}

/// A runner that an endpoint reports as loaded.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Its weights.
    pub weights: Box<str>,
    /// Bytes it takes.
    pub bytes: u64,
    /// Its slots, as configured.
    pub slots: u32,
    /// How it is addressed, should nobody have asked for it through us.
    pub order: Arc<LoadOrder>,
}

/// What kind of work it is; each has its own speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkKind {
    /// Text.
    Generate,
    /// Vectors.
    Embed,
    /// Nothing but a load.
    Load,
}

/// How much work a request is expected to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// What kind.
    pub kind: WorkKind,
    /// Bytes that become prompt tokens.
    pub prompt_bytes: usize,
    /// Most tokens it may generate, where bounded.
    pub output_cap: Option<u64>,
}

/// A request that wants a slot.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Its number, never used twice.
    pub id: TicketId,
    /// What its caller knows it by.
    pub label: RequestId,
    /// When it first came, for one that is tried again: it goes before what its application sent since.
    pub again: Option<Moment>,
    /// Whose it is.
    pub app: AppName,
    /// How urgent.
    pub class: Class,
    /// The application's weight, above 0.
    pub weight: f64,
    /// Most requests of the application that may run at once; `None` = no limit.
    pub max_concurrent: Option<u32>,
    /// Most requests of the application that may wait.
    pub max_queued: u32,
    /// When it must have started.
    pub deadline: Moment,
    /// Bytes it keeps in memory while it waits.
    pub bytes: usize,
    /// Whether its answer comes in pieces.
    pub streams: bool,
    /// How much work.
    pub work: Work,
    /// The weights it needs: tickets with the same value share runners.
    pub weights: Box<str>,
    /// Where it may run; at least one.
    pub seats: Vec<Seat>,
}

/// What the end of a request taught.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Observed {
    /// Prompt tokens, 0 when unknown.
    pub prompt_tokens: u64,
    /// Seconds of prompt work, 0 when unknown.
    pub prompt_seconds: f64,
    /// Tokens generated, 0 when unknown.
    pub output_tokens: u64,
    /// Seconds of generation, 0 when unknown.
    pub output_seconds: f64,
    /// Seconds inside the server that it says went into none of the above nor a load: it waited for a slot.
    pub slot_wait: f64,
    /// Whether it ran to its own end (an aborted one says nothing about lengths).
    pub complete: bool,
}

/// Why a load failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError {
    /// In Ollama's words.
    pub reason: String,
    /// The server has no such model any more: trying again is of no use.
    pub gone: bool,
}

impl LoadError {
    /// Whether there was no memory for it ("model requires more system memory (…) than is available (…)").
    pub(super) fn is_of_memory(&self) -> bool {
        self.reason.contains("memory")
    }
}

impl From<String> for LoadError {
    fn from(reason: String) -> Self {
        Self { reason, gone: false }
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A request arrived.
    Submit(Box<Ticket>),
    /// Its caller left while it waited.
    Withdraw(TicketId),
    /// It gave its slot back.
    Finish {
        /// Which.
        id: TicketId,
        /// What it taught.
        observed: Observed,
    },
    /// An event of a request is here: the first, or the first after it fell silent.
    Began(TicketId),
    /// Nothing has come of a request for as long as [`super::Core::pause`] says, although its answer has begun.
    Hushed(TicketId),
    /// A probe that was ordered is over.
    Probed {
        /// Where.
        endpoint: EndpointId,
        /// Which.
        weights: Box<str>,
        /// Whether a token came.
        alive: bool,
    },
    /// Time passed.
    Tick,
    /// An endpoint came or went.
    Endpoint {
        /// Which.
        id: EndpointId,
        /// Whether it may be used now.
        usable: bool,
        /// Whether it answers at all; one that does and may not be used is ejected.
        answers: bool,
    },
    /// A load that was ordered is over.
    Loaded {
        /// Where.
        endpoint: EndpointId,
        /// Which.
        weights: Box<str>,
        /// Done, or why not.
        result: Result<(), LoadError>,
    },
    /// An unload that was ordered is over.
    Unloaded {
        /// Where.
        endpoint: EndpointId,
        /// Which.
        weights: Box<str>,
        /// Whether it was seen gone.
        gone: bool,
    },
    /// What an endpoint says is loaded.
    Seen {
        /// Which endpoint.
        endpoint: EndpointId,
        /// When it was asked; what we did later is not in it.
        asked: Moment,
        /// Every runner it has.
        residents: Vec<Sighting>,
    },
    /// What a GPU has and how much of it is in use, whoever uses it, in bytes.
    Gpu {
        /// Its place in the fleet's list.
        place: usize,
        /// What it has.
        total: u64,
        /// What is in use.
        used: u64,
    },
    /// Take nothing new; what waits and runs goes on.
    Drain,
    /// Refuse all that waits.
    Cut,
}

/// Something to do.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Load, unload or probe a runner.
    Residency(ResidencyCommand),
    /// The ticket holds a slot from now on.
    Admit {
        /// Which.
        id: TicketId,
        /// How urgent it is.
        class: Class,
        /// Where.
        endpoint: EndpointId,
        /// How long it waited.
        waited: Duration,
        /// What it was told to expect, unless it started at once.
        expected: Option<Estimate>,
    },
    /// A request that runs and has said nothing yet is to be taken back, to be tried again.
    Recall {
        /// Which.
        id: TicketId,
    },
    /// Something that operators should know.
    Notice(Notice),
    /// The ticket will not run.
    Refuse {
        /// Which.
        id: TicketId,
        /// Why.
        why: Refused,
    },
}

/// Something that operators should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A request has been silent for far longer than usual; the runner is asked for one token.
    Silent {
        /// Where.
        endpoint: EndpointId,
        /// Which model, by the tag that it is loaded by.
        model: String,
    },
    /// Every slot of a runner is taken by an answer that has begun and says nothing for far longer than usual.
    Hushed {
        /// Where.
        endpoint: EndpointId,
        /// Which model, by the tag that it is loaded by.
        model: String,
        /// How many answers.
        running: u32,
    },
    /// The runner did not answer that: what was silent is withdrawn, the runner is reloaded.
    Stuck {
        /// Where.
        endpoint: EndpointId,
        /// Which model, by the tag that it is loaded by.
        model: String,
        /// Requests that go back into the queue.
        recalled: usize,
    },
    /// A slot is taken by nobody: the runner is reloaded as soon as that costs little.
    SlotLost {
        /// Where.
        endpoint: EndpointId,
        /// Which model, by the tag that it is loaded by.
        model: String,
        /// Slots that are used until then.
        left: u32,
        /// Slots by configuration.
        claimed: u32,
    },
    /// The runner has fewer slots than configured.
    FewerSlots {
        /// Where.
        endpoint: EndpointId,
        /// Which model, by the tag that it is loaded by.
        model: String,
        /// Slots by configuration.
        claimed: u32,
        /// Slots that are used from now on.
        seems: u32,
    },
    /// A request left the queue without a slot, and later than it was told that it would start.
    Overdue {
        /// How urgent it was.
        class: Class,
        /// How long it waited.
        waited: Duration,
        /// What it was told.
        told: Duration,
    },
    /// A runner that the gateway loaded is in memory no longer, and it did not unload it.
    Vanished {
        /// Where.
        endpoint: EndpointId,
        /// Which model, by the tag that it is loaded by.
        model: String,
    },
    /// A runner could not be unloaded: nothing is sent to the endpoint for a while.
    Unhealable {
        /// Where.
        endpoint: EndpointId,
        /// Which model, by the tag that it is loaded by.
        model: String,
        /// How long.
        rest: Duration,
    },
}

/// Why a ticket will not run.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// The application's own queue is full.
    AppQueueFull {
        /// Its requests that wait.
        queued: u32,
        /// Its `max_queued`.
        limit: u32,
        /// What it would wait for behind those and the refused ones that come back first; its position is among all of those.
        estimate: Estimate,
    },
    /// The gateway's queue is full.
    QueueFull {
        /// Requests that wait.
        queued: usize,
        /// Bytes they hold.
        bytes: usize,
        /// What it would have waited for.
        estimate: Estimate,
    },
    /// Its deadline passed while it waited.
    Waited {
        /// How long.
        waited: Duration,
        /// What it would still have waited for.
        estimate: Estimate,
    },
    /// The model does not fit on any endpoint.
    TooLarge {
        /// Bytes it needs.
        need: u64,
        /// Bytes the roomiest of its endpoints has.
        room: u64,
    },
    /// What is pinned leaves the model no room on any endpoint.
    PinnedOut {
        /// Bytes it needs.
        need: u64,
        /// The pinned ones, as they are asked for.
        by: Vec<String>,
    },
    /// The model could not be loaded, several times.
    Unloadable {
        /// Why, in Ollama's words.
        reason: String,
        /// When it is tried again.
        retry: Duration,
    },
    /// It would not have started before its deadline.
    TooLate {
        /// What it would have waited for, for how long, and at which place.
        estimate: Estimate,
        /// How long it may wait.
        limit: Duration,
    },
    /// The gateway is shutting down.
    Draining,
}

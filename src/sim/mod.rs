//! `gaucho sim`: a stand-in for Ollama 0.32.15 that needs no GPU and no model files.
//!
//! Owns a faithful native API (`/api/*`: wire format, framing, errors, headers), Ollama's scheduler with its slots,
//! loads, evictions and idle times, and made-up but repeatable answers. Not here: `/v1/*` (the gateway never
//! calls it), model files and pulls, and anything of the gateway, whose own code it must be able to contradict.
//! A pure core (`core`, `go`, `text`, the replies) decides; `shell` puts it on the network in real time.
//! Invariants: bodies, prompts and names of clients never make it panic; whatever a client held is free again
//! as soon as its connection is gone, but for what Ollama itself leaves behind ([`Scheduler::Ollama`]). Checked against recordings of a real server (`tests/suite`).

mod answer;
mod bare;
mod builtin;
mod core;
mod go;
mod model;
mod options;
mod reply;
mod request;
mod settings;
mod shell;
mod show;
mod text;

pub(crate) use bare::{BareAsk, BareLimits, BareServer, BareStep};
pub use builtin::{default_models, recorded_models};
pub use core::{LoadFault, RunnerCounts};
pub use model::Model;
pub use settings::{Scheduler, Settings, parse_bytes};
pub use shell::{Fault, Lie, Seen, Sim, Tally};

/// The version it claims to be.
pub const VERSION: &str = "0.32.15";

//! The Ollama servers: calls to them and what is known of them.
//!
//! Owns the HTTP client, the pollers that publish the `FleetView`, the judgement which endpoints to leave alone for a
//! while, the look at this machine's GPUs, and the pump that reads an answer at full speed into bounded memory. It does
//! not choose who runs (a `Permit` comes in) and does not speak any caller's dialect.
//! Invariant: an upstream URL is made from the endpoint's base and a constant of this crate, never from a caller's path.

mod call;
mod client;
mod discovery;
mod echo;
mod gpu;
mod health;
mod outlier;
mod reading;
mod reply;
mod residency;
mod slots;

pub use call::{Order, Upstream};
pub use client::{Client, Endpoint, Timeouts};
pub use discovery::Discovery;
pub use gpu::{GpuProbe, Gpus};
pub use health::Health;
pub use outlier::{may_go_elsewhere, may_wait};
pub use reply::{Budget, Reply, Taken};
pub use residency::Stagehand;
pub use slots::{SlotProbe, Slots};

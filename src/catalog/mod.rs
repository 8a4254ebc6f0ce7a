//! Names to models: what a requested name means on the fleet, and how its runner is asked for.
//!
//! Owns resolution (which endpoints hold a name, at which digest, with which weights) and the settled runner options
//! of each runner. It does not fetch anything (`upstream` publishes the `FleetView`) and does not decide who may use
//! what (`policy`). Invariant: every call for one runner carries the same runner options, whichever tag is asked for,
//! so that Ollama never reloads it (defect B3).

mod ability;
mod resolve;
mod runner;

pub use resolve::{Catalog, Holder, Resolved};
pub use runner::{EndpointPlan, RunnerPlan, one_at_a_time, slots};

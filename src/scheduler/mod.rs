//! Admission: the only place where a request waits.
//!
//! Owns the queue, the slots and the permits. `core` decides (pure), `shell` waits (async). It does not own the
//! upstream call (`upstream` takes the [`Permit`]'s endpoint) nor the limits (they come from `policy` with each ticket).

pub mod core;
mod shell;

pub use shell::{Permit, Scheduler};

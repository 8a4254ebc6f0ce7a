//! What operators and their tools ask: alive, ready, metrics.
//!
//! Owns the admin listener's routes and the readiness rule. It reads handles that `app` gives it and changes nothing.

mod readiness;
mod routes;

pub use readiness::{Phase, Readiness};
pub use routes::{Metrics, probes, router};

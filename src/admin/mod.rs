//! What operators and their tools ask: alive, ready, metrics, what waits and why.
//!
//! Owns the admin listener's routes and the readiness rule. It reads handles that `app` gives it and changes nothing.

mod inspect;
mod readiness;
mod routes;

pub use inspect::{Answers, Question};
pub use readiness::{Phase, Readiness};
pub use routes::{Metrics, probes, router};

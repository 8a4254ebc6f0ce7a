//! The composition root: builds every room, connects them, starts, drains and stops.
//!
//! Owns the wiring and the order of start and stop. It decides nothing about requests.

mod build;
mod gauges;
mod operators;
mod reload;
mod run;

pub use build::Telemetry;
pub use run::{Addresses, Cut, Gaucho};

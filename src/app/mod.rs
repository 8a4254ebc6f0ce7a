//! The composition root: builds every room, connects them, starts, drains and stops.
//!
//! Owns the wiring and the order of start and stop. It decides nothing about requests.

mod build;
mod doctor;
mod gauges;
mod gpus;
mod lessons;
mod operators;
mod reload;
mod run;

pub use build::Telemetry;
pub use doctor::{Doctor, Finding, Subject};
pub use gpus::{GpuMap, GpuReading, follow_gpus};
pub use lessons::{Kept, kept};
pub use run::{Addresses, Cut, Gaucho};

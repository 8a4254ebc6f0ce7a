//! The laboratory: what sharing one GPU does to applications, compared in virtual time.
//!
//! Owns an Ollama in virtual time (on the stand-in's own scheduler), workloads, the modes that are compared (no gateway,
//! a plain queue, a quantum, this program's scheduler), measures, ideals, tables and the report. It reads no clock, no
//! file and no network; the same seed gives the same table. `benches/sharing` prints it, `gaucho sim --report` draws it.

pub mod calibration;
mod compare;
mod dice;
mod film;
mod foresight;
pub mod ideal;
pub mod measure;
pub mod mixes;
mod modes;
mod play;
pub mod report;
pub mod scenes;
mod server;
pub mod table;
pub mod targets;
#[cfg(test)]
mod tests;
pub mod traces;
mod workload;

pub use compare::{Comparison, compare};
pub use dice::Dice;
pub use film::{Phase, Span};
pub use foresight::{Foresight, foresight};
pub use modes::Mode;
pub use play::{Ending, Record, Run, play};
pub use workload::{AppSpec, Client, Demand, Goal, Host, ModelSpec, Patience, Workload};

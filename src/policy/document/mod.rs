//! The written form of settings: reads TOML into typed values and reports every mistake at once.
//!
//! Owns positions in files, the forms a value may take (durations, sizes, words, ranges), and the one
//! description of each document from which both its reader and its JSON Schema are made ([`document!`]).
//! It does not own what the values mean together (`policy::compile`, `config::settings`) nor any file access.
//! Invariants: no input makes it panic; a key it does not know is a problem, never ignored; a value it
//! accepts is accepted by the schema too (the schema may be looser where JSON Schema cannot say it).

mod app;
mod declare;
mod forms;
mod models;
mod reader;
mod units;

pub(crate) use app::{AppDocument, Cadence, KeyHash, ModelGlob, default_schema};
pub use app::{OnOverflow, RunnerOptions};
pub(crate) use declare::document;
pub(crate) use forms::{Bytes, Ceiling, Form, OneOrMany, Scalar, Span, Whole, object_schema};
pub(crate) use models::{ModelsDocument, ProfileDocument, Profiles};
pub use reader::Problem;
pub(crate) use reader::{Place, Placed, Reader, read_document, show_text};
pub use units::KeepAlive;

#[cfg(test)]
mod tests;

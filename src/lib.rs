//! Gaucho: an Ollama-aware inference gateway and model broker.
//!
//! The table of contents, in rank order: a room may import only rooms of a smaller rank (`ARCHITECTURE.md`).

// 0: words
pub mod domain;

// 1: the state folder; logs and metrics
pub mod store;
pub mod telemetry;

// 2: who is calling
pub mod identity;

// 14: the command line
pub mod cli;

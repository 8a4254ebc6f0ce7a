//! Gaucho: an Ollama-aware inference gateway and model broker.
//!
//! The table of contents, in rank order: a room may import only rooms of a smaller rank (`ARCHITECTURE.md`).

// 0: words
pub mod domain;

// 1: grammars; the state folder; logs and metrics
pub mod store;
pub mod telemetry;
pub mod wire;

// 2: who is calling; a stand-in Ollama
pub mod identity;
pub mod sim;

// 3: what each application may do
pub mod policy;

// 4: what a name means
pub mod catalog;

// 6: when it runs
pub mod scheduler;

// 7: where it runs
pub mod upstream;

// 8: what it used; comparisons in virtual time
pub mod lab;
pub mod ledger;

// 9: the line through all of them
pub mod gateway;

// 10, 11: the two listeners
pub mod admin;
pub mod http;

// 12: settings
pub mod config;

// 13: all of it together
pub mod app;

// 14: the commands
pub mod cli;

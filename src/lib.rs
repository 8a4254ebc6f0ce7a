//! Gaucho: an Ollama-aware inference gateway and model broker.
//!
//! The table of contents, in rank order: a room may import only rooms of a smaller rank (`ARCHITECTURE.md`).

// 0: words
pub mod domain;

// 3: what each application may do
pub mod policy;

// 12: settings
pub mod config;

// 14: commands
pub mod cli;

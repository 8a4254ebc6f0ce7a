//! Gaucho: an Ollama-aware inference gateway and model broker.
//!
//! The table of contents, in rank order: a room may import only rooms of a smaller rank (`ARCHITECTURE.md`).

// 0: words
pub mod domain;

// 2: an Ollama for tests and demos
pub mod sim;

// 14: the commands
pub mod cli;

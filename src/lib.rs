//! Gaucho: an Ollama-aware inference gateway and model broker.
//!
//! The table of contents, in rank order: a room may import only rooms of a smaller rank (`ARCHITECTURE.md`).

// 0: words
pub mod domain;

// 1: the grammar of callers and of Ollama
pub mod wire;

//! The room against recordings of a real Ollama (byte for byte), Go's own error texts, and random input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod go_texts;
mod messages;
mod messages_table;
mod properties;
mod recordings;
mod refusals;
mod replies;
mod requests;
mod responses_replies;
mod responses_requests;
mod v1_replies;

use super::*;
use crate::domain::{Dialect, Event, Surface, Task};
use recordings::{Recording, recordings};

/// The inference surface of a path.
fn surface(path: &str) -> Option<Surface> {
    Surface::ALL.into_iter().find(|surface| surface.path() == path)
}

//! Framing of streams: NDJSON lines out of chunks cut anywhere.
//!
//! Owns where a line ends and how long it may be; what a line means is `ollama`. Bounded: never holds more than one
//! line of the set length and the rest of one chunk.

mod lines;

#[cfg(test)]
mod tests;

pub use lines::{Lines, TooLong};

//! Go's ways with JSON and durations, as far as Ollama's callers can see them.
//!
//! Owns reading a body as `encoding/json` does (first value only, keys in any case, the last one wins,
//! duplicate maps merge), Go's own error texts, and writing JSON with Go's escapes. It is the stand-in's
//! own reading on purpose: the gateway's (`wire`) is another, so that each can show the other wrong.
//! Invariant: no input makes it panic or recurse without bound.

mod decode;
mod duration;
mod scan;
#[cfg(test)]
mod tests;
mod write;

pub(super) use decode::{Kind, decode};
pub(super) use duration::FOREVER_NANOS;
pub(super) use write::{json, push_f32, push_f64, quote};

//! `/v1/responses`: OpenAI's newer surface, as Ollama speaks it, over the native chat call.
//!
//! Owns its requests (`request`, `input`, `tools`, with Ollama's structs in `tables`), its replies (`reply`, `object`)
//! and the JSON that a reply repeats of its request (`json`). Nothing is kept between two requests: what would need it
//! is refused. Deliberate differences from Ollama: a failure in mid-stream is `response.failed`, where Ollama just stops;
//! text before a tool call is an output item of its own, with an index of its own, and is not lost in a reply that is no
//! stream; what is thought is a summary part that begins and ends; `json_object`, `tool_choice: "none"`,
//! `parallel_tool_calls: false` and `truncation` are honoured; what cannot be honoured is refused.

mod events;
mod input;
mod items;
mod json;
mod object;
mod reply;
mod request;
mod tables;
mod tools;

pub(in crate::wire) use reply::ResponsesReply;
pub(in crate::wire) use request::{decode_responses, say_truncated};
#[cfg(test)]
pub(super) use tables::RESPONSES;

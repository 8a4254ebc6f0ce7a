//! Ollama's native dialect: requests in, NDJSON events out of Ollama, and native replies to callers.
//!
//! Owns the tables of Ollama's structs and everything about `/api/*` bodies. Other dialects build on the tables for
//! messages and tools, because their requests end as native ones.

mod call;
mod event;
mod fault;
mod reply;
mod request;
mod tables;

pub use event::{Malformed, decode_body, decode_event};
pub use fault::upstream_fault;
pub use request::{ShowRequest, decode_show, longest_input};

pub(super) use call::{ToolCall, tool_calls};
pub(super) use reply::{embeddings, piece, vectors};
pub(super) use request::{check_inputs, check_model, check_top_logprobs, decode};
pub(super) use tables::{PARAMETERS, TOOLS};

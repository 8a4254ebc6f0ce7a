//! Anthropic's Messages surface as Ollama serves it: requests to native chats, events to its replies and streams.
//!
//! Owns `/v1/messages` both ways. What it does not know of a request is dropped, as Ollama drops it; what a caller would rely on
//! and cannot have is refused by name.

mod blocks;
mod estimate;
mod fields;
mod parts;
mod reply;
mod request;
mod tables;

pub(super) use reply::MessagesReply;
pub(super) use request::decode_messages;

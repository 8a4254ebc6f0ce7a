//! OpenAI's dialect as Ollama speaks it: `/v1` requests become native ones, native events become `/v1` replies.
//!
//! Owns the conversion both ways, field by field as Ollama's own. Deliberate differences: `max_completion_tokens`
//! counts as `max_tokens`; `options`, `keep_alive` and `truncate` are taken as on the native routes; what OpenAI documents
//! and cannot be honoured is refused, not ignored (`fields` has every one of them); unknown fields end here, because
//! Ollama's own `/v1` drops them and the native route would give some of them a meaning.

mod chat;
mod chat_reply;
mod completion;
mod completion_reply;
mod embedding_reply;
mod embeddings;
mod fields;
mod messages;
mod request;
mod responses;
mod tables;

pub(super) use chat::decode_chat;
pub(super) use chat_reply::ChatReply;
pub(super) use completion::decode_completion;
pub(super) use completion_reply::CompletionReply;
pub(super) use embedding_reply::EmbeddingReply;
pub(super) use embeddings::decode_embeddings;
pub(super) use responses::{ResponsesReply, decode_responses, say_truncated};

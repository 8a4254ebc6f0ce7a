//! What upstream says while it answers, free of any dialect.

use std::time::Duration;

use bytes::Bytes;

use super::{Json, JsonField};

/// One thing upstream said.
#[derive(Debug, Clone)]
pub enum Event {
    /// A piece of an answer; the last one of a chat or generation has [`Piece::finish`].
    Piece(Box<Piece>),
    /// The whole answer to an embedding request.
    Vectors(Box<Vectors>),
    /// Upstream gave up with these words, before or in the middle of the answer.
    Error(String),
}

/// A piece of text, thinking or tool calls.
#[derive(Debug, Clone, Default)]
pub struct Piece {
    /// Upstream's `created_at`, RFC 3339 with nanoseconds.
    pub created_at: String,
    /// `message.role`, where it is not `assistant` (empty in the answer to `_debug_render_only`).
    pub role: Option<String>,
    /// `message.content` or `response`, decoded.
    pub text: String,
    /// `thinking`, decoded.
    pub thinking: Option<String>,
    /// `tool_calls`: a JSON array as upstream wrote it.
    pub tool_calls: Option<Json>,
    /// `logprobs`: a JSON array as upstream wrote it.
    pub logprobs: Option<Json>,
    /// Fields of the object that this version does not know, as written.
    pub extra: Vec<JsonField>,
    /// Fields of `message` that this version does not know, as written.
    pub message_extra: Vec<JsonField>,
    /// Set on a piece with `done: true`.
    pub finish: Option<Finish>,
}

/// The end of an answer.
#[derive(Debug, Clone, Default)]
pub struct Finish {
    /// `stop`, `length`, `load` or `unload`; `None` when upstream gave no reason.
    pub reason: Option<String>,
    /// `context`: token ids of prompt and answer (generate only), as written.
    pub context: Option<Json>,
    /// Counters and durations; a zero was absent upstream and is left out again.
    pub metrics: Metrics,
}

/// Ollama's own figures for a request (fields of the last object; integers, durations in nanoseconds).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// `total_duration`.
    pub total: Duration,
    /// `load_duration`: wait for Ollama's own scheduler plus the load.
    pub load: Duration,
    /// `prompt_eval_count`: prompt tokens, those reused from its cache included.
    pub prompt_tokens: u64,
    /// `prompt_eval_duration`.
    pub prompt: Duration,
    /// `eval_count`: generated tokens.
    pub output_tokens: u64,
    /// `eval_duration`.
    pub generation: Duration,
}

/// Embeddings.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// `/api/embed`: a JSON array of arrays; legacy `/api/embeddings`: one array. Digits as upstream wrote them, a part of
    /// the body they came in.
    pub vectors: Bytes,
    /// `/api/embed`: the elements of that array.
    pub each: Vec<Bytes>,
    /// Counters (`total`, `load`, `prompt_tokens`; the rest is zero).
    pub metrics: Metrics,
    /// Fields that this version does not know, as written.
    pub extra: Vec<JsonField>,
}

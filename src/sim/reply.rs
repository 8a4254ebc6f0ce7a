//! The JSON of native replies: fields in Ollama's order, zeros and empties left out where it does.

use serde::Serialize;
use serde_json::Value;

use super::go::{json, push_f32, push_f64};

/// A line of `/api/chat`.
#[derive(Debug, Serialize)]
pub(super) struct ChatReply<'a> {
    pub(super) model: &'a str,
    pub(super) created_at: String,
    pub(super) message: MessageOut<'a>,
    pub(super) done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) done_reason: Option<&'a str>,
    #[serde(rename = "_debug_info", skip_serializing_if = "Option::is_none")]
    pub(super) debug_info: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) logprobs: Vec<Logprob>,
    #[serde(flatten)]
    pub(super) metrics: MetricsOut,
}

/// `message` of a chat reply.
#[derive(Debug, Default, Serialize)]
pub(super) struct MessageOut<'a> {
    pub(super) role: &'a str,
    pub(super) content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) thinking: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_calls: Option<&'a Value>,
}

/// A line of `/api/generate`.
#[derive(Debug, Serialize)]
pub(super) struct GenerateReply<'a> {
    pub(super) model: &'a str,
    pub(super) created_at: String,
    pub(super) response: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) thinking: &'a str,
    pub(super) done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) done_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    pub(super) context: &'a [u64],
    #[serde(flatten)]
    pub(super) metrics: MetricsOut,
    #[serde(rename = "_debug_info", skip_serializing_if = "Option::is_none")]
    pub(super) debug_info: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) logprobs: Vec<Logprob>,
}

/// Counters and nanoseconds; zeros are left out.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct MetricsOut {
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) total_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) load_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) prompt_eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) prompt_eval_duration: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) eval_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) eval_duration: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One token's log probability and the alternatives.
#[derive(Debug, Serialize)]
pub(super) struct Logprob {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_logprobs: Vec<Logprob>,
}

impl Logprob {
    /// A made-up probability for `token`, with `top` alternatives of falling likelihood.
    pub(super) fn of(token: &str, top: usize) -> Self {
        let logprob = -0.05 - (token.len() % 17) as f64 / 7.0;
        let one = |token: String, logprob: f64| {
            let bytes = token.clone().into_bytes();
            Self { token, logprob, bytes, top_logprobs: Vec::new() }
        };
        let mut own = one(token.to_owned(), logprob);
        let alternatives = (1..top).scan(logprob, |previous, at| {
            *previous -= 0.75;
            Some(one(format!("{token}{at}"), *previous))
        });
        if top > 0 {
            own.top_logprobs = std::iter::once(one(token.to_owned(), logprob)).chain(alternatives).collect();
        }
        own
    }
}

/// A body of `/api/embed`; floats have the digits that Go prints for an `f32`.
pub(super) fn embed(model: &str, vectors: &[Vec<f32>], metrics: MetricsOut) -> String {
    let mut out = format!("{{\"model\":{},\"embeddings\":[", json(&model));
    for (at, vector) in vectors.iter().enumerate() {
        out.push_str(if at > 0 { ",[" } else { "[" });
        join(&mut out, vector, |out, x| push_f32(out, *x));
        out.push(']');
    }
    out.push(']');
    // the metrics' own braces give way to this object's
    let metrics = json(&metrics);
    if metrics.len() > 2 {
        out.push(',');
    }
    out.push_str(metrics.get(1..).unwrap_or("}"));
    out
}

/// A body of the older `/api/embeddings`; floats are widened to `f64` first.
pub(super) fn embeddings(vector: &[f32]) -> String {
    let mut out = String::from("{\"embedding\":[");
    join(&mut out, vector, |out, x| push_f64(out, f64::from(*x)));
    out.push_str("]}");
    out
}

fn join(out: &mut String, vector: &[f32], push: impl Fn(&mut String, &f32)) {
    for (at, x) in vector.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push(out, x);
    }
}

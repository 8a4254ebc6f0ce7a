//! The response object: the whole reply, and what the first and the last events of a stream hold.

use super::items::{Item, output};
use super::json::{Order, object};
use crate::domain::{JsonField, Metrics, RequestId, field};
use crate::wire::out::{number, push, string};

/// Its members as Ollama declares them.
const MEMBERS: [&str; 31] = [
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
];

/// What stays the same in every response object of a reply.
#[derive(Debug)]
pub(super) struct Object {
    id: RequestId,
    created: u64,
    /// A JSON string.
    model: Vec<u8>,
    echo: Vec<JsonField>,
}

/// How far the response is.
#[derive(Debug, Clone, Copy)]
pub(super) enum State<'a> {
    Begun,
    /// Done. Ollama says so too where the allowed length cut it, and clients wait for the word `completed`.
    Ended {
        metrics: Metrics,
        at: u64,
    },
    Failed {
        code: &'static str,
        message: &'a str,
    },
}

impl Object {
    pub(super) fn new(model: &[u8], id: RequestId, created: u64, echo: &[JsonField]) -> Self {
        Self { id, created, model: model.to_vec(), echo: echo.to_vec() }
    }

    /// When the request came in, in seconds since 1970.
    pub(super) fn created(&self) -> u64 {
        self.created
    }

    /// The id of the item at `index`; unique, because that of the request is.
    pub(super) fn item_id(&self, prefix: &str, index: usize) -> String {
        format!("{prefix}_{:016x}_{index}", self.id.0)
    }

    /// What the caller said of a field, in final form.
    pub(super) fn said(&self, name: &str) -> Option<&str> {
        field(&self.echo, name).map(|value| value.get())
    }

    /// Appends the object.
    pub(super) fn write(&self, out: &mut Vec<u8>, order: Order, state: State<'_>, items: &[Item]) {
        let mut members = MEMBERS;
        if order == Order::Sorted {
            members.sort_unstable();
        }
        for (at, name) in members.into_iter().enumerate() {
            push(out, if at == 0 { "{\"" } else { ",\"" });
            push(out, name);
            push(out, "\":");
            match name {
                "output" => output(out, order, items),
                "usage" => usage(out, order, state),
                "error" => error(out, order, state),
                _ => self.member(out, name, state),
            }
        }
        out.push(b'}');
    }

    fn member(&self, out: &mut Vec<u8>, name: &str, state: State<'_>) {
        match (name, state) {
            ("id", _) => push(out, &format!("\"resp_{:016x}\"", self.id.0)),
            ("object", _) => push(out, "\"response\""),
            ("created_at", _) => number(out, self.created),
            ("completed_at", State::Ended { at, .. }) => number(out, at),
            ("model", _) => out.extend_from_slice(&self.model),
            ("status", _) => string(out, state.word()),
            _ => push(out, self.said(name).unwrap_or_else(|| default(name))),
        }
    }
}

impl State<'_> {
    /// Its name in `status`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Begun => "in_progress",
            Self::Ended { .. } => "completed",
            Self::Failed { .. } => "failed",
        }
    }

    /// The event that says so.
    pub(super) fn event(self) -> &'static str {
        match self {
            Self::Begun => "response.in_progress",
            Self::Ended { .. } => "response.completed",
            Self::Failed { .. } => "response.failed",
        }
    }
}

/// What stands where the caller said nothing.
fn default(name: &str) -> &'static str {
    match name {
        "tools" => "[]",
        "metadata" => "{}",
        "tool_choice" => "\"auto\"",
        "truncation" => "\"disabled\"",
        "service_tier" => "\"default\"",
        "text" => "{\"format\":{\"type\":\"text\"}}",
        "parallel_tool_calls" => "true",
        "store" | "background" => "false",
        "top_p" | "temperature" => "1",
        "presence_penalty" | "frequency_penalty" | "top_logprobs" => "0",
        _ => "null",
    }
}

fn error(out: &mut Vec<u8>, order: Order, state: State<'_>) {
    let State::Failed { code, message } = state else { return push(out, "null") };
    let code = |out: &mut Vec<u8>| string(out, code);
    let message = |out: &mut Vec<u8>| string(out, message);
    object(out, order, &mut [("code", &code), ("message", &message)]);
}

/// Ollama tells neither cached nor reasoning tokens apart.
fn usage(out: &mut Vec<u8>, order: Order, state: State<'_>) {
    let State::Ended { metrics, .. } = state else { return push(out, "null") };
    let input = |out: &mut Vec<u8>| number(out, metrics.prompt_tokens);
    let made = |out: &mut Vec<u8>| number(out, metrics.output_tokens);
    let total = |out: &mut Vec<u8>| number(out, metrics.prompt_tokens.saturating_add(metrics.output_tokens));
    let cached = |out: &mut Vec<u8>| push(out, "{\"cached_tokens\":0}");
    let reasoning = |out: &mut Vec<u8>| push(out, "{\"reasoning_tokens\":0}");
    object(
        out,
        order,
        &mut [
            ("input_tokens", &input),
            ("output_tokens", &made),
            ("total_tokens", &total),
            ("input_tokens_details", &cached),
            ("output_tokens_details", &reasoning),
        ],
    );
}

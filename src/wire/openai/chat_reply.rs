//! Replies of `/v1/chat/completions`.

use crate::domain::{Finish, Json, Metrics, Piece, ReplyShape, RequestId};
use crate::wire::ollama::{ToolCall, tool_calls};
use crate::wire::out::{filled, number, push, raw, string};

/// The state of one chat reply.
#[derive(Debug)]
pub(in crate::wire) struct ChatReply {
    /// From the `id` value to `choices`, the same in every chunk.
    id: String,
    /// From `"created"` to `"choices":`.
    head: Vec<u8>,
    include_usage: bool,
    begun: bool,
    called: bool,
}

impl ChatReply {
    /// `model` is a JSON string already.
    pub(in crate::wire) fn new(model: &[u8], id: RequestId, created: u64, shape: ReplyShape) -> Self {
        let mut head = Vec::with_capacity(model.len() + 96);
        push(&mut head, ",\"created\":");
        number(&mut head, created);
        push(&mut head, ",\"model\":");
        head.extend_from_slice(model);
        push(&mut head, ",\"system_fingerprint\":\"fp_ollama\",\"choices\":[");
        let id = format!("chatcmpl-{:016x}", id.0);
        Self { id, head, include_usage: shape.include_usage, begun: false, called: false }
    }

    /// Appends the frame for one piece: its chunks, and after the last one the finish, the usage and the end mark.
    pub(in crate::wire) fn chunk(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        let trailer = piece.finish.is_some()
            && self.begun
            && piece.text.is_empty()
            && thinking(piece).is_none()
            && filled(piece.tool_calls.as_ref()).is_none()
            && logprobs(piece).is_none();
        if !trailer {
            self.deltas(piece, out);
            self.begun = true;
        }
        if let Some(finish) = &piece.finish {
            self.finish(finish, out);
        }
    }

    /// Thinking and content in one piece become two chunks, as Ollama splits them; the first takes the logprobs.
    fn deltas(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        let thinking = thinking(piece);
        let calls = tool_calls(piece);
        self.called |= !calls.is_empty();
        let mixed = thinking.is_some() && (!piece.text.is_empty() || !calls.is_empty());
        let role = if self.begun { "" } else { "\"role\":\"assistant\"" };
        let mut first = true;
        if let (true, Some(thinking)) = (mixed, thinking) {
            self.open(out);
            push(out, role);
            push(out, if role.is_empty() { "\"reasoning\":" } else { ",\"reasoning\":" });
            string(out, thinking);
            close(out, logprobs(piece));
            first = false;
        }
        self.open(out);
        if first && !role.is_empty() {
            push(out, role);
            out.push(b',');
        }
        push(out, "\"content\":");
        string(out, &piece.text);
        if let (true, Some(thinking)) = (first, thinking) {
            push(out, ",\"reasoning\":");
            string(out, thinking);
        }
        write_calls(out, &calls);
        close(out, logprobs(piece).filter(|_| first));
    }

    fn open(&self, out: &mut Vec<u8>) {
        self.envelope(out);
        push(out, "{\"index\":0,\"delta\":{");
    }

    fn envelope(&self, out: &mut Vec<u8>) {
        push(out, "data: {\"id\":\"");
        push(out, &self.id);
        push(out, "\",\"object\":\"chat.completion.chunk\"");
        out.extend_from_slice(&self.head);
    }

    fn finish(&self, finish: &Finish, out: &mut Vec<u8>) {
        let reason = reason(finish).unwrap_or("stop");
        self.open(out);
        push(out, "},\"finish_reason\":");
        string(out, if reason == "stop" && self.called { "tool_calls" } else { reason });
        push(out, "}]}\n\n");
        if self.include_usage {
            self.envelope(out);
            push(out, "],\"usage\":");
            usage(out, &finish.metrics);
            push(out, "}\n\n");
        }
        push(out, "data: [DONE]\n\n");
    }

    /// Appends the body of a reply that is no stream.
    pub(in crate::wire) fn whole(&self, piece: &Piece, out: &mut Vec<u8>) {
        push(out, "{\"id\":\"");
        push(out, &self.id);
        push(out, "\",\"object\":\"chat.completion\"");
        out.extend_from_slice(&self.head);
        push(out, "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
        string(out, &piece.text);
        if let Some(thinking) = thinking(piece) {
            push(out, ",\"reasoning\":");
            string(out, thinking);
        }
        let calls = tool_calls(piece);
        write_calls(out, &calls);
        push(out, "},\"finish_reason\":");
        match piece.finish.as_ref().and_then(reason) {
            Some("stop") if !calls.is_empty() => string(out, "tool_calls"),
            Some(reason) => string(out, reason),
            None => push(out, "null"),
        }
        choice_logprobs(out, logprobs(piece));
        push(out, "}],\"usage\":");
        usage(out, &piece.finish.as_ref().map(|f| f.metrics).unwrap_or_default());
        push(out, "}\n");
    }
}

fn close(out: &mut Vec<u8>, logprobs: Option<&Json>) {
    push(out, "},\"finish_reason\":null");
    choice_logprobs(out, logprobs);
    push(out, "}]}\n\n");
}

fn choice_logprobs(out: &mut Vec<u8>, logprobs: Option<&Json>) {
    if let Some(list) = logprobs {
        push(out, ",\"logprobs\":{\"content\":");
        raw(out, list);
        out.push(b'}');
    }
}

/// Appends a usage object.
pub(super) fn usage(out: &mut Vec<u8>, metrics: &Metrics) {
    push(out, "{\"prompt_tokens\":");
    number(out, metrics.prompt_tokens);
    push(out, ",\"completion_tokens\":");
    number(out, metrics.output_tokens);
    push(out, ",\"total_tokens\":");
    number(out, metrics.prompt_tokens.saturating_add(metrics.output_tokens));
    out.push(b'}');
}

/// A finish reason that says something.
pub(super) fn reason(finish: &Finish) -> Option<&str> {
    finish.reason.as_deref().filter(|reason| !reason.is_empty())
}

fn thinking(piece: &Piece) -> Option<&str> {
    piece.thinking.as_deref().filter(|text| !text.is_empty())
}

fn logprobs(piece: &Piece) -> Option<&Json> {
    filled(piece.logprobs.as_ref())
}

/// Native tool calls in OpenAI's form: the index moves out of the function, the arguments become a string.
fn write_calls(out: &mut Vec<u8>, calls: &[ToolCall<'_>]) {
    for (at, call) in calls.iter().enumerate() {
        push(out, if at == 0 { ",\"tool_calls\":[{\"id\":" } else { ",{\"id\":" });
        for (key, value) in
            [("", call.id), (",\"index\":", call.index), (",\"type\":\"function\",\"function\":{\"name\":", call.name)]
        {
            push(out, key);
            push(out, value);
        }
        push(out, ",\"arguments\":");
        string(out, call.arguments);
        push(out, "}}");
    }
    if !calls.is_empty() {
        out.push(b']');
    }
}

//! Replies of `/v1/completions`.

use super::chat_reply::{reason, usage};
use crate::domain::{Json, Metrics, Piece, ReplyShape, RequestId};
use crate::wire::go_json::{elements, members, unquote};
use crate::wire::out::{filled, is_empty_list, number, push, string};

/// What every frame of one completion repeats.
#[derive(Debug)]
pub(in crate::wire) struct CompletionReply {
    /// From `{"id"` to the time.
    head: Vec<u8>,
    /// From `,"model"` to the fingerprint.
    model: Vec<u8>,
    include_usage: bool,
    /// Characters said so far.
    said: usize,
}

impl CompletionReply {
    /// `model` is a JSON string already.
    pub(in crate::wire) fn new(model: &[u8], id: RequestId, created: u64, shape: ReplyShape) -> Self {
        let mut head = Vec::with_capacity(96);
        push(&mut head, &format!("{{\"id\":\"cmpl-{:016x}\",\"object\":\"text_completion\",\"created\":", id.0));
        number(&mut head, created);
        let mut tail = Vec::with_capacity(model.len() + 48);
        push(&mut tail, ",\"model\":");
        tail.extend_from_slice(model);
        push(&mut tail, ",\"system_fingerprint\":\"fp_ollama\"");
        Self { head, model: tail, include_usage: shape.include_usage, said: 0 }
    }

    /// Appends the frame for one piece; with the last one go the usage and the end mark.
    pub(in crate::wire) fn chunk(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        push(out, "data: ");
        out.extend_from_slice(&self.head);
        push(out, ",\"choices\":[");
        choice(out, piece, self.said);
        self.said += piece.text.chars().count();
        out.push(b']');
        out.extend_from_slice(&self.model);
        if self.include_usage {
            push(out, ",\"usage\":");
            usage(out, &Metrics::default());
        }
        push(out, "}\n\n");
        let Some(finish) = &piece.finish else { return };
        if self.include_usage {
            push(out, "data: ");
            out.extend_from_slice(&self.head);
            push(out, ",\"choices\":[]");
            out.extend_from_slice(&self.model);
            push(out, ",\"usage\":");
            usage(out, &finish.metrics);
            push(out, "}\n\n");
        }
        push(out, "data: [DONE]\n\n");
    }

    /// Appends the body of a reply that is no stream.
    pub(in crate::wire) fn whole(&self, piece: &Piece, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.model);
        push(out, ",\"choices\":[");
        choice(out, piece, 0);
        push(out, "],\"usage\":");
        usage(out, &piece.finish.as_ref().map(|f| f.metrics).unwrap_or_default());
        push(out, "}\n");
    }
}

/// `before` characters were said in earlier pieces.
fn choice(out: &mut Vec<u8>, piece: &Piece, before: usize) {
    push(out, "{\"text\":");
    string(out, &piece.text);
    push(out, ",\"index\":0,\"finish_reason\":");
    match piece.finish.as_ref().and_then(reason) {
        Some(reason) => string(out, reason),
        None => push(out, "null"),
    }
    if let Some(list) = filled(piece.logprobs.as_ref()) {
        push(out, ",\"logprobs\":");
        logprobs(out, list, before);
    }
    out.push(b'}');
}

/// Native logprobs in the older form of this route: one list for each thing said of the tokens. Ollama's own `/v1` makes
/// them and leaves them out.
fn logprobs(out: &mut Vec<u8>, list: &Json, before: usize) {
    let (mut tokens, mut values, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut at = before;
    // cannot fail: the list was scanned when the event was
    let _ = elements(list.get(), |entry| {
        let (token, value, top) = parts(entry);
        tokens.push(token);
        values.push(value);
        tops.push(top);
        offsets.push(at.to_string());
        at += unquote(token).chars().count();
    });
    push(out, "{\"tokens\":[");
    push(out, &tokens.join(","));
    push(out, "],\"token_logprobs\":[");
    push(out, &values.join(","));
    push(out, "],\"top_logprobs\":");
    if tops.iter().all(|top| is_empty_list(top)) {
        push(out, "null");
    } else {
        out.push(b'[');
        for (at, top) in tops.into_iter().enumerate() {
            push(out, if at == 0 { "{" } else { ",{" });
            alternatives(out, top);
            out.push(b'}');
        }
        out.push(b']');
    }
    push(out, ",\"text_offset\":[");
    push(out, &offsets.join(","));
    push(out, "]}");
}

/// Members of an object of tokens and their values; of two tokens with one text the likelier counts, which comes first.
fn alternatives(out: &mut Vec<u8>, top: &str) {
    let mut seen: Vec<&str> = Vec::new();
    let _ = elements(top, |entry| {
        let (token, value, _) = parts(entry);
        if !seen.contains(&token) {
            push(out, if seen.is_empty() { "" } else { "," });
            push(out, token);
            out.push(b':');
            push(out, value);
            seen.push(token);
        }
    });
}

/// Token, value and alternatives of an entry, as written.
fn parts(entry: &str) -> (&str, &str, &str) {
    let mut found = ("\"\"", "null", "[]");
    let _ = members(entry, |key, value| match &*key {
        "token" if value.starts_with('"') => found.0 = value,
        "logprob" => found.1 = value,
        "top_logprobs" if value.starts_with('[') => found.2 = value,
        _ => {}
    });
    found
}

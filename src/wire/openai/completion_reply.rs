//! Replies of `/v1/completions`.

use super::chat_reply::{reason, usage};
use crate::domain::{Metrics, Piece, ReplyShape, RequestId};
use crate::wire::out::{number, push, string};

/// What every frame of one completion repeats.
#[derive(Debug)]
pub(in crate::wire) struct CompletionReply {
    /// From `{"id"` to the time.
    head: Vec<u8>,
    /// From `,"model"` to the fingerprint.
    model: Vec<u8>,
    include_usage: bool,
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
        Self { head, model: tail, include_usage: shape.include_usage }
    }

    /// Appends the frame for one piece; with the last one go the usage and the end mark.
    pub(in crate::wire) fn chunk(&self, piece: &Piece, out: &mut Vec<u8>) {
        push(out, "data: ");
        out.extend_from_slice(&self.head);
        push(out, ",\"choices\":[");
        choice(out, piece);
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
        choice(out, piece);
        push(out, "],\"usage\":");
        usage(out, &piece.finish.as_ref().map(|f| f.metrics).unwrap_or_default());
        push(out, "}\n");
    }
}

fn choice(out: &mut Vec<u8>, piece: &Piece) {
    push(out, "{\"text\":");
    string(out, &piece.text);
    push(out, ",\"index\":0,\"finish_reason\":");
    match piece.finish.as_ref().and_then(reason) {
        Some(reason) => string(out, reason),
        None => push(out, "null"),
    }
    out.push(b'}');
}

//! Replies of `/v1/embeddings`: float lists as Ollama wrote them, or base64 of little-endian 32-bit floats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::{ReplyShape, Vectors};
use crate::wire::go_json::floats;
use crate::wire::out::{number, push};
use crate::wire::pieces::Pieces;

/// The form of one embedding reply.
#[derive(Debug)]
pub(in crate::wire) struct EmbeddingReply {
    /// A JSON string.
    model: Vec<u8>,
    base64: bool,
}

impl EmbeddingReply {
    /// `model` is a JSON string already.
    pub(in crate::wire) fn new(model: Vec<u8>, shape: ReplyShape) -> Self {
        Self { model, base64: shape.base64_vectors }
    }

    /// Appends the body.
    pub(in crate::wire) fn whole(&self, vectors: &Vectors, pieces: &mut Pieces) {
        push(&mut pieces.out, "{\"object\":\"list\",\"data\":");
        let start = pieces.out.len();
        for (at, vector) in (0..).zip(&vectors.each) {
            push(&mut pieces.out, if at == 0 { "[" } else { "," });
            push(&mut pieces.out, "{\"object\":\"embedding\",\"embedding\":");
            if self.base64 {
                encoded(vector, &mut pieces.out);
            } else {
                pieces.part(vector.clone());
            }
            push(&mut pieces.out, ",\"index\":");
            number(&mut pieces.out, at);
            pieces.out.push(b'}');
        }
        let out = &mut pieces.out;
        push(out, if out.len() == start { "null" } else { "]" });
        push(out, ",\"model\":");
        out.extend_from_slice(&self.model);
        let tokens = vectors.metrics.prompt_tokens;
        push(out, ",\"usage\":{\"prompt_tokens\":");
        number(out, tokens);
        push(out, ",\"total_tokens\":");
        number(out, tokens);
        push(out, "}}\n");
    }
}

/// Appends a vector as base64 of its floats.
fn encoded(vector: &[u8], out: &mut Vec<u8>) {
    let mut bytes = Vec::with_capacity(vector.len() / 2);
    for float in floats(vector) {
        bytes.extend_from_slice(&float.to_le_bytes());
    }
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    // cannot fail: the room is what the bytes need
    let _ = STANDARD.encode_slice(&bytes, out.get_mut(start..).unwrap_or_default());
    out.push(b'"');
}

//! Replies of `/v1/embeddings`: float lists as Ollama wrote them, or base64 of little-endian 32-bit floats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::{ReplyShape, Vectors};
use crate::wire::go_json::elements;
use crate::wire::out::{number, push};

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
    pub(in crate::wire) fn whole(&self, vectors: &Vectors, out: &mut Vec<u8>) {
        push(out, "{\"object\":\"list\",\"data\":");
        let start = out.len();
        let mut index = 0;
        // cannot fail: the list was scanned when the event was
        let _ = elements(vectors.vectors.get(), |vector| {
            push(out, if index == 0 { "[" } else { "," });
            push(out, "{\"object\":\"embedding\",\"embedding\":");
            if self.base64 {
                base64(out, vector)
            } else {
                push(out, vector)
            }
            push(out, ",\"index\":");
            number(out, index);
            out.push(b'}');
            index += 1;
        });
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

fn base64(out: &mut Vec<u8>, vector: &str) {
    let mut bytes = Vec::with_capacity(vector.len() / 2);
    let _ = elements(vector, |number| bytes.extend_from_slice(&number.parse::<f32>().unwrap_or(0.0).to_le_bytes()));
    out.push(b'"');
    push(out, &STANDARD.encode(bytes));
    out.push(b'"');
}

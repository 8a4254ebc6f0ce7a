//! Replies of `/v1/embeddings`: float lists as Ollama wrote them, or base64 of little-endian 32-bit floats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::domain::{ReplyShape, Vectors};
use crate::wire::go_json::{elements, flat_arrays, float32};
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
        let mut list = List { base64: self.base64, count: 0, bytes: Vec::new() };
        if !flat_arrays(&vectors.vectors, |vector| list.add(vector, out)) {
            // written in another way than Ollama's own; cannot fail: the list was scanned when the event was
            out.truncate(start);
            list.count = 0;
            let _ = elements(&vectors.vectors, |vector| list.add(vector, out));
        }
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

/// The list of embeddings while it is written.
struct List {
    base64: bool,
    count: u64,
    /// Of one vector; kept, so that it is allocated once.
    bytes: Vec<u8>,
}

impl List {
    fn add(&mut self, vector: &str, out: &mut Vec<u8>) {
        push(out, if self.count == 0 { "[" } else { "," });
        push(out, "{\"object\":\"embedding\",\"embedding\":");
        if self.base64 {
            self.encoded(vector, out)
        } else {
            push(out, vector)
        }
        push(out, ",\"index\":");
        number(out, self.count);
        out.push(b'}');
        self.count += 1;
    }

    fn encoded(&mut self, vector: &str, out: &mut Vec<u8>) {
        self.bytes.clear();
        let numbers = vector.trim_matches(['[', ']', ' ', '\t', '\r', '\n']);
        for number in numbers.split(',').filter(|number| !number.is_empty()) {
            self.bytes.extend_from_slice(&float32(number.trim()).to_le_bytes());
        }
        out.push(b'"');
        let start = out.len();
        out.resize(start + self.bytes.len().div_ceil(3) * 4, b'=');
        // cannot fail: the room is what the bytes need
        let _ = STANDARD.encode_slice(&self.bytes, out.get_mut(start..).unwrap_or_default());
        out.push(b'"');
    }
}

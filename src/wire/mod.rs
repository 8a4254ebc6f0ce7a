//! The grammar of Ollama's native, OpenAI and Anthropic surfaces, both ways: bytes to requests, events to bytes.
//!
//! Owns what a body means (`decode`), what goes upstream (`encode_upstream`), what comes back (`decode_event`,
//! `decode_body`, `upstream_fault`, `Lines`), what the caller reads (`Encoder`, `refusal`, the lists) and which status a
//! fault gets.
//! It does no I/O, holds no rule of who may do what (`policy`) and no name of a model that exists (`catalog`).
//!
//! Invariants: nothing here panics on what a peer sent; a request that goes upstream is written from the parsed one,
//! never copied from the caller's bytes; a key that Go would take for a known field never survives as an unknown one.

mod anthropic;
mod error;
mod fields;
mod framing;
mod go_json;
mod list;
mod ollama;
mod openai;
mod options;
mod out;
mod pieces;
mod reply;
mod request;
mod text;
mod upstream;

#[cfg(test)]
mod tests;

pub use error::{Refusal, id_headers, limit_headers, refusal};
pub use framing::{Lines, TooLong};
pub use list::{ListedModel, model, model_list, native_list, version};
pub use ollama::{Malformed, ShowRequest, decode_body, decode_event, decode_show, longest_input, upstream_fault};
pub use reply::Encoder;
pub use upstream::{UpstreamTarget, encode_load, encode_probe, encode_show, encode_upstream};

use crate::domain::{Fault, InferenceRequest, Surface};

/// Has the reply to a request whose prompt is cut say so, where its dialect repeats what was asked.
pub fn say_truncated(request: &mut InferenceRequest) {
    if request.surface == Surface::V1Responses {
        openai::say_truncated(&mut request.echo);
    }
}

/// Reads a request body of `surface` as Ollama would.
///
/// # Errors
/// A fault with Ollama's own words where Ollama refuses too; see `InferenceRequest` for what is kept.
pub fn decode(surface: Surface, body: &[u8]) -> Result<InferenceRequest, Fault> {
    match surface {
        Surface::Chat | Surface::Generate | Surface::Embed | Surface::Embeddings => ollama::decode(surface, body),
        Surface::V1Chat => openai::decode_chat(body),
        Surface::V1Completions => openai::decode_completion(body),
        Surface::V1Embeddings => openai::decode_embeddings(body),
        Surface::V1Messages => anthropic::decode_messages(body),
        Surface::V1Responses => openai::decode_responses(body),
    }
}

//! What the fuzz targets share: the pure rooms of Gaucho, and what must hold of everything they write.
//!
//! The rooms are compiled from their own sources rather than taken from the `gaucho` crate, so that a fuzzer builds in
//! seconds instead of minutes and instruments nothing but the code it is after.

#[path = "../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../src/http/path_key.rs"]
mod path_key;
#[path = "../../src/wire/mod.rs"]
pub mod wire;

pub mod json;
pub mod sse;

use domain::{Event, InferenceRequest, Piece, RequestId, Surface, Task};
use http::Request;
use wire::{Encoder, Lines, TooLong, decode};

/// One of `all`, by a byte of the input.
pub fn pick<T: Copy>(all: &[T], byte: u8) -> T {
    all[usize::from(byte) % all.len()]
}

/// The native surface that is read as Ollama itself reads the call.
pub fn native(task: Task) -> Surface {
    Surface::ALL.into_iter().find(|surface| surface.path() == task.path()).expect("every task is a native surface")
}

/// A small request of `surface` with this model, as a stream, with usage, and with vectors as base64 where `base64`.
pub fn request(surface: Surface, model: &str, base64: bool) -> InferenceRequest {
    let model = serde_json::to_string(model).expect("a text");
    let format = if base64 { "base64" } else { "float" };
    let rest = match (surface.path(), surface.task()) {
        ("/v1/responses", _) => String::from(r#""input":"a""#),
        ("/v1/messages", _) => String::from(r#""max_tokens":9,"messages":[{"role":"user","content":"a"}]"#),
        (_, Task::Chat) => String::from(r#""messages":[{"role":"user","content":"a"}]"#),
        (_, Task::Generate | Task::Embeddings) => String::from(r#""prompt":"a""#),
        (_, Task::Embed) => format!(r#""input":"a","encoding_format":"{format}""#),
    };
    let usage =
        if surface.path().ends_with("completions") { r#","stream_options":{"include_usage":true}"# } else { "" };
    let stream = if surface.task().embeds() { "" } else { r#","stream":true"# };
    let body = format!(r#"{{"model":{model},{rest}{usage}{stream}}}"#);
    decode(surface, body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {fault:?}"))
}

/// An encoder for such a request.
pub fn encoder(request: &InferenceRequest) -> Encoder {
    Encoder::new(request, RequestId(7), 1_790_000_000)
}

/// Lines out of chunks, and what is left at the end.
pub fn lines<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Result<(Vec<Vec<u8>>, Vec<u8>), TooLong> {
    let mut lines = Lines::new(limit);
    let mut found = Vec::new();
    for chunk in chunks {
        lines.push(chunk);
        while let Some(line) = lines.next_line()? {
            found.push(line.to_vec());
        }
    }
    Ok((found, lines.rest().to_vec()))
}

/// `bytes` in pieces whose lengths `cuts` names, over and over.
pub fn cut<'a>(mut bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    let mut lengths = cuts.iter().cycle().map(|&length| usize::from(length));
    // empty chunks are chunks too, but not for ever
    while !bytes.is_empty() && chunks.len() < 4096 {
        let length = lengths.next().unwrap_or(bytes.len()).min(bytes.len());
        let (chunk, rest) = bytes.split_at(length);
        chunks.push(chunk);
        bytes = rest;
    }
    chunks.push(bytes);
    chunks
}

/// Checks a whole stream of a text surface and gives the text that its caller puts together from it.
pub fn heard(surface: Surface, stream: &[u8]) -> String {
    let stream = std::str::from_utf8(stream).expect("a stream is UTF-8");
    if surface.path() == surface.task().path() {
        let (lines, rest) = lines([stream.as_bytes()], usize::MAX).expect("no limit");
        assert!(rest.is_empty(), "a cut line: {stream}");
        assert_eq!(lines.len(), stream.matches('\n').count(), "an empty line: {stream}");
        return lines.iter().map(|line| json::said(surface, json::checked(line))).collect();
    }
    let events = sse::events([stream.as_bytes()]);
    let mut text = String::new();
    for event in &events {
        if event.data == "[DONE]" {
            continue;
        }
        let object = json::checked(event.data.as_bytes());
        if !event.name.is_empty() {
            assert_eq!(json::text(object, &["type"]), event.name, "{event:?}");
        }
        text.push_str(&json::said(surface, object));
    }
    // blank lines end events and stand nowhere else
    assert!(stream.is_empty() || stream.ends_with("\n\n"), "an event without end: {stream}");
    text
}

/// Whether nothing comes after this event.
pub fn ends(event: &Event) -> bool {
    match event {
        Event::Piece(piece) => piece.finish.is_some(),
        Event::Error(_) | Event::Vectors(_) => true,
    }
}

/// A piece with nothing but text.
pub fn piece(text: &str) -> Piece {
    Piece { created_at: "2026-11-23T06:28:43.434538804Z".into(), text: text.to_owned(), ..Piece::default() }
}

/// What is left of a request's target without its path key, and the key.
pub fn lift(target: &str) -> Option<(String, Option<String>)> {
    let mut request = Request::builder().uri(target).body(()).ok()?;
    path_key::lift_key(&mut request);
    let key = request.extensions().get::<path_key::PathKey>().map(|key| key.0.clone());
    Some((request.uri().to_string(), key))
}

//! What is measured: usual requests of about 1 KB, the lines of an answer, and the whole way of each.

use std::hint::black_box;
use std::time::Duration;

use gaucho::domain::{RequestId, Surface, Task};
use gaucho::wire::{Encoder, UpstreamTarget, decode, decode_event, encode_upstream};

const TEXT: &str = "The quick brown fox jumps over the lazy dog, says \\\"hello\\\" and goes on its way.\\n";

/// From the caller's bytes to those of the upstream call.
pub(crate) fn pass_request(surface: Surface, body: &[u8]) {
    let request = decode(surface, black_box(body)).unwrap();
    let target = UpstreamTarget {
        model: "gemma3:4b",
        runner_options: &request.runner_options,
        keep_alive: Some(Duration::MAX),
        truncate: Some(false),
        output_cap: Some(512),
        model_cap: None,
    };
    black_box(encode_upstream(&request, &target));
}

/// From upstream's line to the caller's frame.
pub(crate) fn pass_chunk(task: Task, line: &[u8], encoder: &mut Encoder, out: &mut Vec<u8>) {
    encoder.stream(&decode_event(task, black_box(line)).unwrap(), out);
    black_box(out);
}

/// A usual request: a system prompt, some turns, a few settings; filled up to 1 KB.
pub(crate) fn body(surface: Surface) -> String {
    let long = |room: usize| TEXT.repeat(room / TEXT.len());
    let turns = |system: &str| {
        format!(
            r#"{system}{{"role":"user","content":"{}"}},{{"role":"assistant","content":"{}"}},{{"role":"user","content":"{}"}}"#,
            long(420),
            long(250),
            long(170)
        )
    };
    let system = r#"{"role":"system","content":"You are a helpful assistant. Answer briefly."},"#;
    match (surface.path(), surface.task()) {
        ("/api/chat", _) => format!(
            r#"{{"model":"gemma3:4b","messages":[{}],"stream":true,"options":{{"temperature":0.7,"seed":7,"num_predict":256}}}}"#,
            turns(system)
        ),
        ("/v1/messages", _) => format!(
            r#"{{"model":"gemma3:4b","system":"You are a helpful assistant. Answer briefly.","messages":[{}],"stream":true,"temperature":0.7,"max_tokens":256}}"#,
            turns("")
        ),
        ("/v1/responses", _) => format!(
            r#"{{"model":"gemma3:4b","instructions":"You are a helpful assistant. Answer briefly.","input":[{}],"stream":true,"temperature":0.7,"max_output_tokens":256}}"#,
            turns("")
        ),
        (_, Task::Chat) => format!(
            r#"{{"model":"gemma3:4b","messages":[{}],"stream":true,"temperature":0.7,"seed":7,"max_tokens":256}}"#,
            turns(system)
        ),
        ("/api/generate", _) => format!(
            r#"{{"model":"gemma3:4b","prompt":"{}","stream":true,"options":{{"temperature":0.7,"seed":7,"num_predict":256}}}}"#,
            long(900)
        ),
        (_, Task::Generate) => format!(
            r#"{{"model":"gemma3:4b","prompt":"{}","stream":true,"temperature":0.7,"seed":7,"max_tokens":256}}"#,
            long(900)
        ),
        (_, Task::Embed) => format!(r#"{{"model":"bge-m3","input":["{}","{}"]}}"#, long(500), long(400)),
        (_, Task::Embeddings) => format!(r#"{{"model":"bge-m3","prompt":"{}"}}"#, long(900)),
    }
}

/// A line in the middle of an answer.
pub(crate) fn line(task: Task) -> &'static str {
    if task == Task::Chat {
        r#"{"model":"gemma3:4b","created_at":"2026-11-23T06:28:43.434538804Z","message":{"role":"assistant","content":" blue"},"done":false}"#
    } else {
        r#"{"model":"gemma3:4b","created_at":"2026-11-23T06:28:43.434538804Z","response":" blue","done":false}"#
    }
}

/// For the answer to such a request.
pub(crate) fn encoder(surface: Surface) -> Encoder {
    let request = decode(surface, body(surface).as_bytes()).unwrap();
    assert!(request.stream);
    Encoder::new(&request, RequestId(1), 1_790_000_000)
}

/// Surfaces that stream.
pub(crate) fn text_surfaces() -> impl Iterator<Item = Surface> {
    Surface::ALL.into_iter().filter(|surface| !surface.task().embeds())
}

//! A request of about 1 KB: from the caller's bytes to those of the upstream call.

use std::hint::black_box;
use std::time::Duration;

use gaucho::domain::{Surface, Task};
use gaucho::wire::{UpstreamTarget, decode, encode_upstream};

use crate::rounds::{copy, seconds, tree, verdict};

/// Most µs for one.
const MOST: f64 = 3.0;

const TEXT: &str = "The quick brown fox jumps over the lazy dog, says \\\"hello\\\" and goes on its way.\\n";

pub(crate) fn run() {
    println!("requests of 1 KB: decode and encode_upstream; goal {MOST} µs");
    println!("{:22} {:>6} {:>8} {:>8} {:>8} {:>8} {:>9}", "", "bytes", "µs", "÷ tree", "÷ copy", "allocs", "alloc B");
    for surface in Surface::ALL {
        let body = body(surface);
        let work = || {
            let request = decode(surface, black_box(body.as_bytes())).unwrap();
            let options = &request.runner_options;
            let keep_alive = Some(Duration::MAX);
            let target = UpstreamTarget {
                model: "gemma3:4b",
                runner_options: options,
                keep_alive,
                truncate: Some(false),
                output_cap: Some(512),
            };
            black_box(encode_upstream(&request, &target));
        };
        let counted = allocation_counter::measure(work);
        let times =
            seconds(&mut [Box::new(work), Box::new(|| tree(body.as_bytes())), Box::new(|| copy(body.as_bytes()))]);
        let [ours, tree, copy] = times[..] else { continue };
        println!(
            "{:22} {:6} {:8.2} {:8.2} {:8.1} {:8} {:9}{}",
            surface.path(),
            body.len(),
            ours * 1e6,
            ours / tree,
            ours / copy,
            counted.count_total,
            counted.bytes_total,
            verdict(ours * 1e6 <= MOST)
        );
    }
}

/// A usual request: a system prompt, some turns, a few settings; filled up to 1 KB.
pub(crate) fn body(surface: Surface) -> String {
    let long = |room: usize| TEXT.repeat(room / TEXT.len());
    let turns = |system: &str| {
        format!(
            r#"{system}{{"role":"user","content":"{}"}},{{"role":"assistant","content":"{}"}},{{"role":"user","content":"{}"}}"#,
            long(300),
            long(200),
            long(160)
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

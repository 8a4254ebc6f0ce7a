//! A batch of embeddings: 1,000 vectors of 1,024 floats, from upstream's body to the caller's.

use std::hint::black_box;

use bytes::Bytes;
use gaucho::domain::{RequestId, Surface, Task};
use gaucho::wire::{Encoder, decode, decode_body};

use crate::rounds::{carry, copy, loopback, seconds, tree, verdict};

const VECTORS: usize = 1000;
const FLOATS: usize = 1024;
/// Least part of a plain copy's throughput.
const LEAST: f64 = 0.5;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn float(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.2
    }
}

/// The body of an answer, digits as Ollama prints them.
fn reply() -> Bytes {
    let mut dice = Dice(7);
    let vectors: Vec<Vec<f32>> = (0..VECTORS).map(|_| (0..FLOATS).map(|_| dice.float()).collect()).collect();
    let vectors = serde_json::to_string(&vectors).unwrap();
    format!(
        r#"{{"model":"bge-m3","embeddings":{vectors},"total_duration":9123456,"load_duration":123,"prompt_eval_count":4000}}"#
    )
    .into()
}

pub(crate) fn run() {
    let reply = reply();
    let mebibytes = reply.len() as f64 / f64::from(1 << 20);
    println!("\nembeddings, {VECTORS} × {FLOATS} ({mebibytes:.1} MiB): decode_body and Encoder::unary");
    println!("goal: at least {LEAST} of a plain copy's throughput");
    println!("{:34} {:>8} {:>8} {:>8} {:>11} {:>8}", "", "ms", "GB/s", "of copy", "of loopback", "of tree");
    let work = |surface: Surface, more: &str| {
        let body = format!(r#"{{"model":"bge-m3","input":"a"{more}}}"#);
        let request = decode(surface, body.as_bytes()).unwrap();
        let encoder = Encoder::new(&request, RequestId(1), 0);
        let reply = &reply;
        move || {
            let event = decode_body(Task::Embed, black_box(reply)).unwrap();
            black_box(encoder.unary(&event));
        }
    };
    let mut ends = loopback();
    let names =
        ["plain copy", "plain copy over loopback", "tree", "/api/embed", "/v1/embeddings", "/v1/embeddings, base64"];
    let times = seconds(&mut [
        Box::new(|| copy(&reply)),
        Box::new(|| carry(&reply, &mut ends)),
        Box::new(|| tree(&reply)),
        Box::new(work(Surface::Embed, "")),
        Box::new(work(Surface::V1Embeddings, "")),
        Box::new(work(Surface::V1Embeddings, r#","encoding_format":"base64""#)),
    ]);
    for (at, (name, time)) in names.iter().zip(&times).enumerate() {
        let of = |other: f64| other / time;
        println!(
            "{name:34} {:8.2} {:8.2} {:8.3} {:11.2} {:8.2}{}",
            time * 1e3,
            reply.len() as f64 / time / 1e9,
            of(times[0]),
            of(times[1]),
            of(times[2]),
            verdict(at < 3 || of(times[0]) >= LEAST)
        );
    }
}

//! One chunk of a stream: from upstream's line to the caller's frame; and what a whole stream holds in memory.

use std::hint::black_box;

use gaucho::domain::{RequestId, Surface, Task};
use gaucho::wire::{Encoder, Lines, decode, decode_event};

use crate::requests::body;
use crate::rounds::{copy, seconds, tree, verdict};

/// Most µs for one.
const MOST: f64 = 1.0;

fn line(task: Task) -> &'static str {
    if task == Task::Chat {
        r#"{"model":"gemma3:4b","created_at":"2026-11-23T06:28:43.434538804Z","message":{"role":"assistant","content":" blue"},"done":false}"#
    } else {
        r#"{"model":"gemma3:4b","created_at":"2026-11-23T06:28:43.434538804Z","response":" blue","done":false}"#
    }
}

fn last(task: Task) -> String {
    let figures = r#""total_duration":123456789,"load_duration":1234,"prompt_eval_count":26,"eval_count":298}"#;
    line(task).replace(r#""done":false}"#, &format!(r#""done":true,"done_reason":"stop",{figures}"#))
}

fn encoder(surface: Surface) -> Encoder {
    let request = decode(surface, body(surface).as_bytes()).unwrap();
    assert!(request.stream);
    Encoder::new(&request, RequestId(1), 1_790_000_000)
}

fn text_surfaces() -> impl Iterator<Item = Surface> {
    Surface::ALL.into_iter().filter(|surface| !surface.task().embeds())
}

pub(crate) fn run() {
    println!("\nchunks of a stream: decode_event and Encoder::stream; goal {MOST} µs");
    println!("{:22} {:>6} {:>8} {:>8} {:>8} {:>8} {:>9}", "", "bytes", "µs", "÷ tree", "÷ copy", "allocs", "alloc B");
    for surface in text_surfaces() {
        let (task, mut encoder, mut out) = (surface.task(), encoder(surface), Vec::with_capacity(4096));
        let line = line(task);
        let mut work = || {
            out.clear();
            encoder.stream(&decode_event(task, black_box(line.as_bytes())).unwrap(), &mut out);
            black_box(&out);
        };
        work();
        let counted = allocation_counter::measure(&mut work);
        let times =
            seconds(&mut [Box::new(work), Box::new(|| tree(line.as_bytes())), Box::new(|| copy(line.as_bytes()))]);
        let [ours, tree, copy] = times[..] else { continue };
        println!(
            "{:22} {:6} {:8.3} {:8.2} {:8.1} {:8} {:9}{}",
            surface.path(),
            line.len(),
            ours * 1e6,
            ours / tree,
            ours / copy,
            counted.count_total,
            counted.bytes_total,
            verdict(ours * 1e6 <= MOST)
        );
    }
}

/// Most bytes held at once while a stream of `chunks` passes in pieces of 1,000 bytes.
fn most_held(surface: Surface, chunks: usize) -> u64 {
    let task = surface.task();
    let mut stream = format!("{}\n", line(task)).repeat(chunks);
    stream.push_str(&last(task));
    stream.push('\n');
    let held = allocation_counter::measure(|| {
        let (mut encoder, mut lines) = (encoder(surface), Lines::new(1 << 20));
        for piece in stream.as_bytes().chunks(1000) {
            lines.push(piece);
            while let Some(line) = lines.next_line().unwrap() {
                let mut out = Vec::new();
                encoder.stream(&decode_event(task, line).unwrap(), &mut out);
                black_box(out);
            }
        }
    });
    held.bytes_max
}

pub(crate) fn memory() {
    println!("\nmost memory held while a stream passes; goal: the same for any length");
    println!("{:22} {:>14} {:>14}", "", "100 chunks", "10,000 chunks");
    for surface in text_surfaces() {
        let (short, long) = (most_held(surface, 100), most_held(surface, 10_000));
        println!("{:22} {short:12} B {long:12} B{}", surface.path(), verdict(long <= short + short / 10));
    }
}

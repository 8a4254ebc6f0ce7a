//! What the grammars allocate: for a request, for a chunk, and held at once while a whole stream passes.
//!
//! Apart from the timings (`main.rs`), because counting costs time. `cargo bench --bench wire_allocations`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where its set-up does")]

mod subjects;

use allocation_counter::measure;
use gaucho::domain::{Surface, Task};
use gaucho::wire::Lines;
use subjects::{body, encoder, line, pass_chunk, pass_request, text_surfaces};

fn main() {
    println!("requests of 1 KB: decode and encode_upstream\n{:22} {:>8} {:>8} {:>8}", "", "bytes", "allocs", "bytes");
    for surface in Surface::ALL {
        let body = body(surface);
        let counted = measure(|| pass_request(surface, body.as_bytes()));
        println!("{:22} {:8} {:8} {:8}", surface.path(), body.len(), counted.count_total, counted.bytes_total);
    }
    println!("\na chunk, and most memory held while a stream of so many passes; goal: the same for any length");
    println!("{:22} {:>8} {:>8} {:>14} {:>14}", "", "allocs", "bytes", "100 chunks", "10,000 chunks");
    for surface in text_surfaces() {
        let (mut encoder, mut out) = (encoder(surface), Vec::with_capacity(4096));
        let mut chunk = || {
            out.clear();
            pass_chunk(surface.task(), line(surface.task()).as_bytes(), &mut encoder, &mut out);
        };
        // the first chunk of an answer is another
        chunk();
        let counted = measure(chunk);
        let (short, long) = (most_held(surface, 100), most_held(surface, 10_000));
        let verdict = if long <= short + short / 10 { "" } else { "  MISSED" };
        let (count, bytes) = (counted.count_total, counted.bytes_total);
        println!("{:22} {count:8} {bytes:8} {short:12} B {long:12} B{verdict}", surface.path());
    }
}

/// Most bytes held at once while a stream of `chunks` passes in pieces of 1,000 bytes.
fn most_held(surface: Surface, chunks: usize) -> u64 {
    let task = surface.task();
    let mut stream = format!("{}\n", line(task)).repeat(chunks);
    stream.push_str(&last(task));
    stream.push('\n');
    let held = measure(|| {
        let (mut encoder, mut lines) = (encoder(surface), Lines::new(1 << 20));
        for piece in stream.as_bytes().chunks(1000) {
            lines.push(piece);
            while let Some(line) = lines.next_line().unwrap() {
                pass_chunk(task, line, &mut encoder, &mut Vec::new());
            }
        }
    });
    held.bytes_max
}

/// The last line of an answer.
fn last(task: Task) -> String {
    let figures = r#""total_duration":123456789,"load_duration":1234,"prompt_eval_count":26,"eval_count":298}"#;
    line(task).replace(r#""done":false}"#, &format!(r#""done":true,"done_reason":"stop",{figures}"#))
}

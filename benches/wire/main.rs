//! What the grammars cost: a request in and out, a chunk of a stream, a batch of embeddings, for every surface.
//!
//! Each figure stands beside what serde_json takes to read the same bytes into a tree and write them again, and beside
//! a plain copy, in the same rounds. `cargo bench --bench wire`, or with some of `requests`, `chunks`, `vectors`
//! after `--`. What they allocate is counted by `cargo bench --bench wire_allocations`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where its set-up does")]

mod chunks;
mod requests;
mod rounds;
mod subjects;
mod vectors;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let on = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    if on("requests") {
        requests::run();
    }
    if on("chunks") {
        chunks::run();
    }
    if on("vectors") {
        vectors::run();
    }
}

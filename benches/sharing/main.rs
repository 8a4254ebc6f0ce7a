//! What sharing one GPU does to applications: raw Ollama, a plain queue, a quantum and Gaucho, in virtual time.
//!
//! Exact and repeatable: it times nothing. `cargo bench --bench sharing [-- --report FILE.html]`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where its set-up does")]

use gaucho::lab::ideal::score;
use gaucho::lab::measure::measure;
use gaucho::lab::table::{Result, table};
use gaucho::lab::{Mode, Workload, play, scenes};

fn results(workload: &Workload) -> Vec<Result> {
    let one = |mode| {
        let run = play(workload, mode).unwrap();
        Result { mode, measure: measure(workload, &run), score: score(workload, &run) }
    };
    Mode::ALL.map(one).to_vec()
}

fn main() {
    for name in scenes::NAMES {
        let workload = scenes::scene(name, 1).unwrap();
        println!("{}", table(&workload, &results(&workload)));
    }
}

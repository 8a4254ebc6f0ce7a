//! What sharing one GPU does to applications: raw Ollama, a plain queue, a quantum and Gaucho, in virtual time.
//!
//! Exact and repeatable: it times nothing. `cargo bench --bench sharing [-- --report FILE.html]`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where its set-up does")]

use std::io::Read as _;
use std::path::PathBuf;

use gaucho::lab::ideal::score;
use gaucho::lab::measure::measure;
use gaucho::lab::table::{Result, table};
use gaucho::lab::targets::{Target, targets};
use gaucho::lab::{Mode, Run, Workload, mixes, play, scenes, traces};

/// Minutes of the traces of 2023 that are played, and how busy they keep the GPU.
const AZURE: (f64, f64) = (5.0, 0.7);

fn traffic() -> Vec<Workload> {
    let folder = std::env::var_os("GAUCHO_TRACES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/traces"), PathBuf::from);
    let read = |name: &str| {
        let file = std::fs::File::open(folder.join(name)).ok()?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).ok()?;
        Some(text)
    };
    let mut all = Vec::new();
    match read("servegen-3models-2h.csv.gz") {
        Some(text) => all.extend([0.5, 1.0, 1.5].map(|speed| traces::servegen(&text, speed).unwrap())),
        None => println!("no servegen-3models-2h.csv.gz in {} (GAUCHO_TRACES): skipped", folder.display()),
    }
    match (read("azure-2023-code.csv.gz"), read("azure-2023-conv.csv.gz")) {
        (Some(code), Some(chat)) => all.push(traces::azure(&code, &chat, AZURE.0, AZURE.1).unwrap()),
        _ => println!("no azure-2023-*.csv.gz in {} (GAUCHO_TRACES): skipped", folder.display()),
    }
    all
}

fn results(workload: &Workload) -> (Vec<Result>, Vec<Run>) {
    let runs = Mode::ALL.map(|mode| play(workload, mode).unwrap());
    let one = |run: &Run| Result { mode: run.mode, measure: measure(workload, run), score: score(workload, run) };
    (runs.iter().map(one).collect(), runs.into())
}

fn main() {
    println!("`same` (ten identical requests at once) is the cache's and not here.\n");
    let scenes = scenes::NAMES.iter().filter_map(|name| scenes::scene(name, 1));
    let mut promised: Vec<Target> = Vec::new();
    for workload in scenes.chain(mixes::mixes(1)).chain(traffic()) {
        let (results, runs) = results(&workload);
        println!("{}", table(&workload, &results));
        promised.extend(targets(&workload, &results, runs.last().unwrap()));
    }
    println!("targets");
    for Target { what, text, kept } in &promised {
        println!("  {:6} {what}: {text}", if *kept { "ok" } else { "MISSED" });
    }
}

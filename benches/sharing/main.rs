//! What sharing one GPU does to applications: raw Ollama, a plain queue, a quantum and Gaucho, in virtual time.
//!
//! Exact and repeatable: it times nothing. `cargo bench --bench sharing [-- --report FILE.html]`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where its set-up does")]

use std::io::Read as _;
use std::path::PathBuf;

use gaucho::lab::table::table;
use gaucho::lab::targets::Target;
use gaucho::lab::{
    Comparison, Foresight, Mode, Workload, calibration, compare, foresight, mixes, report, scenes, traces,
};

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

fn main() {
    println!("`same` (ten identical requests at once) is the cache's and not here.\n");
    println!("{}", calibration::text(&calibration::calibrate().unwrap()));
    let mut drawn = Vec::new();
    let mut tally = Tally::default();
    for workload in measured(1).chain(mixes::mixes(1)).chain(traffic()) {
        let comparison = compare(workload).unwrap();
        print!("{}", table(&comparison.workload, &comparison.results));
        println!("{}", foretelling(&comparison));
        tally.add(&comparison);
        drawn.push(comparison);
    }
    for seed in 2..=20 {
        let more = if seed <= 10 { mixes::mixes(seed) } else { Vec::new() };
        measured(seed).chain(more).for_each(|workload| tally.add(&compare(workload).unwrap()));
    }
    tally.print();
    if let Some(file) = report_file() {
        std::fs::write(&file, report::html(&drawn)).unwrap();
        println!("\nreport: {}", file.display());
    }
}

/// How well waits were foretold, and how well they could be.
fn foretelling(comparison: &Comparison) -> String {
    let own = |mode| comparison.runs.iter().zip(&comparison.results).find(|(run, _)| run.mode == mode);
    let (run, result) = own(Mode::Gaucho).unwrap();
    let known = foresight(&comparison.workload, run).unwrap();
    let known = known.map(|Foresight { sizes, spread, over }| {
        format!(
            "  foretold by who knows all sizes, not the future: p90 of the error {:.0} % over {over}\n  \
             foretold by who knows how lengths are spread, not those of answers to come: {:.0} %\n",
            100.0 * sizes,
            100.0 * spread
        )
    });
    let told =
        result.measure.foretelling.filter(|_| known.is_some()).map(|(error, over)| {
            format!("  foretold by gaucho: p90 of the error {:.0} % over {over}\n", 100.0 * error)
        });
    told.unwrap_or_default() + &known.unwrap_or_default()
}

/// The measured scenes.
fn measured(seed: u64) -> impl Iterator<Item = Workload> {
    scenes::NAMES.iter().filter_map(move |name| scenes::scene(name, seed))
}

/// What became of each target over the seeds.
#[derive(Default)]
struct Tally(Vec<Line>);

struct Line {
    what: String,
    kept: usize,
    seeds: usize,
    first: String,
    missed: Option<String>,
}

impl Tally {
    fn add(&mut self, comparison: &Comparison) {
        for Target { what, text, kept } in &comparison.targets {
            let at = self.0.iter().position(|line| line.what == *what).unwrap_or_else(|| {
                let (what, first) = (what.clone(), text.clone());
                self.0.push(Line { what, kept: 0, seeds: 0, first, missed: None });
                self.0.len() - 1
            });
            let line = &mut self.0[at];
            line.seeds += 1;
            line.kept += usize::from(*kept);
            if !kept && line.missed.is_none() {
                line.missed = Some(format!("; seed {}: {text}", comparison.workload.seed));
            }
        }
    }

    fn print(&self) {
        println!("targets (seed 1; kept by how many seeds; the first one that missed it)");
        for Line { what, kept, seeds, first, missed } in &self.0 {
            let verdict = if kept == seeds { "ok" } else { "MISSED" };
            let missed = missed.as_deref().unwrap_or("");
            println!("  {verdict:6} {what}: {first}; {kept} of {seeds}{missed}");
        }
    }
}

/// `--report FILE`.
fn report_file() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip_while(|argument| argument != "--report");
    arguments.nth(1).map(PathBuf::from)
}

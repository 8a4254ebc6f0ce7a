//! Interleaved rounds and their medians.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::Value;

const ROUNDS: usize = 21;
/// How long one round of one subject lasts.
const EACH: Duration = Duration::from_millis(15);

/// Something that is timed.
pub(crate) type Subject<'a> = Box<dyn FnMut() + 'a>;

/// Median seconds of one run of each subject; the subjects take turns.
pub(crate) fn seconds(subjects: &mut [Subject<'_>]) -> Vec<f64> {
    let runs: Vec<usize> = subjects.iter_mut().map(|subject| runs(subject)).collect();
    let mut times = vec![Vec::with_capacity(ROUNDS); subjects.len()];
    for _ in 0..ROUNDS {
        for ((subject, runs), times) in subjects.iter_mut().zip(&runs).zip(&mut times) {
            let start = Instant::now();
            for _ in 0..*runs {
                subject();
            }
            times.push(start.elapsed().as_secs_f64() / *runs as f64);
        }
    }
    times.into_iter().map(median).collect()
}

/// As many runs as fill a round.
fn runs(subject: &mut Subject<'_>) -> usize {
    let start = Instant::now();
    let mut runs = 0;
    while start.elapsed() < EACH {
        subject();
        runs += 1;
    }
    runs
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Reads the bytes into a tree and writes them again, as a gateway would that knows no grammar.
pub(crate) fn tree(bytes: &[u8]) {
    let value: Value = serde_json::from_slice(black_box(bytes)).unwrap();
    black_box(serde_json::to_vec(&value).unwrap());
}

/// Copies the bytes into new memory.
pub(crate) fn copy(bytes: &[u8]) {
    black_box(black_box(bytes).to_vec());
}

/// A verdict on a goal.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "" } else { "  MISSED" }
}

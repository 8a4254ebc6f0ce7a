//! Interleaved rounds and the quickest of each: whatever else the machine does only adds to them.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

const ROUNDS: usize = 51;
/// How long one round of one subject lasts: less than a turn on a core that others want too.
const EACH: Duration = Duration::from_millis(2);

/// Something that is timed.
pub(crate) type Subject<'a> = Box<dyn FnMut() + 'a>;

/// Seconds of one run of each subject in its quickest round; the subjects take turns.
pub(crate) fn seconds(subjects: &mut [Subject<'_>]) -> Vec<f64> {
    let runs: Vec<usize> = subjects.iter_mut().map(|subject| runs(subject)).collect();
    let mut best = vec![f64::INFINITY; subjects.len()];
    for _ in 0..ROUNDS {
        for ((subject, runs), best) in subjects.iter_mut().zip(&runs).zip(&mut best) {
            // the one before left its memory in another order
            subject();
            let start = Instant::now();
            for _ in 0..*runs {
                subject();
            }
            *best = best.min(start.elapsed().as_secs_f64() / *runs as f64);
        }
    }
    best
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

/// Carries the bytes from one end of a loopback connection to the other, as any proxy must at least twice.
pub(crate) fn carry(bytes: &[u8], ends: &mut (TcpStream, TcpStream)) {
    let (sender, receiver) = ends;
    std::thread::scope(|scope| {
        scope.spawn(|| sender.write_all(black_box(bytes)).unwrap());
        let mut arrived = vec![0; bytes.len()];
        receiver.read_exact(&mut arrived).unwrap();
        black_box(arrived);
    });
}

/// Both ends of a loopback connection.
pub(crate) fn loopback() -> (TcpStream, TcpStream) {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    (sender, door.accept().unwrap().0)
}

/// The head of a table of [`row`]s.
pub(crate) fn title(what: &str, most: f64) {
    println!("{what}; goal {most} µs\n{:22} {:>6} {:>8} {:>8} {:>8}", "", "bytes", "µs", "÷ tree", "÷ copy");
}

/// Times `work` on `bytes` and prints a line.
pub(crate) fn row(name: &str, bytes: &[u8], most: f64, work: impl FnMut()) {
    let times = seconds(&mut [Box::new(work), Box::new(|| tree(bytes)), Box::new(|| copy(bytes))]);
    let [ours, tree, copy] = times[..] else { return };
    let (time, verdict) = (ours * 1e6, verdict(ours * 1e6 <= most));
    println!("{name:22} {:6} {time:8.3} {:8.2} {:8.1}{verdict}", bytes.len(), ours / tree, ours / copy);
}

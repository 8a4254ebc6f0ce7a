//! The log's writer: one thread that owns the output, fed by a bounded queue.
//!
//! Owns the queue. Log events and ready-made lines (one per request, made by the ledger) share it, so lines never mix.
//! A reader of our log that stalls or goes away costs lines, which are counted, and never a request's time.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::{Counters, Registry};

/// Lines that may wait; at the usual half kilobyte each this is 4 MB.
const CAPACITY: usize = 8192;
/// Between two writes. A writer that waits in the queue must be woken for every line, which costs a busy gateway more
/// than the line itself; one that rests finds many.
const REST: Duration = Duration::from_millis(5);

/// A handle on the log's writer; clones share it.
#[derive(Debug, Clone)]
pub struct LogLines {
    sender: SyncSender<Vec<u8>>,
    progress: Arc<Progress>,
    dropped: Counters<0>,
}

/// How far the writer is, for those who wait for it.
#[derive(Debug, Default)]
struct Progress {
    queued: AtomicU64,
    written: Mutex<u64>,
    moved: Condvar,
}

impl LogLines {
    /// Starts the thread that writes to `out` and registers the count of dropped lines.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(out: impl Write + Send + 'static, registry: &Registry) -> io::Result<Self> {
        Self::with_capacity(CAPACITY, out, registry)
    }

    pub(super) fn with_capacity(
        lines: usize,
        out: impl Write + Send + 'static,
        registry: &Registry,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(lines);
        let progress = Arc::new(Progress::default());
        let help = "Log lines lost because the log's reader stalled or went away";
        let dropped = registry.counters("telemetry_log_lines_dropped", help, []);
        let (theirs, lost) = (Arc::clone(&progress), dropped.clone());
        thread::Builder::new().name("log".into()).spawn(move || write_all(&receiver, out, &theirs, &lost))?;
        Ok(Self { sender, progress, dropped })
    }

    /// Queues one line, given without its newline; never waits.
    pub fn write(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        self.queue(line);
    }

    /// Waits until all that was queued before is written, `within` at most; says whether it was.
    /// For the end of the process: it blocks.
    #[must_use]
    pub fn flush(&self, within: Duration) -> bool {
        let goal = self.progress.queued.load(Ordering::SeqCst);
        let written = self.progress.written.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.progress.moved.wait_timeout_while(written, within, |written| *written < goal);
        let (written, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *written >= goal
    }

    fn queue(&self, line: Vec<u8>) {
        match self.sender.try_send(line) {
            Ok(()) => {
                self.progress.queued.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => self.dropped.add([], 1),
        }
    }
}

/// The thread's life: ends when the last handle is gone.
fn write_all(receiver: &Receiver<Vec<u8>>, mut out: impl Write, progress: &Progress, lost: &Counters<0>) {
    let (mut text, mut ends, mut cut) = (Vec::new(), Vec::new(), false);
    while let Ok(first) = receiver.recv() {
        // what queued up meanwhile goes out in one write
        for line in std::iter::once(first).chain(receiver.try_iter().take(CAPACITY)) {
            if cut {
                // what is left of a line that broke off stays a line of its own
                text.push(b'\n');
                cut = false;
            }
            text.extend(line);
            ends.push(text.len());
        }
        let written = write_most(&mut out, &text);
        let missing = ends.iter().filter(|end| **end > written).count();
        if missing > 0 {
            lost.add([], missing as u64);
            cut = written > 0 && !ends.contains(&written);
        }
        *progress.written.lock().unwrap_or_else(PoisonError::into_inner) += ends.len() as u64;
        progress.moved.notify_all();
        (text, ends) = (Vec::new(), Vec::new());
        // the first line after a silence is written at once; an early return does no harm
        thread::park_timeout(REST);
    }
}

/// Writes as much of the text as the output takes, and says how much that was. A pipe that never blocks and is full is
/// waited for: meanwhile the queue fills, and what it does not take is counted there.
fn write_most(out: &mut impl Write, text: &[u8]) -> usize {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => break,
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(REST),
            Err(_) => break,
        }
    }
    // its own buffer, if it has one
    if written == text.len() && out.flush().is_err() { 0 } else { written }
}

/// How log events reach the queue: the formatter hands over each event as one whole text.
#[derive(Debug)]
pub struct EventWriter<'a>(&'a LogLines);

impl Write for EventWriter<'_> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.queue(event.to_vec());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = EventWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        EventWriter(self)
    }
}

//! The log's writer: one thread that owns the output, fed by a bounded queue.
//!
//! Owns the queue. Log events and ready-made lines (one per request, made by the ledger) share it, so lines never mix.
//! A reader of our log that stalls costs lines, which are counted, and never a request's time.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::{Counters, Registry};

/// Lines that may wait; at the usual half kilobyte each this is 4 MB.
const CAPACITY: usize = 8192;

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// A handle on the log's writer; clones share it.
#[derive(Debug, Clone)]
pub struct LogLines {
    sender: SyncSender<Message>,
    dropped: Counters<0>,
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
        thread::Builder::new().name("log".into()).spawn(move || write_all(&receiver, out))?;
        let dropped =
            registry.counters("telemetry_log_lines_dropped", "Log lines lost because the log's reader stalled", []);
        Ok(Self { sender, dropped })
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
        const PAUSE: Duration = Duration::from_millis(5);
        let (done, written) = sync_channel(1);
        let mut message = Message::Flush(done);
        let mut left = within;
        while let Err(refused) = self.sender.try_send(message) {
            let TrySendError::Full(back) = refused else { return false };
            if left.is_zero() {
                return false;
            }
            message = back;
            thread::sleep(PAUSE.min(left));
            left = left.saturating_sub(PAUSE);
        }
        written.recv_timeout(left) != Err(RecvTimeoutError::Timeout)
    }

    fn queue(&self, line: Vec<u8>) {
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.dropped.add([], 1);
        }
    }
}

/// The thread's life: ends when the last handle is gone. A broken output loses lines, and there is no one to tell.
fn write_all(receiver: &Receiver<Message>, out: impl Write) {
    let mut out = io::BufWriter::new(out);
    while let Ok(first) = receiver.recv() {
        // what queued up meanwhile goes out in one write
        for message in std::iter::once(first).chain(receiver.try_iter().take(CAPACITY)) {
            match message {
                Message::Line(line) => {
                    let _ = out.write_all(&line);
                }
                Message::Flush(done) => {
                    let _ = out.flush();
                    let _ = done.send(());
                }
            }
        }
        let _ = out.flush();
    }
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

//! An incremental splitter of NDJSON.

use std::fmt;

/// A line longer than allowed; the stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// The longest line allowed, in bytes.
    pub limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a line is longer than {} bytes", self.limit)
    }
}

impl std::error::Error for TooLong {}

/// Splits bytes that arrive in any pieces into lines. Empty lines are skipped, a carriage return before the line feed
/// is dropped.
#[derive(Debug)]
pub struct Lines {
    limit: usize,
    held: Vec<u8>,
    /// Start of what was not given out yet.
    start: usize,
    /// Up to here there is no line feed.
    seen: usize,
}

impl Lines {
    /// A splitter that refuses lines longer than `limit` bytes (64 MiB is plenty: a batch of embeddings is one line).
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, held: Vec::new(), start: 0, seen: 0 }
    }

    /// Takes the next bytes; then call [`Self::next_line`] until it gives `None`.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.held.drain(..self.start);
            self.seen -= self.start;
            self.start = 0;
        }
        self.held.extend_from_slice(bytes);
    }

    /// The next whole line, without its end.
    ///
    /// # Errors
    /// [`TooLong`] when a line, whole or not, exceeds the limit.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, TooLong> {
        loop {
            let fresh = self.held.get(self.seen..).unwrap_or_default();
            let Some(found) = fresh.iter().position(|&b| b == b'\n') else {
                self.seen = self.held.len();
                let open = self.seen - self.start;
                return if open > self.limit { Err(TooLong { limit: self.limit }) } else { Ok(None) };
            };
            let (from, to) = (self.start, self.seen + found);
            self.start = to + 1;
            self.seen = self.start;
            if to - from > self.limit {
                return Err(TooLong { limit: self.limit });
            }
            let line = self.held.get(from..to).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                // looked up again: the borrow checker does not see that the loop ends here
                return Ok(self.held.get(from..from + line.len()));
            }
        }
    }

    /// What is left after the last line feed. Not empty at the end of a stream: the last line was cut (or is a whole
    /// body without a line end).
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.held.get(self.start..).unwrap_or_default()
    }
}

//! What tests may see of a stand-in, and the faults they may put into its next answers.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

/// What goes wrong with one inference request. `after` counts the streamed objects sent before; an answer that is
/// not streamed fails as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens for this long, then all is well.
    DelayHeaders(Duration),
    /// This status and body at once.
    Answer {
        /// The status.
        status: u16,
        /// The body, sent as JSON whatever it is.
        body: String,
    },
    /// The connection closes in the middle of the body.
    Close {
        /// Objects sent before.
        after: usize,
    },
    /// Nothing more comes, and the slot stays taken until the client leaves.
    Stall {
        /// Objects sent before.
        after: usize,
    },
    /// The runner's death: an error line, or 500 when not streamed.
    Crash {
        /// Objects sent before.
        after: usize,
    },
    /// The answer ends without `done: true`, as Ollama's repeat guard ends it.
    EndSilently {
        /// Objects sent before.
        after: usize,
    },
    /// A line that is not JSON, then the rest.
    Garbage {
        /// Objects sent before.
        after: usize,
    },
    /// One object whose text has this many bytes, then the rest.
    HugeLine {
        /// Objects sent before.
        after: usize,
        /// Bytes of its text.
        bytes: usize,
    },
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Its path, with the query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Counts of inference requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Chat, generate and embedding requests received.
    pub received: u64,
    /// Those answered to the end, refusals included.
    pub answered: u64,
    /// Those whose client left before the end.
    pub cancelled: u64,
    /// Those inside now.
    pub in_flight: usize,
    /// Generations that run on now although their clients stopped reading and left; they are inside as well.
    pub abandoned: usize,
}

/// What `/api/ps` says instead of the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lie {
    /// What it said when this was asked for, again and again.
    Old,
    /// Nothing of what is loaded is in GPU memory.
    NoVram,
    /// This body, whatever it is.
    Says(String),
    /// Nothing: the request is never answered.
    Silence,
}

/// Requests remembered for tests.
const REMEMBERED: usize = 1024;

#[derive(Debug, Default)]
struct State {
    seen: VecDeque<Seen>,
    faults: VecDeque<Fault>,
    tally: Tally,
    lie: Option<Lie>,
}

/// The shared notebook.
#[derive(Debug, Default)]
pub(super) struct Control(Mutex<State>);

impl Control {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn saw(&self, seen: Seen) {
        let mut state = self.state();
        if state.seen.len() == REMEMBERED {
            state.seen.pop_front();
        }
        state.seen.push_back(seen);
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state().seen.iter().cloned().collect()
    }

    pub(super) fn inject(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    pub(super) fn next_fault(&self) -> Option<Fault> {
        self.state().faults.pop_front()
    }

    pub(super) fn tally(&self) -> Tally {
        self.state().tally
    }

    /// `/api/ps` lies from now on, or no longer.
    pub(super) fn set_lie(&self, lie: Option<Lie>) {
        self.state().lie = lie;
    }

    pub(super) fn lie(&self) -> Option<Lie> {
        self.state().lie.clone()
    }

    /// So many more generations, or fewer, run on without their client.
    pub(super) fn abandon(&self, change: isize) {
        let tally = &mut self.state().tally;
        tally.abandoned = tally.abandoned.saturating_add_signed(change);
    }

    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.tally.received += 1;
        state.tally.in_flight += 1;
    }

    pub(super) fn finish(&self, answered: bool) {
        let tally = &mut self.state().tally;
        tally.in_flight = tally.in_flight.saturating_sub(1);
        *(if answered { &mut tally.answered } else { &mut tally.cancelled }) += 1;
    }
}

//! Time limits of an HTTP/2 connection that hyper does not have: no request for long, an answer that nobody reads.
//!
//! One HTTP/1.1 connection carries one exchange, so its socket tells both. On HTTP/2 a peer may keep the connection alive
//! by pings while it grants a stream no window. So each answer remembers whether it waits to be asked for more, and the
//! connection's task looks at them all at every beat. Time is counted in beats.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;

/// The state of a connection, as far as time limits are concerned.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    h2: Notify,
    /// Requests in hand.
    active: AtomicUsize,
    /// Requests ever.
    begun: AtomicUsize,
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    open: Vec<Weak<Mutex<Slot>>>,
    /// Beats without a request, and how many there had been.
    idle: u32,
    begun: usize,
}

/// An answer on its way.
#[derive(Debug)]
struct Slot {
    /// Gone when nobody read it for too long.
    body: Option<Body>,
    /// A piece was taken and no more has been asked for since.
    handed: bool,
    beats: u32,
}

/// How many beats something may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    pub(super) every: Duration,
    idle: u32,
    unread: u32,
}

impl Rhythm {
    /// Beats for a connection that may be idle, and answers that may be left unread, for so long.
    pub(super) fn new(idle: Duration, unread: Duration) -> Self {
        let every = (idle.min(unread) / 2).max(Duration::from_millis(10));
        let beats = |time: Duration| u32::try_from(time.as_nanos().div_ceil(every.as_nanos())).unwrap_or(u32::MAX);
        Self { every, idle: beats(idle), unread: beats(unread) }
    }
}

/// What to do with a connection after a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Stay,
    /// Say goodbye: it carries nothing.
    Leave,
    /// The goodbye was not answered.
    Drop,
}

impl Pulse {
    /// The peer has said that it speaks HTTP/2.
    pub(super) fn speaks_h2(&self) {
        self.h2.notify_one();
    }

    /// Resolves once, when the peer has said so.
    pub(super) async fn until_h2(&self) {
        self.h2.notified().await;
    }

    /// Counts a request until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Looks at everything once per beat.
    pub(super) fn beat(&self, rhythm: Rhythm) -> Verdict {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let unread = |slot: &Weak<Mutex<Slot>>| slot.upgrade().is_some_and(|slot| read_on(&slot, rhythm.unread));
        answers.open.retain(unread);
        let begun = self.begun.load(Ordering::Relaxed);
        let busy = self.active.load(Ordering::Relaxed) > 0 || begun != answers.begun;
        answers.begun = begun;
        answers.idle = if busy { 0 } else { answers.idle + 1 };
        match answers.idle {
            idle if idle >= rhythm.idle.saturating_mul(2) => Verdict::Drop,
            idle if idle >= rhythm.idle => Verdict::Leave,
            _ => Verdict::Stay,
        }
    }
}

/// Whether an answer is still worth watching; one that nobody reads is let go, and with it what it holds.
fn read_on(slot: &Mutex<Slot>, most: u32) -> bool {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.beats = if slot.handed { slot.beats + 1 } else { 0 };
    if slot.beats <= most {
        return true;
    }
    let unread = slot.body.take();
    drop(slot);
    drop(unread); // outside the lock: it settles a request
    false
}

/// A request in hand.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Busy {
    /// The answer's body, watched.
    pub(super) fn watch(self, body: Body) -> Body {
        let slot = Arc::new(Mutex::new(Slot { body: Some(body), handed: false, beats: 0 }));
        let mut answers = self.0.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.open.push(Arc::downgrade(&slot));
        drop(answers);
        Body::new(Watched { slot, _busy: self })
    }
}

/// A body whose reader is watched.
struct Watched {
    slot: Arc<Mutex<Slot>>,
    _busy: Busy,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        (slot.handed, slot.beats) = (false, 0);
        let Some(body) = slot.body.as_mut() else {
            let gone = std::io::Error::new(std::io::ErrorKind::TimedOut, "the answer was left unread");
            return Poll::Ready(Some(Err(axum::Error::new(gone))));
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        slot.handed = frame.is_some();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.body.as_ref().is_some_and(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.body.as_ref().map_or(SizeHint::default(), hyper::body::Body::size_hint)
    }
}

//! An answer on its way: read at full speed into bounded memory, taken at the caller's speed.
//!
//! A caller that reads slowly, or not at all, never slows the pump and so never holds a GPU slot (defect B6).
//! What it has not taken is counted against its own bound and against one bound over all replies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::domain::{Event, Fault, FaultClass};
use crate::scheduler::Permit;

/// Most events of one reply that wait to be taken; far above any real answer, the bytes bind first.
const MOST_EVENTS: usize = 1 << 20;

/// What a reply hands out.
pub type Taken = Result<Event, Fault>;

/// The same on its way, with its bytes. The channel's memory is blocks of these and every reply has one: a fault, which
/// comes once if at all, is kept out of them.
type Sent = (Result<Event, Box<Failed>>, usize);

/// How a reply ends badly.
#[derive(Debug)]
struct Failed {
    fault: Fault,
    /// The permit, where the call used up nothing of it.
    unused: Option<Permit>,
}

/// Bytes that replies may hold in memory.
#[derive(Debug, Clone)]
pub struct Budget {
    held: Arc<AtomicUsize>,
    whole: usize,
    each: usize,
}

impl Budget {
    /// `whole` bytes over all replies, `each` for one of them.
    #[must_use]
    pub fn new(whole: usize, each: usize) -> Self {
        Self { held: Arc::default(), whole, each }
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// The bytes one reply holds; given back when it goes.
#[derive(Debug)]
struct Account {
    budget: Budget,
    held: AtomicUsize,
}

impl Account {
    fn add(&self, bytes: usize) -> Result<(), Fault> {
        let mine = self.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let all = self.budget.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if mine > self.budget.each || all > self.budget.whole {
            let text =
                format!("the answer was cut: {mine} bytes of it were not read in time (limit {})", self.budget.each);
            return Err(Fault::new(FaultClass::SlowReader, text));
        }
        Ok(())
    }

    fn sub(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(*self.held.get_mut(), Ordering::Relaxed);
    }
}

/// The pump's end.
#[derive(Debug)]
pub(super) struct Sink {
    account: Arc<Account>,
    tx: mpsc::Sender<Sent>,
}

impl Sink {
    /// Hands over an event that took `bytes` upstream.
    ///
    /// # Errors
    /// The fault that ends the reply when the caller reads too slowly; it has been handed over as well.
    pub(super) fn event(&self, event: Event, bytes: usize) -> Result<(), Fault> {
        let room = self.account.add(bytes);
        if let Err(fault) = room {
            self.fault(fault.clone());
            return Err(fault);
        }
        // the other end is gone or full of events: the reply ends when its handle is dropped
        let _ = self.tx.try_send((Ok(event), bytes));
        Ok(())
    }

    /// Ends the reply with a fault.
    pub(super) fn fault(&self, fault: Fault) {
        self.fail(Failed { fault, unused: None });
    }

    /// Ends the reply with a refusal that did no work, and hands the permit on: the call may be made again in its turn.
    /// A caller that has gone, or does not want it, drops it, which frees the slot.
    pub(super) fn refused(&self, fault: Fault, permit: Permit) {
        self.fail(Failed { fault, unused: Some(permit) });
    }

    fn fail(&self, failed: Failed) {
        let _ = self.tx.try_send((Err(Box::new(failed)), 0));
    }
}

/// The caller's end. Dropping it before the last event stops the pump, which cancels the upstream call and frees the slot.
#[derive(Debug)]
pub struct Reply {
    account: Arc<Account>,
    rx: mpsc::Receiver<Sent>,
    pump: Option<AbortHandle>,
    unused: Option<Permit>,
}

/// Both ends of a reply.
pub(super) fn pipe(budget: &Budget) -> (Sink, Reply) {
    let account = Arc::new(Account { budget: budget.clone(), held: AtomicUsize::new(0) });
    let (tx, rx) = mpsc::channel(MOST_EVENTS);
    (Sink { account: Arc::clone(&account), tx }, Reply { account, rx, pump: None, unused: None })
}

impl Reply {
    pub(super) fn driven_by(mut self, pump: AbortHandle) -> Self {
        self.pump = Some(pump);
        self
    }

    /// The next event or the fault that ends the reply; `None` after the end.
    pub async fn next(&mut self) -> Option<Taken> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The permit of a call that was refused without any work: whoever makes the call again at the same endpoint need
    /// not queue for it.
    pub fn unused(&mut self) -> Option<Permit> {
        self.unused.take()
    }

    /// As [`Reply::next`], for hand-written bodies.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Taken>> {
        self.rx.poll_recv(cx).map(|next| {
            next.map(|(taken, bytes)| {
                self.account.sub(bytes);
                if taken.as_ref().is_ok_and(is_last) {
                    // the pump is about to end by itself, and has yet to tell what it learned
                    self.pump = None;
                }
                taken.map_err(|failed| {
                    self.unused = failed.unused;
                    failed.fault
                })
            })
        })
    }
}

fn is_last(event: &Event) -> bool {
    match event {
        Event::Piece(piece) => piece.finish.is_some(),
        Event::Vectors(_) => true,
        Event::Error(_) => false,
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(pump) = &self.pump {
            pump.abort();
        }
    }
}

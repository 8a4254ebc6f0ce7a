//! The task that settles requests: metrics and the ledger, off the request's path.

use tokio::sync::mpsc;

use crate::ledger::{Ledger, Record};

/// Settlements that may wait for the task.
const WAITING: usize = 1 << 16;

/// The sending end; clones are handles.
#[derive(Debug, Clone)]
pub struct Settler(mpsc::Sender<Box<Record>>);

impl Settler {
    /// Sends without waiting. A settlement that finds the channel full is lost and said to be so.
    pub(super) fn send(&self, record: Box<Record>) {
        if self.0.try_send(record).is_err() {
            tracing::warn!("a request could not be entered in the ledger: the settling task is behind or gone");
        }
    }
}

/// The settling task and its sending end. The task ends when every sender is gone and all is settled.
pub fn settler(ledger: Ledger) -> (Settler, impl Future<Output = ()> + Send) {
    let (tx, mut rx) = mpsc::channel::<Box<Record>>(WAITING);
    let task = async move {
        while let Some(record) = rx.recv().await {
            ledger.enter(&record);
        }
    };
    (Settler(tx), task)
}

//! The guard of a request: whatever happens to it, it is settled exactly once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::{Clock, Dialect, Event, Fault, FaultClass, Moment, Outcome, Overflow, RequestId};
use crate::ledger::Record;

use super::settle::Settler;

/// Moved into the reply's body; its drop only sends the record to the settling task.
#[derive(Debug)]
pub struct InFlight {
    id: RequestId,
    record: Option<Box<Record>>,
    arrived: Moment,
    clock: Clock,
    settler: Settler,
    /// Whether upstream said what the request took.
    told: bool,
    /// Cancelled when the gateway stops without waiting for it.
    cut: CancellationToken,
}

impl InFlight {
    pub(super) fn begin(
        id: RequestId,
        route: &'static str,
        clock: Clock,
        settler: Settler,
        cut: CancellationToken,
    ) -> Self {
        let record = Some(Box::new(Record::new(id, route, clock.wall())));
        Self { id, record, arrived: clock.now(), clock, settler, told: false, cut }
    }

    /// The record, to fill in what becomes known.
    pub(super) fn note(&mut self, write: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            write(record);
        }
    }

    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    /// What Ollama says of streams on these two routes only, refusals of a stream included (recordings `v1_messages_*`).
    pub(super) fn stream_headers(&self) -> Vec<(&'static str, String)> {
        let says = |record: &&Record| record.stream && matches!(record.route, "/v1/messages" | "/v1/responses");
        match self.record.as_deref().filter(says) {
            Some(_) => {
                vec![("Cache-Control", "no-cache".to_owned()), ("Connection", "keep-alive".to_owned())]
            }
            None => Vec::new(),
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        self.record.as_ref().map_or(Dialect::Ollama, |record| record.dialect)
    }

    /// When the request arrived, since 1970.
    pub(super) fn arrived_wall(&self) -> Duration {
        self.record.as_ref().map_or(Duration::ZERO, |record| record.arrived)
    }

    /// How long it waited for its slot.
    pub(super) fn queued(&self) -> Duration {
        self.record.as_ref().map_or(Duration::ZERO, |record| record.usage.queue)
    }

    /// What became of a prompt that did not fit.
    pub(super) fn overflow(&self) -> Option<&Overflow> {
        self.record.as_ref()?.overflow.as_ref()
    }

    /// Time since the request arrived.
    pub(super) fn age(&self) -> Duration {
        self.clock.now().since(self.arrived)
    }

    /// Notes what an event from upstream says about time and tokens.
    pub(super) fn event(&mut self, event: &Event) {
        let age = self.age();
        self.told |= match event {
            Event::Piece(piece) => piece.finish.is_some(),
            Event::Vectors(_) => true,
            Event::Error(_) => false,
        };
        self.note(|record| {
            record.usage.first_event.get_or_insert(age);
            let metrics = match event {
                Event::Piece(piece) => match &piece.finish {
                    Some(finish) => finish.metrics,
                    None => {
                        // a piece is a token or a little more; the last one corrects the count
                        record.usage.output_tokens += 1;
                        return;
                    }
                },
                Event::Vectors(vectors) => vectors.metrics,
                Event::Error(_) => return,
            };
            record.usage.load = metrics.load;
            record.usage.prompt = metrics.prompt;
            record.usage.generation = metrics.generation;
            record.usage.prompt_tokens = metrics.prompt_tokens;
            record.usage.output_tokens = metrics.output_tokens;
        });
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.note(|record| record.usage.bytes_out += bytes as u64);
    }

    pub(super) fn answered(&mut self) {
        self.note(|record| record.outcome = Outcome::Answered);
    }

    /// A whole body was handed over: what was not faulted before is answered.
    pub(super) fn delivered(&mut self) {
        self.note(|record| {
            if record.outcome == Outcome::Left {
                record.outcome = Outcome::Answered;
            }
        });
    }

    pub(super) fn faulted(&mut self, fault: &Fault) {
        self.note(|record| {
            record.outcome = Outcome::Faulted(fault.class);
            record.reason = Some(fault.message.clone());
            record.detail.clone_from(&fault.detail);
        });
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let age = self.age();
        if let Some(mut record) = self.record.take() {
            record.usage.total = age;
            if let Some(first) = record.usage.first_event.filter(|_| !self.told) {
                // nobody will say how long it took to write: the answer ended before its end
                record.usage.generation = age.saturating_sub(first);
            }
            if record.outcome == Outcome::Left && std::thread::panicking() {
                // nobody left: a defect of ours ends it here
                record.outcome = Outcome::Faulted(FaultClass::Internal);
                record.reason = Some("a defect of the gateway".to_owned());
                if record.status == Record::LEFT {
                    record.status = 500;
                }
            }
            if record.outcome == Outcome::Left && self.cut.is_cancelled() {
                record.outcome = Outcome::Faulted(FaultClass::Stopped);
            }
            self.settler.send(record);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::gateway::settle::settler;
    use crate::ledger::Ledger;
    use crate::telemetry::{Registry, RequestMetrics};

    #[tokio::test]
    async fn a_request_that_a_panic_ended_is_a_defect_and_nobody_left() {
        let ledger = Ledger::new(RequestMetrics::register(&Registry::new()), None);
        let (settler, settling) = settler(ledger.clone());
        let begin =
            |settler| InFlight::begin(RequestId(1), "/api/chat", Clock::real(), settler, CancellationToken::new());
        let flight = begin(settler.clone());
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _flight = flight;
            panic!("a defect, for the test");
        }));
        assert!(ended.is_err());
        drop(begin(settler));
        settling.await;
        let totals = ledger.totals();
        assert_eq!((totals.faulted.load(Relaxed), totals.left.load(Relaxed)), (1, 1));
    }
}

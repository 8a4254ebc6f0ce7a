//! A streaming caller that hears from us while it waits.
//!
//! Owns the comment lines and when they are sent. The rest of the line is walked inside the reply's body, so that a caller
//! that leaves takes its place in the queue with it. It owns no step (`line`) and no form (`wire`).

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::domain::{Fault, RequestId};
use crate::scheduler::Scheduler;
use crate::wire::Encoder;

use super::answer::{Answer, AnswerBody};
use super::in_flight::InFlight;
use super::line::{Gateway, Ready, Started, good, head, refused};
use super::queue::eta;

/// A request on its way to its first event, and the guard that walks along.
type Walk = BoxFuture<'static, (Ready, InFlight, Result<Started, Fault>)>;

/// The walk, and what its caller hears meanwhile.
pub(super) struct Waiting {
    walk: Walk,
    ticks: Interval,
    scheduler: Scheduler,
    label: RequestId,
    /// Bytes said so far; the guard is away and counts them later.
    said: usize,
}

/// What a poll found.
pub(super) enum Heard {
    /// A line for the caller.
    Comment(String),
    /// The end of the walk.
    Arrived(Box<(Ready, InFlight, Result<Started, Fault>)>),
}

impl Gateway {
    /// From the queue to the first event, aloud. What can be said at once, a refusal above all, keeps its status; else the
    /// head goes out now, and what comes later comes in the stream.
    pub(super) async fn wait_aloud(self: &Arc<Self>, mut ready: Ready, every: Duration, flight: InFlight) -> Answer {
        let (label, headers) = (flight.id(), head(&ready, &flight));
        let encoder = Encoder::new(&ready.request, label, flight.arrived_wall().as_secs());
        let gateway = Arc::clone(self);
        let mut walk: Walk = Box::pin(async move {
            let mut flight = flight;
            flight.note(|record| record.status = 200);
            let started = gateway.start(&mut ready, &mut flight).await;
            (ready, flight, started)
        });
        match std::future::poll_fn(|cx| Poll::Ready(walk.as_mut().poll(cx))).await {
            Poll::Ready((ready, flight, Ok(started))) => good(ready, started, flight),
            Poll::Ready((_, flight, Err(fault))) => refused(fault, flight),
            Poll::Pending => {
                let mut ticks = interval(every);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks.reset(); // the first one is due after an interval, not at once
                let content_type = encoder.content_type(true);
                let waiting = Waiting { walk, ticks, scheduler: self.parts.scheduler.clone(), label, said: 0 };
                Answer { status: 200, headers, content_type, body: AnswerBody::waiting(waiting, encoder) }
            }
        }
    }
}

impl Waiting {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        if let Poll::Ready((ready, mut flight, started)) = self.walk.as_mut().poll(cx) {
            flight.sent(self.said);
            return Poll::Ready(Heard::Arrived(Box::new((ready, flight, started))));
        }
        self.ticks.poll_tick(cx).map(|_| Heard::Comment(self.place()))
    }

    /// Counts bytes that went out while the guard is away.
    pub(super) fn said(&mut self, bytes: usize) {
        self.said += bytes;
    }

    fn place(&self) -> String {
        match self.scheduler.estimate(self.label) {
            Some(estimate) => match eta(&estimate) {
                Some(seconds) => format!("waiting; position {}, about {} s", estimate.position, seconds.ceil()),
                None => format!("waiting; position {}, {}", estimate.position, estimate.reason.text()),
            },
            None => "running; waiting for the first token".to_owned(),
        }
    }
}

//! The scheduler's machine under real time: admission and slots as futures that give back what they hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::control::Control;
use crate::domain::{Clock, Moment};
use crate::sim::core::{Action, Ask, Core, Counts, Id, Limits, Resident, Ticket};

/// Who waits for what.
struct Inner {
    core: Core,
    admissions: HashMap<Id, oneshot::Sender<Option<Duration>>>,
    slots: HashMap<Ticket, oneshot::Sender<()>>,
    last: Id,
}

/// The machine, its clock and its waiters.
pub(super) struct Stage {
    inner: Mutex<Inner>,
    pub(super) clock: Clock,
    speed: f64,
    changed: Notify,
    pub(super) control: Control,
}

impl Stage {
    pub(super) fn new(limits: Limits, speed: f64) -> Self {
        let inner = Inner { core: Core::new(limits), admissions: HashMap::new(), slots: HashMap::new(), last: 0 };
        let (changed, control) = (Notify::new(), Control::default());
        Self { inner: Mutex::new(inner), clock: Clock::real(), speed, changed, control }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the machine something and tells its decisions to those who wait for them.
    fn call(&self, step: impl FnOnce(&mut Core, Moment) -> Vec<Action>) {
        let mut inner = self.inner();
        for action in step(&mut inner.core, self.clock.now()) {
            // a receiver that is gone gives back what it was given when its guard drops
            match action {
                Action::Ready { id, waited } => drop(inner.admissions.remove(&id).map(|to| to.send(Some(waited)))),
                Action::Busy { id } => drop(inner.admissions.remove(&id).map(|to| to.send(None))),
                Action::Slot(ticket) => drop(inner.slots.remove(&ticket).map(|to| to.send(()))),
            }
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// How long `model_time` really takes.
    pub(super) fn real(&self, model_time: Duration) -> Duration {
        scaled(model_time, 1.0 / self.speed)
    }

    /// How long the models would say that `real_time` was.
    pub(super) fn model(&self, real_time: Duration) -> Duration {
        scaled(real_time, self.speed)
    }

    /// Sleeps until `due`.
    pub(super) async fn until(&self, due: Moment) {
        let left = due.since(self.clock.now());
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
    }

    /// A new request; everything it gets is tied to the lease.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        let mut inner = self.inner();
        inner.last += 1;
        let id = inner.last;
        drop(inner);
        self.control.begin();
        Lease { stage: self.clone(), id, answered: false }
    }

    pub(super) fn expire(&self, weights: &str) {
        self.call(|core, now| core.expire(now, weights));
    }

    pub(super) fn residents(&self) -> Vec<Resident> {
        self.call(Core::tick);
        self.inner().core.residents()
    }

    pub(super) fn counts(&self) -> Counts {
        self.inner().core.counts().clone()
    }

    /// Wakes the machine whenever something falls due by itself.
    pub(super) async fn run_timers(&self, stop: CancellationToken) {
        loop {
            let changed = self.changed.notified();
            let due = self.inner().core.next_due();
            let timer = async {
                match due {
                    Some(due) => self.until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed => {}
                () = timer => self.call(Core::tick),
            }
        }
    }
}

fn scaled(time: Duration, by: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * by).unwrap_or(Duration::MAX)
}

/// A request inside. Dropping it withdraws whatever it waits for and gives back whatever it holds.
pub(super) struct Lease {
    pub(super) stage: Arc<Stage>,
    id: Id,
    answered: bool,
}

impl Lease {
    /// Waits for the runner; the time that took, or `None` when the queue for loads is full.
    pub(super) async fn admit(&self, ask: impl FnOnce(Id) -> Ask) -> Option<Duration> {
        let (to, wait) = oneshot::channel();
        self.stage.inner().admissions.insert(self.id, to);
        self.stage.call(|core, now| core.ask(now, ask(self.id)));
        wait.await.ok().flatten()
    }

    /// Waits for a slot; the time that took.
    pub(super) async fn slot(&self, input: u32) -> (Slot, Duration) {
        let since = self.stage.clock.now();
        let (to, wait) = oneshot::channel();
        let ticket = (self.id, input);
        let slot = Slot { stage: self.stage.clone(), ticket };
        self.stage.inner().slots.insert(ticket, to);
        let mut at_once = false;
        self.stage.call(|core, now| {
            let actions = core.acquire(now, ticket);
            at_once = actions.contains(&Action::Slot(ticket));
            actions
        });
        // the sender only goes away with the stage
        let _ = wait.await;
        (slot, if at_once { Duration::ZERO } else { self.stage.clock.now().since(since) })
    }

    /// The client has its answer; leaving from now on is no cancellation.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stage.inner().admissions.remove(&self.id);
        self.stage.call(|core, now| core.end(now, self.id));
        self.stage.control.finish(self.answered);
    }
}

/// A slot, or the place in the queue for one.
pub(super) struct Slot {
    stage: Arc<Stage>,
    ticket: Ticket,
}

impl Slot {
    /// Gives it back early; dropping it later does no harm.
    pub(super) fn free(&self) {
        self.stage.inner().slots.remove(&self.ticket);
        self.stage.call(|core, now| core.release(now, self.ticket));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.free();
    }
}

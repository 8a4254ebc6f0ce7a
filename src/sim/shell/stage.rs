//! The scheduler's machine under real time: admission and slots as futures that give back what they hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::pace::Pace;
use crate::domain::{Clock, Moment};
use crate::sim::core::{Action, Ask, Core, Counts, Id, LoadFault, Resident, RunnerFault, Ticket};

/// Who waits for what.
struct Inner {
    core: Core,
    admissions: HashMap<Id, oneshot::Sender<Result<Duration, NotAdmitted>>>,
    slots: HashMap<Ticket, oneshot::Sender<()>>,
    paces: HashMap<Arc<str>, Pace>,
    last: Id,
}

/// Why there is no runner for a request.
#[derive(Debug)]
pub(super) enum NotAdmitted {
    /// The queue for loads is full.
    Busy,
    /// Its load failed.
    Failed(LoadFault),
}

/// The machine, its clock and its waiters.
pub(super) struct Stage {
    inner: Mutex<Inner>,
    pub(super) clock: Clock,
    speed: f64,
    changed: Notify,
    /// Some answers got slower or faster.
    paced: Notify,
    pub(super) control: Control,
}

impl Stage {
    pub(super) fn new(core: Core, speed: f64) -> Self {
        let (admissions, slots, paces) = (HashMap::new(), HashMap::new(), HashMap::new());
        let inner = Inner { core, admissions, slots, paces, last: 0 };
        let (changed, paced, control) = (Notify::new(), Notify::new(), Control::default());
        Self { inner: Mutex::new(inner), clock: Clock::real(), speed, changed, paced, control }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the machine something and tells its decisions to those who wait for them.
    fn call(&self, step: impl FnOnce(&mut Core, Moment) -> Vec<Action>) {
        let mut inner = self.inner();
        let now = self.clock.now();
        let actions = step(&mut inner.core, now);
        let repaced = inner.repace(now);
        for action in actions {
            // a receiver that is gone gives back what it was given when its guard drops
            let (id, told) = match action {
                Action::Ready { id, waited } => (id, Ok(waited)),
                Action::Busy { id } => (id, Err(NotAdmitted::Busy)),
                Action::Failed { id, why } => (id, Err(NotAdmitted::Failed(why))),
                Action::Slot(ticket) => {
                    let _ = inner.slots.remove(&ticket).map(|to| to.send(()));
                    continue;
                }
            };
            let _ = inner.admissions.remove(&id).map(|to| to.send(told));
        }
        drop(inner);
        self.changed.notify_one();
        if repaced {
            self.paced.notify_waiters();
        }
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

    /// The next load of these weights goes wrong.
    pub(super) fn upset_load(&self, weights: &str, fault: LoadFault) {
        self.inner().core.upset_load(weights, fault);
    }

    /// These weights are no longer on the disk.
    pub(super) fn remove(&self, weights: &str) {
        self.inner().core.remove(weights);
    }

    /// Does something to a loaded runner; false when there is none.
    pub(super) fn upset(&self, weights: &str, how: RunnerFault) -> bool {
        let mut there = false;
        self.call(|core, now| {
            let (found, actions) = core.upset(now, weights, how);
            there = found;
            actions
        });
        there
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

impl Inner {
    /// Tells the clocks of progress how many slots are in use; true when some answers change their speed.
    fn repace(&mut self, now: Moment) -> bool {
        let Self { core, paces, .. } = self;
        paces.iter_mut().fold(false, |changed, (weights, pace)| pace.run(now, core.running(weights)) || changed)
    }
}

pub(super) fn scaled(time: Duration, by: f64) -> Duration {
    Duration::try_from_secs_f64(time.as_secs_f64() * by).unwrap_or(Duration::MAX)
}

/// A request inside. Dropping it withdraws whatever it waits for and gives back whatever it holds.
pub(super) struct Lease {
    pub(super) stage: Arc<Stage>,
    id: Id,
    answered: bool,
}

impl Lease {
    /// Waits for the runner; the time that took.
    pub(super) async fn admit(&self, ask: impl FnOnce(Id) -> Ask) -> Result<Duration, NotAdmitted> {
        let (to, wait) = oneshot::channel();
        self.stage.inner().admissions.insert(self.id, to);
        self.stage.call(|core, now| core.ask(now, ask(self.id)));
        // the sender only goes away with the stage
        wait.await.unwrap_or(Err(NotAdmitted::Busy))
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

    /// Begins an answer in the slot that the lease has; several on one runner make `together` times what one makes.
    pub(super) fn begin(&self, together: f64) -> Run {
        let mut inner = self.stage.inner();
        let start = self.stage.clock.now();
        let Inner { core, paces, .. } = &mut *inner;
        let weights = core.weights_of(self.id).unwrap_or_default();
        let pace = paces.entry(weights.clone()).or_insert_with(|| Pace::new(together, start));
        pace.run(start, core.running(&weights));
        let begun = pace.progress(start);
        drop(inner);
        Run { stage: self.stage.clone(), weights, begun, start }
    }

    /// Returns at once while the runner is sound, and never once it hangs.
    pub(super) async fn unless_hung(&self) {
        let hangs = self.stage.inner().core.hangs(self.id);
        if hangs {
            std::future::pending::<()>().await;
        }
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

/// An answer on its way, as fast as its runner's other answers let it.
pub(super) struct Run {
    stage: Arc<Stage>,
    weights: Arc<str>,
    /// The runner's progress when it began.
    begun: Duration,
    /// When it began.
    pub(super) start: Moment,
}

impl Run {
    /// Waits until the answer is as far as it would be after `alone` if it ran alone; the moment when it was.
    pub(super) async fn until(&self, alone: Duration) -> Moment {
        loop {
            let changed = self.stage.paced.notified();
            let pace = |inner: &Inner| inner.paces.get(&self.weights).map(|pace| pace.due(self.begun + alone));
            let due = pace(&self.stage.inner()).unwrap_or(Moment::ZERO);
            let left = due.since(self.stage.clock.now());
            if left.is_zero() {
                return due;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = changed => {}
            }
        }
    }
}

//! The async side of the core: futures that wait, permits that give back, one timer.
//!
//! The core sits behind a mutex rather than in a task of its own: a step takes microseconds and never blocks, and a
//! request that finds a free slot then costs no task switch. The lock is never held across an await, and messages to
//! waiters leave after it is released, because a waiter that has gone gives its permit back by taking the lock again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::domain::{AppName, Clock, EndpointId, Moment, RequestId, ResidencyCommand};

use crate::telemetry::SchedulerMetrics;

use super::core::{
    Bounds, Core, CoreView, Decision, Estimate, Input, Lesson, LoadError, Notice, Observed, Outlook, Queued, Refused,
    Room, Sighting, Ticket, TicketId,
};

/// The gateway's admission desk; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Scheduler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    clock: Clock,
    /// To whoever loads and unloads.
    commands: mpsc::Sender<ResidencyCommand>,
    metrics: SchedulerMetrics,
    /// The earliest deadline came nearer.
    sooner: Notify,
    /// Nothing waits and nothing runs any more.
    idle: Notify,
}

#[derive(Debug)]
struct State {
    core: Core,
    next_id: u64,
    waiters: HashMap<TicketId, Waiter>,
    /// The same by what callers know them by.
    labels: HashMap<RequestId, TicketId>,
    /// Of requests that run: how they are taken back.
    recalls: HashMap<TicketId, CancellationToken>,
}

/// Who waits for a verdict.
#[derive(Debug)]
struct Waiter {
    label: RequestId,
    verdict: oneshot::Sender<Verdict>,
}

impl State {
    fn leave(&mut self, id: TicketId) -> Option<oneshot::Sender<Verdict>> {
        let waiter = self.waiters.remove(&id)?;
        if self.labels.get(&waiter.label) == Some(&id) {
            self.labels.remove(&waiter.label);
        }
        Some(waiter.verdict)
    }
}

type Verdict = Result<Permit, Refused>;

/// The right to use one slot now. Giving it back (by [`Permit::settle`] or drop) frees the slot at once.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    id: TicketId,
    endpoint: EndpointId,
    recalled: CancellationToken,
    settled: bool,
}

impl Permit {
    /// Where the request runs.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    /// The request said its first word, or one after it [fell silent](Self::hushed). How long it may say nothing now before
    /// that is suspicious.
    #[must_use]
    pub fn began(&self) -> Duration {
        self.inner.step(Input::Began(self.id));
        self.inner.lock().core.pause(self.id)
    }

    /// Nothing came of the request for as long as [`Permit::began`] said: its runner may hang.
    pub fn hushed(&self) {
        self.inner.step(Input::Hushed(self.id));
    }

    /// Resolves when the request is to be given up: its runner hangs. One of which nothing has come yet is tried again.
    pub fn recalled(&self) -> WaitForCancellationFutureOwned {
        self.recalled.clone().cancelled_owned()
    }

    /// Gives the slot back and tells the scheduler what the request really took.
    pub fn settle(mut self, observed: Observed) {
        self.settled = true;
        self.inner.step(Input::Finish { id: self.id, observed });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.inner.step(Input::Finish { id: self.id, observed: Observed::default() });
        }
    }
}

impl Scheduler {
    /// A scheduler with nothing in it, over endpoints with these rooms (by id). [`Scheduler::run`] must be spawned for
    /// deadlines to be kept, and whoever receives `commands` must report back.
    #[must_use]
    pub fn new(
        bounds: Bounds,
        rooms: &[Room],
        clock: Clock,
        commands: mpsc::Sender<ResidencyCommand>,
        metrics: SchedulerMetrics,
    ) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                core: Core::new(bounds, rooms),
                next_id: 0,
                waiters: HashMap::new(),
                recalls: HashMap::new(),
                labels: HashMap::new(),
            }),
            clock,
            commands,
            metrics,
            sooner: Notify::new(),
            idle: Notify::new(),
        }))
    }

    /// Waits for a slot. Dropping the future withdraws the ticket. The ticket's id is given here.
    ///
    /// # Errors
    /// Why the ticket will not run.
    pub async fn admit(&self, ticket: Ticket) -> Result<Permit, Refused> {
        let (id, verdict) = self.0.submit(ticket);
        let mut place = Place { inner: &self.0, id, waiting: true };
        let verdict = verdict.await;
        place.waiting = false;
        verdict.unwrap_or(Err(Refused::Draining))
    }

    /// Keeps deadlines until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            let sooner = self.0.sooner.notified();
            let next = self.0.lock().core.next_tick();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep(at.since(self.0.clock.now())).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sooner => {}
                () = due => self.0.step(Input::Tick),
            }
        }
    }

    /// Takes nothing new from now on.
    pub fn drain(&self) {
        self.0.step(Input::Drain);
    }

    /// Refuses all that waits.
    pub fn cut(&self) {
        self.0.step(Input::Cut);
    }

    /// An endpoint came or went.
    pub fn endpoint(&self, id: EndpointId, usable: bool, answers: bool) {
        self.0.step(Input::Endpoint { id, usable, answers });
    }

    /// A load that was ordered is over.
    pub fn loaded(&self, endpoint: EndpointId, weights: Box<str>, result: Result<(), LoadError>) {
        self.0.step(Input::Loaded { endpoint, weights, result });
    }

    /// An unload that was ordered is over.
    pub fn unloaded(&self, endpoint: EndpointId, weights: Box<str>, gone: bool) {
        self.0.step(Input::Unloaded { endpoint, weights, gone });
    }

    /// What the GPU at a place of the fleet's list has, and how much of it is in use, in bytes.
    pub fn gpu(&self, place: usize, total: u64, used: u64) {
        self.0.step(Input::Gpu { place, total, used });
    }

    /// A probe that was ordered is over.
    pub fn probed(&self, endpoint: EndpointId, weights: Box<str>, alive: bool) {
        self.0.step(Input::Probed { endpoint, weights, alive });
    }

    /// What an endpoint, asked at `asked`, says is loaded.
    pub fn seen(&self, endpoint: EndpointId, asked: Moment, residents: Vec<Sighting>) {
        self.0.step(Input::Seen { endpoint, asked, residents });
    }

    /// Waits until nothing waits and nothing runs.
    pub async fn drained(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.0.lock().core.is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// The state in numbers.
    #[must_use]
    pub fn view(&self) -> CoreView {
        self.0.lock().core.view()
    }

    /// Sets the least silence after which a runner may be asked for a token. Before the first request.
    pub fn suspect_after(&self, silence: Duration) {
        self.0.lock().core.suspect_after(silence);
    }

    /// Everything learned of runners so far.
    #[must_use]
    pub fn lessons(&self) -> Vec<Lesson> {
        self.0.lock().core.lessons()
    }

    /// Takes over what an earlier process learned.
    pub fn teach(&self, lessons: Vec<Lesson>) {
        self.0.lock().core.teach(lessons);
    }

    /// What waits, next to start first: of one application, or everything.
    #[must_use]
    pub fn queue(&self, app: Option<&AppName>) -> Vec<Queued> {
        let now = self.0.clock.now();
        self.0.lock().core.queue(now, app)
    }

    /// What a request that waits may expect; `None` when it does not wait (any more).
    #[must_use]
    pub fn estimate(&self, label: RequestId) -> Option<Estimate> {
        let state = self.0.lock();
        state.core.estimate(*state.labels.get(&label)?)
    }

    /// What would happen to this ticket if it came now. Nothing is submitted.
    #[must_use]
    pub fn outlook(&self, ticket: &Ticket) -> Outlook {
        let now = self.0.clock.now();
        self.0.lock().core.outlook(now, ticket)
    }

    /// Prompt tokens that `bytes` of text will be for these weights, by what was learned.
    #[must_use]
    pub fn estimate_tokens(&self, weights: &str, bytes: usize) -> u64 {
        self.0.lock().core.estimate_tokens(weights, bytes)
    }
}

/// A place in the queue; leaving it early withdraws the ticket.
struct Place<'a> {
    inner: &'a Arc<Inner>,
    id: TicketId,
    waiting: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.waiting {
            self.inner.lock().leave(self.id);
            self.inner.step(Input::Withdraw(self.id));
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(self: &Arc<Self>, mut ticket: Ticket) -> (TicketId, oneshot::Receiver<Verdict>) {
        let (tx, rx) = oneshot::channel();
        let id = {
            let mut state = self.lock();
            state.next_id += 1;
            let id = TicketId(state.next_id);
            state.waiters.insert(id, Waiter { label: ticket.label, verdict: tx });
            state.labels.insert(ticket.label, id);
            id
        };
        ticket.id = id;
        self.step(Input::Submit(Box::new(ticket)));
        (id, rx)
    }

    fn step(self: &Arc<Self>, input: Input) {
        let mut decisions = Vec::new();
        let mut todo = Todo::default();
        let (sooner, idle) = {
            let mut state = self.lock();
            let before = state.core.next_tick();
            if let Input::Finish { id, .. } = &input {
                state.recalls.remove(id);
            }
            state.core.step(self.clock.now(), input, &mut decisions);
            for decision in decisions {
                self.note(decision, &mut state, &mut todo);
            }
            (is_sooner(before, state.core.next_tick()), state.core.is_idle())
        };
        for (waiter, verdict) in todo.messages {
            // a waiter that has gone: the verdict comes back and its permit's drop frees the slot
            if let Some(waiter) = waiter {
                let _ = waiter.send(verdict);
            }
        }
        for command in todo.commands {
            self.order(command);
        }
        for token in todo.recalls {
            token.cancel();
        }
        for notice in todo.notices {
            self.tell(&notice);
        }
        if sooner {
            self.sooner.notify_one();
        }
        if idle {
            self.idle.notify_waiters();
        }
    }

    /// Sorts a decision by what is to be done once the lock is free.
    fn note(self: &Arc<Self>, decision: Decision, state: &mut State, todo: &mut Todo) {
        let (id, verdict) = match decision {
            Decision::Admit { id, class, endpoint, waited, expected } => {
                if let Some(Estimate { reason, wait, .. }) = expected {
                    self.metrics.waited(reason.as_str(), class.as_str(), waited, Some(wait));
                }
                let recalled = CancellationToken::new();
                state.recalls.insert(id, recalled.clone());
                (id, Ok(Permit { inner: Arc::clone(self), id, endpoint, recalled, settled: false }))
            }
            Decision::Refuse { id, why } => (id, Err(why)),
            Decision::Residency(command) => return todo.commands.push(command),
            Decision::Recall { id } => return todo.recalls.extend(state.recalls.remove(&id)),
            Decision::Notice(notice) => return todo.notices.push(notice),
        };
        todo.messages.push((state.leave(id), verdict));
    }

    /// Logs and counts what operators should know.
    fn tell(&self, notice: &Notice) {
        let name = |id: &EndpointId| self.metrics.endpoint(id.0).to_owned();
        match notice {
            Notice::Silent { endpoint, model } => {
                self.metrics.trouble(endpoint.0, "silent");
                tracing::warn!(endpoint = name(endpoint), %model,
                    "nothing was heard of an answer for far longer than usual: asking the model for a token");
            }
            Notice::Hushed { endpoint, model, running } => {
                self.metrics.trouble(endpoint.0, "hushed");
                tracing::warn!(endpoint = name(endpoint), %model, running,
                    "every answer of the model stands still for far longer than usual: unless they go on, or a slot comes free and \
                     the model can be asked for a token, each is cut off at the idle time-out");
            }
            Notice::Stuck { endpoint, model, recalled } => {
                self.metrics.trouble(endpoint.0, "stuck");
                tracing::error!(endpoint = name(endpoint), %model, recalled,
                    "the model answers nothing: it is loaded anew; its silent requests go back into the queue, and those \
                     whose answer had begun end with an error");
            }
            Notice::SlotLost { endpoint, model, left, claimed } => {
                self.metrics.trouble(endpoint.0, "slot_lost");
                tracing::warn!(endpoint = name(endpoint), %model, left, claimed,
                    "requests wait inside the server for a slot that should be free: it is loaded anew soon");
            }
            Notice::FewerSlots { endpoint, model, claimed, seems } => {
                self.metrics.trouble(endpoint.0, "fewer_slots");
                tracing::warn!(endpoint = name(endpoint), %model, claimed, seems,
                    "the server serves fewer requests at once than configured, or others keep its slots busy: \
                     check OLLAMA_NUM_PARALLEL there and num_parallel here (gaucho doctor --slots)");
            }
            Notice::Overdue { class, waited, told } => self.metrics.foretold(class.as_str(), *waited, *told),
            Notice::Vanished { endpoint, model } => {
                self.metrics.trouble(endpoint.0, "vanished");
                tracing::warn!(endpoint = name(endpoint), %model,
                    "the model left memory although the gateway did not unload it: the server restarted, made room by \
                     itself (check memory and max_loaded_models here) or somebody else unloaded it");
            }
            Notice::Unhealable { endpoint, model, rest } => {
                self.metrics.trouble(endpoint.0, "unhealable");
                tracing::error!(endpoint = name(endpoint), %model, seconds = rest.as_secs(),
                    "the model could not be unloaded: nothing is sent to this server for a while; look at it");
            }
        }
    }

    /// Hands a command over. At most one per endpoint is out at a time, so the channel has room; were its other end
    /// gone, the process is stopping.
    fn order(self: &Arc<Self>, command: ResidencyCommand) {
        let Err(unsent) = self.commands.try_send(command) else { return };
        match unsent.into_inner() {
            ResidencyCommand::Load { endpoint, weights, .. } => {
                let result = Err(LoadError { reason: "the gateway is stopping".to_owned(), gone: false });
                self.step(Input::Loaded { endpoint, weights, result });
            }
            ResidencyCommand::Unload { endpoint, weights, .. } => {
                self.step(Input::Unloaded { endpoint, weights, gone: false });
            }
            ResidencyCommand::Probe { endpoint, weights, .. } => {
                self.step(Input::Probed { endpoint, weights, alive: true });
            }
        }
    }
}

/// What a step asks for, done once the lock is free.
#[derive(Default)]
struct Todo {
    messages: Vec<(Option<oneshot::Sender<Verdict>>, Verdict)>,
    commands: Vec<ResidencyCommand>,
    recalls: Vec<CancellationToken>,
    notices: Vec<Notice>,
}

fn is_sooner(before: Option<Moment>, after: Option<Moment>) -> bool {
    match (before, after) {
        (None, Some(_)) => true,
        (Some(before), Some(after)) => after < before,
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::domain::{AppName, Class, LoadOrder, RequestId};
    use crate::scheduler::core::{GpuSet, Seat, Work, WorkKind};

    fn ticket(clock: &Clock, wait: Duration) -> Ticket {
        Ticket {
            id: TicketId(0),
            label: RequestId(0),
            again: None,
            app: AppName::parse("x").unwrap(),
            class: Class::Standard,
            weight: 1.0,
            max_concurrent: None,
            max_queued: 10,
            deadline: clock.now().after(wait),
            bytes: 1,
            streams: true,
            work: Work { kind: WorkKind::Generate, prompt_bytes: 1, output_cap: None },
            weights: "blob".into(),
            seats: vec![Seat {
                endpoint: EndpointId(0),
                slots: 1,
                need: 1,
                guess: 1.0,
                keep_alive: Duration::MAX,
                order: order(),
            }],
        }
    }

    fn order() -> Arc<LoadOrder> {
        Arc::new(LoadOrder { model: "m".into(), options: Vec::new(), keep_alive: Duration::MAX, embeds: false })
    }

    fn desk() -> (Scheduler, Clock) {
        let clock = Clock::manual();
        let (commands, _) = mpsc::channel(1);
        let metrics = SchedulerMetrics::register(&crate::telemetry::Registry::new(), vec!["gpu".to_owned()]);
        let bounds = Bounds { queued: 10, queued_bytes: 1000 };
        let desk = Scheduler::new(
            bounds,
            &[Room { bytes: None, models: 3, gpus: GpuSet::default() }],
            clock.clone(),
            commands,
            metrics,
        );
        clock.advance(Duration::from_secs(1));
        let loaded = Sighting { weights: "blob".into(), bytes: 1, slots: 1, order: order() };
        desk.seen(EndpointId(0), clock.now(), vec![loaded]);
        (desk, clock)
    }

    #[tokio::test]
    async fn a_permit_that_is_dropped_frees_its_slot_for_the_next() {
        let (desk, clock) = desk();
        let first = desk.admit(ticket(&clock, Duration::from_secs(9))).await.unwrap();
        let mut second = Box::pin(desk.admit(ticket(&clock, Duration::from_secs(9))));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await.unwrap().endpoint(), EndpointId(0));
        desk.drained().await;
    }

    #[tokio::test]
    async fn a_waiter_that_leaves_is_withdrawn_even_when_it_was_just_admitted() {
        let (desk, clock) = desk();
        let first = desk.admit(ticket(&clock, Duration::from_secs(9))).await.unwrap();
        let mut second = Box::pin(desk.admit(ticket(&clock, Duration::from_secs(9))));
        let mut third = Box::pin(desk.admit(ticket(&clock, Duration::from_secs(9))));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(third);
        assert_eq!(desk.view().queued, 1);
        drop(first); // the verdict for `second` is on its way, unread
        drop(second);
        assert_eq!(desk.view().runners[0].used, 0);
        desk.drained().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_keeps_deadlines() {
        let (desk, clock) = desk();
        let stop = CancellationToken::new();
        let _first = desk.admit(ticket(&clock, Duration::from_secs(9))).await.unwrap();
        let mut second = Box::pin(desk.admit(ticket(&clock, Duration::from_secs(3))));
        assert!(futures_util::poll!(&mut second).is_pending());
        clock.advance(Duration::from_secs(3));
        tokio::select! {
            () = desk.run(stop.clone()) => panic!("stops only when told"),
            verdict = &mut second => assert!(matches!(verdict, Err(Refused::Waited { .. })), "{verdict:?}"),
        }
        stop.cancel();
        desk.run(stop).await;
    }
}

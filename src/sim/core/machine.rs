//! The machine itself: queue, loader, eviction, expiry.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::runner::Runner;
use super::{Action, Ask, Counts, Id, Limits, LoadFault, Resident, Ticket};
use crate::domain::Moment;

/// A request in the queue for loads or in the loader's hands.
#[derive(Debug)]
struct Pending {
    ask: Ask,
    since: Moment,
    /// Its client left. It keeps its place until the loader comes to it.
    gone: bool,
}

/// What the one loader is doing.
#[derive(Debug)]
enum Loader {
    Free,
    /// Waits until some runner is unloaded, then looks again.
    Evicting(Pending),
    Loading {
        pending: Pending,
        until: Moment,
        fault: Option<LoadFault>,
    },
}

/// Where a request is.
#[derive(Debug, Clone)]
enum Place {
    /// In the queue or with the loader.
    Pending(Arc<str>),
    /// Holds this runner.
    Inside(Arc<str>),
}

/// The scheduler's state.
#[derive(Debug)]
pub(in crate::sim) struct Core {
    limits: Limits,
    /// Whether whoever leaves takes everything of his along.
    ideal: bool,
    pub(super) runners: BTreeMap<Arc<str>, Runner>,
    queue: VecDeque<Pending>,
    loader: Loader,
    places: BTreeMap<Id, Place>,
    /// What goes wrong with the next loads.
    pub(super) upsets: BTreeMap<Arc<str>, VecDeque<LoadFault>>,
    /// Weights that are no longer on the disk.
    pub(super) removed: BTreeSet<Arc<str>>,
    counts: Counts,
    actions: Vec<Action>,
}

impl Core {
    pub(in crate::sim) fn new(limits: Limits) -> Self {
        Self {
            limits,
            ideal: false,
            runners: BTreeMap::new(),
            queue: VecDeque::new(),
            loader: Loader::Free,
            places: BTreeMap::new(),
            upsets: BTreeMap::new(),
            removed: BTreeSet::new(),
            counts: Counts::new(),
            actions: Vec::new(),
        }
    }

    /// A server that is as simple, but sound: requests whose clients left are out of the queue at once, and cost
    /// neither an eviction nor a load.
    pub(in crate::sim) fn ideal(self) -> Self {
        Self { ideal: true, ..self }
    }

    /// A request wants a runner.
    pub(in crate::sim) fn ask(&mut self, now: Moment, ask: Ask) -> Vec<Action> {
        self.advance(now);
        let usable = self.runners.get(&ask.weights).is_some_and(|runner| !runner.options.needs_reload(&ask.options));
        let pending = Pending { ask, since: now, gone: false };
        if usable {
            self.enter(&pending.ask.weights.clone(), pending.ask.id);
            self.hand_over(pending, now);
        } else if self.queue.len() >= self.limits.max_queue {
            self.actions.push(Action::Busy { id: pending.ask.id });
        } else {
            self.enter(&pending.ask.weights.clone(), pending.ask.id);
            self.queue.push_back(pending);
            self.pump(now);
        }
        self.take()
    }

    /// A request that has its runner wants a slot of it.
    pub(in crate::sim) fn acquire(&mut self, now: Moment, ticket: Ticket) -> Vec<Action> {
        self.advance(now);
        if let Some(Place::Inside(weights)) = self.places.get(&ticket.0)
            && let Some(runner) = self.runners.get_mut(weights)
        {
            if runner.acquire(ticket) {
                self.actions.push(Action::Slot(ticket));
            }
            let counts = self.counts.entry(weights.clone()).or_default();
            counts.peak_running = counts.peak_running.max(runner.running());
        }
        self.take()
    }

    /// A ticket gives back its slot, or its place in the queue for one.
    pub(in crate::sim) fn release(&mut self, now: Moment, ticket: Ticket) -> Vec<Action> {
        self.advance(now);
        if let Some(Place::Inside(weights)) = self.places.get(&ticket.0).cloned() {
            self.let_go(&weights, |held| *held == ticket);
        }
        self.take()
    }

    /// A request is over: answered, or its client left. Everything it held or waited for is given back.
    pub(in crate::sim) fn end(&mut self, now: Moment, id: Id) -> Vec<Action> {
        self.advance(now);
        match self.places.remove(&id) {
            None => {}
            Some(Place::Pending(weights)) => {
                self.leave(&weights);
                self.cancel(id);
            }
            Some(Place::Inside(weights)) => {
                self.leave(&weights);
                self.let_go(&weights, |held| held.0 == id);
                if let Some(runner) = self.runners.get_mut(&weights) {
                    runner.holders.remove(&id);
                    if runner.holders.is_empty() {
                        runner.expires = now.after(runner.keep_alive);
                    }
                }
            }
        }
        self.settle(now);
        self.take()
    }

    /// The runner of these weights is to go as soon as it is idle (`keep_alive: 0` without a prompt).
    pub(in crate::sim) fn expire(&mut self, now: Moment, weights: &str) -> Vec<Action> {
        self.advance(now);
        if let Some(runner) = self.runners.get_mut(weights) {
            runner.keep_alive = Duration::ZERO;
            runner.expires = now;
        }
        self.settle(now);
        self.take()
    }

    /// Time has passed.
    pub(in crate::sim) fn tick(&mut self, now: Moment) -> Vec<Action> {
        self.advance(now);
        self.take()
    }

    /// When something falls due by itself.
    pub(in crate::sim) fn next_due(&self) -> Option<Moment> {
        let loaded = match &self.loader {
            Loader::Loading { until, .. } => Some(*until),
            _ => None,
        };
        self.runners.values().filter_map(Runner::due).chain(loaded).min()
    }

    /// What is in memory, latest expiry first.
    pub(in crate::sim) fn residents(&self) -> Vec<Resident> {
        let mut all: Vec<_> = self.runners.values().map(resident).collect();
        all.sort_by_key(|resident| {
            std::cmp::Reverse(resident.expires.map_or(u128::MAX, |at| at.since_start().as_nanos()))
        });
        all
    }

    /// The weights of the runner that this request holds.
    pub(in crate::sim) fn weights_of(&self, id: Id) -> Option<Arc<str>> {
        match self.places.get(&id)? {
            Place::Inside(weights) => Some(weights.clone()),
            Place::Pending(_) => None,
        }
    }

    /// Slots of these weights' runner that are in use.
    pub(in crate::sim) fn running(&self, weights: &str) -> usize {
        self.runners.get(weights).map_or(0, Runner::running)
    }

    /// What happened so far.
    pub(in crate::sim) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Does what fell due up to `now`, in order, each at its own moment.
    pub(super) fn advance(&mut self, now: Moment) {
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            self.finish_load(due);
            self.settle(due);
        }
    }

    /// Unloads what is due, then lets the loader go on.
    pub(super) fn settle(&mut self, now: Moment) {
        let before = self.runners.len();
        self.runners.retain(|_, runner| runner.due().is_none_or(|due| due > now));
        let unloaded = self.runners.len() < before;
        if unloaded && matches!(self.loader, Loader::Evicting(_)) {
            // any unload wakes the loader, which then looks at everything again
            if let Loader::Evicting(pending) = std::mem::replace(&mut self.loader, Loader::Free) {
                self.place(pending, now);
            }
        }
        self.pump(now);
    }

    fn pump(&mut self, now: Moment) {
        while matches!(self.loader, Loader::Free) {
            let Some(pending) = self.queue.pop_front() else { break };
            if !pending.gone {
                self.place(pending, now);
            }
        }
    }

    /// Uses, loads, or makes room for the request at the head of the queue.
    fn place(&mut self, pending: Pending, now: Moment) {
        loop {
            let victim = match self.runners.get(&pending.ask.weights) {
                Some(runner) if !runner.options.needs_reload(&pending.ask.options) => {
                    if !pending.gone {
                        self.hand_over(pending, now);
                    }
                    return;
                }
                Some(_) => Some(pending.ask.weights.clone()),
                None if self.has_room(&pending.ask) => return self.start_load(pending, now),
                None => self.victim(),
            };
            let Some(runner) = victim.as_ref().and_then(|key| self.runners.get_mut(key)) else {
                return self.start_load(pending, now);
            };
            runner.keep_alive = Duration::ZERO;
            runner.expires = now;
            if !runner.may_go() {
                self.loader = Loader::Evicting(pending);
                return;
            }
            if let Some(key) = victim {
                self.runners.remove(&key);
            }
        }
    }

    /// Ollama's fit test: four fifths of what is free, unless nothing else is loaded.
    fn has_room(&self, ask: &Ask) -> bool {
        let used: u64 = self.runners.values().map(|runner| runner.fitting).sum();
        let fits = self.limits.memory.is_none_or(|memory| ask.memory <= memory.saturating_sub(used) / 5 * 4);
        self.runners.is_empty() || (self.runners.len() < self.limits.max_loaded && fits)
    }

    /// Shortest keep-alive first, then by blob; the first idle one of that order, else its first.
    fn victim(&self) -> Option<Arc<str>> {
        let mut order: Vec<_> = self.runners.iter().collect();
        order.sort_by_key(|(key, runner)| (runner.keep_alive, (*key).clone()));
        let idle = order.iter().find(|(_, runner)| runner.holders.is_empty());
        idle.or(order.first()).map(|(key, _)| (*key).clone())
    }

    fn start_load(&mut self, pending: Pending, now: Moment) {
        self.counts.entry(pending.ask.weights.clone()).or_default().loads += 1;
        // a client that left while the loader was busy with its request still costs the start of a load
        if !pending.gone {
            let fault = self.load_fault(&pending.ask.weights);
            let until = now.after(match &fault {
                Some(LoadFault::NeverEnds) => Duration::MAX,
                Some(LoadFault::Missing) => Duration::ZERO,
                _ => pending.ask.load,
            });
            self.loader = Loader::Loading { pending, until, fault };
            self.finish_load(now);
        }
    }

    /// Puts the runner into service when its load is done by `now`.
    fn finish_load(&mut self, now: Moment) {
        match std::mem::replace(&mut self.loader, Loader::Free) {
            Loader::Loading { pending, until, fault: Some(why) } if until <= now => {
                self.actions.push(Action::Failed { id: pending.ask.id, why });
            }
            Loader::Loading { pending, until, fault: None } if until <= now => {
                let used: u64 = self.runners.values().map(|runner| runner.fitting).sum();
                let room = self.limits.memory.map_or(u64::MAX, |memory| memory.saturating_sub(used));
                let runner = Runner::new(&pending.ask, pending.ask.memory.min(room), self.limits.keep_alive, now);
                self.runners.insert(pending.ask.weights.clone(), runner);
                self.hand_over(pending, now);
            }
            other => self.loader = other,
        }
    }

    /// The request gets its loaded runner.
    fn hand_over(&mut self, pending: Pending, now: Moment) {
        let Some(runner) = self.runners.get_mut(&pending.ask.weights) else { return };
        runner.holders.insert(pending.ask.id);
        if let Some(keep_alive) = pending.ask.keep_alive {
            runner.keep_alive = keep_alive;
        }
        self.places.insert(pending.ask.id, Place::Inside(pending.ask.weights));
        self.actions.push(Action::Ready { id: pending.ask.id, waited: now.since(pending.since) });
    }

    /// The client of a request without a runner left.
    fn cancel(&mut self, id: Id) {
        if self.ideal {
            self.queue.retain(|pending| pending.ask.id != id);
        } else if let Some(pending) = self.queue.iter_mut().find(|pending| pending.ask.id == id) {
            pending.gone = true;
            self.counts.entry(pending.ask.weights.clone()).or_default().leaked_handlers += 1;
        }
        match &mut self.loader {
            Loader::Evicting(pending) if pending.ask.id == id && self.ideal => self.loader = Loader::Free,
            Loader::Evicting(pending) if pending.ask.id == id => pending.gone = true,
            // the child is killed and the load thrown away
            Loader::Loading { pending, .. } if pending.ask.id == id => self.loader = Loader::Free,
            _ => {}
        }
    }

    fn let_go(&mut self, weights: &Arc<str>, leaves: impl Fn(&Ticket) -> bool) {
        if let Some(runner) = self.runners.get_mut(weights) {
            self.actions.extend(runner.release(leaves).into_iter().map(Action::Slot));
        }
    }

    fn enter(&mut self, weights: &Arc<str>, id: Id) {
        self.places.insert(id, Place::Pending(weights.clone()));
        let counts = self.counts.entry(weights.clone()).or_default();
        counts.inside += 1;
        counts.peak_inside = counts.peak_inside.max(counts.inside);
    }

    fn leave(&mut self, weights: &Arc<str>) {
        let counts = self.counts.entry(weights.clone()).or_default();
        counts.inside = counts.inside.saturating_sub(1);
    }
}

fn resident(runner: &Runner) -> Resident {
    Resident {
        tag: runner.tag.clone(),
        memory: runner.memory,
        fitting: runner.fitting,
        num_ctx: runner.options.num_ctx,
        expires: (runner.keep_alive != Duration::MAX).then_some(runner.expires),
    }
}

//! A pool: the runners of one set of weights on every endpoint, and what waits for them.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::{Class, EndpointId, Moment};

use super::fair::AppIndex;
use super::forecast::as_f64;
use super::lines::Lines;
use super::predict::Speed;
use super::site::{Residency, Runner};
use super::{Core, Running, Ticket, TicketId};

/// Weight of the newest observation in a learned mean.
const NEWEST: f64 = 0.3;

/// Index into [`Core::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PoolIndex(pub(super) usize);

/// Seconds of service that some tickets were predicted to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Load {
    tickets: usize,
    seconds: f64,
}

impl Load {
    pub(super) fn add(&mut self, seconds: f64) {
        self.tickets += 1;
        self.seconds += seconds;
    }

    pub(super) fn sub(&mut self, seconds: f64) {
        self.tickets -= 1;
        // nothing is nothing, whatever the roundings of a long life have added up to
        self.seconds = if self.tickets == 0 { 0.0 } else { (self.seconds - seconds).max(0.0) };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tickets == 0
    }

    pub(super) fn tickets(&self) -> usize {
        self.tickets
    }

    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// An application's line as a sum: the service of each ticket in seconds, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Behind {
    pub(super) app: AppIndex,
    pub(super) each: f64,
    pub(super) tickets: f64,
}

/// What waits for one set of weights, so that asking for it looks at no line.
#[derive(Debug, Clone, Default)]
pub(super) struct Backlog {
    /// The state of lines and speed that it was summed up of.
    of: Option<u64>,
    seconds: f64,
    /// The lines of each class.
    pub(super) classes: [Vec<Behind>; 3],
}

impl Backlog {
    fn clear(&mut self, of: u64) {
        (self.of, self.seconds) = (Some(of), 0.0);
        self.classes.iter_mut().for_each(Vec::clear);
    }

    fn add(&mut self, class: Class, line: Behind) {
        self.seconds += line.each * line.tickets;
        self.classes[class as usize].push(line);
    }
}

/// See the module's header.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) weights: Box<str>,
    pub(super) runners: BTreeMap<EndpointId, Runner>,
    pub(super) lines: Lines,
    /// Whether its tickets differ in where they may run.
    pub(super) mixed: bool,
    pub(super) speed: Speed,
    /// What waits, as last summed up.
    backlog: RefCell<Backlog>,
    /// What waits, by class, and what runs.
    pub(super) waiting: [Load; 3],
    pub(super) running: Load,
    /// Seconds between arrivals, and of service each, learned; when the last one came.
    gap: Option<f64>,
    each: Option<f64>,
    last_arrival: Moment,
}

impl Pool {
    /// A ticket came that is predicted to take `seconds` of service.
    pub(super) fn arrived(&mut self, now: Moment, seconds: f64) {
        let gap = now.since(self.last_arrival).as_secs_f64();
        self.last_arrival = now;
        self.gap = Some(self.gap.map_or(gap, |usual| usual + NEWEST * (gap - usual)));
        self.each = Some(self.each.map_or(seconds, |usual| usual + NEWEST * (seconds - usual)));
    }

    /// Service asked for per second, by the arrivals of late; none for as long as usual is a sign as well.
    pub(super) fn offered(&self, now: Moment) -> f64 {
        let (Some(gap), Some(each)) = (self.gap, self.each) else { return 0.0 };
        each / gap.max(now.since(self.last_arrival).as_secs_f64()).max(1e-3)
    }

    /// Seconds of service that all of what waits is predicted to need by what is known now, a line being as its first.
    pub(super) fn everything(&self) -> f64 {
        self.backlog().seconds
    }

    /// What waits by what is known now, a line being as its first; summed up again when a line or the speed has changed.
    pub(super) fn backlog(&self) -> Ref<'_, Backlog> {
        // both only grow
        let state = self.lines.changes() + u64::from(self.speed.samples());
        if self.backlog.borrow().of != Some(state) {
            let mut backlog = self.backlog.borrow_mut();
            backlog.clear(state);
            for (line, head) in self.lines.heads() {
                let (each, tickets) = (line.each(head, &self.speed), as_f64(line.alive()));
                backlog.add(head.class, Behind { app: line.app, each, tickets });
            }
        }
        self.backlog.borrow()
    }

    /// Tickets that wait.
    pub(super) fn alive(&self) -> usize {
        self.lines.alive()
    }

    /// Whether `app` has a ticket that waits.
    pub(super) fn waits(&self, app: AppIndex) -> bool {
        self.lines.length(app) > 0
    }

    /// Since when it is in memory nowhere; `now` while it is.
    pub(super) fn gone_since(&self, now: Moment) -> Moment {
        let gone = self.runners.values().map(|runner| if runner.is_in_memory() { now } else { runner.since });
        gone.max().unwrap_or(now)
    }

    /// Whether what waits takes longer than the cheapest load of one more runner.
    pub(super) fn may_pay_for_another(&self) -> bool {
        let absent = self.runners.values().filter(|runner| !runner.is_in_memory());
        let cheapest = absent.map(|runner| runner.cost).fold(f64::INFINITY, f64::min);
        self.waiting.iter().map(Load::seconds).sum::<f64>() > cheapest
    }

    pub(super) fn any_free(&self) -> bool {
        self.runners.keys().any(|endpoint| self.has_free(*endpoint))
    }

    pub(super) fn has_free(&self, endpoint: EndpointId) -> bool {
        let free = |runner: &Runner| runner.state == Residency::Resident && runner.used < runner.open();
        self.runners.get(&endpoint).is_some_and(free)
    }

    pub(super) fn occupy(&mut self, endpoint: EndpointId, id: TicketId, app: AppIndex) {
        if let Some(runner) = self.runners.get_mut(&endpoint) {
            runner.used += 1;
            runner.inside.push(id);
        }
        self.lines.of(app).running += 1;
    }

    pub(super) fn release(&mut self, id: TicketId, run: &Running, service: f64, now: Moment) {
        if let Some(runner) = self.runners.get_mut(&run.endpoint) {
            runner.used -= 1;
            runner.inside.retain(|inside| *inside != id);
            runner.last_work = now;
            runner.served(run.app, service);
        }
        let line = self.lines.of(run.app);
        line.running -= 1;
        if !run.recalled {
            line.callers.answered(now);
        }
    }
}

impl Core {
    /// The ticket's pool, with its slots as they are now, and whether there are more than before.
    pub(super) fn pool(&mut self, ticket: &Ticket) -> (PoolIndex, bool) {
        let index = self.pool_of(&ticket.weights);
        let known = self.pools[index.0].runners.len();
        let mut more = false;
        for seat in &ticket.seats {
            let now = self.now;
            let runner = self.runner(index, seat.endpoint, || Runner::of(seat, now));
            more |= runner.slots < seat.slots;
            runner.slots = seat.slots.max(1);
            let kept_anew = runner.keep_alive != seat.keep_alive;
            runner.keep_alive = seat.keep_alive;
            if !Arc::ptr_eq(&runner.order, &seat.order) {
                runner.asked_as(&seat.order);
            }
            if !runner.seen {
                runner.need = seat.need;
            }
            if let Some(site) = self.sites.get_mut(&seat.endpoint).filter(|_| kept_anew) {
                site.idle_check = Moment::ZERO;
            }
        }
        let pool = &mut self.pools[index.0];
        // those that came before a new place was named may not run there
        let wider = pool.runners.len() > known && pool.alive() > 0;
        pool.mixed |= (pool.runners.len() != ticket.seats.len() || wider) && known > 0;
        (index, more)
    }

    /// The pool of these weights, made when it is new.
    pub(super) fn pool_of(&mut self, weights: &str) -> PoolIndex {
        if let Some(index) = self.pool_index.get(weights) {
            return *index;
        }
        let index = PoolIndex(self.pools.len());
        self.pools.push(Pool {
            weights: weights.into(),
            runners: BTreeMap::new(),
            lines: Lines::of_callers(self.taught_callers(weights)),
            mixed: false,
            backlog: RefCell::default(),
            speed: self.taught_speed(weights),
            waiting: Default::default(),
            running: Load::default(),
            gap: None,
            each: None,
            last_arrival: self.now,
        });
        self.pool_index.insert(weights.into(), index);
        index
    }

    /// The pools in which `app` has a ticket that waits.
    pub(super) fn pools_of(&self, app: AppIndex) -> Vec<PoolIndex> {
        (0..self.pools.len()).map(PoolIndex).filter(|pool| self.pools[pool.0].waits(app)).collect()
    }
}

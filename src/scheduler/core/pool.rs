//! A pool: the runners of one set of weights on every endpoint, and the line of each application before them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::domain::{Class, EndpointId, Moment};

use super::fair::AppIndex;
use super::predict::Speed;
use super::site::{Residency, Runner};
use super::{Core, Running, Ticket, TicketId};

/// Weight of the newest observation in a learned mean.
const NEWEST: f64 = 0.3;
/// The same for how waits differ from their predictions.
const BIAS: f64 = 0.1;

/// Index into [`Core::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PoolIndex(pub(super) usize);

/// One application's line. Withdrawn tickets stay as dead ids until they are swept.
#[derive(Debug, Default)]
struct Line {
    ids: VecDeque<TicketId>,
    alive: usize,
    running: u32,
    /// Learned logarithm of real ÷ predicted waits of this application.
    wait_bias: Option<f64>,
}

/// Seconds of service that some tickets were predicted to be.
#[derive(Debug, Default)]
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

    pub(super) fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) weights: Box<str>,
    pub(super) runners: BTreeMap<EndpointId, Runner>,
    lines: BTreeMap<AppIndex, Line>,
    /// Tickets that wait, in all lines.
    alive: usize,
    /// Whether its tickets differ in where they may run.
    pub(super) mixed: bool,
    pub(super) speed: Speed,
    /// What waits, by class, and what runs.
    pub(super) waiting: [Load; 3],
    pub(super) running: Load,
    /// Learned logarithm of real ÷ predicted waits, by class.
    wait_bias: [f64; 3],
    /// Seconds between arrivals, and of service each, learned; when the last one came.
    gap: Option<f64>,
    each: Option<f64>,
    last_arrival: Moment,
}

impl Pool {
    /// Learned logarithm of real ÷ predicted waits: of the application, else of everybody of its class.
    pub(super) fn bias(&self, app: AppIndex, class: Class) -> f64 {
        self.lines.get(&app).and_then(|line| line.wait_bias).unwrap_or(self.wait_bias[class as usize])
    }

    /// A wait of `app` is over whose logarithm of real ÷ predicted is `ratio`.
    pub(super) fn learn_bias(&mut self, app: AppIndex, class: Class, ratio: f64) {
        let blend = |bias: f64| (bias + BIAS * (ratio - bias)).clamp(-1.4, 1.4);
        let class = &mut self.wait_bias[class as usize];
        let line = self.lines.entry(app).or_default();
        line.wait_bias = Some(blend(line.wait_bias.unwrap_or(*class)));
        *class = blend(*class);
    }

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

    pub(super) fn push(&mut self, app: AppIndex, id: TicketId, first: bool) {
        let line = self.lines.entry(app).or_default();
        if first {
            line.ids.push_front(id);
        } else {
            line.ids.push_back(id);
        }
        line.alive += 1;
        self.alive += 1;
    }

    /// One ticket of `app` left the queue. Dead ids go once they are half of the line, so that the cost per ticket
    /// stays constant and a line that never moves cannot grow.
    pub(super) fn forget(&mut self, app: AppIndex, alive: impl Fn(&TicketId) -> bool) {
        let Some(line) = self.lines.get_mut(&app) else { return };
        line.alive -= 1;
        self.alive -= 1;
        while line.ids.front().is_some_and(|id| !alive(id)) {
            line.ids.pop_front();
        }
        if line.ids.len() > 2 * line.alive + 16 {
            line.ids.retain(|id| alive(id));
        }
    }

    /// Applications with a ticket that waits, and their lines in order of arrival.
    pub(super) fn lines(&self) -> impl Iterator<Item = (AppIndex, &VecDeque<TicketId>)> {
        self.lines.iter().filter(|(_, line)| line.alive > 0).map(|(app, line)| (*app, &line.ids))
    }

    /// Applications with a ticket that waits, how many, and the first one.
    pub(super) fn heads(&self, alive: impl Fn(&TicketId) -> bool) -> impl Iterator<Item = (AppIndex, usize, TicketId)> {
        let full = self.lines.iter().filter(|(_, line)| line.alive > 0);
        full.filter_map(move |(app, line)| Some((*app, line.alive, *line.ids.iter().find(|id| alive(id))?)))
    }

    /// Tickets of `app` that wait.
    pub(super) fn length(&self, app: AppIndex) -> usize {
        self.lines.get(&app).map_or(0, |line| line.alive)
    }

    /// Every id in every line, dead ones included.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lines.values().map(|line| line.ids.len()).sum()
    }

    /// Applications and how many of their tickets wait.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (AppIndex, usize)> {
        self.lines.iter().map(|(app, line)| (*app, line.alive))
    }

    /// Tickets of `app` before `id` in its line, going by what is `alive`.
    pub(super) fn before(&self, app: AppIndex, id: TicketId, alive: impl Fn(&TicketId) -> bool) -> usize {
        let line = self.lines.get(&app).map(|line| line.ids.iter());
        line.into_iter().flatten().take_while(|other| **other != id).filter(|other| alive(other)).count()
    }

    pub(super) fn involves(&self, app: AppIndex) -> bool {
        self.lines.get(&app).is_some_and(|line| line.alive > 0 || line.running > 0)
    }

    pub(super) fn waits(&self, app: AppIndex) -> bool {
        self.lines.get(&app).is_some_and(|line| line.alive > 0)
    }

    /// Tickets that wait.
    pub(super) fn alive(&self) -> usize {
        self.alive
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
        self.lines.entry(app).or_default().running += 1;
    }

    pub(super) fn release(&mut self, id: TicketId, run: &Running, service: f64, now: Moment) {
        if let Some(runner) = self.runners.get_mut(&run.endpoint) {
            runner.used -= 1;
            runner.inside.retain(|inside| *inside != id);
            runner.last_work = now;
            runner.served(run.app, service);
        }
        if let Some(line) = self.lines.get_mut(&run.app) {
            line.running -= 1;
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
        pool.mixed |= pool.runners.len() != ticket.seats.len() && known > 0;
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
            lines: BTreeMap::new(),
            alive: 0,
            mixed: false,
            speed: self.taught_speed(weights),
            waiting: Default::default(),
            running: Load::default(),
            wait_bias: [0.0; 3],
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

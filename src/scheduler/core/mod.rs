//! The scheduler's pure core: state + input + now → decisions.
//!
//! Owns who waits, who runs, and whose turn is next. It does not own time (moments come in), waiting futures (the
//! shell), rules (numbers come in with each ticket) or upstream calls.
//!
//! Invariants, swept by the simulator after every step: a runner never has more admitted than its slots; an
//! application never has more admitted than its `max_concurrent`; no admissible ticket waits while a slot it may
//! use is free; every ticket ends exactly once.

mod bounds;
mod callers;
mod fair;
mod forecast;
mod heal;
mod input;
mod join;
mod learn;
mod lines;
mod look;
mod memory;
mod outcome;
mod outlook;
mod pool;
mod predict;
mod rehearsal;
mod service;
mod site;
mod swap;
#[cfg(test)]
mod tests;
mod truth;
mod turns;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::domain::{AppName, Class, EndpointId, Moment, RequestId};

pub use bounds::{Contender, longest_claim, longest_head_wait, swap_overhead};
use fair::{App, AppIndex};
pub use input::{
    Decision, Input, LoadError, Notice, Observed, Refused, Room, Seat, Sighting, Ticket, TicketId, Work, WorkKind,
};
pub use learn::Lesson;
use lines::Head;
pub use memory::GpuSet;
pub use outlook::{Estimate, Outlook, Queued, WaitReason};
use pool::{Pool, PoolIndex};
use rehearsal::Foresight;
use service::Service;
pub use site::SwapBook;
use site::{Residency, Site};
pub use view::{AppLoad, CoreView, RunnerLoad, SiteLoad};

/// The least silence that is suspicious, where nobody says otherwise.
const LEAST_SILENCE: Duration = Duration::from_secs(20);

/// Bounds on what may wait, over all applications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Requests.
    pub queued: usize,
    /// Bytes of their bodies.
    pub queued_bytes: usize,
}

/// A ticket in the queue.
#[derive(Debug, Clone)]
struct Waiting {
    label: RequestId,
    app: AppIndex,
    pool: PoolIndex,
    class: Class,
    streams: bool,
    since: Moment,
    deadline: Moment,
    bytes: usize,
    work: Work,
    /// Service as predicted on arrival, for estimates of the wait.
    expected: f64,
    /// What it was told to expect on arrival.
    forecast: Option<Estimate>,
    seats: Arc<[Seat]>,
}

/// A ticket that holds a slot.
#[derive(Debug, Clone)]
struct Running {
    app: AppIndex,
    pool: PoolIndex,
    class: Class,
    endpoint: EndpointId,
    predicted: f64,
    work: Work,
    streams: bool,
    /// Whether it took the runner's last free slot.
    filled: bool,
    /// While nothing has come of it: when that becomes suspicious.
    silent_until: Option<Moment>,
    /// Whether it has been silent for too long once already.
    suspect: bool,
    /// Whether it was taken back: it had nothing of its slot.
    recalled: bool,
    /// When it was admitted, and when its first event came.
    since: Moment,
    began: Option<Moment>,
    /// What the endpoint's account read at admission, seconds.
    entered: f64,
}

/// The state machine. See the module's header.
#[derive(Debug)]
pub struct Core {
    bounds: Bounds,
    /// A request that says nothing for this long may hang.
    least_silence: Duration,
    /// What forecasts may take.
    foresight: Foresight,
    now: Moment,
    draining: bool,
    apps: Vec<App>,
    app_index: HashMap<AppName, AppIndex>,
    pools: Vec<Pool>,
    pool_index: HashMap<Box<str>, PoolIndex>,
    waiting: FxHashMap<TicketId, Waiting>,
    running: FxHashMap<TicketId, Running>,
    deadlines: BTreeSet<(Moment, TicketId)>,
    /// Requests that run and have said nothing yet, by when that becomes suspicious.
    silent: BTreeSet<(Moment, TicketId)>,
    queued_bytes: usize,
    service: BTreeMap<EndpointId, Service>,
    sites: BTreeMap<EndpointId, Site>,
    /// By their place in the fleet's list.
    gpus: BTreeMap<usize, memory::Gpu>,
    down: BTreeSet<EndpointId>,
    /// Those of them that do not even answer.
    mute: BTreeSet<EndpointId>,
    look: look::Look,
    /// What an earlier process learned, until its runners are used.
    taught: HashMap<(Box<str>, EndpointId), Lesson>,
}

impl Core {
    /// An empty scheduler over endpoints with these rooms, by id.
    #[must_use]
    pub fn new(bounds: Bounds, rooms: &[Room]) -> Self {
        Self {
            bounds,
            least_silence: LEAST_SILENCE,
            foresight: Foresight::new(rehearsal::STEPS),
            now: Moment::ZERO,
            draining: false,
            apps: Vec::new(),
            app_index: HashMap::new(),
            pools: Vec::new(),
            pool_index: HashMap::new(),
            waiting: FxHashMap::default(),
            running: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            silent: BTreeSet::new(),
            queued_bytes: 0,
            service: BTreeMap::new(),
            sites: rooms.iter().zip(0..).map(|(room, id)| (EndpointId(id), Site::new(*room))).collect(),
            gpus: BTreeMap::new(),
            down: BTreeSet::new(),
            mute: BTreeSet::new(),
            look: look::Look::default(),
            taught: HashMap::new(),
        }
    }

    /// Sets the least silence after which a runner may be asked for a token. Before the first request.
    pub fn suspect_after(&mut self, silence: Duration) {
        self.least_silence = silence;
    }

    /// Sets how many steps are played at most for a forecast; with none it is a sum. Before the first request.
    pub fn foresee(&mut self, steps: usize) {
        self.foresight = Foresight::new(steps);
    }

    /// Takes one input at `now` and appends what is to be done. A `now` before the last one counts as the last one.
    pub fn step(&mut self, now: Moment, input: Input, out: &mut Vec<Decision>) {
        self.advance(now);
        self.look.due |= Self::matters(&input);
        match input {
            Input::Submit(ticket) => self.submit(*ticket, out),
            Input::Withdraw(id) => self.withdraw(id, out),
            Input::Finish { id, observed } => self.finish(id, observed, out),
            Input::Tick => {}
            Input::Began(id) => self.began(id),
            Input::Hushed(id) => self.hushed(id),
            Input::Probed { endpoint, weights, alive } => self.probed(endpoint, &weights, alive, out),
            Input::Endpoint { id, usable, answers } => self.set_endpoint(id, usable, answers, out),
            Input::Loaded { endpoint, weights, result } => self.loaded(endpoint, &weights, result, out),
            Input::Unloaded { endpoint, weights, gone } => self.unloaded(endpoint, &weights, gone, out),
            Input::Seen { endpoint, asked, residents } => self.saw(endpoint, asked, residents, out),
            Input::Gpu { place, total, used } => self.saw_gpu(place, total, used, out),
            Input::Drain => self.draining = true,
            Input::Cut => self.cut(out),
        }
        self.follow_up(out);
    }

    /// What has become due with the time or by what just happened.
    fn follow_up(&mut self, out: &mut Vec<Decision>) {
        self.recover(out);
        self.expire(out);
        self.watch_silence(out);
        self.plan(out);
    }

    /// When [`Input::Tick`] is due next, if nothing happens before.
    #[must_use]
    pub fn next_tick(&self) -> Option<Moment> {
        // a change under way wakes by its report, but a load that takes long; an endpoint that is out when it is back
        let wakes = |id: &EndpointId, site: &Site| site.swap.is_none() || self.loading(*id).is_some();
        let wakeful = self.sites.iter().filter(|(id, site)| wakes(id, site) && !self.is_out(**id));
        let wakes = wakeful.filter_map(|(_, site)| site.wake).map(|at| at.max(self.look.again));
        let waits = [self.deadlines.first(), self.silent.first()].into_iter().flatten().map(|(at, _)| *at);
        waits.chain(wakes).chain(self.recovers()).min()
    }

    /// Whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Moves time on and shares out the service since the last step.
    fn advance(&mut self, now: Moment) {
        let dt = now.since(self.now).as_secs_f64();
        self.now = self.now.max(now);
        if dt == 0.0 {
            return;
        }
        self.service.values_mut().for_each(|service| service.pass(dt, &self.apps));
        for (id, site) in &mut self.sites {
            let running = self.service.get(id).is_some_and(|service| service.active() > 0);
            let lost = if site.swap.is_some() { lost(&self.pools, &site.held, *id) } else { 0.0 };
            site.accrue(dt, running, lost);
        }
    }

    fn admit_everywhere(&mut self, out: &mut Vec<Decision>) {
        for pool in 0..self.pools.len() {
            self.admit_from(PoolIndex(pool), out);
        }
    }

    /// Takes a ticket out of the queue, whatever becomes of it.
    fn take(&mut self, id: TicketId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        self.deadlines.remove(&(waiting.deadline, id));
        self.queued_bytes -= waiting.bytes;
        self.steps_out(waiting.app, &waiting.seats);
        self.look.forget(waiting.pool, id);
        self.apps[waiting.app.0].waiting.sub(waiting.expected);
        let alive = &self.waiting;
        self.look.due |= self.pools[waiting.pool.0].alive() == 1;
        self.pools[waiting.pool.0].waiting[waiting.class as usize].sub(waiting.expected);
        self.pools[waiting.pool.0].lines.forget(waiting.app, id, |id| Some(Head::of(*id, alive.get(id)?)));
        Some(waiting)
    }

    fn withdraw(&mut self, id: TicketId, out: &mut Vec<Decision>) {
        if let Some(waiting) = self.take(id) {
            self.note_overdue(&waiting, out);
            // whoever stood behind it may have other seats
            self.admit_from(waiting.pool, out);
        }
    }

    fn expire(&mut self, out: &mut Vec<Decision>) {
        // many may pass at once: the time is worked out once for each line, whose next one stands behind
        let mut known: HashMap<(PoolIndex, Class), Estimate> = HashMap::new();
        while let Some((at, id)) = self.deadlines.first().copied()
            && at <= self.now
        {
            let Some(waiting) = self.waiting.get(&id) else { break };
            let line = (waiting.pool, waiting.class);
            let Some(estimate) = known.get(&line).copied().or_else(|| self.estimate(id)) else { break };
            known.insert(line, Estimate { position: estimate.position + 1, ..estimate });
            let Some(waiting) = self.take(id) else { break };
            self.note_overdue(&waiting, out);
            let waited = self.now.since(waiting.since);
            out.push(Decision::Refuse { id, why: Refused::Waited { waited, estimate } });
            self.admit_from(waiting.pool, out);
        }
    }

    /// Says so where one leaves the queue that should have started by now.
    fn note_overdue(&self, waiting: &Waiting, out: &mut Vec<Decision>) {
        let waited = self.now.since(waiting.since);
        if let Some(told) = waiting.forecast.map(|estimate| estimate.wait).filter(|told| *told < waited) {
            out.push(Decision::Notice(Notice::Overdue { class: waiting.class, waited, told }));
        }
    }

    fn cut(&mut self, out: &mut Vec<Decision>) {
        self.draining = true;
        let mut ids: Vec<_> = self.waiting.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.take(id);
            out.push(Decision::Refuse { id, why: Refused::Draining });
        }
    }

    fn set_endpoint(&mut self, id: EndpointId, usable: bool, answers: bool, out: &mut Vec<Decision>) {
        if answers {
            self.mute.remove(&id);
        } else {
            self.mute.insert(id);
        }
        if usable {
            if self.down.remove(&id) {
                self.come_back(id, out);
            }
        } else if self.down.insert(id) {
            self.leave(id, answers, out);
        }
    }

    fn finish(&mut self, id: TicketId, observed: Observed, out: &mut Vec<Decision>) {
        let Some(run) = self.running.remove(&id) else { return };
        if let Some(at) = run.silent_until {
            self.silent.remove(&(at, id));
        }
        let service = self.service.get_mut(&run.endpoint).map_or(0.0, |service| {
            service.leave(run.app);
            service.reading() - run.entered
        });
        let service = if run.recalled { 0.0 } else { service };
        self.pools[run.pool.0].release(id, &run, service, self.now);
        self.look.due |= self.pools[run.pool.0].runners.get(&run.endpoint).is_none_or(|runner| runner.used == 0);
        self.pools[run.pool.0].running.sub(run.predicted);
        self.pools[run.pool.0].speed.learn(run.app, run.work, observed, service, run.predicted);
        self.judge_slots(&run, observed, service, out);
        let freed = {
            let app = &mut self.apps[run.app.0];
            let blocked = !app.may_run();
            app.settle(service, run.predicted);
            app.last_end = self.now;
            blocked && !app.waiting.is_empty()
        };
        if freed {
            self.welcome_back(run.app, run.class);
            self.admit_all_of(run.app, out);
        }
        self.admit_from(run.pool, out);
    }

    fn admit_all_of(&mut self, app: AppIndex, out: &mut Vec<Decision>) {
        for pool in self.pools_of(app) {
            self.admit_from(pool, out);
        }
    }

    /// An application that its own `max_concurrent` held back competes again, as one that just arrived would.
    fn welcome_back(&mut self, app: AppIndex, class: Class) {
        let floors = self.pools_of(app).into_iter().map(|pool| self.floor(pool, class));
        let lowest = floors.fold(f64::INFINITY, f64::min);
        if lowest.is_finite() {
            self.apps[app.0].lift(lowest);
        }
    }

    /// Fills the pool's free slots, next turn first.
    fn admit_from(&mut self, pool: PoolIndex, out: &mut Vec<Decision>) {
        while let Some((id, endpoint)) = self.next_turn(pool) {
            let Some(waiting) = self.take(id) else { break };
            let predicted = self.pools[pool.0].speed.predict(waiting.app, waiting.work);
            let service = self.service.entry(endpoint).or_default();
            service.enter(waiting.app);
            let entered = service.reading();
            self.pools[pool.0].occupy(endpoint, id, waiting.app);
            self.pools[pool.0].running.add(predicted);
            self.apps[waiting.app.0].charge(predicted);
            let waited = self.now.since(waiting.since);
            let Waiting { app, class, work, streams, forecast: expected, .. } = waiting;
            let filled = !self.pools[pool.0].has_free(endpoint);
            let (silent_until, suspect) = (None, false);
            let mut run = Running {
                app,
                pool,
                class,
                endpoint,
                predicted,
                work,
                streams,
                filled,
                silent_until,
                suspect,
                entered,
                since: self.now,
                began: None,
                recalled: false,
            };
            let until = self.now.after(self.silence(pool, &run));
            run.silent_until = Some(until);
            self.silent.insert((until, id));
            self.running.insert(id, run);
            out.push(Decision::Admit { id, class, endpoint, waited, expected });
        }
    }

    /// The free place a ticket may take: on the least busy usable endpoint.
    fn free_seat(&self, pool: PoolIndex, seats: &[Seat]) -> Option<EndpointId> {
        self.free_place(pool, seats.iter().map(|seat| seat.endpoint))
    }

    fn free_place(&self, pool: PoolIndex, places: impl Iterator<Item = EndpointId>) -> Option<EndpointId> {
        places
            .filter(|id| !self.is_out(*id) && !self.is_held(*id) && self.pools[pool.0].has_free(*id))
            .min_by_key(|id| (self.active(*id), *id))
    }

    /// Whether an endpoint cannot be used now.
    fn is_out(&self, id: EndpointId) -> bool {
        self.down.contains(&id) || self.rests(id)
    }

    /// Whether it could not be healed a while ago.
    fn rests(&self, id: EndpointId) -> bool {
        self.sites.get(&id).and_then(|site| site.sick_until).is_some_and(|until| until > self.now)
    }

    /// Whether nothing may be admitted at an endpoint now. Victims that do not go, or take long, cost nobody else's slots.
    fn is_held(&self, id: EndpointId) -> bool {
        let holds = self.sites.get(&id).and_then(|site| site.swap.as_ref()).is_some_and(|swap| swap.holds);
        holds && (self.loading(id).is_some() || !self.is_emptying(id))
    }
}

/// The share of its slots that a swap keeps an endpoint from using: those of victims that stand empty, all while
/// weights come and go.
fn lost(pools: &[Pool], held: &[PoolIndex], id: EndpointId) -> f64 {
    let (mut slots, mut used) = (0, 0);
    for runner in held.iter().filter_map(|pool| pools[pool.0].runners.get(&id)) {
        match runner.state {
            Residency::Leaving => {
                slots += runner.slots;
                used += runner.used;
            }
            Residency::Loading | Residency::Unloading => slots += runner.slots,
            Residency::Resident if runner.used > 0 => {
                slots += runner.used;
                used += runner.used;
            }
            _ => {}
        }
    }
    if slots == 0 { 0.0 } else { f64::from(slots - used.min(slots)) / f64::from(slots) }
}

//! The rules played ahead: when what waits will start, found on a copy of the present state.
//!
//! Owns the play: what runs ends when it is predicted to, loads and unloads take what they usually take, and callers who come
//! back after an answer do so again. It decides nothing: every decision in it is the core's own, so a forecast cannot differ
//! from the rules. It is for houses of an ordinary size; what is longer is told by sums (`forecast`).

use std::cell::Cell;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::domain::{EndpointId, Moment, RequestId, ResidencyCommand};

use super::fair::AppIndex;
use super::forecast::as_f64;
use super::pool::PoolIndex;
use super::site::{Residency, still};
use super::{Bounds, Core, Decision, Input, Observed, TicketId, Waiting};

/// Steps that are played at most, where nobody says otherwise.
pub(super) const STEPS: usize = 1024;
/// Forecasts as long as that in a row, then steps per millisecond.
const BURST: usize = 8;
const PER_MS: usize = 64;
/// Steps that are of no use alone.
const FEW: usize = 32;
/// What waits, and lines, at most, in a house that is played.
const WAITING: usize = 256;
const LINES: usize = 1024;
/// Starts in a line that show its pace.
const PACE: usize = 8;

/// Numbers from here on are of requests that come in the play.
const PLAYED: u64 = 1 << 63;

/// What comes of a ticket that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// Seconds until it starts.
    pub(super) wait: f64,
    /// Its place among those that wait for the same model, 1 = next.
    pub(super) position: usize,
}

/// What comes of each.
pub(super) type Starts = FxHashMap<TicketId, Start>;

/// Something that will happen at its time.
#[derive(Clone, Copy)]
enum Due {
    Loaded(EndpointId, PoolIndex),
    Unloaded(EndpointId, PoolIndex),
    Asked(PoolIndex, AppIndex),
}

/// See the module's header.
pub(super) struct Rehearsal<'a> {
    core: Core,
    foresight: &'a Foresight,
    steps: usize,
    begins: Moment,
    /// What runs, and seconds of service that it still needs.
    running: Vec<(TicketId, EndpointId, f64)>,
    due: Vec<(Moment, Due)>,
    /// Requests that came in the play.
    came: u64,
    starts: Starts,
    /// How many of those that wait for a model have started.
    places: FxHashMap<PoolIndex, usize>,
    out: Vec<Decision>,
}

/// What forecasts may take: so many steps for one, and many in a row no more than a part of the time, because everybody else's
/// decisions wait meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Foresight {
    most: usize,
    /// Steps that are left, and since when.
    left: Cell<usize>,
    since: Cell<Moment>,
}

impl Foresight {
    pub(super) fn new(most: usize) -> Self {
        Self { most, left: Cell::new(BURST * most), since: Cell::new(Moment::ZERO) }
    }

    /// Steps that the next forecast may play; none where a few would be all.
    fn granted(&self, now: Moment) -> usize {
        let passed = now.since(self.since.get()).as_millis();
        let more = usize::try_from(passed).unwrap_or(usize::MAX).saturating_mul(PER_MS);
        if more > 0 {
            self.since.set(now);
        }
        self.left.set(self.left.get().saturating_add(more).min(BURST * self.most));
        if self.left.get() < FEW.min(self.most) { 0 } else { self.most.min(self.left.get()) }
    }

    fn spend(&self, steps: usize) {
        self.left.set(self.left.get().saturating_sub(steps));
    }
}

impl Core {
    /// A copy to be played; `None` in a house that is too large for it.
    pub(super) fn rehearsal(&self) -> Option<Rehearsal<'_>> {
        let lines: usize = self.pools.iter().map(|pool| 1 + pool.lines.count()).sum();
        let steps = self.foresight.granted(self.now);
        if steps == 0 || self.waiting.len() > WAITING || lines > LINES {
            return None;
        }
        let mut play = Rehearsal {
            core: self.copy(),
            foresight: &self.foresight,
            steps,
            begins: self.now,
            running: self.running.iter().map(|(id, run)| (*id, run.endpoint, self.left(run))).collect(),
            due: Vec::new(),
            came: 0,
            starts: Starts::default(),
            places: FxHashMap::default(),
            out: Vec::new(),
        };
        // no probe ends in the play
        let runners = play.core.pools.iter_mut().flat_map(|pool| pool.runners.values_mut());
        runners.for_each(|runner| runner.health.probing = false);
        // a map has no order, and equal ends must come in the same order each time
        play.running.sort_unstable_by_key(|(id, ..)| *id);
        play.note_changes();
        play.note_callers();
        Some(play)
    }

    /// What decides, without what only names, guards or teaches it.
    fn copy(&self) -> Self {
        Self {
            bounds: Bounds { queued: usize::MAX, queued_bytes: usize::MAX },
            least_silence: Duration::MAX,
            foresight: Foresight::new(0),
            now: self.now,
            draining: false,
            apps: self.apps.clone(),
            app_index: Default::default(),
            pools: self.pools.clone(),
            pool_index: self.pool_index.clone(),
            waiting: self.waiting.clone(),
            running: self.running.clone(),
            // nobody gives up in the play, and nothing hangs
            deadlines: Default::default(),
            silent: Default::default(),
            queued_bytes: self.queued_bytes,
            service: self.service.clone(),
            sites: self.sites.clone(),
            gpus: self.gpus.clone(),
            down: self.down.clone(),
            mute: self.mute.clone(),
            look: self.look.clone(),
            taught: Default::default(),
        }
    }
}

impl Rehearsal<'_> {
    /// A request joins the queue, before what its application has there already if it was there before.
    pub(super) fn join(&mut self, id: TicketId, waiting: Waiting, again: bool) {
        let pool = waiting.pool;
        self.core.enqueue(id, waiting, again);
        self.core.admit_from(pool, &mut self.out);
        self.core.follow_up(&mut self.out);
    }

    /// Plays until this one has started, which stands behind so many of its line; where it did not in as many steps as are
    /// played, its line is taken to go on at the same pace, and is `None` where that is unknown.
    pub(super) fn start_of(mut self, id: TicketId, before: usize) -> Option<Start> {
        let place = self.core.waiting.get(&id).map(|waiting| (waiting.pool, waiting.app));
        self.play(|starts| starts.contains_key(&id));
        if let Some(start) = self.starts.get(&id) {
            return Some(*start);
        }
        let ((pool, app), core) = (place?, &self.core);
        let left = core.pools[pool.0].lines.before(app, id, |other| core.waiting.contains_key(other));
        let (started, passed) = (before.saturating_sub(left), core.now.since(self.begins).as_secs_f64());
        let position = self.places.get(&pool).map_or(0, |place| place * (before + 1) / started.max(1)).max(before + 1);
        let wait = passed * as_f64(before + 1) / as_f64(started);
        (started >= PACE).then_some(Start { wait, position })
    }

    /// Plays until one of an application's has started, and says in how many seconds.
    pub(super) fn first_of(mut self, app: AppIndex) -> Option<f64> {
        let own: Vec<_> =
            self.core.waiting.iter().filter(|(_, waiting)| waiting.app == app).map(|(id, _)| *id).collect();
        let first =
            |starts: &Starts| own.iter().filter_map(|id| starts.get(id)).map(|start| start.wait).reduce(f64::min);
        self.play(|starts| first(starts).is_some());
        first(&self.starts)
    }

    /// Plays until everything that waits has started, or as many steps as are played.
    pub(super) fn all(mut self) -> Starts {
        let all = self.core.waiting.len();
        self.play(|starts| starts.len() == all);
        self.starts
    }

    fn play(&mut self, enough: impl Fn(&Starts) -> bool) {
        let mut played = 0;
        while played < self.steps {
            self.carry_out();
            if enough(&self.starts) || self.next().is_none() {
                break;
            }
            played += 1;
        }
        self.foresight.spend(played);
    }

    /// Notes what follows from decisions.
    fn carry_out(&mut self) {
        for decision in std::mem::take(&mut self.out) {
            match decision {
                Decision::Admit { id, endpoint, .. } => {
                    let Some((pool, predicted)) = self.core.running.get(&id).map(|run| (run.pool, run.predicted))
                    else {
                        continue;
                    };
                    if id.0 < PLAYED {
                        self.starts(id, pool);
                    }
                    self.running.push((id, endpoint, predicted));
                }
                Decision::Residency(ResidencyCommand::Load { endpoint, weights, .. }) => {
                    self.note(&weights, |pool| Due::Loaded(endpoint, pool));
                }
                Decision::Residency(ResidencyCommand::Unload { endpoint, weights, .. }) => {
                    self.note(&weights, |pool| Due::Unloaded(endpoint, pool));
                }
                _ => {}
            }
        }
    }

    /// One that waited when the play began has a slot.
    fn starts(&mut self, id: TicketId, pool: PoolIndex) {
        let position = self.places.entry(pool).or_insert(0);
        *position += 1;
        let wait = self.core.now.since(self.begins).as_secs_f64();
        self.starts.insert(id, Start { wait, position: *position });
    }

    fn note(&mut self, weights: &str, what: impl FnOnce(PoolIndex) -> Due) {
        if let Some(pool) = self.core.pool_index.get(weights) {
            let due = what(*pool);
            self.due.push((later(self.core.now, self.takes(due)), due));
        }
    }

    /// Seconds that a change of residents usually takes.
    fn takes(&self, due: Due) -> f64 {
        match due {
            Due::Loaded(site, pool) => {
                self.core.pools[pool.0].runners.get(&site).map_or(0.0, |runner| runner.load_time)
            }
            Due::Unloaded(site, _) => self.core.sites.get(&site).map_or(0.0, |state| state.unload_time),
            Due::Asked(pool, app) => self.core.pools[pool.0].lines.get(app).map_or(0.0, |line| line.callers.pause()),
        }
    }

    /// Notes when the loads and unloads under way will be over.
    fn note_changes(&mut self) {
        let mut due = Vec::new();
        for (at, pool) in self.core.pools.iter().enumerate() {
            for (site, runner) in &pool.runners {
                let (change, left) = match runner.state {
                    Residency::Loading => (Due::Loaded(*site, PoolIndex(at)), runner.load_left(self.begins)),
                    Residency::Unloading => {
                        let change = Due::Unloaded(*site, PoolIndex(at));
                        (change, still(self.takes(change), self.begins.since(runner.since).as_secs_f64()))
                    }
                    _ => continue,
                };
                due.push((later(self.begins, left), change));
            }
        }
        self.due.append(&mut due);
    }

    /// Notes when callers who have their answer already will be back.
    fn note_callers(&mut self) {
        let mut due = Vec::new();
        for (at, pool) in self.core.pools.iter().enumerate() {
            for line in pool.lines.all() {
                let (away, since) = if line.callers.come_back() { line.callers.away(self.begins) } else { (0, 0.0) };
                let back = later(self.begins, line.callers.pause() - since);
                due.extend((0..away).map(|_| (back, Due::Asked(PoolIndex(at), line.app))));
            }
        }
        self.due.append(&mut due);
    }

    /// The next thing happens; `None` where nothing ever will.
    fn next(&mut self) -> Option<()> {
        let active = |site: &EndpointId| f64::from(self.core.active(*site).max(1));
        let ends = |(_, site, left): &(TicketId, EndpointId, f64)| later(self.core.now, left * active(site));
        let end = self.running.iter().enumerate().map(|(at, run)| (ends(run), at)).min();
        let due = self.due.iter().enumerate().map(|(at, (when, _))| (*when, at)).min();
        let tick = self.core.next_tick();
        let when = [end.map(|end| end.0), due.map(|due| due.0), tick].into_iter().flatten().min()?;
        let when = when.max(self.core.now);
        let passed = when.since(self.core.now).as_secs_f64();
        for (_, site, left) in &mut self.running {
            *left -= passed / f64::from(self.core.active(*site).max(1));
        }
        if let Some((_, at)) = end.filter(|(at, _)| *at <= when) {
            let (id, ..) = self.running.remove(at);
            self.comes_back(id, when);
            self.core.step(when, Input::Finish { id, observed: Observed::default() }, &mut self.out);
        } else if let Some((_, at)) = due.filter(|(at, _)| *at <= when) {
            let (_, what) = self.due.remove(at);
            self.happens(what, when);
        } else {
            self.core.step(when, Input::Tick, &mut self.out);
        }
        Some(())
    }

    /// Notes that the caller of what ends asks again, where such callers do.
    fn comes_back(&mut self, id: TicketId, now: Moment) {
        let Some((app, pool)) = self.core.running.get(&id).map(|run| (run.app, run.pool)) else { return };
        if self.core.pools[pool.0].lines.get(app).is_some_and(|line| line.callers.come_back()) {
            let due = Due::Asked(pool, app);
            self.due.push((later(now, self.takes(due)), due));
        }
    }

    fn happens(&mut self, what: Due, now: Moment) {
        let weights = |pool: PoolIndex| self.core.pools[pool.0].weights.clone();
        match what {
            Due::Loaded(endpoint, pool) => {
                let input = Input::Loaded { endpoint, weights: weights(pool), result: Ok(()) };
                self.core.step(now, input, &mut self.out);
            }
            Due::Unloaded(endpoint, pool) => {
                let input = Input::Unloaded { endpoint, weights: weights(pool), gone: true };
                self.core.step(now, input, &mut self.out);
            }
            Due::Asked(pool, app) => {
                self.core.advance(now);
                self.asks(pool, app);
            }
        }
    }

    /// One more like the last one of its line asks.
    fn asks(&mut self, pool: PoolIndex, app: AppIndex) {
        let members = &self.core.pools[pool.0];
        let Some((work, seats)) = members.lines.get(app).and_then(|line| line.usual.clone()) else { return };
        self.came += 1;
        let id = TicketId(PLAYED + self.came);
        let waiting = Waiting {
            label: RequestId(id.0),
            app,
            pool,
            class: self.core.apps[app.0].class,
            streams: false,
            since: self.core.now,
            deadline: later(self.core.now, f64::INFINITY),
            bytes: 0,
            work,
            expected: members.speed.predict(app, work),
            forecast: None,
            seats,
        };
        self.join(id, waiting, false);
    }
}

/// So many seconds later.
fn later(at: Moment, seconds: f64) -> Moment {
    at.after(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::from_secs(1 << 40)))
}

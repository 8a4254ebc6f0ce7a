//! One endpoint's memory: what is resident, what has room, and what a swap may cost.
//!
//! Owns the states a runner goes through and the swap credit. Choosing what comes and goes is `swap`'s.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{LONG_LOAD, LoadOrder, Moment};

use super::TicketId;
use super::fair::AppIndex;
use super::heal::Health;
use super::memory::GpuSet;
use super::pool::PoolIndex;
use super::{Lesson, Room, Seat};

/// Share of an endpoint's time that displacing swaps may take under load (h in the bounds of ARCHITECTURE.md).
pub(super) const SWAP_OVERHEAD: f64 = 0.25;
/// Ollama loads beside others only what it predicts to fit in this share of the free memory (`ollama-facts` 2.5).
pub(super) const BESIDE: Share = Share(0.8);
/// Weight of the newest observation in a learned mean.
const NEWEST: f64 = 0.3;
/// A load that took more than so many times the usual counts as one that took that: a disk that hung once says little of the next.
const ODD: f64 = 3.0;
/// Part of its usual time that a load or an unload takes still when it should be over any moment.
const OVERDUE: f64 = 0.1;
/// Time between an answer and the next request of the same callers, until it is learned, seconds.
const THINK: f64 = 0.5;
/// Times that callers usually think for which an idle runner is kept: of callers who think as unevenly as people do, two in a
/// hundred are not back by then.
const THINKS: f64 = 4.0;
/// A load is given up after this many times the usual, and this many seconds.
const LOAD_SLACK: (f64, f64) = (5.0, 30.0);
/// The same while its usual time is a guess.
const GUESS_SLACK: (f64, f64) = (10.0, 60.0);
/// What an endpoint once could not do is believed for this long.
pub(super) const RELEARN: Duration = Duration::from_secs(3600);
/// Time of an unload until it is learned, seconds.
const UNLOAD: f64 = 0.5;

/// A part of a number of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share(f64);

impl Share {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bytes of memory are far below 2^52"
    )]
    pub(super) fn of(self, bytes: u64) -> u64 {
        (self.0 * bytes as f64) as u64
    }
}

/// Where a runner is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Residency {
    /// Not in memory.
    Absent,
    /// Being loaded by our order.
    Loading,
    /// In memory; admits.
    Resident,
    /// In memory, finishing what runs; admits nothing more.
    Leaving,
    /// Being unloaded by our order.
    Unloading,
    /// Loads failed; not tried again before this moment.
    Failed(Moment),
}

impl Residency {
    /// The word that listings use.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Loading => "loading",
            Self::Resident => "resident",
            Self::Leaving => "draining",
            Self::Unloading => "unloading",
            Self::Failed(_) => "failing",
        }
    }
}

/// One set of weights on one endpoint.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    pub(super) slots: u32,
    pub(super) used: u32,
    /// What holds its slots.
    pub(super) inside: Vec<TicketId>,
    pub(super) state: Residency,
    /// When the state last changed.
    pub(super) since: Moment,
    /// Bytes it needs: seen, else planned.
    pub(super) need: u64,
    pub(super) seen: bool,
    /// The GPUs it is taken to be on, where its endpoint names any.
    pub(super) on: GpuSet,
    /// Learned swap cost, seconds; a guess until the first load.
    pub(super) cost: f64,
    guessed: bool,
    /// Learned time of a load alone, seconds.
    pub(super) load_time: f64,
    /// What its present residency cost, seconds.
    paid: f64,
    pub(super) keep_alive: Duration,
    pub(super) order: Arc<LoadOrder>,
    /// When it last had work.
    pub(super) last_work: Moment,
    think: f64,
    /// Service by application in this residency, seconds.
    served: HashMap<AppIndex, f64>,
    pub(super) health: Health,
    /// It did not go when it was to: no victim before this moment, and how often in a row.
    pub(super) held_until: Moment,
    pub(super) held_times: u32,
    /// Whether we loaded it, so that its options are known; those that it is to be loaded with next.
    pub(super) ours: bool,
    pub(super) next_order: Option<Arc<LoadOrder>>,
    pub(super) failures: u32,
    pub(super) reason: String,
}

impl Runner {
    pub(super) fn new(order: Arc<LoadOrder>, need: u64, guess: f64, now: Moment) -> Self {
        Self {
            slots: 1,
            used: 0,
            inside: Vec::new(),
            state: Residency::Absent,
            since: now,
            need,
            seen: false,
            on: GpuSet::default(),
            cost: guess,
            guessed: true,
            load_time: guess,
            paid: 0.0,
            keep_alive: Duration::from_secs(300),
            order,
            last_work: now,
            think: THINK,
            served: HashMap::new(),
            health: Health::default(),
            held_until: Moment::ZERO,
            held_times: 0,
            ours: false,
            next_order: None,
            failures: 0,
            reason: String::new(),
        }
    }

    /// A runner as a ticket's seat describes it.
    pub(super) fn of(seat: &Seat, now: Moment) -> Self {
        let new = Self::new(seat.order.clone(), seat.need, seat.guess, now);
        Self { slots: seat.slots.max(1), keep_alive: seat.keep_alive, ..new }
    }

    /// Whether it takes memory, as far as we know.
    pub(super) fn is_in_memory(&self) -> bool {
        !matches!(self.state, Residency::Absent | Residency::Failed(_))
    }

    /// Requests it may have inside at once: its slots, less those that are lost.
    pub(super) fn open(&self) -> u32 {
        self.slots.min(self.health.capped.unwrap_or(u32::MAX)).saturating_sub(self.health.lost)
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.keep_alive == Duration::MAX
    }

    /// Whether it could be loaded at `now`.
    pub(super) fn may_load(&self, now: Moment) -> bool {
        match self.state {
            Residency::Absent => true,
            Residency::Failed(until) => until <= now,
            _ => false,
        }
    }

    pub(super) fn enter(&mut self, state: Residency, now: Moment) {
        self.state = state;
        self.since = now;
    }

    /// Whether a load of it was seen.
    pub(super) fn is_learned(&self) -> bool {
        !self.guessed
    }

    pub(super) fn think(&self) -> f64 {
        self.think
    }

    /// What an earlier process learned of it.
    pub(super) fn learned(&mut self, lesson: &Lesson) {
        (self.cost, self.load_time, self.think) = (lesson.cost, lesson.load, lesson.think.clamp(0.0, 60.0));
        self.guessed = false;
        if let Some(need) = lesson.need.filter(|_| lesson.options == self.order.fingerprint()) {
            (self.need, self.seen) = (need, true);
        }
    }

    /// Callers are back `gap` seconds after their last answer.
    pub(super) fn learn_think(&mut self, gap: f64) {
        // a longer pause is a new visit, not thinking
        if gap < 60.0 {
            self.think += NEWEST * (gap - self.think);
        }
    }

    /// How long a load may take: far longer than loads of it ever took, or than it should take.
    pub(super) fn load_limit(&self) -> Duration {
        let (times, more) = if self.guessed { GUESS_SLACK } else { LOAD_SLACK };
        // a cold cache or a slow disk may make it slower than ever: each failure doubles the patience
        let limit = (times * self.load_time + more) * f64::from(1_u32 << self.failures.min(8));
        Duration::try_from_secs_f64(limit).unwrap_or(Duration::MAX)
    }

    /// Seconds that a load under way still takes; to where it is given up at most.
    pub(super) fn load_left(&self, now: Moment) -> f64 {
        let gone = now.since(self.since).as_secs_f64();
        still(self.load_time, gone).min((self.load_limit().as_secs_f64() - gone).max(0.0))
    }

    /// After how long a load takes far longer than usual.
    pub(super) fn long_load(&self) -> Duration {
        self.load_limit().mul_f64(LONG_LOAD)
    }

    /// How long an idle runner is kept for callers that think, seconds: never longer than bringing it back costs.
    pub(super) fn patience(&self) -> f64 {
        (THINKS * self.think + 0.02).min(self.cost)
    }

    pub(super) fn served(&mut self, app: AppIndex, service: f64) {
        *self.served.entry(app).or_default() += service;
    }

    /// The applications that had service in this residency.
    pub(super) fn served_apps(&self) -> impl Iterator<Item = AppIndex> {
        self.served.keys().copied()
    }

    /// From now on it is asked for like this. Ollama would load a resident one anew by itself, inside, as soon as a request with
    /// other options came: it is drained and loaded by us instead, and admits nothing until then.
    pub(super) fn asked_as(&mut self, order: &Arc<LoadOrder>) {
        let same = if self.ours {
            self.order.fingerprint() == order.fingerprint()
        } else {
            // of what somebody else loaded, only the context is known
            self.order.context().is_none() || order.context().is_none() || self.order.context() == order.context()
        };
        if same || !self.is_in_memory() {
            // other options need other memory: what was seen holds no longer
            self.seen &= self.is_in_memory() || self.order.fingerprint() == order.fingerprint();
            self.order = Arc::clone(order);
            self.next_order = None;
        } else {
            self.next_order = Some(Arc::clone(order));
            self.health.lost = self.slots;
            self.health.reload = true;
        }
    }

    /// A load is over that cost this much, seconds.
    pub(super) fn arrive(&mut self, cost: f64, now: Moment) {
        let took = now.since(self.since).as_secs_f64();
        let learn = |known: f64, seen: f64| known + NEWEST * (seen.min(ODD * known + 1.0) - known);
        self.load_time = if self.guessed { took } else { learn(self.load_time, took) };
        self.enter(Residency::Resident, now);
        self.last_work = now;
        self.failures = 0;
        self.held_times = 0;
        self.ours = true;
        self.health.fresh();
        self.paid = cost;
        self.cost = if self.guessed { cost } else { learn(self.cost, cost) };
        self.guessed = false;
    }

    /// A residency is over: who had what share of its cost, seconds.
    pub(super) fn leave(&mut self, state: Residency, now: Moment) -> Vec<(AppIndex, f64)> {
        self.enter(state, now);
        let total: f64 = self.served.values().sum();
        let paid = std::mem::take(&mut self.paid);
        let shares = std::mem::take(&mut self.served).into_iter();
        if total > 0.0 { shares.map(|(app, service)| (app, paid * service / total)).collect() } else { Vec::new() }
    }
}

/// Seconds that something still takes that usually takes so many and has taken so many: what is overdue is taken to go on for
/// half as long again.
pub(super) fn still(usual: f64, gone: f64) -> f64 {
    (usual - gone).max(OVERDUE * usual).max((gone - usual) / 2.0)
}

/// A change of residents under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Swap {
    /// Who comes; `None` when somebody only goes.
    pub(super) candidate: Option<PoolIndex>,
    /// Whether it is paid from the credit.
    pub(super) displaces: bool,
    /// Nothing else is admitted meanwhile, because Ollama may have to make room by itself.
    pub(super) holds: bool,
    /// The candidate is reloaded because something is wrong with it.
    pub(super) heals: bool,
    /// Bytes that were not to stay together: something vanished while the candidate was loaded.
    pub(super) pushed_out: Option<u64>,
    /// Seconds in which the endpoint served less because of it, so far.
    pub(super) cost: f64,
}

/// Where an endpoint's time went, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SwapBook {
    /// A request ran.
    pub busy: f64,
    /// Nothing ran and nothing was loaded.
    pub idle: f64,
    /// Lost to swaps that were paid from the credit.
    pub displacing: f64,
    /// Lost to other changes of residents: into free room, or over victims without work.
    pub free: f64,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) book: SwapBook,
    pub(super) room: Room,
    /// The runners in memory, in the order of their pools.
    pub(super) held: Vec<PoolIndex>,
    /// The most that was seen together.
    fits: u64,
    /// The least that was seen not to stay together, and until when that is believed.
    breaks: Option<(u64, Moment)>,
    /// Bytes that should be together since the last load; the next look tells.
    pub(super) trial: Option<(Moment, u64)>,
    /// Swap credit, seconds; clamped to the dearest model when it is read.
    pub(super) credit: f64,
    pub(super) swap: Option<Swap>,
    /// It could not be healed: nothing is sent there before this moment.
    pub(super) sick_until: Option<Moment>,
    /// How often in a row.
    pub(super) sick_times: u32,
    /// While it is ejected: when what is in memory there is to be loaded anew.
    pub(super) heal_at: Option<Moment>,
    /// Whose swap waits for its victims to finish, and since when.
    pub(super) finishing: Option<(PoolIndex, Moment)>,
    /// Learned time of an unload, until it is seen gone, seconds.
    pub(super) unload_time: f64,
    /// When the next runner may have been idle for long enough to go.
    pub(super) idle_check: Moment,
    /// When to look again, if nothing happens before.
    pub(super) wake: Option<Moment>,
}

/// Whether something has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    /// Nobody knows yet.
    Perhaps,
    No,
}

impl Site {
    pub(super) fn new(room: Room) -> Self {
        Self {
            book: SwapBook::default(),
            room,
            held: Vec::new(),
            fits: 0,
            breaks: None,
            trial: None,
            credit: f64::INFINITY,
            swap: None,
            finishing: None,
            sick_until: None,
            sick_times: 0,
            heal_at: None,
            unload_time: UNLOAD,
            idle_check: Moment::ZERO,
            wake: None,
        }
    }

    /// Whether `need` bytes fit beside `others` bytes in `count` runners.
    pub(super) fn fit(&self, need: u64, others: u64, count: u32) -> Fit {
        if count >= self.room.models {
            return Fit::No;
        }
        if count == 0 {
            // Ollama loads the first one whatever it needs, spilling what does not fit
            return Fit::Yes;
        }
        let total = others.saturating_add(need);
        if self.breaks.is_some_and(|(breaks, _)| total >= breaks) {
            return Fit::No;
        }
        match self.room.bytes {
            Some(bytes) if need <= BESIDE.of(bytes.saturating_sub(others)) => Fit::Yes,
            Some(_) => Fit::No,
            None if total <= self.fits => Fit::Yes,
            None => Fit::Perhaps,
        }
    }

    /// A runner came into memory, went, or stayed as it was.
    pub(super) fn hold(&mut self, pool: PoolIndex, in_memory: bool) {
        match (self.held.binary_search(&pool), in_memory) {
            (Err(at), true) => self.held.insert(at, pool),
            (Ok(at), false) => _ = self.held.remove(at),
            _ => {}
        }
    }

    /// These bytes were seen together.
    pub(super) fn saw(&mut self, total: u64, now: Moment) {
        self.fits = self.fits.max(total);
        self.breaks.take_if(|(_, until)| *until <= now);
    }

    /// These bytes did not stay together. Whoever else uses the memory may have been why: it is tried again some day.
    pub(super) fn broke(&mut self, total: u64, now: Moment) {
        self.fits = self.fits.min(total.saturating_sub(1));
        // what was only planned may turn out smaller: a little less is taken not to fit either, unless it was seen to
        let least = BESIDE.of(total).max(self.fits.saturating_add(1));
        let least = self.breaks.map_or(least, |(known, _)| known.min(least));
        self.breaks = Some((least, now.after(RELEARN)));
    }

    /// Time passes.
    pub(super) fn accrue(&mut self, dt: f64, running: bool, lost: f64) {
        match (&self.swap, running) {
            (Some(swap), _) if swap.displaces => self.book.displacing += dt * lost,
            (Some(_), _) => self.book.free += dt * lost,
            (None, true) => {}
            (None, false) => self.book.idle += dt,
        }
        if running {
            self.book.busy += dt * (1.0 - lost);
        }
        let earned = match (&mut self.swap, running) {
            (Some(swap), _) => {
                swap.cost += dt * lost;
                if running { SWAP_OVERHEAD / (1.0 - SWAP_OVERHEAD) * (1.0 - lost) } else { 0.0 }
            }
            (None, true) => SWAP_OVERHEAD / (1.0 - SWAP_OVERHEAD),
            // idle time is free
            (None, false) => 1.0,
        };
        self.credit += dt * earned;
    }

    /// An unload took this long, seconds.
    pub(super) fn learn_unload(&mut self, took: f64) {
        self.unload_time += NEWEST * (took - self.unload_time);
    }

    /// The credit within its bounds, where `dearest` is the largest swap cost around.
    pub(super) fn credit(&mut self, dearest: f64) -> f64 {
        self.credit = self.credit.clamp(-dearest, dearest);
        self.credit
    }
}

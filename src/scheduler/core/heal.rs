//! Slots that Ollama lost, runners that hang, and unloads that do not happen: noticed, then mended by a reload.
//!
//! Owns the evidence and what follows from it. Carrying out the reload is `swap`'s: a heal is a swap of a runner with
//! itself, so nothing that runs is cut and no caller notices more than a wait.
//!
//! Evidence (`ollama-facts` 2.7, 2.8 B6): a request of ours waited inside Ollama for a slot although we hold no more than
//! there are, and got one the moment another of ours ended (what waits for others' prompts, whose batches go first, is told
//! by Ollama in the same figure); or a request stays silent for far longer than its kind ever took, and a generation of one
//! token that is asked for then is not answered either. The first lowers the slots we use by one; the second withdraws what
//! is silent (it goes back into the queue), because our own waiters would keep the runner from being unloaded. A runner that
//! is still full too early right after it was healed has fewer slots than configured: then the smaller number is believed
//! and told.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::{EndpointId, Moment, ResidencyCommand};

use super::pool::PoolIndex;
use super::site::{RELEARN, Residency, Runner, Swap};
use super::{Core, Decision, Notice, Observed, Running, TicketId, WorkKind};

/// What a wait for a slot inside Ollama counts, against an answer without one, and how much is enough: one may be anything,
/// and where there is a slot too few only every second answer may wait.
const SUSPICION: u32 = 2;
const SUSPICIONS: u32 = 5;
/// The least that counts, seconds; and how much earlier or later than a slot came free it may end, and as a part of itself.
const LEAST_WAIT: f64 = 0.5;
const SAME_TIME: (f64, f64) = (0.05, 0.1);
/// Ends that are remembered, for what may have waited for them.
const ENDS: usize = 16;
/// Answers after a heal in which the same evidence means that the configured number is wrong.
const FRESH: u32 = 20;
/// A silence is suspicious after this many times what was predicted, and never before the least silence.
const SLOW: f64 = 10.0;
/// Tokens that may pass unheard in the middle of an answer.
const UNHEARD: f64 = 50.0;
/// Least silences that are borne while nothing is known of the speed.
const UNKNOWN: f64 = 9.0;
/// What is in memory at an endpoint that stays ejected for this long is loaded anew: it may be what hangs.
const EJECTED: Duration = Duration::from_secs(60);
/// A number of slots that is smaller than configured is believed this long, doubling to an hour: somebody else's requests on
/// the same server look the same.
const CAPPED: Duration = Duration::from_secs(300);
/// An endpoint that cannot be healed rests this long, doubling to the second.
const SICK: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// A slot came free.
#[derive(Debug, Clone, Copy)]
struct End {
    at: Moment,
    /// What came to an end, seconds: reading its prompt, writing its answer.
    prompt: f64,
    output: f64,
}

impl End {
    /// Seconds after `since` in which it may have kept others from reading their prompts.
    fn read_after(&self, since: Moment) -> f64 {
        (self.at.since(since).as_secs_f64() - self.output).clamp(0.0, self.prompt)
    }
}

/// What is wrong with a runner, as far as is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// Slots that are taken by nobody we know.
    pub(super) lost: u32,
    /// Slots there really are, where that contradicts the configuration.
    pub(super) capped: Option<u32>,
    /// Until when that is believed, and how often in a row it was found.
    capped_until: Moment,
    capped_times: u32,
    /// What speaks for a wait for a slot in full runs, less what speaks against it.
    suspicions: u32,
    /// The latest ends.
    ends: VecDeque<End>,
    /// Answers since the last heal.
    answers: u32,
    healed: bool,
    pub(super) probing: bool,
    /// That all its answers stand still was told.
    told: bool,
    /// The probe found a slot that nobody had.
    free: bool,
    /// A reload is due.
    pub(super) reload: bool,
}

impl Health {
    /// It was loaded anew: what was lost is back.
    pub(super) fn fresh(&mut self) {
        let healed = self.reload;
        let Self { capped, capped_until, capped_times, .. } = *self;
        *self = Self { capped, capped_until, capped_times, healed, ..Self::default() };
    }

    fn ended(&mut self, end: End) {
        self.ends.truncate(ENDS - 1);
        self.ends.push_front(end);
    }

    /// Seconds that a run waited for a slot that another one of the runner's had; 0 where none came free at the end of
    /// the wait. A wait for a slot comes before the first word: all else has other causes.
    fn waited(&self, run: &Running, seen: Observed, now: Moment) -> f64 {
        // the first word of an answer in one piece is its end
        let silent = run.began.unwrap_or(now).since(run.since).as_secs_f64();
        let near = SAME_TIME.0 + SAME_TIME.1 * seen.slot_wait;
        let after = |end: &End| end.at.since(run.since).as_secs_f64();
        let during = || self.ends.iter().filter(|end| end.at > run.since && after(end) <= seen.slot_wait + near);
        if silent < 0.8 * seen.slot_wait || !during().any(|end| after(end) >= seen.slot_wait - near) {
            return 0.0;
        }
        seen.slot_wait - during().map(|end| end.read_after(run.since)).sum::<f64>()
    }
}

impl Core {
    /// How long a request may be silent before that is suspicious.
    pub(super) fn silence(&self, pool: PoolIndex, run: &Running) -> Duration {
        let least = self.least_silence.as_secs_f64();
        let members = &self.pools[pool.0];
        let active = f64::from(self.active(run.endpoint).max(1));
        let usual = if run.streams {
            members.speed.predict_prompt(run.work)
        } else {
            // its first word is its last: as long as it may take
            run.predicted.max(members.speed.longest(run.work))
        };
        let bound = if members.speed.is_learned() { (SLOW * usual * active).max(least) } else { UNKNOWN * least };
        Duration::try_from_secs_f64(bound).unwrap_or(Duration::MAX)
    }

    /// How long a request whose answer has begun may say nothing before that is suspicious: a tool call is told when it is
    /// whole, so that many tokens may pass unheard.
    pub fn pause(&self, id: TicketId) -> Duration {
        let Some(run) = self.running.get(&id) else { return Duration::MAX };
        let token = f64::from(self.active(run.endpoint).max(1)) / self.pools[run.pool.0].speed.output_speed();
        let bound = (UNHEARD * token).max(self.least_silence.as_secs_f64());
        Duration::try_from_secs_f64(bound).unwrap_or(Duration::MAX)
    }

    /// An event of it is here.
    pub(super) fn began(&mut self, id: TicketId) {
        let now = self.now;
        if let Some(run) = self.running.get_mut(&id)
            && let Some(at) = run.silent_until.take()
        {
            run.began.get_or_insert(now);
            run.suspect = false;
            self.silent.remove(&(at, id));
            if let Some(runner) = self.pools[run.pool.0].runners.get_mut(&run.endpoint) {
                runner.health.told = false;
            }
        }
    }

    /// Nothing has come of it for too long since it began: it is looked at now.
    pub(super) fn hushed(&mut self, id: TicketId) {
        let now = self.now;
        if let Some(run) = self.running.get_mut(&id).filter(|run| run.silent_until.is_none() && !run.recalled) {
            run.silent_until = Some(now);
            self.silent.insert((now, id));
        }
    }

    /// Asks runners that have been silent for too long for one token.
    pub(super) fn watch_silence(&mut self, out: &mut Vec<Decision>) {
        while let Some((at, id)) = self.silent.first().copied()
            && at <= self.now
        {
            self.silent.remove(&(at, id));
            let Some(run) = self.running.get(&id) else { continue };
            let (pool, endpoint) = (run.pool, run.endpoint);
            let before_first_word = run.streams && run.began.is_none();
            let within = self.silence(pool, run);
            self.be_patient(id, within);
            let silent = |id: &TicketId| self.running.get(id).is_some_and(|run| run.suspect);
            let members = &mut self.pools[pool.0];
            let Some(runner) = members.runners.get_mut(&endpoint) else { continue };
            let free = runner.used < runner.open();
            if !free && !before_first_word {
                // the probe would wait behind answers that may only take long, and what has begun cannot begin again
                let told = !runner.inside.iter().all(silent) || std::mem::replace(&mut runner.health.told, true);
                if !told {
                    let (model, running) = (runner.order.model.clone(), runner.used);
                    out.push(Decision::Notice(Notice::Hushed { endpoint, model, running }));
                }
                continue;
            }
            if std::mem::replace(&mut runner.health.probing, true) {
                continue;
            }
            runner.health.free = free;
            let weights = members.weights.clone();
            let order = runner.order.clone();
            out.push(Decision::Notice(Notice::Silent { endpoint, model: order.model.clone() }));
            let within = within.min(Duration::from_secs(60));
            out.push(Decision::Residency(ResidencyCommand::Probe { endpoint, weights, order, within }));
        }
    }

    /// The next look at a request that is silent still.
    fn be_patient(&mut self, id: TicketId, for_: Duration) {
        let at = self.now.after(for_);
        if let Some(run) = self.running.get_mut(&id) {
            run.suspect = run.silent_until.is_some();
            run.silent_until = Some(at);
            self.silent.insert((at, id));
        }
    }

    /// A probe is over. A runner that answers is only slow; one that does not gets what is silent taken away, and a reload.
    pub(super) fn probed(&mut self, endpoint: EndpointId, weights: &str, alive: bool, out: &mut Vec<Decision>) {
        let Some(pool) = self.pool_index.get(weights).copied() else { return };
        let Some(runner) = self.pools[pool.0].runners.get_mut(&endpoint) else { return };
        runner.health.probing = false;
        let silent = |id: &TicketId| self.running.get(id).is_some_and(|run| run.suspect && run.silent_until.is_some());
        let stuck: Vec<TicketId> = runner.inside.iter().copied().filter(silent).collect();
        // who was silent may have left meanwhile; a token that did not come to a free slot says enough
        if alive || (stuck.is_empty() && !runner.health.free) {
            return;
        }
        runner.health.lost = runner.health.lost.max(u32::try_from(stuck.len()).unwrap_or(u32::MAX));
        runner.health.reload = true;
        let model = runner.order.model.clone();
        out.push(Decision::Notice(Notice::Stuck { endpoint, model, recalled: stuck.len() }));
        for id in stuck {
            self.began(id);
            if let Some(run) = self.running.get_mut(&id) {
                run.recalled = true;
            }
            out.push(Decision::Recall { id });
        }
    }

    /// What an answer's own figures say of the slots. Those of vectors do not tell what the time went into.
    pub(super) fn judge_slots(&mut self, run: &Running, seen: Observed, service: f64, out: &mut Vec<Decision>) {
        let now = self.now;
        let members = &mut self.pools[run.pool.0];
        let tells = seen.complete && run.work.kind == WorkKind::Generate;
        let Some(runner) = members.runners.get_mut(&run.endpoint).filter(|_| tells) else { return };
        let waited = runner.health.waited(run, seen, now);
        runner.health.ended(End { at: now, prompt: seen.prompt_seconds, output: seen.output_seconds });
        if !run.filled {
            return;
        }
        if runner.health.capped.is_some() && runner.health.capped_until <= self.now {
            // the server may have been mended: if not, the first waits inside it say so again
            let Health { lost, capped_times, .. } = runner.health;
            let ends = std::mem::take(&mut runner.health.ends);
            runner.health = Health { healed: true, lost, capped_times, ends, ..Health::default() };
        }
        runner.health.answers += 1;
        if runner.health.answers > FRESH && runner.health.capped.is_none() {
            runner.health.capped_times = 0;
        }
        if waited <= 0.0 {
            runner.health.suspicions = runner.health.suspicions.saturating_sub(1);
        } else if waited >= (0.5 * service).max(LEAST_WAIT) {
            runner.health.suspicions += SUSPICION;
        }
        if runner.health.suspicions < SUSPICIONS || runner.health.reload {
            return;
        }
        runner.health.suspicions = 0;
        let (endpoint, claimed, model) = (run.endpoint, runner.slots, runner.order.model.clone());
        if runner.health.healed && runner.health.answers <= FRESH {
            let seems = runner.open().saturating_sub(1).max(1);
            let health = &mut runner.health;
            let believed = (CAPPED * 2_u32.saturating_pow(health.capped_times)).min(RELEARN);
            health.capped_times = (health.capped_times + 1).min(8);
            (health.capped, health.capped_until) = (Some(seems), self.now.after(believed));
            out.push(Decision::Notice(Notice::FewerSlots { endpoint, model, claimed, seems }));
        } else if runner.open() > 0 {
            runner.health.lost += 1;
            runner.health.reload = true;
            out.push(Decision::Notice(Notice::SlotLost { endpoint, model, left: runner.open(), claimed }));
        }
    }

    /// Begins the reload of a runner that needs one: at once when nothing can run on it any more or nothing does; else when
    /// the swap credit pays for it.
    pub(super) fn heal(&mut self, site: EndpointId, out: &mut Vec<Decision>) -> bool {
        let due = |runner: &Runner| runner.state == Residency::Resident && runner.health.reload;
        let due = self.in_memory(site).find(|held| self.pools[held.pool.0].runners.get(&site).is_some_and(due));
        let Some(pool) = due.map(|held| held.pool) else { return false };
        let dearest = self.dearest(site);
        let Some(state) = self.sites.get_mut(&site) else { return false };
        let Some(runner) = self.pools[pool.0].runners.get_mut(&site) else { return false };
        let free = runner.open() == 0 || runner.used == 0;
        if !free && state.credit(dearest) < runner.cost {
            return false;
        }
        runner.enter(Residency::Leaving, self.now);
        state.swap = Some(Swap { candidate: Some(pool), displaces: !free, heals: true, ..Swap::default() });
        state.wake = None;
        self.continue_swap(site, out);
        true
    }

    /// An unload did not happen: what asked for it is off, and an endpoint where it was to heal rests.
    pub(super) fn unload_failed(&mut self, site: EndpointId, pool: PoolIndex, out: &mut Vec<Decision>) {
        let model = self.pools[pool.0].runners.get(&site).map_or_else(String::new, |runner| runner.order.model.clone());
        let healed = self.sites.get(&site).and_then(|state| state.swap.as_ref()).is_some_and(|swap| swap.heals);
        // a load that is out already goes on, whoever stays beside it
        if self.loading(site).is_none() {
            self.abandon_swap(site, out);
        }
        if !healed {
            // somebody else may be using it: it is no victim for a while, and nobody else the worse for it
            if let Some(runner) = self.pools[pool.0].runners.get_mut(&site) {
                runner.held_times = runner.held_times.saturating_add(1);
                let rest = (SICK.0 * 2_u32.saturating_pow(runner.held_times)).min(SICK.1);
                runner.held_until = self.now.after(rest);
            }
            return;
        }
        let Some(state) = self.sites.get_mut(&site) else { return };
        state.sick_times += 1;
        let rest = (SICK.0 * 2_u32.saturating_pow(state.sick_times - 1)).min(SICK.1);
        state.sick_until = Some(self.now.after(rest));
        out.push(Decision::Notice(Notice::Unhealable { endpoint: site, model, rest }));
    }

    /// An endpoint may not be used any more. A change that has ordered nothing yet is off: nothing would go on with it. One that
    /// answers was ejected because its calls fail: if that lasts, what is in memory there is loaded anew.
    pub(super) fn leave(&mut self, site: EndpointId, answers: bool, out: &mut Vec<Decision>) {
        let ordered = |runner: &Runner| matches!(runner.state, Residency::Loading | Residency::Unloading);
        let under_way = self.pools.iter().any(|pool| pool.runners.get(&site).is_some_and(ordered));
        if !under_way && self.sites.get(&site).is_some_and(|state| state.swap.is_some()) {
            self.abandon_swap(site, out);
        }
        if let Some(swap) = self.sites.get_mut(&site).and_then(|state| state.swap.as_mut()) {
            // others on its GPU may take the room meanwhile: what was to be loaded anew has to fit again
            swap.heals = false;
        }
        if let Some(state) = self.sites.get_mut(&site).filter(|_| answers) {
            state.heal_at = Some(self.now.after(EJECTED));
        }
    }

    /// An endpoint is used again: a token came from it, so that nothing there needs healing for its sake.
    pub(super) fn come_back(&mut self, site: EndpointId, out: &mut Vec<Decision>) {
        if let Some(state) = self.sites.get_mut(&site) {
            (state.sick_until, state.sick_times, state.heal_at) = (None, 0, None);
        }
        self.admit_everywhere(out);
    }

    /// Endpoints that have rested for long enough are used again.
    pub(super) fn recover(&mut self, out: &mut Vec<Decision>) {
        let mut rested = false;
        for (id, site) in &mut self.sites {
            rested |= site.sick_until.take_if(|until| *until <= self.now).is_some();
            if site.heal_at.take_if(|at| *at <= self.now).is_some() {
                for runner in self.pools.iter_mut().filter_map(|pool| pool.runners.get_mut(id)) {
                    runner.health.reload |= runner.state == Residency::Resident;
                }
            }
        }
        if rested {
            self.admit_everywhere(out);
        }
    }

    /// When an endpoint that rests is tried again.
    pub(super) fn recovers(&self) -> impl Iterator<Item = Moment> {
        let times = self.sites.values().flat_map(|site| [site.sick_until, site.heal_at]).flatten();
        times.filter(|until| *until > self.now)
    }
}

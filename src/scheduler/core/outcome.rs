//! What came of loads and unloads: arrivals, failures, quarantine.
//!
//! Owns the reports' side of a change of residents; what is ordered is `swap`'s.

use std::time::Duration;

use crate::domain::{EndpointId, Moment};

use super::pool::PoolIndex;
use super::site::{Residency, Runner, Swap};
use super::{Core, Decision, LoadError, Refused, TicketId};

/// Failures in a row after which callers are told instead of kept waiting.
const PATIENCE: u32 = 3;
/// Before a model that was removed is asked for again; the fleet view tells callers sooner.
const GONE: Duration = Duration::from_secs(5);
/// Between two tries of a model that keeps failing.
const QUARANTINE: Duration = Duration::from_secs(60);

impl Core {
    /// A load that was ordered is over.
    pub(super) fn loaded(
        &mut self,
        site: EndpointId,
        weights: &str,
        result: Result<(), LoadError>,
        out: &mut Vec<Decision>,
    ) {
        let Some(pool) = self.pool_index.get(weights).copied() else { return };
        let swap = self.sites.get_mut(&site).and_then(|state| {
            let mine = state.swap.as_ref().is_some_and(|swap| swap.candidate == Some(pool));
            if mine { state.swap.take() } else { None }
        });
        self.charge(site, swap.as_ref());
        let Some(runner) = self.pools[pool.0].runners.get_mut(&site) else { return };
        match result {
            Ok(()) => {
                let cost = swap.as_ref().map_or(0.0, |swap| swap.cost);
                runner.arrive(cost, self.now);
                let pinned = runner.is_pinned();
                self.note_memory(pool, site);
                self.stay(site);
                if pinned {
                    self.refuse_pinned_out(out);
                }
                let there: Vec<_> = self.in_memory(site).collect();
                let together = there.iter().map(|held| held.bytes).fold(0, u64::saturating_add);
                let (now, pushed_out) = (self.now, swap.as_ref().and_then(|swap| swap.pushed_out));
                if let Some(state) = self.sites.get_mut(&site) {
                    if let Some(before) = pushed_out.filter(|before| together < *before) {
                        state.broke(before, now);
                    }
                    state.idle_check = Moment::ZERO;
                    if there.len() > 1 {
                        state.trial = Some((now, together));
                    }
                }
            }
            Err(error) => {
                let late = self.now.since(runner.since) >= runner.load_limit();
                let pushed_out = swap.as_ref().is_some_and(|swap| swap.pushed_out.is_some());
                let crowded = late || pushed_out || error.is_of_memory();
                self.stay(site);
                self.failed(pool, site, error, out);
                if crowded {
                    self.does_not_fit(pool, site);
                }
            }
        }
        self.admit_everywhere(out);
    }

    /// A load failed.
    fn failed(&mut self, pool: PoolIndex, site: EndpointId, error: LoadError, out: &mut Vec<Decision>) {
        let Some(runner) = self.pools[pool.0].runners.get_mut(&site) else { return };
        let LoadError { reason, gone } = error;
        runner.failures = if gone { PATIENCE } else { runner.failures + 1 };
        runner.reason = reason;
        let pause = if gone {
            GONE
        } else if runner.failures < PATIENCE {
            Duration::from_secs(1 << runner.failures.min(5))
        } else {
            QUARANTINE
        };
        runner.enter(Residency::Failed(self.now.after(pause)), self.now);
        let given_up = runner.failures >= PATIENCE;
        self.note_memory(pool, site);
        if given_up {
            self.refuse_pool(pool, out);
        }
    }

    /// A load failed for which Ollama may have had to make room that was taken: whatever was planned, it is believed not to
    /// fit beside what is in memory there, so that the next try makes room first.
    fn does_not_fit(&mut self, pool: PoolIndex, site: EndpointId) {
        let beside: Vec<u64> = self.in_memory(site).map(|held| held.bytes).collect();
        let (need, now) = (self.need(pool, site), self.now);
        if let Some(state) = self.sites.get_mut(&site).filter(|_| !beside.is_empty()) {
            state.broke(beside.into_iter().fold(need, u64::saturating_add), now);
        }
    }

    /// What was to go, and has not begun to when the change is over, stays.
    pub(super) fn stay(&mut self, site: EndpointId) {
        for members in &mut self.pools {
            if let Some(runner) = members.runners.get_mut(&site).filter(|runner| runner.state == Residency::Leaving) {
                runner.enter(Residency::Resident, self.now);
            }
        }
    }

    /// Takes what a displacing swap cost from the credit, however it ended.
    pub(super) fn charge(&mut self, site: EndpointId, swap: Option<&Swap>) {
        let dearest = self.dearest(site);
        if let (Some(state), Some(swap)) = (self.sites.get_mut(&site), swap.filter(|swap| swap.displaces)) {
            state.credit = state.credit(dearest) - swap.cost;
        }
    }

    /// An unload that was ordered is over. One that did not succeed leaves the runner resident.
    pub(super) fn unloaded(&mut self, site: EndpointId, weights: &str, gone: bool, out: &mut Vec<Decision>) {
        let Some(pool) = self.pool_index.get(weights).copied() else { return };
        if let Some(runner) = self.pools[pool.0].runners.get_mut(&site)
            && runner.state == Residency::Unloading
        {
            let took = self.now.since(runner.since).as_secs_f64();
            runner.enter(if gone { Residency::Absent } else { Residency::Resident }, self.now);
            runner.last_work = self.now;
            self.note_memory(pool, site);
            if let Some(state) = self.sites.get_mut(&site).filter(|_| gone) {
                state.learn_unload(took);
                state.sick_times = 0;
            } else {
                self.unload_failed(site, pool, out);
            }
        }
        self.admit_everywhere(out);
    }

    /// Everything that waits for weights that cannot be loaded anywhere learns why.
    fn refuse_pool(&mut self, pool: PoolIndex, out: &mut Vec<Decision>) {
        let Some(why) = self.quarantined(pool) else { return };
        for id in self.waiting_for(pool) {
            self.take(id);
            out.push(Decision::Refuse { id, why: why.clone() });
        }
    }

    /// So does what waits for weights to which something that is pinned leaves no room now.
    fn refuse_pinned_out(&mut self, out: &mut Vec<Decision>) {
        for pool in
            (0..self.pools.len()).map(PoolIndex).filter(|pool| self.pools[pool.0].alive() > 0).collect::<Vec<_>>()
        {
            for id in self.waiting_for(pool) {
                let seats = self.waiting.get(&id).map(|waiting| waiting.seats.clone());
                if let Some(why) = seats.and_then(|seats| self.pinned_out(pool, &seats)) {
                    self.take(id);
                    out.push(Decision::Refuse { id, why });
                }
            }
        }
    }

    fn waiting_for(&self, pool: PoolIndex) -> Vec<TicketId> {
        let lines = self.pools[pool.0].lines.ids().flat_map(|(_, line)| line.iter().copied());
        lines.filter(|id| self.waiting.contains_key(id)).collect()
    }

    /// Why nothing of this pool can run now, if every runner of it keeps failing.
    pub(super) fn quarantined(&self, pool: PoolIndex) -> Option<Refused> {
        let runners = &self.pools[pool.0].runners;
        let failing = |runner: &Runner| match runner.state {
            Residency::Failed(until) if runner.failures >= PATIENCE && until > self.now => Some(until),
            _ => None,
        };
        let until = runners.values().map(failing).collect::<Option<Vec<_>>>()?.into_iter().min()?;
        let reason = runners.values().map(|runner| runner.reason.clone()).next().unwrap_or_default();
        Some(Refused::Unloadable { reason, retry: until.since(self.now) })
    }
}

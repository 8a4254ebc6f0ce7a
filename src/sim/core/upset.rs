//! What tests break in the machine: loads that fail, runners that hang, stay, or have lost a slot.
//!
//! Owns only the switches; the machine and its runners act on them.

use std::sync::Arc;

use super::runner::Runner;
use super::{Action, Core, Id, LoadFault};
use crate::domain::Moment;

impl Core {
    /// The next load of these weights that no earlier fault takes goes wrong.
    pub(in crate::sim) fn upset_load(&mut self, weights: &str, fault: LoadFault) {
        self.upsets.entry(weights.into()).or_default().push_back(fault);
    }

    /// These weights are no longer on the disk: a runner that has them stays, a load of them fails.
    pub(in crate::sim) fn remove(&mut self, weights: &str) {
        self.removed.insert(weights.into());
    }

    /// What goes wrong with the load that begins now.
    pub(super) fn load_fault(&mut self, weights: &Arc<str>) -> Option<LoadFault> {
        if self.removed.contains(weights) {
            return Some(LoadFault::Missing);
        }
        self.upsets.get_mut(weights)?.pop_front()
    }

    /// Does something to the runner of these weights; false when there is none in memory.
    pub(in crate::sim) fn upset(&mut self, now: Moment, weights: &str, how: RunnerFault) -> (bool, Vec<Action>) {
        self.advance(now);
        let runner = self.runners.get_mut(weights);
        let there = runner.is_some();
        match (runner, how) {
            (Some(runner), RunnerFault::Hangs) => runner.hung = true,
            (Some(runner), RunnerFault::LosesSlot) => runner.lose_slot(),
            (Some(runner), RunnerFault::Stays(stays)) => runner.stays = stays,
            (None, _) => {}
        }
        self.settle(now);
        (there, self.take())
    }

    /// Whether the runner that this request holds hangs.
    pub(in crate::sim) fn hangs(&self, id: Id) -> bool {
        self.held_by(id).is_some_and(|runner| runner.hung)
    }

    fn held_by(&self, id: Id) -> Option<&Runner> {
        self.runners.get(&self.weights_of(id)?)
    }
}

/// What can be wrong with a loaded runner until it is unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum RunnerFault {
    /// Its process listens, and nothing more comes of it.
    Hangs,
    /// One of its slots is never given back.
    LosesSlot,
    /// Whether it stays in memory although it should go.
    Stays(bool),
}

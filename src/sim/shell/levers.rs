//! What tests may break in a running stand-in besides single answers: loads, runners, and what `/api/ps` says.
//!
//! A tag that does not exist is nothing to break, and the methods say so.

use super::control::Lie;
use super::manage;
use super::server::Sim;
use crate::sim::core::{LoadFault, RunnerFault};

impl Sim {
    /// The next `times` loads of the tag's weights go wrong; false when there is no such tag.
    pub fn upset_loads(&self, tag: &str, fault: &LoadFault, times: usize) -> bool {
        let Some(weights) = self.weights(tag) else { return false };
        for _ in 0..times {
            self.app.stage.upset_load(&weights, fault.clone());
        }
        true
    }

    /// The tag's loaded runner hangs but listens: no request on it gets anything more, everything else looks healthy,
    /// until its callers are gone and it is unloaded. False when it is not loaded.
    pub fn hang(&self, tag: &str) -> bool {
        self.upset(tag, RunnerFault::Hangs)
    }

    /// The tag's loaded runner has one slot fewer, perhaps none, until it is unloaded. False when it is not loaded.
    pub fn lose_slot(&self, tag: &str) -> bool {
        self.upset(tag, RunnerFault::LosesSlot)
    }

    /// The tag's loaded runner stays in memory whatever unloads it, or goes again when it should. False when it is
    /// not loaded.
    pub fn hold_unload(&self, tag: &str, holds: bool) -> bool {
        self.upset(tag, RunnerFault::Stays(holds))
    }

    /// What `/api/ps` says from now on; `None` for the truth.
    pub fn lie(&self, lie: Option<Lie>) {
        let lie = match lie {
            Some(Lie::Old) => Some(Lie::Says(manage::loaded(&self.app, false))),
            other => other,
        };
        self.app.stage.control.set_lie(lie);
    }

    fn upset(&self, tag: &str, how: RunnerFault) -> bool {
        self.weights(tag).is_some_and(|weights| self.app.stage.upset(&weights, how))
    }
}

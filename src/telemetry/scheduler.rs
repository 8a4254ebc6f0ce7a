//! The families of admission: why requests waited, how well waits were predicted, what had to be healed, swap credit.
//!
//! Owns names, help texts, labels and buckets. The bound on labels is in the types and in the configuration's endpoints.

use std::sync::Arc;
use std::time::Duration;

use super::{Counters, Histograms, Label, Levels, Registry};

/// Error of a predicted wait ÷ the real one (at least a second).
const ERRORS: &[f64] = &[0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0];
const WAITS: &[f64] = &[0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

/// A wait that was told and was shorter than this, seconds, is none: a slot that was about to be given back.
const NO_WAIT: f64 = 0.1;

/// The scheduler's families; clones share them.
#[derive(Debug, Clone)]
pub struct SchedulerMetrics {
    endpoints: Arc<[String]>,
    waits: Histograms<1>,
    errors: Histograms<1>,
    troubles: Counters<2>,
    credit: Levels<1>,
    planned: Levels<1>,
}

impl SchedulerMetrics {
    /// Registers the families, for endpoints with these names (by id). Once for each registry.
    #[must_use]
    pub fn register(to: &Registry, endpoints: Vec<String>) -> Self {
        Self {
            endpoints: endpoints.into(),
            waits: to.histograms(
                "scheduler_wait_seconds",
                "Waits that ended in a slot, by why they began",
                ["reason"],
                WAITS,
            ),
            errors: to.histograms(
                "scheduler_wait_prediction_error_ratio",
                "Difference between predicted and real wait of those that had to wait, divided by the real one or a second",
                ["class"],
                ERRORS,
            ),
            troubles: to.counters(
                "scheduler_troubles",
                "Runners that fell silent, hung, lost slots, left memory by themselves or could not be unloaded",
                ["endpoint", "trouble"],
            ),
            credit: to.levels("scheduler_swap_credit_seconds", "What displacing swaps may cost now", ["endpoint"]),
            planned: to.levels(
                "scheduler_planned_bytes",
                "Memory of what is resident or coming, by plan",
                ["endpoint"],
            ),
        }
    }

    /// The endpoint's name in the configuration.
    #[must_use]
    pub fn endpoint(&self, id: u16) -> &str {
        self.endpoints.get(usize::from(id)).map_or("unknown", String::as_str)
    }

    /// Counts a wait that is over, and how well it was predicted.
    pub fn waited(&self, reason: &'static str, class: &'static str, waited: Duration, predicted: Option<Duration>) {
        self.waits.observe([reason.into()], waited.as_secs_f64());
        if let Some(told) = predicted {
            self.foretold(class, waited, told);
        }
    }

    /// Counts how well a wait was predicted, however it ended.
    pub fn foretold(&self, class: &'static str, waited: Duration, told: Duration) {
        let (waited, told) = (waited.as_secs_f64(), told.as_secs_f64());
        // what started as good as at once, as it was told, would hide the others
        if told.max(waited) >= NO_WAIT {
            self.errors.observe([class.into()], (told - waited).abs() / waited.max(1.0));
        }
    }

    /// Counts something that went wrong with a runner.
    pub fn trouble(&self, endpoint: u16, trouble: &'static str) {
        self.troubles.add([self.label(endpoint), trouble.into()], 1);
    }

    /// Says what an endpoint's swaps may cost and what its runners are planned to take.
    pub fn site(&self, endpoint: u16, credit: f64, planned: f64) {
        self.credit.set([self.label(endpoint)], credit);
        self.planned.set([self.label(endpoint)], planned);
    }

    fn label(&self, endpoint: u16) -> Label {
        self.endpoint(endpoint).to_owned().into()
    }
}

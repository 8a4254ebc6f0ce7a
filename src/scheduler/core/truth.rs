//! What an endpoint says is loaded, against what we believe.
//!
//! Owns the correction of residency by `/api/ps`. It does not own what is done about it (`swap`).

use crate::domain::{EndpointId, Moment};

use super::site::{Residency, Runner};
use super::{Core, Decision, Sighting};

impl Core {
    /// What an endpoint says is loaded, against what we believe. Only what stood before it was asked can be wrong.
    pub(super) fn saw(&mut self, site: EndpointId, asked: Moment, residents: Vec<Sighting>, out: &mut Vec<Decision>) {
        let total: u64 = residents.iter().map(|resident| resident.bytes).sum();
        for resident in &residents {
            let pool = self.pool_of(&resident.weights);
            let now = self.now;
            let runners = &mut self.pools[pool.0].runners;
            let runner = runners
                .entry(site)
                .or_insert_with(|| Runner::new(resident.order.clone(), resident.bytes, 1.0, Moment::ZERO));
            runner.need = resident.bytes;
            runner.seen = true;
            if runner.since < asked && matches!(runner.state, Residency::Absent | Residency::Failed(_)) {
                runner.enter(Residency::Resident, now);
                runner.last_work = now;
            }
        }
        let mut vanished = false;
        for pool in &mut self.pools {
            let listed = residents.iter().any(|resident| resident.weights == pool.weights);
            let Some(runner) = pool.runners.get_mut(&site).filter(|_| !listed) else { continue };
            if runner.since < asked && matches!(runner.state, Residency::Resident | Residency::Leaving) {
                vanished |= runner.used == 0;
                runner.enter(Residency::Absent, self.now);
            }
        }
        if let Some(state) = self.sites.get_mut(&site) {
            state.idle_check = Moment::ZERO;
            match state.trial.take_if(|(since, _)| *since < asked) {
                // Ollama made room for our load by itself: these do not fit together
                Some((_, together)) if vanished => state.broke(together),
                _ => state.saw(total),
            }
        }
        self.admit_everywhere(out);
    }
}

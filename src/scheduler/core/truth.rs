//! What an endpoint says is loaded, against what we believe.
//!
//! Owns the correction of residency by `/api/ps`. It does not own what is done about it (`swap`).

use crate::domain::{EndpointId, Moment};

use super::site::{Fit, Residency, Runner};
use super::{Core, Decision, Notice, Sighting};

impl Core {
    /// What an endpoint says is loaded, against what we believe. Only what stood before it was asked can be wrong.
    pub(super) fn saw(&mut self, site: EndpointId, asked: Moment, residents: Vec<Sighting>, out: &mut Vec<Decision>) {
        let total = residents.iter().map(|resident| resident.bytes).fold(0, u64::saturating_add);
        let most = self.most_room(site);
        for resident in &residents {
            let pool = self.pool_of(&resident.weights);
            let now = self.now;
            let new = || {
                let guess = guess(resident.bytes);
                let mut runner = Runner::new(resident.order.clone(), resident.bytes, guess, Moment::ZERO);
                runner.slots = resident.slots;
                runner
            };
            let known = self.pools[pool.0].runners.len();
            let runner = self.runner(pool, site, new);
            // a size of nothing says nothing
            if resident.bytes > 0 {
                // one that spilled is larger than the room, and was loaded all the same
                runner.need = resident.bytes.min(most.unwrap_or(u64::MAX));
                runner.seen = true;
            }
            if runner.since < asked && matches!(runner.state, Residency::Absent | Residency::Failed(_)) {
                runner.enter(Residency::Resident, now);
                runner.last_work = now;
                runner.ours = false;
                self.note_memory(pool, site);
                self.place_on_gpus(pool, site);
            }
            let members = &mut self.pools[pool.0];
            members.mixed |= known > 0 && members.runners.len() > known;
        }
        let together: u64 = self.in_memory(site).map(|held| held.bytes).fold(0, u64::saturating_add);
        let (mut vanished, mut shares) = (false, Vec::new());
        let there: Vec<_> = self.in_memory(site).map(|held| held.pool).collect();
        for at in there {
            let pool = &mut self.pools[at.0];
            let listed = residents.iter().any(|resident| resident.weights == pool.weights);
            let Some(runner) = pool.runners.get_mut(&site).filter(|_| !listed) else { continue };
            if runner.since < asked && matches!(runner.state, Residency::Resident | Residency::Leaving) {
                vanished |= runner.used == 0;
                if runner.ours {
                    let model = runner.order.model.clone();
                    out.push(Decision::Notice(Notice::Vanished { endpoint: site, model }));
                }
                shares.extend(runner.leave(Residency::Absent, self.now));
                runner.health.fresh();
                self.note_memory(at, site);
            }
        }
        self.pay(shares);
        let now = self.now;
        if let Some(state) = self.sites.get_mut(&site) {
            state.idle_check = Moment::ZERO;
            if let Some(swap) = state.swap.as_mut().filter(|swap| vanished && swap.candidate.is_some()) {
                // gone while our load is under way: if that succeeds, it is what pushed it out
                swap.pushed_out = Some(together);
            }
            match state.trial.take_if(|(since, _)| *since < asked) {
                // Ollama made room for our load by itself: these do not fit together
                Some((_, together)) if vanished => state.broke(together, now),
                _ => state.saw(total, now),
            }
        }
        self.make_way(site);
        self.admit_everywhere(out);
    }

    /// What somebody else loaded while our load was on its way, and that leaves it no room, goes by our order: Ollama's own
    /// eviction of it waits for as long as they ask, and for ever once a request that names its `keep_alive` came (defect B2).
    fn make_way(&mut self, site: EndpointId) {
        let Some(candidate) = self.loading(site) else { return };
        let others: Vec<_> = self.in_memory(site).filter(|held| held.pool != candidate).collect();
        if self.fit_beside(site, candidate, &others) != Fit::No {
            return;
        }
        let now = self.now;
        for held in others {
            let Some(runner) = self.pools[held.pool.0].runners.get_mut(&site) else { continue };
            if runner.state == Residency::Resident && !runner.ours && runner.held_until <= now {
                runner.enter(Residency::Leaving, now);
            }
        }
    }
}

/// A first guess of the swap cost of what somebody else loaded: a gigabyte a second and a second.
#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn guess(bytes: u64) -> f64 {
    bytes as f64 / 1e9 + 1.0
}

//! What the core shows of itself: for metrics, the admin listener and the simulator's sweep.

use crate::domain::{AppName, Class, EndpointId};

use super::site::{Site, SwapBook};
use super::{Core, TicketId};

/// One runner.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerLoad {
    /// The weights.
    pub weights: Box<str>,
    /// Where.
    pub endpoint: EndpointId,
    /// Slots that may be used.
    pub slots: u32,
    /// Slots in use.
    pub used: u32,
    /// Where it is in its life: `absent`, `loading`, `resident`, `draining`, `unloading` or `failing`.
    pub state: &'static str,
    /// Bytes it needs, by plan or as last seen.
    pub need: u64,
    /// Seconds that a swap to it costs, learned or guessed.
    pub cost: f64,
}

/// One application's load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppLoad {
    /// Which.
    pub app: AppName,
    /// Its class.
    pub class: Class,
    /// Requests that wait.
    pub queued: u32,
    /// Requests that run.
    pub running: u32,
}

/// One endpoint's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteLoad {
    /// Which.
    pub endpoint: EndpointId,
    /// Seconds that displacing swaps may cost now.
    pub credit: f64,
    /// Bytes of what is resident or coming, by plan.
    pub planned: u64,
    /// Where its time went.
    pub book: SwapBook,
    /// Whether a change of residents is under way.
    pub changing: bool,
    /// Whether nothing is sent there because it could not be healed.
    pub resting: bool,
}

/// The whole state in numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CoreView {
    /// Requests that wait.
    pub queued: usize,
    /// Bytes they hold.
    pub queued_bytes: usize,
    /// Every runner seen so far.
    pub runners: Vec<RunnerLoad>,
    /// Every application with work.
    pub apps: Vec<AppLoad>,
    /// Every endpoint.
    pub sites: Vec<SiteLoad>,
}

impl Core {
    /// A snapshot.
    #[must_use]
    pub fn view(&self) -> CoreView {
        let runners = self.pools.iter().flat_map(|pool| {
            pool.runners.iter().map(|(endpoint, runner)| RunnerLoad {
                weights: pool.weights.clone(),
                endpoint: *endpoint,
                slots: if runner.is_in_memory() { runner.open() } else { 0 },
                used: runner.used,
                state: runner.state.as_str(),
                need: runner.need,
                cost: runner.cost,
            })
        });
        let busy = self.apps.iter().filter(|app| app.queued() > 0 || app.running > 0);
        let apps = busy.map(|app| AppLoad {
            app: app.name.clone(),
            class: app.class,
            queued: app.queued(),
            running: app.running,
        });
        CoreView {
            queued: self.waiting.len(),
            queued_bytes: self.queued_bytes,
            runners: runners.collect(),
            apps: apps.collect(),
            sites: self.sites.iter().map(|(id, site)| self.site_load(*id, site)).collect(),
        }
    }

    fn site_load(&self, endpoint: EndpointId, site: &Site) -> SiteLoad {
        let dearest = self.dearest(endpoint);
        SiteLoad {
            endpoint,
            credit: site.credit.clamp(-dearest, dearest),
            planned: self.planned(endpoint).0,
            book: site.book,
            changing: site.swap.is_some(),
            resting: site.sick_until.is_some_and(|until| until > self.now),
        }
    }

    /// Prompt tokens that `bytes` of text will be, by what was learned for these weights.
    #[must_use]
    pub fn estimate_tokens(&self, weights: &str, bytes: usize) -> u64 {
        let ratio = self.pool_index.get(weights).map_or(4.0, |pool| self.pools[pool.0].speed.bytes_per_token());
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a size over a positive ratio"
        )]
        let tokens = (bytes as f64 / ratio) as u64;
        tokens
    }

    /// Whether a ticket waits that could start now: must never be true after a step.
    #[must_use]
    pub fn starves_a_free_slot(&self) -> Option<TicketId> {
        (0..self.pools.len()).find_map(|pool| self.next_turn(super::PoolIndex(pool)).map(|(id, _)| id))
    }

    /// Bytes and number of the runners in memory at an endpoint, by plan.
    #[must_use]
    pub fn planned(&self, endpoint: EndpointId) -> (u64, u32) {
        let runners = self.pools.iter().filter_map(|pool| pool.runners.get(&endpoint));
        let loaded = runners.filter(|runner| runner.is_in_memory());
        loaded.fold((0, 0), |(bytes, count), runner| (bytes + runner.need, count + 1))
    }

    /// An application's tag, for fairness tests.
    #[cfg(test)]
    pub(super) fn running_of(&self, app: &AppName) -> u32 {
        self.app_index.get(app).map_or(0, |index| self.apps[index.0].running)
    }
}

//! What fits where: an endpoint's room, the GPUs it may share with others, and who would have to go.
//!
//! Owns the memory plan. What a runner needs comes with tickets and from `/api/ps`; what a GPU has free comes from whoever
//! can ask it. When a change of residents may happen is `swap`'s.
//!
//! A GPU's memory is what it has, less what strangers hold: that is what is in use beyond our own plan, looked at while
//! nothing of ours is being loaded or unloaded. Ollama puts a runner on the GPU with the most room where it fits, else over all of the
//! server's GPUs (`ollama-facts` 2.5); the plan does the same.

use crate::domain::EndpointId;

use super::pool::{Pool, PoolIndex};
use super::site::{BESIDE, Fit, Residency, Runner};
use super::{Core, Decision};

/// GPUs, by their place in the fleet's list; the first 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GpuSet(u64);

impl GpuSet {
    /// The GPUs at these places.
    #[must_use]
    pub fn of(places: impl IntoIterator<Item = usize>) -> Self {
        Self(places.into_iter().filter(|at| *at < 64).fold(0, |set, at| set | 1 << at))
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn places(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let next = (left != 0).then(|| left.trailing_zeros() as usize);
            left &= left.saturating_sub(1);
            next
        })
    }
}

/// One GPU as last seen, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gpu {
    total: u64,
    /// In use by nobody we know.
    strangers: u64,
}

impl Gpu {
    fn ours(self) -> u64 {
        self.total.saturating_sub(self.strangers)
    }
}

/// A runner in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) site: EndpointId,
    pub(super) pool: PoolIndex,
    pub(super) bytes: u64,
}

impl Core {
    /// What a GPU has and how much of it is in use.
    pub(super) fn saw_gpu(&mut self, place: usize, total: u64, used: u64, out: &mut Vec<Decision>) {
        let near = |id: &EndpointId| self.sites.get(id).is_some_and(|site| site.room.gpus.meets(GpuSet::of([place])));
        let moves = |runner: &Runner| matches!(runner.state, Residency::Loading | Residency::Unloading);
        let changing = |pool: &Pool| pool.runners.iter().any(|(id, runner)| near(id) && moves(runner));
        let changing = self.pools.iter().any(changing);
        let ours: u64 = self.on_gpu(place).map(|held| self.part(&held)).sum();
        let known = self.gpus.contains_key(&place);
        let gpu = self.gpus.entry(place).or_default();
        gpu.total = total;
        if !changing || !known {
            gpu.strangers = used.saturating_sub(ours);
        }
        self.admit_everywhere(out);
    }

    /// Runners in memory at an endpoint.
    pub(super) fn in_memory(&self, site: EndpointId) -> impl Iterator<Item = Held> {
        let held = self.sites.get(&site).into_iter().flat_map(|state| &state.held);
        held.map(move |pool| Held { site, pool: *pool, bytes: self.need(*pool, site) })
    }

    /// Notes whether a runner is in memory; to be told whenever it came or went.
    pub(super) fn note_memory(&mut self, pool: PoolIndex, site: EndpointId) {
        let there = self.pools[pool.0].runners.get(&site).is_some_and(Runner::is_in_memory);
        if let Some(state) = self.sites.get_mut(&site) {
            state.hold(pool, there);
        }
    }

    /// Endpoints that share a GPU with this one.
    pub(super) fn neighbours(&self, site: EndpointId) -> impl Iterator<Item = EndpointId> {
        let gpus = self.sites.get(&site).map(|state| state.room.gpus).unwrap_or_default();
        let near = self.sites.iter().filter(move |(id, state)| **id != site && state.room.gpus.meets(gpus));
        near.map(|(id, _)| *id)
    }

    fn runner_at(&self, held: &Held) -> Option<&Runner> {
        self.pools[held.pool.0].runners.get(&held.site)
    }

    /// Runners with a part of them on a GPU.
    fn on_gpu(&self, place: usize) -> impl Iterator<Item = Held> {
        let all = self.sites.keys().flat_map(|site| self.in_memory(*site));
        all.filter(move |held| self.runner_at(held).is_some_and(|runner| runner.on.meets(GpuSet::of([place]))))
    }

    /// The bytes of a runner on each of its GPUs.
    fn part(&self, held: &Held) -> u64 {
        let spread = self.runner_at(held).map_or(0, |runner| runner.on.0.count_ones());
        held.bytes / u64::from(spread.max(1))
    }

    /// Whether `candidate` has room at `site`, and who would have to go for it: the cheapest ones to bring back first,
    /// idle ones before those with work, and no more than needed.
    pub(super) fn make_room(&self, site: EndpointId, candidate: PoolIndex) -> (Fit, Vec<Held>) {
        let near = self.neighbours(site).flat_map(|other| self.in_memory(other));
        let mut staying: Vec<Held> = self.in_memory(site).chain(near).collect();
        let fit = |staying: &[Held]| self.fit_beside(site, candidate, staying);
        let at_once = fit(&staying);
        if at_once != Fit::No {
            return (at_once, Vec::new());
        }
        // dearest to lose first, so that victims are taken from the end
        staying.sort_by(|a, b| self.loss(b).total_cmp(&self.loss(a)));
        let mut victims = Vec::new();
        while fit(&staying) == Fit::No {
            let Some(at) = staying.iter().rposition(|held| !self.must_stay(held)) else {
                return (Fit::No, Vec::new());
            };
            victims.push(staying.remove(at));
        }
        // a cheap victim that a dearer one made needless stays
        for at in (0..victims.len()).rev() {
            let spared = victims[at];
            staying.push(spared);
            if fit(&staying) == Fit::No {
                staying.pop();
            } else {
                victims.remove(at);
            }
        }
        (fit(&staying), victims)
    }

    /// Whether `candidate` has room beside these runners, those of endpoints that share a GPU included.
    pub(super) fn fit_beside(&self, site: EndpointId, candidate: PoolIndex, staying: &[Held]) -> Fit {
        let Some(state) = self.sites.get(&site) else { return Fit::No };
        let need = self.need(candidate, site);
        let own = staying.iter().filter(|held| held.site == site);
        let (others, count) =
            own.fold((0_u64, 0), |(bytes, count), held| (bytes.saturating_add(held.bytes), count + 1));
        let fit = state.fit(need, others, count);
        if fit == Fit::No || !state.room.gpus.places().all(|place| self.gpus.contains_key(&place)) {
            return fit;
        }
        if state.room.gpus.is_empty() || self.fits_on_gpus(state.room.gpus, need, staying) { fit } else { Fit::No }
    }

    fn fits_on_gpus(&self, gpus: GpuSet, need: u64, staying: &[Held]) -> bool {
        let on = |place: usize| {
            let there = |held: &&Held| self.runner_at(held).is_some_and(|r| r.on.meets(GpuSet::of([place])));
            staying.iter().filter(there).map(|held| self.part(held)).sum::<u64>()
        };
        let free = |place: usize| self.gpus.get(&place).map_or(0, |gpu| gpu.ours()).saturating_sub(on(place));
        let all: u64 = gpus.places().map(free).sum();
        if gpus.places().all(|place| on(place) == 0) {
            return need <= all;
        }
        let most = gpus.places().map(free).max().unwrap_or(0);
        need <= BESIDE.of(most) || need <= BESIDE.of(all)
    }

    /// Notes which GPUs a runner that comes into memory is taken to be on, as Ollama chooses them.
    pub(super) fn place_on_gpus(&mut self, pool: PoolIndex, site: EndpointId) {
        let Some(gpus) = self.sites.get(&site).map(|state| state.room.gpus).filter(|gpus| !gpus.is_empty()) else {
            return;
        };
        let need = self.need(pool, site);
        let on = |place: usize| self.on_gpu(place).filter(|held| (held.site, held.pool) != (site, pool));
        let free = |place: usize| {
            let others: u64 = on(place).map(|held| self.part(&held)).sum();
            self.gpus.get(&place).map_or(0, |gpu| gpu.ours()).saturating_sub(others)
        };
        let roomiest = gpus.places().max_by_key(|place| (free(*place), usize::MAX - place));
        let one = roomiest.filter(|place| need <= BESIDE.of(free(*place)));
        let chosen = one.map_or(gpus, |place| GpuSet::of([place]));
        if let Some(runner) = self.pools[pool.0].runners.get_mut(&site) {
            runner.on = chosen;
        }
    }

    /// The most that a runner could ever have at an endpoint, where that is known.
    pub(super) fn most_room(&self, site: EndpointId) -> Option<u64> {
        let room = self.sites.get(&site)?.room;
        let gpus = room.gpus.places().map(|place| self.gpus.get(&place).map(|gpu| gpu.ours()));
        let gpus = if room.gpus.is_empty() { None } else { gpus.sum::<Option<u64>>() };
        room.bytes.into_iter().chain(gpus).min()
    }

    pub(super) fn need(&self, pool: PoolIndex, site: EndpointId) -> u64 {
        self.pools[pool.0].runners.get(&site).map_or(0, |runner| runner.need)
    }

    /// What is pinned in memory there, and at endpoints that share a GPU with it.
    pub(super) fn pinned_near(&self, site: EndpointId) -> Vec<Held> {
        let there = std::iter::once(site).chain(self.neighbours(site)).flat_map(|site| self.in_memory(site));
        there.filter(|held| self.runner_at(held).is_some_and(Runner::is_pinned)).collect()
    }

    /// Whether it is no victim: it is pinned, or at another endpoint where something comes or goes already.
    fn must_stay(&self, held: &Held) -> bool {
        let stays = |r: &Runner| r.is_pinned() || r.held_until > self.now || r.state == Residency::Unloading;
        self.runner_at(held).is_none_or(stays) || self.sites.get(&held.site).is_some_and(|s| s.swap.is_some())
    }

    /// What losing a runner would cost: idle ones little, else reload time × demand.
    pub(super) fn loss(&self, held: &Held) -> f64 {
        let members = &self.pools[held.pool.0];
        let Some(runner) = self.runner_at(held) else { return 0.0 };
        let demand = f64::from(runner.used) + f64::from(u32::try_from(members.alive()).unwrap_or(u32::MAX));
        let idle = self.now.since(runner.last_work).as_secs_f64();
        runner.cost * (demand + 1.0 / (1.0 + idle))
    }
}

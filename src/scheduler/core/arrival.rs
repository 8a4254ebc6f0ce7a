//! When a model that is not in memory will be: the rules of `swap` run forward, one change of residents after the other.
//!
//! Owns that prediction only; it changes nothing.

use std::cell::OnceCell;
use std::time::Duration;

use crate::domain::{Class, EndpointId};

use super::Core;
use super::forecast::{Place, as_f64};
use super::memory::Held;
use super::pool::PoolIndex;
use super::site::{Fit, Residency, SWAP_OVERHEAD};

/// Changes of residents that are followed one by one.
const FOLLOWED: usize = 8;
/// In a large house a prediction is used again for this long.
const KEPT: Duration = Duration::from_millis(200);

/// An endpoint's memory in the future.
struct Future {
    /// Seconds from now.
    time: f64,
    credit: f64,
    /// The dearest to lose first.
    residents: Vec<Guest>,
}

impl Future {
    fn add(&mut self, guest: Guest) {
        let at = self.residents.partition_point(|other| other.loss >= guest.loss);
        self.residents.insert(at, guest);
    }
}

/// Who is in memory then, and what losing it would cost.
#[derive(Clone, Copy)]
struct Guest {
    held: Held,
    loss: f64,
}

impl Core {
    /// Seconds until admissions at an endpoint go on, when they are held for a change of residents.
    pub(super) fn held_for(&self, id: EndpointId) -> f64 {
        if self.is_held(id) { self.change_left(id, self.in_memory(id)) } else { 0.0 }
    }

    /// Seconds until `pool` will be in memory at `site`, where its first ticket there has its turn at `place`; `None` where
    /// it cannot be loaded at all. Who else is `wanted` is worked out at most once for all the sites of a pool.
    pub(super) fn arrival(
        &self,
        site: EndpointId,
        pool: PoolIndex,
        (place, class): (Place, Class),
        wanted: &OnceCell<Vec<PoolIndex>>,
    ) -> Option<f64> {
        let key = (site, pool, class);
        let known = self.arrivals.borrow().get(&key).copied().filter(|_| self.look.large);
        match known.filter(|(at, _)| self.now.since(*at) < KEPT) {
            Some((at, arrives)) => arrives.map(|arrives| (arrives - self.now.since(at).as_secs_f64()).max(0.0)),
            None => {
                let arrives = self.follow_all(site, pool, (place, class), wanted.get_or_init(|| self.wanted()));
                if self.look.large {
                    self.arrivals.borrow_mut().insert(key, (self.now, arrives));
                }
                arrives
            }
        }
    }

    fn follow_all(
        &self,
        site: EndpointId,
        pool: PoolIndex,
        (place, class): (Place, Class),
        wanted: &[PoolIndex],
    ) -> Option<f64> {
        let mut future = self.future(site, pool)?;
        if future.residents.iter().any(|guest| guest.held.pool == pool) {
            return Some(future.time);
        }
        let begins = future.time;
        let (turns, more) = self.turns_before(site, pool, place, wanted);
        for (place, next, class) in turns {
            self.follow(site, &mut future, (place, class), next)?;
        }
        // what comes after those is taken to be as long each
        future.time += (future.time - begins) / as_f64(FOLLOWED) * as_f64(more);
        self.follow(site, &mut future, (place, class), pool)?;
        Some(future.time)
    }

    /// What will be in memory once the change under way is over.
    fn future(&self, site: EndpointId, pool: PoolIndex) -> Option<Future> {
        let state = self.sites.get(&site)?;
        let stays = |at: &PoolIndex| {
            let runner = self.pools[at.0].runners.get(&site);
            runner.is_some_and(|runner| matches!(runner.state, Residency::Resident | Residency::Loading))
        };
        let there: Vec<_> = self.in_memory(site).collect();
        let dearest = self.dearest(site);
        let time = self.change_left(site, there.iter().copied());
        let mut future = Future { time, credit: state.credit.clamp(-dearest, dearest), residents: Vec::new() };
        for held in there.into_iter().filter(|held| stays(&held.pool)) {
            future.add(self.guest(held));
        }
        if let Some(coming) = state.swap.as_ref().and_then(|swap| swap.candidate)
            && future.residents.iter().all(|guest| guest.held.pool != coming)
        {
            future.add(self.comes(site, coming));
        }
        if let Some(Residency::Failed(until)) = self.pools[pool.0].runners.get(&site).map(|runner| runner.state) {
            future.time = future.time.max(until.since(self.now).as_secs_f64());
        }
        Some(future)
    }

    /// Seconds that the change of residents under way still takes, where these are in memory.
    fn change_left(&self, site: EndpointId, there: impl Iterator<Item = Held>) -> f64 {
        let Some(swap) = self.sites.get(&site).and_then(|state| state.swap.as_ref()) else { return 0.0 };
        let (mut leaving, mut going) = (Vec::new(), None::<f64>);
        for held in there {
            match self.pools[held.pool.0].runners.get(&site).map(|runner| runner.state) {
                Some(Residency::Leaving) => leaving.push(held.pool),
                Some(Residency::Unloading) => {
                    let gone = self.elapsed(site, held.pool);
                    going = Some(going.map_or(gone, |longest| longest.max(gone)));
                }
                _ => {}
            }
        }
        let drain = self.drain(site, &leaving);
        let unload = if leaving.is_empty() { 0.0 } else { self.unload_time(site) };
        let unload = going.map_or(unload, |gone| (self.unload_time(site) - gone).max(0.0).max(unload));
        let load = swap.candidate.map_or(0.0, |coming| {
            let runner = self.pools[coming.0].runners.get(&site);
            let gone = match runner.map(|runner| runner.state) {
                Some(Residency::Loading) => self.elapsed(site, coming),
                _ => 0.0,
            };
            let usual = self.load_time(site, coming);
            (usual - gone).max(0.1 * usual)
        });
        drain + unload + load
    }

    fn guest(&self, held: Held) -> Guest {
        Guest { held, loss: self.loss(&held) }
    }

    fn comes(&self, site: EndpointId, pool: PoolIndex) -> Guest {
        self.guest(Held { site, pool, bytes: self.need(pool, site) })
    }

    /// Pools that will be loaded at `site` before a ticket at `place`: those that are followed, in order, and how many more.
    fn turns_before(
        &self,
        site: EndpointId,
        mine: PoolIndex,
        place: Place,
        wanted: &[PoolIndex],
    ) -> (Vec<(Place, PoolIndex, Class)>, usize) {
        let loadable = wanted.iter().copied().filter(|at| {
            *at != mine && self.pools[at.0].runners.get(&site).is_some_and(|runner| runner.may_load(self.now))
        });
        let mut turns = Vec::with_capacity(wanted.len());
        turns.extend(
            loadable
                .filter_map(|at| self.head(at, site).map(|(turn, class, _)| ((turn.0, turn.1), at, class)))
                .filter(|(theirs, ..)| theirs.0 < place.0 || (theirs.0 == place.0 && theirs.1 <= place.1)),
        );
        let order = |a: &(Place, PoolIndex, Class), b: &(Place, PoolIndex, Class)| {
            a.0.0.cmp(&b.0.0).then(a.0.1.total_cmp(&b.0.1)).then(a.1.0.cmp(&b.1.0))
        };
        let more = turns.len().saturating_sub(FOLLOWED);
        if more > 0 {
            turns.select_nth_unstable_by(FOLLOWED, order);
            turns.truncate(FOLLOWED);
        }
        turns.sort_unstable_by(order);
        (turns, more)
    }

    /// One change of residents: when it may begin, and when it is over.
    fn follow(
        &self,
        site: EndpointId,
        future: &mut Future,
        (place, class): (Place, Class),
        next: PoolIndex,
    ) -> Option<()> {
        let victims = self.future_victims(site, &future.residents, next)?;
        let cost = self.pools[next.0].runners.get(&site)?.cost;
        if victims.is_empty() {
            future.time += self.load_time(site, next);
        } else {
            let urgent = class == Class::Interactive && victims.iter().all(|victim| !self.serves_people(*victim));
            let wanted = if urgent { 0.0 } else { cost };
            let pace = SWAP_OVERHEAD / (1.0 - SWAP_OVERHEAD);
            let pays = (wanted - future.credit).max(0.0) / pace;
            let since = future.time;
            let passes = victims.iter().map(|victim| (self.ahead_at(site, *victim, Some(place)) - since).max(0.0));
            let dries = victims.iter().map(|victim| self.dries(site, *victim, since));
            let (dry, due) = (dries.fold(0.0, f64::max), passes.fold(pays, f64::max));
            let waits = dry.min(due);
            let drains = if since + waits < 1e-6 || waits < dry { self.drain(site, &victims) } else { 0.0 };
            future.time += waits + drains + self.unload_time(site) + self.load_time(site, next);
            future.credit += waits * pace - if dry <= due { 0.0 } else { cost };
            future.residents.retain(|guest| !victims.contains(&guest.held.pool));
        }
        future.add(self.comes(site, next));
        Some(())
    }

    /// Who would go for `next`, the cheapest first; `None` where it would not fit even alone.
    fn future_victims(&self, site: EndpointId, residents: &[Guest], next: PoolIndex) -> Option<Vec<PoolIndex>> {
        let mut staying: Vec<_> = residents.iter().map(|guest| guest.held).collect();
        let mut victims = Vec::new();
        while self.fit_beside(site, next, &staying) == Fit::No {
            let pinned =
                |held: &Held| self.pools[held.pool.0].runners.get(&site).is_some_and(super::site::Runner::is_pinned);
            let at = staying.iter().rposition(|held| !pinned(held))?;
            victims.push(staying.remove(at).pool);
        }
        Some(victims)
    }

    /// Seconds until a resident has done the work that goes before `place` (all of it without one), sharing the GPU.
    pub(super) fn ahead_at(&self, site: EndpointId, pool: PoolIndex, place: Option<Place>) -> f64 {
        let queued = match place {
            Some(place) => self.ahead(site, pool, place, None).1,
            None => self.pools[pool.0].everything(),
        };
        let running: f64 = self.inside(site, pool).map(|run| self.left(run)).sum();
        let own = self.pools[pool.0].runners.get(&site).map_or(0, |runner| runner.used);
        let share = if own == 0 { 1.0 } else { f64::from(own) / f64::from(self.active(site).max(own)) };
        let running = if place.is_none() || queued > 0.0 { running } else { 0.0 };
        (queued + running) / share
    }

    /// Seconds until a resident will have been without work for as long as its callers usually think; never, when they
    /// come back faster than they are served.
    fn dries(&self, site: EndpointId, pool: PoolIndex, since: f64) -> f64 {
        let Some(runner) = self.pools[pool.0].runners.get(&site) else { return 0.0 };
        let left = (self.ahead_at(site, pool, None) - since).max(0.0);
        let load = self.pools[pool.0].offered(self.now);
        if load < 0.95 { left / (1.0 - load) + runner.patience() } else { f64::INFINITY }
    }

    /// Seconds until the longest of what runs on these runners has ended.
    fn drain(&self, site: EndpointId, pools: &[PoolIndex]) -> f64 {
        let active = f64::from(self.active(site));
        let longest = pools.iter().flat_map(|at| self.inside(site, *at)).map(|run| self.left(run)).fold(0.0, f64::max);
        longest * active
    }

    pub(super) fn inside(&self, site: EndpointId, pool: PoolIndex) -> impl Iterator<Item = &super::Running> {
        let tickets = self.pools[pool.0].runners.get(&site).into_iter().flat_map(|runner| &runner.inside);
        tickets.filter_map(|ticket| self.running.get(ticket))
    }

    fn elapsed(&self, site: EndpointId, pool: PoolIndex) -> f64 {
        self.pools[pool.0].runners.get(&site).map_or(0.0, |runner| self.now.since(runner.since).as_secs_f64())
    }

    fn load_time(&self, site: EndpointId, pool: PoolIndex) -> f64 {
        self.pools[pool.0].runners.get(&site).map_or(0.0, |runner| runner.load_time)
    }

    fn unload_time(&self, site: EndpointId) -> f64 {
        self.sites.get(&site).map_or(0.0, |state| state.unload_time)
    }
}

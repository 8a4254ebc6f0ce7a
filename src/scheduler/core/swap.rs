//! What comes into memory and what goes: candidates, victims, swap credit, and the steps of a swap.
//!
//! The rules are those of ARCHITECTURE.md ("Residency"): free room is used at once; a displacing swap is paid from a
//! credit that grows with useful work, or is free when its victims are dry; at most one change per endpoint at a time;
//! nothing that has admitted work is unloaded.

use std::time::Duration;

use crate::domain::{Class, EndpointId, Moment, ResidencyCommand, UnloadReason};

use super::fair::AppIndex;
use super::memory::Held;
use super::pool::{Pool, PoolIndex};
use super::site::{Fit, Residency, Runner, SWAP_OVERHEAD, Site, Swap};
use super::turns::{Turn, before};
use super::{Core, Decision, TicketId};

/// Service asked for per second below which a model's work comes to an end.
const FINITE: f64 = 0.75;
/// How long a swap that is paid for may wait for its victims to finish, in turns of the candidate (its cost ÷ h).
pub(super) const FINISHING: f64 = 2.0;
/// A busy runner is looked at again after this and the time it is kept.
const BUSY: Duration = Duration::from_secs(1);
/// When to look again where a time is too far off to be one.
const FAR: Duration = Duration::from_secs(60);

/// Whose turn it is, and of what class.
type Candidate = (Turn, Class, PoolIndex);

impl Core {
    /// Looks at every usable endpoint and starts or continues what is due.
    pub(super) fn plan(&mut self, out: &mut Vec<Decision>) {
        let wanted = self.looks().then(|| self.wanted());
        if let Some(wanted) = &wanted {
            self.look(wanted);
        }
        let planned = |site: &EndpointId| !self.mute.contains(site) && !self.rests(*site);
        let mut sites: Vec<EndpointId> = self.sites.keys().copied().filter(planned).collect();
        if wanted.as_ref().is_some_and(|wanted| !wanted.is_empty()) {
            sites.sort_by_key(|site| (self.active(*site), *site));
        }
        for site in sites {
            self.plan_site(site, wanted.as_ref(), out);
        }
    }

    /// Pools that may want to come into memory somewhere: a cheap sieve, because most steps find nothing.
    pub(super) fn wanted(&self) -> Vec<PoolIndex> {
        let mut hosted = vec![false; self.pools.len()];
        for (_, state) in self.sites.iter().filter(|(id, _)| !self.is_out(**id)) {
            state.held.iter().for_each(|pool| hosted[pool.0] = true);
        }
        let pools = self.pools.iter().zip(hosted).enumerate().filter(|(_, (pool, _))| pool.alive() > 0);
        let more = |pool: &Pool| pool.mixed || (pool.runners.len() > 1 && pool.may_pay_for_another());
        let wanted = pools.filter(|(_, (pool, hosted))| !hosted || more(pool));
        wanted.map(|(at, _)| PoolIndex(at)).collect()
    }

    /// Starts or continues what is due at one endpoint; looks for a candidate only if told who may be one.
    fn plan_site(&mut self, site: EndpointId, wanted: Option<&Vec<PoolIndex>>, out: &mut Vec<Decision>) {
        let Some(state) = self.sites.get(&site) else { return };
        if state.swap.is_some() {
            self.clear_for_load(site);
            self.continue_swap(site, out);
            return;
        }
        let changing = |other: EndpointId| self.sites.get(&other).is_some_and(|state| state.swap.is_some());
        if self.neighbours(site).any(|other| changing(other) && !self.is_out(other)) {
            // whoever comes or goes there changes the room here, and its report is a step
            if let Some(state) = self.sites.get_mut(&site) {
                state.wake = None;
            }
            return;
        }
        let idle_check_due = state.idle_check <= self.now;
        // one that is ejected is healed all the same, and nothing else
        if self.heal(site, out) || self.is_out(site) || (idle_check_due && self.unload_idle(site, out)) {
            return;
        }
        let Some(wanted) = wanted else { return };
        let idle_check = self.sites.get(&site).map(|state| state.idle_check);
        let mut wake = idle_check.into_iter().chain(self.retry_at(site, wanted)).min();
        if let Some(((turn, class, candidate), (fit, victims))) = self.candidate(site, wanted) {
            let due = if victims.is_empty() {
                (fit != Fit::No).then_some(()).ok_or(None)
            } else {
                self.may_displace(site, (turn, class), candidate, &victims).map_err(Some)
            };
            match due {
                Ok(()) => return self.begin_swap(site, candidate, &victims, fit == Fit::Perhaps, out),
                Err(again) => wake = wake.into_iter().chain(again).min(),
            }
        }
        if let Some(state) = self.sites.get_mut(&site) {
            state.wake = wake;
        }
    }

    /// When the next load that failed may be tried again, if somebody waits for it.
    fn retry_at(&self, site: EndpointId, wanted: &[PoolIndex]) -> Option<Moment> {
        let runners = wanted.iter().filter_map(|pool| self.pools[pool.0].runners.get(&site));
        let failed = runners.filter_map(|runner| match runner.state {
            Residency::Failed(until) if until > self.now => Some(until),
            _ => None,
        });
        failed.min()
    }

    /// The waiting ticket with the lowest turn whose weights should come into memory here: those that are nowhere it
    /// may run, and those that are, but have more waiting than a load would cost and room here without a victim that has
    /// work. With it, whether it fits and who goes for it.
    fn candidate(&self, site: EndpointId, wanted: &[PoolIndex]) -> Option<(Candidate, (Fit, Vec<Held>))> {
        let usable = self.sites.iter().filter(|(id, _)| !self.is_out(**id));
        let coming: Vec<_> = usable.filter_map(|(_, state)| state.swap.as_ref()?.candidate).collect();
        let loadable = wanted.iter().copied().filter(|pool| {
            let runner = self.pools[pool.0].runners.get(&site);
            runner.is_some_and(|runner| runner.may_load(self.now)) && !coming.contains(pool)
        });
        let mut turns = Vec::with_capacity(wanted.len());
        turns.extend(loadable.filter_map(|pool| {
            let mixed = self.pools[pool.0].mixed;
            let first = if mixed { self.first_turn(pool, site) } else { self.head(pool, site) };
            first.map(|(turn, class, id)| (turn, class, id, pool))
        }));
        // nearly always the first one will do: no need to sort
        while let Some(at) = (0..turns.len()).min_by(|a, b| before(&turns[*a].0, &turns[*b].0)) {
            let (turn, class, id, pool) = turns.remove(at);
            // a second runner has to pay: what waits takes longer than a load, and nobody has to go for it
            let second = self.is_elsewhere(pool, id);
            if second && !self.pools[pool.0].may_pay_for_another() {
                continue;
            }
            let (fit, victims) = self.make_room(site, pool);
            // one that has no room here, whoever goes, holds up nobody; nobody has to go where it has room elsewhere, and for
            // a second runner nobody who has work
            let fits = if victims.is_empty() {
                fit != Fit::No
            } else {
                (!second || self.are_dry(&victims)) && !self.has_room_elsewhere(id, pool, site)
            };
            if fits {
                return Some(((turn, class, pool), (fit, victims)));
            }
        }
        None
    }

    /// Whether the weights could be loaded at once, without a victim, at another endpoint where this ticket may run.
    fn has_room_elsewhere(&self, id: TicketId, pool: PoolIndex, site: EndpointId) -> bool {
        let seats =
            self.waiting.get(&id).into_iter().flat_map(|waiting| waiting.seats.iter()).map(|seat| seat.endpoint);
        let mut others = seats.filter(|other| *other != site && !self.is_out(*other) && !self.mute.contains(other));
        others.any(|other| {
            let idle = self.sites.get(&other).is_some_and(|state| state.swap.is_none());
            let loadable = self.pools[pool.0].runners.get(&other).is_some_and(|runner| runner.may_load(self.now));
            idle && loadable && self.has_room(other, pool)
        })
    }

    /// Whether it fits there beside what is in memory.
    fn has_room(&self, site: EndpointId, pool: PoolIndex) -> bool {
        let (fit, victims) = self.make_room(site, pool);
        fit != Fit::No && victims.is_empty()
    }

    /// Whether the weights are in memory where this ticket may run.
    fn is_elsewhere(&self, pool: PoolIndex, id: TicketId) -> bool {
        let runners = &self.pools[pool.0].runners;
        let seats = self.waiting.get(&id).into_iter().flat_map(|waiting| waiting.seats.iter());
        let usable = seats.filter(|seat| !self.is_out(seat.endpoint));
        usable.filter_map(|seat| runners.get(&seat.endpoint)).any(Runner::is_in_memory)
    }

    /// Whether `candidate` may take the victims' place now, or when to look again.
    fn may_displace(
        &mut self,
        site: EndpointId,
        first: (Turn, Class),
        candidate: PoolIndex,
        victims: &[Held],
    ) -> Result<(), Moment> {
        let cost = self.pools[candidate.0].runners.get(&site).map_or(0.0, |runner| runner.cost);
        if self.are_dry(victims) {
            return Ok(());
        }
        let dry_at = self.dry_at(victims);
        let (turn, class) = first;
        let urgent = class == Class::Interactive && victims.iter().all(|victim| !self.serves_people(victim.pool));
        let wanted = if urgent { 0.0 } else { cost };
        let dearest = self.dearest(site);
        let running = self.active(site) > 0;
        let Some(state) = self.sites.get_mut(&site) else { return Err(self.now) };
        let credit = state.credit(dearest);
        if credit >= wanted && !victims.iter().any(|victim| self.goes_before(victim, turn)) {
            return if urgent { Ok(()) } else { self.finish_first(site, candidate, cost, victims).map_or(Ok(()), Err) };
        }
        let pace = if running { SWAP_OVERHEAD / (1.0 - SWAP_OVERHEAD) } else { 1.0 };
        // with enough of it, what changes is steps of others, and ages
        let missing = ((wanted - credit).max(0.0) / pace).max(if credit >= wanted { 0.2 } else { 0.01 });
        let paid_at = self.now.after(Duration::try_from_secs_f64(missing).unwrap_or(FAR));
        Err(dry_at.map_or(paid_at, |dry| dry.min(paid_at)))
    }

    /// Whether what waits for a victim, or works there, has its turn before this one.
    fn goes_before(&self, victim: &Held, turn: Turn) -> bool {
        let first = self.first_turn(victim.pool, victim.site);
        first.is_some_and(|(theirs, ..)| before(&theirs, &turn).is_lt()) || self.works_before(victim, turn)
    }

    /// Whether an application with less than the candidate's so far is at work there, or was until a moment ago: one with no
    /// more clients than slots never waits, and is owed its share all the same. Who stays away for longer than callers there
    /// think has no say, or one who asks now and then would keep others out for ever.
    fn works_before(&self, victim: &Held, turn: Turn) -> bool {
        let running = self.inside(victim.site, victim.pool).map(|run| run.app);
        let pauses = |runner: &&Runner| {
            let away = self.now.since(runner.last_work).as_secs_f64();
            runner.used == 0 && away <= runner.patience()
        };
        let runner = self.pools[victim.pool.0].runners.get(&victim.site);
        let paused = runner.filter(pauses).into_iter().flat_map(Runner::served_apps);
        running.chain(paused).any(|app| {
            let app = &self.apps[app.0];
            let rank = 1 + app.class as usize;
            rank < turn.0 || (rank == turn.0 && app.tag() < turn.1)
        })
    }

    /// When to look again at victims that have so little left to do, and so few new callers, that finishing them first costs
    /// less than bringing them back; `None` where that is not so, or they have had the time for it.
    fn finish_first(&mut self, site: EndpointId, candidate: PoolIndex, cost: f64, victims: &[Held]) -> Option<Moment> {
        let most = FINISHING * cost * (1.0 - SWAP_OVERHEAD) / SWAP_OVERHEAD;
        let left = |victim: &Held| {
            let members = &self.pools[victim.pool.0];
            let coming = members.offered(self.now);
            let left = self.work_left(victim.site, victim.pool);
            if coming < FINITE && !members.lines.come_back(self.now) { left / (1.0 - coming) } else { f64::INFINITY }
        };
        let left = victims.iter().map(left).fold(0.0, f64::max);
        let now = self.now;
        let state = self.sites.get_mut(&site)?;
        let since = match state.finishing {
            Some((who, since)) if who == candidate => since,
            _ => now,
        };
        state.finishing = Some((candidate, since));
        let brief = left > 0.0 && left + now.since(since).as_secs_f64() <= most;
        brief.then(|| now.after(Duration::try_from_secs_f64(left.max(0.01)).unwrap_or(FAR)))
    }

    fn are_dry(&self, victims: &[Held]) -> bool {
        self.dry_at(victims).is_some_and(|at| at <= self.now)
    }

    /// When all victims will have been without work for as long as their callers think; `None` while one has work.
    fn dry_at(&self, victims: &[Held]) -> Option<Moment> {
        let mut latest = Moment::ZERO;
        for victim in victims {
            let members = &self.pools[victim.pool.0];
            let runner = members.runners.get(&victim.site)?;
            if runner.used > 0 || members.alive() > 0 {
                return None;
            }
            let patience = Duration::try_from_secs_f64(runner.patience()).unwrap_or_default();
            latest = latest.max(runner.last_work.after(patience));
        }
        Some(latest)
    }

    /// Whether an interactive application has work on these weights.
    pub(super) fn serves_people(&self, pool: PoolIndex) -> bool {
        self.pools[pool.0].lines.busy().any(|app| self.apps[app.0].class == Class::Interactive)
    }

    /// The largest swap cost among what is resident or wanted at `site`.
    pub(super) fn dearest(&self, site: EndpointId) -> f64 {
        let costs = self.pools.iter().filter_map(|pool| {
            let runner = pool.runners.get(&site)?;
            (runner.is_in_memory() || pool.alive() > 0).then_some(runner.cost)
        });
        costs.fold(0.0, f64::max)
    }

    fn begin_swap(
        &mut self,
        site: EndpointId,
        candidate: PoolIndex,
        victims: &[Held],
        holds: bool,
        out: &mut Vec<Decision>,
    ) {
        let dry = self.are_dry(victims);
        for victim in victims {
            if let Some(runner) = self.pools[victim.pool.0].runners.get_mut(&victim.site) {
                runner.enter(Residency::Leaving, self.now);
            }
            // one on an endpoint that shares a GPU goes by a change of its own
            if let Some(state) = self.sites.get_mut(&victim.site).filter(|_| victim.site != site) {
                state.swap = Some(Swap::default());
            }
        }
        if let Some(state) = self.sites.get_mut(&site) {
            let displaces = !victims.is_empty() && !dry;
            state.swap = Some(Swap { candidate: Some(candidate), displaces, holds, ..Swap::default() });
            state.wake = None;
            state.finishing = None;
        }
        for victim in victims.iter().filter(|victim| victim.site != site) {
            self.continue_swap(victim.site, out);
        }
        self.continue_swap(site, out);
    }

    /// Unloads victims that are drained; loads the candidate once they are gone.
    pub(super) fn continue_swap(&mut self, site: EndpointId, out: &mut Vec<Decision>) {
        let Some(swap) = self.sites.get(&site).and_then(|state| state.swap.as_ref()) else { return };
        let (candidate, heals, holds) = (swap.candidate, swap.heals, swap.holds);
        let wanted = candidate.is_none_or(|pool| self.pools[pool.0].alive() > 0);
        let (mut going, mut spared) = (false, false);
        let there: Vec<_> = self.in_memory(site).map(|held| held.pool).collect();
        for pool in there {
            let Some(runner) = self.pools[pool.0].runners.get_mut(&site) else { continue };
            match runner.state {
                // nobody waits for the swap any more: a caller that left must not cause a load
                Residency::Leaving if !wanted && !heals => {
                    runner.enter(Residency::Resident, self.now);
                    spared = true;
                }
                // a probe that is out would bring it back
                Residency::Leaving if runner.used == 0 && !runner.health.probing => {
                    going = true;
                    self.unload(pool, site, if heals { UnloadReason::Reload } else { UnloadReason::Room }, out);
                }
                Residency::Leaving | Residency::Unloading | Residency::Loading => going = true,
                _ => {}
            }
        }
        if spared {
            self.admit_everywhere(out);
        }
        // where Ollama may have to make room by itself, nothing of ours may be on its way: a request that arrives at a victim
        // it has marked revives that, and then every load hangs (defect B2)
        let busy = holds && self.active(site) > 0;
        if going || busy || self.neighbours(site).any(|other| self.is_emptying(other) && !self.is_out(other)) {
            return;
        }
        // a neighbour's victim may have stayed after all, strangers may have come, or a neighbour was quicker than a reload
        let fits = candidate.is_none_or(|pool| self.has_room(site, pool));
        match candidate.filter(|_| wanted && fits && !self.is_out(site)) {
            Some(pool) => self.load(pool, site, out),
            None => self.abandon_swap(site, out),
        }
    }

    /// The change of residents under way is off; what was to go for it stays.
    pub(super) fn abandon_swap(&mut self, site: EndpointId, out: &mut Vec<Decision>) {
        let swap = self.sites.get_mut(&site).and_then(|state| state.swap.take());
        self.charge(site, swap.as_ref());
        self.stay(site);
        self.admit_everywhere(out);
    }

    /// A load that takes far longer than usual may wait inside Ollama for room that others there never leave (defect B2):
    /// whatever was planned, they are drained and go by our order.
    fn clear_for_load(&mut self, site: EndpointId) {
        let due = |state: &Site| state.wake.is_some_and(|at| at <= self.now);
        if !self.sites.get(&site).is_some_and(due) {
            return;
        }
        let candidate = self.loading(site);
        let there: Vec<_> = self.in_memory(site).collect();
        let others = there.iter().filter(|held| candidate.is_some_and(|pool| pool != held.pool));
        let mut going = false;
        for held in others {
            let Some(runner) = self.pools[held.pool.0].runners.get_mut(&site) else { continue };
            if runner.state == Residency::Resident && !runner.is_pinned() && runner.held_until <= self.now {
                runner.enter(Residency::Leaving, self.now);
                going = true;
            }
        }
        let Some(state) = self.sites.get_mut(&site) else { return };
        state.wake = None;
        if let Some(swap) = state.swap.as_mut().filter(|_| going) {
            swap.pushed_out = Some(there.iter().map(|held| held.bytes).fold(0, u64::saturating_add));
        }
    }

    /// What is being loaded there by our order.
    pub(super) fn loading(&self, site: EndpointId) -> Option<PoolIndex> {
        let candidate = self.sites.get(&site)?.swap.as_ref()?.candidate?;
        let runner = self.pools[candidate.0].runners.get(&site)?;
        (runner.state == Residency::Loading).then_some(candidate)
    }

    /// Whether a runner is on its way out there.
    pub(super) fn is_emptying(&self, site: EndpointId) -> bool {
        let leaving = |runner: &Runner| matches!(runner.state, Residency::Leaving | Residency::Unloading);
        self.in_memory(site).any(|held| self.pools[held.pool.0].runners.get(&site).is_some_and(leaving))
    }

    fn load(&mut self, pool: PoolIndex, site: EndpointId, out: &mut Vec<Decision>) {
        self.place_on_gpus(pool, site);
        let members = &mut self.pools[pool.0];
        let Some(runner) = members.runners.get_mut(&site) else { return };
        if let Some(order) = runner.next_order.take() {
            runner.order = order;
        }
        runner.enter(Residency::Loading, self.now);
        let long = self.now.after(runner.long_load());
        if let Some(state) = self.sites.get_mut(&site) {
            state.wake = Some(long);
        }
        out.push(Decision::Residency(ResidencyCommand::Load {
            endpoint: site,
            weights: members.weights.clone(),
            order: runner.order.clone(),
            within: runner.load_limit(),
        }));
        self.note_memory(pool, site);
    }

    fn unload(&mut self, pool: PoolIndex, site: EndpointId, why: UnloadReason, out: &mut Vec<Decision>) {
        let members = &mut self.pools[pool.0];
        let Some(runner) = members.runners.get_mut(&site) else { return };
        let shares = runner.leave(Residency::Unloading, self.now);
        out.push(Decision::Residency(ResidencyCommand::Unload {
            endpoint: site,
            weights: members.weights.clone(),
            order: runner.order.clone(),
            why,
        }));
        self.pay(shares);
    }

    /// Whoever a residency served pays for bringing it in.
    pub(super) fn pay(&mut self, shares: Vec<(AppIndex, f64)>) {
        for (app, seconds) in shares {
            self.apps[app.0].pay(seconds);
        }
    }

    /// Unloads what has been without work for longer than its profile keeps it; whether it began to. Else notes when to
    /// look again: nothing that is busy now can be due before the shortest time any runner is kept.
    fn unload_idle(&mut self, site: EndpointId, out: &mut Vec<Decision>) -> bool {
        let mut next = self.now.after(Duration::from_secs(3600));
        let mut due = None;
        for held in self.in_memory(site) {
            let members = &self.pools[held.pool.0];
            let busy = members.alive() > 0;
            let Some(runner) = members.runners.get(&site) else { continue };
            if runner.state != Residency::Resident
                || runner.is_pinned()
                || runner.held_until > self.now
                || runner.health.probing
            {
                continue;
            }
            let busy = busy || runner.used > 0;
            // the end of what is busy is a step of its own
            let goes_at = if busy { self.now.after(BUSY) } else { runner.last_work }.after(runner.keep_alive);
            if goes_at <= self.now && !busy {
                due = Some(held.pool);
                break;
            }
            next = next.min(goes_at);
        }
        let Some(state) = self.sites.get_mut(&site) else { return false };
        let Some(pool) = due else {
            state.idle_check = next;
            return false;
        };
        state.swap = Some(Swap::default());
        self.unload(pool, site, UnloadReason::Idle, out);
        true
    }
}

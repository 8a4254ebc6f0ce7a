//! How long a request will wait, and why.
//!
//! Owns what is told. It decides nothing itself: `join` refuses by it, `view` shows it. A house of ordinary size is played ahead
//! (`rehearsal`); in a larger one, and for what starts only after as much as is played, the work that goes before is summed up.

use std::cmp::Ordering;
use std::time::Duration;

use crate::domain::{AppName, Class, EndpointId, Moment};

use super::fair::AppIndex;
use super::outlook::{Estimate, Outlook, Queued, WaitReason};
use super::pool::{Behind, PoolIndex};
use super::rehearsal::{Rehearsal, Start, Starts};
use super::site::{Residency, Runner, SWAP_OVERHEAD};
use super::{Core, Seat, Ticket, TicketId, Waiting};

/// Shown for what nobody can predict, and the most that is shown.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A place in the order of turns: rank of the class, tag.
type Place = (usize, f64);

/// A request whose wait is asked for.
#[derive(Clone, Copy)]
struct Asker<'a> {
    app: AppIndex,
    pool: PoolIndex,
    class: Class,
    /// Service that it needs, seconds.
    each: f64,
    seats: &'a [Seat],
    /// Requests of the same application that stand before it in the same line.
    before: usize,
    /// Its application's tag, were it to join now.
    tag: f64,
}

impl Core {
    /// What a ticket that waits may expect.
    #[must_use]
    pub fn estimate(&self, id: TicketId) -> Option<Estimate> {
        let waiting = self.waiting.get(&id)?;
        let asker = self.in_line(id, waiting);
        let played = self.rehearsal().and_then(|play| play.start_of(id, asker.before));
        let start = played.unwrap_or_else(|| self.roughly(asker));
        Some(Estimate { position: start.position, wait: shown(start.wait), reason: self.reason(id) })
    }

    /// What it was told to expect on arrival, where anybody could say.
    #[must_use]
    pub fn told(&self, id: TicketId) -> Option<Estimate> {
        self.waiting.get(&id)?.forecast
    }

    fn in_line<'a>(&self, id: TicketId, waiting: &'a Waiting) -> Asker<'a> {
        let Waiting { app, pool, class, work, seats, .. } = waiting;
        let members = &self.pools[pool.0];
        Asker {
            app: *app,
            pool: *pool,
            class: *class,
            each: members.speed.predict(*app, *work),
            seats,
            before: members.lines.before(*app, id, |other| self.waiting.contains_key(other)),
            tag: self.apps[app.0].tag(),
        }
    }

    /// What a newcomer that cannot start at once may expect.
    pub(super) fn expect(&self, app: AppIndex, pool: PoolIndex, ticket: &Ticket) -> Estimate {
        let me = &self.apps[app.0];
        let tag = if me.contends() { me.tag() } else { me.tag().max(self.floor(pool, ticket.class)) };
        let (members, class, seats) = (&self.pools[pool.0], ticket.class, &ticket.seats);
        let before = if ticket.again.is_some() { 0 } else { members.lines.length(app) };
        let played = self.rehearsal().and_then(|mut play| {
            play.join(ticket.id, self.waiting(app, pool, ticket), ticket.again.is_some());
            play.start_of(ticket.id, before)
        });
        let each = members.speed.predict(app, ticket.work);
        let start = played.unwrap_or_else(|| self.roughly(Asker { app, pool, class, each, seats, before, tag }));
        Estimate { position: start.position, wait: shown(start.wait), reason: self.why(app, pool, seats) }
    }

    /// When the first of what waits of an application starts, where that can be played.
    pub(super) fn first_place(&self, app: AppIndex) -> Option<Duration> {
        self.rehearsal()?.first_of(app).map(shown)
    }

    /// What waits, next to start first: of one application, or everything.
    #[must_use]
    pub fn queue(&mut self, now: Moment, app: Option<&AppName>) -> Vec<Queued> {
        self.advance(now);
        let one = app.map(|app| self.app_index.get(app).copied());
        let starts = self.rehearsal().map(Rehearsal::all).unwrap_or_default();
        let mut queue = Vec::new();
        for (at, pool) in self.pools.iter().enumerate() {
            let lines = pool.lines.ids().filter(|(app, _)| one.is_none_or(|one| one == Some(*app)));
            for (app, line) in lines {
                self.list_line((PoolIndex(at), app), line.iter().copied(), &starts, &mut queue);
            }
        }
        queue.sort_by_key(|queued| (queued.estimate.wait, queued.estimate.position, queued.since, queued.label));
        queue
    }

    /// Where only some of a line are known to start, those behind them follow one service after the other.
    fn list_line(
        &self,
        (pool, app): (PoolIndex, AppIndex),
        line: impl Iterator<Item = TicketId>,
        starts: &Starts,
        queue: &mut Vec<Queued>,
    ) {
        let members = &self.pools[pool.0];
        let slots = members.runners.values().map(|runner| runner.slots).max().unwrap_or(1).max(1) as usize;
        let mut reason = None;
        // when the last one starts of which that is known, and how many come after it
        let mut last: Option<(Start, usize)> = None;
        for (id, waiting) in line.filter_map(|id| Some((id, self.waiting.get(&id)?))) {
            let reason = *reason.get_or_insert_with(|| self.reason(id));
            let (from, after) = match (starts.get(&id), last) {
                (Some(start), _) => (*start, 0),
                (None, Some((from, after))) => (from, after + 1),
                (None, None) => (self.roughly(self.in_line(id, waiting)), 0),
            };
            last = Some((from, after));
            let wait = shown(from.wait + waiting.expected * as_f64(after / slots * slots));
            let position = from.position + after;
            queue.push(Queued {
                label: waiting.label,
                app: self.apps[app.0].name.clone(),
                class: waiting.class,
                weights: members.weights.clone(),
                since: waiting.since,
                deadline: waiting.deadline,
                estimate: Estimate { position, wait, reason },
            });
        }
    }

    /// What would happen to this ticket if it came now. Nothing that is known is changed by asking: limits that it brings
    /// count from the first real request on.
    #[must_use]
    pub fn outlook(&mut self, now: Moment, ticket: &Ticket) -> Outlook {
        self.advance(now);
        let app = self.app_of(ticket);
        let pool = self.pool_of(&ticket.weights);
        for seat in &ticket.seats {
            self.runner(pool, seat.endpoint, || Runner::of(seat, now));
        }
        if let Err(why) = self.judge(app, pool, ticket) {
            return Outlook::Refused(why);
        }
        if self.apps[app.0].may_run()
            && let Some(endpoint) = self.free_seat(pool, &ticket.seats)
        {
            return Outlook::Starts { endpoint };
        }
        Outlook::Waits(self.expect(app, pool, ticket))
    }

    /// When it starts, by the work whose turn comes before; never, while no endpoint of it can be used.
    fn roughly(&self, asker: Asker<'_>) -> Start {
        let own = asker.each * as_f64(asker.before);
        let tag = asker.tag + own / self.apps[asker.app.0].weight();
        let usable = || asker.seats.iter().map(|seat| seat.endpoint).filter(|id| !self.is_out(*id));
        let runner = |id: EndpointId| self.pools[asker.pool.0].runners.get(&id);
        // where it is in memory or coming, and in how many seconds
        let arrives = |id: EndpointId| {
            let runner = runner(id)?;
            match runner.state {
                Residency::Resident => Some((id, runner, 0.0)),
                Residency::Loading => Some((id, runner, runner.load_left(self.now))),
                _ => None,
            }
        };
        let there = as_f64(usable().filter_map(arrives).count());
        let wait = if there > 0.0 {
            // they share the line, and each its GPU with what else runs there
            let waits = usable().filter_map(arrives).map(|(id, runner, arrives)| {
                let place = (self.rank(id, asker.app, asker.each), tag);
                let ahead = self.ahead(id, asker.pool, place, asker.app) + own;
                // before it has begun nothing shares its GPU, as far as is known
                let share = if runner.used == 0 { 1.0 } else { f64::from(self.active(id)) / f64::from(runner.used) };
                arrives + ahead * share / there
            });
            waits.fold(f64::INFINITY, f64::min)
        } else {
            let cost = usable().filter_map(|id| Some(runner(id)?.cost)).fold(f64::INFINITY, f64::min);
            let servers = self.sites.keys().filter(|id| !self.is_out(**id)).count();
            let others = self.apps.iter().enumerate().filter(|(at, _)| *at != asker.app.0);
            let ahead = others.map(|(_, app)| match app.class.cmp(&asker.class) {
                Ordering::Less => app.waiting.seconds(),
                Ordering::Equal => app.before(tag),
                Ordering::Greater => 0.0,
            });
            (ahead.sum::<f64>() + own) / as_f64(servers.max(1)) / (1.0 - SWAP_OVERHEAD) + cost
        };
        let first = self.next_position(asker.pool, (asker.class as usize, asker.tag, asker.app));
        Start { wait, position: first + asker.before }
    }

    /// Seconds of service that wait in a pool and have their turn at `site` before `place`; not those of `except`.
    fn ahead(&self, site: EndpointId, pool: PoolIndex, place: Place, except: AppIndex) -> f64 {
        let backlog = self.pools[pool.0].backlog();
        let service = self.service.get(&site);
        let mut seconds = 0.0;
        for class in Class::ALL {
            // of a class that claims nothing, no ticket has to be looked at for its rank
            let claims = service.filter(|service| service.claims(class));
            let usual = (1 + class as usize).cmp(&place.0);
            if claims.is_none() && usual.is_gt() {
                continue;
            }
            for line in backlog.classes[class as usize].iter().filter(|line| line.app != except) {
                let rank = claims.map_or(usual, |service| service.rank((line.app, class), line.each).cmp(&place.0));
                seconds += line.each * self.before(rank, line, place.1);
            }
        }
        seconds
    }

    /// How many of a line of such a rank have their turn before `tag`; of equal tags the one that waits already is first.
    fn before(&self, rank: Ordering, line: &Behind, tag: f64) -> f64 {
        let other = &self.apps[line.app.0];
        match rank {
            Ordering::Less => line.tickets,
            Ordering::Equal if other.tag() <= tag => {
                ((tag - other.tag()) * other.weight() / line.each).floor().min(line.tickets - 1.0) + 1.0
            }
            _ => 0.0,
        }
    }

    /// Seconds of service that a running request is still expected to need.
    pub(super) fn left(&self, run: &super::Running) -> f64 {
        let had = self.service.get(&run.endpoint).map_or(0.0, |service| service.reading() - run.entered);
        // of one that has had nearly all of it, as much is left as predictions are usually off
        let least = run.predicted * self.pools[run.pool.0].speed.miss(run.work.kind);
        // what is overdue is taken to go on for half as long again: it may be a long answer, or hang
        let overdue = (had - run.predicted) / 2.0;
        (run.predicted - had).max(least).max(overdue).max(0.001)
    }

    /// Seconds until a resident has done all its work, sharing the GPU.
    pub(super) fn work_left(&self, site: EndpointId, pool: PoolIndex) -> f64 {
        let running: f64 = self.inside(site, pool).map(|run| self.left(run)).sum();
        let own = self.pools[pool.0].runners.get(&site).map_or(0, |runner| runner.used);
        let share = if own == 0 { 1.0 } else { f64::from(own) / f64::from(self.active(site).max(own)) };
        (self.pools[pool.0].everything() + running) / share
    }

    pub(super) fn inside(&self, site: EndpointId, pool: PoolIndex) -> impl Iterator<Item = &super::Running> {
        let tickets = self.pools[pool.0].runners.get(&site).into_iter().flat_map(|runner| &runner.inside);
        tickets.filter_map(|ticket| self.running.get(ticket))
    }

    /// Why a ticket that waits does not run now.
    pub(super) fn reason(&self, id: TicketId) -> WaitReason {
        let why = |waiting: &Waiting| self.why(waiting.app, waiting.pool, &waiting.seats);
        self.waiting.get(&id).map_or(WaitReason::Slots, why)
    }

    /// Why a ticket with these seats does not run now.
    pub(super) fn why(&self, app: AppIndex, pool: PoolIndex, seats: &[Seat]) -> WaitReason {
        if !self.apps[app.0].may_run() {
            return WaitReason::OwnLimit;
        }
        let usable = || seats.iter().map(|seat| seat.endpoint).filter(|id| !self.is_out(*id));
        usable().map(|id| self.why_at(pool, id)).min_by_key(|why| *why as usize).unwrap_or(WaitReason::Unreachable)
    }

    fn why_at(&self, pool: PoolIndex, id: EndpointId) -> WaitReason {
        let state = self.pools[pool.0].runners.get(&id).map_or(Residency::Absent, |runner| runner.state);
        let swap = self.sites.get(&id).and_then(|site| site.swap.as_ref());
        match state {
            Residency::Resident if swap.is_some_and(|swap| swap.holds) => WaitReason::Swapping,
            Residency::Resident => WaitReason::Slots,
            Residency::Loading => WaitReason::Loading,
            Residency::Leaving | Residency::Unloading => WaitReason::Swapping,
            Residency::Failed(until) if until > self.now => WaitReason::Retry,
            _ if swap.is_some_and(|swap| swap.candidate == Some(pool)) => WaitReason::Swapping,
            Residency::Absent | Residency::Failed(_) => WaitReason::Turn,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(super) fn as_f64(count: usize) -> f64 {
    count as f64
}

/// As long as it is, and no longer than is shown.
fn shown(wait: f64) -> Duration {
    Duration::try_from_secs_f64(wait).unwrap_or(LONGEST).min(LONGEST)
}

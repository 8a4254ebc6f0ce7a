//! How long a request will wait, and why: the rules run forward on the present state, in sums rather than tickets.
//!
//! Owns the arithmetic of estimates. It decides nothing itself: `join` refuses by it, `view` shows it. When a model will
//! be in memory is `arrival`'s part.
//!
//! Two steps: when the model will be in memory, then how many starts come before this one, and when that many requests
//! will have ended with what runs sharing the GPU. What the sums leave out (newcomers that go first, odd lengths) is learned
//! per weights and class as the ratio of real to predicted waits.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::time::Duration;

use crate::domain::{AppName, Class, EndpointId, Moment};

use super::fair::AppIndex;
use super::outlook::{Estimate, Outlook, Queued, WaitReason};
use super::pool::{Behind, PoolIndex};
use super::site::{Residency, Runner};
use super::{Core, Seat, Ticket, TicketId, Waiting, Work};

/// Starts that are followed one by one; longer lines are a sum.
const FOLLOWED: usize = 48;
/// Shown for what nobody can predict, and the most that is shown.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const NOBODY_KNOWS: Estimate = Estimate { position: 1, wait: LONGEST, reason: WaitReason::Turn };

/// A place in the order of turns: rank of the class, tag.
pub(super) type Place = (usize, f64);

/// A request whose wait is asked for.
#[derive(Clone, Copy)]
struct Asker<'a> {
    app: AppIndex,
    pool: PoolIndex,
    class: Class,
    work: Work,
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
        let before = self.pools[waiting.pool.0].lines.before(waiting.app, id, |other| self.waiting.contains_key(other));
        let asker = Asker {
            app: waiting.app,
            pool: waiting.pool,
            class: waiting.class,
            work: waiting.work,
            seats: &waiting.seats,
            before,
            tag: self.apps[waiting.app.0].tag(),
        };
        let wait = self.calibrated(asker).unwrap_or(LONGEST);
        Some(Estimate { position: self.position(id), wait, reason: self.reason(id) })
    }

    /// What a newcomer that cannot start at once may expect; `None` for the wait where nobody can say.
    pub(super) fn expect(&self, app: AppIndex, pool: PoolIndex, ticket: &Ticket) -> (Estimate, Option<f64>) {
        let asker = self.asker(app, pool, ticket);
        let plain = self.plain_wait(asker);
        let wait = plain.map_or(LONGEST, |plain| self.corrected(asker, plain));
        let position = self.next_position(pool, (ticket.class as usize, asker.tag, app)) + asker.before;
        (Estimate { position, wait, reason: self.why(app, pool, &ticket.seats) }, plain)
    }

    fn asker<'a>(&self, app: AppIndex, pool: PoolIndex, ticket: &'a Ticket) -> Asker<'a> {
        let me = &self.apps[app.0];
        let tag = if me.contends() { me.tag() } else { me.tag().max(self.floor(pool, ticket.class)) };
        let before = self.pools[pool.0].lines.length(app);
        Asker { app, pool, class: ticket.class, work: ticket.work, seats: &ticket.seats, before, tag }
    }

    /// What waits, next to start first: of one application, or everything. Each line is worked out once, at its first ticket;
    /// those behind it follow one service after the other.
    #[must_use]
    pub fn queue(&mut self, now: Moment, app: Option<&AppName>) -> Vec<Queued> {
        self.advance(now);
        let one = app.map(|app| self.app_index.get(app).copied());
        let mut queue = Vec::new();
        for (at, pool) in self.pools.iter().enumerate() {
            let lines = pool.lines.ids().filter(|(app, _)| one.is_none_or(|one| one == Some(*app)));
            for (app, line) in lines {
                self.list_line(PoolIndex(at), app, line.iter().copied(), &mut queue);
            }
        }
        queue.sort_by_key(|queued| (queued.estimate.wait, queued.estimate.position, queued.since, queued.label));
        queue
    }

    fn list_line(&self, pool: PoolIndex, app: AppIndex, line: impl Iterator<Item = TicketId>, queue: &mut Vec<Queued>) {
        let members = &self.pools[pool.0];
        let slots = members.runners.values().map(|runner| runner.slots).max().unwrap_or(1).max(1);
        let mut first: Option<Estimate> = None;
        let tickets = line.filter_map(|id| Some((id, self.waiting.get(&id)?)));
        for (behind, (id, waiting)) in tickets.enumerate() {
            let head = match first {
                Some(head) => head,
                None => *first.insert(self.estimate(id).unwrap_or(NOBODY_KNOWS)),
            };
            let more = waiting.expected * as_f64(behind / slots as usize) * f64::from(slots);
            let wait = head.wait + Duration::try_from_secs_f64(more).unwrap_or(LONGEST);
            queue.push(Queued {
                label: waiting.label,
                app: self.apps[app.0].name.clone(),
                class: waiting.class,
                weights: members.weights.clone(),
                since: waiting.since,
                deadline: waiting.deadline,
                estimate: Estimate { position: head.position + behind, wait: wait.min(LONGEST), ..head },
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
        Outlook::Waits(self.expect(app, pool, ticket).0)
    }

    fn calibrated(&self, asker: Asker<'_>) -> Option<Duration> {
        self.plain_wait(asker).map(|plain| self.corrected(asker, plain))
    }

    fn corrected(&self, asker: Asker<'_>, plain: f64) -> Duration {
        let ratio = self.pools[asker.pool.0].bias(asker.app, asker.class).exp();
        Duration::try_from_secs_f64(plain * ratio).unwrap_or(LONGEST).min(LONGEST)
    }

    /// Seconds until it starts, by the sums alone; `None` while no endpoint of it can be used.
    fn plain_wait(&self, asker: Asker<'_>) -> Option<f64> {
        let pool = &self.pools[asker.pool.0];
        let each = pool.speed.predict(asker.app, asker.work);
        let weight = self.apps[asker.app.0].weight();
        // those before it in its own line are as long as that line's are
        let own_line = pool.lines.get(asker.app).and_then(|line| Some(line.each(line.head()?, &pool.speed)));
        let own_each = own_line.unwrap_or(each);
        let tag = asker.tag + own_each * as_f64(asker.before) / weight;
        let usable = || asker.seats.iter().map(|seat| seat.endpoint).filter(|id| !self.is_out(*id));
        let slots =
            |id: &EndpointId| pool.runners.get(id).filter(|r| r.state == Residency::Resident).map(|r| r.open().max(1));
        let all: u32 = usable().filter_map(|id| slots(&id)).sum();
        let own = self.own_limit(asker.app);
        let wanted = OnceCell::new();
        usable()
            .filter_map(|id| {
                let place = (self.rank(id, asker.class, each), tag);
                let (arrives, share) = match slots(&id) {
                    Some(slots) => (self.held_for(id), f64::from(slots) / f64::from(all.max(1))),
                    None if all > 0 => return None,
                    None => (self.arrival(id, asker.pool, (place, asker.class), &wanted)?, 1.0),
                };
                let (tickets, seconds) = self.ahead(id, asker.pool, place, Some(asker.app));
                let (tickets, seconds) = (tickets + asker.before, seconds + own_each * as_f64(asker.before));
                let followed = (1..=FOLLOWED).contains(&tickets);
                let order = if followed { self.order(id, asker, place, own_each) } else { Vec::new() };
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
                let starts = (as_f64(tickets) * share) as usize;
                let mean = if tickets == 0 { each } else { seconds / as_f64(tickets) };
                Some(arrives + self.line(id, asker.pool, (starts, mean), &order))
            })
            .reduce(f64::min)
            .map(|wait| wait.max(own))
    }

    /// Seconds until an application that runs as many as it may has one less.
    fn own_limit(&self, app: AppIndex) -> f64 {
        if self.apps[app.0].may_run() {
            return 0.0;
        }
        let own = self.running.values().filter(|run| run.app == app);
        own.map(|run| self.left(run) * f64::from(self.active(run.endpoint))).reduce(f64::min).unwrap_or(0.0)
    }

    /// Requests of a pool, and their service in seconds, whose turn at `site` comes before `place`; not those of `except`.
    pub(super) fn ahead(
        &self,
        site: EndpointId,
        pool: PoolIndex,
        place: Place,
        except: Option<AppIndex>,
    ) -> (usize, f64) {
        let backlog = self.pools[pool.0].backlog();
        let service = self.service.get(&site);
        // counts as numbers of the sum's kind: nothing is converted for each line
        let (mut tickets, mut seconds) = (0.0, 0.0);
        for class in Class::ALL {
            let waiting = &backlog.classes[class as usize];
            // of a class that claims nothing, no ticket has to be looked at for its rank
            let claims = service.filter(|service| service.claims(class));
            let usual = (1 + class as usize).cmp(&place.0);
            if claims.is_none() && usual.is_gt() {
                continue;
            }
            if claims.is_none() && usual.is_lt() && except.is_none() {
                tickets += waiting.tickets;
                seconds += waiting.seconds;
                continue;
            }
            for line in waiting.lines.iter().filter(|line| Some(line.app) != except) {
                let rank = claims.map_or(usual, |service| service.rank(class, line.each).cmp(&place.0));
                let count = self.before(rank, line, place.1);
                tickets += count;
                seconds += line.each * count;
            }
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of lengths")]
        let tickets = tickets as usize;
        (tickets, seconds)
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

    /// The service of each request whose turn at `site` comes before `place`, in their order; `each` is that of those of the
    /// asker's own line.
    fn order(&self, site: EndpointId, asker: Asker<'_>, place: Place, each: f64) -> Vec<f64> {
        let backlog = self.pools[asker.pool.0].backlog();
        let mut turns: Vec<(Place, f64)> = Vec::with_capacity(FOLLOWED);
        let mut add = |(rank, tag): Place, app: AppIndex, each: f64, tickets: usize| {
            let step = each / self.apps[app.0].weight();
            turns.extend((0..tickets).map(|at| ((rank, tag + step * as_f64(at)), each)));
        };
        add((place.0, asker.tag), asker.app, each, asker.before);
        for class in Class::ALL {
            for line in backlog.classes[class as usize].lines.iter().filter(|line| line.app != asker.app) {
                let rank = self.rank(site, class, line.each);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
                let tickets = self.before(rank.cmp(&place.0), line, place.1) as usize;
                add((rank, self.apps[line.app.0].tag()), line.app, line.each, tickets);
            }
        }
        turns.sort_unstable_by(|(a, _), (b, _)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        turns.into_iter().map(|(_, each)| each).collect()
    }

    /// Seconds until a start that comes after `starts` others, of which each takes so long, or as long as those in `order`
    /// that it stands for, where what runs shares the GPU evenly.
    fn line(&self, id: EndpointId, pool: PoolIndex, (starts, each): (usize, f64), order: &[f64]) -> f64 {
        let Some(runner) = self.pools[pool.0].runners.get(&id) else { return 0.0 };
        let mut inside: Vec<f64> =
            runner.inside.iter().filter_map(|ticket| self.running.get(ticket)).map(|run| self.left(run)).collect();
        let slots = runner.open().max(1) as usize;
        let others = as_f64((self.active(id) as usize).saturating_sub(inside.len()));
        let (mut time, mut left) = (0.0, starts.min(FOLLOWED));
        loop {
            while inside.len() < slots {
                if left == 0 {
                    let rest = as_f64(starts.saturating_sub(FOLLOWED)) * each;
                    return time + rest * (as_f64(slots) + others) / as_f64(slots);
                }
                let at = starts.min(FOLLOWED) - left;
                inside.push(order.get(at * order.len() / starts).copied().unwrap_or(each));
                left -= 1;
            }
            let least = inside.iter().copied().fold(f64::INFINITY, f64::min);
            time += least * (as_f64(inside.len()) + others);
            for left in &mut inside {
                *left -= least;
            }
            inside.retain(|left| *left > 1e-9);
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

    /// A wait is over that was predicted to be `plain` seconds.
    pub(super) fn learn_wait(&mut self, pool: PoolIndex, (app, class): (AppIndex, Class), plain: f64, waited: f64) {
        // a tenth of a second either way means nothing
        let ratio = ((waited + 0.1) / (plain + 0.1)).ln();
        self.pools[pool.0].learn_bias(app, class, ratio);
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

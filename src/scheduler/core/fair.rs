//! Whose turn it is: start-time fair queueing between applications, classes by priority.
//!
//! An application's *tag* is the service (seconds ÷ weight) it has been promised so far. The lowest (class, tag)
//! goes next. Admission adds the predicted service, the end replaces it by the real one. An application that comes
//! back from idleness, or from its own `max_concurrent`, starts at the floor: the lowest tag among those that
//! compete for the same weights (or, where nobody does, among all), so that idle time earns nothing. A pause as short as
//! callers take between an answer and their next request is no idleness.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::domain::{AppName, Class, EndpointId, Moment};

use super::lines::Head;
use super::pool::{Load, PoolIndex};
use super::{Core, Ticket, TicketId};

/// Index into [`Core::apps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AppIndex(pub(super) usize);

/// One application's standing.
#[derive(Debug, Clone)]
pub(super) struct App {
    pub(super) name: AppName,
    pub(super) class: Class,
    weight: f64,
    max_concurrent: Option<u32>,
    /// Service promised so far, seconds ÷ weight.
    tag: f64,
    /// The tag at its last admission.
    last_start: f64,
    /// When it last gave a slot back.
    pub(super) last_end: Moment,
    /// What waits of it.
    pub(super) waiting: Load,
    pub(super) running: u32,
    /// When those that its full queue refused were told to come back.
    turned_away: VecDeque<Moment>,
}

/// Refused requests of an application that are taken to come back, at most.
const TURNED_AWAY: usize = 32;

impl App {
    /// Its refused requests that are still to come back.
    pub(super) fn away(&self, now: Moment) -> u32 {
        let away = self.turned_away.iter().filter(|back| **back > now).count();
        u32::try_from(away).unwrap_or(u32::MAX)
    }

    /// One more is refused and told to come back then.
    pub(super) fn turn_away(&mut self, back: Moment, now: Moment) {
        self.turned_away.retain(|back| *back > now);
        if self.turned_away.len() < TURNED_AWAY {
            self.turned_away.push_back(back);
        }
    }

    /// Whether its own limit lets one more run.
    pub(super) fn may_run(&self) -> bool {
        self.max_concurrent.is_none_or(|limit| self.running < limit)
    }

    /// Whether it competes for slots now.
    pub(super) fn contends(&self) -> bool {
        !self.waiting.is_empty() && self.may_run()
    }

    /// Comes back from idleness: no better than those it finds, and no worse than one request and one swap behind them. What
    /// it had beyond that was taken from nobody who is here.
    pub(super) fn join(&mut self, floor: f64, debt: f64) {
        self.tag = self.tag.clamp(floor, floor + debt);
    }

    pub(super) fn lift(&mut self, floor: f64) {
        self.tag = self.tag.max(floor);
    }

    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    pub(super) fn tag(&self) -> f64 {
        self.tag
    }

    /// Requests of it that wait.
    pub(super) fn queued(&self) -> u32 {
        u32::try_from(self.waiting.tickets()).unwrap_or(u32::MAX)
    }

    /// Seconds of service that waits of it and has its turn before `tag`.
    pub(super) fn before(&self, tag: f64) -> f64 {
        ((tag - self.tag) * self.weight).clamp(0.0, self.waiting.seconds())
    }

    /// Its share of what bringing a runner into memory cost, seconds.
    pub(super) fn pay(&mut self, seconds: f64) {
        self.tag += seconds / self.weight;
    }

    pub(super) fn charge(&mut self, predicted: f64) {
        self.last_start = self.tag;
        self.tag += predicted / self.weight;
        self.running += 1;
    }

    pub(super) fn settle(&mut self, actual: f64, predicted: f64) {
        self.tag += (actual - predicted) / self.weight;
        self.running -= 1;
    }

    /// The tag that counts for the floor, while it is active at all. What runs counts by where it started: its own tag
    /// already holds a prediction, and a wrong one must not be handed on to whoever joins.
    fn standing(&self) -> Option<f64> {
        if self.running > 0 { Some(self.last_start.min(self.tag)) } else { self.contends().then_some(self.tag) }
    }
}

impl Core {
    /// The ticket's application, with its limits as they are now, and whether that lets more of it run.
    pub(super) fn app(&mut self, ticket: &Ticket) -> (AppIndex, bool) {
        let index = self.app_of(ticket);
        if self.apps[index.0].class != ticket.class {
            self.reclass(index, ticket.class);
        }
        let app = &mut self.apps[index.0];
        app.weight = ticket.weight;
        let held_back = !app.may_run();
        app.max_concurrent = ticket.max_concurrent;
        (index, held_back && app.may_run())
    }

    /// The application's class is another one now, and with it that of all it has in the queue.
    fn reclass(&mut self, app: AppIndex, class: Class) {
        self.apps[app.0].class = class;
        for pool in self.pools_of(app) {
            let ids: Vec<_> = self.pools[pool.0].lines.ids_of(app).collect();
            for id in ids {
                let Some(waiting) = self.waiting.get_mut(&id) else { continue };
                let old = std::mem::replace(&mut waiting.class, class);
                let expected = waiting.expected;
                self.pools[pool.0].waiting[old as usize].sub(expected);
                self.pools[pool.0].waiting[class as usize].add(expected);
            }
            self.pools[pool.0].lines.reclass(app, class);
        }
    }

    /// The ticket's application as it is known, made when it is new.
    pub(super) fn app_of(&mut self, ticket: &Ticket) -> AppIndex {
        if let Some(index) = self.app_index.get(&ticket.app) {
            return *index;
        }
        let index = AppIndex(self.apps.len());
        self.apps.push(App {
            name: ticket.app.clone(),
            class: ticket.class,
            weight: ticket.weight,
            max_concurrent: ticket.max_concurrent,
            tag: 0.0,
            last_start: 0.0,
            last_end: Moment::ZERO,
            waiting: Load::default(),
            running: 0,
            turned_away: VecDeque::new(),
        });
        self.app_index.insert(ticket.app.clone(), index);
        index
    }

    /// Where an application starts that joins `pool` now. Tags outlive idleness, so nobody gains by coming back.
    pub(super) fn floor(&self, pool: PoolIndex, class: Class) -> f64 {
        let here = self.pools[pool.0].lines.busy().map(|index| &self.apps[index.0]).filter(|app| app.class == class);
        let lowest_here = here.filter_map(App::standing).reduce(f64::min);
        let peers = || self.apps.iter().filter(|app| app.class == class);
        let lowest_anywhere = || peers().filter_map(App::standing).reduce(f64::min);
        // nobody is active: all that was promised is past
        let highest_ever = || peers().map(|app| app.tag).fold(0.0, f64::max);
        lowest_here.or_else(lowest_anywhere).unwrap_or_else(highest_ever)
    }

    /// The next ticket of this pool that can start now, and where.
    pub(super) fn next_turn(&self, pool: PoolIndex) -> Option<(TicketId, EndpointId)> {
        let members = &self.pools[pool.0];
        if members.alive() == 0 || !members.any_free() {
            return None;
        }
        if members.mixed {
            return self.next_of_mixed(pool);
        }
        // all may run in the same places
        let seat = self.free_place(pool, members.runners.keys().copied())?;
        let able = members.lines.heads().filter(|(line, _)| self.apps[line.app.0].may_run());
        self.lowest(pool, able.map(|(line, head)| (line.app, *head, seat)))
    }

    /// The same where tickets of a line differ in where they may run: the first one of each that has a free place.
    fn next_of_mixed(&self, pool: PoolIndex) -> Option<(TicketId, EndpointId)> {
        let able = self.pools[pool.0].lines.ids().filter(|(app, _)| self.apps[app.0].may_run());
        let firsts = able.filter_map(|(app, line)| {
            let mut alive = line.iter().filter_map(|id| Some((*id, self.waiting.get(id)?)));
            alive.find_map(|(id, waiting)| Some((app, Head::of(id, waiting), self.free_seat(pool, &waiting.seats)?)))
        });
        self.lowest(pool, firsts)
    }

    /// Of the first tickets of some lines, and where they would run, the next: in each class by tag, and of these by rank.
    fn lowest(
        &self,
        pool: PoolIndex,
        able: impl Iterator<Item = (AppIndex, Head, EndpointId)>,
    ) -> Option<(TicketId, EndpointId)> {
        let tag = |app: AppIndex| (self.apps[app.0].tag, app);
        let mut firsts = [None::<(AppIndex, Head, EndpointId)>; 3];
        for one in able {
            let first = &mut firsts[one.1.class as usize];
            if first.is_none_or(|first| tag(one.0) < tag(first.0)) {
                *first = Some(one);
            }
        }
        let speed = &self.pools[pool.0].speed;
        let turns = firsts.into_iter().flatten().map(|(app, head, site)| {
            let rank = self.rank(site, app, speed.predict(app, head.work));
            ((rank, tag(app)), (head.id, site))
        });
        turns.min_by(|(a, _), (b, _)| by_turn(a, b)).map(|(_, next)| next)
    }

    /// The ticket's place in the line for its weights, 1 = next, as things stand.
    #[cfg(test)]
    pub(super) fn position(&self, id: TicketId) -> usize {
        let Some(me) = self.waiting.get(&id) else { return 0 };
        let mine = (me.class as usize, self.apps[me.app.0].tag, me.app);
        let pool = &self.pools[me.pool.0];
        self.next_position(me.pool, mine) + pool.lines.before(me.app, id, |other| self.waiting.contains_key(other))
    }

    /// The place of the first ticket of an application with this class and tag.
    pub(super) fn next_position(&self, pool: PoolIndex, mine: (usize, f64, AppIndex)) -> usize {
        let turn = |app: AppIndex| (self.apps[app.0].class as usize, self.apps[app.0].tag, app);
        let others = self.pools[pool.0].lines.lengths().filter(|(app, _)| *app != mine.2 && turn(*app) < mine);
        1 + others.map(|(_, length)| length).sum::<usize>()
    }
}

/// Rank of the class, then the tag, then who is known for longer.
fn by_turn(a: &(usize, (f64, AppIndex)), b: &(usize, (f64, AppIndex))) -> Ordering {
    a.0.cmp(&b.0).then(a.1.0.total_cmp(&b.1.0)).then(a.1.1.cmp(&b.1.1))
}

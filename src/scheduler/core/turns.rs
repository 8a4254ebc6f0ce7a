//! Whose turn it is to come into memory: the place of what waits for a model among all that do.
//!
//! Owns that order, and the first one of each class in a line-up. It does not own what a turn leads to (`swap`) nor how often all
//! of them are looked at (`look`).

use std::cmp::Ordering;

use crate::domain::{Class, EndpointId, Moment};

use super::fair::AppIndex;
use super::lines::Head;
use super::pool::PoolIndex;
use super::{Core, TicketId};

/// How much earlier a turn becomes by waiting, in tag seconds per second: of two models whose applications had about as much,
/// the one that waits longer goes first.
const AGEING: f64 = 0.25;

/// The place of a waiting ticket among all, lowest first: rank of its class, its application's tag, its arrival.
pub(super) type Turn = (usize, f64, Moment);

pub(super) fn before(a: &Turn, b: &Turn) -> Ordering {
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
}

/// The first ticket of its class before a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct First {
    id: TicketId,
    app: AppIndex,
    /// Service that it is predicted to need, seconds.
    each: f64,
    /// Its application's tag less what its age takes off.
    tag: f64,
    since: Moment,
}

/// Those of every class.
pub(super) type Firsts = [Option<First>; 3];

/// Since when a model is in memory nowhere, and what that takes off the tag of who has waited for longer.
#[derive(Debug, Clone, Copy)]
struct Gone {
    since: Moment,
    most: f64,
}

/// By class, applications and their tags.
pub(super) type Able = [Vec<(f64, AppIndex)>; 3];

/// Whether it is one of them.
pub(super) fn holds(firsts: &Firsts, id: TicketId) -> bool {
    firsts.iter().flatten().any(|first| first.id == id)
}

impl Core {
    /// The lowest turn among a pool's tickets that may run at `site`.
    pub(super) fn first_turn(&self, pool: PoolIndex, site: EndpointId) -> Option<(Turn, Class, TicketId)> {
        let mixed = self.pools[pool.0].mixed;
        let firsts = if mixed { self.firsts_of_mixed(pool, site) } else { self.firsts_of_lines(pool) };
        let lowest = self.lowest_turn(site, &firsts)?;
        // where the pool is not mixed, all may run in the same places
        let here = self.waiting.get(&lowest.2)?.seats.iter().any(|seat| seat.endpoint == site);
        here.then_some(lowest)
    }

    /// The lowest turn at `site` of the first ones of a pool.
    pub(super) fn lowest_turn(&self, site: EndpointId, firsts: &Firsts) -> Option<(Turn, Class, TicketId)> {
        let service = self.service.get(&site);
        let mut lowest: Option<(Turn, Class, TicketId)> = None;
        for (class, first) in Class::ALL.into_iter().zip(firsts) {
            let Some(first) = first else { continue };
            let rank = service.map_or(1 + class as usize, |service| service.rank((first.app, class), first.each));
            let turn = (rank, first.tag, first.since);
            if lowest.as_ref().is_none_or(|lowest| before(&turn, &lowest.0).is_lt()) {
                lowest = Some((turn, class, first.id));
            }
        }
        lowest
    }

    /// Applications that may run more, by class, lowest tag first.
    pub(super) fn able_by_tag(&self) -> Able {
        let mut able: Able = Class::ALL.map(|_| Vec::with_capacity(self.apps.len()));
        for (at, app) in self.apps.iter().enumerate().filter(|(_, app)| app.contends()) {
            able[app.class as usize].push((app.tag(), AppIndex(at)));
        }
        for class in &mut able {
            class.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        }
        able
    }

    /// The same as [`Self::firsts_of_lines`], but few of many lines are looked at: age takes no more off a tag than the time
    /// that the model has been out of memory, so a tag beyond that ends the search.
    pub(super) fn firsts_by_tag(&self, pool: PoolIndex, able: &Able) -> Firsts {
        let members = &self.pools[pool.0];
        if members.lines.count() < able.iter().map(Vec::len).sum::<usize>() / 4 {
            return self.firsts_of_lines(pool);
        }
        let gone = self.gone(pool);
        let mut firsts = Firsts::default();
        for (class, able) in able.iter().enumerate().filter(|(class, _)| !members.waiting[*class].is_empty()) {
            for (tag, app) in able {
                if firsts[class].is_some_and(|first| first.tag < tag - gone.most) {
                    break;
                }
                if let Some((line, head)) = members.lines.get(*app).and_then(|line| Some((line, line.head()?))) {
                    self.compare(&mut firsts, (*app, head), gone, || line.each(head, &members.speed));
                }
            }
        }
        firsts
    }

    pub(super) fn firsts_of_lines(&self, pool: PoolIndex) -> Firsts {
        let members = &self.pools[pool.0];
        let gone = self.gone(pool);
        let mut firsts = Firsts::default();
        for (line, head) in members.lines.heads().filter(|(line, _)| self.apps[line.app.0].may_run()) {
            self.compare(&mut firsts, (line.app, head), gone, || line.each(head, &members.speed));
        }
        firsts
    }

    fn firsts_of_mixed(&self, pool: PoolIndex, site: EndpointId) -> Firsts {
        let members = &self.pools[pool.0];
        let gone = self.gone(pool);
        let mut firsts = Firsts::default();
        for (app, line) in members.lines.ids().filter(|(app, _)| self.apps[app.0].may_run()) {
            let mut line = line.iter().filter_map(|id| Some((*id, self.waiting.get(id)?)));
            if let Some((id, waiting)) =
                line.find(|(_, waiting)| waiting.seats.iter().any(|seat| seat.endpoint == site))
            {
                self.compare(&mut firsts, (app, &Head::of(id, waiting)), gone, || {
                    members.speed.predict(app, waiting.work)
                });
            }
        }
        firsts
    }

    fn gone(&self, pool: PoolIndex) -> Gone {
        let since = self.pools[pool.0].gone_since(self.now);
        Gone { since, most: self.ages(since) }
    }

    /// What a tag loses by waiting since then.
    fn ages(&self, since: Moment) -> f64 {
        AGEING * self.now.since(since).as_secs_f64()
    }

    /// Takes a line's first ticket for the first of its class, if it is. Only what waits for the model ages: a long line
    /// before a model that is served does not.
    fn compare(&self, firsts: &mut Firsts, (app, head): (AppIndex, &Head), gone: Gone, each: impl FnOnce() -> f64) {
        let aged = if head.since <= gone.since { gone.most } else { self.ages(head.since) };
        let tag = self.apps[app.0].tag() - aged;
        let first = &mut firsts[head.class as usize];
        if first.is_none_or(|first| (tag, head.since, app) < (first.tag, first.since, first.app)) {
            *first = Some(First { id: head.id, app, each: each(), tag, since: head.since });
        }
    }
}

//! A request arrives: refused at once, or in the queue, or straight into a slot.
//!
//! Owns the bounds that hold on arrival and the entry into the queue. It does not own whose turn is next (`fair`) nor how
//! long the wait is (`forecast`).

use crate::domain::Moment;

use super::fair::AppIndex;
use super::forecast::LONGEST;
use super::lines::Head;
use super::memory::Held;
use super::pool::PoolIndex;
use super::site::{Fit, Residency, Runner};
use super::{Core, Decision, Estimate, Refused, Seat, Ticket, TicketId, Waiting};

/// A pause up to this is none, seconds.
const PAUSE: f64 = 1.0;
/// How far an application that only pauses may be behind the others, in requests and swaps of its own.
const LAG: f64 = 30.0;

impl Core {
    pub(super) fn submit(&mut self, ticket: Ticket, out: &mut Vec<Decision>) {
        let id = ticket.id;
        debug_assert!(!self.waiting.contains_key(&id) && !self.running.contains_key(&id), "ticket ids are unique");
        let (app, loosened) = self.app(&ticket);
        let (pool, more) = self.pool(&ticket);
        if loosened {
            self.admit_all_of(app, out);
        }
        if more {
            self.admit_from(pool, out);
        }
        match self.judge(app, pool, &ticket) {
            Err(why) => {
                if let Refused::AppQueueFull { estimate: Estimate { wait, .. }, .. } = why
                    && wait < LONGEST
                {
                    self.apps[app.0].turn_away(self.now.after(wait), self.now);
                }
                out.push(Decision::Refuse { id, why });
            }
            Ok(forecast) => {
                let waiting = Waiting { forecast, ..self.waiting(app, pool, &ticket) };
                self.enqueue(id, waiting, ticket.again.is_some());
                self.admit_from(pool, out);
            }
        }
    }

    /// The ticket as it waits.
    pub(super) fn waiting(&self, app: AppIndex, pool: PoolIndex, ticket: &Ticket) -> Waiting {
        Waiting {
            label: ticket.label,
            app,
            pool,
            class: ticket.class,
            streams: ticket.streams,
            since: ticket.again.unwrap_or(self.now),
            deadline: ticket.deadline,
            bytes: ticket.bytes,
            work: ticket.work,
            expected: self.pools[pool.0].speed.predict(app, ticket.work),
            forecast: None,
            seats: ticket.seats.as_slice().into(),
        }
    }

    /// The bounds that hold on arrival. A ticket that can start at once needs no place in a queue.
    /// Gives what one that must wait may expect, where anybody can say.
    pub(super) fn judge(&self, app: AppIndex, pool: PoolIndex, ticket: &Ticket) -> Result<Option<Estimate>, Refused> {
        if self.draining {
            return Err(Refused::Draining);
        }
        let hopeless = self.can_never_fit(pool, ticket).or_else(|| self.pinned_out(pool, &ticket.seats));
        if let Some(why) = hopeless.or_else(|| self.quarantined(pool)) {
            return Err(why);
        }
        let load = &self.apps[app.0];
        if load.may_run() && self.free_seat(pool, &ticket.seats).is_some() {
            return Ok(None);
        }
        let estimate = self.expect(app, pool, ticket);
        let known = estimate.wait < LONGEST;
        // what was in already keeps its place
        let new = ticket.again.is_none();
        if new && load.queued() >= ticket.max_queued {
            let estimate = self.behind_a_full_queue(app, pool, estimate);
            return Err(Refused::AppQueueFull { queued: load.queued(), limit: ticket.max_queued, estimate });
        }
        let too_many = self.waiting.len() >= self.bounds.queued;
        let too_large = self.queued_bytes.saturating_add(ticket.bytes) > self.bounds.queued_bytes;
        if new && (too_many || too_large) {
            return Err(Refused::QueueFull { queued: self.waiting.len(), bytes: self.queued_bytes, estimate });
        }
        let limit = ticket.deadline.since(self.now);
        // somebody has to wait for a model, or it would never come
        let first = estimate.reason.is_for_the_model() && self.pools[pool.0].alive() == 0;
        // before a model has answered anything its speed is a guess: only what is hopeless is refused by it
        let doubt = if self.pools[pool.0].speed.is_learned() { 1.0 } else { 0.1 };
        if !first && known && estimate.wait.mul_f64(doubt) > limit {
            return Err(Refused::TooLate { estimate, limit });
        }
        Ok(known.then_some(estimate))
    }

    /// When one that its application's full queue refuses should come back: not before there is a place, and each of those
    /// that are refused together one place after the other, or they would all come back for the same one.
    fn behind_a_full_queue(&self, app: AppIndex, pool: PoolIndex, estimate: Estimate) -> Estimate {
        let (load, members) = (&self.apps[app.0], &self.pools[pool.0]);
        let away = load.away(self.now);
        // of a queue that is all one line, the first starts before whoever joins it: nothing more has to be played
        let one_line = !members.mixed && members.lines.length(app) == load.waiting.tickets();
        let place = if one_line { None } else { self.first_place(app) }.unwrap_or_default();
        let ahead = f64::from(load.queued() + 1);
        let wait = estimate.wait.max(place).mul_f64((ahead + f64::from(away)) / ahead).min(LONGEST);
        let position = usize::try_from(load.queued() + 1 + away).unwrap_or(usize::MAX);
        Estimate { position, wait, ..estimate }
    }

    /// A model that is larger than every endpoint it could run on is refused at once, not tried (defect B10).
    fn can_never_fit(&self, pool: PoolIndex, ticket: &Ticket) -> Option<Refused> {
        let mut roomiest = 0;
        for seat in &ticket.seats {
            let runner = self.pools[pool.0].runners.get(&seat.endpoint)?;
            let room = self.most_room(seat.endpoint)?;
            // what was seen of it may be more than was planned: it was loaded all the same
            if runner.is_in_memory() || runner.need.min(seat.need) <= room {
                return None;
            }
            roomiest = roomiest.max(room);
        }
        let need = ticket.seats.iter().map(|seat| self.pools[pool.0].runners.get(&seat.endpoint).map_or(0, |r| r.need));
        Some(Refused::TooLarge { need: need.min().unwrap_or(0), room: roomiest })
    }

    /// A model for which there is no room beside what is pinned, wherever these seats are, would wait for ever.
    pub(super) fn pinned_out(&self, pool: PoolIndex, seats: &[Seat]) -> Option<Refused> {
        let mut by = Vec::new();
        for seat in seats {
            let runner = self.pools[pool.0].runners.get(&seat.endpoint)?;
            if runner.is_in_memory() {
                return None;
            }
            let pinned = self.pinned_near(seat.endpoint);
            if pinned.is_empty() || self.fit_beside(seat.endpoint, pool, &pinned) != Fit::No {
                return None;
            }
            let name = |held: &Held| self.pools[held.pool.0].runners.get(&held.site).map(|r| r.order.model.clone());
            by.extend(pinned.iter().filter_map(name));
        }
        by.sort_unstable();
        by.dedup();
        let need = seats.iter().map(|seat| self.need(pool, seat.endpoint)).min()?;
        Some(Refused::PinnedOut { need, by })
    }

    /// Puts it into the queue, before what its application has there already if it was there before.
    pub(super) fn enqueue(&mut self, id: TicketId, waiting: Waiting, again: bool) {
        let Waiting { app, pool, class, .. } = waiting;
        let floor = self.floor(pool, class);
        let pauses = self.pauses(pool);
        let members = &self.pools[pool.0];
        let cost = members.runners.values().map(|runner| runner.cost).fold(0.0, f64::max);
        let debt = (cost + waiting.expected) / self.apps[app.0].weight();
        let entry = &mut self.apps[app.0];
        let thought = entry.last_end > Moment::ZERO && self.now.since(entry.last_end).as_secs_f64() <= pauses;
        if !entry.contends() {
            if thought {
                // what it is owed from before the pause stays, but pauses may not add up to a claim without end
                entry.lift(floor - LAG * debt);
            } else {
                entry.join(floor, debt);
            }
        }
        entry.waiting.add(waiting.expected);
        self.callers_are_back(pool);
        let members = &mut self.pools[pool.0];
        self.look.due |= members.alive() == 0;
        members.arrived(self.now, waiting.expected);
        members.waiting[class as usize].add(waiting.expected);
        members.lines.push(app, Head::of(id, &waiting), again);
        members.lines.of(app).asks(self.now, &waiting);
        self.lines_up(app, &waiting.seats);
        self.queued_bytes += waiting.bytes;
        self.deadlines.insert((waiting.deadline, id));
        self.waiting.insert(id, waiting);
    }

    /// How long the callers of these weights pause between two requests, seconds.
    fn pauses(&self, pool: PoolIndex) -> f64 {
        // also of a model that went a moment ago: what its callers had is not forgotten for that
        self.pools[pool.0].runners.values().map(Runner::patience).fold(PAUSE, f64::max)
    }

    /// Learns how long the callers of an idle runner think between an answer and their next request.
    fn callers_are_back(&mut self, pool: PoolIndex) {
        let now = self.now;
        let idle = self.pools[pool.0].alive() == 0;
        for runner in self.pools[pool.0].runners.values_mut() {
            if idle && runner.used == 0 && runner.state == Residency::Resident {
                runner.learn_think(now.since(runner.last_work).as_secs_f64());
            }
        }
    }
}

//! How long a request will wait, and why: the rules run forward on the present state, in sums rather than tickets.
//!
//! Owns the arithmetic of estimates. It decides nothing itself: `join` refuses by it, `view` shows it.

use std::time::Duration;

use crate::domain::{AppName, Class, EndpointId, Moment};

use super::fair::AppIndex;
use super::outlook::{Estimate, Outlook, Queued, WaitReason};
use super::pool::{Load, PoolIndex};
use super::site::Residency;
use super::{Core, Seat, Ticket, TicketId, Waiting};

impl Core {
    /// A rough time until a ticket that joins now would start: the work ahead of it, and half of what runs. Kept as
    /// sums, because many may be refused at once when the queue is longest.
    pub(super) fn eta(&self, pool: PoolIndex, class: Class) -> Duration {
        let pool = &self.pools[pool.0];
        let queued: f64 = pool.waiting[..=class as usize].iter().map(Load::seconds).sum();
        let ahead = queued + pool.running.seconds() / 2.0;
        Duration::try_from_secs_f64(ahead).unwrap_or(Duration::from_secs(3600))
    }

    /// What a ticket that waits may expect.
    #[must_use]
    pub fn estimate(&self, id: TicketId) -> Option<Estimate> {
        let waiting = self.waiting.get(&id)?;
        let wait = self.eta(waiting.pool, waiting.class);
        Some(Estimate { position: self.position(id), wait, reason: self.reason(waiting) })
    }

    /// What waits, next to start first: of one application, or everything.
    #[must_use]
    pub fn queue(&mut self, now: Moment, app: Option<&AppName>) -> Vec<Queued> {
        self.advance(now);
        let one = app.map(|app| self.app_index.get(app));
        let mut queue: Vec<Queued> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| one.is_none_or(|one| one == Some(&waiting.app)))
            .filter_map(|(id, waiting)| {
                Some(Queued {
                    label: waiting.label,
                    app: self.apps[waiting.app.0].name.clone(),
                    class: waiting.class,
                    weights: self.pools[waiting.pool.0].weights.clone(),
                    since: waiting.since,
                    deadline: waiting.deadline,
                    estimate: self.estimate(*id)?,
                })
            })
            .collect();
        queue.sort_by_key(|queued| (queued.estimate.wait, queued.estimate.position, queued.since, queued.label));
        queue
    }

    /// What would happen to this ticket if it came now.
    #[must_use]
    pub fn outlook(&mut self, now: Moment, ticket: &Ticket) -> Outlook {
        self.advance(now);
        let (app, _) = self.app(ticket);
        let pool = self.pool(ticket);
        if let Some(why) = self.reason_to_refuse(app, pool, ticket) {
            return Outlook::Refused(why);
        }
        if self.apps[app.0].may_run()
            && let Some(endpoint) = self.free_seat(pool, &ticket.seats)
        {
            return Outlook::Starts { endpoint };
        }
        let wait = self.eta(pool, ticket.class);
        let position = 1 + self.pools[pool.0].alive();
        Outlook::Waits(Estimate { position, wait, reason: self.why(app, pool, &ticket.seats) })
    }

    fn reason(&self, waiting: &Waiting) -> WaitReason {
        self.why(waiting.app, waiting.pool, &waiting.seats)
    }

    /// Why a ticket with these seats does not run now.
    fn why(&self, app: AppIndex, pool: PoolIndex, seats: &[Seat]) -> WaitReason {
        if !self.apps[app.0].may_run() {
            return WaitReason::OwnLimit;
        }
        let usable = || seats.iter().map(|seat| seat.endpoint).filter(|id| !self.down.contains(id));
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

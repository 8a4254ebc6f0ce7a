//! What an endpoint gives to whom: the service of what runs there, and the least share of each class.
//!
//! A GPU second is sold once: requests that run together share it evenly. A class that waits for an endpoint earns its least
//! share of the service that is given there, pays with what it has there itself, and goes first there once that covers its
//! next request. Every endpoint keeps its own account: service elsewhere is of no use to whom can only run here, and
//! what others have elsewhere is no reason to be given more here.

use crate::domain::{Class, EndpointId};

use super::{Core, Seat};

/// A class may claim its least share of this many seconds at most, so that an old claim cannot crowd others out for long.
const MOST_OWED: f64 = 600.0;

/// One endpoint's account.
#[derive(Debug, Clone, Default)]
pub(super) struct Service {
    /// Requests running now, by class.
    active: [u32; 3],
    /// Tickets that wait and may run here, by class.
    backlog: [usize; 3],
    /// Σ dt ÷ active, seconds: the service that one request running all the time would have had.
    reading: f64,
    /// Seconds a class may claim ahead of more urgent ones.
    owed: [f64; 3],
}

impl Service {
    /// Requests running now.
    pub(super) fn active(&self) -> u32 {
        self.active.iter().sum()
    }

    /// What one request that ran all the time would have had, seconds.
    pub(super) fn reading(&self) -> f64 {
        self.reading
    }

    pub(super) fn enter(&mut self, class: Class) {
        self.active[class as usize] += 1;
    }

    pub(super) fn leave(&mut self, class: Class) {
        self.active[class as usize] -= 1;
    }

    /// Time passes.
    pub(super) fn pass(&mut self, dt: f64) {
        let active = self.active();
        let given = if active > 0 { dt } else { 0.0 };
        let each = given / f64::from(active.max(1));
        self.reading += each;
        for class in Class::ALL {
            let at = class as usize;
            let most = MOST_OWED * class.least_share();
            let earned = class.least_share() * given - each * f64::from(self.active[at]);
            self.owed[at] = if self.backlog[at] == 0 { 0.0 } else { (self.owed[at] + earned).clamp(-most, most) };
        }
    }

    /// Whether a class may claim anything.
    pub(super) fn claims(&self, class: Class) -> bool {
        self.owed[class as usize] > 0.0
    }

    /// Requests of a class that run here, and that wait and may run here.
    #[cfg(test)]
    pub(super) fn counts(&self, class: Class) -> (usize, usize) {
        (self.active[class as usize] as usize, self.backlog[class as usize])
    }

    /// 0 goes first: a class whose least share is due, then the classes by urgency.
    pub(super) fn rank(&self, class: Class, predicted: f64) -> usize {
        if self.is_due(class, predicted) { 0 } else { 1 + class as usize }
    }

    /// Whether a class may claim service for a request that is predicted to need so many seconds.
    fn is_due(&self, class: Class, predicted: f64) -> bool {
        // a claim is never larger than ten minutes' share: a request that is need not wait for more
        let least = class.least_share();
        least > 0.0 && self.owed[class as usize] >= predicted.min(0.9 * MOST_OWED * least)
    }
}

impl Core {
    /// Requests that run on an endpoint.
    pub(super) fn active(&self, id: EndpointId) -> u32 {
        self.service.get(&id).map_or(0, Service::active)
    }

    /// A ticket with these seats begins to wait.
    pub(super) fn lines_up(&mut self, class: Class, seats: &[Seat]) {
        for seat in seats {
            self.service.entry(seat.endpoint).or_default().backlog[class as usize] += 1;
        }
    }

    /// A ticket with these seats waits no longer.
    pub(super) fn steps_out(&mut self, class: Class, seats: &[Seat]) {
        for seat in seats {
            self.service.entry(seat.endpoint).or_default().backlog[class as usize] -= 1;
        }
    }

    /// The rank of a class there, for a request that is predicted to need so many seconds.
    pub(super) fn rank(&self, site: EndpointId, class: Class, predicted: f64) -> usize {
        self.service.get(&site).map_or(1 + class as usize, |service| service.rank(class, predicted))
    }
}

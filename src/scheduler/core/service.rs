//! What an endpoint gives to whom: the service of what runs there, and the least share of each class.
//!
//! A GPU second is sold once: requests that run together share it evenly. A class that waits for an endpoint earns its least
//! share of the service that is given there, for the application of it that had the least so far; each pays with what it has
//! there itself, and goes first there once what it earned covers its next request. What others of its class get beside
//! urgent work, because their model is the one in memory, is not taken from who waits for another model. Every endpoint
//! keeps its own accounts: service elsewhere is of no use to whom can only run here, and what others have elsewhere is no
//! reason to be given more here.

use crate::domain::{Class, EndpointId};

use super::fair::{App, AppIndex};
use super::{Core, Seat};

/// A claim is the least share of its class of this many seconds at most, so that an old one cannot crowd others out for long.
const MOST_OWED: f64 = 600.0;

/// Part of the largest claim that any request may use: one that is larger need not wait for more.
const ENOUGH: f64 = 0.9;
/// Applications up to which what was given is shared out at every step.
const FEW: usize = 32;
/// Seconds of service after which it is shared out among more.
const LULL: f64 = 0.05;

/// One application's account at an endpoint.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// Requests of it that run here.
    active: u32,
    /// Tickets of it that wait and may run here.
    waiting: u32,
    /// Seconds it may claim ahead of more urgent ones.
    owed: f64,
    /// The reading up to which it has paid for what runs.
    paid: f64,
}

impl Account {
    fn pay(&mut self, reading: f64) {
        self.owed -= (reading - self.paid) * f64::from(self.active);
        self.paid = reading;
    }
}

/// One endpoint's accounts.
#[derive(Debug, Clone, Default)]
pub(super) struct Service {
    /// Requests running now.
    active: u32,
    /// By application.
    accounts: Vec<Account>,
    /// Seconds of service of which the classes have not got their least share yet.
    unshared: f64,
    /// The largest claim of each class, seconds: who wants more need not be looked up.
    largest: [f64; 3],
    /// Σ dt ÷ active, seconds: the service that one request running all the time would have had.
    reading: f64,
}

impl Service {
    /// Requests running now.
    pub(super) fn active(&self) -> u32 {
        self.active
    }

    /// What one request that ran all the time would have had, seconds.
    pub(super) fn reading(&self) -> f64 {
        self.reading
    }

    fn account(&mut self, app: AppIndex) -> &mut Account {
        if self.accounts.len() <= app.0 {
            self.accounts.resize(app.0 + 1, Account::default());
        }
        &mut self.accounts[app.0]
    }

    pub(super) fn enter(&mut self, app: AppIndex) {
        self.active += 1;
        let reading = self.reading;
        let account = self.account(app);
        account.pay(reading);
        account.active += 1;
    }

    pub(super) fn leave(&mut self, app: AppIndex) {
        self.active -= 1;
        let reading = self.reading;
        let account = self.account(app);
        account.pay(reading);
        account.active -= 1;
    }

    /// Time passes.
    pub(super) fn pass(&mut self, dt: f64, apps: &[App]) {
        if self.active > 0 {
            self.reading += dt / f64::from(self.active);
            self.unshared += dt;
        }
        if apps.len() <= FEW || self.unshared >= LULL {
            self.share_out(apps);
        }
    }

    /// Everybody pays, and of each class the one that had the least so far gets its least share.
    fn share_out(&mut self, apps: &[App]) {
        let mut least: [Option<(f64, usize)>; 3] = [None; 3];
        self.largest = [0.0; 3];
        for (at, (account, app)) in self.accounts.iter_mut().zip(apps).enumerate() {
            account.pay(self.reading);
            if account.waiting == 0 {
                account.owed = 0.0;
                continue;
            }
            let (class, most) = (app.class as usize, most_owed(app.class));
            account.owed = account.owed.max(-most);
            self.largest[class] = self.largest[class].max(account.owed);
            // one that cannot use its claim, for whatever reason, keeps the others from theirs no longer once that is full
            let earns = account.owed < most && app.may_run();
            if earns && least[class].is_none_or(|(tag, _)| app.tag() < tag) {
                least[class] = Some((app.tag(), at));
            }
        }
        for (_, at) in least.into_iter().flatten() {
            let (class, account) = (apps[at].class, &mut self.accounts[at]);
            account.owed = (account.owed + class.least_share() * self.unshared).min(most_owed(class));
            self.largest[class as usize] = self.largest[class as usize].max(account.owed);
        }
        self.unshared = 0.0;
    }

    /// Whether anybody of a class may claim anything.
    pub(super) fn claims(&self, class: Class) -> bool {
        self.largest[class as usize] > 0.0
    }

    /// Requests of an application that run here, and that wait and may run here.
    #[cfg(test)]
    pub(super) fn counts(&self, app: AppIndex) -> (usize, usize) {
        let account = self.accounts.get(app.0).copied().unwrap_or_default();
        (account.active as usize, account.waiting as usize)
    }

    /// 0 goes first: one whose part of the least share of its class is due, then the classes by urgency.
    pub(super) fn rank(&self, (app, class): (AppIndex, Class), predicted: f64) -> usize {
        if self.is_due(app, class, predicted) { 0 } else { 1 + class as usize }
    }

    /// Whether it may claim service for a request that is predicted to need so many seconds.
    fn is_due(&self, app: AppIndex, class: Class, predicted: f64) -> bool {
        let needed = predicted.min(ENOUGH * most_owed(class));
        let largest = self.largest[class as usize];
        largest > 0.0 && largest >= needed && self.accounts.get(app.0).is_some_and(|account| account.owed >= needed)
    }
}

/// Seconds of service after which a class has earned a request that needs so many; none for who needs no claim.
pub(super) fn longest_to_earn(class: Class, needed: f64) -> f64 {
    let share = class.least_share();
    if share > 0.0 { (needed / share).min(ENOUGH * MOST_OWED) } else { 0.0 }
}

fn most_owed(class: Class) -> f64 {
    MOST_OWED * class.least_share()
}

impl Core {
    /// Requests that run on an endpoint.
    pub(super) fn active(&self, id: EndpointId) -> u32 {
        self.service.get(&id).map_or(0, Service::active)
    }

    /// A ticket with these seats begins to wait.
    pub(super) fn lines_up(&mut self, app: AppIndex, seats: &[Seat]) {
        for seat in seats {
            self.service.entry(seat.endpoint).or_default().account(app).waiting += 1;
        }
    }

    /// A ticket with these seats waits no longer.
    pub(super) fn steps_out(&mut self, app: AppIndex, seats: &[Seat]) {
        for seat in seats {
            self.service.entry(seat.endpoint).or_default().account(app).waiting -= 1;
        }
    }

    /// The rank of an application there, for a request that is predicted to need so many seconds.
    pub(super) fn rank(&self, site: EndpointId, app: AppIndex, predicted: f64) -> usize {
        let class = self.apps[app.0].class;
        self.service.get(&site).map_or(1 + class as usize, |service| service.rank((app, class), predicted))
    }
}

//! One loaded runner: its slots and the first-come queue before them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Ask, Id, Ticket};
use crate::domain::Moment;
use crate::sim::model::Model;
use crate::sim::options::RunnerOptions;

/// A loaded runner.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) tag: Arc<Model>,
    pub(super) options: RunnerOptions,
    pub(super) memory: u64,
    pub(super) fitting: u64,
    /// Requests that hold it, those without a slot included.
    pub(super) holders: BTreeSet<Id>,
    /// How long it stays once idle; zero unloads it as soon as it is.
    pub(super) keep_alive: Duration,
    /// When the idle time that began last ends: armed while idle, stale while busy.
    pub(super) expires: Moment,
    /// Its process listens and does nothing more.
    pub(super) hung: bool,
    /// It does not go when it should.
    pub(super) stays: bool,
    slots: usize,
    busy: BTreeSet<Ticket>,
    waiting: VecDeque<Ticket>,
}

impl Runner {
    pub(super) fn new(ask: &Ask, fitting: u64, keep_alive: Duration, now: Moment) -> Self {
        Self {
            tag: ask.tag.clone(),
            options: ask.options.clone(),
            memory: ask.memory,
            fitting,
            holders: BTreeSet::new(),
            keep_alive,
            expires: now.after(keep_alive),
            hung: false,
            stays: false,
            slots: ask.slots.max(1),
            busy: BTreeSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// When it falls due for unloading, if it is idle and does not stay for ever.
    pub(super) fn due(&self) -> Option<Moment> {
        (self.may_go() && self.keep_alive != Duration::MAX).then_some(self.expires)
    }

    /// Whether it can be unloaded now.
    pub(super) fn may_go(&self) -> bool {
        self.holders.is_empty() && !self.stays
    }

    /// One slot is gone until it is unloaded; it may be the last one.
    pub(super) fn lose_slot(&mut self) {
        self.slots = self.slots.saturating_sub(1);
    }

    pub(super) fn running(&self) -> usize {
        self.busy.len()
    }

    /// Takes a slot or a place in the queue; true when it is a slot.
    pub(super) fn acquire(&mut self, ticket: Ticket) -> bool {
        let free = self.busy.len() < self.slots && self.waiting.is_empty();
        if free {
            self.busy.insert(ticket);
        } else {
            self.waiting.push_back(ticket);
        }
        free
    }

    /// Gives a slot or a place back; returns the tickets that move up.
    pub(super) fn release(&mut self, leaves: impl Fn(&Ticket) -> bool) -> Vec<Ticket> {
        self.busy.retain(|ticket| !leaves(ticket));
        self.waiting.retain(|ticket| !leaves(ticket));
        let mut moved = Vec::new();
        while self.busy.len() < self.slots {
            let Some(next) = self.waiting.pop_front() else { break };
            self.busy.insert(next);
            moved.push(next);
        }
        moved
    }
}

//! Who waits for one set of weights: a line for each application, in order of arrival.
//!
//! Owns the lines and what is kept of the first ticket of each, so that looking at every line touches no ticket. It does not
//! own the tickets, nor whose turn is next (`fair`, `swap`).

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::{Class, Moment};

use super::callers::Callers;
use super::fair::AppIndex;
use super::predict::Speed;
use super::{Seat, TicketId, Waiting, Work};

/// What is known of the first ticket of a line without looking it up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) id: TicketId,
    pub(super) class: Class,
    pub(super) work: Work,
    pub(super) since: Moment,
}

impl Head {
    pub(super) fn of(id: TicketId, waiting: &Waiting) -> Self {
        Self { id, class: waiting.class, work: waiting.work, since: waiting.since }
    }
}

/// One application's line. Withdrawn tickets stay as dead ids until they are swept.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) app: AppIndex,
    /// Tickets of it that run.
    pub(super) running: u32,
    alive: usize,
    head: Option<Head>,
    /// Service that the head is predicted to need, seconds, and after how many answers that was worked out.
    each: Cell<Option<(u32, f64)>>,
    ids: VecDeque<TicketId>,
    /// How its callers behave, and what they asked for last.
    pub(super) callers: Callers,
    pub(super) usual: Option<(Work, Arc<[Seat]>)>,
}

impl Line {
    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Tickets that wait.
    pub(super) fn alive(&self) -> usize {
        self.alive
    }

    /// Service that its first ticket is predicted to need, seconds.
    pub(super) fn each(&self, head: &Head, speed: &Speed) -> f64 {
        match self.each.get() {
            Some((samples, each)) if samples == speed.samples() => each,
            _ => {
                let each = speed.predict(self.app, head.work);
                self.each.set(Some((speed.samples(), each)));
                each
            }
        }
    }

    /// A request came that is this one as it waits.
    pub(super) fn asks(&mut self, now: Moment, waiting: &Waiting) {
        self.callers.asked(now);
        self.usual = Some((waiting.work, Arc::clone(&waiting.seats)));
    }

    /// Whether its application has anything here, waiting or running.
    pub(super) fn is_busy(&self) -> bool {
        self.alive > 0 || self.running > 0
    }
}

/// The place of a line that is not there.
const NOWHERE: u32 = u32::MAX;

/// See the module's header.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines {
    /// By application.
    lines: Vec<Line>,
    /// Where each application's line is among them, by its index; [`NOWHERE`] without one.
    places: Vec<u32>,
    /// Tickets that wait, in all lines.
    alive: usize,
    /// How often one came or went, or was of another class.
    changes: u64,
    /// What is taken to be known of callers that were not seen yet.
    taught: Callers,
}

impl Lines {
    /// None yet; their callers are taken to behave like these.
    pub(super) fn of_callers(taught: Callers) -> Self {
        Self { taught, ..Self::default() }
    }

    /// Whether callers are here, or were a moment ago, who ask again as soon as they are answered.
    pub(super) fn come_back(&self, now: Moment) -> bool {
        let here = |line: &&Line| line.is_busy() || line.callers.away(now).0 > 0;
        self.lines.iter().filter(here).any(|line| line.callers.come_back())
    }

    /// Share of answers that a request of the same application follows at once, over all lines.
    pub(super) fn returns(&self) -> f64 {
        let known = self.lines.iter().map(|line| line.callers.known());
        let (followed, answers) = known.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if answers > 0.0 { followed / answers } else { 0.0 }
    }

    /// Every line that ever was.
    pub(super) fn all(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }

    pub(super) fn get(&self, app: AppIndex) -> Option<&Line> {
        self.lines.get(self.place(app)?)
    }

    fn place(&self, app: AppIndex) -> Option<usize> {
        self.places.get(app.0).filter(|place| **place != NOWHERE).map(|place| *place as usize)
    }

    /// The application's line, made when it is new.
    pub(super) fn of(&mut self, app: AppIndex) -> &mut Line {
        let at = self.place(app).unwrap_or_else(|| self.begin(app));
        &mut self.lines[at]
    }

    fn begin(&mut self, app: AppIndex) -> usize {
        let at = self.lines.partition_point(|line| line.app < app);
        let (running, alive, head, ids, usual) = (0, 0, None, VecDeque::new(), None);
        let callers = self.taught;
        self.lines.insert(at, Line { app, running, alive, head, each: Cell::default(), ids, callers, usual });
        self.places.resize(self.places.len().max(app.0 + 1), NOWHERE);
        for (line, place) in self.lines.iter().zip(0..).skip(at) {
            self.places[line.app.0] = place;
        }
        at
    }

    pub(super) fn push(&mut self, app: AppIndex, head: Head, first: bool) {
        self.alive += 1;
        self.changes += 1;
        let line = self.of(app);
        if first {
            line.ids.push_front(head.id);
        } else {
            line.ids.push_back(head.id);
        }
        if first || line.alive == 0 {
            line.head = Some(head);
            line.each.set(None);
        }
        line.alive += 1;
    }

    /// An application is of another class now.
    pub(super) fn reclass(&mut self, app: AppIndex, class: Class) {
        self.changes += 1;
        if let Some(head) = &mut self.of(app).head {
            head.class = class;
        }
    }

    /// A ticket of `app` left the queue; `known` knows those that still wait. Dead ids go once they are half of the line, so
    /// that the cost per ticket stays constant and a line that never moves cannot grow.
    pub(super) fn forget(&mut self, app: AppIndex, id: TicketId, known: impl Fn(&TicketId) -> Option<Head>) {
        let Some(at) = self.place(app) else { return };
        let line = &mut self.lines[at];
        line.alive -= 1;
        self.alive -= 1;
        self.changes += 1;
        if line.head.is_some_and(|head| head.id == id) {
            line.head = None;
            line.each.set(None);
            while let Some(front) = line.ids.front() {
                line.head = known(front);
                if line.head.is_some() {
                    break;
                }
                line.ids.pop_front();
            }
        }
        if line.ids.len() > 2 * line.alive + 16 {
            line.ids.retain(|id| known(id).is_some());
        }
    }

    /// Applications with anything here, waiting or running.
    pub(super) fn busy(&self) -> impl Iterator<Item = AppIndex> {
        self.lines.iter().filter(|line| line.is_busy()).map(|line| line.app)
    }

    /// Applications with a ticket that waits, and all of theirs in order of arrival, dead ones included.
    pub(super) fn ids(&self) -> impl Iterator<Item = (AppIndex, &VecDeque<TicketId>)> {
        self.lines.iter().filter(|line| line.alive > 0).map(|line| (line.app, &line.ids))
    }

    /// All tickets of `app` in order of arrival, dead ones included.
    pub(super) fn ids_of(&self, app: AppIndex) -> impl Iterator<Item = TicketId> {
        self.get(app).into_iter().flat_map(|line| line.ids.iter().copied())
    }

    /// Lines with a ticket that waits, and the first one.
    pub(super) fn heads(&self) -> impl Iterator<Item = (&Line, &Head)> {
        self.lines.iter().filter_map(|line| Some((line, line.head.as_ref()?)))
    }

    /// Tickets of `app` that wait.
    pub(super) fn length(&self, app: AppIndex) -> usize {
        self.get(app).map_or(0, |line| line.alive)
    }

    /// Applications and how many of their tickets wait.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (AppIndex, usize)> {
        self.lines.iter().map(|line| (line.app, line.alive))
    }

    /// Tickets of `app` before `id` in its line, going by what is `alive`.
    pub(super) fn before(&self, app: AppIndex, id: TicketId, alive: impl Fn(&TicketId) -> bool) -> usize {
        let line = self.get(app).map(|line| line.ids.iter());
        line.into_iter().flatten().take_while(|other| **other != id).filter(|other| alive(other)).count()
    }

    /// How often a ticket came or went, or was of another class.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Tickets that wait.
    pub(super) fn alive(&self) -> usize {
        self.alive
    }

    /// Applications that ever had a ticket here.
    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    /// Every id in every line, dead ones included.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.lines.iter().map(|line| line.ids.len()).sum()
    }
}

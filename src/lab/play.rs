//! Plays a workload through a mode, from the first request to the last answer, in virtual time.
//!
//! Owns the clients, the order of events and the record of every request. Nothing here decides who runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::domain::Moment;
use crate::scheduler::core::Lesson;

use super::dice::Dice;
use super::film::Span;
use super::modes::{Answer, Asked, Desk, Mode};
use super::server::{Event, Server};
use super::workload::{Demand, Patience, Workload};

/// When the first second of a workload begins; what is warm was loaded before.
const DAWN: Duration = Duration::from_secs(1);
/// What is not answered so long after the last arrival hangs.
const HANGS: Duration = Duration::from_secs(200_000);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Answered whole.
    Answered,
    /// Its caller left.
    Left,
    /// Refused.
    Refused,
    /// Never.
    Hangs,
}

/// One request, times in seconds from the start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Record {
    /// Whose.
    pub app: usize,
    /// For which model.
    pub model: usize,
    /// When it was asked.
    pub arrived: f64,
    /// When it got its slot.
    pub started: Option<f64>,
    /// When its prompt was read.
    pub first: Option<f64>,
    /// When it was over.
    pub ended: f64,
    /// How.
    pub ending: Ending,
    /// GPU seconds it had.
    pub service: f64,
    /// Seconds it takes alone.
    pub work: f64,
    /// Time in the server's own queue for a slot, as its figures tell.
    pub slot_wait: f64,
    /// Seconds until it starts, as foretold on arrival.
    pub foretold: Option<f64>,
}

impl Record {
    /// Seconds from asking to the slot, where it got one.
    #[must_use]
    pub fn wait(&self) -> Option<f64> {
        self.started.map(|started| started - self.arrived)
    }
}

/// What came of one workload in one mode.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The mode.
    pub mode: Mode,
    /// Every request, in order of arrival.
    pub records: Vec<Record>,
    /// What was in memory when.
    pub spans: Vec<Span>,
    /// Loads begun.
    pub loads: u64,
    /// When the last request was over, seconds.
    pub makespan: f64,
}

/// What happens at a set time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Client(usize),
    Planned(usize),
    GivesUp(u64),
    Drops(u64),
}

struct Player<'a> {
    workload: &'a Workload,
    server: Server,
    desk: Box<dyn Desk>,
    agenda: BinaryHeap<Reverse<(Moment, u64, Due)>>,
    entered: u64,
    records: Vec<Record>,
    /// Per request: the client it is of, and whether its caller only waits for the first token.
    client_of: Vec<(Option<usize>, bool)>,
    /// Per client: its numbers, and how often it asked.
    clients: Vec<(Dice, u32)>,
    open: usize,
    now: Moment,
}

/// Plays `workload` in `mode`; where the mode learns, as after a restart of a process that has seen it before.
///
/// # Errors
/// When a name in it is no name of an application or a model.
pub fn play(workload: &Workload, mode: Mode) -> Result<Run, String> {
    played_for(workload, mode, true)
}

/// The same; where nobody `listens`, waits are not foretold.
pub(super) fn played_for(workload: &Workload, mode: Mode, listens: bool) -> Result<Run, String> {
    if mode != Mode::Gaucho {
        return played(workload, mode, Vec::new(), false).map(|(run, _)| run);
    }
    let (_, lessons) = played(workload, mode, Vec::new(), false)?;
    played(workload, mode, lessons, listens).map(|(run, _)| run)
}

fn played(
    workload: &Workload,
    mode: Mode,
    lessons: Vec<Lesson>,
    foretells: bool,
) -> Result<(Run, Vec<Lesson>), String> {
    let server = Server::new(workload, Moment::from_start(DAWN / 2))?;
    let before = server.loads();
    let dice = |at: usize| (Dice::new(workload.seed, 1000 + at as u64), 0);
    let mut player = Player {
        workload,
        server,
        desk: mode.desk(workload, lessons, foretells)?,
        agenda: BinaryHeap::new(),
        entered: 0,
        records: Vec::new(),
        client_of: Vec::new(),
        clients: (0..workload.clients.len()).map(dice).collect(),
        open: 0,
        now: Moment::from_start(DAWN / 2),
    };
    player.run();
    let loads = player.server.loads() - before;
    let spans = player.server.film.finish(player.now, DAWN.as_secs_f64());
    let makespan = player.records.iter().map(|record| record.ended).fold(0.0, f64::max);
    let lessons = player.desk.lessons();
    Ok((Run { mode, records: player.records, spans, loads, makespan }, lessons))
}

impl Player<'_> {
    fn run(&mut self) {
        self.desk.open(self.now, &mut self.server);
        for client in 0..self.clients.len() {
            let late = 0.003 * self.clients[client].0.unit();
            self.enter(self.workload.clients[client].starts + late, Due::Client(client));
        }
        if let Some((at, _)) = self.workload.planned.first() {
            self.enter(*at, Due::Planned(0));
        }
        let mut last_arrival = self.now;
        while self.open > 0 || !self.agenda.is_empty() {
            let due = self.agenda.peek().map(|Reverse((at, ..))| *at);
            let next = due.into_iter().chain(self.server.next_due()).chain(self.desk.next_due()).min();
            let Some(next) = next.filter(|next| next.since(last_arrival) < HANGS) else { break };
            self.now = self.now.max(next);
            self.server.advance(self.now);
            self.settle();
            while let Some(Reverse((at, _, what))) = self.agenda.peek().copied()
                && at <= self.now
            {
                self.agenda.pop();
                last_arrival = self.now;
                self.happens(what);
                self.settle();
            }
            if self.desk.next_due().is_some_and(|at| at <= self.now) {
                self.desk.tick(self.now, &mut self.server);
                self.settle();
            }
        }
        for record in self.records.iter_mut().filter(|record| record.ending == Ending::Hangs) {
            record.ended = seconds(self.now);
        }
    }

    fn enter(&mut self, at: f64, what: Due) {
        self.entered += 1;
        let at = Moment::from_start(DAWN + Duration::from_secs_f64(at.max(0.0)));
        self.agenda.push(Reverse((at, self.entered, what)));
    }

    fn happens(&mut self, what: Due) {
        match what {
            Due::Planned(at) => {
                if let Some((next, _)) = self.workload.planned.get(at + 1) {
                    self.enter(*next, Due::Planned(at + 1));
                }
                self.ask(None, self.workload.planned[at].1);
            }
            Due::Client(client) => self.client_asks(client),
            Due::GivesUp(id) => {
                let record = &self.records[id as usize];
                let first_only = self.client_of[id as usize].1;
                if record.ending == Ending::Hangs && !(first_only && record.first.is_some()) {
                    let service = self.desk.leave(self.now, id, &mut self.server);
                    self.over(id, Ending::Left, service);
                }
            }
            Due::Drops(id) => {
                if self.records[id as usize].ending == Ending::Hangs {
                    let service = self.desk.drops(self.now, id, &mut self.server);
                    self.over(id, Ending::Left, service);
                }
            }
        }
    }

    fn client_asks(&mut self, client: usize) {
        let spec = &self.workload.clients[client];
        let (dice, asked) = &mut self.clients[client];
        if seconds(self.now) >= spec.until || *asked >= spec.limit || spec.turns.is_empty() {
            return;
        }
        let mut demand = spec.turns[*asked as usize % spec.turns.len()];
        demand.effort *= dice.around(self.workload.jitter);
        *asked += 1;
        self.ask(Some(client), demand);
    }

    fn ask(&mut self, client: Option<usize>, demand: Demand) {
        let id = self.records.len() as u64;
        let arrived = seconds(self.now);
        self.records.push(Record {
            app: demand.app,
            model: demand.model,
            arrived,
            started: None,
            first: None,
            ended: arrived,
            ending: Ending::Hangs,
            service: 0.0,
            work: self.workload.models[demand.model].solo(&demand),
            slot_wait: 0.0,
            foretold: None,
        });
        self.client_of.push((client, matches!(demand.patience, Patience::FirstToken(_))));
        self.open += 1;
        match demand.patience {
            Patience::Endless => {}
            Patience::FirstToken(after) | Patience::HangsUp(after) => self.enter(arrived + after, Due::GivesUp(id)),
            Patience::StopsReading { drops, .. } => self.enter(arrived + drops, Due::Drops(id)),
        }
        match self.desk.arrive(self.now, Asked { id, demand }, &mut self.server) {
            Answer::Taken(foretold) => self.records[id as usize].foretold = foretold,
            Answer::Refused => self.over(id, Ending::Refused, 0.0),
        }
    }

    /// Lets everybody hear what the server did, until it is quiet.
    fn settle(&mut self) {
        loop {
            let events = self.server.events();
            if events.is_empty() {
                return;
            }
            for event in events {
                self.hear(event);
                self.desk.event(self.now, event, &mut self.server);
            }
        }
    }

    fn hear(&mut self, event: Event) {
        let now = seconds(self.now);
        match event {
            Event::Started(id) => self.records[id as usize].started = Some(now),
            Event::First(id) => self.records[id as usize].first = Some(now),
            Event::Done(id, figures) => {
                self.records[id as usize].slot_wait = figures.slot_wait();
                self.over(id, Ending::Answered, figures.service);
            }
            Event::Busy(id) => self.over(id, Ending::Refused, 0.0),
            Event::Loaded(_) | Event::Gone(_) | Event::Changed => {}
        }
    }

    /// A request is over; its client goes on.
    fn over(&mut self, id: u64, ending: Ending, service: f64) {
        let now = seconds(self.now);
        let record = &mut self.records[id as usize];
        if record.ending != Ending::Hangs {
            return;
        }
        (record.ending, record.ended, record.service) = (ending, now, service);
        self.open -= 1;
        let Some(client) = self.client_of[id as usize].0 else { return };
        let spec = &self.workload.clients[client];
        if ending == Ending::Answered && spec.only_until_answered {
            return;
        }
        let gap = self.clients[client].0.exponential(spec.gap);
        // who is refused does not come back in the same breath
        let pause = if ending == Ending::Refused { 1.0 } else { 0.0 };
        self.enter(now + gap + pause, Due::Client(client));
    }
}

fn seconds(at: Moment) -> f64 {
    at.since_start().as_secs_f64() - DAWN.as_secs_f64()
}

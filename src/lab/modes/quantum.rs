//! A gateway with the plain rule: a resident model stays for three times its load, or until its queue is dry; then the
//! model of the longest waiting request comes. In order of arrival within a model.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::domain::Moment;
use crate::lab::server::{Event, Server};
use crate::lab::workload::{Host, ModelSpec, Workload};

use super::{Answer, Asked, Desk, gateway_call};

/// Stays of a model, in loads of it.
const QUANTUM: f64 = 3.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Loading,
    Resident,
    Leaving,
    Unloading,
}

struct Line {
    queue: VecDeque<Asked>,
    inside: u32,
    state: State,
    since: Moment,
    last_work: Moment,
}

pub(super) struct Quantum {
    host: Host,
    models: Vec<ModelSpec>,
    lines: Vec<Line>,
    model_of: BTreeMap<u64, usize>,
    /// Who comes once its victims are gone.
    coming: Option<usize>,
    wake: Option<Moment>,
}

impl Quantum {
    pub(super) fn new(workload: &Workload) -> Self {
        let line = |_: &ModelSpec| Line {
            queue: VecDeque::new(),
            inside: 0,
            state: State::Absent,
            since: Moment::ZERO,
            last_work: Moment::ZERO,
        };
        Self {
            host: workload.host.clone(),
            lines: workload.models.iter().map(line).collect(),
            models: workload.models.clone(),
            model_of: BTreeMap::new(),
            coming: None,
            wake: None,
        }
    }

    fn enter(&mut self, model: usize, state: State, now: Moment) {
        self.lines[model].state = state;
        self.lines[model].since = now;
    }

    fn step(&mut self, now: Moment, server: &mut Server) {
        self.wake = None;
        for model in 0..self.lines.len() {
            self.admit(model, server);
            let line = &self.lines[model];
            if line.state == State::Leaving && line.inside == 0 {
                self.enter(model, State::Unloading, now);
                server.unload(model);
            }
        }
        let changing = |line: &Line| matches!(line.state, State::Loading | State::Leaving | State::Unloading);
        if self.lines.iter().any(changing) {
            return;
        }
        if let Some(model) = self.coming.take().or_else(|| self.next(now)) {
            self.enter(model, State::Loading, now);
            server.load(model);
        } else if self.lines.iter().any(|line| line.state == State::Leaving) {
            self.step(now, server);
        }
    }

    fn admit(&mut self, model: usize, server: &mut Server) {
        let line = &mut self.lines[model];
        while line.state == State::Resident && line.inside < self.host.slots {
            let Some(asked) = line.queue.pop_front() else { return };
            line.inside += 1;
            server.start(gateway_call(asked));
        }
    }

    /// The model to load now. When somebody has to go for it, they are told and it comes later.
    fn next(&mut self, now: Moment) -> Option<usize> {
        let waiting = self.lines.iter().enumerate().filter(|(_, line)| line.state == State::Absent);
        let first = waiting.filter_map(|(model, line)| Some((line.queue.front()?.id, model))).min()?.1;
        let mut staying: Vec<usize> =
            (0..self.lines.len()).filter(|model| self.lines[*model].state == State::Resident).collect();
        if self.fits(first, &staying) {
            return Some(first);
        }
        // dry ones first, the longest unused before others; then those whose quantum is over, the oldest first
        staying.sort_by_key(|model| {
            let line = &self.lines[*model];
            (!self.is_dry(*model), if self.is_dry(*model) { line.last_work } else { line.since })
        });
        let mut victims = Vec::new();
        while !self.fits(first, &staying) {
            let victim = staying.remove(0);
            let over = self.lines[victim].since.after(Duration::from_secs_f64(QUANTUM * self.models[victim].load));
            if !self.is_dry(victim) && over > now {
                let soonest = staying.iter().chain([&victim]).map(|model| {
                    self.lines[*model].since.after(Duration::from_secs_f64(QUANTUM * self.models[*model].load))
                });
                self.wake = soonest.filter(|at| *at > now).min();
                return None;
            }
            victims.push(victim);
        }
        for victim in victims {
            self.enter(victim, State::Leaving, now);
        }
        self.coming = Some(first);
        None
    }

    fn is_dry(&self, model: usize) -> bool {
        self.lines[model].inside == 0 && self.lines[model].queue.is_empty()
    }

    fn fits(&self, model: usize, staying: &[usize]) -> bool {
        let used: u64 = staying.iter().map(|other| self.models[*other].bytes).sum();
        let bytes = self.models[model].bytes;
        let room = self.host.memory.is_none_or(|memory| bytes <= memory.saturating_sub(used) / 5 * 4);
        staying.is_empty() || (staying.len() < self.host.max_loaded as usize && room)
    }

    fn over(&mut self, now: Moment, id: u64) {
        if let Some(model) = self.model_of.remove(&id) {
            self.lines[model].inside -= 1;
            self.lines[model].last_work = now;
        }
    }
}

impl Desk for Quantum {
    fn open(&mut self, now: Moment, server: &mut Server) {
        for model in server.residents() {
            self.enter(model, State::Resident, now);
        }
    }

    fn arrive(&mut self, now: Moment, asked: Asked, server: &mut Server) -> Answer {
        self.model_of.insert(asked.id, asked.demand.model);
        self.lines[asked.demand.model].queue.push_back(asked);
        self.step(now, server);
        Answer::Taken(None)
    }

    fn leave(&mut self, now: Moment, id: u64, server: &mut Server) -> f64 {
        let Some(model) = self.model_of.get(&id).copied() else { return 0.0 };
        let before = self.lines[model].queue.len();
        self.lines[model].queue.retain(|asked| asked.id != id);
        if self.lines[model].queue.len() < before {
            self.model_of.remove(&id);
            return 0.0;
        }
        let service = server.cancel(id);
        self.over(now, id);
        self.step(now, server);
        service
    }

    fn event(&mut self, now: Moment, event: Event, server: &mut Server) {
        match event {
            Event::Done(id, _) | Event::Busy(id) => self.over(now, id),
            Event::Loaded(model) => {
                self.enter(model, State::Resident, now);
                self.lines[model].last_work = now;
            }
            Event::Gone(model) => self.enter(model, State::Absent, now),
            _ => return,
        }
        self.step(now, server);
    }

    fn tick(&mut self, now: Moment, server: &mut Server) {
        self.step(now, server);
    }

    fn next_due(&self) -> Option<Moment> {
        self.wake
    }
}

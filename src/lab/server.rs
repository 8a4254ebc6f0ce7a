//! An Ollama in virtual time: its scheduler (the stand-in's own), and a GPU that running requests share.
//!
//! Owns who runs how fast, loads, unloads and the figures a reply would carry. With n requests running each goes at
//! `speed(n) ÷ n` of its speed alone. It does not know applications' weights, clients, or who stands before it.
//! Approximate in one thing: where the server makes room by itself, the unload's time is added to the load at the
//! moment it is asked for, so a request asked for while nothing was loaded yet does not pay it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::Moment;
use crate::sim::{BareAsk, BareLimits, BareServer, BareStep};

use super::dice::Dice;
use super::film::Film;
use super::workload::{Demand, Host, ModelSpec, Workload};

/// Between two looks at `/api/ps` while a gateway unloads something.
const LOOK: Duration = Duration::from_millis(50);
/// Seconds of work too small to matter.
const NOTHING: f64 = 1e-9;
/// Numbers of the loads and unloads that gateways ask for: above all requests'.
const OWN: u64 = 1 << 62;

/// A request as it is sent to the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) demand: Demand,
    /// `None` leaves the runner's.
    pub(crate) keep_alive: Option<Duration>,
    /// Output tokens after which nobody reads any more, as a share of all.
    pub(crate) stalls: Option<f64>,
}

/// What a reply says of itself, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figures {
    /// Wait for the runner: queue, eviction and load.
    pub(crate) load: f64,
    pub(crate) prompt: f64,
    pub(crate) output: f64,
    pub(crate) total: f64,
    /// GPU seconds: running time ÷ requests running, integrated.
    pub(crate) service: f64,
}

impl Figures {
    /// The wait for a slot, as it can be told from the other figures.
    pub(crate) fn slot_wait(&self) -> f64 {
        (self.total - self.load - self.prompt - self.output).max(0.0)
    }
}

/// Something happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Event {
    /// The request runs.
    Started(u64),
    /// Its prompt is read.
    First(u64),
    /// It is answered.
    Done(u64, Figures),
    /// Refused: the queue for loads is full.
    Busy(u64),
    /// A load that was asked for is done.
    Loaded(usize),
    /// An unload that was asked for is seen to be done.
    Gone(usize),
    /// Other models are resident than before.
    Changed,
}

/// A request inside.
#[derive(Debug)]
struct Live {
    asked: Moment,
    ready: Option<Moment>,
    slot: Option<Moment>,
    first: Option<Moment>,
    prompt_left: f64,
    output_left: f64,
    /// What is left of the output when its reader's buffers are full.
    stalls_at: Option<f64>,
    service: f64,
    /// Its client is gone and it runs on.
    orphan: bool,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Server {
    machine: BareServer,
    host: Host,
    models: Vec<ModelSpec>,
    now: Moment,
    calls: BTreeMap<u64, Live>,
    running: Vec<u64>,
    /// Unloads asked for, and when they will be seen done.
    leaving: Vec<(usize, Moment, Option<Moment>)>,
    /// Loads asked for by a gateway.
    own: BTreeMap<u64, usize>,
    next_own: u64,
    events: Vec<Event>,
    dice: Dice,
    jitter: f64,
    /// What was resident when.
    pub(crate) film: Film,
}

impl Server {
    /// A server with the workload's warm models in memory at `now`.
    ///
    /// # Errors
    /// When a model's name is not one.
    pub(crate) fn new(workload: &Workload, now: Moment) -> Result<Self, String> {
        let host = workload.host.clone();
        let limits = BareLimits {
            slots: host.slots as usize,
            max_loaded: host.max_loaded as usize,
            max_queue: 512,
            memory: host.memory,
            keep_alive: Duration::from_secs(300),
        };
        let names: Vec<String> = workload.models.iter().map(|model| model.name.clone()).collect();
        let mut server = Self {
            machine: BareServer::new(limits, &names)?,
            host,
            models: workload.models.clone(),
            now,
            calls: BTreeMap::new(),
            running: Vec::new(),
            leaving: Vec::new(),
            own: BTreeMap::new(),
            next_own: OWN,
            events: Vec::new(),
            dice: Dice::new(workload.seed, 1),
            jitter: workload.jitter,
            film: Film::new(workload.models.len()),
        };
        for model in &workload.warm {
            server.bring(*model, Duration::ZERO, None);
        }
        server.film.forget_loads();
        server.events.clear();
        Ok(server)
    }

    /// A request arrives at the server.
    pub(crate) fn start(&mut self, call: Call) {
        let load = self.load_time(call.demand.model);
        let spec = &self.models[call.demand.model];
        let effort = call.demand.effort;
        let output = effort * f64::from(call.demand.output) / spec.output_rate;
        let live = Live {
            asked: self.now,
            ready: None,
            slot: None,
            first: None,
            prompt_left: effort * f64::from(call.demand.prompt) / spec.prompt_rate,
            output_left: output,
            stalls_at: call.stalls.map(|share| output * (1.0 - share)),
            service: 0.0,
            orphan: false,
        };
        let ask = BareAsk {
            id: call.id,
            model: call.demand.model,
            num_ctx: call.demand.num_ctx,
            keep_alive: call.keep_alive,
            load,
            memory: spec.bytes,
        };
        self.calls.insert(call.id, live);
        let steps = self.machine.ask(self.now, ask);
        self.follow(steps);
    }

    /// The client of a request is gone; what it held is free. Returns the GPU seconds it had.
    pub(crate) fn cancel(&mut self, id: u64) -> f64 {
        let Some(live) = self.calls.remove(&id) else { return 0.0 };
        self.running.retain(|running| *running != id);
        let steps = self.machine.end(self.now, id);
        self.follow(steps);
        live.service
    }

    /// The client of a request that had stopped reading is gone, and the server does not notice: it runs to its end.
    pub(crate) fn abandon(&mut self, id: u64) -> f64 {
        let Some(live) = self.calls.get_mut(&id) else { return 0.0 };
        live.orphan = true;
        live.stalls_at = None;
        if live.slot.is_none() {
            return self.cancel(id);
        }
        if !self.running.contains(&id) {
            self.running.push(id);
        }
        live.service
    }

    /// A gateway asks for a model without work for it.
    pub(crate) fn load(&mut self, model: usize) {
        let time = self.load_time(model);
        self.bring(model, time, Some(Duration::from_secs(86_400)));
    }

    fn bring(&mut self, model: usize, load: Duration, keep_alive: Option<Duration>) {
        self.next_own += 1;
        let id = self.next_own;
        self.own.insert(id, model);
        let memory = self.models[model].bytes;
        let ask = BareAsk { id, model, num_ctx: 4096, keep_alive, load, memory };
        let steps = self.machine.ask(self.now, ask);
        self.follow(steps);
    }

    /// A gateway asks for a model to go as soon as it is idle, and looks until it is gone.
    pub(crate) fn unload(&mut self, model: usize) {
        self.leaving.push((model, self.now, None));
        self.film.leaves(model);
        let steps = self.machine.expire(self.now, model);
        self.follow(steps);
        self.look_for_gone();
    }

    /// The models in memory (`/api/ps`).
    pub(crate) fn residents(&self) -> Vec<usize> {
        self.machine.residents()
    }

    /// Loads begun so far.
    pub(crate) fn loads(&self) -> u64 {
        (0..self.models.len()).map(|model| self.machine.loads(model)).sum()
    }

    /// Bytes a model takes.
    pub(crate) fn bytes(&self, model: usize) -> u64 {
        self.models[model].bytes
    }

    /// What happened since the last call.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// When something happens next by itself.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        let pace = self.pace();
        let ends = self.running.iter().filter_map(|id| self.calls.get(id)).map(|live| {
            let nanos = (left(live) / pace * 1e9).ceil().max(0.0);
            self.now.after(Duration::from_nanos(nanos as u64))
        });
        let gone = self.leaving.iter().filter_map(|(_, _, at)| *at);
        ends.chain(gone).chain(self.machine.next_due()).min()
    }

    /// Lets time pass up to `to`, doing what falls due.
    pub(crate) fn advance(&mut self, to: Moment) {
        loop {
            let due = self.next_due().filter(|due| *due <= to);
            self.pass(due.unwrap_or(to));
            if due.is_none() {
                return;
            }
            let steps = self.machine.tick(self.now);
            self.follow(steps);
            self.finish();
            self.look_for_gone();
        }
    }

    /// Speed of each running request.
    fn pace(&self) -> f64 {
        let running = self.running.len();
        self.host.speed(running) / running.max(1) as f64
    }

    fn pass(&mut self, to: Moment) {
        let seconds = to.since(self.now).as_secs_f64();
        self.now = self.now.max(to);
        let (done, share) = (seconds * self.pace(), seconds / self.running.len().max(1) as f64);
        for id in &self.running {
            let Some(live) = self.calls.get_mut(id) else { continue };
            live.service += share;
            let part = if live.first.is_none() { &mut live.prompt_left } else { &mut live.output_left };
            *part -= done;
        }
    }

    /// Ends the parts of requests that are done now.
    fn finish(&mut self) {
        for id in self.running.clone() {
            let Some(live) = self.calls.get_mut(&id).filter(|live| left(live) <= NOTHING) else { continue };
            if live.first.is_none() {
                live.first = Some(self.now);
                if !live.orphan {
                    self.events.push(Event::First(id));
                }
            } else if live.stalls_at.is_some() {
                self.running.retain(|running| *running != id);
            } else {
                self.end(id);
            }
        }
    }

    fn end(&mut self, id: u64) {
        self.running.retain(|running| *running != id);
        let Some(live) = self.calls.remove(&id) else { return };
        let seconds = |from: Option<Moment>, to: Option<Moment>| match (from, to) {
            (Some(from), Some(to)) => to.since(from).as_secs_f64(),
            _ => 0.0,
        };
        let figures = Figures {
            load: seconds(Some(live.asked), live.ready),
            prompt: seconds(live.slot, live.first),
            output: seconds(live.first, Some(self.now)),
            total: seconds(Some(live.asked), Some(self.now)),
            service: live.service,
        };
        if !live.orphan {
            self.events.push(Event::Done(id, figures));
        }
        let steps = self.machine.end(self.now, id);
        self.follow(steps);
    }

    /// Does what the scheduler said, then notes who is resident.
    fn follow(&mut self, steps: Vec<BareStep>) {
        let mut steps: std::collections::VecDeque<_> = steps.into();
        while let Some(step) = steps.pop_front() {
            match step {
                BareStep::Busy(id) => {
                    self.calls.remove(&id);
                    self.events.push(Event::Busy(id));
                }
                BareStep::Ready(id) => {
                    if let Some(model) = self.own.remove(&id) {
                        self.events.push(Event::Loaded(model));
                        self.note();
                        steps.extend(self.machine.end(self.now, id));
                    } else {
                        if let Some(live) = self.calls.get_mut(&id) {
                            live.ready = Some(self.now);
                        }
                        steps.extend(self.machine.acquire(self.now, id));
                    }
                }
                BareStep::Slot(id) => {
                    if let Some(live) = self.calls.get_mut(&id) {
                        live.slot = Some(self.now);
                        self.running.push(id);
                        self.events.push(Event::Started(id));
                    }
                }
            }
        }
        self.note();
    }

    fn note(&mut self) {
        let loads: Vec<u64> = (0..self.models.len()).map(|model| self.machine.loads(model)).collect();
        if self.film.note(self.now, &self.machine.residents(), &loads) {
            self.events.push(Event::Changed);
        }
    }

    /// Unloads that are over: the runner is out of the scheduler, its memory is back, and a look has seen it.
    fn look_for_gone(&mut self) {
        let residents = self.machine.residents();
        let now = self.now;
        for (model, asked, at) in &mut self.leaving {
            if at.is_none() && !residents.contains(model) {
                let back = now.after(Duration::from_secs_f64(self.models[*model].unload));
                let looks = back.since(*asked).as_nanos().div_ceil(LOOK.as_nanos()).max(1);
                *at = Some(asked.after(LOOK * u32::try_from(looks).unwrap_or(u32::MAX)));
            }
        }
        let over: Vec<usize> =
            self.leaving.iter().filter(|(_, _, at)| at.is_some_and(|at| at <= now)).map(|(model, ..)| *model).collect();
        self.leaving.retain(|(_, _, at)| at.is_none_or(|at| at > now));
        for model in over {
            self.film.gone(now, model);
            self.events.push(Event::Gone(model));
        }
    }

    /// How long a load asked for now takes, making room included.
    fn load_time(&mut self, model: usize) -> Duration {
        let residents = self.machine.residents();
        let spec = &self.models[model];
        let used: u64 = residents.iter().map(|other| self.models[*other].bytes).sum();
        let fits = self.host.memory.is_none_or(|memory| spec.bytes <= memory.saturating_sub(used) / 5 * 4);
        let crowded = !residents.is_empty() && (residents.len() >= self.host.max_loaded as usize || !fits);
        let resident = residents.contains(&model);
        let room = if crowded && !resident { spec.unload } else { 0.0 };
        // drawn only for loads that will happen, so that modes differ in nothing else
        let load = if resident { spec.load } else { spec.load * self.dice.around(self.jitter) };
        Duration::from_secs_f64(load + room)
    }
}

/// Seconds of work, alone, until something happens to a running request.
fn left(live: &Live) -> f64 {
    if live.first.is_none() { live.prompt_left } else { live.output_left - live.stalls_at.unwrap_or(0.0) }
}

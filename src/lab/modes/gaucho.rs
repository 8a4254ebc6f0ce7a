//! The scheduler of this program at work: the real `scheduler::core`, driven as its shell, the poller and the stagehand
//! drive it, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{AppName, EndpointId, LoadOrder, Moment, RequestId, ResidencyCommand};
use crate::lab::server::{Event, Server};
use crate::lab::workload::{AppSpec, ModelSpec, Workload};
use crate::scheduler::core::{
    Bounds, Core, Decision, GpuSet, Input, Lesson, Observed, Room, Seat, Sighting, Ticket, TicketId, Work, WorkKind,
};

use super::{Answer, Asked, Desk, gateway_call};

const GPU: EndpointId = EndpointId(0);
/// The poller's pace, and how soon it looks after a change.
const PACE: Duration = Duration::from_secs(5);
const HURRY: Duration = Duration::from_millis(20);
/// Longer than any workload: here nobody is refused for waiting.
const ENDLESS: Duration = Duration::from_secs(100_000_000);

pub(super) struct Gaucho {
    core: Core,
    apps: Vec<(AppName, AppSpec)>,
    seats: Vec<Seat>,
    weights: Vec<Box<str>>,
    asked: BTreeMap<u64, Asked>,
    inside: std::collections::BTreeSet<u64>,
    refused: Vec<u64>,
    look: Moment,
    ticked: Moment,
}

impl Gaucho {
    pub(super) fn new(workload: &Workload, lessons: Vec<Lesson>, foretells: bool) -> Result<Self, String> {
        let bounds = Bounds { queued: usize::MAX, queued_bytes: usize::MAX };
        let room = Room { bytes: workload.host.memory, models: workload.host.max_loaded, gpus: GpuSet::default() };
        let apps = workload.apps.iter().map(|app| Ok((AppName::parse(&app.name)?, app.clone())));
        let mut core = Core::new(bounds, &[room]);
        core.teach(lessons);
        if !foretells {
            core.foresee(0);
        }
        Ok(Self {
            core,
            apps: apps.collect::<Result<_, String>>()?,
            seats: workload.models.iter().map(|model| seat(model, workload.host.slots)).collect(),
            weights: workload.models.iter().map(|model| model.name.clone().into()).collect(),
            asked: BTreeMap::new(),
            inside: std::collections::BTreeSet::new(),
            refused: Vec::new(),
            look: Moment::ZERO,
            ticked: Moment::ZERO,
        })
    }

    fn ticket(&self, now: Moment, asked: &Asked) -> Ticket {
        let demand = &asked.demand;
        let (name, app) = &self.apps[demand.app];
        let prompt_bytes = demand.prompt as usize * 4;
        Ticket {
            id: TicketId(asked.id),
            label: RequestId(asked.id),
            again: None,
            app: name.clone(),
            class: app.class,
            weight: app.weight,
            max_concurrent: None,
            max_queued: u32::MAX,
            deadline: now.after(ENDLESS),
            bytes: prompt_bytes,
            streams: true,
            work: Work {
                kind: WorkKind::Generate,
                prompt_bytes,
                output_cap: demand.capped.then_some(u64::from(demand.output)),
            },
            weights: self.weights[demand.model].clone(),
            seats: vec![self.seats[demand.model].clone()],
        }
    }

    fn step(&mut self, now: Moment, input: Input, server: &mut Server) {
        let mut out = Vec::new();
        self.core.step(now, input, &mut out);
        for decision in out {
            match decision {
                Decision::Admit { id: TicketId(id), .. } => {
                    if let Some(asked) = self.asked.get(&id) {
                        self.inside.insert(id);
                        server.start(gateway_call(*asked));
                    }
                }
                Decision::Refuse { id: TicketId(id), .. } => {
                    self.asked.remove(&id);
                    self.refused.push(id);
                }
                Decision::Residency(ResidencyCommand::Load { weights, .. }) => {
                    if let Some(model) = self.model(&weights) {
                        server.load(model);
                    }
                }
                // this server never hangs: whoever asks for a token gets one
                Decision::Residency(ResidencyCommand::Probe { weights, .. }) => {
                    self.step(now, Input::Probed { endpoint: GPU, weights, alive: true }, server);
                }
                Decision::Recall { .. } | Decision::Notice(_) => {}
                Decision::Residency(ResidencyCommand::Unload { weights, .. }) => {
                    if let Some(model) = self.model(&weights) {
                        server.unload(model);
                    }
                }
            }
        }
    }

    fn model(&self, weights: &str) -> Option<usize> {
        self.weights.iter().position(|own| **own == *weights)
    }

    /// What the poller sees in `/api/ps` now.
    fn look(&mut self, now: Moment, server: &mut Server) {
        self.look = now.after(PACE);
        let sighting = |model: usize| Sighting {
            weights: self.weights[model].clone(),
            bytes: server.bytes(model),
            slots: self.seats[model].slots,
            order: self.seats[model].order.clone(),
        };
        let residents = server.residents().into_iter().map(sighting).collect();
        self.step(now, Input::Seen { endpoint: GPU, asked: now, residents }, server);
    }

    fn finish(&mut self, now: Moment, id: u64, observed: Observed, server: &mut Server) {
        self.asked.remove(&id);
        if self.inside.remove(&id) {
            self.step(now, Input::Finish { id: TicketId(id), observed }, server);
        }
    }
}

/// As the catalog makes it from what a server says of a model.
fn seat(model: &ModelSpec, slots: u32) -> Seat {
    let order = LoadOrder { model: model.name.clone(), options: Vec::new(), keep_alive: PACE, embeds: false };
    Seat {
        endpoint: GPU,
        slots,
        need: model.bytes,
        guess: model.bytes as f64 / 1e9 + 1.0,
        keep_alive: Duration::from_secs(300),
        order: Arc::new(order),
    }
}

impl Desk for Gaucho {
    fn open(&mut self, now: Moment, server: &mut Server) {
        self.look(now, server);
    }

    fn arrive(&mut self, now: Moment, asked: Asked, server: &mut Server) -> Answer {
        let ticket = self.ticket(now, &asked);
        self.asked.insert(asked.id, asked);
        self.step(now, Input::Submit(Box::new(ticket)), server);
        if self.refused.pop().is_some() {
            return Answer::Refused;
        }
        // who starts at once was promised no wait
        let waits = || self.core.told(TicketId(asked.id)).map(|estimate| estimate.wait.as_secs_f64());
        Answer::Taken(if self.inside.contains(&asked.id) { Some(0.0) } else { waits() })
    }

    fn leave(&mut self, now: Moment, id: u64, server: &mut Server) -> f64 {
        if self.inside.contains(&id) {
            let service = server.cancel(id);
            self.finish(now, id, Observed::default(), server);
            return service;
        }
        if self.asked.remove(&id).is_some() {
            self.step(now, Input::Withdraw(TicketId(id)), server);
        }
        0.0
    }

    fn event(&mut self, now: Moment, event: Event, server: &mut Server) {
        match event {
            Event::Done(id, figures) => {
                let demand = self.asked.get(&id).map(|asked| asked.demand);
                let observed = demand.map(|demand| Observed {
                    prompt_tokens: u64::from(demand.prompt),
                    prompt_seconds: figures.prompt,
                    output_tokens: u64::from(demand.output),
                    output_seconds: figures.output,
                    slot_wait: figures.slot_wait(),
                    complete: true,
                });
                self.finish(now, id, observed.unwrap_or_default(), server);
            }
            Event::Busy(id) => self.finish(now, id, Observed::default(), server),
            Event::Loaded(model) => {
                let weights = self.weights[model].clone();
                self.step(now, Input::Loaded { endpoint: GPU, weights, result: Ok(()) }, server);
                self.look = self.look.min(now.after(HURRY));
            }
            Event::Gone(model) => {
                let weights = self.weights[model].clone();
                self.step(now, Input::Unloaded { endpoint: GPU, weights, gone: true }, server);
            }
            Event::Changed => self.look = self.look.min(now.after(HURRY)),
            Event::First(id) => self.step(now, Input::Began(TicketId(id)), server),
            Event::Started(_) => {}
        }
    }

    fn tick(&mut self, now: Moment, server: &mut Server) {
        if self.look <= now {
            self.look(now, server);
        }
        if self.core.next_tick().is_some_and(|at| at <= now) && self.ticked < now {
            self.ticked = now;
            self.step(now, Input::Tick, server);
        }
    }

    fn lessons(&self) -> Vec<Lesson> {
        self.core.lessons()
    }

    fn next_due(&self) -> Option<Moment> {
        // as the shell's timer has it: not twice within a millisecond
        let tick = self.core.next_tick().map(|at| at.max(self.ticked.after(Duration::from_millis(1))));
        tick.into_iter().chain([self.look]).min()
    }
}

//! A plain queue in front: strictly in order of arrival over all models, at most a runner's slots inside at once.
//! Loads and evictions are left to Ollama.

use std::collections::{BTreeSet, VecDeque};

use crate::domain::Moment;
use crate::lab::server::{Event, Server};
use crate::lab::workload::Workload;

use super::{Answer, Asked, Desk, gateway_call};

pub(super) struct Fifo {
    slots: usize,
    queue: VecDeque<Asked>,
    inside: BTreeSet<u64>,
}

impl Fifo {
    pub(super) fn new(workload: &Workload) -> Self {
        Self { slots: workload.host.slots as usize, queue: VecDeque::new(), inside: BTreeSet::new() }
    }

    fn admit(&mut self, server: &mut Server) {
        while self.inside.len() < self.slots {
            let Some(next) = self.queue.pop_front() else { return };
            self.inside.insert(next.id);
            server.start(gateway_call(next));
        }
    }
}

impl Desk for Fifo {
    fn arrive(&mut self, _now: Moment, asked: Asked, server: &mut Server) -> Answer {
        self.queue.push_back(asked);
        self.admit(server);
        Answer::Taken(None)
    }

    fn leave(&mut self, _now: Moment, id: u64, server: &mut Server) -> f64 {
        self.queue.retain(|asked| asked.id != id);
        let service = if self.inside.remove(&id) { server.cancel(id) } else { 0.0 };
        self.admit(server);
        service
    }

    fn event(&mut self, _now: Moment, event: Event, server: &mut Server) {
        if let Event::Done(id, _) | Event::Busy(id) = event {
            self.inside.remove(&id);
            self.admit(server);
        }
    }
}

//! The stand-in's scheduler without HTTP, text and real time, for a driver with a clock of its own (`lab`).
//!
//! Owns the translation between the core's words (tags, blobs, options) and models by number. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Action, Ask, Core, Limits};
use super::model::Model;
use super::options::RunnerOptions;
use crate::domain::Moment;

/// What the server is started with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BareLimits {
    /// `OLLAMA_NUM_PARALLEL`: slots per runner.
    pub(crate) slots: usize,
    /// `OLLAMA_MAX_LOADED_MODELS`.
    pub(crate) max_loaded: usize,
    /// `OLLAMA_MAX_QUEUE`.
    pub(crate) max_queue: usize,
    /// Bytes for runners; `None` for plenty.
    pub(crate) memory: Option<u64>,
    /// `OLLAMA_KEEP_ALIVE`.
    pub(crate) keep_alive: Duration,
}

/// A request for a runner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BareAsk {
    /// Its number; the driver gives each its own.
    pub(crate) id: u64,
    /// Which model, by its place in the list given at the start.
    pub(crate) model: usize,
    /// Context in tokens; another one than the runner's reloads it.
    pub(crate) num_ctx: u64,
    /// Replaces the runner's own; `None` leaves it.
    pub(crate) keep_alive: Option<Duration>,
    /// How long a load takes, if it needs one.
    pub(crate) load: Duration,
    /// Bytes the runner needs.
    pub(crate) memory: u64,
}

/// What happened to a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum BareStep {
    /// It has its runner.
    Ready(u64),
    /// The queue for loads is full (503).
    Busy(u64),
    /// It has its slot.
    Slot(u64),
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct BareServer {
    core: Core,
    models: Vec<Arc<Model>>,
    slots: usize,
}

impl BareServer {
    /// A server with nothing loaded.
    ///
    /// # Errors
    /// When a name is not one that Ollama accepts.
    pub(crate) fn new(limits: BareLimits, names: &[String]) -> Result<Self, String> {
        let models = names.iter().map(|name| Model::named(name).map(Arc::new)).collect::<Result<_, _>>()?;
        let core = Core::new(Limits {
            max_loaded: limits.max_loaded,
            max_queue: limits.max_queue,
            memory: limits.memory,
            keep_alive: limits.keep_alive,
        });
        Ok(Self { core, models, slots: limits.slots })
    }

    fn key(&self, model: usize) -> Arc<str> {
        self.models.get(model).map_or_else(|| Arc::from(""), |tag| Arc::from(tag.blob()))
    }

    /// A request wants a runner.
    pub(crate) fn ask(&mut self, now: Moment, ask: BareAsk) -> Vec<BareStep> {
        let Some(tag) = self.models.get(ask.model).cloned() else { return Vec::new() };
        let options = RunnerOptions {
            num_ctx: ask.num_ctx,
            num_batch: 0,
            num_gpu: -1,
            main_gpu: None,
            use_mmap: None,
            num_thread: 0,
            shift: true,
        };
        let asked = Ask {
            id: ask.id,
            weights: self.key(ask.model),
            tag,
            options,
            keep_alive: ask.keep_alive,
            load: ask.load,
            memory: ask.memory,
            slots: self.slots,
        };
        steps(self.core.ask(now, asked))
    }

    /// A request that has its runner wants its slot.
    pub(crate) fn acquire(&mut self, now: Moment, id: u64) -> Vec<BareStep> {
        steps(self.core.acquire(now, (id, 0)))
    }

    /// A request is over: answered, or its client left.
    pub(crate) fn end(&mut self, now: Moment, id: u64) -> Vec<BareStep> {
        steps(self.core.end(now, id))
    }

    /// `keep_alive: 0` without a prompt.
    pub(crate) fn expire(&mut self, now: Moment, model: usize) -> Vec<BareStep> {
        let key = self.key(model);
        steps(self.core.expire(now, &key))
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Moment) -> Vec<BareStep> {
        steps(self.core.tick(now))
    }

    /// When something falls due by itself.
    pub(crate) fn next_due(&self) -> Option<Moment> {
        self.core.next_due()
    }

    /// The models in memory, in the order of the list.
    pub(crate) fn residents(&self) -> Vec<usize> {
        let loaded = self.core.residents();
        let at = |tag: &Arc<Model>| loaded.iter().any(|resident| resident.tag.name == tag.name);
        self.models.iter().enumerate().filter(|(_, tag)| at(tag)).map(|(model, _)| model).collect()
    }

    /// Loads begun so far, those that died with their client included.
    pub(crate) fn loads(&self, model: usize) -> u64 {
        self.core.counts().get(&self.key(model)).map_or(0, |counts| counts.loads)
    }
}

fn steps(actions: Vec<Action>) -> Vec<BareStep> {
    let step = |action| match action {
        Action::Ready { id, .. } => BareStep::Ready(id),
        // a load fails only where a test makes it, which nobody does here
        Action::Busy { id } | Action::Failed { id, .. } => BareStep::Busy(id),
        Action::Slot((id, _)) => BareStep::Slot(id),
    };
    actions.into_iter().map(step).collect()
}

//! Carries out the scheduler's loads and unloads.
//!
//! A load is a request of our own: no caller's departure can kill it (defects B4, B5, B9). An unload counts only once
//! the runner is seen gone from `/api/ps`.

use std::borrow::Cow;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::{Clock, EndpointId, LONG_LOAD, LoadOrder, ResidencyCommand};
use crate::scheduler::Scheduler;
use crate::scheduler::core::LoadError;
use crate::telemetry::RequestMetrics;
use crate::wire;

use super::client::Client;
use super::discovery::Discovery;

/// Between two looks at `/api/ps` while something is being unloaded.
const LOOK: Duration = Duration::from_millis(50);
/// Silences in which an unload must be seen; a runner that is still there then counts as resident again.
const GONE_WITHIN: u32 = 3;

/// Whoever loads and unloads.
#[derive(Clone)]
pub struct Stagehand {
    client: Client,
    discovery: Discovery,
    scheduler: Scheduler,
    metrics: RequestMetrics,
    clock: Clock,
}

impl Stagehand {
    /// Works for `scheduler`, counts into `metrics`.
    #[must_use]
    pub fn new(
        client: Client,
        discovery: Discovery,
        scheduler: Scheduler,
        metrics: RequestMetrics,
        clock: Clock,
    ) -> Self {
        Self { client, discovery, scheduler, metrics, clock }
    }

    /// Takes commands until `stop`; each runs in a task of its own, because endpoints do not wait for each other.
    pub async fn run(
        self,
        mut commands: mpsc::Receiver<ResidencyCommand>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        while let Some(Some(command)) = stop.run_until_cancelled(commands.recv()).await {
            let (hand, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move { stop.run_until_cancelled(hand.carry_out(command)).await });
        }
    }

    async fn carry_out(&self, command: ResidencyCommand) {
        match command {
            ResidencyCommand::Load { endpoint, weights, order, within } => {
                let _changing = self.discovery.changing(endpoint);
                let (name, begun) = (self.name(endpoint), self.clock.now());
                tracing::info!(model = %order.model, endpoint = name, "loading");
                self.discovery.ordered(endpoint, &weights, true);
                let load = self.load(endpoint, &order, within);
                let result = self.patiently(load, within, (name, &order.model)).await;
                let took = self.clock.now().since(begun);
                self.metrics.load(name, &order.model, result.is_ok(), took);
                if result.is_ok() {
                    tracing::info!(model = %order.model, endpoint = name, seconds = took.as_secs_f64(), "loaded");
                }
                if let Err(LoadError { reason: why, .. }) = &result {
                    tracing::warn!(model = %order.model, endpoint = name, %why, "the load failed");
                    // the model or the whole server may be gone: whoever asks for it now is to learn so from the view
                    self.discovery.list(endpoint).await;
                }
                self.scheduler.loaded(endpoint, weights, result);
            }
            ResidencyCommand::Probe { endpoint, weights, order, within } => {
                let alive = self.probe(endpoint, &order, within).await;
                self.scheduler.probed(endpoint, weights, alive);
            }
            ResidencyCommand::Unload { endpoint, weights, order, why } => {
                let _changing = self.discovery.changing(endpoint);
                let name = self.name(endpoint);
                tracing::info!(model = %order.model, endpoint = name, why = why.as_str(), "unloading");
                self.discovery.list(endpoint).await;
                let result = match self.named(endpoint, &weights, &order) {
                    Some(named) if self.unload(endpoint, &weights, &named).await => Ok(()),
                    Some(_) => Err("it is still there"),
                    None => Err("no tag names it any more: it stays until Ollama's own keep-alive for it is over"),
                };
                let gone = result.is_ok();
                self.metrics.unload(name, &order.model, why, gone);
                self.discovery.ordered(endpoint, &weights, !gone);
                if let Err(why) = result {
                    tracing::warn!(model = %order.model, endpoint = name, why, "the unload did not happen");
                }
                self.scheduler.unloaded(endpoint, weights, gone);
            }
        }
    }

    /// The endpoint's name, for people.
    fn name(&self, id: EndpointId) -> &str {
        self.client.endpoint(id).map_or("", |endpoint| &endpoint.name)
    }

    async fn load(&self, endpoint: EndpointId, order: &LoadOrder, within: Duration) -> Result<(), LoadError> {
        let endpoint = self.client.endpoint(endpoint).map_err(|fault| fault.message)?;
        let body = wire::encode_load(&order.model, &order.options, order.keep_alive);
        let within = within.min(self.client.timeouts.first_event);
        let mut answer = self.client.ask_within(endpoint, route(order), body.clone(), within).await?;
        if answer.0 == 400 && !order.embeds {
            // a model may make vectors only although its tag is listed as one that writes
            let second = self.client.ask_within(endpoint, EMBED, body, within).await?;
            answer = if second.0 == 200 { second } else { answer };
        }
        match answer {
            (200, _) => Ok(()),
            (status, body) => {
                Err(LoadError { reason: wire::upstream_fault(status, &body).message, gone: status == 404 })
            }
        }
    }

    /// A load's result; one that takes long is told of while it does, because everything that waits for a model waits for it.
    async fn patiently(
        &self,
        load: impl Future<Output = Result<(), LoadError>>,
        within: Duration,
        (endpoint, model): (&str, &str),
    ) -> Result<(), LoadError> {
        let mut load = std::pin::pin!(load);
        let long = within.mul_f64(LONG_LOAD);
        if let Ok(result) = tokio::time::timeout(long, &mut load).await {
            return result;
        }
        tracing::warn!(%model, endpoint, seconds = long.as_secs(), given_up_after_seconds = within.as_secs(),
            "the load takes far longer than usual: room is made for it, and nothing else can be loaded there meanwhile");
        load.await
    }

    /// One real token: what answers `/api/ps` may still hang (`ollama-facts` 2.7).
    async fn probe(&self, id: EndpointId, order: &LoadOrder, within: Duration) -> bool {
        let Ok(endpoint) = self.client.endpoint(id) else { return false };
        let body = wire::encode_probe(&order.model, &order.options, order.keep_alive, order.embeds);
        // a refusal is an answer too: the runner is alive
        matches!(self.client.ask_within(endpoint, route(order), body, within).await, Ok((200 | 400, _)))
    }

    /// The order by a tag that names these weights now: Ollama unloads whatever the tag it is told stands for, and tags move
    /// (`ollama-facts` 4). `None` where no tag does.
    fn named<'a>(&self, id: EndpointId, weights: &str, order: &'a LoadOrder) -> Option<Cow<'a, LoadOrder>> {
        let fleet = self.discovery.watch();
        let fleet = fleet.borrow();
        let view = fleet.endpoints.get(usize::from(id.0)).filter(|view| !view.models.is_empty());
        let Some(view) = view else { return Some(Cow::Borrowed(order)) };
        let tags = || view.tags_of(weights).map(ToString::to_string);
        if tags().any(|tag| tag == order.model) {
            return Some(Cow::Borrowed(order));
        }
        tags().next().map(|model| Cow::Owned(LoadOrder { model, ..order.clone() }))
    }

    async fn unload(&self, id: EndpointId, weights: &str, order: &LoadOrder) -> bool {
        let Ok(endpoint) = self.client.endpoint(id) else { return false };
        // the same options as always: an embedder is unloaded by a request that would reload it if they differed
        let body = wire::encode_load(&order.model, &order.options, Duration::ZERO);
        let within = self.client.timeouts.silence * GONE_WITHIN;
        while !matches!(self.client.ask_within(endpoint, route(order), body.clone(), within).await, Ok((200, _))) {
            if !self.discovery.outlast(id).await {
                return false;
            }
            // it went away and is back: a restarted server has nothing in memory, one that was cut off still has
            if !self.is_loaded(id, weights).await {
                return true;
            }
        }
        let gone = async {
            while self.is_loaded(id, weights).await {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(within, gone).await.is_ok()
    }

    async fn is_loaded(&self, id: EndpointId, weights: &str) -> bool {
        self.discovery.look(id).await;
        let fleet = self.discovery.watch();
        let fleet = fleet.borrow();
        let view = fleet.endpoints.get(usize::from(id.0));
        view.is_some_and(|view| view.resident.iter().any(|resident| resident.weights == weights))
    }
}

/// The route that loads a model without work for it (`ollama-facts` 2.6).
fn route(order: &LoadOrder) -> &'static str {
    if order.embeds { EMBED } else { "/api/generate" }
}

const EMBED: &str = "/api/embed";

//! Leaves endpoints alone whose calls keep failing, and asks them back.
//!
//! Owns the ends of calls, the alarm and the probe; the judgement is `outlier`'s, the publication `discovery`'s. The probe
//! asks for version and tags and, where the runner that was called last is still in memory, for one token: an endpoint
//! whose runner hangs answers everything else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::{Clock, EndpointId, Event, Fault, LoadOrder, ModelName, Moment, Task};
use crate::telemetry::RequestMetrics;
use crate::wire;

use super::client::{Client, Endpoint};
use super::discovery::Discovery;
use super::outlier::{Outlier, Trouble};
use super::reading;

/// For the one token of a probe.
const TOKEN_WITHIN: Duration = Duration::from_secs(30);
/// A caller that leaves a stream after so long without an event may have left because of it.
const LEFT_IN_SILENCE: Duration = Duration::from_secs(30);

/// The judge of endpoints; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    discovery: Discovery,
    metrics: RequestMetrics,
    clock: Clock,
    wards: Vec<Ward>,
}

#[derive(Debug, Default)]
struct Ward {
    state: Mutex<State>,
    ejected: Notify,
}

#[derive(Debug, Default)]
struct State {
    outlier: Outlier,
    /// How the runner that was called last is asked for: a probe in any other way would reload it.
    last: Option<Arc<LoadOrder>>,
}

impl Ward {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way; its end or drop is its verdict.
#[derive(Debug)]
pub(super) struct Watched {
    health: Health,
    id: EndpointId,
    order: Arc<LoadOrder>,
    began: Moment,
    streams: bool,
    spoke: bool,
    over: bool,
}

impl Watched {
    /// Whether an event came.
    pub(super) fn has_spoken(&self) -> bool {
        self.spoke
    }

    /// An event came.
    pub(super) fn spoke(&mut self) {
        if !self.spoke {
            self.spoke = true;
            self.health.judge(self.id, |outlier, now| outlier.spoke(now));
        }
    }

    /// The call is over.
    pub(super) fn ended(mut self, result: &Result<(), Fault>) {
        self.over = true;
        match result {
            Ok(()) => self.health.judge(self.id, Outlier::succeeded),
            Err(fault) => {
                if let Some(trouble) = Trouble::of(fault) {
                    self.health.failed(self.id, self.began, trouble, &self.order);
                }
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let age = self.health.0.clock.now().since(self.began);
        if !self.over && self.streams && !self.spoke && age >= LEFT_IN_SILENCE {
            self.health.failed(self.id, self.began, Trouble::Silent, &self.order);
        }
    }
}

impl Health {
    /// Judges the endpoints of `client`, publishes through `discovery`, counts into `metrics`.
    #[must_use]
    pub fn new(client: Client, discovery: Discovery, metrics: RequestMetrics, clock: Clock) -> Self {
        for endpoint in client.endpoints.iter() {
            metrics.ejected(&endpoint.name, false);
        }
        let wards = client.endpoints.iter().map(|_| Ward::default()).collect();
        Self(Arc::new(Inner { client, discovery, metrics, clock, wards }))
    }

    /// Watches a call that begins now.
    pub(super) fn watch(&self, id: EndpointId, order: Arc<LoadOrder>, streams: bool) -> Watched {
        if let Some(ward) = self.ward(id) {
            ward.state().last = Some(Arc::clone(&order));
        }
        Watched { health: self.clone(), id, order, began: self.0.clock.now(), streams, spoke: false, over: false }
    }

    /// Probes what is ejected until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let probers = self.0.client.endpoints.iter().zip(&self.0.wards);
        let probers = probers.map(|(endpoint, ward)| self.keep_probing(endpoint, ward));
        stop.run_until_cancelled(futures_util::future::join_all(probers)).await;
    }

    fn ward(&self, id: EndpointId) -> Option<&Ward> {
        self.0.wards.get(usize::from(id.0))
    }

    /// Takes what may clear an endpoint.
    fn judge(&self, id: EndpointId, verdict: impl FnOnce(&mut Outlier, Moment) -> bool) {
        let Some(ward) = self.ward(id) else { return };
        let now = self.0.clock.now();
        let back = verdict(&mut ward.state().outlier, now);
        if back {
            self.come_back(id);
        }
    }

    fn failed(&self, id: EndpointId, began: Moment, trouble: Trouble, order: &LoadOrder) {
        let Some(ward) = self.ward(id) else { return };
        let alone = self.is_alone(id, Some(&order.model));
        let now = self.0.clock.now();
        let ejects = ward.state().outlier.failed(now, began, trouble, alone);
        let (true, Ok(endpoint)) = (ejects, self.0.client.endpoint(id)) else { return };
        let reason = trouble.as_str();
        tracing::warn!(
            endpoint = %endpoint.name, url = %endpoint.base, reason, model = %order.model,
            "the Ollama server's calls keep failing: it gets no requests until a probe of it succeeds"
        );
        self.0.metrics.ejected(&endpoint.name, true);
        self.0.metrics.ejection(&endpoint.name, reason);
        self.0.discovery.eject(id, Some(format!("its calls keep failing ({reason})")));
        ward.ejected.notify_one();
    }

    fn come_back(&self, id: EndpointId) {
        let Ok(endpoint) = self.0.client.endpoint(id) else { return };
        tracing::info!(endpoint = %endpoint.name, url = %endpoint.base, "the Ollama server is used again");
        self.0.metrics.ejected(&endpoint.name, false);
        self.0.discovery.eject(id, None);
    }

    /// Whether no other usable endpoint has `model`, or is usable at all where none is named.
    fn is_alone(&self, id: EndpointId, model: Option<&str>) -> bool {
        let fleet = self.0.discovery.watch();
        let fleet = fleet.borrow();
        let name = model.and_then(|model| ModelName::parse(model).ok());
        let mut others = fleet.endpoints.iter().filter(|other| other.id != id && other.is_usable());
        !others.any(|other| name.as_ref().is_none_or(|name| other.models.contains_key(name)))
    }

    async fn keep_probing(&self, endpoint: &Endpoint, ward: &Ward) {
        let mut fleet = self.0.discovery.watch();
        let mut answered = true;
        loop {
            let now = self.0.clock.now();
            let answers = fleet.borrow_and_update().endpoints.get(usize::from(endpoint.id.0)).cloned();
            let answers = answers.is_some_and(|view| view.trouble.is_none());
            if answers && !answered {
                ward.state().outlier.restarted(now);
            }
            answered = answers;
            self.0.metrics.up(&endpoint.name, answers);
            let due = ward.state().outlier.probe_due(self.is_alone(endpoint.id, None));
            match due {
                Some(due) if answers && due <= now => {
                    let last = ward.state().last.clone();
                    let probed = self.probe(endpoint, last.as_deref()).await;
                    if let Err(why) = &probed {
                        tracing::info!(endpoint = %endpoint.name, %why, "the probe of an ejected Ollama server failed");
                    }
                    self.judge(endpoint.id, |outlier, now| outlier.probed(now, probed.is_ok()));
                    continue;
                }
                Some(due) if answers => tokio::select! {
                    () = tokio::time::sleep(due.since(now)) => {}
                    // whether it has a substitute may have changed
                    changed = fleet.changed() => if changed.is_err() { return },
                },
                _ => tokio::select! {
                    () = ward.ejected.notified() => {}
                    changed = fleet.changed() => if changed.is_err() { return },
                },
            }
        }
    }

    /// # Errors
    /// Why it is not to be used yet.
    async fn probe(&self, endpoint: &Endpoint, last: Option<&LoadOrder>) -> Result<(), String> {
        let client = &self.0.client;
        client.get(endpoint, "/api/version").await?;
        let tags = reading::tags(&client.get(endpoint, "/api/tags").await?)?;
        let Some(order) = last else { return Ok(()) };
        let Ok(name) = ModelName::parse(&order.model) else { return Ok(()) };
        if !tags.iter().any(|tag| tag.name == name) || !self.is_loaded(endpoint, &name).await? {
            return Ok(());
        }
        let task = if order.embeds { Task::Embed } else { Task::Generate };
        let body = wire::encode_probe(&order.model, &order.options, order.keep_alive, order.embeds);
        let patience = TOKEN_WITHIN.min(client.timeouts.first_event);
        let (status, body) = client.ask_within(endpoint, task.path(), body, patience).await?;
        match status {
            200 => match wire::decode_body(task, &body) {
                Ok(Event::Error(text)) => Err(text),
                Ok(_) => Ok(()),
                Err(bad) => Err(bad.to_string()),
            },
            // it answers, and why this model does not is not the endpoint's fault
            400..=499 => Ok(()),
            _ => Err(wire::upstream_fault(status, &body).message),
        }
    }

    /// Whether the weights of a tag are in memory, by `/api/ps` of this moment.
    async fn is_loaded(&self, endpoint: &Endpoint, name: &ModelName) -> Result<bool, String> {
        let loaded = reading::loaded(&self.0.client.get(endpoint, "/api/ps").await?)?;
        let fleet = self.0.discovery.watch();
        let fleet = fleet.borrow();
        let Some(view) = fleet.endpoints.get(usize::from(endpoint.id.0)) else { return Ok(false) };
        let Some(model) = view.models.get(name) else { return Ok(false) };
        Ok(loaded.iter().any(|entry| reading::resident(entry, &view.models, &view.resident).weights == model.weights))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::telemetry::Registry;
    use crate::upstream::Timeouts;

    const ID: EndpointId = EndpointId(0);

    fn health() -> (Health, Clock, Discovery) {
        let long = Duration::from_secs(600);
        let timeouts =
            Timeouts { connect: long, first_event: long, silence: long, idle: long, whole: long, control: long };
        let endpoint = Endpoint { id: ID, name: "gpu0".into(), base: "http://127.0.0.1:9".into(), num_parallel: 1 };
        let client = Client::new(vec![endpoint], timeouts).unwrap();
        let clock = Clock::manual();
        let discovery = Discovery::new(client.clone(), clock.clone());
        let metrics = RequestMetrics::register(&Registry::new());
        (Health::new(client, discovery.clone(), metrics, clock.clone()), clock, discovery)
    }

    fn order() -> Arc<LoadOrder> {
        Arc::new(LoadOrder { model: "m".into(), options: Vec::new(), keep_alive: Duration::MAX, embeds: false })
    }

    fn ejected(discovery: &Discovery) -> Option<String> {
        discovery.watch().borrow().endpoints[0].ejected.clone()
    }

    /// A call whose caller leaves after `seconds`.
    fn left(health: &Health, clock: &Clock, seconds: u64, streams: bool, spoke: bool) {
        let mut call = health.watch(ID, order(), streams);
        if spoke {
            call.spoke();
        }
        clock.advance(Duration::from_secs(seconds));
        drop(call);
    }

    #[test]
    fn callers_that_leave_after_a_long_silence_are_a_sign_of_it() {
        let (health, clock, discovery) = health();
        for (seconds, streams, spoke) in [(29, true, false), (300, false, false), (300, true, true)] {
            for _ in 0..5 {
                left(&health, &clock, seconds, streams, spoke);
            }
            assert_eq!(ejected(&discovery), None, "{seconds} s, stream {streams}, spoke {spoke}");
        }
        left(&health, &clock, 31, true, false);
        assert_eq!(ejected(&discovery), None);
        let other = health.watch(ID, order(), true);
        left(&health, &clock, 31, true, false);
        assert!(ejected(&discovery).unwrap().contains("silent"));
        // another call was not as silent as that
        let mut other = other;
        other.spoke();
        assert_eq!(ejected(&discovery), None);
    }

    #[test]
    fn a_call_that_ends_well_ends_a_row_of_failures() {
        let (health, clock, discovery) = health();
        let slow = Fault::new(crate::domain::FaultClass::UpstreamTimeout, "");
        for turn in 0..6 {
            clock.advance(Duration::from_secs(1));
            let call = health.watch(ID, order(), false);
            clock.advance(Duration::from_secs(1));
            call.ended(&if turn % 2 == 0 { Err(slow.clone()) } else { Ok(()) });
        }
        assert_eq!(ejected(&discovery), None);
    }
}

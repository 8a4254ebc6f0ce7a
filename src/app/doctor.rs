//! A look at the servers as a gateway with these settings would have them, without serving anybody.
//!
//! Owns what is looked at and with which model slots are measured. It does not print (`cli`) and does not touch the
//! state folder, so that it can run beside a gateway.

use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{Catalog, Holder, RunnerPlan, one_at_a_time, slots};
use crate::config::{self, Settings};
use crate::domain::{Clock, EndpointId, EndpointView, FleetView, GpuName, GpuView, GpusView, ModelName, ModelView};
use crate::policy::{Policies, Problem};
use crate::upstream::{Client, Discovery, SlotProbe, Slots};

use super::build;
use super::gpus::Sight;

/// For a model that is loaded for the measurement: long enough for it, in case it cannot be unloaded afterwards.
const STAY: Duration = Duration::from_secs(120);

/// What was seen of every server.
pub struct Doctor {
    settings: Settings,
    client: Client,
    clock: Clock,
    fleet: Arc<FleetView>,
    gpus: Arc<GpusView>,
    catalog: Catalog,
    policies: Policies,
}

/// One server.
#[derive(Debug)]
pub struct Finding<'a> {
    /// As configured.
    pub endpoint: &'a config::Endpoint,
    /// As it answered.
    pub view: &'a EndpointView,
    /// The GPUs that are named for it; `None` for one that is not seen.
    pub gpus: Vec<(&'a GpuName, Option<&'a GpuView>)>,
}

/// A model with which the slots of a server can be measured.
#[derive(Debug)]
pub struct Subject {
    endpoint: EndpointId,
    /// The model.
    pub model: ModelName,
    /// Whether it is in memory already; otherwise it is loaded for the measurement and unloaded afterwards.
    pub resident: bool,
    /// Whether Ollama serves it one at a time, whatever the server's slots are.
    pub one_at_a_time: bool,
    /// What the configuration claims for it: requests at once.
    pub claimed: u32,
    plan: Arc<RunnerPlan>,
}

impl Subject {
    /// Whether what was measured is what the configuration claims.
    #[must_use]
    pub fn agrees(&self, found: Slots) -> bool {
        match found {
            Slots::Exactly(slots) => slots == self.claimed,
            Slots::AtLeast(slots) => slots <= self.claimed,
        }
    }
}

impl Doctor {
    /// Asks every server and looks at the GPUs; a server that does not answer is a finding, no failure.
    ///
    /// # Errors
    /// Policies with mistakes, or a process that cannot make calls at all.
    pub async fn look(settings: Settings, clock: Clock) -> Result<Self, Vec<String>> {
        let one = |why: String| vec![why];
        let listed = |problems: Vec<Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
        let policies = match &settings.policies {
            Some(folder) => Policies::load(folder).map_err(listed)?,
            None => Policies::built_in(),
        };
        let client = build::client(&settings).map_err(one)?;
        let discovery = Discovery::new(client.clone(), clock.clone());
        let (gpus, ()) = tokio::join!(Sight::start(&settings, &clock), discovery.refresh(Duration::ZERO));
        let gpus = gpus.map_err(one)?;
        let plans = build::plans(&settings, &gpus);
        let keep_alive = settings.keep_alive.unwrap_or(build::KEEP_ALIVE);
        let catalog = Catalog::new(discovery.watch(), plans, keep_alive);
        let fleet = catalog.fleet();
        Ok(Self { settings, client, clock, fleet, gpus: gpus.first, catalog, policies })
    }

    /// The servers in the order of the settings.
    pub fn findings(&self) -> impl Iterator<Item = Finding<'_>> {
        self.settings.endpoints.iter().zip(&self.fleet.endpoints).map(|(endpoint, view)| Finding {
            endpoint,
            view,
            gpus: endpoint.gpus.iter().map(|name| (name, self.gpus.named(name))).collect(),
        })
    }

    /// The GPUs of this machine.
    #[must_use]
    pub fn gpus(&self) -> &GpusView {
        &self.gpus
    }

    /// The model to measure a server's slots with: `asked`, or one that generates, as many at once as there are slots,
    /// is in memory and is small, in this order of importance.
    ///
    /// # Errors
    /// Why there is none.
    pub fn subject(&self, at: usize, asked: Option<&str>) -> Result<Subject, String> {
        let (endpoint, view) =
            (self.settings.endpoints.get(at)).zip(self.fleet.endpoints.get(at)).ok_or("no server")?;
        if let Some(why) = &view.trouble {
            return Err(why.clone());
        }
        let resident = |model: &ModelView| view.resident.iter().any(|loaded| loaded.weights == model.weights);
        let model = match asked {
            Some(name) => named(view, name)?,
            None => (view.models.values())
                .filter(|model| model.generates() && !model.remote)
                .min_by_key(|model| (one_at_a_time(model), !resident(model), model.size))
                .ok_or("it has no model that generates: pull a small one first")?,
        };
        let holder = Holder { endpoint: Arc::clone(view), model: Arc::clone(model) };
        let one_at_a_time = one_at_a_time(model);
        Ok(Subject {
            endpoint: view.id,
            model: model.name.clone(),
            resident: resident(model),
            one_at_a_time,
            claimed: slots(model, endpoint.num_parallel),
            plan: self.catalog.runner(&holder, &self.policies.profile(&model.name)),
        })
    }

    /// Measures the slots that the subject's runner has. Takes some seconds of the server's time, and the load if need be.
    ///
    /// # Errors
    /// Why they could not be measured.
    pub async fn measure(&self, subject: &Subject) -> Result<Slots, String> {
        let probe = SlotProbe {
            client: self.client.clone(),
            clock: self.clock.clone(),
            endpoint: subject.endpoint,
            model: subject.plan.order.model.clone(),
            options: subject.plan.order.options.clone(),
            // of a model that is there the time it stays is not ours to change
            keep_alive: (!subject.resident).then_some(STAY),
        };
        let found = probe.measure().await;
        if !subject.resident {
            probe.unload().await;
        }
        found
    }
}

fn named<'a>(view: &'a EndpointView, name: &str) -> Result<&'a Arc<ModelView>, String> {
    let parsed = ModelName::parse(name).map_err(|_| format!("{name:?} is not a model name"))?;
    let model = view.models.get(&parsed).ok_or_else(|| format!("it does not have {parsed}"))?;
    if model.remote {
        return Err(format!("{parsed} runs on another host"));
    }
    if !model.generates() {
        return Err(format!("{parsed} does not generate: Ollama serves it one at a time, and there is nothing to see"));
    }
    Ok(model)
}

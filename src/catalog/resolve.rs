//! From a requested name to the endpoints that can serve it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::{EndpointId, EndpointView, Fault, FaultClass, FleetView, ModelName, ModelView, field};
use crate::policy::{KeepAlive, RunnerProfile};

use super::runner::{EndpointPlan, RunnerKey, RunnerPlan, resident, settle};

/// What a name means now.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The canonical name; upstream is asked for this one.
    pub name: ModelName,
    /// The weights of the model that requests for it run on.
    pub weights: Box<str>,
    /// The endpoints that hold it with these weights; never empty. Those that do not answer held it when they last did, and
    /// are waited for.
    pub holders: Vec<Holder>,
}

impl Resolved {
    /// What `endpoint` holds, if it is among those that can serve the name.
    #[must_use]
    pub fn at(&self, endpoint: EndpointId) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.endpoint.id == endpoint)
    }
}

/// One endpoint that can serve the name.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Which.
    pub endpoint: Arc<EndpointView>,
    /// What it knows of the model.
    pub model: Arc<ModelView>,
}

/// What is settled for a runner, and known of it.
#[derive(Debug)]
struct Settled {
    plan: Arc<RunnerPlan>,
    /// Its context where it was last seen in memory.
    context: Option<u64>,
}

/// The desk that resolves names; one per gateway.
#[derive(Debug)]
pub struct Catalog {
    fleet: watch::Receiver<Arc<FleetView>>,
    settled: Mutex<HashMap<RunnerKey, Settled>>,
    endpoints: Vec<EndpointPlan>,
    keep_alive: KeepAlive,
}

impl Catalog {
    /// A catalog over the fleet view that `upstream` publishes; `endpoints` by id, `keep_alive` where no profile says.
    #[must_use]
    pub fn new(fleet: watch::Receiver<Arc<FleetView>>, endpoints: Vec<EndpointPlan>, keep_alive: KeepAlive) -> Self {
        Self { fleet, settled: Mutex::new(HashMap::new()), endpoints, keep_alive }
    }

    /// The fleet as last seen.
    #[must_use]
    pub fn fleet(&self) -> Arc<FleetView> {
        Arc::clone(&self.fleet.borrow())
    }

    /// The endpoints that can serve `name`. Where endpoints hold different weights under one name, the first
    /// endpoint's that answers count: one name must not mean two models.
    ///
    /// # Errors
    /// `NotFound` in Ollama's words when an endpoint answers and none is known to have it; `Unreachable` when no endpoint
    /// answers and none was ever seen to have it.
    pub fn resolve(&self, name: &ModelName, asked_as: &str, embeds: bool) -> Result<Resolved, Fault> {
        let fleet = self.fleet();
        let holder = |(endpoint, model): (&Arc<EndpointView>, &Arc<ModelView>)| Holder {
            endpoint: Arc::clone(endpoint),
            model: Arc::clone(model),
        };
        let mut holders: Vec<Holder> = fleet.known_holders(name).map(holder).collect();
        let Some(first) = holders.first() else {
            return Err(absent(&fleet, asked_as, embeds));
        };
        if first.model.remote {
            let text = format!("model '{asked_as}' runs on another host: prompts would leave this site");
            return Err(Fault::new(FaultClass::Forbidden, text).at("model"));
        }
        let weights: Box<str> = first.model.weights.as_str().into();
        holders.retain(|holder| *holder.model.weights == *weights);
        Ok(Resolved { name: name.clone(), weights, holders })
    }

    /// Resolves once `name` means other weights than these or nothing, or none of these endpoints has it any more.
    pub async fn moved(&self, name: &ModelName, weights: &str, endpoints: &[EndpointId]) {
        let has = |view: &EndpointView| view.models.get(name).is_some_and(|model| model.weights == weights);
        let moved = |fleet: &Arc<FleetView>| {
            let now = fleet.known_holders(name).next();
            let mut views = endpoints.iter().filter_map(|id| fleet.endpoints.get(usize::from(id.0)));
            now.is_none_or(|(_, model)| model.weights != weights) || !views.any(|view| has(view))
        };
        if self.fleet.clone().wait_for(moved).await.is_err() {
            // nobody looks any more: the process is stopping
            std::future::pending::<()>().await;
        }
    }

    /// A tag by which these weights were asked for, where no endpoint lists one any more.
    #[must_use]
    pub fn once_known_as(&self, weights: &str) -> Option<ModelName> {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = settled.iter().find(|(key, _)| *key.weights == *weights).map(|(_, known)| &known.plan)?;
        ModelName::parse(&plan.order.model).ok()
    }

    /// How this holder's runner is run. The first call settles what the profile leaves open, and it stays so while the
    /// gateway runs; a profile that changes settles anew.
    pub fn runner(&self, holder: &Holder, profile: &RunnerProfile) -> Arc<RunnerPlan> {
        self.settled(holder, profile).0
    }

    /// Tokens of context that the holder's runner has: what it is asked for with, else what its server gave it, now or when
    /// it was last in memory. `None` where neither says: it is not known until it is loaded.
    pub fn context(&self, holder: &Holder, profile: &RunnerProfile) -> Option<u64> {
        // what is in memory may be news since the name was resolved
        let endpoint = self.fleet().endpoints.get(usize::from(holder.endpoint.id.0)).map(Arc::clone);
        let endpoint = endpoint.unwrap_or_else(|| Arc::clone(&holder.endpoint));
        let (plan, seen) = self.settled(&Holder { endpoint, model: Arc::clone(&holder.model) }, profile);
        let asked: Option<u64> = field(&plan.order.options, "num_ctx").and_then(|value| value.get().parse().ok());
        // Ollama gives none more than the model was trained for
        asked.map(|asked| asked.min(holder.model.context_length.unwrap_or(u64::MAX))).or(seen)
    }

    fn settled(&self, holder: &Holder, profile: &RunnerProfile) -> (Arc<RunnerPlan>, Option<u64>) {
        let key = RunnerKey { endpoint: holder.endpoint.id, weights: holder.model.weights.as_str().into() };
        let now = resident(holder).and_then(|resident| resident.context_length);
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = settled.get(&key);
        let context = now.or(known.and_then(|known| known.context));
        let plan = match known {
            Some(known) if known.plan.holds(holder, profile) => Arc::clone(&known.plan),
            _ => {
                let endpoint = self.endpoints.get(usize::from(key.endpoint.0)).copied();
                let endpoint = endpoint.unwrap_or(EndpointPlan { num_parallel: 1, memory: None });
                Arc::new(settle(holder, profile, endpoint, self.keep_alive))
            }
        };
        settled.insert(key, Settled { plan: Arc::clone(&plan), context });
        (plan, context)
    }
}

/// Ollama's own words differ by route: embed routes add advice (`ollama-facts` 1.5).
fn absent(fleet: &FleetView, asked_as: &str, embeds: bool) -> Fault {
    let troubles: Vec<String> = fleet
        .endpoints
        .iter()
        .filter_map(|endpoint| endpoint.trouble.as_ref().map(|why| format!("{}: {why}", endpoint.url)))
        .collect();
    if troubles.len() == fleet.endpoints.len() {
        let text = "no Ollama server can be reached now: try again, and tell the operator if it stays so";
        let retry = std::time::Duration::from_secs(5);
        return Fault::new(FaultClass::Unreachable, text).retry(retry).detail(troubles.join("; "));
    }
    let text = if embeds {
        format!("model \"{asked_as}\" not found, try pulling it first")
    } else {
        format!("model '{asked_as}' not found")
    };
    Fault::new(FaultClass::NotFound, text).at("model")
}

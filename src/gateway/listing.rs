//! What applications may know of the models: lists filtered by policy, `show`, the version.
//!
//! These calls hold no slot, so they do not pass the scheduler; identity, policy, ledger and metrics hold as on every
//! route.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::{
    AppName, EndpointId, EndpointView, Fault, FaultClass, FleetView, InvalidName, ModelName, ModelView,
};
use crate::policy::AppRules;
use crate::wire::{self, ListedModel};

use super::answer::{Answer, AnswerBody};
use super::call::{Caller, ReadBody};
use super::in_flight::InFlight;
use super::line::{Gateway, refused};

/// How old a list may be.
const FRESH: Duration = Duration::from_secs(1);

/// A list of models, or one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// `GET /api/tags`.
    Tags,
    /// `GET /api/ps`.
    Loaded,
    /// `GET /api/version`.
    Version,
    /// `GET /api/status`.
    Status,
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`.
    Model(String),
}

impl Listing {
    fn route(&self) -> &'static str {
        match self {
            Self::Tags => "/api/tags",
            Self::Loaded => "/api/ps",
            Self::Version => "/api/version",
            Self::Status => "/api/status",
            Self::Models => "/v1/models",
            Self::Model(_) => "/v1/models/{id}",
        }
    }
}

impl Gateway {
    /// Answers a listing.
    pub async fn list(&self, listing: Listing, caller: Caller) -> Answer {
        let mut flight = self.begin(listing.route());
        match self.listed(&listing, &caller, &mut flight).await {
            Ok(body) => good(body, &listing, flight),
            Err(fault) => refused(fault, flight),
        }
    }

    async fn listed(&self, listing: &Listing, caller: &Caller, flight: &mut InFlight) -> Result<Vec<u8>, Fault> {
        let principal = self.identify(caller, flight)?;
        // who asks what is loaded has just changed it, most often
        let max_age = if *listing == Listing::Loaded { Duration::ZERO } else { FRESH };
        self.parts.discovery.refresh(max_age).await;
        let app = principal.app();
        match listing {
            Listing::Tags => Ok(wire::native_list(self.visible(app).iter().map(|model| &*model.entry))),
            Listing::Loaded => Ok(wire::native_list(self.loaded(app).iter().map(|entry| &**entry))),
            Listing::Version => Ok(wire::version(&self.version()?)),
            // models elsewhere are not served, as where the operator switched them off
            Listing::Status => Ok(br#"{"cloud":{"disabled":true,"source":"config"}}"#.to_vec()),
            Listing::Models => {
                let visible = self.visible(app);
                let ids: Vec<_> = visible.iter().map(|model| (model.name.to_string(), created(model))).collect();
                Ok(wire::model_list(ids.iter().map(|(id, created)| ListedModel { id, created: *created })))
            }
            Listing::Model(id) => {
                let name = ModelName::parse(id).map_err(|bad| unnamed(id, &bad))?;
                let found = self.visible(app).into_iter().find(|model| model.name == name);
                let model = found.ok_or_else(|| not_found(&name.to_string(), ""))?;
                Ok(wire::model(ListedModel { id, created: created(&model) }))
            }
        }
    }

    /// The models `app` may use, each once, in the servers' order.
    fn visible(&self, app: &AppName) -> Vec<Arc<ModelView>> {
        let (fleet, rules) = (self.parts.catalog.fleet(), self.parts.desk.rules(app));
        let mut models: Vec<Arc<ModelView>> = Vec::new();
        for endpoint in fleet.endpoints.iter().filter(|endpoint| opens(endpoint, &rules)) {
            let mut here: Vec<_> = endpoint.models.values().collect();
            here.sort_by_key(|model| model.rank);
            for model in here {
                let known = models.iter().any(|other| other.name == model.name);
                if !known && rules.models.allow(&model.name) && is_meant(&fleet, model) {
                    models.push(Arc::clone(model));
                }
            }
        }
        models
    }

    fn loaded(&self, app: &AppName) -> Vec<Box<serde_json::value::RawValue>> {
        let (fleet, rules) = (self.parts.catalog.fleet(), self.parts.desk.rules(app));
        let endpoints = fleet.endpoints.iter().filter(|endpoint| opens(endpoint, &rules));
        let residents = endpoints.flat_map(|endpoint| &endpoint.resident);
        residents.filter(|loaded| rules.models.allow(&loaded.name)).map(|loaded| loaded.entry.clone()).collect()
    }

    /// The lowest version among the servers that answer: what every caller can rely on.
    fn version(&self) -> Result<String, Fault> {
        let fleet = self.parts.catalog.fleet();
        let versions = fleet.endpoints.iter().filter(|e| e.trouble.is_none()).filter_map(|e| e.version.clone());
        let parts = |version: &String| -> Vec<u64> {
            version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
        };
        versions.min_by_key(parts).ok_or_else(unreachable)
    }

    /// `POST /api/show`.
    pub async fn show(&self, caller: Caller, body: Box<dyn ReadBody>) -> Answer {
        let mut flight = self.begin("/api/show");
        match self.shown(&caller, body, &mut flight).await {
            Ok((status, body)) => {
                flight.note(|record| record.status = status);
                let content_type = "application/json; charset=utf-8";
                Answer { status, headers: Vec::new(), content_type, body: AnswerBody::whole(vec![body], flight) }
            }
            Err(fault) => refused(fault, flight),
        }
    }

    async fn shown(
        &self,
        caller: &Caller,
        body: Box<dyn ReadBody>,
        flight: &mut InFlight,
    ) -> Result<(u16, Bytes), Fault> {
        let principal = self.identify(caller, flight)?;
        let body = body.read(self.max_body(&principal)).await?;
        let request = wire::decode_show(&body)?;
        let bad = |bad: InvalidName| Fault::new(FaultClass::BadRequest, bad.to_string()).at("model");
        let name = ModelName::parse(&request.model).map_err(bad)?;
        let rules = self.parts.desk.rules(principal.app());
        if !rules.models.allow(&name) {
            return Err(not_found(&name.to_string(), "the application may not use it"));
        }
        let endpoint = match self.holder(&name, &rules) {
            Some(endpoint) => endpoint,
            None => {
                // it may have been pulled a moment ago
                self.parts.discovery.refresh(FRESH).await;
                self.holder(&name, &rules).ok_or_else(|| not_found(&name.to_string(), ""))?
            }
        };
        self.parts.upstream.show(endpoint, wire::encode_show(&name.to_string(), request.verbose, &request.fields)).await
    }

    /// The first endpoint that has the model for an application with these rules, a usable one if there is one; nothing is
    /// shown that is not listed.
    fn holder(&self, name: &ModelName, rules: &AppRules) -> Option<EndpointId> {
        let fleet = self.parts.catalog.fleet();
        let holders = fleet.holders(name).filter(|(endpoint, model)| opens(endpoint, rules) && is_meant(&fleet, model));
        holders.map(|(endpoint, _)| endpoint).min_by_key(|endpoint| !endpoint.is_usable()).map(|endpoint| endpoint.id)
    }

    /// A route that exists at Ollama and is not for applications, or not served yet.
    pub fn closed(&self, route: &'static str, caller: &Caller, fault: Fault) -> Answer {
        let mut flight = self.begin(route);
        match self.identify(caller, &mut flight) {
            Ok(_) => refused(fault, flight),
            Err(unknown) => refused(unknown, flight),
        }
    }
}

/// Whether the endpoint answers, and to applications with these rules.
fn opens(endpoint: &EndpointView, rules: &AppRules) -> bool {
    endpoint.trouble.is_none() && rules.endpoints.allow(&endpoint.name, &endpoint.url)
}

/// Whether its name stands for this one: it runs here, and no server before has other weights under that name.
fn is_meant(fleet: &FleetView, model: &ModelView) -> bool {
    let first = fleet.known_holders(&model.name).next();
    !model.remote && first.is_none_or(|(_, first)| first.weights == model.weights)
}

fn good(body: Vec<u8>, listing: &Listing, mut flight: InFlight) -> Answer {
    flight.note(|record| record.status = 200);
    let content_type = match listing {
        Listing::Models | Listing::Model(_) => "application/json",
        Listing::Tags | Listing::Loaded | Listing::Version | Listing::Status => "application/json; charset=utf-8",
    };
    Answer { status: 200, headers: Vec::new(), content_type, body: AnswerBody::whole(vec![body.into()], flight) }
}

/// When the model was last changed, in seconds since 1970; 0 where the server gave no readable date.
fn created(model: &ModelView) -> u64 {
    let at: Option<jiff::Timestamp> = model.modified_at.parse().ok();
    at.and_then(|at| u64::try_from(at.as_second()).ok()).unwrap_or(0)
}

/// No model can have this id. One with slashes is no id at Ollama but another path, which it does not have.
fn unnamed(id: &str, bad: &InvalidName) -> Fault {
    if id.contains('/') { not_found(id, "") } else { Fault::new(FaultClass::BadRequest, bad.to_string()) }
}

fn not_found(name: &str, detail: &str) -> Fault {
    Fault::new(FaultClass::NotFound, format!("model '{name}' not found")).at("model").detail(detail)
}

fn unreachable() -> Fault {
    Fault::new(FaultClass::Unreachable, "no Ollama server can be reached now: try again shortly")
        .retry(Duration::from_secs(5))
}

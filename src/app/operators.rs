//! What operators may ask, answered from the rooms of the house.
//!
//! Owns the account of the fleet and the wire between the two planes. It decides nothing.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::admin::{Answers, Question};
use crate::domain::{EndpointView, Resident};
use crate::gateway::Hypothetical;
use crate::scheduler::core::{RunnerLoad, SiteLoad};

use super::build::House;

/// Answers from the house, once there is one.
pub(super) fn answers(house: Arc<OnceLock<House>>) -> Answers {
    Arc::new(move |question| {
        let house = house.get().cloned();
        Box::pin(async move {
            let house = house?;
            Some(match question {
                Question::Queue(app) => house.gateway.whole_queue(app.as_ref()),
                Question::Fleet => fleet(&house),
                Question::Explain { app, model, prompt_tokens, output_tokens } => {
                    let asked = Hypothetical { app, model, prompt_tokens, output_tokens };
                    house.gateway.explain(&asked).await
                }
            })
        })
    })
}

fn fleet(house: &House) -> Value {
    let fleet = house.discovery.watch();
    let fleet = Arc::clone(&fleet.borrow());
    let view = house.scheduler.view();
    let endpoints = fleet.endpoints.iter().map(|endpoint| {
        let loads: Vec<&RunnerLoad> = view.runners.iter().filter(|load| load.endpoint == endpoint.id).collect();
        let site = view.sites.iter().find(|site| site.endpoint == endpoint.id);
        json!({
            "name": endpoint.name,
            "url": endpoint.url,
            "answers": endpoint.trouble.is_none(),
            "trouble": endpoint.trouble.as_ref().or(endpoint.ejected.as_ref()),
            "state": site.map_or("unknown", state),
            "version": endpoint.version,
            "models": endpoint.models.len(),
            "swap_credit_seconds": site.map(|site| site.credit),
            "planned_bytes": site.map(|site| site.planned),
            "seconds": site.map(|site| json!({
                "busy": site.book.busy,
                "idle": site.book.idle,
                "displacing_swaps": site.book.displacing,
                "other_loads": site.book.free,
            })),
            "runners": runners(endpoint, &loads),
        })
    });
    json!({ "object": "list", "data": endpoints.collect::<Vec<_>>() })
}

fn state(site: &SiteLoad) -> &'static str {
    match site {
        SiteLoad { resting: true, .. } => "resting",
        SiteLoad { changing: true, .. } => "changing",
        _ => "serving",
    }
}

/// What the endpoint shows as loaded, then what is on its way or believed to be there and is not shown.
fn runners(endpoint: &EndpointView, loads: &[&RunnerLoad]) -> Vec<Value> {
    let loaded = endpoint.resident.iter().map(|resident| {
        let load = loads.iter().find(|load| *load.weights == *resident.weights);
        json!({
            "model": resident.name.to_string(),
            "state": load.map_or("loaded", |load| load.state),
            "slots_used": load.map_or(0, |load| load.used),
            "slots": load.map(|load| load.slots),
            "bytes": resident.size,
            "planned_bytes": load.map(|load| load.need),
            "spilled_bytes": resident.spilled(),
            "swap_seconds": load.map(|load| load.cost),
            "context": resident.context_length,
            "ollama_expires_at": expires(resident),
        })
    });
    let shown = |load: &RunnerLoad| endpoint.resident.iter().any(|resident| *resident.weights == *load.weights);
    let others = loads.iter().filter(|load| load.state != "absent" && !shown(load)).map(|load| {
        let name = endpoint.tags_of(&load.weights).next();
        json!({
            "model": name.map_or_else(|| load.weights.to_string(), ToString::to_string),
            "state": load.state,
            "slots_used": load.used,
            "slots": load.slots,
            "planned_bytes": load.need,
            "swap_seconds": load.cost,
        })
    });
    loaded.chain(others).collect()
}

/// When Ollama would unload it by itself, as `/api/ps` has it; the gateway's own time is shorter.
fn expires(resident: &Resident) -> Option<Value> {
    let entry: Value = serde_json::from_str(resident.entry.get()).ok()?;
    entry.get("expires_at").cloned()
}

//! What operators may ask, answered from the rooms of the house.
//!
//! Owns the account of the fleet and the wire between the two planes. It decides nothing.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::admin::{Answers, Question};
use crate::domain::{EndpointView, Resident};
use crate::gateway::Hypothetical;
use crate::scheduler::core::RunnerLoad;

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
        json!({
            "name": endpoint.name,
            "url": endpoint.url,
            "answers": endpoint.trouble.is_none(),
            "trouble": endpoint.trouble,
            "version": endpoint.version,
            "models": endpoint.models.len(),
            "runners": runners(endpoint, &loads),
        })
    });
    json!({ "object": "list", "data": endpoints.collect::<Vec<_>>() })
}

/// What the endpoint shows as loaded, then what has work there and is not shown (yet).
fn runners(endpoint: &EndpointView, loads: &[&RunnerLoad]) -> Vec<Value> {
    let load_of = |resident: &Resident| loads.iter().find(|load| *load.weights == *resident.weights);
    let loaded = endpoint.resident.iter().map(|resident| {
        let load = load_of(resident);
        json!({
            "model": resident.name.to_string(),
            "state": "loaded",
            "slots_used": load.map_or(0, |load| load.used),
            "slots": load.map(|load| load.slots),
            "bytes": resident.size,
            "spilled_bytes": resident.spilled(),
            "context": resident.context_length,
            "ollama_expires_at": expires(resident),
        })
    });
    let shown = |load: &RunnerLoad| endpoint.resident.iter().any(|resident| *resident.weights == *load.weights);
    let assumed = loads.iter().filter(|load| load.used > 0 && !shown(load)).map(|load| {
        let name = endpoint.tags_of(&load.weights).next();
        json!({
            "model": name.map_or_else(|| load.weights.to_string(), ToString::to_string),
            "state": "assumed",
            "slots_used": load.used,
            "slots": load.slots,
        })
    });
    loaded.chain(assumed).collect()
}

/// When Ollama would unload it by itself, as `/api/ps` has it; the gateway's own time is shorter.
fn expires(resident: &Resident) -> Option<Value> {
    let entry: Value = serde_json::from_str(resident.entry.get()).ok()?;
    entry.get("expires_at").cloned()
}

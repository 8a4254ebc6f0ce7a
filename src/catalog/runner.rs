//! How a runner is asked for: slots, and one settled value per runner option.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::domain::{EndpointId, JsonField, ModelView, Resident};
use crate::policy::{KeepAlive, RunnerProfile};

use super::Holder;

/// Families for which Ollama runs one request at a time whatever is configured (`ollama-facts` 2.2).
const ONE_SLOT_FAMILIES: [&str; 11] = [
    "mllama",
    "qwen3vl",
    "qwen3vlmoe",
    "qwen35",
    "qwen35moe",
    "qwen3next",
    "lfm2",
    "lfm2moe",
    "nemotron_h",
    "nemotron_h_moe",
    "nemotron_h_omni",
];

/// One set of weights on one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RunnerKey {
    pub(super) endpoint: EndpointId,
    pub(super) weights: Box<str>,
}

/// What every call for one runner carries.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// Options by name, values as JSON.
    pub options: Vec<JsonField>,
    /// `num_ctx` among them, where it is settled.
    pub num_ctx: Option<u64>,
    profile: RunnerProfile,
}

impl RunnerOptions {
    pub(super) fn is_from(&self, profile: &RunnerProfile) -> bool {
        self.profile == *profile
    }

    /// How long Ollama keeps the runner when idle, where the profile says.
    #[must_use]
    pub fn keep_alive(&self) -> Option<KeepAlive> {
        self.profile.keep_alive
    }
}

/// Slots that requests for `model` may use on an endpoint configured with `configured` (`OLLAMA_NUM_PARALLEL`): one
/// where Ollama forces one, and never more than the profile allows.
#[must_use]
pub fn slots(model: &ModelView, configured: u32, profile: &RunnerProfile) -> u32 {
    let generates = model.capabilities.iter().any(|capability| capability == "completion");
    let forced = !generates || model.format != "gguf" || ONE_SLOT_FAMILIES.contains(&model.family.as_str());
    let server = if forced { 1 } else { configured.max(1) };
    server.min(profile.num_parallel.unwrap_or(u32::MAX)).max(1)
}

/// Profile first, then what the resident runner has, then the tag's own, then those of other tags of the same weights.
/// What none of them names is left to Ollama, for every tag alike, which never reloads either.
pub(super) fn settle(holder: &Holder, profile: &RunnerProfile) -> RunnerOptions {
    let mut values: BTreeMap<String, serde_json::Value> =
        profile.options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    if let Some(resident) = resident(holder)
        && let Some(num_ctx) = resident.context_length
    {
        values.entry("num_ctx".to_owned()).or_insert_with(|| num_ctx.into());
    }
    let siblings = holder.endpoint.models.values().filter(|other| other.weights == holder.model.weights);
    for tag in std::iter::once(&holder.model).chain(siblings) {
        for (name, value) in &tag.parameters {
            values.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    let num_ctx = values.get("num_ctx").and_then(serde_json::Value::as_u64);
    let raw = |value: &serde_json::Value| RawValue::from_string(value.to_string()).ok();
    let options = values.iter().filter_map(|(name, value)| Some((name.as_str().into(), raw(value)?))).collect();
    RunnerOptions { options, num_ctx, profile: profile.clone() }
}

/// The loaded runner of the holder's weights, if `/api/ps` shows one under any tag of them.
fn resident(holder: &Holder) -> Option<&Resident> {
    holder.endpoint.resident.iter().find(|loaded| {
        let tag = holder.endpoint.models.get(&loaded.name);
        tag.is_some_and(|tag| tag.weights == holder.model.weights)
    })
}

//! How a runner is asked for: slots, and one settled value per runner option.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::{EndpointId, Json, LoadOrder, ModelName, ModelView, Resident};
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

/// How one runner is run: settled by the first request for it, the same for every later one.
#[derive(Debug, Clone)]
pub struct RunnerPlan {
    /// Requests it may serve at once.
    pub slots: u32,
    /// Bytes it is expected to need: weights, KV for the server's slots, and what computing takes.
    pub need: u64,
    /// Seconds its first load is expected to take.
    pub guess: f64,
    /// How long it stays in memory without work; `Duration::MAX` is for ever.
    pub keep_alive: Duration,
    /// What every call for it carries.
    pub order: Arc<LoadOrder>,
    /// Whether the profile's fallback is in force, because the profile does not fit into the endpoint's memory.
    pub reduced: bool,
    profile: RunnerProfile,
}

impl RunnerPlan {
    /// Whether it is still right for this holder and profile: a tag by which the runner is addressed may have gone.
    pub(super) fn holds(&self, holder: &Holder, profile: &RunnerProfile) -> bool {
        let tag = ModelName::parse(&self.order.model).ok().and_then(|name| holder.endpoint.models.get(&name));
        self.profile == *profile && tag.is_some_and(|tag| tag.weights == holder.model.weights)
    }
}

/// What an endpoint is configured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointPlan {
    /// `OLLAMA_NUM_PARALLEL`.
    pub num_parallel: u32,
    /// Bytes of memory for models, where known.
    pub memory: Option<u64>,
}

/// Slots of a runner on a server configured with `configured` (`OLLAMA_NUM_PARALLEL`): one where Ollama forces one.
#[must_use]
pub fn slots(model: &ModelView, configured: u32) -> u32 {
    if one_at_a_time(model) { 1 } else { configured.max(1) }
}

/// Whether Ollama runs one request of this model at a time, whatever is configured.
#[must_use]
pub fn one_at_a_time(model: &ModelView) -> bool {
    !model.generates() || model.format != "gguf" || ONE_SLOT_FAMILIES.contains(&model.family.as_str())
}

/// Settles how a holder's runner is run.
pub(super) fn settle(
    holder: &Holder,
    profile: &RunnerProfile,
    endpoint: EndpointPlan,
    keep_alive: KeepAlive,
) -> RunnerPlan {
    let model = &holder.model;
    let slots = slots(model, endpoint.num_parallel);
    let whole = Choice::of(holder, profile, slots, endpoint.memory);
    let fallback = profile.fallback.as_deref().zip(endpoint.memory).filter(|(_, memory)| whole.need > *memory);
    let (written, reduced) = (profile, fallback.is_some());
    let (profile, Choice { values, need }) = match fallback {
        None => (profile, whole),
        Some((smaller, memory)) => {
            let choice = Choice::of(holder, smaller, slots, endpoint.memory);
            tell(holder, written, (whole.need, choice.need, memory));
            (smaller, choice)
        }
    };
    let options = values.iter().map(|(name, value)| (name.clone().into(), Json::known(value.to_string()))).collect();
    let keep_alive = profile.keep_alive.unwrap_or(keep_alive).time();
    let order = LoadOrder {
        model: model.name.to_string(),
        options,
        keep_alive: beyond(keep_alive),
        embeds: !model.generates(),
    };
    RunnerPlan {
        slots: slots.min(profile.num_parallel.unwrap_or(u32::MAX)).max(1),
        need,
        guess: guess(model.size),
        keep_alive,
        order: Arc::new(order),
        reduced,
        profile: written.clone(),
    }
}

/// What a profile comes to on an endpoint.
struct Choice {
    values: BTreeMap<String, serde_json::Value>,
    /// Bytes.
    need: u64,
}

impl Choice {
    fn of(holder: &Holder, profile: &RunnerProfile, slots: u32, memory: Option<u64>) -> Self {
        let values = options(holder, profile);
        let num_ctx = values.get("num_ctx").and_then(serde_json::Value::as_u64);
        Self { need: need(&holder.model, num_ctx, slots, memory), values }
    }
}

/// Says, once for each plan, that a fallback is in force; bytes are those of profile, fallback, and memory.
fn tell(holder: &Holder, profile: &RunnerProfile, (whole, smaller, memory): (u64, u64, u64)) {
    let (model, endpoint) = (&holder.model.name, &holder.endpoint.name);
    if smaller <= memory {
        tracing::info!(
            %model, %endpoint, profile = %profile.source, need = whole, fallback_need = smaller, memory,
            "the profile does not fit into the endpoint's memory: its fallback is used"
        );
    } else {
        tracing::warn!(
            %model, %endpoint, profile = %profile.source, need = whole, fallback_need = smaller, memory,
            "neither the profile nor its fallback fits into the endpoint's memory: give it a smaller one"
        );
    }
}

/// Profile first, then what the resident runner has, then the tag's own, then those of other tags of the same weights.
/// What none of them names is left to Ollama, for every tag alike, which never reloads either.
fn options(holder: &Holder, profile: &RunnerProfile) -> BTreeMap<String, serde_json::Value> {
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
    values
}

/// What Ollama is told to keep an idle runner for: longer than we do, so that its timer never acts before ours, and
/// not for ever, so that nothing stays behind when the gateway goes.
fn beyond(keep_alive: Duration) -> Duration {
    match keep_alive {
        Duration::MAX => Duration::MAX,
        ours => (ours * 2).max(ours + Duration::from_secs(600)),
    }
}

/// Bytes for weights, KV of every slot, and computing. What `/api/ps` reports later counts more.
fn need(model: &ModelView, num_ctx: Option<u64>, slots: u32, memory: Option<u64>) -> u64 {
    let context = num_ctx.unwrap_or_else(|| automatic_context(memory));
    let context = context.min(model.context_length.unwrap_or(u64::MAX));
    let kv = model.kv_bytes_per_token.saturating_mul(context).saturating_mul(u64::from(slots));
    // a tenth of the weights, and some for the runner itself
    model.size.saturating_add(model.size / 10).saturating_add(kv).saturating_add(128 << 20)
}

/// Ollama's own choice of context by the memory it finds (`ollama-facts` 2.5).
fn automatic_context(memory: Option<u64>) -> u64 {
    match memory.unwrap_or(0) >> 30 {
        47.. => 262_144,
        23.. => 32_768,
        _ => 4096,
    }
}

/// A first guess of a load's time: a gigabyte a second and a second.
#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
fn guess(size: u64) -> f64 {
    size as f64 / 1e9 + 1.0
}

/// The loaded runner of the holder's weights, if `/api/ps` shows one under any tag of them.
pub(super) fn resident(holder: &Holder) -> Option<&Resident> {
    holder.endpoint.resident.iter().find(|loaded| {
        let tag = holder.endpoint.models.get(&loaded.name);
        tag.is_some_and(|tag| tag.weights == holder.model.weights)
    })
}

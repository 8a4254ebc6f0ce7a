//! What is known of the upstream servers: which models each has, what is resident, whether it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::{EndpointId, ModelName, Moment};

/// A snapshot of every endpoint.
#[derive(Debug, Clone, Default)]
pub struct FleetView {
    /// One entry per configured endpoint, in order.
    pub endpoints: Vec<Arc<EndpointView>>,
}

impl FleetView {
    /// The endpoints that answer and have `name`, each with what it knows of the model.
    pub fn holders<'a>(
        &'a self,
        name: &'a ModelName,
    ) -> impl Iterator<Item = (&'a Arc<EndpointView>, &'a Arc<ModelView>)> {
        self.with(name, true)
    }

    /// The same, and after them those that do not answer now and had it when they last did.
    pub fn known_holders<'a>(
        &'a self,
        name: &'a ModelName,
    ) -> impl Iterator<Item = (&'a Arc<EndpointView>, &'a Arc<ModelView>)> {
        self.with(name, true).chain(self.with(name, false))
    }

    fn with<'a>(
        &'a self,
        name: &'a ModelName,
        answers: bool,
    ) -> impl Iterator<Item = (&'a Arc<EndpointView>, &'a Arc<ModelView>)> {
        self.endpoints
            .iter()
            .filter(move |endpoint| endpoint.trouble.is_none() == answers)
            .filter_map(move |endpoint| endpoint.models.get(name).map(|model| (endpoint, model)))
    }
}

/// One upstream Ollama as last seen.
#[derive(Debug, Clone)]
pub struct EndpointView {
    /// Its position in the configuration.
    pub id: EndpointId,
    /// Its name in the configuration.
    pub name: String,
    /// Its base URL, without credentials, for people.
    pub url: String,
    /// `/api/version`.
    pub version: Option<String>,
    /// Why it cannot be used now; `None` when it answers.
    pub trouble: Option<String>,
    /// Why it is left alone for a while although it answers: its calls kept failing.
    pub ejected: Option<String>,
    /// `/api/tags`, by canonical name.
    pub models: BTreeMap<ModelName, Arc<ModelView>>,
    /// `/api/ps`.
    pub resident: Vec<Resident>,
    /// When that was asked.
    pub asked: Moment,
}

impl EndpointView {
    /// The tags of these weights, which people know and the scheduler does not.
    pub fn tags_of<'a>(&'a self, weights: &'a str) -> impl Iterator<Item = &'a ModelName> {
        self.models.values().filter(move |model| model.weights == weights).map(|model| &model.name)
    }

    /// Whether requests may be sent there now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.trouble.is_none() && self.ejected.is_none()
    }
}

/// One tag on one endpoint, with what `/api/show` says of it.
#[derive(Debug, Clone)]
pub struct ModelView {
    /// The canonical name.
    pub name: ModelName,
    /// Its place in the server's own listing, newest first.
    pub rank: usize,
    /// When the manifest was written, RFC 3339.
    pub modified_at: String,
    /// SHA-256 of the manifest, 64 hex digits.
    pub digest: String,
    /// The weights' blob (`sha256-…`): tags that share it share one runner.
    pub weights: String,
    /// Bytes of all layers.
    pub size: u64,
    /// `details.family`.
    pub family: String,
    /// `details.format` (`gguf`, `safetensors`).
    pub format: String,
    /// `completion`, `embedding`, `tools`, …
    pub capabilities: Vec<String>,
    /// Bytes of KV cache per token of context (16-bit), by the model's shape; 0 where unknown.
    pub kv_bytes_per_token: u64,
    /// The trained context length, where known.
    pub context_length: Option<u64>,
    /// Runner options among the tag's own `PARAMETER`s, as JSON values.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The tag's own `PARAMETER num_predict`, where that bounds.
    pub output_cap: Option<u64>,
    /// Served from another host (`remote_host`), so using it sends prompts off-site.
    pub remote: bool,
    /// The entry of `/api/tags` as upstream wrote it.
    pub entry: Box<RawValue>,
}

impl ModelView {
    /// Whether it writes text; one that does not makes vectors.
    #[must_use]
    pub fn generates(&self) -> bool {
        self.capabilities.iter().any(|capability| capability == "completion")
    }
}

/// One loaded runner as `/api/ps` shows it.
#[derive(Debug, Clone)]
pub struct Resident {
    /// The tag that caused the load.
    pub name: ModelName,
    /// Its weights, where the tag still says.
    pub weights: String,
    /// That tag's manifest digest at the time.
    pub digest: String,
    /// Bytes in memory, all slots.
    pub size: u64,
    /// Bytes of them in GPU memory.
    pub size_vram: u64,
    /// `num_ctx` in force per slot.
    pub context_length: Option<u64>,
    /// The entry of `/api/ps` as upstream wrote it.
    pub entry: Box<RawValue>,
}

impl Resident {
    /// Bytes that should be in GPU memory and are not; a server without a GPU (nothing in its memory) spills nothing.
    #[must_use]
    pub fn spilled(&self) -> u64 {
        if self.size_vram == 0 { 0 } else { self.size.saturating_sub(self.size_vram) }
    }
}

//! Pollers that keep the `FleetView` true: `/api/tags`, `/api/ps`, `/api/version`, and `/api/show` once per digest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::{Clock, EndpointId, EndpointView, FleetView, ModelName, ModelView, Moment, Resident};

use super::client::{Client, Endpoint};

/// Between two polls of an endpoint when nobody asks for one.
const PACE: Duration = Duration::from_secs(5);

/// Runner options that a tag's own `PARAMETER` lines may set (`ollama-facts` 2.4).
const RUNNER_OPTIONS: [&str; 7] =
    ["num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"];

/// The pollers; clones are handles to the same ones.
#[derive(Debug, Clone)]
pub struct Discovery(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    clock: Clock,
    fleet: watch::Sender<Arc<FleetView>>,
    /// When each endpoint was last asked; the lock makes concurrent refreshes share one poll.
    asked: Vec<Mutex<Option<Moment>>>,
    hurry: Notify,
}

impl Discovery {
    /// Pollers that have not asked anybody yet.
    #[must_use]
    pub fn new(client: Client, clock: Clock) -> Self {
        let blank = |endpoint: &Endpoint| {
            Arc::new(EndpointView {
                id: endpoint.id,
                name: endpoint.name.clone(),
                url: endpoint.base.clone(),
                version: None,
                trouble: Some("not asked yet".to_owned()),
                models: BTreeMap::new(),
                resident: Vec::new(),
                asked: Moment::ZERO,
            })
        };
        let fleet = FleetView { endpoints: client.endpoints.iter().map(blank).collect() };
        let asked = client.endpoints.iter().map(|_| Mutex::new(None)).collect();
        Self(Arc::new(Inner { client, clock, fleet: watch::Sender::new(Arc::new(fleet)), asked, hurry: Notify::new() }))
    }

    /// The view, now and as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<FleetView>> {
        self.0.fleet.subscribe()
    }

    /// Polls every endpoint at its pace until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            self.refresh(Duration::ZERO).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PACE) => {}
                () = self.0.hurry.notified() => {}
            }
        }
    }

    /// Something went wrong or changed: poll soon.
    pub fn hurry(&self) {
        self.0.hurry.notify_one();
    }

    /// Makes the view at most `max_age` old. Concurrent calls share one poll.
    pub async fn refresh(&self, max_age: Duration) {
        let asked_at = self.0.clock.now();
        let polls = self.0.client.endpoints.iter().map(|endpoint| self.refresh_one(endpoint, asked_at, max_age));
        futures_util::future::join_all(polls).await;
    }

    async fn refresh_one(&self, endpoint: &Endpoint, asked_at: Moment, max_age: Duration) {
        let Some(gate) = self.0.asked.get(usize::from(endpoint.id.0)) else { return };
        let mut last = gate.lock().await;
        if last.is_some_and(|at| at >= asked_at || asked_at.since(at) < max_age) {
            return;
        }
        let known = self.0.fleet.borrow().endpoints.get(usize::from(endpoint.id.0)).cloned();
        if let Some(known) = known {
            let asked = self.0.clock.now();
            self.publish(endpoint.id, poll(&self.0.client, endpoint, &known, asked).await);
        }
        *last = Some(self.0.clock.now());
    }

    fn publish(&self, id: EndpointId, view: EndpointView) {
        self.0.fleet.send_modify(|fleet| {
            let slot = usize::from(id.0);
            if let Some(old) = fleet.endpoints.get(slot) {
                tell(old, &view);
            }
            if let Some(place) = Arc::make_mut(fleet).endpoints.get_mut(slot) {
                *place = Arc::new(view);
            }
        });
    }
}

fn tell(old: &EndpointView, new: &EndpointView) {
    let known = |loaded: &Resident| old.resident.iter().any(|before| before.weights == loaded.weights);
    for loaded in new.resident.iter().filter(|loaded| loaded.spilled() > 0 && !known(loaded)) {
        tracing::warn!(
            endpoint = %new.url, model = %loaded.name, bytes = loaded.size, on_gpu = loaded.size_vram,
            "a model does not fit on the GPU: part of it runs on the CPU, slowly; give it a smaller context or more memory"
        );
    }
    match (&old.trouble, &new.trouble) {
        (Some(_), None) => tracing::info!(
            endpoint = %new.url, version = new.version.as_deref().unwrap_or("?"), models = new.models.len(),
            "the Ollama server answers"
        ),
        (before, Some(why)) if before.as_ref() != Some(why) => {
            tracing::warn!(endpoint = %new.url, %why, "the Ollama server cannot be used");
        }
        _ => {}
    }
}

/// Asks one endpoint for everything. What it does not answer keeps its last known value; only silence on `/api/tags`
/// makes it unusable (`/api/ps` may stall while a runner is being unloaded, `ollama-facts` 3).
async fn poll(client: &Client, endpoint: &Endpoint, known: &EndpointView, asked: Moment) -> EndpointView {
    let mut view = known.clone();
    let (tags, ps) = tokio::join!(client.get(endpoint, "/api/tags"), client.get(endpoint, "/api/ps"));
    let tags = match tags.and_then(|body| entries(&body)) {
        Ok(tags) => tags,
        Err(why) => {
            view.trouble = Some(why);
            return view;
        }
    };
    view.models = models(client, endpoint, known, tags).await;
    if let Ok(loaded) = ps.and_then(|body| entries(&body)) {
        view.resident = loaded.into_iter().filter_map(|entry| resident(entry, &view.models)).collect();
        view.asked = asked;
    }
    if known.trouble.is_some() || known.version.is_none() {
        let version = client.get(endpoint, "/api/version").await.ok();
        view.version = version.and_then(|body| serde_json::from_slice::<Version>(&body).ok()).map(|v| v.version);
    }
    view.trouble = None;
    view
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Listing {
    models: Option<Vec<Box<RawValue>>>,
}

fn entries(body: &[u8]) -> Result<Vec<Box<RawValue>>, String> {
    let listing: Listing =
        serde_json::from_slice(body).map_err(|error| format!("its model list is not readable: {error}"))?;
    Ok(listing.models.unwrap_or_default())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Tag {
    name: String,
    digest: String,
    size: u64,
    modified_at: String,
    details: Details,
    capabilities: Option<Vec<String>>,
    remote_host: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    format: String,
    family: String,
    context_length: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Loaded {
    name: String,
    digest: String,
    size: u64,
    size_vram: u64,
    context_length: Option<u64>,
}

fn resident(entry: Box<RawValue>, models: &BTreeMap<ModelName, Arc<ModelView>>) -> Option<Resident> {
    let loaded: Loaded = serde_json::from_str(entry.get()).ok()?;
    let name = ModelName::parse(&loaded.name).ok()?;
    // a tag that moved since no longer says which weights it loaded
    let tag = models.get(&name).filter(|tag| tag.digest == loaded.digest);
    Some(Resident {
        weights: tag.map_or_else(|| format!("digest:{}", loaded.digest), |tag| tag.weights.clone()),
        name,
        digest: loaded.digest,
        size: loaded.size,
        size_vram: loaded.size_vram,
        context_length: loaded.context_length,
        entry,
    })
}

/// The tags as models, in the server's order of listing; `/api/show` is asked only for a digest not seen before.
async fn models(
    client: &Client,
    endpoint: &Endpoint,
    known: &EndpointView,
    tags: Vec<Box<RawValue>>,
) -> BTreeMap<ModelName, Arc<ModelView>> {
    let mut models = BTreeMap::new();
    for (rank, entry) in tags.into_iter().enumerate() {
        let Ok(tag) = serde_json::from_str::<Tag>(entry.get()) else { continue };
        let Ok(name) = ModelName::parse(&tag.name) else { continue };
        let gguf = tag.details.format == "gguf";
        // a GGUF tag has a blob: where `/api/show` did not tell, it is asked again
        let still = |old: &&Arc<ModelView>| old.digest == tag.digest && (!gguf || old.weights.starts_with("sha256-"));
        let shown = match known.models.get(&name).filter(still) {
            Some(old) => Shown {
                weights: Some(old.weights.clone()),
                parameters: old.parameters.clone(),
                kv_bytes_per_token: old.kv_bytes_per_token,
            },
            None => show(client, endpoint, &tag.name).await,
        };
        let model = ModelView {
            name: name.clone(),
            rank,
            weights: shown.weights.unwrap_or_else(|| format!("digest:{}", tag.digest)),
            digest: tag.digest,
            size: tag.size,
            modified_at: tag.modified_at,
            family: tag.details.family,
            format: tag.details.format,
            capabilities: tag.capabilities.unwrap_or_default(),
            kv_bytes_per_token: shown.kv_bytes_per_token,
            context_length: tag.details.context_length,
            parameters: shown.parameters,
            remote: tag.remote_host.is_some_and(|host| !host.is_empty()),
            entry,
        };
        models.insert(name, Arc::new(model));
    }
    models
}

#[derive(Default)]
struct Shown {
    weights: Option<String>,
    parameters: BTreeMap<String, serde_json::Value>,
    kv_bytes_per_token: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ShowReply {
    modelfile: String,
    parameters: String,
    model_info: serde_json::Map<String, serde_json::Value>,
}

async fn show(client: &Client, endpoint: &Endpoint, name: &str) -> Shown {
    let body = serde_json::json!({ "model": name }).to_string().into_bytes();
    match client.ask(endpoint, "/api/show", body).await {
        Ok((200, body)) => {
            let reply: ShowReply = serde_json::from_slice(&body).unwrap_or_default();
            Shown {
                weights: weights_blob(&reply.modelfile),
                parameters: runner_parameters(&reply.parameters),
                kv_bytes_per_token: kv_bytes_per_token(&reply.model_info),
            }
        }
        Ok((status, _)) => assumed(name, &format!("status {status}")),
        Err(why) => assumed(name, &why),
    }
}

fn assumed(model: &str, why: &str) -> Shown {
    tracing::warn!(
        model,
        why,
        "/api/show failed: until it answers, the model is taken to share its weights with no other tag"
    );
    Shown::default()
}

/// The blob in the modelfile's `FROM /…/blobs/sha256-…` line: what Ollama keys its runners by (`ollama-facts` 0).
fn weights_blob(modelfile: &str) -> Option<String> {
    let from = modelfile.lines().find_map(|line| line.strip_prefix("FROM "))?;
    let blob = from.trim().trim_matches('"').rsplit(['/', '\\']).next()?;
    blob.starts_with("sha256-").then(|| blob.to_owned())
}

/// Layers × KV heads × (key + value length) × 2 bytes, from the model's metadata (`ollama-facts` 3). Layers with a sliding
/// window or a recurrent state need less: what `/api/ps` reports corrects it.
fn kv_bytes_per_token(info: &serde_json::Map<String, serde_json::Value>) -> u64 {
    let family = info.get("general.architecture").and_then(serde_json::Value::as_str).unwrap_or_default();
    let number = |key: &str| info.get(&format!("{family}.{key}")).and_then(serde_json::Value::as_u64);
    let heads = number("attention.head_count").unwrap_or(1).max(1);
    let head = number("embedding_length").unwrap_or(0) / heads;
    let key = number("attention.key_length").unwrap_or(head);
    let value = number("attention.value_length").unwrap_or(head);
    let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
    let layers = number("block_count").unwrap_or(0);
    // absurd metadata must not make a model unloadable: no real one needs more than 16 MiB per token
    layers.saturating_mul(kv_heads).saturating_mul(key.saturating_add(value)).saturating_mul(2).min(16 << 20)
}

/// The runner options among the lines `name   value` of `parameters`.
fn runner_parameters(text: &str) -> BTreeMap<String, serde_json::Value> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let Some((name, value)) = line.trim().split_once(char::is_whitespace) else { continue };
        if RUNNER_OPTIONS.contains(&name)
            && let Ok(value) = serde_json::from_str(value.trim())
        {
            found.insert(name.to_owned(), value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_are_the_blob_of_the_from_line() {
        let modelfile = "# Modelfile generated by \"ollama show\"\n# FROM gemma:a\n\n\
                         FROM /usr/share/ollama/.ollama/models/blobs/sha256-eea8\nTEMPLATE x\n";
        assert_eq!(weights_blob(modelfile).as_deref(), Some("sha256-eea8"));
        assert_eq!(weights_blob("FROM C:\\models\\blobs\\sha256-01\n").as_deref(), Some("sha256-01"));
        assert_eq!(weights_blob("FROM llama3\n"), None);
        assert_eq!(weights_blob(""), None);
    }

    #[test]
    fn only_runner_options_are_taken_from_parameters() {
        let text = "num_ctx                        2048\nstop                           \"\\n\\n\"\nuse_mmap true\nodd";
        let found = runner_parameters(text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found["num_ctx"], 2048);
        assert_eq!(found["use_mmap"], true);
    }
}

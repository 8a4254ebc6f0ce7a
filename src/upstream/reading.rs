//! What an endpoint's answers say, read as a stranger's.
//!
//! Owns the forms of `/api/tags`, `/api/ps`, `/api/show` and `/api/version`, and how they become the domain's views. A
//! field that is missing, of another type or absurd costs that field, never its entry: a model that is loaded is counted
//! whatever else is said of it. Fetching is `discovery`'s. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::{ModelName, ModelView, Resident};

/// Runner options that a tag's own `PARAMETER` lines may set (`ollama-facts` 2.4).
const RUNNER_OPTIONS: [&str; 7] =
    ["num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"];
/// No model has more bytes: sums of such sizes stay far below what a `u64` holds.
const MOST_BYTES: u64 = 1 << 50;
/// No model has a longer context, in tokens.
const MOST_CONTEXT: u64 = 1 << 24;
/// No model has more layers, or heads in one.
const MOST_LAYERS: usize = 4096;
/// No model needs more KV cache per token, in bytes: absurd metadata must not make one unloadable.
const MOST_KV: u64 = 16 << 20;

/// An entry of `/api/tags`.
#[derive(Debug, Clone)]
pub(super) struct Tag {
    pub(super) name: ModelName,
    /// SHA-256 of the manifest.
    pub(super) digest: String,
    rank: usize,
    fields: TagFields,
    entry: Box<RawValue>,
}

impl Tag {
    /// A GGUF tag has a blob of weights, which `/api/show` tells.
    pub(super) fn has_blob(&self) -> bool {
        self.fields.details.format == "gguf"
    }
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct TagFields {
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    digest: String,
    #[serde(deserialize_with = "size")]
    size: u64,
    #[serde(deserialize_with = "lenient")]
    modified_at: String,
    #[serde(deserialize_with = "lenient")]
    details: Details,
    #[serde(deserialize_with = "lenient")]
    capabilities: Vec<String>,
    #[serde(deserialize_with = "lenient")]
    remote_host: String,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct Details {
    #[serde(deserialize_with = "lenient")]
    format: String,
    #[serde(deserialize_with = "lenient")]
    family: String,
    #[serde(deserialize_with = "context")]
    context_length: Option<u64>,
}

/// An entry of `/api/ps`.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    name: ModelName,
    fields: LoadedFields,
    entry: Box<RawValue>,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct LoadedFields {
    #[serde(deserialize_with = "lenient")]
    name: String,
    #[serde(deserialize_with = "lenient")]
    digest: String,
    #[serde(deserialize_with = "size")]
    size: u64,
    #[serde(deserialize_with = "size")]
    size_vram: u64,
    #[serde(deserialize_with = "context")]
    context_length: Option<u64>,
}

/// What `/api/show` says of a tag.
#[derive(Debug, Clone, Default)]
pub(super) struct Shown {
    /// The blob of its weights; `None` where it was not told.
    pub(super) weights: Option<String>,
    parameters: BTreeMap<String, Value>,
    output_cap: Option<u64>,
    kv_bytes_per_token: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ShowReply {
    #[serde(deserialize_with = "lenient")]
    modelfile: String,
    #[serde(deserialize_with = "lenient")]
    parameters: String,
    #[serde(deserialize_with = "lenient")]
    model_info: serde_json::Map<String, Value>,
}

/// The default where the value is of another type.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(from: D) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).unwrap_or_default())
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Ok(whole(&Value::deserialize(from)?).unwrap_or(0).min(MOST_BYTES))
}

fn context<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Ok(whole(&Value::deserialize(from)?).filter(|tokens| (1..=MOST_CONTEXT).contains(tokens)))
}

/// A number that is none below zero; fractions are cut and what is too large for a `u64` is the largest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and the cast saturates")]
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64))
}

/// The entries of a list of models, each read with its own text; one without a usable name is left out.
fn entries<F: DeserializeOwned>(body: &[u8]) -> Result<Vec<(F, Box<RawValue>)>, String> {
    #[derive(Deserialize)]
    struct Listing {
        models: Box<RawValue>,
    }
    let read = |error: serde_json::Error| format!("its model list is not readable: {error}");
    let listing: Listing = serde_json::from_slice(body).map_err(read)?;
    // an empty list may be null
    let models: Option<Vec<Box<RawValue>>> = serde_json::from_str(listing.models.get()).map_err(read)?;
    let models = models.unwrap_or_default().into_iter();
    Ok(models.filter_map(|entry| Some((serde_json::from_str(entry.get()).ok()?, entry))).collect())
}

/// `/api/tags`, in the server's order.
///
/// # Errors
/// What is wrong with the list as a whole.
pub(super) fn tags(body: &[u8]) -> Result<Vec<Tag>, String> {
    let tag = |(rank, (fields, entry)): (usize, (TagFields, Box<RawValue>))| {
        let name = ModelName::parse(&fields.name).ok()?;
        Some(Tag { name, digest: fields.digest.clone(), rank, fields, entry })
    };
    Ok(entries(body)?.into_iter().enumerate().filter_map(tag).collect())
}

/// `/api/ps`.
///
/// # Errors
/// What is wrong with the list as a whole.
pub(super) fn loaded(body: &[u8]) -> Result<Vec<Loaded>, String> {
    let loaded = |(fields, entry): (LoadedFields, Box<RawValue>)| {
        let name = ModelName::parse(&fields.name).ok()?;
        Some(Loaded { name, fields, entry })
    };
    Ok(entries(body)?.into_iter().filter_map(loaded).collect())
}

/// `/api/version`.
pub(super) fn version(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    serde_json::from_slice::<Version>(body).ok().map(|reply| reply.version)
}

/// `/api/show`.
pub(super) fn shown(body: &[u8]) -> Shown {
    let reply: ShowReply = serde_json::from_slice(body).unwrap_or_default();
    Shown {
        weights: weights_blob(&reply.modelfile),
        parameters: runner_parameters(&reply.parameters),
        output_cap: parameters(&reply.parameters)
            .find_map(|(name, value)| whole(&value).filter(|tokens| name == "num_predict" && *tokens > 0)),
        kv_bytes_per_token: kv_bytes_per_token(&reply.model_info),
    }
}

/// A tag as the fleet view has it.
pub(super) fn model(tag: &Tag, shown: &Shown) -> ModelView {
    let fields = &tag.fields;
    ModelView {
        name: tag.name.clone(),
        rank: tag.rank,
        weights: shown.weights.clone().unwrap_or_else(|| format!("digest:{}", tag.digest)),
        digest: tag.digest.clone(),
        size: fields.size,
        modified_at: fields.modified_at.clone(),
        family: fields.details.family.clone(),
        format: fields.details.format.clone(),
        capabilities: fields.capabilities.clone(),
        kv_bytes_per_token: shown.kv_bytes_per_token,
        context_length: fields.details.context_length,
        parameters: shown.parameters.clone(),
        output_cap: shown.output_cap,
        remote: !fields.remote_host.is_empty(),
        entry: tag.entry.clone(),
    }
}

/// A loaded runner as the fleet view has it; `before` is what was loaded when it was asked last.
pub(super) fn resident(loaded: &Loaded, models: &BTreeMap<ModelName, Arc<ModelView>>, before: &[Resident]) -> Resident {
    let fields = &loaded.fields;
    // a tag that was removed or moved since no longer says which weights it loaded: what it said then holds
    let tag = models.get(&loaded.name).filter(|tag| tag.digest == fields.digest);
    let told = before.iter().find(|told| told.name == loaded.name && told.digest == fields.digest);
    let weights = tag.map(|tag| &tag.weights).or(told.map(|told| &told.weights));
    // whatever is loaded takes memory, also where the server does not say how much
    let least = if fields.size == 0 { tag.map_or(0, |tag| tag.size) } else { 0 };
    Resident {
        weights: weights.cloned().unwrap_or_else(|| format!("digest:{}", fields.digest)),
        name: loaded.name.clone(),
        digest: fields.digest.clone(),
        size: fields.size.max(fields.size_vram).max(least),
        size_vram: fields.size_vram,
        context_length: fields.context_length,
        entry: loaded.entry.clone(),
    }
}

/// The blob in the modelfile's `FROM /…/blobs/sha256-…` line: what Ollama keys its runners by (`ollama-facts` 0).
fn weights_blob(modelfile: &str) -> Option<String> {
    let from = modelfile.lines().find_map(|line| line.strip_prefix("FROM "))?;
    let blob = from.trim().trim_matches('"').rsplit(['/', '\\']).next()?;
    blob.starts_with("sha256-").then(|| blob.to_owned())
}

/// Layers × KV heads × (key + value length) × 2 bytes, from the model's metadata (`ollama-facts` 3). Layers with a sliding
/// window or a recurrent state need less: what `/api/ps` reports corrects it.
fn kv_bytes_per_token(info: &serde_json::Map<String, Value>) -> u64 {
    let family = info.get("general.architecture").and_then(Value::as_str).unwrap_or_default();
    let field = |key: &str| info.get(&format!("{family}.{key}"));
    let number = |key: &str| field(key).and_then(whole);
    let heads = number("attention.head_count").unwrap_or(1).max(1);
    let head = number("embedding_length").unwrap_or(0) / heads;
    let key = number("attention.key_length").unwrap_or(head);
    let value = number("attention.value_length").unwrap_or(head);
    // layers that differ are an array, which is null without `verbose`: then every head counts, which is the most it can be
    let over_all_layers = match field("attention.head_count_kv") {
        Some(Value::Array(each)) => {
            each.iter().take(MOST_LAYERS).filter_map(whole).fold(0, |sum: u64, heads| sum.saturating_add(heads))
        }
        one => number("block_count").unwrap_or(0).saturating_mul(one.and_then(whole).unwrap_or(heads)),
    };
    over_all_layers.saturating_mul(key.saturating_add(value)).saturating_mul(2).min(MOST_KV)
}

/// The lines `name   value` of `parameters` whose values are JSON.
fn parameters(text: &str) -> impl Iterator<Item = (&str, Value)> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
    pairs.filter_map(|(name, value)| Some((name, serde_json::from_str(value.trim()).ok()?)))
}

/// The runner options among them.
fn runner_parameters(text: &str) -> BTreeMap<String, Value> {
    let runner = parameters(text).filter(|(name, _)| RUNNER_OPTIONS.contains(name));
    runner.map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn kv(info: &Value) -> u64 {
        kv_bytes_per_token(info.as_object().unwrap())
    }

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
        let cap = |text: &str| shown(json!({ "parameters": text }).to_string().as_bytes()).output_cap;
        assert_eq!(
            (cap("stop \"x\"\nnum_predict   7"), cap("num_predict -1"), cap("num_predict x"), cap(text)),
            (Some(7), None, None, None)
        );
    }

    #[test]
    fn what_a_token_of_context_takes_is_read_from_one_number_or_many_and_never_less_than_it_can_be() {
        let gemma = json!({
            "general.architecture": "x", "x.block_count": 4, "x.embedding_length": 512,
            "x.attention.head_count": 8, "x.attention.head_count_kv": 2,
        });
        assert_eq!(kv(&gemma), 4 * 2 * (64 + 64) * 2);
        let with = |heads: Value| {
            let mut info = gemma.clone();
            info["x.attention.head_count_kv"] = heads;
            kv(&info)
        };
        assert_eq!(with(json!([8, 0, 2, 0])), (8 + 2) * 128 * 2, "layer by layer");
        let most = 4 * 8 * 128 * 2;
        for untold in [Value::Null, json!("two"), json!(-2), json!({})] {
            assert_eq!(with(untold.clone()), most, "{untold}: as many as there are heads");
        }
        assert_eq!(with(json!(["x", -1, null, 3])), 3 * 128 * 2);
        for absurd in [json!(u64::MAX), json!(1e300), Value::Array(vec![json!(u64::MAX); 9000])] {
            assert_eq!(with(absurd), MOST_KV);
        }
        let mut info = gemma.clone();
        for key in ["block_count", "embedding_length", "attention.head_count", "attention.key_length"] {
            for absurd in [json!(u64::MAX), json!(-1), json!(0), json!([]), json!("many"), json!(0.5), Value::Null] {
                info[format!("x.{key}")] = absurd;
                assert!(kv(&info) <= MOST_KV, "{info}");
            }
        }
        assert_eq!(kv(&json!({})), 0);
        assert_eq!(kv(&json!({"general.architecture": 7, "x.block_count": 4})), 0);
    }

    #[test]
    fn a_list_that_is_none_is_an_error_and_an_odd_entry_costs_what_is_odd() {
        for garbage in ["", "<html>", "[]", "{}", "{\"models\":7}", "{\"models\":{}}", "7", "null"] {
            assert!(tags(garbage.as_bytes()).is_err(), "{garbage}");
            assert!(loaded(garbage.as_bytes()).is_err(), "{garbage}");
        }
        assert!(tags(b"{\"models\":null}").unwrap().is_empty());
        let body = json!({"models": [
            null, 7, [], {}, {"name": 7}, {"name": "a b"},
            {"name": "bare"},
            {"name": "odd", "digest": 7, "size": -5, "modified_at": null, "details": [], "capabilities": "all",
             "remote_host": null},
            {"name": "large", "size": 1e300, "details": {"format": "gguf", "family": null, "context_length": 1e30}},
        ]});
        let tags = tags(body.to_string().as_bytes()).unwrap();
        let models: Vec<_> = tags.iter().map(|tag| model(tag, &Shown::default())).collect();
        let names: Vec<_> = models.iter().map(|model| model.name.to_string()).collect();
        assert_eq!(names, ["bare:latest", "odd:latest", "large:latest"]);
        assert_eq!((models[1].size, models[1].remote, models[1].capabilities.len()), (0, false, 0));
        assert_eq!((models[2].size, models[2].context_length), (MOST_BYTES, None));
        assert!(tags[2].has_blob() && !tags[1].has_blob());
    }

    #[test]
    fn what_is_loaded_keeps_its_weights_when_its_tag_goes() {
        let tags = tags(br#"{"models":[{"name":"m","digest":"d"}]}"#).unwrap();
        let shown = Shown { weights: Some("sha256-w".to_owned()), ..Shown::default() };
        let models = tags.iter().map(|tag| (tag.name.clone(), Arc::new(model(tag, &shown)))).collect();
        let entry = loaded(br#"{"models":[{"name":"m","digest":"d","size":7}]}"#).unwrap().remove(0);
        let before = resident(&entry, &models, &[]);
        let after = resident(&entry, &BTreeMap::new(), std::slice::from_ref(&before));
        assert_eq!((before.weights.as_str(), after.weights.as_str()), ("sha256-w", "sha256-w"));
        assert_eq!(resident(&entry, &BTreeMap::new(), &[]).weights, "digest:d", "nobody ever said");
    }

    #[test]
    fn what_is_loaded_counts_whatever_is_said_of_it() {
        let tags = tags(br#"{"models":[{"name":"m","digest":"d","size":700}]}"#).unwrap();
        let models: BTreeMap<_, _> =
            tags.iter().map(|tag| (tag.name.clone(), Arc::new(model(tag, &Shown::default())))).collect();
        let read = |entry: Value| {
            let body = json!({"models": [entry]}).to_string();
            let loaded = loaded(body.as_bytes()).unwrap();
            resident(&loaded[0], &models, &[])
        };
        let bare = read(json!({"name": "m", "digest": "d"}));
        assert_eq!((bare.size, bare.size_vram, bare.spilled(), bare.weights.as_str()), (700, 0, 0, "digest:d"));
        let on_cpu = read(json!({"name": "m", "digest": "d", "size": 900, "size_vram": 0}));
        assert_eq!((on_cpu.size, on_cpu.spilled()), (900, 0), "a server without a GPU spills nothing");
        let spilled = read(json!({"name": "m", "digest": "d", "size": 900, "size_vram": 600}));
        assert_eq!(spilled.spilled(), 300);
        let odd = read(json!({"name": "m", "size": -1, "size_vram": "all", "context_length": -4096}));
        assert_eq!(
            (odd.size, odd.context_length, odd.weights.as_str()),
            (0, None, "digest:"),
            "no tag has that digest"
        );
        let large = read(json!({"name": "m", "digest": "d", "size": u64::MAX, "context_length": u64::MAX}));
        assert_eq!((large.size, large.context_length), (MOST_BYTES, None));
        let stranger = read(json!({"name": "other", "digest": "e", "size": 5}));
        assert_eq!((stranger.size, stranger.weights.as_str()), (5, "digest:e"));
    }
}

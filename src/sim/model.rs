//! The models a stand-in has: one table of what Ollama shows of each and how fast it pretends to be.
//!
//! Owns the file form (TOML or JSON), the defaults that are derived from a name, and nothing of what happens
//! at run time. Only `name` is required in a file.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::domain::ModelName;

/// One tag.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The tag, such as `llama3.2:3b`.
    pub name: String,
    /// SHA-256 of the manifest, 64 hex digits; derived from the name when empty.
    #[serde(default)]
    pub digest: String,
    /// The blob of the weights (64 hex digits, or any word); tags with the same one share a runner. Derived from the
    /// name when empty.
    #[serde(default)]
    pub weights: String,
    /// Bytes of all layers.
    #[serde(default = "defaults::size")]
    pub size: u64,
    /// Bytes in memory once loaded, without the context's; from `size` when absent.
    #[serde(default)]
    pub memory: Option<u64>,
    /// Bytes in GPU memory once loaded, as `/api/ps` shows them; everything when absent, 0 for a CPU.
    #[serde(default)]
    pub vram: Option<u64>,
    /// Bytes of memory per token of context and slot.
    #[serde(default)]
    pub kv_bytes_per_token: u64,
    /// `details.family`.
    #[serde(default = "defaults::family")]
    pub family: String,
    /// `details.format`: `gguf` or `safetensors`.
    #[serde(default = "defaults::format")]
    pub format: String,
    /// `details.parent_model`.
    #[serde(default)]
    pub parent: String,
    /// `details.parameter_size`, such as `3.2B`.
    #[serde(default = "defaults::parameter_size")]
    pub parameter_size: String,
    /// `details.quantization_level`.
    #[serde(default = "defaults::quantization")]
    pub quantization: String,
    /// `completion`, `tools`, `thinking`, `embedding`, `vision`, `insert`.
    #[serde(default = "defaults::capabilities")]
    pub capabilities: Vec<String>,
    /// The trained context, in tokens.
    #[serde(default = "defaults::context_length")]
    pub context_length: u64,
    /// Dimensions of an embedding.
    #[serde(default = "defaults::embedding_length")]
    pub embedding_length: usize,
    /// RFC 3339; a fixed date when empty.
    #[serde(default)]
    pub modified_at: String,
    /// Time to load, in milliseconds.
    #[serde(default = "defaults::load_ms")]
    pub load_ms: u64,
    /// Prompt tokens read per second.
    #[serde(default = "defaults::prompt_rate")]
    pub prompt_tokens_per_second: f64,
    /// Tokens made per second.
    #[serde(default = "defaults::generation_rate")]
    pub tokens_per_second: f64,
    /// Tokens per second that several answers on one runner make together, by what one makes alone: 1 shares the speed,
    /// more is a machine that gains by batches, less one that loses.
    #[serde(default = "defaults::parallel_speed")]
    pub parallel_speed: f64,
    /// What it always answers; words made from the prompt and the seed when absent.
    #[serde(default)]
    pub text: Option<String>,
    /// What it always thinks; words when absent. Only with the capability `thinking`.
    #[serde(default)]
    pub thinking: Option<String>,
    /// Tokens of an answer made of words; between 20 and 120, by the prompt, when absent.
    #[serde(default)]
    pub answer_tokens: Option<u64>,
    /// Calls a tool again even after it got a tool's result.
    #[serde(default)]
    pub keeps_calling_tools: bool,
    /// The prompt template that `/api/show` prints.
    #[serde(default = "defaults::template")]
    pub template: String,
    /// The tag's own system prompt.
    #[serde(default)]
    pub system: String,
    /// The tag's own `PARAMETER`s.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// The licence that `/api/show` prints.
    #[serde(default)]
    pub license: String,
    /// `model_info` of a verbose `/api/show`; a plausible one when empty.
    #[serde(default)]
    pub model_info: Map<String, Value>,
    /// `tensors` of `/api/show`.
    #[serde(default)]
    pub tensors: Vec<Value>,
    /// Slots, where they differ from the server's `OLLAMA_NUM_PARALLEL`.
    #[serde(default)]
    pub slots: Option<usize>,
}

mod defaults {
    pub(super) fn size() -> u64 {
        2_019_393_189
    }
    pub(super) fn family() -> String {
        "llama".into()
    }
    pub(super) fn format() -> String {
        "gguf".into()
    }
    pub(super) fn parameter_size() -> String {
        "3.2B".into()
    }
    pub(super) fn quantization() -> String {
        "Q4_K_M".into()
    }
    pub(super) fn capabilities() -> Vec<String> {
        vec!["completion".into()]
    }
    pub(super) fn context_length() -> u64 {
        131_072
    }
    pub(super) fn embedding_length() -> usize {
        3072
    }
    pub(super) fn load_ms() -> u64 {
        2000
    }
    pub(super) fn prompt_rate() -> f64 {
        2000.0
    }
    pub(super) fn generation_rate() -> f64 {
        60.0
    }
    pub(super) fn parallel_speed() -> f64 {
        1.0
    }
    pub(super) fn template() -> String {
        "{{ .Prompt }}".into()
    }
}

/// A file of models.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    models: Vec<Model>,
}

/// Families that Ollama serves one request at a time.
const SINGLE_SLOT_FAMILIES: [&str; 11] = [
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

impl Model {
    /// A model with everything but its name left to the defaults.
    ///
    /// # Errors
    /// When Ollama would not accept the name.
    pub fn named(name: &str) -> Result<Self, String> {
        let mut model: Self = serde_json::from_value(json!({ "name": name })).map_err(|error| error.to_string())?;
        model.complete()?;
        Ok(model)
    }

    /// Reads a file's text: JSON when it starts with `{`, else TOML; either holds a list `models`.
    ///
    /// # Errors
    /// What is wrong, and with which model.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, String> {
        let file: File = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| error.to_string())?
        } else {
            toml::from_str(text).map_err(|error| error.to_string())?
        };
        if file.models.is_empty() {
            return Err("models: the list is empty; give at least one [[models]] with a name".into());
        }
        let mut models = file.models;
        for (at, model) in models.iter_mut().enumerate() {
            model.complete().map_err(|error| format!("models[{at}]: {error}"))?;
        }
        Ok(models)
    }

    /// Fills in what is derived, and checks what a file can get wrong.
    fn complete(&mut self) -> Result<(), String> {
        let name = ModelName::parse(&self.name)
            .map_err(|_| format!("name \"{}\" is not a model name; use model:tag", self.name))?;
        self.name = name.to_string();
        let fill = |field: &mut String, what: &str| {
            if field.is_empty() {
                *field = hash(&format!("{what} {name}"));
            }
        };
        fill(&mut self.digest, "manifest");
        fill(&mut self.weights, "weights");
        if self.digest.len() != 64 || !self.digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!(
                "digest \"{}\" of {name} is not 64 hex digits; leave it out to derive it",
                self.digest
            ));
        }
        let rates = [self.prompt_tokens_per_second, self.tokens_per_second, self.parallel_speed];
        if rates.iter().any(|rate| !rate.is_finite() || *rate <= 0.0) {
            return Err(format!(
                "{name}: prompt_tokens_per_second, tokens_per_second and parallel_speed must be above 0"
            ));
        }
        if self.modified_at.is_empty() {
            self.modified_at = "2026-01-01T00:00:00Z".into();
        }
        Ok(())
    }

    /// Whether Ollama lists this capability for it.
    #[must_use]
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|own| own == capability)
    }

    /// Requests its runner serves at once on a server with `num_parallel`.
    #[must_use]
    pub fn slots(&self, num_parallel: usize) -> usize {
        let single = !self.can("completion")
            || self.format == "safetensors"
            || SINGLE_SLOT_FAMILIES.contains(&self.family.as_str());
        if single { 1 } else { self.slots.unwrap_or(num_parallel).max(1) }
    }

    /// Bytes its runner needs with `num_ctx` tokens for each of `slots`.
    pub(super) fn memory_for(&self, num_ctx: u64, slots: usize) -> u64 {
        let context = self.kv_bytes_per_token.saturating_mul(num_ctx).saturating_mul(slots as u64);
        self.memory.unwrap_or(self.size).saturating_add(context)
    }

    /// `details` of `/api/tags`; `/api/show` and `/api/ps` leave the two lengths out.
    pub(super) fn details(&self, lengths: bool) -> Value {
        let mut details = json!({
            "parent_model": self.parent,
            "format": self.format,
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantization,
        });
        if lengths && let Some(map) = details.as_object_mut() {
            map.insert("context_length".into(), self.context_length.into());
            map.insert("embedding_length".into(), self.embedding_length.into());
        }
        details
    }

    /// The blob's file name, `sha256-…`.
    pub(super) fn blob(&self) -> String {
        format!("sha256-{}", self.weights)
    }
}

/// 64 hex digits of anything.
pub(super) fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::sim::{default_models, recorded_models};

    #[test]
    fn a_file_needs_only_names_and_says_what_is_wrong() {
        let models = Model::parse_file("[[models]]\nname = \"X/y\"\n[[models]]\nname = \"z\"\nslots = 4").unwrap();
        assert_eq!((models[0].name.as_str(), models[1].name.as_str()), ("x/y:latest", "z:latest"));
        assert_ne!(models[0].weights, models[1].weights);
        assert_eq!((models[0].slots(2), models[1].slots(2)), (2, 4));
        assert_eq!(
            models,
            Model::parse_file(&json!({"models": [{"name": "x/y"}, {"name": "z", "slots": 4}]}).to_string()).unwrap()
        );
        for (file, part) in [
            ("models = []", "[[models]]"),
            ("[[models]]\nname = \"a b\"", "models[0]: name \"a b\""),
            ("[[models]]\nname = \"a\"\ndigest = \"12\"", "64 hex digits"),
            ("[[models]]\nname = \"a\"\ntokens_per_second = 0.0", "above 0"),
            ("[[models]]\nname = \"a\"\nparallel_speed = -1.0", "parallel_speed must be above 0"),
            ("[[models]]\nname = \"a\"\nspeed = 1", "unknown field `speed`"),
        ] {
            let said = Model::parse_file(file).unwrap_err();
            assert!(said.contains(part), "{file}: {said}");
        }
    }

    #[test]
    fn the_built_in_tables_are_whole() {
        assert_eq!((default_models().len(), recorded_models().len()), (4, 8));
        let recorded = recorded_models();
        let of = |name: &str| recorded.iter().find(|model| model.name == name).unwrap();
        assert_eq!(of("stamped:latest").weights, of("gemma:a").weights);
        assert_ne!(of("gemma:b").weights, of("gemma:a").weights);
        assert_eq!((of("tinybert:latest").slots(4), of("gemma:a").slots(4)), (1, 4));
    }
}

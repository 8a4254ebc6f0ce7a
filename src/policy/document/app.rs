//! What `policies/<app>.toml` and `policies/default.toml` may say.
//!
//! Owns the keys and the forms that only they use. It does not own defaults or rules between keys (`compile`).

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use toml::de::DeValue;

use super::forms::{self, Bytes, Ceiling, Form, Scalar, Span, Whole};
use super::{Place, Placed, Reader, document};
use crate::domain::{Class, ModelName, Surface};
use crate::policy::glob::Glob;

/// Requests per minute, and bursts.
pub(crate) type Rpm = Ceiling<Whole<1, 1_000_000>>;
/// Tokens.
pub(crate) type Tokens = Ceiling<Whole<1, 100_000_000>>;

document! {
    /// What one application may do. A key that is absent is taken from default.toml, then from the built-in defaults.
    pub(crate) struct AppDocument {
        /// A note for people.
        description: String,
        /// Models it may use: canonical names with * (any run of characters except /), ** (any run) and ? (one character); "*" alone is every model.
        models: Vec<ModelGlob>,
        /// Endpoints (names or URLs of upstream servers) it may use; * matches any run of characters.
        endpoints: Vec<EndpointGlob>,
        /// Routes it may use, such as "/api/chat" or "/v1/*".
        surfaces: Vec<SurfaceGlob>,
        /// Its share of the GPU beside other applications of its class.
        weight: Weight,
        /// Its priority: interactive before standard before batch.
        class: Class,
        /// Requests per minute, or "unlimited".
        requests_per_minute: Rpm,
        /// Requests it may make at once before the rate holds it back; by default one minute's worth.
        burst: Whole<1, 1_000_000>,
        /// Requests that may run at the same time, or "unlimited".
        max_concurrent: Ceiling<Whole<1, 100_000>>,
        /// Requests that may wait at the same time.
        max_queued: Whole<0, 1_000_000>,
        /// How long a request may wait for its turn.
        max_wait: Span<0, 86_400>,
        /// How often a streaming caller on /v1 hears, by a comment line, that it still waits; off, it hears nothing before its answer. X-Gaucho-Keepalive beats it.
        keepalive: Cadence,
        /// The largest prompt, in tokens (estimated from its size), or "unlimited".
        max_context: Tokens,
        /// The most tokens a reply may have, or "unlimited".
        max_output_tokens: Tokens,
        /// The largest request body.
        max_body: Bytes<1024, 1_073_741_824>,
        /// The most inputs in one embedding request.
        max_embed_inputs: Whole<1, 1_000_000>,
        /// What happens to runner options and keep_alive that a client sends: clamp puts the runner profile's in their place, refuse answers 400.
        runner_options: RunnerOptions,
        /// What happens to a prompt that does not fit into the model's context: truncate lets Ollama cut it and says so, refuse answers 400 with both sizes, { route = "model" } asks a model with a larger context. Embeddings are never routed: they are refused then.
        on_overflow: OnOverflow,
        /// Hashes of keys that stand for this application: "sha256:" and 64 hex digits.
        key_hashes: Vec<Placed<KeyHash>>,
    }
}

/// The schema of `default.toml`: an application's, without what belongs to one application only.
pub(crate) fn default_schema() -> Value {
    let mut schema = AppDocument::schema();
    if let Some(properties) = schema.pointer_mut("/properties").and_then(Value::as_object_mut) {
        properties.remove("key_hashes");
    }
    schema
}

/// A pattern of model names.
#[derive(Debug, Clone)]
pub(crate) struct ModelGlob(pub(crate) Glob);

impl ModelGlob {
    pub(crate) const ALLOWED: &str = "a model name such as \"llama3.2:3b\", or a pattern with * and ? such as \
                                      \"llama3.2:*\" (never a :cloud name: prompts do not leave the site)";
    /// Characters only; names that break other rules are refused when read.
    pub(crate) const PATTERN: &str = r"^[A-Za-z0-9_.:/*?-]+$";

    /// Reads a name (made canonical) or a pattern (lower case, default host and namespace left out).
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        if !text.contains(['*', '?']) {
            let name = ModelName::parse(text).ok().filter(|name| !name.is_cloud())?;
            return Some(Self(Glob::stopping(&name.to_string())));
        }
        let known = |b: u8| b.is_ascii_alphanumeric() || b"_.:/*?-".contains(&b);
        let lower = text.to_ascii_lowercase();
        let short = lower.strip_prefix("registry.ollama.ai/").unwrap_or(&lower);
        let short = short.strip_prefix("library/").unwrap_or(short);
        let pattern = if short == "*" { "**" } else { short };
        (!short.is_empty() && text.bytes().all(known)).then(|| Self(Glob::stopping(pattern)))
    }
}

impl Scalar for ModelGlob {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn allowed() -> String {
        Self::ALLOWED.to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": Self::PATTERN })
    }
}

/// A pattern of endpoint names or URLs.
#[derive(Debug, Clone)]
pub(crate) struct EndpointGlob(pub(crate) Glob);

impl Scalar for EndpointGlob {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        let text = value.as_str().filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()))?;
        Some(Self(Glob::crossing(text.trim_end_matches('/'))))
    }

    fn allowed() -> String {
        "an endpoint's name or URL, or a pattern with * and ? such as \"gpu-*\"".to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[!-~]+$" })
    }
}

/// A pattern of routes, as the surfaces it covers; one that covers none is a mistake.
#[derive(Debug, Clone)]
pub(crate) struct SurfaceGlob(pub(crate) Vec<Surface>);

impl Scalar for SurfaceGlob {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        let glob = Glob::crossing(value.as_str()?);
        let covered: Vec<Surface> = Surface::ALL.into_iter().filter(|surface| glob.matches(surface.path())).collect();
        (!covered.is_empty()).then_some(Self(covered))
    }

    fn allowed() -> String {
        let routes: Vec<&str> = Surface::ALL.into_iter().map(Surface::path).collect();
        format!("one of {}, or a pattern such as \"/v1/*\" that covers at least one of them", routes.join(", "))
    }

    fn schema() -> Value {
        let routes: Vec<&str> = Surface::ALL.into_iter().map(Surface::path).collect();
        json!({ "anyOf": [{ "enum": routes }, { "type": "string", "pattern": "[*?]" }] })
    }
}

/// A share: more than 0, up to 1000.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight(pub(crate) f64);

impl Scalar for Weight {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        // a thousandth is the least: smaller shares would starve and lose precision in the fair queue
        forms::number(value).filter(|weight| (0.001..=1000.0).contains(weight)).map(Self)
    }

    fn allowed() -> String {
        "a number from 0.001 to 1000".to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "number", "minimum": 0.001, "maximum": 1000 })
    }
}

impl Scalar for Class {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        Self::ALL.into_iter().find(|class| value.as_str() == Some(class.as_str()))
    }

    fn allowed() -> String {
        "\"interactive\", \"standard\" or \"batch\"".to_owned()
    }

    fn schema() -> Value {
        json!({ "enum": Self::ALL.map(Self::as_str) })
    }
}

/// How often somebody who waits hears from us; `None` is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cadence(pub(crate) Option<Duration>);

type Every = Span<1, 60>;

impl Cadence {
    /// Reads it from a header.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        if text == "off" { Some(Self(None)) } else { Every::from_text(text).map(|every| Self(Some(every.0))) }
    }
}

impl Scalar for Cadence {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        if value.as_str() == Some("off") {
            return Some(Self(None));
        }
        Every::parse(value).map(|every| Self(Some(every.0)))
    }

    fn allowed() -> String {
        format!("{}, or \"off\"", Every::allowed())
    }

    fn schema() -> Value {
        json!({ "anyOf": [<Every as Scalar>::schema(), { "const": "off" }] })
    }
}

/// What happens to runner options and `keep_alive` that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunnerOptions {
    /// The runner profile's take their place.
    Clamp,
    /// A request that asks for something else than the profile says is refused.
    Refuse,
}

impl Scalar for RunnerOptions {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        match value.as_str()? {
            "clamp" => Some(Self::Clamp),
            "refuse" => Some(Self::Refuse),
            _ => None,
        }
    }

    fn allowed() -> String {
        "\"clamp\" or \"refuse\"".to_owned()
    }

    fn schema() -> Value {
        json!({ "enum": ["clamp", "refuse"] })
    }
}

/// What happens to a prompt that does not fit into the model's context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnOverflow {
    /// Ollama cuts it, and the caller is told.
    Truncate,
    /// The request is refused with both sizes.
    Refuse,
    /// The request goes to this model, as if it had been asked for.
    Route(ModelName),
}

impl fmt::Display for OnOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncate => f.write_str("truncate"),
            Self::Refuse => f.write_str("refuse"),
            Self::Route(model) => write!(f, "route to {model}"),
        }
    }
}

impl OnOverflow {
    const ALLOWED: &str =
        "\"truncate\", \"refuse\" or { route = \"model\" } with the name of a model (no pattern, never :cloud)";

    fn parse(value: &DeValue<'_>) -> Option<Self> {
        if let Some(table) = value.as_table() {
            let name = ModelName::parse(table.get("route")?.get_ref().as_str()?);
            return name.ok().filter(|name| !name.is_cloud()).map(Self::Route);
        }
        match value.as_str()? {
            "truncate" => Some(Self::Truncate),
            "refuse" => Some(Self::Refuse),
            _ => None,
        }
    }
}

impl Form for OnOverflow {
    fn read(value: &DeValue<'_>, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let mut odd = value.as_table().into_iter().flatten().filter(|(key, _)| key.get_ref() != "route").peekable();
        if odd.peek().is_some() {
            for (key, _) in odd {
                let place = reader.key_place(place, key.get_ref(), key.span());
                reader.unknown_key(&place, key.get_ref(), &["route"]);
            }
            return None;
        }
        let parsed = Self::parse(value);
        if parsed.is_none() {
            reader.refuse(value, place, Self::ALLOWED);
        }
        parsed
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "enum": ["truncate", "refuse"] },
            {
                "type": "object",
                "properties": { "route": { "type": "string", "pattern": r"^[A-Za-z0-9_.:/-]+$" } },
                "required": ["route"],
                "additionalProperties": false,
            },
        ] })
    }
}

/// SHA-256 of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyHash(pub(crate) [u8; 32]);

impl Scalar for KeyHash {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        let mut hash = [0; 32];
        hex::decode_to_slice(value.as_str()?.strip_prefix("sha256:")?, &mut hash).ok()?;
        Some(Self(hash))
    }

    fn allowed() -> String {
        "\"sha256:\" and 64 hex digits, the SHA-256 of the key".to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$" })
    }

    /// Somebody may have put the key itself here.
    fn shown(_: &DeValue<'_>) -> String {
        "this value (hidden: it may be a key)".to_owned()
    }
}

//! What one application may do, compiled: typed, complete, cheap to ask.
//!
//! Owns the built-in defaults. It does not own the files (`document`) or the decisions (`rules`).

use std::time::Duration;

use super::document::{OnOverflow, RunnerOptions};
use super::glob::Glob;
use crate::domain::{Class, ModelName, Surface};

/// The rules of one application, with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct AppRules {
    /// A note for people.
    pub description: Option<String>,
    /// Models it may use.
    pub models: Models,
    /// Endpoints it may use.
    pub endpoints: Endpoints,
    /// Routes it may use.
    pub surfaces: Vec<Surface>,
    /// Its share beside other applications of its class, 0.001 to 1000.
    pub weight: f64,
    /// Its priority.
    pub class: Class,
    /// Its request rate; `None` for no limit.
    pub rate: Option<Rate>,
    /// Requests that may run at once; `None` for no limit.
    pub max_concurrent: Option<u32>,
    /// Requests that may wait at once.
    pub max_queued: u32,
    /// How long a request may wait.
    pub max_wait: Duration,
    /// How often a streaming caller hears that it still waits; `None` for never.
    pub keepalive: Option<Duration>,
    /// The largest prompt, in tokens by estimate; `None` for no limit.
    pub max_context: Option<u64>,
    /// The most tokens a reply may have; `None` for no limit.
    pub max_output_tokens: Option<u64>,
    /// The largest request body, in bytes.
    pub max_body: u64,
    /// The most inputs in one embedding request.
    pub max_embed_inputs: usize,
    /// What happens to runner options that a client sends.
    pub runner_options: RunnerOptions,
    /// What happens to a prompt that does not fit into the model's context.
    pub on_overflow: OnOverflow,
}

/// The built-in defaults: every model on every route, no rate, a bounded queue.
impl Default for AppRules {
    fn default() -> Self {
        Self {
            description: None,
            models: Models(vec![Glob::stopping("**")]),
            endpoints: Endpoints(vec![Glob::crossing("*")]),
            surfaces: Surface::ALL.to_vec(),
            weight: 1.0,
            class: Class::Standard,
            rate: None,
            max_concurrent: None,
            max_queued: 100,
            max_wait: Duration::from_secs(300),
            keepalive: None,
            max_context: None,
            max_output_tokens: None,
            max_body: 32 << 20,
            max_embed_inputs: 2048,
            runner_options: RunnerOptions::Clamp,
            on_overflow: OnOverflow::Truncate,
        }
    }
}

impl AppRules {
    /// The most tokens a reply may have, given what the caller asked for: the lower of both.
    #[must_use]
    pub fn output_cap(&self, asked: Option<u64>) -> Option<u64> {
        match (self.max_output_tokens, asked) {
            (Some(most), Some(asked)) => Some(most.min(asked)),
            (most, asked) => most.or(asked),
        }
    }
}

/// A request rate: a bucket of `burst` requests, refilled at `requests_per_minute`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per minute, 1 to 1,000,000.
    pub requests_per_minute: u32,
    /// Requests that may come at once, 1 to 1,000,000.
    pub burst: u32,
}

/// Patterns of model names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models(pub(super) Vec<Glob>);

impl Models {
    /// Whether one of the patterns covers `name`. Never for a `:cloud` name.
    #[must_use]
    pub fn allow(&self, name: &ModelName) -> bool {
        let text = name.to_string();
        !name.is_cloud() && self.0.iter().any(|glob| glob.matches(&text))
    }

    /// The patterns as text, for messages.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|glob| if glob.as_str() == "**" { "*" } else { glob.as_str() })
    }
}

/// Patterns of endpoint names or URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints(pub(super) Vec<Glob>);

impl Endpoints {
    /// Whether one of the patterns covers the endpoint's name or its URL (a slash at its end does not matter).
    #[must_use]
    pub fn allow(&self, name: &str, url: &str) -> bool {
        let url = url.trim_end_matches('/');
        self.0.iter().any(|glob| glob.matches(name) || glob.matches(url))
    }

    /// The patterns as text, for messages.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Glob::as_str)
    }
}

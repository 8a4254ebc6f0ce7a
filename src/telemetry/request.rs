//! The families of the request path, and how a request's end becomes numbers.
//!
//! Owns names, help texts, labels and buckets. The bound on labels is in the types: applications are those that proved
//! who they are, models those that exist upstream (`None` for any other name a caller made up), outcomes and reasons are
//! fault classes. `endpoint` is the upstream's name in the configuration.

use std::time::Duration;

use crate::domain::{AppName, FaultClass, ModelName, Outcome, UnloadReason, Usage};

use super::{Counters, Gauges, Histograms, Label, Registry};

/// Seconds: from a cache hit to the longest wait that a policy is likely to allow.
const WAITS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0];
/// Tokens per second: from a model on the CPU to a small one on a fast GPU.
const SPEEDS: &[f64] = &[1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0];
/// What stands for a model, endpoint or application that is not known (yet).
const UNKNOWN: Label = Label::Borrowed("unknown");

/// A request that got as far as a principal, at its end.
#[derive(Debug, Clone, Copy)]
pub struct Finished<'a> {
    /// Who asked.
    pub app: &'a AppName,
    /// What was asked, if upstream has it.
    pub model: Option<&'a ModelName>,
    /// The name of the endpoint it ran on, if it got there.
    pub endpoint: Option<&'a str>,
    /// The route it came in by.
    pub route: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub usage: &'a Usage,
}

/// The request path's families; clones share them.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    requests: Counters<5>,
    refused: Counters<2>,
    ttft: Histograms<1>,
    speed: Histograms<1>,
    prompt_tokens: Counters<2>,
    output_tokens: Counters<2>,
    queue_wait: Histograms<1>,
    queue_depth: Gauges<0>,
    held_bytes: Gauges<0>,
    slots: Gauges<2>,
    slots_used: Gauges<2>,
    upstream_errors: Counters<2>,
    retries: Counters<2>,
    overflows: Counters<3>,
    up: Gauges<1>,
    ejected: Gauges<1>,
    ejections: Counters<2>,
    policy_reloads: Counters<1>,
    loads: Counters<3>,
    load_seconds: Histograms<1>,
    unloads: Counters<4>,
    resident_bytes: Gauges<2>,
    spilled_bytes: Gauges<2>,
}

impl RequestMetrics {
    /// Registers the families. Once for each registry.
    #[must_use]
    pub fn register(to: &Registry) -> Self {
        let tokens = ["app", "model"];
        let runner = ["endpoint", "model"];
        let metrics = Self {
            requests: to.counters(
                "gateway_requests",
                "Requests that ended, by how",
                ["app", "model", "endpoint", "surface", "outcome"],
            ),
            refused: to.counters("gateway_refused", "Requests refused or failed, by reason", ["app", "reason"]),
            ttft: to.histograms("gateway_ttft_seconds", "Arrival to first event from upstream", ["model"], WAITS),
            speed: to.histograms(
                "gateway_generation_tokens_per_second",
                "Tokens generated per second, by upstream's own figures",
                ["model"],
                SPEEDS,
            ),
            prompt_tokens: to.counters("gateway_prompt_tokens", "Prompt tokens, cached ones included", tokens),
            output_tokens: to.counters("gateway_output_tokens", "Tokens generated", tokens),
            queue_wait: to.histograms("scheduler_queue_wait_seconds", "Arrival to admission", ["class"], WAITS),
            queue_depth: to.gauges("scheduler_queue_depth", "Requests that wait now", []),
            held_bytes: to.gauges("upstream_held_bytes", "Bytes of answers that callers have not taken yet", []),
            slots: to.gauges("scheduler_slots", "Requests a runner may serve at once", runner),
            slots_used: to.gauges("scheduler_slots_used", "Requests a runner serves now", runner),
            upstream_errors: to.counters("upstream_errors", "Failures of upstream calls", ["endpoint", "reason"]),
            retries: to.counters(
                "gateway_retries",
                "Calls that failed before their first event and were made elsewhere, by where and why they failed",
                ["endpoint", "reason"],
            ),
            overflows: to.counters(
                "gateway_overflows",
                "Prompts that did not fit into the model's context, by what became of them",
                ["app", "model", "end"],
            ),
            up: to.gauges("upstream_up", "Whether a server answered when it was last asked", ["endpoint"]),
            ejected: to.gauges(
                "upstream_ejected",
                "Whether a server gets no requests because calls failed",
                ["endpoint"],
            ),
            ejections: to.counters("upstream_ejections", "How often that began", ["endpoint", "reason"]),
            policy_reloads: to.counters("policy_reloads", "Reloads of the policy folder", ["result"]),
            loads: to.counters("upstream_loads", "Loads that the gateway ordered", ["endpoint", "model", "result"]),
            load_seconds: to.histograms("upstream_load_seconds", "How long a load took", ["model"], WAITS),
            unloads: to.counters(
                "upstream_unloads",
                "Unloads that the gateway ordered, by why",
                ["endpoint", "model", "reason", "result"],
            ),
            resident_bytes: to.gauges("upstream_resident_bytes", "Memory of a loaded model", runner),
            spilled_bytes: to.gauges("upstream_spilled_bytes", "The part of it that did not fit on the GPU", runner),
        };
        // there from the start, so that an alert on a rise sees the first one
        for result in ["taken", "rejected"] {
            metrics.policy_reloads.add([result.into()], 0);
        }
        metrics
    }

    /// Counts a request at its end: outcome, tokens, time to first event, speed.
    pub fn finished(&self, end: &Finished<'_>) {
        let app = || Label::Owned(end.app.as_str().to_owned());
        let model = end.model.map_or(UNKNOWN, |model| model.to_string().into());
        let usage = end.usage;
        let labels =
            [app(), model.clone(), end.endpoint.map_or(UNKNOWN, label), end.route.into(), end.outcome.as_str().into()];
        self.requests.add(labels, 1);
        if usage.prompt_tokens > 0 {
            self.prompt_tokens.add([app(), model.clone()], usage.prompt_tokens);
        }
        if usage.output_tokens > 0 {
            self.output_tokens.add([app(), model.clone()], usage.output_tokens);
        }
        if let Some(speed) = tokens_per_second(usage) {
            self.speed.observe([model.clone()], speed);
        }
        if let Some(first) = usage.first_event {
            self.ttft.observe([model], first.as_secs_f64());
        }
    }

    /// Counts a refusal; `app` is `None` for a caller that did not prove who it is.
    pub fn refused(&self, app: Option<&AppName>, reason: FaultClass) {
        let app = app.map_or(UNKNOWN, |app| app.as_str().to_owned().into());
        self.refused.add([app, reason.as_str().into()], 1);
    }

    /// Counts an admission of a request of `class` after `wait`.
    pub fn admitted(&self, class: &'static str, wait: Duration) {
        self.queue_wait.observe([class.into()], wait.as_secs_f64());
    }

    /// Says how many requests wait now.
    pub fn queue_depth(&self, waiting: u64) {
        self.queue_depth.set([], waiting);
    }

    /// Says how many bytes of answers wait for their callers.
    pub fn held_bytes(&self, bytes: u64) {
        self.held_bytes.set([], bytes);
    }

    /// Says how many of a runner's slots are taken. `model` is the tag that stands for the runner.
    pub fn slots(&self, endpoint: &str, model: &str, used: u64, slots: u64) {
        self.slots_used.set([label(endpoint), label(model)], used);
        self.slots.set([label(endpoint), label(model)], slots);
    }

    /// Counts a failed upstream call.
    pub fn upstream_error(&self, endpoint: &str, reason: FaultClass) {
        self.upstream_errors.add([label(endpoint), reason.as_str().into()], 1);
    }

    /// Counts a call that failed at `endpoint` and was made elsewhere.
    pub fn retry(&self, endpoint: &str, reason: FaultClass) {
        self.retries.add([label(endpoint), reason.as_str().into()], 1);
    }

    /// Counts a prompt that did not fit; `model` is where it ended, `end` one of a handful of words.
    pub fn overflow(&self, app: &AppName, model: Option<&ModelName>, end: &'static str) {
        let model = model.map_or(UNKNOWN, |model| model.to_string().into());
        self.overflows.add([app.as_str().to_owned().into(), model, end.into()], 1);
    }

    /// Says whether an endpoint answers.
    pub fn up(&self, endpoint: &str, up: bool) {
        self.up.set([label(endpoint)], u64::from(up));
    }

    /// Says whether an endpoint is ejected.
    pub fn ejected(&self, endpoint: &str, ejected: bool) {
        self.ejected.set([label(endpoint)], u64::from(ejected));
    }

    /// Counts an ejection; the reasons are a handful of words.
    pub fn ejection(&self, endpoint: &str, reason: &'static str) {
        self.ejections.add([label(endpoint), reason.into()], 1);
    }

    /// Counts a load that took this long.
    pub fn load(&self, endpoint: &str, model: &str, done: bool, took: Duration) {
        self.loads.add([label(endpoint), label(model), result(done)], 1);
        if done {
            self.load_seconds.observe([label(model)], took.as_secs_f64());
        }
    }

    /// Counts an unload.
    pub fn unload(&self, endpoint: &str, model: &str, why: UnloadReason, done: bool) {
        self.unloads.add([label(endpoint), label(model), why.as_str().into(), result(done)], 1);
    }

    /// Says how much memory a loaded model takes, and how much of it is not on the GPU; zeros for one that is gone.
    pub fn resident(&self, endpoint: &str, model: &str, bytes: u64, spilled: u64) {
        self.resident_bytes.set([label(endpoint), label(model)], bytes);
        self.spilled_bytes.set([label(endpoint), label(model)], spilled);
    }

    /// Counts a reload of the policies, taken or rejected.
    pub fn policy_reload(&self, taken: bool) {
        self.policy_reloads.add([if taken { "taken" } else { "rejected" }.into()], 1);
    }
}

fn result(done: bool) -> Label {
    if done { "done" } else { "failed" }.into()
}

fn label(text: &str) -> Label {
    text.to_owned().into()
}

/// `None` where upstream gave no figures.
#[expect(clippy::cast_precision_loss, reason = "a token count beyond 2^52 does not occur")]
fn tokens_per_second(usage: &Usage) -> Option<f64> {
    (usage.output_tokens > 0 && !usage.generation.is_zero())
        .then(|| usage.output_tokens as f64 / usage.generation.as_secs_f64())
}

//! Writes the body of the native call that serves a request, whatever dialect it came in.
//!
//! What only the gateway decides (model tag, runner options, `keep_alive`, the output cap) is an argument, so that
//! nothing the caller sent for them can slip through.

use std::time::Duration;

use super::options::bound;
use super::out::{key, member, number, push, raw, string};
use crate::domain::{InferenceRequest, JsonField};

/// What the gateway decided for one upstream call.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamTarget<'a> {
    /// The tag to ask Ollama for.
    pub model: &'a str,
    /// Runner options to send (`num_ctx`, …); `shift` among them goes to the top level.
    pub runner_options: &'a [JsonField],
    /// How long the model stays loaded; [`Duration::MAX`] is for ever, `None` leaves it to Ollama.
    pub keep_alive: Option<Duration>,
    /// Whether Ollama may cut a prompt that does not fit; `None` leaves it to Ollama, which cuts in silence.
    pub truncate: Option<bool>,
    /// Most tokens to generate; used when it is lower than what the caller asked for, or the caller set no bound.
    pub output_cap: Option<u64>,
    /// Most tokens that the model's own parameters allow a request which does not say.
    pub model_cap: Option<u64>,
}

/// The body of an upstream `/api/show`; `fields` are the caller's own.
#[must_use]
pub fn encode_show(model: &str, verbose: bool, fields: &[JsonField]) -> Vec<u8> {
    let mut out = Vec::with_capacity(model.len() + 32);
    push(&mut out, "{\"model\":");
    string(&mut out, model);
    for field in fields {
        member(&mut out, field);
    }
    push(&mut out, if verbose { ",\"verbose\":true}" } else { "}" });
    out
}

/// The body of a request for nothing but the model in memory; a `time` of zero asks for it out of memory.
#[must_use]
pub fn encode_load(model: &str, runner_options: &[JsonField], time: Duration) -> Vec<u8> {
    of_our_own(model, "", runner_options, "", time)
}

/// The body of a request for one token, or for one vector where the model `embeds`: whether it works at all.
#[must_use]
pub fn encode_probe(model: &str, runner_options: &[JsonField], time: Duration, embeds: bool) -> Vec<u8> {
    let (work, bound) = if embeds { (",\"input\":\"a\"", "") } else { (",\"prompt\":\"a\"", "\"num_predict\":1") };
    of_our_own(model, work, runner_options, bound, time)
}

/// A request of the gateway's own: `work` is members of the object, `more` members of its options.
fn of_our_own(model: &str, work: &str, runner_options: &[JsonField], more: &str, time: Duration) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    push(&mut out, "{\"model\":");
    string(&mut out, model);
    push(&mut out, work);
    push(&mut out, ",\"stream\":false,\"options\":{");
    let first = out.len();
    push(&mut out, more);
    for option in runner_options.iter().filter(|(name, _)| &**name != "shift") {
        if out.len() > first {
            out.push(b',');
        }
        key(&mut out, option);
        raw(&mut out, &option.1);
    }
    out.push(b'}');
    if let Some(shift) = runner_options.iter().find(|(name, _)| &**name == "shift") {
        member(&mut out, shift);
    }
    keep_alive(&mut out, time);
    out.push(b'}');
    out
}

/// The body to send to `request.surface.task().path()`: one JSON object.
#[must_use]
pub fn encode_upstream(request: &InferenceRequest, target: &UpstreamTarget<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(request.measure.body_bytes + 256);
    push(&mut out, "{\"model\":");
    string(&mut out, target.model);
    for field in request.fields.iter().filter(|(name, _)| &**name != "truncate") {
        member(&mut out, field);
    }
    if !request.surface.task().embeds() {
        push(&mut out, if request.stream { ",\"stream\":true" } else { ",\"stream\":false" });
    }
    options(&mut out, request, target);
    if let Some(truncate) = target.truncate {
        push(&mut out, if truncate { ",\"truncate\":true" } else { ",\"truncate\":false" });
    }
    if let Some(shift) = target.runner_options.iter().find(|(name, _)| &**name == "shift") {
        member(&mut out, shift);
    }
    if let Some(time) = target.keep_alive {
        keep_alive(&mut out, time);
    }
    out.push(b'}');
    out
}

fn options(out: &mut Vec<u8>, request: &InferenceRequest, target: &UpstreamTarget<'_>) {
    let cap = target.output_cap.filter(|_| !request.surface.task().embeds());
    let runner = target.runner_options.iter().filter(|(name, _)| &**name != "shift");
    let mut capped = false;
    let start = out.len();
    push(out, ",\"options\":{");
    let first = out.len();
    for option in request.options.iter().chain(runner) {
        if out.len() > first {
            out.push(b',');
        }
        key(out, option);
        let (name, value) = option;
        let lower = cap.filter(|cap| &**name == "num_predict" && bound(value.get()).is_none_or(|own| own > *cap));
        capped = capped || &**name == "num_predict";
        match lower {
            Some(cap) => number(out, cap),
            None => raw(out, value),
        }
    }
    if let (Some(cap), false) = (cap, capped) {
        // a request's own word would go before the model's
        let cap = target.model_cap.map_or(cap, |own| own.min(cap));
        push(out, if out.len() > first { ",\"num_predict\":" } else { "\"num_predict\":" });
        number(out, cap);
    }
    if out.len() == first {
        out.truncate(start);
    } else {
        out.push(b'}');
    }
}

fn keep_alive(out: &mut Vec<u8>, time: Duration) {
    push(out, ",\"keep_alive\":");
    if time == Duration::MAX {
        push(out, "-1");
    } else if time.subsec_nanos() == 0 {
        number(out, time.as_secs());
    } else {
        string(out, &format!("{}ns", time.as_nanos()));
    }
}

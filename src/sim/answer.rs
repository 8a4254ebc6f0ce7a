//! A planned answer with its timings, and the JSON objects it is sent as.

use std::time::Duration;

use serde_json::json;

use super::go;
use super::reply::{ChatReply, GenerateReply, Logprob, MessageOut, MetricsOut};
use super::text::{Plan, Step, ids};

/// Which of the two routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Generate,
}

/// How long things take, in the models' own time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Until the runner was there.
    pub(super) load: Duration,
    /// Until the slot was.
    pub(super) slot: Duration,
    /// For the prompt.
    pub(super) prompt: Duration,
    /// For one token.
    pub(super) token: Duration,
    /// How much longer than alone the prompt took, and the tokens after it.
    pub(super) stretch: (f64, f64),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) route: Route,
    /// The name as the caller wrote it.
    pub(super) model: String,
    pub(super) plan: Plan,
    pub(super) prompt_tokens: u64,
    /// Token ids of the prompt, for a generation that is not raw.
    pub(super) context: Option<Vec<u64>>,
    /// Alternatives per token, where probabilities are asked for.
    pub(super) logprobs: Option<usize>,
    pub(super) times: Times,
}

/// What one object says.
#[derive(Default)]
struct Said<'a> {
    text: &'a str,
    thinking: &'a str,
    tool_calls: Option<&'a serde_json::Value>,
    logprobs: Vec<Logprob>,
    done_reason: Option<&'a str>,
    context: &'a [u64],
    metrics: MetricsOut,
}

impl Answer {
    /// The reply to a request that only loads or unloads.
    pub(super) fn bare(route: Route, model: &str, created_at: String, reason: &str) -> String {
        object(route, model, created_at, Said { done_reason: Some(reason), ..Said::default() })
    }

    /// The reply to `_debug_render_only`: the prompt, and an empty answer.
    pub(super) fn rendered(route: Route, model: &str, created_at: String, prompt: &str) -> String {
        let debug_info = Some(json!({ "rendered_template": prompt }));
        let metrics = MetricsOut::default();
        match route {
            Route::Chat => go::json(&ChatReply {
                model,
                created_at,
                message: MessageOut::default(),
                done: false,
                done_reason: None,
                debug_info,
                logprobs: Vec::new(),
                metrics,
            }),
            Route::Generate => go::json(&GenerateReply {
                model,
                created_at,
                response: "",
                thinking: "",
                done: false,
                done_reason: None,
                context: &[],
                metrics,
                debug_info,
                logprobs: Vec::new(),
            }),
        }
    }

    /// When, counted from the slot, this many tokens are out.
    pub(super) fn due(&self, tokens: u64) -> Duration {
        self.times.prompt + self.times.token.saturating_mul(u32::try_from(tokens).unwrap_or(u32::MAX))
    }

    /// One object of the stream.
    pub(super) fn piece(&self, step: &Step, created_at: String) -> String {
        let (text, thinking) = if step.thinking { ("", step.text.as_str()) } else { (step.text.as_str(), "") };
        let said = Said {
            text,
            thinking,
            tool_calls: step.tool_calls.as_ref(),
            logprobs: self.chances(step),
            ..Said::default()
        };
        object(self.route, &self.model, created_at, said)
    }

    /// The last object of the stream.
    pub(super) fn last(&self, created_at: String) -> String {
        let context = self.whole_context();
        let said =
            Said { done_reason: Some(self.plan.reason), context: &context, metrics: self.metrics(), ..Said::default() };
        object(self.route, &self.model, created_at, said)
    }

    /// The whole answer as one object; one that the repeat guard ended has no end and no figures.
    pub(super) fn whole(&self, created_at: String, ended: bool) -> String {
        let of = |thinking: bool| -> String {
            self.plan.steps.iter().filter(|step| step.thinking == thinking).map(|step| step.text.as_str()).collect()
        };
        let (text, thinking, context) = (of(false), of(true), self.whole_context());
        let mut said = Said {
            text: &text,
            thinking: &thinking,
            tool_calls: self.plan.steps.iter().find_map(|step| step.tool_calls.as_ref()),
            logprobs: self.plan.steps.iter().flat_map(|step| self.chances(step)).collect(),
            ..Said::default()
        };
        if ended {
            said.done_reason = Some(self.plan.reason);
            said.context = &context;
            said.metrics = self.metrics();
        }
        object(self.route, &self.model, created_at, said)
    }

    fn chances(&self, step: &Step) -> Vec<Logprob> {
        let top = self.logprobs.filter(|_| step.tool_calls.is_none() && !step.text.is_empty());
        top.map(|top| Logprob::of(&step.text, top)).into_iter().collect()
    }

    fn whole_context(&self) -> Vec<u64> {
        let Some(prompt) = &self.context else { return Vec::new() };
        let said: String =
            self.plan.steps.iter().filter(|step| !step.thinking).map(|step| step.text.as_str()).collect();
        prompt.iter().copied().chain(ids(&said)).collect()
    }

    fn metrics(&self) -> MetricsOut {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let stretched = |time: Duration, by: f64| {
            if by == 1.0 { time } else { Duration::try_from_secs_f64(time.as_secs_f64() * by).unwrap_or(Duration::MAX) }
        };
        let prompt = stretched(self.times.prompt, self.times.stretch.0);
        let tokens = stretched(self.due(self.plan.tokens).saturating_sub(self.times.prompt), self.times.stretch.1);
        let end = prompt.saturating_add(tokens);
        MetricsOut {
            total_duration: nanos(self.times.load.saturating_add(self.times.slot).saturating_add(end)),
            load_duration: nanos(self.times.load),
            prompt_eval_count: self.prompt_tokens,
            prompt_eval_duration: nanos(prompt),
            eval_count: self.plan.tokens,
            eval_duration: nanos(tokens),
        }
    }
}

fn object(route: Route, model: &str, created_at: String, said: Said<'_>) -> String {
    let done = said.done_reason.is_some();
    match route {
        Route::Chat => go::json(&ChatReply {
            model,
            created_at,
            message: MessageOut {
                role: "assistant",
                content: said.text,
                thinking: said.thinking,
                tool_calls: said.tool_calls,
            },
            done,
            done_reason: said.done_reason,
            debug_info: None,
            logprobs: said.logprobs,
            metrics: said.metrics,
        }),
        Route::Generate => go::json(&GenerateReply {
            model,
            created_at,
            response: said.text,
            thinking: said.thinking,
            done,
            done_reason: said.done_reason,
            context: said.context,
            metrics: said.metrics,
            debug_info: None,
            logprobs: said.logprobs,
        }),
    }
}

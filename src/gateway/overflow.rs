//! A prompt that does not fit into its model's context: cut, refused or routed, and said in each case.
//!
//! Ollama is always asked with `truncate: false`, so that it refuses with both sizes where it would cut in silence. Owns
//! what follows from that refusal and its words. The caller's own `truncate` beats the policy's `on_overflow`; a request is
//! cut at most once and routed at most once.

use crate::catalog::{Holder, Resolved};
use crate::domain::{
    Dialect, EndpointId, Fault, FaultClass, InferenceRequest, Intent, ModelName, Overflow, OverflowEnd, Oversize,
    Surface, Task, field,
};
use crate::policy::{Grant, OnOverflow};
use crate::scheduler::Permit;
use crate::wire;

use super::elsewhere::Attempts;
use super::in_flight::InFlight;
use super::line::{Gateway, Ready};
use super::ticket::prompt_field;

/// How far a request has gone for want of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fitting {
    /// What Ollama is told; `None` where its route has no such field.
    pub(super) truncate: Option<bool>,
    routed: bool,
}

impl Fitting {
    pub(super) fn of(request: &InferenceRequest) -> Self {
        let asks = request.intent == Intent::Answer && request.surface.task() != Task::Embeddings;
        Self { truncate: asks.then_some(false), routed: false }
    }
}

/// A call that was refused because the prompt does not fit.
pub(super) struct Refused {
    pub(super) fault: Fault,
    pub(super) endpoint: EndpointId,
    /// Its turn, which it did not use.
    pub(super) permit: Option<Permit>,
}

/// What is done about it.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Cut,
    Route(ModelName),
    Refuse(Why),
}

/// Why nothing better is done.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    /// The caller said `truncate: false`.
    Caller,
    /// The policy says `refuse`.
    Policy,
    /// It was cut, and that was no use.
    Cut,
    /// It was routed, and that was no use.
    Routed,
    /// Not on this route.
    Route,
    /// This request fits no other model.
    Unroutable,
}

/// What the plan follows from.
pub(super) struct Case<'a> {
    pub(super) fitting: Fitting,
    pub(super) request: &'a InferenceRequest,
    pub(super) grant: &'a Grant,
    pub(super) resolved: &'a Resolved,
}

fn plan(case: &Case<'_>) -> Plan {
    let Case { fitting, request, grant, resolved } = case;
    let refuse = Plan::Refuse;
    match fitting.truncate {
        Some(false) => {}
        Some(true) => return refuse(Why::Cut),
        None => return refuse(Why::Route),
    }
    match (wish(request), &grant.rules.on_overflow) {
        (Some(false), _) => refuse(Why::Caller),
        (Some(true), _) | (None, OnOverflow::Truncate) => Plan::Cut,
        (None, OnOverflow::Refuse) => refuse(Why::Policy),
        (None, OnOverflow::Route(_)) if fitting.routed => refuse(Why::Routed),
        (None, OnOverflow::Route(model)) if *model == resolved.name => refuse(Why::Routed),
        (None, OnOverflow::Route(model)) if is_portable(request) => Plan::Route(model.clone()),
        (None, OnOverflow::Route(_)) => refuse(Why::Unroutable),
    }
}

/// The caller's own `truncate`.
fn wish(request: &InferenceRequest) -> Option<bool> {
    match field(&request.fields, "truncate")?.get() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// Whether another model's answer would be of use: vectors of two models do not compare, and token ids are a model's own.
fn is_portable(request: &InferenceRequest) -> bool {
    !request.surface.task().embeds() && field(&request.fields, "context").is_none()
}

impl Gateway {
    /// The prompt did not fit: what the request goes on with.
    ///
    /// # Errors
    /// `ContextExceeded` with both sizes, where it does not go on.
    pub(super) async fn overflowed(
        &self,
        refused: Refused,
        ready: &mut Ready,
        mut attempts: Attempts,
        flight: &mut InFlight,
    ) -> Result<Attempts, Fault> {
        let Refused { fault, endpoint, permit } = refused;
        let before = flight.overflow().map(|overflow| overflow.sizes);
        let sizes = self.sizes(&fault, endpoint, ready, before);
        let mut end = |end| flight.note(|record| record.overflow = Some(Overflow { sizes, end }));
        let Ready { request, grant, resolved, fitting, .. } = &*ready;
        match plan(&Case { fitting: *fitting, request, grant, resolved }) {
            Plan::Cut => {
                end(OverflowEnd::Truncated);
                ready.fitting.truncate = Some(true);
                wire::say_truncated(&mut ready.request);
                attempts.kept = permit;
                Ok(attempts)
            }
            Plan::Route(model) => {
                drop(permit);
                if let Err(why) = self.route(&model, ready).await {
                    end(OverflowEnd::Refused);
                    let text = format!("; on_overflow sends it to '{model}', but {}", why.message);
                    return Err(too_long(sizes, ready.request.surface, &text));
                }
                end(OverflowEnd::Routed(model.clone()));
                flight.note(|record| record.model = Some(model));
                Ok(Attempts::new(ready.resolved.clone(), ready.patience.until, self.parts.clock.now()))
            }
            Plan::Refuse(why) => {
                end(OverflowEnd::Refused);
                let native = ready.request.surface.dialect() == Dialect::Ollama;
                // what the caller asked Ollama for is answered in Ollama's words
                Err(if why == Why::Caller && native {
                    fault
                } else {
                    too_long(sizes, ready.request.surface, why.remedy())
                })
            }
        }
    }

    /// Turns the request into one for `model`, as if that had been asked for; it is not counted again.
    async fn route(&self, model: &ModelName, ready: &mut Ready) -> Result<(), Fault> {
        let grant = self.parts.desk.regrant(&ready.grant, &ready.request, model)?;
        let resolved: Resolved = self.resolve_as(model, &model.to_string(), false).await?;
        (ready.grant, ready.resolved, ready.fitting.routed) = (grant, resolved, true);
        Ok(())
    }

    /// What would become of a prompt of `tokens` at one of these holders, in words; nothing where it fits.
    ///
    /// # Errors
    /// `ContextExceeded` where it would be refused.
    pub(super) fn foresee(&self, tokens: u64, case: &Case<'_>, holders: &[&Holder]) -> Result<Option<String>, Fault> {
        let known = |holder: &&Holder| self.parts.catalog.context(holder, &case.grant.profile);
        let contexts: Vec<_> = holders.iter().map(|holder| (known(holder), holder.model.context_length)).collect();
        if contexts.iter().any(|(known, _)| known.is_some_and(|context| tokens <= context)) {
            return Ok(None);
        }
        // no runner has more than the model was trained for
        let most = contexts.iter().map(|(known, trained)| known.or(*trained).unwrap_or(u64::MAX)).max();
        let most = most.unwrap_or(u64::MAX);
        if tokens <= most {
            return Ok(Some(unknown(most)));
        }
        let is_known = contexts.iter().all(|(known, _)| known.is_some());
        let what = match plan(case) {
            Plan::Cut => "it is cut by Ollama, and the answer says so (on_overflow = \"truncate\")".to_owned(),
            Plan::Route(model) => format!("'{model}' answers it instead (on_overflow)"),
            Plan::Refuse(why) => {
                let sizes = Oversize { prompt: Some(tokens), context: is_known.then_some(most), estimated: false };
                return Err(too_long(sizes, case.request.surface, why.remedy()));
            }
        };
        let bound = if is_known { "" } else { "at most " };
        Ok(Some(format!("the prompt has {tokens} tokens and the context {bound}{most}: {what}")))
    }

    /// Both sizes, as far as Ollama says them, was told before, or can be known here.
    fn sizes(&self, fault: &Fault, endpoint: EndpointId, ready: &Ready, before: Option<Oversize>) -> Oversize {
        let mut sizes = fault.oversize.unwrap_or_default();
        if sizes.context.is_none() {
            sizes = before.filter(|_| !ready.fitting.routed).unwrap_or(sizes);
        }
        let (request, resolved) = (&ready.request, &ready.resolved);
        let known = resolved.at(endpoint).and_then(|holder| self.parts.catalog.context(holder, &ready.grant.profile));
        sizes.context = sizes.context.or(known);
        if sizes.prompt.is_none() {
            let bytes = wire::longest_input(request).unwrap_or(request.measure.prompt_bytes);
            let tokens = self.parts.scheduler.estimate_tokens(&resolved.weights, bytes);
            // an estimate that would have fitted is wrong
            sizes.prompt = Some(tokens).filter(|tokens| sizes.context.is_some_and(|context| *tokens > context));
            sizes.estimated = sizes.prompt.is_some();
        }
        sizes
    }
}

impl Why {
    /// What the caller can do.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Caller => ": shorten it, or send \"truncate\": true to have it cut",
            Self::Policy => {
                ": shorten it, send \"truncate\": true to have it cut, or ask the operator for a larger num_ctx \
                 (on_overflow = \"refuse\")"
            }
            Self::Cut => ": shorten it; Ollama cannot cut it, because it has images or the model runs without shift",
            Self::Routed => ": shorten it; it went where on_overflow sends it already",
            Self::Route => ": shorten it; this route never cuts, /api/embed does",
            Self::Unroutable => {
                ": shorten it, or send \"truncate\": true to have it cut; on_overflow sends neither embeddings nor \
                 a context of token ids to another model"
            }
        }
    }
}

/// That nobody can say yet whether a prompt fits, where the model was trained for `most`.
fn unknown(most: u64) -> String {
    let most = if most == u64::MAX { String::new() } else { format!(", {most} at most") };
    format!(
        "the context is not known until the model is loaded: its profile sets no num_ctx, so the Ollama server \
         chooses{most}"
    )
}

fn too_long(sizes: Oversize, surface: Surface, remedy: &str) -> Fault {
    let text = words(surface.dialect(), sizes) + remedy;
    Fault::new(FaultClass::ContextExceeded, text).at(prompt_field(surface)).sized(sizes)
}

/// Both sizes, in the words by which libraries of each dialect know this refusal.
fn words(dialect: Dialect, sizes: Oversize) -> String {
    let about = if sizes.estimated { "about " } else { "" };
    match (dialect, sizes.prompt, sizes.context) {
        (Dialect::Anthropic, Some(prompt), Some(context)) => {
            format!("prompt is too long: {about}{prompt} tokens > {context} maximum")
        }
        (Dialect::Anthropic, ..) => "prompt is too long for this model's context".to_owned(),
        (_, Some(prompt), Some(context)) => {
            format!("this model's maximum context length is {context} tokens here, and the prompt has {about}{prompt}")
        }
        (_, None, Some(context)) => {
            format!("this model's maximum context length is {context} tokens here, and the prompt is longer")
        }
        _ => "the prompt is longer than this model's maximum context length".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_has_the_words_its_libraries_look_for() {
        let sizes = |prompt, context, estimated| Oversize { prompt, context, estimated };
        let whole = sizes(Some(6010), Some(512), false);
        for dialect in [Dialect::Ollama, Dialect::OpenAi] {
            let text = words(dialect, whole);
            assert_eq!(text, "this model's maximum context length is 512 tokens here, and the prompt has 6010");
        }
        assert_eq!(words(Dialect::Anthropic, whole), "prompt is too long: 6010 tokens > 512 maximum");
        let about = words(Dialect::Anthropic, sizes(Some(600), Some(512), true));
        assert_eq!(about, "prompt is too long: about 600 tokens > 512 maximum");
        for dialect in [Dialect::Ollama, Dialect::OpenAi, Dialect::Anthropic] {
            for (prompt, context) in [(None, None), (Some(5), None), (None, Some(4))] {
                let text = words(dialect, sizes(prompt, context, prompt.is_some()));
                assert!(text.contains("longer") || text.contains("too long"), "{text}");
            }
        }
    }

    #[test]
    fn the_header_leaves_out_what_is_not_known() {
        let text = |sizes, end| Overflow { sizes, end }.to_string();
        let both = Oversize { prompt: Some(7), context: Some(4), estimated: true };
        assert_eq!(text(both, OverflowEnd::Truncated), "truncated; prompt_tokens=7; context=4; estimated");
        assert_eq!(text(Oversize::default(), OverflowEnd::Refused), "refused");
    }
}

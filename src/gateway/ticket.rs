//! Between the line and the scheduler: a ticket from what earlier steps found, and a fault from its refusal.

use std::time::Duration;

use crate::catalog::Resolved;
use crate::domain::{Fault, FaultClass, InferenceRequest, Intent, Moment, RequestId};
use crate::policy::Grant;
use crate::scheduler::core::{Refused, Seat, Ticket, TicketId, Work, WorkKind};

use super::line::Parts;
use super::wishes::Patience;

/// What the scheduler needs to know of the request, which must have started at `deadline`.
///
/// # Errors
/// `BadRequest` when the prompt is larger than the application's `max_context`; `Forbidden` when the model is only on
/// endpoints that the application may not use.
pub(super) fn make(
    parts: &Parts,
    grant: &Grant,
    request: &InferenceRequest,
    resolved: &Resolved,
    label: RequestId,
    deadline: Moment,
) -> Result<Ticket, Fault> {
    let measure = request.measure;
    let rules = &grant.rules;
    if let Some(most) = rules.max_context {
        let tokens = parts.scheduler.estimate_tokens(&resolved.weights, measure.prompt_bytes);
        if tokens > most {
            return Err(too_long(tokens, most));
        }
    }
    let allowed = |name: &str, url: &str| rules.endpoints.allow(name, url);
    let seats: Vec<Seat> = resolved
        .holders
        .iter()
        .filter(|holder| allowed(&holder.endpoint.name, &holder.endpoint.url))
        .map(|holder| {
            let runner = parts.catalog.runner(holder, &grant.profile);
            Seat {
                endpoint: holder.endpoint.id,
                slots: runner.slots,
                need: runner.need,
                guess: runner.guess,
                keep_alive: runner.keep_alive,
                order: runner.order.clone(),
            }
        })
        .collect();
    if seats.is_empty() {
        let text =
            format!("model '{}' is only on servers that this application may not use (endpoints)", request.model);
        return Err(Fault::new(FaultClass::Forbidden, text).at("model"));
    }
    let kind = match request.intent {
        Intent::Answer if request.surface.task().embeds() => WorkKind::Embed,
        Intent::Answer => WorkKind::Generate,
        Intent::Load | Intent::Unload => WorkKind::Load,
    };
    Ok(Ticket {
        id: TicketId(0), // given by the scheduler
        label,
        app: grant.app.clone(),
        class: rules.class,
        weight: rules.weight,
        max_concurrent: rules.max_concurrent,
        max_queued: rules.max_queued,
        deadline,
        bytes: measure.body_bytes,
        work: Work { kind, prompt_bytes: measure.prompt_bytes, output_cap: grant.output_cap },
        weights: resolved.weights.clone(),
        seats,
    })
}

fn too_long(tokens: u64, most: u64) -> Fault {
    let text = format!(
        "the prompt is about {tokens} tokens, this application may use {most} (max_context): shorten it, \
         or ask the operator to raise it"
    );
    Fault::new(FaultClass::BadRequest, text).at("messages")
}

/// The scheduler's no, in words that say which limit, its value and when to come back.
pub(super) fn refusal(why: &Refused, grant: &Grant, patience: &Patience) -> Fault {
    match why {
        Refused::AppQueueFull { queued, limit, eta } => Fault::new(
            FaultClass::QueueFull,
            format!(
                "application '{}' has {queued} requests waiting and may have {limit} (max_queued); number {} in its \
                 queue would start in about {} s",
                grant.app,
                queued + 1,
                whole(*eta)
            ),
        )
        .retry(soon(*eta))
        .placed(Some(*queued as usize + 1), *eta),
        Refused::QueueFull { queued, bytes, eta } => Fault::new(
            FaultClass::Busy,
            format!(
                "the gateway's queue is full ({queued} requests, {bytes} bytes); number {} in it would start in about \
                 {} s: try again then",
                queued + 1,
                whole(*eta)
            ),
        )
        .retry(soon(*eta))
        .placed(Some(queued + 1), *eta),
        Refused::Waited { waited, position, eta } => Fault::new(
            FaultClass::WaitedTooLong,
            format!(
                "no slot came free within {} s ({}); the request was number {position} in the queue, \
                 a new one would start in about {} s",
                brief(*waited),
                patience.rule,
                whole(*eta)
            ),
        )
        .retry(soon(*eta))
        .placed(Some(*position), *eta),
        Refused::TooLate { estimate, limit } => Fault::new(
            FaultClass::TooLate,
            format!(
                "the request would start in about {} s and may wait {} s ({}): {}; it would be number {} in the queue",
                whole(estimate.wait),
                brief(*limit),
                patience.rule,
                estimate.reason.text(),
                estimate.position
            ),
        )
        .retry(soon(estimate.wait))
        .placed(Some(estimate.position), estimate.wait),
        Refused::TooLarge { need, room } => Fault::new(
            FaultClass::Unloadable,
            format!(
                "the model needs about {} MiB of memory and the roomiest server has {} MiB: it cannot be loaded; \
                 use a smaller one, or ask the operator for a smaller context (num_ctx) in its profile",
                need >> 20,
                room >> 20
            ),
        ),
        Refused::Unloadable { reason, retry } => Fault::new(
            FaultClass::Unloadable,
            format!("the model could not be loaded ({reason}); it is tried again in {} s", whole(*retry)),
        )
        .retry(soon(*retry))
        .placed(None, *retry),
        Refused::Draining => Fault::new(
            FaultClass::Draining,
            "the gateway is shutting down and takes no new requests: try again in a moment",
        )
        .retry(Duration::from_secs(2)),
    }
}

/// Whole seconds, as the headers have them: at least one.
fn whole(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}

/// When to come back: nobody is sent away for more than ten minutes on the strength of an estimate.
fn soon(eta: Duration) -> Duration {
    Duration::from_secs(whole(eta).min(600))
}

/// Seconds to a hundredth, for people.
fn brief(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

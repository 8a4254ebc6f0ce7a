//! Between the line and the scheduler: a ticket from what earlier steps found, and a fault from its refusal.

use std::time::Duration;

use crate::catalog::Resolved;
use crate::domain::{Fault, FaultClass, InferenceRequest, Intent, Moment};
use crate::policy::Grant;
use crate::scheduler::core::{Refused, Seat, Ticket, TicketId, Work, WorkKind};

use super::line::Parts;

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
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to ten minutes")]
pub(super) fn refusal(why: &Refused, grant: &Grant) -> Fault {
    // whole seconds, so that the text and the header say the same
    let soon = |eta: &Duration| Duration::from_secs(eta.as_secs_f64().ceil().clamp(1.0, 600.0) as u64);
    match why {
        Refused::AppQueueFull { queued, limit, eta } => Fault::new(
            FaultClass::QueueFull,
            format!(
                "application '{}' has {queued} requests waiting and may have {limit} (max_queued); \
                 a place frees in about {} s",
                grant.app,
                soon(eta).as_secs()
            ),
        )
        .retry(soon(eta)),
        Refused::QueueFull { queued, bytes, eta } => Fault::new(
            FaultClass::Busy,
            format!(
                "the gateway's queue is full ({queued} requests, {bytes} bytes); try again in about {} s",
                soon(eta).as_secs()
            ),
        )
        .retry(soon(eta)),
        Refused::Waited { waited, position, eta } => Fault::new(
            FaultClass::WaitedTooLong,
            format!(
                "no slot came free within {} s (max_wait); the request was number {position} in the queue, \
                 a new one would start in about {} s",
                waited.as_secs(),
                soon(eta).as_secs()
            ),
        )
        .retry(soon(eta)),
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
            format!("the model could not be loaded ({reason}); it is tried again in {} s", soon(retry).as_secs()),
        )
        .retry(soon(retry)),
        Refused::Draining => Fault::new(
            FaultClass::Draining,
            "the gateway is shutting down and takes no new requests: try again in a moment",
        )
        .retry(Duration::from_secs(2)),
    }
}

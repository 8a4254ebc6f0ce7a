//! Between the line and the scheduler: a ticket from what earlier steps found, and a fault from its refusal.

use std::time::Duration;

use crate::catalog::Resolved;
use crate::domain::{Fault, FaultClass, InferenceRequest, Intent, Moment, RequestId, Surface};
use crate::policy::Grant;
use crate::scheduler::core::{Estimate, Refused, Seat, Ticket, TicketId, WaitReason, Work, WorkKind};

use super::line::Parts;
use super::wishes::Patience;

/// When to come back where no server can be used.
const BACK: Duration = Duration::from_secs(30);

/// What the scheduler needs to know of the request, which must have started at `deadline`.
///
/// # Errors
/// `ContextExceeded` when the prompt is larger than the application's `max_context`; `Forbidden` when the model is only on
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
            return Err(too_long(tokens, most).at(prompt_field(request.surface)));
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
        again: None, // set by whoever tries again
        app: grant.app.clone(),
        class: rules.class,
        weight: rules.weight,
        max_concurrent: rules.max_concurrent,
        max_queued: rules.max_queued,
        deadline,
        bytes: measure.body_bytes,
        streams: request.stream && !request.surface.task().embeds(),
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
    Fault::new(FaultClass::ContextExceeded, text)
}

/// The field that holds the prompt.
pub(super) fn prompt_field(surface: Surface) -> &'static str {
    match surface {
        Surface::Chat | Surface::V1Chat | Surface::V1Messages => "messages",
        Surface::Embed | Surface::V1Embeddings | Surface::V1Responses => "input",
        Surface::Generate | Surface::Embeddings | Surface::V1Completions => "prompt",
    }
}

/// The scheduler's no, in words that say which limit, its value and when to come back.
pub(super) fn refusal(why: &Refused, grant: &Grant, patience: &Patience) -> Fault {
    match why {
        Refused::AppQueueFull { queued, limit, estimate } => {
            let text =
                format!("application '{}' has {queued} requests waiting and may have {limit} (max_queued)", grant.app);
            full(FaultClass::QueueFull, &text, estimate.position, estimate)
        }
        Refused::QueueFull { queued, bytes, estimate } => {
            let text = format!("the gateway's queue is full ({queued} requests, {bytes} bytes)");
            full(FaultClass::Busy, &text, queued + 1, estimate)
        }
        Refused::Waited { estimate: Estimate { position, reason: WaitReason::Unreachable, .. }, .. } => {
            let (limit, rule, reason) = (brief(patience.limit), patience.rule, WaitReason::Unreachable.text());
            let text = format!(
                "no slot came free within {limit} s ({rule}): {reason}; the request was number {position} in the queue"
            );
            // nobody can say when
            Fault::new(FaultClass::WaitedTooLong, text).retry(BACK)
        }
        Refused::Waited { estimate: Estimate { position, wait, .. }, .. } => {
            let (limit, rule) = (brief(patience.limit), patience.rule);
            let text = format!(
                "no slot came free within {limit} s ({rule}); the request was number {position} in the queue and \
                 would have started in about {} s more",
                whole(*wait)
            );
            placed(FaultClass::WaitedTooLong, text, Some(*position), *wait)
        }
        Refused::TooLate { estimate: Estimate { position, wait, reason }, limit } => {
            let (limit, rule, reason) = (brief(*limit), patience.rule, reason.text());
            let text = format!(
                "the request would start in about {} s and may wait {limit} s ({rule}): {reason}; it would be number \
                 {position} in the queue",
                whole(*wait)
            );
            placed(FaultClass::TooLate, text, Some(*position), *wait)
        }
        Refused::TooLarge { need, room } => too_large(*need, *room),
        Refused::PinnedOut { need, by } => pinned_out(*need, by),
        Refused::Unloadable { reason, retry } => {
            let text = format!("the model could not be loaded ({reason}); it is tried again in {} s", whole(*retry));
            placed(FaultClass::Unloadable, text, None, *retry)
        }
        Refused::Draining => {
            let text = "the gateway is shutting down and takes no new requests: try again in a moment";
            Fault::new(FaultClass::Draining, text).retry(Duration::from_secs(2))
        }
    }
}

fn too_large(need: u64, room: u64) -> Fault {
    let text = format!(
        "the model needs about {} MiB of memory and the roomiest server has {} MiB: it cannot be loaded; \
         use a smaller one, or ask the operator for a smaller context (num_ctx) in its profile",
        need >> 20,
        room >> 20
    );
    Fault::new(FaultClass::NeverFits, text)
}

fn pinned_out(need: u64, by: &[String]) -> Fault {
    let text = format!(
        "the model needs about {} MiB of memory and has no room on any server beside what is pinned there ({}; keep_alive \
         = -1): use another one, or ask the operator to unpin",
        need >> 20,
        by.join(", ")
    );
    Fault::new(FaultClass::NeverFits, text)
}

/// A queue is full; when the next one in it would start, where anybody can say.
fn full(class: FaultClass, text: &str, next: usize, estimate: &Estimate) -> Fault {
    if estimate.reason == WaitReason::Unreachable {
        return Fault::new(class, format!("{text}: {}", estimate.reason.text())).retry(BACK);
    }
    let seconds = whole(estimate.wait);
    let text = format!("{text}; number {next} in it would start in about {seconds} s: try again then");
    placed(class, text, Some(next), estimate.wait)
}

/// A refusal of the queue, with when to come back. Nobody is sent away for more than ten minutes on the strength of an
/// estimate.
fn placed(class: FaultClass, text: String, position: Option<usize>, eta: Duration) -> Fault {
    Fault::new(class, text).retry(Duration::from_secs(whole(eta).min(600))).placed(position, eta)
}

/// Whole seconds, as the headers have them: at least one.
fn whole(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}

/// Seconds to a hundredth, for people.
fn brief(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::AppName;
    use crate::policy::{AppRules, RunnerProfile};

    /// A refusal; its class, place, seconds to come back after, and parts of its words.
    type Row = (Refused, FaultClass, Option<usize>, Option<u64>, &'static [&'static str]);

    #[test]
    fn every_no_of_the_queue_says_place_time_and_rule_in_words_and_in_numbers() {
        let grant = Grant::for_tests(AppName::parse("shop").unwrap(), AppRules::default(), RunnerProfile::default());
        let limit = Duration::from_millis(1500);
        let patience = Patience { until: Moment::ZERO, limit, rule: "X-Gaucho-Deadline" };
        let eta = Duration::from_millis(4_200);
        let soon = Estimate { position: 4, wait: eta, reason: WaitReason::Slots };
        let estimate = Estimate { position: 7, wait: Duration::from_secs(700), reason: WaitReason::Loading };
        let table: [Row; 7] = [
            (
                Refused::AppQueueFull { queued: 2, limit: 2, estimate: soon },
                FaultClass::QueueFull,
                Some(4),
                Some(5),
                &["may have 2 (max_queued)", "number 4 ", "about 5 s"],
            ),
            (
                Refused::QueueFull { queued: 9, bytes: 80, estimate: soon },
                FaultClass::Busy,
                Some(10),
                Some(5),
                &["9 requests, 80 bytes", "number 10 ", "about 5 s"],
            ),
            (
                Refused::Waited { waited: limit, estimate: soon },
                FaultClass::WaitedTooLong,
                Some(4),
                Some(5),
                &["within 1.5 s (X-Gaucho-Deadline)", "number 4 ", "about 5 s more"],
            ),
            (
                Refused::TooLate { estimate, limit },
                FaultClass::TooLate,
                Some(7),
                Some(600),
                &["about 700 s", "wait 1.5 s (X-Gaucho-Deadline)", "the model is being loaded", "number 7 "],
            ),
            (
                Refused::Unloadable { reason: "out of memory".to_owned(), retry: eta },
                FaultClass::Unloadable,
                None,
                Some(5),
                &["(out of memory)", "in 5 s"],
            ),
            (
                Refused::TooLarge { need: 3 << 20, room: 1 << 20 },
                FaultClass::NeverFits,
                None,
                None,
                &["3 MiB", "1 MiB"],
            ),
            (Refused::Draining, FaultClass::Draining, None, Some(2), &["shutting down"]),
        ];
        for (why, class, position, retry, parts) in table {
            let fault = refusal(&why, &grant, &patience);
            assert_eq!((fault.class, fault.retry_after.map(|wait| wait.as_secs())), (class, retry), "{why:?}");
            assert_eq!(fault.place.and_then(|place| place.position), position, "{why:?}");
            for part in parts {
                assert!(fault.message.contains(part), "{part}: {}", fault.message);
            }
        }
    }

    #[test]
    fn nobody_is_told_a_time_while_no_server_can_be_used() {
        let grant = Grant::for_tests(AppName::parse("shop").unwrap(), AppRules::default(), RunnerProfile::default());
        let limit = Duration::from_secs(300);
        let patience = Patience { until: Moment::ZERO, limit, rule: "max_wait" };
        let estimate = Estimate { position: 2, wait: Duration::from_secs(86_400), reason: WaitReason::Unreachable };
        let fault = refusal(&Refused::Waited { waited: limit, estimate }, &grant, &patience);
        assert_eq!((fault.class, fault.retry_after), (FaultClass::WaitedTooLong, Some(BACK)));
        assert!(fault.place.is_none() && !fault.message.contains("86400"), "{}", fault.message);
        assert!(fault.message.contains("no server that has the model can be used now"), "{}", fault.message);
        let fault = refusal(&Refused::AppQueueFull { queued: 2, limit: 2, estimate }, &grant, &patience);
        assert_eq!((fault.class, fault.retry_after), (FaultClass::QueueFull, Some(BACK)));
        assert!(fault.place.is_none() && fault.message.ends_with("can be used now"), "{}", fault.message);
    }

    #[test]
    fn what_a_pin_shuts_out_names_the_pin() {
        let grant = Grant::for_tests(AppName::parse("shop").unwrap(), AppRules::default(), RunnerProfile::default());
        let patience = Patience { until: Moment::ZERO, limit: Duration::ZERO, rule: "max_wait" };
        let fault = refusal(&Refused::PinnedOut { need: 3 << 20, by: vec!["gemma:a".to_owned()] }, &grant, &patience);
        assert_eq!((fault.class, fault.retry_after), (FaultClass::NeverFits, None));
        assert!(fault.message.contains("3 MiB") && fault.message.contains("(gemma:a; keep_alive = -1)"), "{fault:?}");
    }
}

//! A fault as a reply: status, headers and body, in the caller's dialect.
//!
//! The only place that knows which status a fault class has. Where Ollama refuses with the same words, the reply is
//! Ollama's to the byte; faults it does not have also name the field and the class.

use std::time::Duration;

use super::out::{push, string};
use crate::domain::{Dialect, Fault, FaultClass, Limit, RequestId, date};

/// A whole reply that refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// More headers, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether its length is not told beforehand.
    pub chunked: bool,
}

/// When to come back where nothing says when.
const LATER: Duration = Duration::from_secs(30);

const JSON: &str = "application/json";
const JSON_UTF8: &str = "application/json; charset=utf-8";

/// Bad requests that Ollama's handlers find behind its `/v1` middleware: their replies pass a second encoder, which
/// names no charset and ends the line.
const FOUND_LATE: [&str; 4] =
    ["invalid model name", "invalid input type", "model is required", "top_logprobs must be between 0 and 20"];

/// The same where the text holds the model's name.
const UNABLE: &str = " does not support ";

/// Renders a fault that ends a request before its first byte of answer.
#[must_use]
pub fn refusal(dialect: Dialect, fault: &Fault) -> Refusal {
    let status = status(dialect, fault);
    let mut headers = Vec::new();
    if status == 401 {
        headers.push(("www-authenticate", "Bearer".to_owned()));
    }
    // whoever is told to come back is told when
    let wait = fault.retry_after.or_else(|| matches!(status, 429 | 503 | 529).then_some(LATER));
    if let Some(wait) = wait {
        headers.push(("retry-after", whole_seconds(wait).max(1).to_string()));
    }
    if matches!(fault.class, FaultClass::NeverFits | FaultClass::NotSupported) && dialect != Dialect::Ollama {
        // the official clients of both dialects try every 5xx again unless they are told not to
        headers.push(("x-should-retry", "false".to_owned()));
    }
    if let Some(place) = &fault.place {
        headers.extend(place.position.map(|position| ("x-gaucho-queue-position", position.to_string())));
        headers.push(("x-gaucho-queue-eta", whole_seconds(place.eta).max(1).to_string()));
    }
    let mut body = Vec::with_capacity(128 + fault.message.len());
    object(&mut body, dialect, fault, status);
    // on /v1/messages an empty name is found by the middleware itself
    let early = dialect == Dialect::Anthropic && fault.message == "model is required";
    let late = fault.class != FaultClass::BadRequest
        || fault.upstream_status.is_some()
        || fault.message.contains(UNABLE)
        || FOUND_LATE.contains(&fault.message.as_str());
    let content_type = if dialect != Dialect::Ollama && late && !early {
        body.push(b'\n');
        JSON
    } else if fault.for_a_stream {
        JSON
    } else {
        JSON_UTF8
    };
    Refusal { status, content_type, headers, body, chunked: dialect == Dialect::Ollama && fault.for_a_stream }
}

impl Refusal {
    /// Names the request where the dialect does: Anthropic's errors hold an id.
    #[must_use]
    pub fn of(mut self, dialect: Dialect, request: RequestId) -> Self {
        let end = self.body.iter().rposition(|byte| *byte == b'}').filter(|_| dialect == Dialect::Anthropic);
        if let Some(end) = end {
            let rest = self.body.split_off(end);
            push(&mut self.body, &format!(",\"request_id\":\"{request}\""));
            self.body.extend(rest);
        }
        self
    }
}

/// Headers that name the request, on good replies as on refusals.
#[must_use]
pub fn id_headers(dialect: Dialect, request: RequestId) -> Vec<(&'static str, String)> {
    let mut headers = vec![("x-request-id", request.to_string())];
    if dialect == Dialect::Anthropic {
        // the name that Anthropic's clients know
        headers.push(("request-id", request.to_string()));
    }
    headers
}

/// Headers that say where an application stands against its limit `now` (since 1970), on good replies as on refusals.
#[must_use]
pub fn limit_headers(dialect: Dialect, limit: &Limit, now: Duration) -> Vec<(&'static str, String)> {
    let Limit { limit, remaining, reset } = *limit;
    let seconds = whole_seconds(reset);
    let (limit, remaining) = (limit.to_string(), remaining.to_string());
    let names = match dialect {
        Dialect::Ollama => None,
        Dialect::OpenAi => {
            let names = ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
            Some((names, format!("{seconds}s")))
        }
        Dialect::Anthropic => {
            let names = [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ];
            Some((names, date(Duration::from_secs(whole_seconds(now + reset))).to_string()))
        }
    };
    let own = (["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"], seconds.to_string());
    let both = std::iter::once(own).chain(names);
    both.flat_map(|(names, reset)| names.into_iter().zip([limit.clone(), remaining.clone(), reset])).collect()
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

/// The status of a fault.
fn status(dialect: Dialect, fault: &Fault) -> u16 {
    match fault.class {
        FaultClass::BadRequest => fault.upstream_status.unwrap_or(400),
        FaultClass::ContextExceeded => 400,
        // the Ollama CLI swallows the text of a 401
        FaultClass::Unauthenticated | FaultClass::Revoked if dialect == Dialect::Ollama => 403,
        FaultClass::Unauthenticated | FaultClass::Revoked => 401,
        FaultClass::Forbidden => 403,
        FaultClass::NotFound => 404,
        FaultClass::TooSlow | FaultClass::SlowReader => 408,
        FaultClass::TooLarge => 413,
        FaultClass::Encoded => 415,
        FaultClass::RateLimited | FaultClass::QueueFull => 429,
        // as Ollama says of a model that needs more memory than there is
        FaultClass::Internal | FaultClass::NeverFits | FaultClass::Repetition => 500,
        FaultClass::NotSupported => 501,
        FaultClass::Unreachable | FaultClass::UpstreamBroken => 502,
        FaultClass::Busy
        | FaultClass::WaitedTooLong
        | FaultClass::TooLate
        | FaultClass::Unloadable
        | FaultClass::Draining
        | FaultClass::Stopped => 503,
        FaultClass::UpstreamTimeout | FaultClass::Recalled => 504,
        FaultClass::UpstreamError => fault.upstream_status.filter(|status| (400..=599).contains(status)).unwrap_or(502),
    }
}

/// Appends the error object as it stands in a refusal or in the middle of a stream.
pub(super) fn object(out: &mut Vec<u8>, dialect: Dialect, fault: &Fault, status: u16) {
    match dialect {
        Dialect::Ollama => {
            push(out, "{\"error\":");
            string(out, &fault.message);
            out.push(b'}');
        }
        Dialect::OpenAi => openai(out, fault, status),
        Dialect::Anthropic => {
            push(out, "{\"type\":\"error\",\"error\":{\"type\":");
            string(out, anthropic_type(status));
            push(out, ",\"message\":");
            string(out, &fault.message);
            push(out, "}}");
        }
    }
}

/// The error object of a fault in the middle of a stream.
pub(super) fn object_in_stream(out: &mut Vec<u8>, dialect: Dialect, fault: &Fault) {
    object(out, dialect, fault, status(dialect, fault));
}

fn openai(out: &mut Vec<u8>, fault: &Fault, status: u16) {
    // Ollama has no other types and no codes; ours appear only where Ollama never answers so
    let ours = fault.upstream_status.is_none()
        && fault.class != FaultClass::NotFound
        && (fault.param.is_some() || fault.class != FaultClass::BadRequest);
    push(out, "{\"error\":{\"message\":");
    string(out, &fault.message);
    push(out, ",\"type\":");
    string(out, openai_type(status, ours));
    push(out, ",\"param\":");
    match fault.param.as_ref().filter(|_| ours) {
        Some(param) => string(out, param),
        None => push(out, "null"),
    }
    push(out, ",\"code\":");
    if ours {
        string(out, fault.class.as_str())
    } else {
        push(out, "null")
    }
    push(out, "}}");
}

fn openai_type(status: u16, ours: bool) -> &'static str {
    match status {
        400 => "invalid_request_error",
        404 => "not_found_error",
        401 if ours => "authentication_error",
        403 if ours => "permission_error",
        413 | 415 if ours => "invalid_request_error",
        429 if ours => "rate_limit_error",
        _ => "api_error",
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        400 | 415 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        408 | 504 => "timeout_error",
        _ => "api_error",
    }
}

//! The JSON line of a record.

use std::time::Duration;

use serde::Serialize;

use super::Record;
use crate::domain::{FaultClass, Outcome};

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    message: &'static str,
    request_id: String,
    app: Option<&'a str>,
    key: Option<&'a str>,
    class: Option<&'static str>,
    model: Option<String>,
    endpoint: Option<&'a str>,
    retries: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    overflow: Option<String>,
    dialect: &'static str,
    route: &'static str,
    stream: bool,
    status: u16,
    outcome: &'static str,
    queue_ms: f64,
    load_ms: f64,
    prompt_ms: f64,
    generation_ms: f64,
    first_event_ms: Option<f64>,
    total_ms: f64,
    prompt_tokens: u64,
    output_tokens: u64,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

/// Milliseconds with three digits.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// What a server or our own end did to a request warns, a defect of ours is an error; what a caller asked or may not is
/// neither.
fn level(record: &Record) -> &'static str {
    use FaultClass as C;
    match record.outcome {
        Outcome::Faulted(C::Internal) => "ERROR",
        Outcome::Faulted(C::Stopped) => "WARN",
        Outcome::Faulted(
            C::Unloadable
            | C::NeverFits
            | C::Unreachable
            | C::UpstreamTimeout
            | C::Recalled
            | C::UpstreamError
            | C::UpstreamBroken,
        ) if !(400..500).contains(&record.status) => "WARN",
        _ => "INFO",
    }
}

/// One line, without its end.
pub(super) fn render(record: &Record) -> Vec<u8> {
    let usage = &record.usage;
    let line = Line {
        timestamp: timestamp(record.arrived + usage.total),
        level: level(record),
        message: "request",
        request_id: record.id.to_string(),
        app: record.app.as_ref().map(|app| app.as_str()),
        key: record.key.as_ref().map(|key| &*key.0),
        class: record.class.map(|class| class.as_str()),
        model: record.model.as_ref().map(ToString::to_string),
        endpoint: record.endpoint.as_ref().map(|(_, name)| name.as_str()),
        retries: record.retried.len(),
        overflow: record.overflow.as_ref().map(ToString::to_string),
        dialect: record.dialect.as_str(),
        route: record.route,
        stream: record.stream,
        status: record.status,
        outcome: record.outcome.as_str(),
        queue_ms: ms(usage.queue),
        load_ms: ms(usage.load),
        prompt_ms: ms(usage.prompt),
        generation_ms: ms(usage.generation),
        first_event_ms: usage.first_event.map(ms),
        total_ms: ms(usage.total),
        prompt_tokens: usage.prompt_tokens,
        output_tokens: usage.output_tokens,
        bytes_in: usage.bytes_in,
        bytes_out: usage.bytes_out,
        reason: record.reason.as_deref(),
        detail: record.detail.as_deref(),
    };
    serde_json::to_vec(&line).unwrap_or_default()
}

pub(super) fn timestamp(since_1970: Duration) -> String {
    format!("{:.3}", crate::domain::date(since_1970))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::{AppName, Fault, RequestId};

    #[test]
    fn a_line_tells_who_what_how_long_and_why() {
        let mut record = Record::new(RequestId(0x1f), "/api/chat", Duration::from_secs(1_795_415_330));
        record.app = Some(AppName::parse("chat-ui").unwrap());
        record.usage.queue = Duration::from_micros(1500);
        record.usage.total = Duration::from_millis(20);
        let fault = Fault::new(FaultClass::RateLimited, "too many");
        record.outcome = Outcome::Faulted(fault.class);
        record.reason = Some(fault.message);
        record.status = 429;
        let line: serde_json::Value = serde_json::from_slice(&render(&record)).unwrap();
        assert_eq!(line["timestamp"], "2026-11-23T06:28:50.020Z");
        assert_eq!(line["request_id"], "req_000000000000001f");
        assert_eq!(line["app"], "chat-ui");
        assert_eq!(line["queue_ms"], 1.5);
        assert_eq!(line["outcome"], "rate_limited");
        assert_eq!(line["reason"], "too many");
        assert_eq!(line["status"], 429);
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_failing_server_is_found_by_level_and_a_callers_mistake_is_not() {
        let mut record = Record::new(RequestId(1), "/api/chat", Duration::ZERO);
        for (class, status, wanted) in [
            (FaultClass::UpstreamError, 502, "WARN"),
            (FaultClass::UpstreamError, 404, "INFO"),
            (FaultClass::UpstreamBroken, 200, "WARN"),
            (FaultClass::Unloadable, 503, "WARN"),
            (FaultClass::NeverFits, 500, "WARN"),
            (FaultClass::BadRequest, 500, "INFO"),
            (FaultClass::QueueFull, 429, "INFO"),
            (FaultClass::Busy, 503, "INFO"),
            (FaultClass::Stopped, 200, "WARN"),
            (FaultClass::Internal, 500, "ERROR"),
        ] {
            (record.outcome, record.status) = (Outcome::Faulted(class), status);
            assert_eq!(level(&record), wanted, "{class:?} {status}");
        }
    }
}

//! Refusals: Ollama's to the byte where it refuses too, and the status of every class.

use std::time::Duration;

use super::*;
use crate::domain::{Fault, FaultClass, Limit, RequestId};

/// Bodies that decode, because Ollama finds the fault later: they are refused by Ollama itself or by the catalog.
fn judged_later(recording: &Recording) -> bool {
    let later =
        ["absent", "busy_", "crash_", "chat_think", "tools", "effort", "on_embedder", "on_chat_model", "too_long"];
    later.iter().any(|part| recording.name.contains(part))
        || ["err_format", "err_image", "err_suffix"].contains(&recording.name.as_str())
}

#[test]
fn bad_bodies_are_refused_as_ollama_refuses_them() {
    let mut refused = 0;
    for recording in recordings().into_iter().filter(|recording| recording.method == "POST") {
        let fault = match (surface(&recording.path), recording.path.as_str()) {
            (Some(surface), _) => decode(surface, &recording.body).err(),
            (None, "/api/show") => decode_show(&recording.body).err(),
            _ => continue,
        };
        let Some(fault) = fault else {
            assert!(recording.status == 200 || judged_later(&recording), "{} was taken", recording.name);
            continue;
        };
        // what Ollama ignores, or serves by going to the internet
        let ours = [("v1_chat_n2", "n"), ("v1_responses_bad_tool", "tools[0].type")];
        if let Some((_, param)) = ours.iter().find(|(name, _)| *name == recording.name) {
            assert_eq!(fault.param.as_deref(), Some(*param));
            continue;
        }
        let dialect = match recording.path.as_str() {
            "/v1/messages" => Dialect::Anthropic,
            path if path.starts_with("/v1") => Dialect::OpenAi,
            _ => Dialect::Ollama,
        };
        check(&recording, &refusal(dialect, &fault));
        refused += 1;
    }
    assert!(refused > 50, "{refused} refusals");
}

#[test]
fn refusals_of_ollama_pass_through_to_the_byte() {
    let mut passed = 0;
    for recording in recordings() {
        let Some(surface) = surface(&recording.path) else { continue };
        if recording.status == 200 || !judged_later(&recording) || recording.name == "v1_chat_effort_bad" {
            continue;
        }
        let body = recording.frames.concat();
        // on /v1 the native body behind it is made again from the message
        let native = match surface.dialect() {
            Dialect::Ollama => body,
            _ => {
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                serde_json::json!({ "error": body["error"]["message"] }).to_string()
            }
        };
        let fault = upstream_fault(recording.status, native.as_bytes());
        let refusal = refusal(surface.dialect(), &fault);
        assert_eq!(refusal.headers.is_empty(), recording.status != 503, "{}", recording.name);
        check(&recording, &refusal);
        passed += 1;
    }
    assert!(passed > 15, "{passed} refusals");
}

fn check(recording: &Recording, refusal: &Refusal) {
    let got = (refusal.status, refusal.content_type, String::from_utf8_lossy(&refusal.body).into_owned());
    // the id of the request is added where there is one
    let body = recording.frames.concat();
    let body = match body.find(",\"request_id\":\"") {
        Some(at) => [body.get(..at), body.get(body.rfind('}').unwrap()..)].into_iter().flatten().collect(),
        None => body,
    };
    let wanted = (recording.status, recording.content_type.as_str(), body);
    assert_eq!(got, wanted, "{}", recording.name);
}

#[test]
fn every_class_has_its_status_in_each_dialect() {
    use FaultClass::*;
    let table = [
        (BadRequest, 400, 400),
        (ContextExceeded, 400, 400),
        (TooLarge, 413, 413),
        (Encoded, 415, 415),
        (TooSlow, 408, 408),
        (Unauthenticated, 403, 401),
        (Revoked, 403, 401),
        (Forbidden, 403, 403),
        (NotFound, 404, 404),
        (RateLimited, 429, 429),
        (QueueFull, 429, 429),
        (Busy, 503, 503),
        (WaitedTooLong, 503, 503),
        (TooLate, 503, 503),
        (Unloadable, 503, 503),
        (NeverFits, 500, 500),
        (Draining, 503, 503),
        (Stopped, 503, 503),
        (NotSupported, 501, 501),
        (Unreachable, 502, 502),
        (UpstreamTimeout, 504, 504),
        (UpstreamError, 502, 502),
        (UpstreamBroken, 502, 502),
        (Repetition, 500, 500),
        (SlowReader, 408, 408),
        (Internal, 500, 500),
    ];
    for (class, native, v1) in table {
        let fault = Fault::new(class, "x");
        assert_eq!(refusal(Dialect::Ollama, &fault).status, native, "{class:?}");
        assert_eq!(refusal(Dialect::OpenAi, &fault).status, v1, "{class:?}");
        assert_eq!(refusal(Dialect::Anthropic, &fault).status, v1, "{class:?}");
    }
    assert_eq!(refusal(Dialect::Ollama, &Fault::new(UpstreamError, "x").upstream(501)).status, 501);
}

#[test]
fn what_never_fits_or_is_not_served_tells_no_client_to_come_back() {
    for class in [FaultClass::NeverFits, FaultClass::NotSupported] {
        let fault = Fault::new(class, "x");
        assert_eq!(refusal(Dialect::Ollama, &fault).headers, []);
        for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
            assert_eq!(refusal(dialect, &fault).headers, [("x-should-retry", "false".to_owned())]);
        }
    }
}

#[test]
fn a_format_that_is_none_is_the_callers_mistake_and_keeps_ollamas_status() {
    let said = br#"{"error":"invalid format: \"\\\"yaml\\\"\"; expected \"json\" or a valid JSON Schema object"}"#;
    let fault = upstream_fault(500, said);
    assert_eq!(fault.class, FaultClass::BadRequest);
    let reply = refusal(Dialect::Ollama, &fault);
    assert_eq!((reply.status, reply.body.as_slice()), (500, said.as_slice()));
    assert_eq!(upstream_fault(500, br#"{"error":"boom"}"#).class, FaultClass::UpstreamError);
}

#[test]
fn a_rate_limit_says_which_when_and_how_much() {
    let limit = Limit { limit: 60, remaining: 0, reset: Duration::from_millis(12_300) };
    let fault = Fault::new(FaultClass::RateLimited, "60 requests a minute are used up")
        .at("requests_per_minute")
        .retry(Duration::from_millis(200))
        .limited(limit);
    let native = refusal(Dialect::Ollama, &fault);
    assert_eq!(native.body, br#"{"error":"60 requests a minute are used up"}"#);
    assert_eq!(native.headers, [("retry-after", "1".to_owned())]);
    let told = |dialect| {
        let headers = limit_headers(dialect, &limit, Duration::from_millis(1_767_225_600_500));
        headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let ours = ["ratelimit-limit: 60", "ratelimit-remaining: 0", "ratelimit-reset: 13"];
    assert_eq!(told(Dialect::Ollama), ours);
    assert_eq!(told(Dialect::OpenAi)[..3], ours);
    let openai = ["limit-requests: 60", "remaining-requests: 0", "reset-requests: 13s"];
    assert_eq!(told(Dialect::OpenAi)[3..], openai.map(|rest| format!("x-ratelimit-{rest}")));
    let anthropic = ["limit: 60", "remaining: 0", "reset: 2026-01-01T00:00:13Z"];
    assert_eq!(told(Dialect::Anthropic)[3..], anthropic.map(|rest| format!("anthropic-ratelimit-requests-{rest}")));
    let v1 = refusal(Dialect::OpenAi, &fault);
    let wanted = r#"{"error":{"message":"60 requests a minute are used up","type":"rate_limit_error","param":"requests_per_minute","code":"rate_limited"}}"#;
    assert_eq!(String::from_utf8(v1.body).unwrap(), format!("{wanted}\n"));
}

#[test]
fn anthropics_errors_have_the_type_of_their_status() {
    use FaultClass::*;
    for (class, kind) in [
        (BadRequest, "invalid_request_error"),
        (Encoded, "invalid_request_error"),
        (Unauthenticated, "authentication_error"),
        (Forbidden, "permission_error"),
        (NotFound, "not_found_error"),
        (TooLarge, "request_too_large"),
        (RateLimited, "rate_limit_error"),
        (QueueFull, "rate_limit_error"),
        (Busy, "overloaded_error"),
        (TooLate, "overloaded_error"),
        (UpstreamTimeout, "timeout_error"),
        (TooSlow, "timeout_error"),
        (UpstreamBroken, "api_error"),
        (Internal, "api_error"),
    ] {
        let refusal = refusal(Dialect::Anthropic, &Fault::new(class, "x")).of(Dialect::Anthropic, RequestId(7));
        let wanted = format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":"x"}},"request_id":"req_0000000000000007"}}"#
        );
        assert_eq!(String::from_utf8(refusal.body).unwrap().trim_end(), wanted, "{class:?}");
    }
}

#[test]
fn an_upstream_that_says_nothing_readable_is_named_and_its_words_go_to_the_log() {
    let fault = upstream_fault(502, b"<html>bad gateway</html>");
    assert_eq!((fault.class, fault.upstream_status), (FaultClass::UpstreamError, Some(502)));
    assert_eq!(fault.message, "Ollama answered 502 without saying why");
    assert_eq!(fault.detail.as_deref(), Some("<html>bad gateway</html>"));
}

#[test]
fn a_refusal_of_the_queue_says_place_and_time_in_headers() {
    let fault = Fault::new(FaultClass::TooLate, "late")
        .retry(Duration::from_secs(9))
        .placed(Some(3), Duration::from_millis(8_200));
    for dialect in [Dialect::Ollama, Dialect::OpenAi, Dialect::Anthropic] {
        let refusal = refusal(dialect, &fault);
        let wanted = [("retry-after", "9"), ("x-gaucho-queue-position", "3"), ("x-gaucho-queue-eta", "9")];
        assert_eq!(refusal.headers, wanted.map(|(name, value)| (name, value.to_owned())), "{dialect:?}");
    }
    let body = refusal(Dialect::OpenAi, &fault).body;
    assert!(String::from_utf8(body).unwrap().contains(r#""type":"api_error","param":null,"code":"too_late""#));
    let placeless = Fault::new(FaultClass::Unloadable, "x").placed(None, Duration::ZERO);
    let wanted = [("retry-after", "30".to_owned()), ("x-gaucho-queue-eta", "1".to_owned())];
    assert_eq!(refusal(Dialect::Ollama, &placeless).headers, wanted, "who is told to come back is told when");
}

#[test]
fn a_prompt_that_does_not_fit_is_known_by_ollamas_words_with_the_sizes_it_says() {
    let runner = r#"{"error":{"code":400,"message":"request (6010 tokens) exceeds …","type":"exceed_context_size_error","n_prompt_tokens":6010,"n_ctx":512}}"#;
    for (status, text, sizes) in [
        (400, runner, (Some(6010), Some(512))),
        (400, "{\"error\":{\"type\":\"exceed_context_size_error\"}}", (None, None)),
        (400, "the input length exceeds the context length", (None, None)),
        (500, "the input length exceeds the context length", (None, None)),
        (400, "the prompt is longer than the context length currently available to the model; shorten …", (None, None)),
    ] {
        let fault = upstream_fault(status, serde_json::json!({ "error": text }).to_string().as_bytes());
        let oversize = fault.oversize.unwrap();
        assert_eq!((fault.class, fault.upstream_status), (FaultClass::ContextExceeded, Some(status)), "{text}");
        assert_eq!((oversize.prompt, oversize.context), sizes, "{text}");
        assert_eq!(fault.message, text);
    }
    for (status, text) in
        [(400, "invalid options: context length"), (404, "the input length exceeds the context length")]
    {
        let fault = upstream_fault(status, serde_json::json!({ "error": text }).to_string().as_bytes());
        assert!(fault.class != FaultClass::ContextExceeded && fault.oversize.is_none() != (status == 404), "{text}");
    }
}

#[test]
fn whatever_says_come_back_says_when() {
    for status in [429, 503] {
        let refusal = refusal(Dialect::OpenAi, &upstream_fault(status, b"<html>no</html>"));
        assert_eq!((refusal.status, refusal.headers[0].0), (status, "retry-after"), "{refusal:?}");
    }
}

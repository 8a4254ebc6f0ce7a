//! The text that scrapers get, and a log that never waits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::{AppName, FaultClass, ModelName, Outcome, Usage};

use super::*;

const SOON: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An output that says when it is asked to write, and waits until it may.
struct Gate {
    asked: Sender<()>,
    open: Receiver<()>,
    page: Page,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.asked.send(()).unwrap();
        let _ = self.open.recv(); // an error is a gate taken away: open from now on
        self.page.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn app() -> AppName {
    AppName::parse("shop").unwrap()
}

#[test]
fn a_finished_request_is_counted_in_every_family_it_concerns() {
    let registry = Registry::new();
    let metrics = RequestMetrics::register(&registry);
    let model = ModelName::parse("gemma").unwrap();
    let usage = Usage {
        prompt_tokens: 7,
        output_tokens: 40,
        generation: Duration::from_secs(2),
        first_event: Some(Duration::from_millis(300)),
        ..Usage::default()
    };
    let end = Finished {
        app: &app(),
        model: Some(&model),
        endpoint: Some("gpu0"),
        route: "/v1/chat/completions",
        outcome: Outcome::Answered,
        usage: &usage,
    };
    metrics.finished(&end);
    metrics.finished(&Finished { model: None, endpoint: None, usage: &Usage::default(), ..end });
    let text = registry.encode();
    for line in [
        r#"gaucho_gateway_requests_total{app="shop",model="gemma:latest",endpoint="gpu0",surface="/v1/chat/completions",outcome="answered"} 1"#,
        r#"gaucho_gateway_requests_total{app="shop",model="unknown",endpoint="unknown",surface="/v1/chat/completions",outcome="answered"} 1"#,
        r#"gaucho_gateway_prompt_tokens_total{app="shop",model="gemma:latest"} 7"#,
        r#"gaucho_gateway_output_tokens_total{app="shop",model="gemma:latest"} 40"#,
        r#"gaucho_gateway_generation_tokens_per_second_sum{model="gemma:latest"} 20.0"#,
        r#"gaucho_gateway_ttft_seconds_bucket{le="0.25",model="gemma:latest"} 0"#,
        r#"gaucho_gateway_ttft_seconds_bucket{le="0.5",model="gemma:latest"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
    }
    assert_eq!(text.matches("ttft_seconds_count").count(), 1, "nothing is observed that did not happen: {text}");
}

#[test]
fn every_other_family_has_its_name_and_labels() {
    let registry = Registry::new();
    let metrics = RequestMetrics::register(&registry);
    assert!(registry.encode().contains("gaucho_scheduler_queue_depth 0"), "shown before the first request");
    metrics.refused(Some(&app()), FaultClass::RateLimited);
    metrics.refused(None, FaultClass::Unauthenticated);
    metrics.admitted("batch", Duration::from_secs(3));
    metrics.queue_depth(5);
    metrics.slots("gpu1", "gemma:latest", 2, 4);
    metrics.upstream_error("gpu1", FaultClass::UpstreamBroken);
    metrics.retry("gpu1", FaultClass::Unreachable);
    metrics.ejected("gpu1", true);
    metrics.ejection("gpu1", "silent");
    metrics.policy_reload(true);
    metrics.policy_reload(false);
    let text = registry.encode();
    for line in [
        r#"gaucho_gateway_refused_total{app="shop",reason="rate_limited"} 1"#,
        r#"gaucho_gateway_refused_total{app="unknown",reason="unauthenticated"} 1"#,
        r#"gaucho_scheduler_queue_wait_seconds_sum{class="batch"} 3.0"#,
        "gaucho_scheduler_queue_depth 5",
        r#"gaucho_scheduler_slots{endpoint="gpu1",model="gemma:latest"} 4"#,
        r#"gaucho_scheduler_slots_used{endpoint="gpu1",model="gemma:latest"} 2"#,
        r#"gaucho_upstream_errors_total{endpoint="gpu1",reason="upstream_broken"} 1"#,
        r#"gaucho_gateway_retries_total{endpoint="gpu1",reason="unreachable"} 1"#,
        r#"gaucho_upstream_ejected{endpoint="gpu1"} 1"#,
        r#"gaucho_upstream_ejections_total{endpoint="gpu1",reason="silent"} 1"#,
        r#"gaucho_policy_reloads_total{result="taken"} 1"#,
        r#"gaucho_policy_reloads_total{result="rejected"} 1"#,
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
    }
}

#[test]
fn a_word_that_is_no_level_does_not_silence_the_log() {
    let lines = LogLines::start(Page::default(), &Registry::new()).unwrap();
    for (filter, good) in [("warning", false), ("info,verbose", false), ("debug", true), ("WARN,gaucho=info", true)] {
        let subscriber = logs::subscriber(filter, LogFormat::Json, &lines);
        let why = subscriber.err().map(|why| why.to_string());
        assert_eq!(why.is_none(), good, "{filter}: {why:?}");
        assert!(why.is_none_or(|why| why.contains("is no level; use a level (error, warn")), "{filter}");
    }
}

#[test]
fn lines_and_events_come_out_whole_and_in_order() {
    let (page, registry) = (Page::default(), Registry::new());
    let lines = LogLines::start(page.clone(), &registry).unwrap();
    let subscriber = logs::subscriber("warn,gaucho=info", LogFormat::Json, &lines).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(target: "gaucho::x", answer = 42, "first");
        lines.write(br#"{"second":true}"#.to_vec());
        tracing::debug!(target: "gaucho::x", "too quiet");
        tracing::warn!(target: "else", "third");
    });
    assert!(lines.flush(SOON));
    let lines: Vec<serde_json::Value> =
        page.text().lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!((&lines[0]["message"], &lines[0]["answer"]), (&"first".into(), &42.into()));
    assert_eq!(lines[1]["second"], true);
    assert_eq!(lines[2]["message"], "third");
}

#[test]
fn text_format_is_one_short_line() {
    let (page, registry) = (Page::default(), Registry::new());
    let lines = LogLines::start(page.clone(), &registry).unwrap();
    let subscriber = logs::subscriber("info", LogFormat::Text, &lines).unwrap();
    tracing::subscriber::with_default(subscriber, || tracing::info!("hello"));
    assert!(lines.flush(SOON));
    assert!(page.text().contains("hello") && page.text().lines().count() == 1, "{}", page.text());
}

#[test]
fn a_stalled_reader_costs_lines_and_no_time() {
    const ROOM: usize = 4;
    let (page, registry) = (Page::default(), Registry::new());
    let (asked, was_asked) = channel();
    let (opener, open) = channel();
    let gate = Gate { asked, open, page: page.clone() };
    let lines = LogLines::with_capacity(ROOM, gate, &registry).unwrap();
    lines.write(b"stuck".to_vec());
    was_asked.recv_timeout(SOON).unwrap(); // the writer has taken it and hangs
    for line in 0..ROOM + 3 {
        lines.write(line.to_string().into_bytes());
    }
    assert!(registry.encode().contains("gaucho_telemetry_log_lines_dropped_total 3"), "{}", registry.encode());
    assert!(!lines.flush(Duration::from_millis(1)), "a flush does not wait for ever");
    drop(opener);
    assert!(lines.flush(SOON));
    assert_eq!(page.text(), "stuck\n0\n1\n2\n3\n");
}

/// An output that takes as many bytes as it is told, and breaks then.
struct Pipe {
    room: Receiver<usize>,
    page: Page,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.room.recv() {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(room) => self.page.write(&bytes[..room.min(bytes.len())]),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_pipe_is_waited_for_and_lines_that_a_broken_one_did_not_take_are_counted() {
    let (page, registry) = (Page::default(), Registry::new());
    let (reader, room) = channel();
    let lines = LogLines::start(Pipe { room, page: page.clone() }, &registry).unwrap();
    for take in [0, 2, 0, 100] {
        reader.send(take).unwrap();
    }
    lines.write(b"first".to_vec());
    assert!(lines.flush(SOON));
    assert_eq!(page.text(), "first\n");
    assert!(registry.encode().contains("gaucho_telemetry_log_lines_dropped_total 0"));
    lines.write(b"second".to_vec());
    reader.send(3).unwrap();
    drop(reader);
    assert!(lines.flush(SOON));
    lines.write(b"third".to_vec());
    assert!(lines.flush(SOON));
    assert_eq!(page.text(), "first\nsec");
    assert!(registry.encode().contains("gaucho_telemetry_log_lines_dropped_total 2"), "{}", registry.encode());
}

#[test]
fn a_bad_filter_is_named_with_a_remedy() {
    let lines = LogLines::start(Page::default(), &Registry::new()).unwrap();
    let Err(error) = logs::subscriber("gaucho=loud", LogFormat::Json, &lines) else { panic!("accepted") };
    let text = error.to_string();
    assert!(text.contains("gaucho=loud") && text.contains("debug"), "{text}");
    let Err(error) = logs::subscriber("loud", LogFormat::Json, &lines) else { panic!("accepted") };
    assert_eq!(error.to_string().matches("trace").count(), 1, "{error}");
}

#[test]
fn only_those_that_had_to_wait_say_how_well_waits_are_predicted() {
    let registry = Registry::new();
    let metrics = SchedulerMetrics::register(&registry, Vec::new());
    let ms = Duration::from_millis;
    for (waited, told) in [(ms(2), Some(ms(4))), (ms(0), Some(ms(0))), (ms(5_000), None)] {
        metrics.waited("slots", "batch", waited, told);
    }
    assert!(!registry.encode().contains("wait_prediction_error_ratio_count{"), "{}", registry.encode());
    metrics.waited("slots", "batch", ms(2), Some(ms(3_000)));
    metrics.waited("slots", "batch", ms(4_000), Some(ms(2_000)));
    let text = registry.encode();
    assert!(text.contains("wait_prediction_error_ratio_count{class=\"batch\"} 2"), "{text}");
    assert!(text.contains("wait_seconds_count{reason=\"slots\"} 5"), "{text}");
}

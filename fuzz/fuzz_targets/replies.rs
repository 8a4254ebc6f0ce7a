//! What comes from upstream, in every dialect: the first byte picks the task, the rest is the body of its answer.
//!
//! Whatever Ollama, or what stands in its place, sends: what a caller gets is well formed, and the text in it is the
//! text that came.
#![no_main]

use gaucho_fuzz::domain::{Dialect, Event, Fault, FaultClass, Surface, Task};
use gaucho_fuzz::wire::{decode_event, refusal, upstream_fault};
use gaucho_fuzz::{encoder, ends, heard, json, lines, native, pick, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&first, body)) = data.split_first() else { return };
    let task = pick(&Task::ALL, first);
    let status = pick(&[400, 401, 403, 404, 429, 500, 503], first >> 2);
    for dialect in [Dialect::Ollama, Dialect::OpenAi, Dialect::Anthropic] {
        assert!(json::is_json(&refusal(dialect, &upstream_fault(status, body)).body));
    }
    let surfaces = || Surface::ALL.into_iter().filter(|surface| surface.task() == task);
    if let Ok(event) = decode_event(task, body) {
        assert!(json::is_json(body));
        surfaces().for_each(|surface| whole(surface, &event, first > 127));
    }
    if task.embeds() {
        return;
    }
    let Ok((lines, _)) = lines([body], 1 << 20) else { return };
    let mut events = Vec::new();
    for line in &lines {
        let Ok(event) = decode_event(task, line) else { break };
        let last = ends(&event);
        events.push(event);
        if last {
            break;
        }
    }
    surfaces().for_each(|surface| streamed(surface, &events));
});

fn whole(surface: Surface, event: &Event, base64: bool) {
    let body = encoder(&request(surface, "m", base64)).unary(event).concat();
    assert!(json::is_json(&body), "{}", String::from_utf8_lossy(&body));
    if surface == native(surface.task()) {
        let again = decode_event(surface.task(), &body).expect("a native reply is a native reply");
        assert_eq!(encoder(&request(surface, "m", base64)).unary(&again).concat(), body);
    }
}

fn streamed(surface: Surface, events: &[Event]) {
    let mut encoder = encoder(&request(surface, "m", false));
    let mut stream = Vec::new();
    let mut said = String::new();
    for event in events {
        let start = stream.len();
        encoder.stream(event, &mut stream);
        if let Event::Piece(piece) = event {
            said.push_str(&piece.text);
            if surface == native(surface.task()) {
                let frame = &stream[start..];
                let again = decode_event(surface.task(), frame).expect("a native frame is a native reply");
                let mut twice = Vec::new();
                encoder.stream(&again, &mut twice);
                assert_eq!(String::from_utf8_lossy(frame), String::from_utf8_lossy(&twice));
            }
        }
    }
    if !events.last().is_some_and(ends) {
        encoder.fault(&Fault::new(FaultClass::UpstreamBroken, "the stream ended\r\n\n early"), &mut stream);
    }
    let heard = heard(surface, &stream);
    let told = String::from_utf8_lossy(&stream);
    if surface.path() == "/v1/responses" {
        // white space beside a call is no message of its own
        assert_eq!(words(&heard), words(&said), "{told}");
    } else {
        assert_eq!(heard, said, "{told}");
    }
}

/// What is left of a text without its white space.
fn words(text: &str) -> String {
    text.split_whitespace().collect()
}

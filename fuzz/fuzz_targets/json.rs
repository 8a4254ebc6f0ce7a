//! Our reading of JSON beside serde_json's: the same texts are JSON, and a string means the same.
#![no_main]

use gaucho_fuzz::domain::{Event, Surface, Task, field};
use gaucho_fuzz::wire::{decode, decode_event};
use gaucho_fuzz::{encoder, json, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = [b"{\"done\":false,\"x\":", data, b"}"].concat();
    let event = decode_event(Task::Generate, &whole);
    let plain = std::str::from_utf8(data).ok().filter(|_| json::is_json(data));
    // bytes that close the object and open another member are JSON in a way that only the whole shows
    if event.is_ok() {
        assert!(json::is_json(&whole));
    }
    let body = [b"{\"model\":\"m\",\"x\":", data, b",\"prompt\":\"p\"}"].concat();
    let read = decode(Surface::Generate, &body);
    if read.is_ok() {
        // a request ends with its first value, as Go's decoder ends there
        let mut values = serde_json::Deserializer::from_slice(&body).into_iter::<serde::de::IgnoredAny>();
        assert!(values.next().is_some_and(|value| value.is_ok()));
    }
    let Some(text) = plain else { return };
    let trimmed = text.trim_matches([' ', '\t', '\r', '\n']);
    let deep = |message: &str| message.contains("exceeded max depth");
    match event {
        Ok(Event::Piece(piece)) if trimmed != "null" => {
            let kept = field(&piece.extra, "x").expect("the field").get();
            assert_eq!(kept, trimmed.replace(['\r', '\n'], " "));
        }
        Ok(_) => assert_eq!(trimmed, "null"),
        Err(malformed) => assert!(deep(&malformed.0), "{malformed}: {text}"),
    }
    match read {
        Ok(request) if trimmed != "null" => assert_eq!(field(&request.fields, "x").expect("the field").get(), trimmed),
        Ok(_) => assert_eq!(trimmed, "null"),
        // a number beyond any float is refused, as Go refuses it
        Err(fault) => assert!(deep(&fault.message) || fault.message.contains("cannot unmarshal number"), "{fault:?}"),
    }
    if let Ok(wanted) = serde_json::from_str::<String>(text) {
        string(&wanted, trimmed);
    }
});

/// A string token is read as serde_json reads it, and what is written is read as the same.
fn string(wanted: &str, token: &str) {
    let line = format!("{{\"response\":{token},\"done\":false}}");
    let Ok(Event::Piece(piece)) = decode_event(Task::Generate, line.as_bytes()) else { panic!("{line}") };
    assert_eq!(piece.text, wanted);
    let mut out = Vec::new();
    encoder(&request(Surface::Generate, "m", false)).stream(&Event::Piece(piece), &mut out);
    assert_eq!(json::text(json::checked(&out), &["response"]), wanted);
    // safe in a page, and in any reader that takes U+2028 for a line end
    assert!(!String::from_utf8_lossy(&out).contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
}

//! Every request decoder: the first byte picks the surface, the rest is the body.
//!
//! What is taken goes upstream as one JSON object that the native decoder takes too, and says the same; what is
//! refused is refused in the dialect's own form.
#![no_main]

use gaucho_fuzz::domain::{Dialect, Fault, FaultClass, InferenceRequest, JsonField, Surface, Task, field};
use gaucho_fuzz::wire::{UpstreamTarget, decode, decode_show, encode_load, encode_probe, encode_upstream, refusal};
use gaucho_fuzz::{encoder, heard, json, native, pick, piece};
use libfuzzer_sys::fuzz_target;

/// Fields of the native request that mean something, whatever their case.
fn known(task: Task) -> &'static [&'static str] {
    match task {
        Task::Chat => &[
            "model",
            "messages",
            "stream",
            "format",
            "keep_alive",
            "tools",
            "options",
            "think",
            "truncate",
            "shift",
            "logprobs",
            "top_logprobs",
        ],
        Task::Generate => &[
            "model",
            "prompt",
            "suffix",
            "system",
            "template",
            "context",
            "stream",
            "raw",
            "format",
            "keep_alive",
            "images",
            "options",
            "think",
            "truncate",
            "shift",
            "logprobs",
            "top_logprobs",
        ],
        Task::Embed => &["model", "input", "keep_alive", "truncate", "dimensions", "options"],
        Task::Embeddings => &["model", "prompt", "keep_alive", "options"],
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&first, body)) = data.split_first() else { return };
    if first == u8::MAX {
        return show(body);
    }
    let surface = pick(&Surface::ALL, first);
    let capped = usize::from(first) >= Surface::ALL.len();
    match decode(surface, body) {
        Ok(request) => taken(surface, body, &request, capped),
        Err(fault) => {
            let class = fault.class;
            assert!(
                matches!(class, FaultClass::BadRequest | FaultClass::NotFound | FaultClass::NotSupported),
                "{fault:?}"
            );
            assert!(!fault.message.is_empty());
            refused(surface.dialect(), &fault);
        }
    }
});

fn refused(dialect: Dialect, fault: &Fault) {
    let refusal = refusal(dialect, fault);
    assert!((400..=599).contains(&refusal.status), "{refusal:?}");
    assert!(json::is_json(&refusal.body), "{refusal:?}");
    for (name, value) in &refusal.headers {
        assert!(http::HeaderValue::from_str(value).is_ok(), "{name}: {value:?}");
    }
}

fn taken(surface: Surface, body: &[u8], request: &InferenceRequest, capped: bool) {
    assert_eq!(request.surface, surface);
    assert_eq!(request.measure.body_bytes, body.len());
    assert!(request.measure.prompt_bytes <= body.len(), "{:?}", request.measure);
    let task = surface.task();
    let target = UpstreamTarget {
        model: "copy:latest",
        runner_options: &request.runner_options,
        keep_alive: request.keep_alive,
        truncate: field(&request.fields, "truncate").map(|wish| wish.get() == "true"),
        output_cap: capped.then_some(7),
        model_cap: None,
    };
    let sent = encode_upstream(request, &target);
    let members = json::members(&sent);
    for (at, (key, _)) in members.iter().enumerate() {
        assert!(!members[..at].iter().any(|(other, _)| other == key), "{key:?} twice: {}", text(&sent));
        let folded: String = key.chars().map(fold).collect();
        assert!(!known(task).contains(&folded.as_str()) || folded == *key, "{key:?}: {}", text(&sent));
        assert!(!folded.starts_with("_debug") || key == "_debug_render_only", "{key:?}: {}", text(&sent));
    }
    assert_eq!(members[0], ("model".to_owned(), "\"copy:latest\"".to_owned()));
    assert_eq!(members.iter().any(|(key, _)| key == "stream"), !task.embeds());
    again(request, &sent, capped);
    echoed(request);
    let _ = json::members(&encode_load("m", &request.runner_options, request.keep_alive.unwrap_or_default()));
    let _ = json::members(&encode_probe(
        "m",
        &request.runner_options,
        request.keep_alive.unwrap_or_default(),
        task.embeds(),
    ));
}

/// Ollama reads what is sent as we would read a native request, and finds the same in it.
fn again(request: &InferenceRequest, sent: &[u8], capped: bool) {
    let task = request.surface.task();
    let read = match decode(native(task), sent) {
        Ok(read) => read,
        // arguments come out of a string: what nested in there nests deeper now. Ollama's bound is 10,000
        Err(fault) if fault.message.contains("exceeded max depth") => return,
        Err(fault) => panic!("{fault:?}: {}", text(sent)),
    };
    assert_eq!(read.model, "copy:latest");
    assert_eq!(read.stream, request.stream && !task.embeds(), "{}", text(sent));
    assert_eq!(read.keep_alive, request.keep_alive, "{}", text(sent));
    let sorted = |fields: &[JsonField]| {
        let mut all: Vec<(String, String)> = fields.iter().map(|(k, v)| (k.to_string(), v.get().to_owned())).collect();
        // what goes upstream of this wish is the gateway's, and an option of that name none
        all.retain(|(key, _)| key != "truncate");
        all.sort();
        all
    };
    assert_eq!(sorted(&read.fields), sorted(&request.fields), "{}", text(sent));
    assert_eq!(sorted(&read.runner_options), sorted(&request.runner_options), "{}", text(sent));
    if capped && !task.embeds() {
        assert!(read.measure.output_cap.is_some_and(|cap| cap <= 7), "{}", text(sent));
    } else {
        assert_eq!(sorted(&read.options), sorted(&request.options), "{}", text(sent));
        assert_eq!(read.measure.output_cap, request.measure.output_cap, "{}", text(sent));
    }
}

/// The reply names the model as the caller wrote it.
fn echoed(request: &InferenceRequest) {
    if request.surface.task().embeds() {
        return;
    }
    let mut last = piece("a\r\n\u{2028}é");
    last.finish = Some(Default::default());
    let event = gaucho_fuzz::domain::Event::Piece(Box::new(last));
    let whole = encoder(request).unary(&event).concat();
    assert_eq!(json::text(json::checked(&whole), &["model"]), request.model, "{}", text(&whole));
    if request.stream {
        let mut stream = Vec::new();
        encoder(request).stream(&event, &mut stream);
        assert_eq!(heard(request.surface, &stream), "a\r\n\u{2028}é");
    }
}

fn show(body: &[u8]) {
    match decode_show(body) {
        Ok(show) => assert!(!show.model.trim().is_empty()),
        Err(fault) => refused(Dialect::Ollama, &fault),
    }
}

fn fold(c: char) -> char {
    match c {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

//! The stand-in beside the recordings of a real Ollama: everything that callers can rely on is the same.
//!
//! Compared: status, reason, headers (names, case, order, values), framing, the sequence of object shapes (field names,
//! their order, JSON types), `done_reason`, whole texts of errors and of everything that is not generated.
//! Not compared: generated text, counts, durations, dates, and how many pieces say the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use gaucho::sim::{Fault, Model, Settings, Sim, recorded_models};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::raw::{Raw, post, send};

/// One recording.
struct Recording {
    name: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    reply: Raw,
}

fn recordings() -> Vec<Recording> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "json"));
    files.sort();
    files.iter().map(|file| recording(&serde_json::from_slice(&fs::read(file).unwrap()).unwrap())).collect()
}

fn recording(file: &Value) -> Recording {
    let (case, response) = (&file["case"], &file["response"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |value: &Value| (text(&value[0]), text(&value[1]));
    Recording {
        name: text(&case["name"]),
        method: text(&case["method"]),
        path: text(&case["path"]),
        headers: case["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        body: case.get("body").map(|body| body.as_str().map_or_else(|| body.to_string(), str::to_owned)),
        reply: Raw {
            status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
            reason: text(&response["reason"]),
            headers: response["headers"].as_array().unwrap().iter().map(pair).collect(),
            framing: text(&response["framing"]),
            frames: response["frames"].as_array().unwrap().iter().map(|frame| text(&frame[1])).collect(),
            cut: false,
        },
    }
}

/// What has to be so before a case, by the case's name or route.
enum Setup {
    Plain,
    /// Requests that go first.
    After(Vec<(&'static str, Value)>),
    /// The model's process dies, or the repeat guard strikes, in the middle.
    Upset(Fault),
    /// The queue for loads is full.
    Busy,
    /// Not part of the stand-in, which must say so, and why.
    Absent(&'static str),
}

fn setup(case: &Recording) -> Setup {
    let load = |body: Value| Setup::After(vec![("/api/generate", body)]);
    let copy = |to: &str| Setup::After(vec![("/api/copy", json!({"source": "gemma:a", "destination": to}))]);
    match case.name.as_str() {
        "ps_loaded" | "ps_empty_or_loaded" => load(json!({"model": "gemma:a"})),
        "ps_forever" => load(json!({"model": "gemma:a", "keep_alive": -1})),
        "delete" => copy("copied"),
        "delete_made" => copy("made"),
        "pulled_delete" => copy("127.0.0.1:5000/library/gemma:d"),
        // the recorded text repeated itself until Ollama's guard cut it off
        "crash_generate_stream" | "ctx_shift_off" => Setup::Upset(Fault::EndSilently { after: 3 }),
        name if case.path.starts_with("/api") && name.starts_with("crash_") => Setup::Upset(Fault::Crash { after: 3 }),
        name if case.path.starts_with("/api") && name.starts_with("busy_") => Setup::Busy,
        _ => match case.path.as_str() {
            path if path.starts_with("/v1/") => Setup::Absent("the gateway only calls native routes"),
            "/api/pull" | "/api/create" => Setup::Absent("models come from a table, not from a registry"),
            path if path.starts_with("/api/blobs/") => Setup::Absent("there are no model files"),
            _ => Setup::Plain,
        },
    }
}

/// A server with the models that the real one had when it answered.
async fn server(case: &Recording, speed: f64, max_queue: usize) -> Sim {
    let date = header(&case.reply, "Date").unwrap_or_default();
    let before_the_last_two = date < "Mon, 23 Nov 2026 06:41";
    static MODELS: LazyLock<Vec<Model>> = LazyLock::new(recorded_models);
    let mut models = MODELS.clone();
    models.retain(|model| !before_the_last_two || !matches!(model.name.as_str(), "tooly:latest" | "thinky:latest"));
    Sim::start(Settings { models, speed, max_queue, ..Settings::default() }).await.unwrap()
}

fn header<'a>(raw: &'a Raw, wanted: &str) -> Option<&'a str> {
    raw.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_request_gets_the_recorded_kind_of_reply() {
    let mut wrong = Vec::new();
    let mut absent: BTreeMap<&str, usize> = BTreeMap::new();
    let mut compared = 0;
    for case in recordings() {
        let got = answer(&case).await;
        if let Setup::Absent(why) = setup(&case) {
            *absent.entry(why).or_default() += 1;
            let status = got.status;
            // a trailing error would be a crash; a plain 501 says what is missing
            if status != 501 && case.method != "HEAD" {
                wrong.push(format!("{}: {status} instead of 501 for a route that is absent", case.name));
            }
            continue;
        }
        compared += 1;
        wrong.extend(differences(&case, &got).into_iter().map(|what| format!("{}: {what}", case.name)));
    }
    eprintln!("{compared} recordings compared; absent routes: {absent:?}");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(compared >= 130, "only {compared} recordings were compared");
}

async fn answer(case: &Recording) -> Raw {
    let busy = matches!(setup(case), Setup::Busy);
    // so slow that nothing ever loads, or so fast that nothing waits
    let sim = if busy { server(case, 1e-6, 1).await } else { server(case, 1e4, 512).await };
    let addr = sim.addr();
    let mut held = Vec::new();
    match setup(case) {
        Setup::After(requests) => {
            for (path, body) in requests {
                assert_eq!(post(addr, path, &body).await.status, 200, "{}", case.name);
            }
        }
        Setup::Upset(fault) => sim.inject(fault),
        Setup::Busy => {
            for model in ["gemma:a", "gemma:b"] {
                held.push(send(addr, "POST", "/api/generate", &[], Some(&json!({"model": model}).to_string())).await);
                eventually("the load is asked for", || sim.runner(model).inside == 1).await;
            }
        }
        Setup::Plain | Setup::Absent(_) => {}
    }
    send(addr, &case.method, &case.path, &case.headers, case.body.as_deref()).await.read().await
}

fn differences(case: &Recording, got: &Raw) -> Vec<String> {
    let want = &case.reply;
    let mut wrong = Vec::new();
    let mut check = |what: &str, want: String, got: String| {
        if want != got {
            wrong.push(format!("{what}\n    recorded {want}\n    stand-in {got}"));
        }
    };
    check("status", format!("{} {}", want.status, want.reason), format!("{} {}", got.status, got.reason));
    check("framing", want.framing.clone(), got.framing.clone());
    let same_text = want.body() == got.body();
    check("headers", headers(want, same_text), headers(got, same_text));
    let generated = case.path.starts_with("/api/") && want.status == 200;
    if !generated || matches!(case.path.as_str(), "/api/tags" | "/api/show" | "/api/version") {
        check("body", want.body(), got.body());
    } else {
        check("objects", shapes(want), shapes(got));
    }
    if got.framing == "chunked" && header(got, "Content-Type") == Some("application/x-ndjson") {
        let whole_lines = got.frames.iter().all(|frame| frame.matches('\n').count() == 1 && frame.ends_with('\n'));
        check("one line per chunk", "true".into(), whole_lines.to_string());
    }
    wrong
}

/// Headers as text; the date always differs, the length where the text does.
fn headers(raw: &Raw, same_text: bool) -> String {
    let shown = raw.headers.iter().map(|(name, value)| match name.as_str() {
        "Date" => "Date".to_owned(),
        "Content-Length" if !same_text => name.clone(),
        _ => format!("{name}: {value}"),
    });
    shown.collect::<Vec<_>>().join(" | ")
}

/// The shapes of a body's objects in order, without repetitions.
fn shapes(raw: &Raw) -> String {
    let mut shapes: Vec<String> = Vec::new();
    for line in raw.body().lines() {
        let shape = serde_json::from_str(line).map_or_else(|_| format!("not JSON: {line}"), |value| shape("", &value));
        if shapes.last() != Some(&shape) {
            shapes.push(shape);
        }
    }
    shapes.join("\n             ")
}

/// Field names in order with their types; values where they are not generated.
fn shape(key: &str, value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields = map.iter().map(|(name, value)| format!("{name}: {}", shape(name, value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) if key == "embeddings" => {
            let lengths = list.iter().map(|vector| vector.as_array().map_or(0, Vec::len).to_string());
            format!("vectors of {}", lengths.collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => {
            let mut kinds: Vec<String> = list.iter().map(|item| shape("", item)).collect();
            kinds.dedup();
            format!("[{}]", kinds.join(", "))
        }
        Value::String(text) => match key {
            "created_at" | "expires_at" => format!("date {}", text.ends_with('Z')),
            "content" | "response" | "thinking" if text.is_empty() => "empty".into(),
            "content" | "response" | "thinking" | "token" | "id" | "city" | "rendered_template" => "text".into(),
            _ => value.to_string(),
        },
        Value::Number(number) if key == "size" || key == "size_vram" || key == "context_length" => number.to_string(),
        Value::Number(number) => (if number.is_f64() { "float" } else { "whole" }).into(),
        other => other.to_string(),
    }
}

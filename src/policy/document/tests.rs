//! Units, and the promise that reader and JSON Schema agree.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::units;
use super::{AppDocument, Form, KeepAlive, ModelsDocument, read_document};

#[test]
fn durations_are_read_as_go_reads_them() {
    let read = |text| units::duration(text);
    assert_eq!(read("1h30m"), Some((false, Duration::from_secs(5400))));
    assert_eq!(read("1.5h"), Some((false, Duration::from_secs(5400))));
    assert_eq!(read("-300ms"), Some((true, Duration::from_millis(300))));
    assert_eq!(read("0"), Some((false, Duration::ZERO)));
    assert_eq!(read("0s5s"), Some((false, Duration::from_secs(5))));
    for broken in ["", "-", "10", "5 m", "5M", "m", ".s", "1d", "1e5s", "9999999999h", "--1s", "é"] {
        assert_eq!(read(broken), None, "{broken}");
    }
}

#[test]
fn sizes_have_exact_units() {
    assert_eq!(units::bytes("8MiB"), Some(8 << 20));
    assert_eq!(units::bytes("500 KB"), Some(500_000));
    assert_eq!(units::bytes("0B"), Some(0));
    for broken in ["", "8", "MiB", "8mib", "8  MiB", "-1B", "1.5MiB", "99999999999999999999GiB", "+1B"] {
        assert_eq!(units::bytes(broken), None, "{broken}");
    }
    assert_eq!(units::show_bytes(8 << 20), "8MiB");
    assert_eq!(units::show_bytes(1500), "1500 bytes");
}

#[test]
fn keep_alive_goes_up_in_a_form_ollama_takes() {
    let sent = |text| KeepAlive::from_text(text).map(KeepAlive::to_json);
    assert_eq!(sent("5m"), Some(json!(300)));
    assert_eq!(sent("300"), Some(json!(300)));
    assert_eq!(sent("-1"), Some(json!(-1)));
    assert_eq!(sent("-5m"), Some(json!(-1)));
    assert_eq!(sent("0"), Some(json!(0)));
    assert_eq!(sent("1500ms"), Some(json!("1500ms")));
    assert_eq!(sent("soon"), None);
}

/// Whether the reader and the schema accept a text; both must say the same.
fn verdicts<D: Form>(text: &str) -> (bool, bool) {
    let mut problems = Vec::new();
    let _: Option<D> = read_document(Path::new("f.toml"), text.as_bytes(), &mut problems);
    let instance: Value = toml::from_str(text).unwrap();
    (problems.is_empty(), jsonschema::is_valid(&D::schema(), &instance))
}

const APPS: &[&str] = &[
    "",
    "weight = 0.5",
    "weight = 0",
    "weight = 1001",
    "weight = \"1\"",
    "class = \"batch\"",
    "class = \"Batch\"",
    "models = [\"*\", \"llama3.2:*\", \"hf.co/u/x:q4\"]",
    "models = [\"a b\"]",
    "models = \"*\"",
    "surfaces = [\"/v1/*\"]",
    "surfaces = [\"/v1/chat\"]",
    "endpoints = [\"gpu-*\"]",
    "endpoints = [\"\"]",
    "requests_per_minute = \"unlimited\"",
    "requests_per_minute = \"none\"",
    "requests_per_minute = 0",
    "burst = 1.5",
    "max_wait = \"1h30m\"",
    "max_wait = 30",
    "max_wait = 0.5",
    "max_wait = \"30\"",
    "max_wait = -1",
    "max_body = \"8MiB\"",
    "max_body = \"8mib\"",
    "max_body = 2048",
    "max_body = 1",
    "max_context = 8192",
    "runner_options = \"refuse\"",
    "runner_options = \"allow\"",
    "description = 3",
    "unknown = 1",
    "key_hashes = [\"sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a\"]",
    "key_hashes = [\"sha256:0\"]",
    "[models]\nx = 1",
    "keepalive = \"off\"",
    "keepalive = \"10s\"",
    "keepalive = 61",
    "keepalive = \"never\"",
    "on_overflow = \"truncate\"",
    "on_overflow = \"refuse\"",
    "on_overflow = \"cut\"",
    "on_overflow = \"route\"",
    "on_overflow = { route = \"qwen2.5:7b\" }",
    "on_overflow = { route = \"qwen2.5:*\" }",
    "on_overflow = { route = 7 }",
    "on_overflow = { to = \"m\" }",
    "on_overflow = { route = \"m\", twice = true }",
    "on_overflow = {}",
];

const MODELS: &[&str] = &[
    "[models.\"*\"]\nnum_ctx = 8192\nshift = false\nkeep_alive = -1",
    "[models.x]\nnum_ctx = 3",
    "[models.x]\nnum_gpu = -1",
    "[models.x]\nuse_mmap = 1",
    "[models.x]\nkeep_alive = \"10\"",
    "[models.x]\ny = 1",
    "[models.\"a b\"]",
    "models = 3",
    "other = 1",
    "[models.x]\nkeep_alive = \"-1s\"",
    "[models]\nx = 3",
    "[models.x]\nnum_ctx = 8192\nfallback = { num_ctx = 4096, keep_alive = \"5m\", num_parallel = 1 }",
    "[models.x]\nfallback = { num_ctx = 3 }",
    "[models.x]\nfallback = { fallback = { num_ctx = 4096 } }",
    "[models.x]\nfallback = 4096",
];

#[test]
fn the_schema_accepts_and_refuses_what_the_reader_does() {
    for text in APPS {
        let (reader, schema) = verdicts::<AppDocument>(text);
        assert_eq!(reader, schema, "{text}");
    }
    for text in MODELS {
        let (reader, schema) = verdicts::<ModelsDocument>(text);
        assert_eq!(reader, schema, "{text}");
    }
}

#[test]
fn nesting_without_end_is_a_problem_and_no_more() {
    let mut problems = Vec::new();
    let text = format!("models = {}", "[".repeat(100_000));
    let _: Option<AppDocument> = read_document(Path::new("f.toml"), text.as_bytes(), &mut problems);
    assert!(!problems.is_empty());
}

#[test]
fn shipped_files_satisfy_their_schemas() {
    use crate::policy::{SchemaOf, schema};
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let of = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("default") => SchemaOf::Default,
            Some("models") => SchemaOf::Models,
            _ => SchemaOf::App,
        };
        let instance: Value = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(jsonschema::is_valid(&schema(of), &instance), "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 7);
}

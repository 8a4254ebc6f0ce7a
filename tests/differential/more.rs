//! Requests that no recording asks: each route's own checks, names in every form, fields at their edges (`more.txt`).

use serde_json::{Value, json};

use super::requests::{Ask, ROUTES, post};

/// Names: absent, malformed, of the wrong kind, and one model in every form.
const NAMES: [&str; 25] = [
    "absent",
    "absent:tag",
    "user/absent",
    "gemma",
    "gemma:a",
    "GEMMA:a",
    "library/gemma:a",
    "registry.ollama.ai/library/gemma:a",
    " gemma:a",
    "gemma:a ",
    "a b",
    "",
    "/",
    ":",
    "gemma:",
    "a/b/c/d",
    "http://x/y",
    "gemma:a:latest",
    "tinybert",
    "stamped:latest",
    "STAMPED",
    "gemma:a@sha256:00",
    "-x",
    "x:-y",
    "é",
];

/// All of them.
pub(crate) fn more() -> Vec<Ask> {
    let mut asks = Vec::new();
    for (path, body) in bodies() {
        asks.push(post(&format!("more: {path} {body}"), path, &body.to_string()));
    }
    for (path, body) in TEXTS {
        asks.push(post(&format!("more: {path} {body}"), path, body));
    }
    for (method, path) in PLAIN {
        let name = format!("more: {method} {path}");
        asks.push(Ask { name, method: method.into(), path: path.into(), headers: Vec::new(), body: None });
    }
    asks
}

const PLAIN: [(&str, &str); 17] = [
    ("GET", "/api/status"),
    ("GET", "/api/ps"),
    ("GET", "/v1/models/stamped"),
    ("GET", "/v1/models/stamped:latest"),
    ("GET", "/v1/models/GEMMA:A"),
    ("GET", "/v1/models/gemma"),
    ("GET", "/v1/models/user/name"),
    ("GET", "/v1/models/a%20b"),
    ("HEAD", "/api/tags"),
    ("HEAD", "/api/ps"),
    ("HEAD", "/v1/models"),
    ("HEAD", "/nothing"),
    ("GET", "/api/show"),
    ("POST", "/api/tags"),
    ("GET", "/v1/chat/completions"),
    ("GET", "/api/chat/"),
    ("GET", "/v1/"),
];

const TEXTS: [(&str, &str); 12] = [
    ("/v1/chat/completions", ""),
    ("/v1/completions", ""),
    ("/v1/embeddings", ""),
    ("/v1/chat/completions", "null"),
    ("/v1/completions", "null"),
    ("/v1/embeddings", "null"),
    ("/api/chat", "null"),
    ("/api/embed", "null"),
    ("/api/embeddings", "null"),
    ("/api/embeddings", ""),
    (
        "/api/chat",
        "{\"model\":\"gemma:a\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"options\":{\"num_predict\":2,\"temperature\":0},\"stream\":false} x",
    ),
    (
        "/api/chat",
        "{\"model\":\"gemma:a\",\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}],\"options\":{\"num_predict\":2,\"temperature\":0},\"stream\":false}",
    ),
];

/// A small good request of each route, with the model asked for; the first field is the one that `inputs` are for.
fn good(path: &str, model: &str) -> Value {
    let hi = json!([{ "role": "user", "content": "Hi" }]);
    match path {
        "/api/chat" => json!({ "model": model, "messages": hi, "stream": false }),
        "/api/generate" => json!({ "model": model, "prompt": "Hi", "stream": false }),
        "/api/embed" | "/v1/embeddings" | "/v1/responses" => json!({ "model": model, "input": "Hi" }),
        "/api/embeddings" | "/v1/completions" => json!({ "model": model, "prompt": "Hi" }),
        "/v1/chat/completions" => json!({ "model": model, "messages": hi }),
        "/v1/messages" => json!({ "model": model, "messages": hi, "max_tokens": 4 }),
        _ => json!({ "model": model }),
    }
}

fn with(mut body: Value, more: Value) -> Value {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

fn bodies() -> Vec<(&'static str, Value)> {
    const EMBED: [&str; 3] = ["/api/embed", "/api/embeddings", "/v1/embeddings"];
    let mut all: Vec<(&str, Value)> =
        ROUTES.into_iter().flat_map(|path| NAMES.map(|name| (path, good(path, name)))).collect();
    let field = |path: &str| if path == "/api/embeddings" { "prompt" } else { "input" };
    for (section, value) in lines() {
        match section {
            "inputs" => {
                all.extend(EMBED.map(|path| (path, with(good(path, "tinybert"), json!({ field(path): value })))))
            }
            "embeds" => all.extend(EMBED.map(|path| (path, with(good(path, "tinybert"), value.clone())))),
            path => all.push((path, with(good(path, "gemma:a"), value))),
        }
    }
    for path in EMBED {
        let long = with(good(path, "tinybert"), json!({ field(path): "hello ".repeat(700) }));
        all.push((path, with(long.clone(), json!({ "truncate": false }))));
        all.push((path, long));
    }
    all
}

/// The lines of `more.txt`, each with its section.
fn lines() -> Vec<(&'static str, Value)> {
    let mut section = "";
    let mut all = Vec::new();
    for line in include_str!("more.txt").lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("== ") {
            Some(name) => section = name,
            None => all.push((section, serde_json::from_str(line).unwrap())),
        }
    }
    all
}

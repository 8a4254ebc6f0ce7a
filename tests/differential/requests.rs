//! What is asked: every recorded request, the same with `stream` the other way, every bad body on every route, and what
//! no recording asks.
//!
//! Owns which requests a real server can answer twice in the same way; comparing is `golden`'s.

use serde_json::{Value, json};

use super::recording::Recording;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<String>,
}

/// Every route that takes a body and is for applications.
pub(crate) const ROUTES: [&str; 10] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/api/show",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
];

/// Longest answer, in tokens: what is compared is the form. Thinking and calls of tools take more.
const TOKENS: [u64; 2] = [6, 24];

/// All requests, those for one model together.
pub(crate) fn all(recordings: &[Recording]) -> Vec<Ask> {
    let mut asks: Vec<Ask> = Vec::new();
    let mut add = |ask: Ask| {
        let known = |other: &Ask| {
            (&other.method, &other.path, &other.body, &other.headers)
                == (&ask.method, &ask.path, &ask.body, &ask.headers)
        };
        if !asks.iter().any(known) {
            asks.push(ask);
        }
    };
    for recording in recordings {
        let ask = Ask {
            name: recording.name.clone(),
            method: recording.method.clone(),
            path: recording.path.clone(),
            headers: recording.headers.clone(),
            body: recording.body.as_deref().map(|body| settled(&recording.path, body)),
        };
        if let Some(other) = other_way(&ask) {
            add(other);
        }
        add(ask);
    }
    for recording in recordings.iter().filter(|r| r.reply.status == 400 && r.name.starts_with("err_")) {
        for path in ROUTES.iter().filter(|path| **path != recording.path) {
            let name = format!("{} on {path}", recording.name);
            add(post(&name, path, &settled(path, recording.body.as_deref().unwrap_or_default())));
        }
    }
    super::more::more().into_iter().for_each(add);
    // a real server has room for one model: all that ask for it go together
    asks.sort_by_key(model);
    asks
}

/// A POST.
pub(crate) fn post(name: &str, path: &str, body: &str) -> Ask {
    let (method, headers, body) = ("POST".to_owned(), Vec::new(), Some(settled(path, body)));
    Ask { name: name.to_owned(), method, path: path.to_owned(), headers, body }
}

/// Why a real server is not asked, if it is not.
pub(crate) fn unfit(ask: &Ask, models: &[String]) -> Option<String> {
    let body: Value = ask.body.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
    const MANAGEMENT: [&str; 5] = ["/api/pull", "/api/create", "/api/copy", "/api/delete", "/api/blobs/"];
    if MANAGEMENT.iter().any(|path| ask.path.starts_with(path)) {
        return Some("it would change the server's models".into());
    }
    let runner = ["num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"];
    if runner.iter().any(|option| body["options"].get(option).is_some()) || body.get("shift").is_some() {
        return Some("runner options are the operator's: the two would run the model differently".into());
    }
    let more = ["max_completion_tokens", "n", "logit_bias"].iter().any(|field| !body[*field].is_null());
    if more || body["tool_choice"] == "none" {
        return Some("Gaucho honours or refuses what Ollama ignores".into());
    }
    let model = body["model"].as_str().unwrap_or_default();
    let needs = ["gemma:a", "gemma:b", "gemma:c", "gemma:d", "stamped", "tooly", "thinky", "tinybert"];
    if needs.contains(&model) && !models.iter().any(|known| known.trim_end_matches(":latest") == model) {
        return Some(format!("the server has no model {model}"));
    }
    None
}

/// A body whose answer is short and the same each time; one that is no JSON object stays.
fn settled(path: &str, body: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(body) else { return body.to_owned() };
    if body.matches("\"model\"").count() > 1
        || serde_json::from_str::<Value>(body).is_ok_and(|v| v.get("model").is_none())
    {
        return body.to_owned();
    }
    let most = TOKENS[usize::from(fields["model"] == "thinky" || fields["model"] == "tooly")];
    let bound = |value: Option<&Value>| value.and_then(Value::as_u64).map_or(most, |tokens| tokens.clamp(1, most));
    let odd = |value: Option<&Value>| value.is_some_and(|value| !value.is_number() && !value.is_null());
    match path {
        "/api/chat" | "/api/generate" if !odd(fields.get("options").filter(|options| !options.is_object())) => {
            let asks = ["messages", "prompt"].iter().any(|field| fields.contains_key(*field));
            if asks
                && let Some(options) = fields.entry("options").or_insert_with(|| json!({})).as_object_mut()
                && !odd(options.get("num_predict"))
            {
                options.insert("num_predict".into(), bound(options.get("num_predict")).into());
                options.entry("temperature").or_insert(json!(0));
                options.entry("seed").or_insert(json!(7));
            }
        }
        "/v1/chat/completions" | "/v1/completions" | "/v1/messages" => {
            if !odd(fields.get("max_tokens")) && (path != "/v1/messages" || fields.contains_key("max_tokens")) {
                fields.insert("max_tokens".into(), bound(fields.get("max_tokens")).into());
            }
            fields.entry("temperature").or_insert(json!(0));
        }
        "/v1/responses" => {
            fields.insert("max_output_tokens".into(), bound(fields.get("max_output_tokens")).into());
            fields.entry("temperature").or_insert(json!(0));
        }
        _ => {}
    }
    Value::Object(fields).to_string()
}

/// The same request with `stream` the other way.
fn other_way(ask: &Ask) -> Option<Ask> {
    if ask.method != "POST" || !ROUTES.contains(&&*ask.path) || ask.path.contains("embed") || ask.path == "/api/show" {
        return None;
    }
    let Value::Object(mut fields) = serde_json::from_str(ask.body.as_deref()?).ok()? else { return None };
    let native = ask.path.starts_with("/api/");
    let streams = fields.get("stream").and_then(Value::as_bool).unwrap_or(native);
    fields.insert("stream".into(), (!streams).into());
    let name = format!("{} with stream {}", ask.name, !streams);
    let body = settled(&ask.path, &Value::Object(fields).to_string());
    Some(Ask { name, body: Some(body), ..ask.clone() })
}

fn model(ask: &Ask) -> String {
    let body: Value = ask.body.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
    body["model"].as_str().unwrap_or_default().to_owned()
}

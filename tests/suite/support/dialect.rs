//! The surfaces with a request for each, and how each dialect says that something went wrong.

use serde_json::{Value, json};

use super::raw::Raw;

/// The surfaces that write text.
pub(crate) const TEXT: [&str; 6] =
    ["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"];
/// Every surface.
pub(crate) const ALL: [&str; 9] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/responses",
];

/// A small good request for a surface.
pub(crate) fn request(path: &str, model: &str, stream: bool) -> Value {
    if path.contains("embed") {
        let field = if path == "/api/embeddings" { "prompt" } else { "input" };
        return json!({ "model": model, field: "a" });
    }
    let mut body = json!({ "model": model, "stream": stream });
    if path == "/v1/responses" {
        body["input"] = json!("Why?");
        body["max_output_tokens"] = json!(6);
        return body;
    }
    if path.contains("chat") || path.contains("messages") {
        body["messages"] = json!([{ "role": "user", "content": "Why?" }]);
    } else {
        body["prompt"] = json!("Why?");
    }
    if path.starts_with("/v1") {
        body["max_tokens"] = json!(6);
    } else {
        body["options"] = json!({ "num_predict": 6 });
    }
    body
}

/// The message of a refusal, which must have the form of the surface's dialect and this status.
pub(crate) fn refusal(path: &str, status: u16, reply: &Raw) -> String {
    assert_eq!(reply.status, status, "{path}: {reply:?}");
    assert!(!reply.cut, "{path}: {reply:?}");
    let body: Value = serde_json::from_str(&reply.body()).unwrap_or_else(|bad| panic!("{path}: {bad}: {reply:?}"));
    message(path, &body)
}

/// The message of an error object, which must have the form of the surface's dialect.
pub(crate) fn message(path: &str, body: &Value) -> String {
    let text = if path == "/v1/messages" {
        assert_eq!(body["type"], "error", "{path}: {body}");
        assert!(body["error"]["type"].is_string(), "{path}: {body}");
        &body["error"]["message"]
    } else if path.starts_with("/v1") {
        assert!(body["error"]["type"].is_string(), "{path}: {body}");
        assert!(body["error"].get("code").is_some() && body["error"].get("param").is_some(), "{path}: {body}");
        &body["error"]["message"]
    } else {
        &body["error"]
    };
    let text = text.as_str().unwrap_or_else(|| panic!("{path}: no error text in {body}"));
    assert!(!text.is_empty(), "{path}: {body}");
    text.to_owned()
}

/// The message of the error that ends a stream, which must be the last thing in it and in the surface's dialect.
pub(crate) fn broken_stream(path: &str, reply: &Raw) -> String {
    assert_eq!(reply.status, 200, "{path}: {reply:?}");
    let body = reply.body();
    assert!(!body.contains("[DONE]") && !body.contains("message_stop"), "{path}: a broken stream looks whole: {body}");
    let last = body.trim_end().lines().last().unwrap_or_default();
    let object = if path.starts_with("/v1") {
        last.strip_prefix("data: ").unwrap_or_else(|| panic!("{path}: no event: {body}"))
    } else {
        last
    };
    let object: Value = serde_json::from_str(object).unwrap_or_else(|bad| panic!("{path}: {bad}: {body}"));
    if path == "/v1/responses" {
        assert_eq!(object["type"], "response.failed", "{path}: {body}");
        assert!(!body.contains("response.completed"), "{path}: a broken stream looks whole: {body}");
        return object["response"]["error"]["message"].as_str().unwrap_or_default().to_owned();
    }
    message(path, &object)
}

/// Whether a stream came to its good end.
pub(crate) fn is_whole(path: &str, reply: &Raw) -> bool {
    let body = reply.body();
    if path == "/v1/responses" {
        let end = body.contains("event: response.completed") && !body.contains("response.failed");
        return reply.status == 200 && !reply.cut && end;
    }
    let end = match path {
        "/v1/messages" => body.contains("event: message_stop"),
        _ if path.starts_with("/v1") => body.contains("data: [DONE]"),
        _ => body.contains("\"done\":true"),
    };
    reply.status == 200 && !reply.cut && end && !body.contains("\"error\"")
}

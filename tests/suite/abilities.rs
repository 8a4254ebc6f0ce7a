//! What a model cannot do is refused before anybody waits, in Ollama's words, and harms nobody who uses it rightly.

use serde_json::{Value, json};

use crate::support::dialect;
use crate::support::fake::{self, Fake};
use crate::support::gateway::Plan;

fn with(path: &str, model: &str, more: Value) -> Value {
    let mut body = dialect::request(path, model, false);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn what_a_model_cannot_do_is_refused_without_asking_ollama() {
    let house = Plan::new().build().await;
    let before = house.sim.tally().received;
    let tool = json!({"tools": [{"type": "function", "function": {"name": "f"}}]});
    let tools = "registry.ollama.ai/library/gemma:a does not support tools";
    let cases = [
        ("/api/chat", "tinybert", json!({}), "\"tinybert\" does not support chat"),
        ("/v1/chat/completions", "TinyBert:latest", json!({}), "\"TinyBert:latest\" does not support chat"),
        ("/api/generate", "tinybert", json!({}), "\"tinybert\" does not support generate"),
        ("/v1/completions", "tinybert", json!({}), "\"tinybert\" does not support generate"),
        ("/api/generate", "tinybert", json!({"prompt": ""}), "\"tinybert\" does not support generate"),
        ("/api/chat", "gemma:a", json!({"think": true}), "\"gemma:a\" does not support thinking"),
        ("/api/generate", "gemma:a", json!({"think": "high"}), "\"gemma:a\" does not support thinking"),
        (
            "/v1/chat/completions",
            "gemma:a",
            json!({"reasoning_effort": "low"}),
            "\"gemma:a\" does not support thinking",
        ),
        ("/api/chat", "gemma:a", tool.clone(), tools),
        ("/v1/chat/completions", "gemma:a", tool, tools),
        (
            "/api/generate",
            "gemma:a",
            json!({"suffix": "x"}),
            "registry.ollama.ai/library/gemma:a does not support insert",
        ),
    ];
    for (path, model, more, text) in cases {
        let reply = house.ask("", "POST", path, Some(&with(path, model, more).to_string())).await;
        assert_eq!(dialect::refusal(path, 400, &reply), text, "{path}");
    }
    assert_eq!(house.sim.tally().received, before, "Ollama was asked");
    for (path, model, more) in [
        ("/api/chat", "gemma:a", json!({"think": false, "tools": []})),
        ("/api/generate", "gemma:a", json!({"suffix": ""})),
        ("/api/generate", "tinybert", json!({"prompt": "", "keep_alive": 0})),
        ("/api/embed", "tinybert", json!({})),
    ] {
        let reply = house.ask("", "POST", path, Some(&with(path, model, more).to_string())).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_refusal_of_ollama_names_the_model_as_the_caller_did() {
    let fake = Fake::start().await;
    let house = Plan::new().upstreams(&[&fake.url()]).build().await;
    fake.next(fake::reply("400 Bad Request", r#"{"error":"\"fake:latest\" does not support chat"}"#), false);
    let reply =
        house.ask("", "POST", "/api/chat", Some(&dialect::request("/api/chat", "FAKE", false).to_string())).await;
    assert_eq!(dialect::refusal("/api/chat", 400, &reply), "\"FAKE\" does not support chat");
    house.close().await;
}

#[tokio::test]
async fn a_refusal_in_the_place_of_a_stream_is_written_as_ollama_writes_it() {
    let fake = Fake::start().await;
    let house = Plan::new().upstreams(&[&fake.url()]).build().await;
    let said = r#"{"error":"invalid format"}"#;
    for (stream, kind, framing) in
        [(true, "application/json", "chunked"), (false, "application/json; charset=utf-8", "length")]
    {
        let head = format!("HTTP/1.1 500 Internal Server Error\r\nContent-Type: {kind}\r\n");
        fake.next(format!("{head}Content-Length: {}\r\n\r\n{said}", said.len()), false);
        let body = dialect::request("/api/chat", "fake", stream).to_string();
        let reply = house.ask("", "POST", "/api/chat", Some(&body)).await;
        assert_eq!((reply.status, reply.framing.as_str(), reply.body().as_str()), (500, framing, said));
        assert_eq!(reply.header("content-type"), Some(kind));
    }
    house.close().await;
}

#[tokio::test]
async fn a_format_that_is_none_is_no_failure_of_the_server() {
    let house = Plan::new().build().await;
    let body = with("/api/chat", "gemma:a", json!({"format": "yaml"})).to_string();
    let reply = house.ask("", "POST", "/api/chat", Some(&body)).await;
    assert!(dialect::refusal("/api/chat", 500, &reply).starts_with("invalid format: "), "{reply:?}");
    let line = house.until_log(|line| line["route"] == "/api/chat").await;
    assert_eq!((&line["level"], &line["outcome"]), (&json!("INFO"), &json!("bad_request")), "{line}");
    assert!(!house.metrics().await.contains("gaucho_upstream_errors_total{"));
    house.close().await;
}

#[tokio::test]
async fn show_takes_what_is_to_be_shown_in_the_place_of_the_tags_own() {
    let fake = Fake::start().await;
    let house = Plan::new().upstreams(&[&fake.url()]).build().await;
    let body = json!({"model": "fake", "system": "x", "options": {"seed": 12345678901234567890u64}, "other": 1});
    assert_eq!(house.ask("", "POST", "/api/show", Some(&body.to_string())).await.status, 200);
    let sent = fake.last("/api/show");
    assert_eq!(sent, r#"{"model":"fake:latest","system":"x","options":{"seed":12345678901234567890}}"#);
    house.close().await;
}

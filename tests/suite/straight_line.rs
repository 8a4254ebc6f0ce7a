//! The straight line: every surface, with a key, through the whole gateway, and what is left of a request afterwards.

use serde_json::{Value, json};

use crate::support::gateway::Plan;

/// A request for every surface.
fn bodies(stream: bool) -> [(&'static str, Value); 8] {
    let messages = json!([{ "role": "user", "content": "Why is the sky blue?" }]);
    [
        ("/api/chat", json!({ "model": "gemma:a", "messages": messages, "stream": stream })),
        ("/api/generate", json!({ "model": "gemma:a", "prompt": "Why?", "stream": stream })),
        ("/api/embed", json!({ "model": "tinybert", "input": ["a", "b"] })),
        ("/api/embeddings", json!({ "model": "tinybert", "prompt": "a" })),
        ("/v1/chat/completions", json!({ "model": "gemma:a", "messages": messages, "stream": stream })),
        ("/v1/completions", json!({ "model": "gemma:a", "prompt": "Why?", "stream": stream })),
        ("/v1/embeddings", json!({ "model": "tinybert", "input": "a" })),
        ("/v1/responses", json!({ "model": "gemma:a", "input": "Why is the sky blue?", "stream": stream })),
    ]
}

#[tokio::test]
async fn every_surface_passes_identity_policy_scheduler_ledger_and_metrics() {
    let house = Plan::new().app("shop").policy("shop.toml", "max_output_tokens = 5\n").build().await;
    for stream in [false, true] {
        for (path, body) in bodies(stream) {
            let refused = house.post("", path, &body).await;
            assert_eq!(refused.status, if path.starts_with("/v1") { 401 } else { 403 }, "{path}: {refused:?}");
            let answered = house.post("shop", path, &body).await;
            assert_eq!(answered.status, 200, "{path}: {answered:?}");
            assert!(!answered.cut, "{path}: {answered:?}");
        }
    }
    for (path, _) in bodies(false) {
        let labels = |model: &str| {
            let endpoint = house.sim.addr();
            format!(
                "gaucho_gateway_requests_total{{app=\"shop\",model=\"{model}\",endpoint=\"{endpoint}\",\
                 surface=\"{path}\",outcome=\"answered\"}}"
            )
        };
        let model = if path.contains("embed") { "tinybert:latest" } else { "gemma:a" };
        house.until_metric(&labels(model), 2.0).await;
    }
    let lines = house.log_lines();
    assert_eq!(lines.len(), 32, "one line per request");
    assert!(lines.iter().all(|line| line["request_id"].is_string() && line["total_ms"].is_number()), "{lines:?}");
    assert!(lines.iter().all(|line| !line.to_string().contains("sky")), "a prompt was logged");
    assert!(lines.iter().all(|line| !line.to_string().contains(house.key("shop"))), "a key was logged");
    // every call upstream was native, held its slot alone, and kept the ceiling
    for seen in house.sim.seen().iter().filter(|seen| seen.method == "POST" && seen.path != "/api/show") {
        assert!(seen.path.starts_with("/api/"), "{}", seen.path);
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        let load = body.get("prompt").is_none() && body.get("messages").is_none();
        if !seen.path.contains("embed") && !load {
            assert_eq!(body["options"]["num_predict"], 5, "{body}");
        }
    }
    assert_eq!(house.sim.runner("gemma:a").peak_inside, 1);
    house.close().await;
}

#[tokio::test]
async fn what_a_client_says_of_the_runner_never_reaches_ollama() {
    let house = Plan::new()
        .app("shop")
        .policy("models.toml", "[models.\"gemma:a\"]\nnum_ctx = 2048\nkeep_alive = \"7m\"\n")
        .build()
        .await;
    for num_ctx in [512, 8192, 512] {
        let body = json!({
            "model": "gemma:a", "prompt": "x", "keep_alive": 0, "shift": false, "stream": false,
            "options": { "num_predict": 2, "num_ctx": num_ctx, "num_gpu": 0, "num_thread": 3, "temperature": 0.5 },
        });
        assert_eq!(house.post("shop", "/api/generate", &body).await.status, 200);
    }
    assert_eq!(house.sim.loads(), 1, "no reload");
    let calls: Vec<Value> = house
        .sim
        .seen()
        .iter()
        .filter(|seen| seen.path == "/api/generate")
        .map(|seen| serde_json::from_slice(&seen.body).unwrap())
        .collect();
    assert_eq!(calls.len(), 4, "our load and three answers");
    for call in &calls {
        assert_eq!(call["options"]["num_ctx"], 2048, "{call}");
        assert_eq!(call.get("shift"), None, "{call}");
        assert_eq!(call["keep_alive"], 1020, "longer than the profile's seven minutes, which are ours to keep: {call}");
    }
    for call in &calls[1..] {
        assert_eq!(call["options"]["temperature"], 0.5, "{call}");
        assert_eq!(call["options"].get("num_gpu"), None, "{call}");
        assert_eq!(call["options"].get("num_thread"), None, "{call}");
        assert_eq!(call.get("shift"), None, "{call}");
    }
    house.close().await;
}

#[tokio::test]
async fn tags_that_share_weights_share_one_runner_without_reloads() {
    // `stamped` is gemma:a with a num_ctx of its own
    let house = Plan::new().app("shop").build().await;
    for model in ["gemma:a", "stamped", "gemma:a", "stamped"] {
        let body = json!({ "model": model, "prompt": "x", "stream": false, "options": { "num_predict": 2 } });
        assert_eq!(house.post("shop", "/api/generate", &body).await.status, 200);
    }
    assert_eq!(house.sim.loads(), 1);
    house.close().await;
}

#[tokio::test]
async fn an_unload_is_answered_as_done_and_evicts_nothing() {
    let house = Plan::new().app("shop").build().await;
    let load = house.post("shop", "/api/generate", &json!({ "model": "gemma:a" })).await;
    assert!(load.body().contains(r#""done_reason":"load""#), "{load:?}");
    let unload = house.post("shop", "/api/generate", &json!({ "model": "gemma:a", "keep_alive": 0 })).await;
    assert_eq!(unload.status, 200);
    assert!(unload.body().contains(r#""response":"","done":true,"done_reason":"unload"}"#), "{unload:?}");
    assert_eq!(unload.framing, "length", "one plain object, as Ollama answers");
    let loaded = house.ask("shop", "GET", "/api/ps", None).await;
    assert!(loaded.body().contains("gemma:a"), "{loaded:?}");
    house.close().await;
}

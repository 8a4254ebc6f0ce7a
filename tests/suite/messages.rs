//! `/v1/messages` as Anthropic's clients meet it: events and their order, errors by status, headers, fields.

use std::time::Duration;

use gaucho::sim::Fault;
use serde_json::{Value, json};

use crate::support::dialect::{broken_stream, refusal};
use crate::support::gateway::{House, Plan};
use crate::support::raw::{self, Raw};

const PATH: &str = "/v1/messages";

/// A small good request with these fields more, or others.
fn with(more: &Value) -> Value {
    let mut body = json!({ "model": "gemma:a", "max_tokens": 4, "messages": [{ "role": "user", "content": "Why?" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn house(policy: &str) -> House {
    let plan = Plan::new().policy("shop.toml", policy).settings(|settings| {
        settings.upstream.idle = Duration::from_millis(300);
        settings.upstream.first_event = Duration::from_secs(1);
        settings.upstream.whole = Duration::from_secs(1);
    });
    House::with_gemma(plan.policy("models.toml", "[models.\"*\"]\nnum_ctx = 2048\n")).await
}

fn object(reply: &Raw) -> Value {
    serde_json::from_str(&reply.body()).unwrap_or_else(|bad| panic!("{bad}: {reply:?}"))
}

/// The events of a stream: each is one frame, named as its object is.
fn events(reply: &Raw) -> Vec<Value> {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")), "{reply:?}");
    let mut events = Vec::new();
    for frame in reply.frames.iter().filter(|frame| !frame.starts_with(": ")) {
        let (name, data) = frame.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let event: Value = serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap();
        assert_eq!(event["type"], name, "{frame}");
        events.push(event);
    }
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

/// One object of an answer from upstream.
fn said(message: &Value, end: Option<&str>) -> String {
    let mut object = json!({ "model": "gemma:a", "created_at": "2026-11-23T06:28:50Z", "done": end.is_some() });
    object["message"] = message.clone();
    if let Some(reason) = end {
        object["done_reason"] = reason.into();
        object["prompt_eval_count"] = 11.into();
        object["eval_count"] = 7.into();
    }
    format!("{object}\n")
}

#[tokio::test]
async fn a_message_at_once_and_as_events() {
    let house = house("").await;
    let once = house.post("shop", PATH, &with(&json!({}))).await;
    let whole = object(&once);
    let names: Vec<&String> = whole.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 7, "{whole}");
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["model"]),
        (&json!("message"), &json!("assistant"), &json!("gemma:a"))
    );
    assert_eq!((&whole["stop_reason"], &whole["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(4)), "{whole}");
    let stream = events(&house.post("shop", PATH, &with(&json!({ "stream": true }))).await);
    let order = "message_start content_block_start content_block_delta content_block_stop message_delta message_stop";
    assert_eq!(kinds(&stream).join(" "), order);
    let text: String = stream.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(whole["content"], json!([{ "type": "text", "text": text }]));
    let [.., delta, _] = &stream[..] else { panic!("{stream:?}") };
    assert_eq!((&delta["usage"], &delta["delta"]["stop_reason"]), (&whole["usage"], &whole["stop_reason"]));
    // counted before anything was: bytes by four
    assert_eq!(stream[0]["message"]["usage"], json!({ "input_tokens": 2, "output_tokens": 0 }));
    house.close().await;
}

#[tokio::test]
async fn thoughts_text_and_calls_are_blocks_one_after_another() {
    let house = house("").await;
    let call = |id: &str| json!({ "id": id, "function": { "index": 0, "name": "f", "arguments": { "a": 1 } } });
    let parts = [
        json!({ "role": "assistant", "content": "", "thinking": "h" }),
        json!({ "role": "assistant", "content": "", "thinking": "m" }),
        json!({ "role": "assistant", "content": "I look." }),
        json!({ "role": "assistant", "content": "", "tool_calls": [call("c1"), call("c2")] }),
    ];
    let end = json!({ "role": "assistant", "content": "" });
    let body = parts.iter().map(|part| said(part, None)).collect::<String>() + &said(&end, Some("stop"));
    house.sim.inject(Fault::Answer { status: 200, body });
    let ask =
        json!({ "model": "tooly", "stream": true, "tools": [{ "name": "f", "input_schema": { "type": "object" } }] });
    let stream = events(&house.post("shop", PATH, &with(&ask)).await);
    let blocks: Vec<_> = stream.iter().filter(|event| event["type"] == "content_block_start").collect();
    let started: Vec<_> =
        blocks.iter().map(|event| (event["index"].as_u64().unwrap(), &event["content_block"])).collect();
    let wanted = [
        json!({ "type": "thinking", "thinking": "" }),
        json!({ "type": "text", "text": "" }),
        json!({ "type": "tool_use", "id": "c1", "name": "f", "input": {} }),
        json!({ "type": "tool_use", "id": "c2", "name": "f", "input": {} }),
    ];
    assert_eq!(started, (0..).zip(&wanted).collect::<Vec<_>>());
    let deltas: Vec<_> = stream.iter().filter(|event| event["type"] == "content_block_delta").collect();
    let of = |name: &str| deltas.iter().filter_map(|event| event["delta"][name].as_str()).collect::<Vec<_>>();
    assert_eq!((of("thinking"), of("text")), (vec!["h", "m"], vec!["I look."]));
    assert_eq!(of("partial_json"), [r#"{"a":1}"#; 2]);
    let [.., delta, _] = &stream[..] else { panic!("{stream:?}") };
    assert_eq!(delta["delta"], json!({ "stop_reason": "tool_use" }));
    assert_eq!(delta["usage"], json!({ "input_tokens": 11, "output_tokens": 7 }));

    let all = json!({ "role": "assistant", "content": "I look.", "thinking": "hm", "tool_calls": [call("c1")] });
    house.sim.inject(Fault::Answer { status: 200, body: said(&all, Some("stop")) });
    let mut ask = ask;
    ask["stream"] = false.into();
    let whole = object(&house.post("shop", PATH, &with(&ask)).await);
    let content = json!([
        { "type": "thinking", "thinking": "hm" },
        { "type": "text", "text": "I look." },
        { "type": "tool_use", "id": "c1", "name": "f", "input": { "a": 1 } },
    ]);
    assert_eq!((&whole["content"], &whole["stop_reason"]), (&content, &json!("tool_use")));
    house.close().await;
}

#[tokio::test]
async fn why_it_stopped_is_said_in_anthropics_words() {
    let house = house("").await;
    let text = json!({ "role": "assistant", "content": "x" });
    for (reason, wanted) in [("stop", "end_turn"), ("length", "max_tokens"), ("unheard_of", "stop_sequence")] {
        for stream in [false, true] {
            house.sim.inject(Fault::Answer { status: 200, body: said(&text, Some(reason)) });
            let reply = house.post("shop", PATH, &with(&json!({ "stream": stream }))).await;
            let told = if stream { events(&reply).swap_remove(4)["delta"].clone() } else { object(&reply) };
            assert_eq!(told["stop_reason"], wanted, "{reason}: {reply:?}");
        }
    }
    // messages that say nothing only load the model, as at Ollama
    let silent = json!({ "messages": [{ "role": "user", "content": [] }] });
    let whole = object(&house.post("shop", PATH, &with(&silent)).await);
    assert_eq!((&whole["content"], &whole["stop_reason"]), (&json!([]), &json!("stop_sequence")), "{whole}");
    house.close().await;
}

/// The error of a refusal, which names its request in the body and in a header.
fn refused(reply: &Raw, status: u16, kind: &str) -> String {
    let text = refusal(PATH, status, reply);
    let body = object(reply);
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)), "{body}");
    assert_eq!(body["request_id"].as_str(), reply.header("request-id"), "{reply:?}");
    assert_eq!(reply.header("request-id"), reply.header("x-request-id"), "{reply:?}");
    text
}

#[tokio::test]
async fn errors_have_anthropics_form_and_the_type_of_their_status() {
    let limits = "requests_per_minute = 600\nmax_body = \"4KiB\"\nmodels = [\"gemma:a\", \"tooly\"]\n";
    let house = house(limits).await;
    for stream in [false, true] {
        let ask = |more: Value| {
            let mut body = with(&more);
            body["stream"] = stream.into();
            body
        };
        refused(&house.post("", PATH, &ask(json!({}))).await, 401, "authentication_error");
        refused(&house.post("shop", PATH, &ask(json!({ "max_tokens": 0 }))).await, 400, "invalid_request_error");
        refused(&house.post("shop", PATH, &ask(json!({ "model": "tinybert" }))).await, 403, "permission_error");
        let long = json!({ "system": "word ".repeat(2000) });
        refused(&house.post("shop", PATH, &ask(long)).await, 413, "request_too_large");
        let busy = Fault::Answer { status: 503, body: "{\"error\":\"server busy\"}".into() };
        let faults = [
            (Fault::Crash { after: 0 }, 500, "api_error"),
            (Fault::Close { after: 0 }, 502, "api_error"),
            (busy, 503, "overloaded_error"),
            (Fault::Stall { after: 0 }, 504, "timeout_error"),
        ];
        for (fault, status, kind) in faults {
            house.sim.inject(fault);
            let reply = house.post("shop", PATH, &ask(json!({}))).await;
            refused(&reply, status, kind);
            assert_eq!(reply.header("retry-after").is_some(), status == 503, "{reply:?}");
            assert_eq!(house.post("shop", PATH, &ask(json!({}))).await.status, 200, "the next one is served");
        }
        let running = house.occupied("/api/chat", "gemma:a").await;
        let now = ("X-Gaucho-Deadline", "0");
        let late = house.send_with("shop", PATH, now, &ask(json!({}))).await.read().await;
        assert!(refused(&late, 503, "overloaded_error").contains("X-Gaucho-Deadline"), "{late:?}");
        assert!(late.header("retry-after").is_some(), "{late:?}");
        drop(running);
        house.until_upstream_is_idle().await;
    }
    house.close().await;
    let open = Plan::new().app("shop").policy("shop.toml", "requests_per_minute = 1\n").build().await;
    let unknown = json!({ "model": "nowhere" });
    refused(&open.post("shop", PATH, &with(&unknown)).await, 404, "not_found_error");
    let throttled = open.post("shop", PATH, &with(&json!({}))).await;
    refused(&throttled, 429, "rate_limit_error");
    assert!(throttled.header("retry-after").is_some(), "{throttled:?}");
    assert_eq!(throttled.header("anthropic-ratelimit-requests-limit"), Some("1"), "{throttled:?}");
    assert_eq!(throttled.header("anthropic-ratelimit-requests-remaining"), Some("0"), "{throttled:?}");
    let reset = throttled.header("anthropic-ratelimit-requests-reset").unwrap();
    assert!(reset.starts_with("20") && reset.ends_with('Z') && !reset.contains('.'), "{reset}");
    open.close().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_in_an_error_event() {
    let house = house("").await;
    for (fault, kind) in [
        (Fault::Close { after: 2 }, "api_error"),
        (Fault::Crash { after: 2 }, "api_error"),
        (Fault::EndSilently { after: 2 }, "api_error"),
        (Fault::Garbage { after: 2 }, "api_error"),
        (Fault::Stall { after: 2 }, "timeout_error"),
    ] {
        house.sim.inject(fault.clone());
        let reply = house.post("shop", PATH, &with(&json!({ "stream": true, "max_tokens": 50 }))).await;
        let text = broken_stream(PATH, &reply);
        let events = events(&reply);
        let order = "message_start content_block_start content_block_delta error";
        assert_eq!(kinds(&events).join(" "), order, "{fault:?}");
        assert_eq!(events.last().unwrap()["error"], json!({ "type": kind, "message": text }), "{fault:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_key_comes_as_anthropics_clients_send_it_and_their_versions_are_taken() {
    let house = house("").await;
    let key = house.key("shop").to_owned();
    let own = |value: &str| vec![("X-Api-Key".to_owned(), value.to_owned())];
    let mut versioned = own(&key);
    for (name, value) in [("anthropic-version", "2023-06-01"), ("anthropic-beta", "context-management-2025-06-27")] {
        versioned.push((name.to_owned(), value.to_owned()));
    }
    let body = with(&json!({})).to_string();
    for (path, headers, status) in [
        (PATH.to_owned(), own(&key), 200),
        (PATH.to_owned(), versioned.clone(), 200),
        (format!("{PATH}?beta=true"), versioned, 200),
        (format!("/k/{key}{PATH}"), Vec::new(), 200),
        (PATH.to_owned(), own("gk_wrong"), 401),
    ] {
        let reply = raw::send(house.addr, "POST", &path, &headers, Some(&body)).await.read().await;
        assert_eq!(reply.status, status, "{path}: {reply:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn what_ollama_has_not_got_beside_it_is_not_there() {
    let house = house("").await;
    for path in ["/v1/messages/count_tokens", "/v1/messages/batches"] {
        let reply = house.post("shop", path, &with(&json!({}))).await;
        assert_eq!((reply.status, reply.body().as_str()), (404, "404 page not found"), "{path}: {reply:?}");
    }
    let get = house.ask("shop", "GET", PATH, None).await;
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")), "{get:?}");
    house.close().await;
}

/// What the last call upstream said.
fn sent(house: &House) -> Value {
    serde_json::from_slice(&house.sim.seen().last().unwrap().body).unwrap()
}

#[tokio::test]
async fn what_asks_for_nothing_stays_here_and_what_cannot_be_had_is_refused_before_anything_is_sent() {
    let house = house("").await;
    assert_eq!(house.post("shop", PATH, &with(&json!({}))).await.status, 200);
    let plain = sent(&house);
    let harmless = json!({
        "metadata": { "user_id": "u" }, "service_tier": "auto", "speed": "fast", "inference_geo": "eu",
        "cache_control": { "type": "ephemeral" }, "mcp_servers": [], "container": null, "somebodys_own": [1],
        "context_management": { "edits": [{ "type": "clear_thinking_20251015", "keep": "all" }] },
        "tool_choice": { "type": "auto" }, "thinking": { "type": "adaptive" },
    });
    assert_eq!(house.post("shop", PATH, &with(&harmless)).await.status, 200);
    assert_eq!(sent(&house), plain);
    let received = house.sim.tally().received;
    for (more, part) in [
        (json!({ "container": "c" }), "container is \"c\""),
        (json!({ "context_management": { "edits": [{ "type": "compact_20260112" }] } }), "context_management is "),
        (json!({ "tool_choice": { "type": "any" } }), "tool_choice.type is \"any\""),
        (json!({ "tools": [{ "type": "web_search_20250305", "name": "web_search" }] }), "tools[0].type is "),
        (json!({ "output_config": { "format": { "type": "grammar" } } }), "output_config.format"),
        (json!({ "system": [{ "type": "image" }] }), "system[0].type is \"image\""),
        (json!({ "options": { "num_ctx": "8k" } }), "option \"num_ctx\""),
        (json!({ "options": { "mirostat": 1, "temperature": "hot" } }), "option \"temperature\""),
        (json!({ "keep_alive": "soon" }), "time: invalid duration"),
        (json!({ "truncate": "yes" }), "MessagesRequest.truncate"),
    ] {
        let text = refusal(PATH, 400, &house.post("shop", PATH, &with(&more)).await);
        assert!(text.contains(part), "{more}: {text}");
    }
    assert_eq!(house.sim.tally().received, received, "nothing went upstream");
    house.close().await;
}

#[tokio::test]
async fn options_are_subject_to_policy_as_on_the_native_routes() {
    let wish = json!({ "options": { "num_ctx": 9999, "num_gpu": 3, "mirostat": 1, "min_p": 0.25 }, "keep_alive": 0 });
    let clamps = house("").await;
    assert_eq!(clamps.post("shop", PATH, &with(&wish)).await.status, 200);
    let upstream = sent(&clamps);
    let options = &upstream["options"];
    assert_eq!((&options["num_ctx"], &options["min_p"]), (&json!(2048), &json!(0.25)), "{upstream}");
    assert_eq!((&options["mirostat"], &options["num_predict"]), (&json!(1), &json!(4)), "passed on: {upstream}");
    assert!(options.get("num_gpu").is_none() && upstream["keep_alive"] != 0, "{upstream}");
    // unlike OpenAI's surfaces this one has no defaults of its own
    assert!(options.get("temperature").is_none() && options.get("top_p").is_none(), "{upstream}");
    clamps.close().await;
    let refuses = house("runner_options = \"refuse\"\n").await;
    let text = refusal(PATH, 400, &refuses.post("shop", PATH, &with(&wish)).await);
    assert!(text.starts_with("options.num_ctx is 9999, but "), "{text}");
    refuses.close().await;
}

#[tokio::test]
async fn a_schema_is_followed_and_big_numbers_keep_their_digits() {
    let house = house("").await;
    let schema = json!({ "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] });
    let format =
        json!({ "output_config": { "format": { "type": "json_schema", "schema": schema } }, "max_tokens": 200 });
    let whole = object(&house.post("shop", PATH, &with(&format)).await);
    let text = whole["content"][0]["text"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap()["name"].is_string(), "{whole}");
    let input = r#"{"big":12345678901234567890,"long":0.1234567890123456789}"#;
    let body = format!(
        r#"{{"model":"tooly","max_tokens":4,"messages":[{{"role":"user","content":"x"}},{{"role":"assistant","content":[{{"type":"tool_use","id":"t","name":"f","input":{input}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t","content":"ok"}}]}}]}}"#
    );
    assert_eq!(house.ask("shop", "POST", PATH, Some(&body)).await.status, 200);
    let upstream = String::from_utf8(house.sim.seen().last().unwrap().body.to_vec()).unwrap();
    assert!(upstream.contains(input), "{upstream}");
    house.close().await;
}

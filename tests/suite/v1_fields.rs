//! Fields of `/v1` requests: honoured, or refused by name before anything is sent; never ignored in silence.

use gaucho::sim::Fault;
use serde_json::{Value, json};

use crate::support::dialect::{is_whole, refusal, request};
use crate::support::gateway::{House, Plan};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const EMBEDDINGS: &str = "/v1/embeddings";
const RESPONSES: &str = "/v1/responses";
const ROUTES: [&str; 4] = [CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES];

fn model(path: &str) -> &'static str {
    if path == EMBEDDINGS { "tinybert" } else { "gemma:a" }
}

/// A small good request with these fields more.
fn with(path: &str, more: &Value) -> Value {
    let mut body = request(path, model(path), false);
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn house(policy: &str) -> House {
    let profile = "[models.\"*\"]\nnum_ctx = 2048\n";
    let house = Plan::new().app("shop").policy("shop.toml", policy).policy("models.toml", profile).build().await;
    for path in ROUTES {
        let reply = house.post("shop", path, &request(path, model(path), false)).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
    }
    house
}

/// What the last call upstream said.
fn sent(house: &House) -> Value {
    serde_json::from_slice(&house.sim.seen().last().unwrap().body).unwrap()
}

/// A function in the form of the route.
fn function(path: &str) -> Value {
    let mut function = json!({ "name": "weather", "parameters": { "type": "object", "properties": {} } });
    if path == RESPONSES {
        function["type"] = "function".into();
        return function;
    }
    json!({ "type": "function", "function": function })
}

/// What `/v1/responses` refuses, and by which name.
fn refused_of_responses() -> impl Iterator<Item = (&'static str, Value, &'static str)> {
    let table = [
        (json!({ "previous_response_id": "resp_1" }), "previous_response_id"),
        (json!({ "conversation": { "id": "conv_1" } }), "conversation"),
        (json!({ "prompt": { "id": "pmpt_1" } }), "prompt"),
        (json!({ "background": true }), "background"),
        (json!({ "context_management": [{ "type": "compaction" }] }), "context_management"),
        (json!({ "include": ["message.output_text.logprobs"] }), "include"),
        (json!({ "top_logprobs": 2 }), "top_logprobs"),
        (json!({ "stream": true, "stream_options": { "include_obfuscation": true } }), "stream_options"),
        (json!({ "truncation": "middle" }), "truncation"),
        (json!({ "text": { "verbosity": "low" } }), "text.verbosity"),
        (json!({ "text": { "format": { "type": "grammar" } } }), "text.format.type"),
        (json!({ "text": { "format": { "type": "json_schema", "name": "x" } } }), "text.format.schema"),
        (json!({ "tools": [function(RESPONSES)], "tool_choice": "required" }), "tool_choice"),
        (json!({ "tools": [function(RESPONSES), { "type": "web_search" }] }), "tools[1].type"),
        (json!({ "tools": [{ "type": "custom", "name": "x" }] }), "tools[0].type"),
        (json!({ "options": { "num_ctx": "8k" } }), "options.num_ctx"),
    ];
    table.into_iter().map(|(more, param)| (RESPONSES, more, param))
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_by_name_before_anything_is_sent() {
    let house = house("").await;
    let received = house.sim.tally().received;
    let table = [
        (CHAT, json!({ "n": 2 }), "n"),
        (CHAT, json!({ "n": 0 }), "n"),
        (CHAT, json!({ "logit_bias": { "50256": -100 } }), "logit_bias"),
        (CHAT, json!({ "tools": [function(CHAT)], "tool_choice": "required" }), "tool_choice"),
        (
            CHAT,
            json!({ "tools": [function(CHAT)], "tool_choice": { "type": "function", "function": { "name": "weather" } } }),
            "tool_choice",
        ),
        (CHAT, json!({ "tools": [{ "type": "custom", "custom": { "name": "x" } }] }), "tools[0].type"),
        (CHAT, json!({ "functions": [{ "name": "weather" }] }), "functions"),
        (CHAT, json!({ "function_call": { "name": "weather" } }), "function_call"),
        (CHAT, json!({ "modalities": ["text", "audio"] }), "modalities"),
        (CHAT, json!({ "audio": { "voice": "ash", "format": "mp3" } }), "audio"),
        (CHAT, json!({ "web_search_options": {} }), "web_search_options"),
        (CHAT, json!({ "verbosity": "low" }), "verbosity"),
        (CHAT, json!({ "response_format": { "type": "grammar" } }), "response_format.type"),
        (CHAT, json!({ "response_format": { "type": "json_schema" } }), "response_format.json_schema.schema"),
        (CHAT, json!({ "max_tokens": 5, "max_completion_tokens": 6 }), "max_tokens"),
        (CHAT, json!({ "top_logprobs": 3 }), "top_logprobs"),
        (CHAT, json!({ "stop": 5 }), "stop"),
        (CHAT, json!({ "stop": ["a", 5] }), "stop"),
        (CHAT, json!({ "options": { "num_ctx": "8k" } }), "options.num_ctx"),
        (CHAT, json!({ "options": { "stop": [1] } }), "options.stop"),
        (COMPLETIONS, json!({ "n": 3 }), "n"),
        (COMPLETIONS, json!({ "best_of": 3 }), "best_of"),
        (COMPLETIONS, json!({ "echo": true }), "echo"),
        (COMPLETIONS, json!({ "logit_bias": { "5": 1 } }), "logit_bias"),
        (COMPLETIONS, json!({ "stop": { "a": 1 } }), "stop"),
        (COMPLETIONS, json!({ "options": { "temperature": "hot" } }), "options.temperature"),
        (EMBEDDINGS, json!({ "dimensions": -3 }), "dimensions"),
        (EMBEDDINGS, json!({ "options": { "num_ctx": [] } }), "options.num_ctx"),
    ];
    for (path, more, param) in table.into_iter().chain(refused_of_responses()) {
        let refused = house.post("shop", path, &with(path, &more)).await;
        let text = refusal(path, 400, &refused);
        let error: Value = serde_json::from_str(&refused.body()).unwrap();
        assert_eq!(error["error"]["param"], param, "{path} {more}: {error}");
        assert_eq!(error["error"]["type"], "invalid_request_error", "{path} {more}: {error}");
        let named = param.rsplit('.').next().unwrap();
        assert!(text.contains(named), "{path} {more}: {text}");
    }
    assert_eq!(house.sim.tally().received, received, "nothing went upstream");
    house.close().await;
}

#[tokio::test]
async fn ollamas_own_words_name_the_field_as_well() {
    let house = house("").await;
    let received = house.sim.tally().received;
    for (path, more, words) in [
        (EMBEDDINGS, json!({ "encoding_format": "hex" }), "encoding_format"),
        (CHAT, json!({ "parallel_tool_calls": "no" }), "ChatCompletionRequest.parallel_tool_calls"),
        (CHAT, json!({ "options": 7 }), "ChatCompletionRequest.options"),
        (CHAT, json!({ "messages": [{ "role": 5, "content": "x" }] }), "messages.role"),
        (CHAT, json!({ "stream_options": { "include_usage": "yes" } }), "stream_options.include_usage"),
        (COMPLETIONS, json!({ "logprobs": 99 }), "top_logprobs must be between 0 and 20"),
        (COMPLETIONS, json!({ "stop": [5] }), "'stop'"),
        (RESPONSES, json!({ "truncate": "yes" }), "ResponsesRequest.truncate"),
        (RESPONSES, json!({ "options": 7 }), "ResponsesRequest.options"),
        (RESPONSES, json!({ "reasoning": { "effort": "huge" } }), "invalid reasoning value: \"huge\""),
        (
            RESPONSES,
            json!({ "input": [{ "type": "item_reference", "id": "msg_1" }] }),
            "input[0]: unknown input item type",
        ),
    ] {
        let text = refusal(path, 400, &house.post("shop", path, &with(path, &more)).await);
        assert!(text.contains(words), "{path} {more}: {text}");
    }
    assert_eq!(house.sim.tally().received, received, "nothing went upstream");
    house.close().await;
}

#[tokio::test]
async fn what_asks_for_nothing_is_taken_and_stays_here() {
    let house = house("").await;
    let harmless = json!({
        "user": "u-1", "store": true, "metadata": { "a": "b" }, "service_tier": "flex", "safety_identifier": "s",
        "prediction": { "type": "content", "content": "x" }, "prompt_cache_key": "k", "n": 1, "logit_bias": {},
        "modalities": ["text"], "parallel_tool_calls": true, "tool_choice": "auto", "best_of": 1, "echo": false,
        "response_format": { "type": "text" }, "verbosity": "medium", "functions": null, "prompt_cache_retention": "24h",
        "max_tool_calls": 3, "background": false, "include": ["reasoning.encrypted_content"], "top_logprobs": null,
        "previous_response_id": null, "stream_options": { "include_obfuscation": false }, "context_management": [],
    });
    for path in ROUTES {
        let plain = house.post("shop", path, &with(path, &json!({}))).await;
        let upstream = sent(&house);
        let reply = house.post("shop", path, &with(path, &harmless)).await;
        assert_eq!((plain.status, reply.status), (200, 200), "{path}: {reply:?}");
        assert_eq!(sent(&house), upstream, "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn fields_beyond_ollamas_own_are_honoured() {
    let house = house("").await;
    for (more, tokens) in [
        (json!({ "max_tokens": null, "max_completion_tokens": 4 }), 4),
        (json!({ "max_tokens": 4, "max_completion_tokens": 4 }), 4),
        (json!({ "max_tokens": 3 }), 3),
    ] {
        let reply = house.post("shop", CHAT, &with(CHAT, &more)).await;
        let body: Value = serde_json::from_str(&reply.body()).unwrap();
        assert_eq!(body["usage"]["completion_tokens"], tokens, "{more}: {body}");
        assert_eq!(body["choices"][0]["finish_reason"], "length", "{body}");
    }
    // "none" offers no tools; gemma:a has none to begin with
    let none =
        house.post("shop", CHAT, &with(CHAT, &json!({ "tools": [function(CHAT)], "tool_choice": "none" }))).await;
    assert_eq!((none.status, sent(&house).get("tools")), (200, None), "{none:?}");
    let scores = house.post("shop", COMPLETIONS, &with(COMPLETIONS, &json!({ "logprobs": 2, "max_tokens": 3 }))).await;
    let body: Value = serde_json::from_str(&scores.body()).unwrap();
    let found = &body["choices"][0]["logprobs"];
    for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(found[list].as_array().map(Vec::len), Some(3), "{list}: {body}");
    }
    house.close().await;
}

#[tokio::test]
async fn options_on_v1_are_subject_to_policy_as_on_the_native_routes() {
    let clamps = house("").await;
    let wish = json!({ "options": { "num_ctx": 9999, "top_k": 7, "num_gpu": 3 }, "keep_alive": 0 });
    for path in ROUTES {
        let reply = clamps.post("shop", path, &with(path, &wish)).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let upstream = sent(&clamps);
        assert_eq!(
            (&upstream["options"]["num_ctx"], &upstream["options"]["top_k"]),
            (&json!(2048), &json!(7)),
            "{path}"
        );
        assert!(upstream["options"].get("num_gpu").is_none() && upstream["keep_alive"] != 0, "{path}: {upstream}");
    }
    clamps.close().await;
    let refuses = house("runner_options = \"refuse\"\n").await;
    for path in ROUTES {
        let text = refusal(path, 400, &refuses.post("shop", path, &with(path, &wish)).await);
        assert!(text.starts_with("options.num_ctx is 9999, but "), "{path}: {text}");
        let same = json!({ "options": { "num_ctx": 2048, "top_k": 7 } });
        assert_eq!(refuses.post("shop", path, &with(path, &same)).await.status, 200, "{path}");
    }
    refuses.close().await;
}

#[tokio::test]
async fn a_bad_keep_alive_is_named_as_the_parameter() {
    let house = house("").await;
    for path in ROUTES {
        for value in [json!("soon"), json!({}), json!(true)] {
            let reply = house.post("shop", path, &with(path, &json!({ "keep_alive": value }))).await;
            assert!(refusal(path, 400, &reply).starts_with("keep_alive: "), "{path}: {reply:?}");
            let error: Value = serde_json::from_str(&reply.body()).unwrap();
            assert_eq!(error["error"]["param"], "keep_alive", "{path} {value}: {error}");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn one_tool_call_at_a_time_is_what_the_caller_sees() {
    let house = house("").await;
    let call =
        |name: &str| format!(r#"{{"id":"call_{name}","function":{{"index":0,"name":"{name}","arguments":{{}}}}}}"#);
    let piece = |calls: &str, end: &str| {
        format!(
            r#"{{"model":"gemma:a","created_at":"2026-11-23T06:28:50Z","message":{{"role":"assistant","content":"","tool_calls":[{calls}]}},{end}}}"#
        )
    };
    let end = r#""done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":9"#;
    let whole = piece(&format!("{},{}", call("first"), call("second")), end);
    let stream = format!(
        "{}\n{}\n{}\n",
        piece(&call("first"), "\"done\":false"),
        piece(&call("second"), "\"done\":false"),
        piece("", end)
    );
    for (parallel, shown) in [(json!(false), 1), (json!(true), 2), (Value::Null, 2)] {
        for (path, streams) in [(CHAT, false), (CHAT, true), (RESPONSES, false), (RESPONSES, true)] {
            let body = if streams { &stream } else { &whole };
            house.sim.inject(Fault::Answer { status: 200, body: body.clone() });
            // a model that can call tools: others are refused before they are asked
            let ask = json!({
                "model": "tooly", "tools": [function(path)], "parallel_tool_calls": parallel, "stream": streams
            });
            let reply = house.post("shop", path, &with(path, &ask)).await;
            let text = reply.body();
            assert!(reply.status == 200 && (!streams || is_whole(path, &reply)), "{reply:?}");
            let names = ["\"first\"", "\"second\""].iter().filter(|name| text.contains(*name)).count();
            assert_eq!(names, shown, "{path} {parallel} {streams}: {text}");
            let end = if path == CHAT { "\"finish_reason\":\"tool_calls\"" } else { "\"status\":\"completed\"" };
            assert!(text.contains(end), "{text}");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn ids_are_unique_over_requests_and_restarts() {
    let mut ids = std::collections::HashSet::new();
    for _ in 0..2 {
        let house = house("").await;
        for (path, start) in [(CHAT, "chatcmpl-"), (COMPLETIONS, "cmpl-"), (RESPONSES, "resp_")] {
            for _ in 0..20 {
                let reply = house.post("shop", path, &request(path, model(path), false)).await;
                let body: Value = serde_json::from_str(&reply.body()).unwrap();
                let id = body["id"].as_str().unwrap().to_owned();
                let number = id.strip_prefix(start).unwrap_or_else(|| panic!("{path}: {id}"));
                assert!(ids.insert(number.to_owned()), "{id} came before");
            }
        }
        house.close().await;
    }
}

#[tokio::test]
async fn an_upstream_that_says_come_back_is_passed_on_with_a_time() {
    let house = house("").await;
    for path in ROUTES.into_iter().chain(["/api/chat", "/api/embed"]) {
        for status in [429, 503] {
            house.sim.inject(Fault::Answer { status, body: "{\"error\":\"slow down\"}".to_owned() });
            let model = if path.contains("embed") { "tinybert" } else { "gemma:a" };
            let reply = house.post("shop", path, &request(path, model, false)).await;
            assert_eq!(refusal(path, status, &reply), "slow down");
            assert_eq!(reply.header("retry-after"), Some("1"), "{path} {status}");
        }
    }
    house.close().await;
}

//! `/v1/responses` through the front door: what a talk of items becomes, what comes back, in which order, and how it fails.

use std::collections::HashSet;

use gaucho::sim::{Fault, Model};
use serde_json::{Value, json};

use crate::support::dialect::{broken_stream, is_whole, refusal};
use crate::support::gateway::{House, Plan};
use crate::support::raw::Raw;

const PATH: &str = "/v1/responses";
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// A gateway before a model that can do everything, which is in memory.
async fn house() -> House {
    let plan = Plan::new().app("shop").sim(|sim| {
        let gemma = sim.models.iter().find(|model| model.name == "gemma:a").unwrap().clone();
        let Model { name, digest, .. } = Model::named("omni").unwrap();
        let capabilities = ["completion", "tools", "thinking", "vision"].map(str::to_owned).to_vec();
        sim.models.push(Model { name, digest, capabilities, ..gemma });
    });
    let house = plan.build().await;
    // one that asks for nothing only loads, in either form
    for stream in [false, true] {
        let reply = ask(&house, &json!({ "model": "omni", "stream": stream })).await;
        assert!(reply.status == 200 && reply.body().contains("\"status\":\"completed\""), "{reply:?}");
    }
    house
}

async fn ask(house: &House, body: &Value) -> Raw {
    house.post("shop", PATH, body).await
}

/// The whole response of a request that must be answered.
async fn answer(house: &House, body: &Value) -> Value {
    let reply = ask(house, body).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{body}: {reply:?}");
    serde_json::from_str(&reply.body()).unwrap()
}

/// The last call upstream.
fn sent(house: &House) -> Value {
    serde_json::from_slice(&house.sim.seen().last().unwrap().body).unwrap()
}

fn function() -> Value {
    json!({
        "type": "function", "name": "get_weather", "description": "Weather in a city", "strict": true,
        "parameters": { "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] },
    })
}

/// The data of every event; each is one frame, named as its data says.
fn events(reply: &Raw) -> Vec<Value> {
    let read = reply.frames.iter().map(|frame| {
        let (name, data) = frame.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        assert!(data.ends_with("\n\n") && data.trim_end().lines().count() == 1, "one event a frame: {frame}");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        data
    });
    read.collect()
}

/// A native answer in pieces: what is thought, said and called, then the end.
fn pieces(messages: &[Value]) -> String {
    let mut lines = String::new();
    for message in messages {
        let line = json!({ "model": "m", "created_at": "2026-11-23T06:28:50Z", "message": message, "done": false });
        lines.push_str(&format!("{line}\n"));
    }
    let end = json!({
        "model": "m", "created_at": "2026-11-23T06:28:51Z", "message": { "role": "assistant", "content": "" },
        "done": true, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 9,
    });
    format!("{lines}{end}\n")
}

fn called(id: &str) -> Value {
    json!({ "role": "assistant", "content": "", "tool_calls": [
        { "id": id, "function": { "index": 0, "name": "get_weather", "arguments": { "city": "Paris", "days": 3 } } }
    ] })
}

#[tokio::test]
async fn a_talk_of_items_is_the_native_talk() {
    let house = house().await;
    let picture =
        json!({ "type": "input_image", "detail": "auto", "image_url": format!("data:image/png;base64,{PIXEL}") });
    let call = |id: &str| {
        json!({ "type": "function_call", "id": "fc_1", "call_id": id, "name": "get_weather",
                "arguments": "{\"city\":\"Paris\"}", "status": "completed" })
    };
    let native = |id: &str| json!({ "id": id, "function": { "index": 0, "name": "get_weather", "arguments": { "city": "Paris" } } });
    let body = json!({
        "model": "omni", "instructions": "Be brief.", "max_output_tokens": 5, "tools": [function()],
        "input": [
            { "role": "developer", "content": "Use French." },
            { "type": "message", "role": "user", "content": [
                { "type": "input_text", "text": "What is " }, picture, { "type": "input_text", "text": "this?" }
            ] },
            { "type": "reasoning", "id": "rs_1", "summary": [{ "type": "summary_text", "text": "hm" }], "encrypted_content": "hm" },
            { "type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                { "type": "output_text", "text": "A pixel.", "annotations": [], "logprobs": [] }
            ] },
            { "role": "user", "content": "And the weather?" },
            { "type": "reasoning", "summary": [], "encrypted_content": "look" },
            call("c1"), call("c2"),
            { "type": "function_call_output", "call_id": "c1", "output": "sunny" },
            { "type": "function_call_output", "call_id": "c2", "output": [{ "type": "input_text", "text": "rainy" }] },
        ],
    });
    answer(&house, &body).await;
    let wanted = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "developer", "content": "Use French." },
        { "role": "user", "content": "What is this?", "images": [PIXEL] },
        { "role": "assistant", "content": "A pixel.", "thinking": "hm" },
        { "role": "user", "content": "And the weather?" },
        { "role": "assistant", "content": "", "thinking": "look", "tool_calls": [native("c1"), native("c2")] },
        { "role": "tool", "content": "sunny", "tool_call_id": "c1" },
        { "role": "tool", "content": "rainy", "tool_call_id": "c2" },
    ]);
    let upstream = sent(&house);
    assert_eq!(upstream["messages"], wanted);
    assert_eq!(upstream["tools"][0]["function"]["name"], "get_weather");
    assert_eq!(upstream["options"]["num_predict"], 5);
    // a whole answer comes back as the next question's history
    let said = answer(&house, &json!({ "model": "omni", "input": "Why?", "max_output_tokens": 5 })).await;
    let mut input = vec![json!({ "role": "user", "content": "Why?" })];
    input.extend(said["output"].as_array().unwrap().clone());
    input.push(json!({ "role": "user", "content": "Really?" }));
    answer(&house, &json!({ "model": "omni", "input": input, "max_output_tokens": 5 })).await;
    let talk = sent(&house)["messages"].as_array().unwrap().len();
    assert_eq!(talk, 3, "thinking and text are one message: {}", sent(&house));
    house.close().await;
}

#[tokio::test]
async fn an_answer_of_every_kind_has_its_items_and_events_in_order() {
    let house = house().await;
    let said = |text: &str| json!({ "role": "assistant", "content": text });
    let thought = |text: &str| json!({ "role": "assistant", "content": "", "thinking": text });
    let body =
        pieces(&[thought("The "), thought("city."), said("Let me "), said("look."), called("call_a"), called("")]);
    let ask_stream = json!({ "model": "omni", "input": "weather?", "stream": true, "tools": [function()], "metadata": { "a": "b" } });
    let mut ids = HashSet::new();
    for _ in 0..2 {
        house.sim.inject(Fault::Answer { status: 200, body: body.clone() });
        let reply = ask(&house, &ask_stream).await;
        assert!(is_whole(PATH, &reply), "{reply:?}");
        let events = events(&reply);
        for (at, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], at, "{event}");
        }
        let names: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        let call = "output_item.added function_call_arguments.delta function_call_arguments.done output_item.done";
        let wanted = format!(
            "created in_progress output_item.added reasoning_summary_part.added reasoning_summary_text.delta \
             reasoning_summary_text.delta reasoning_summary_text.done reasoning_summary_part.done output_item.done \
             output_item.added content_part.added output_text.delta output_text.delta output_text.done \
             content_part.done output_item.done {call} {call} completed"
        );
        let wanted: Vec<String> = wanted.split_whitespace().map(|name| format!("response.{name}")).collect();
        assert_eq!(names, wanted);
        // all events between an item's first and last carry its index, and its id where they have one
        let mut item = Value::Null;
        for event in events.iter().filter(|event| event.get("output_index").is_some()) {
            if event["type"] == "response.output_item.added" {
                item = json!([event["output_index"], event["item"]["id"]]);
            }
            let id = event.get("item_id").unwrap_or(&event["item"]["id"]);
            assert_eq!(json!([event["output_index"], id]), item, "{event}");
        }
        let last = &events.last().unwrap()["response"];
        let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
        let done: Vec<&Value> = done.map(|event| &event["item"]).collect();
        assert_eq!(json!(done), last["output"], "what was done is the output");
        let call = &last["output"][2];
        assert_eq!(
            (&call["call_id"], &call["arguments"]),
            (&json!("call_a"), &json!("{\"city\":\"Paris\",\"days\":3}"))
        );
        assert_eq!((&last["usage"]["input_tokens"], &last["usage"]["output_tokens"]), (&json!(7), &json!(9)));
        assert_eq!((&last["metadata"], &last["tools"][0]["name"]), (&json!({ "a": "b" }), &json!("get_weather")));
        let items = last["output"].as_array().unwrap();
        for id in items.iter().flat_map(|item| [item.get("id"), item.get("call_id")]).flatten().chain([&last["id"]]) {
            assert!(id == "call_a" || ids.insert(id.to_string()), "{id} came before");
            assert!(id.as_str().is_some_and(|id| !id.is_empty()), "{last}");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_fails_with_what_was_said_before() {
    let house = house().await;
    let body = json!({ "model": "omni", "input": "Why?", "stream": true });
    for (fault, words) in [
        (Fault::Crash { after: 2 }, "unexpected EOF"),
        (Fault::Close { after: 2 }, "broke off"),
        (Fault::EndSilently { after: 2 }, "broke off"),
    ] {
        house.sim.inject(fault);
        let reply = ask(&house, &body).await;
        let text = broken_stream(PATH, &reply);
        assert!(text.contains(words), "{text}");
        let events = events(&reply);
        let failed = &events.last().unwrap()["response"];
        assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("server_error")));
        assert_eq!(failed["id"], events[0]["response"]["id"]);
        assert_eq!(events.last().unwrap()["sequence_number"], events.len() - 1);
        let deltas = events.iter().filter_map(|event| event["delta"].as_str()).collect::<String>();
        assert!(!deltas.is_empty(), "{reply:?}");
        let item = &failed["output"][0];
        let kept = if item["type"] == "reasoning" { &item["summary"][0]["text"] } else { &item["content"][0]["text"] };
        assert_eq!(*kept, deltas, "{failed}");
        assert_eq!(failed["usage"], Value::Null);
    }
    house.close().await;
}

#[tokio::test]
async fn shapes_efforts_and_names_of_functions_reach_the_model() {
    let house = house().await;
    let schema = json!({ "type": "object", "properties": { "b": { "type": "integer" }, "a": { "type": "string" } } });
    let format = json!({ "type": "json_schema", "name": "x", "strict": true, "schema": schema });
    let ask = |more: Value| {
        let mut body = json!({ "model": "omni", "input": "Why?", "max_output_tokens": 9 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (more, field, wanted) in [
        (json!({ "text": { "format": format } }), "format", schema),
        (json!({ "text": { "format": { "type": "json_object" } } }), "format", json!("json")),
        (json!({ "text": { "format": { "type": "text" } } }), "format", Value::Null),
        (json!({ "reasoning": { "effort": "none" } }), "think", json!(false)),
        (json!({ "reasoning": { "effort": "minimal" } }), "think", json!("low")),
        (json!({ "reasoning": { "summary": "auto" } }), "think", Value::Null),
        (json!({ "tools": [function()], "tool_choice": "none" }), "tools", Value::Null),
    ] {
        let said = answer(&house, &ask(more.clone())).await;
        assert_eq!(sent(&house)[field], wanted, "{more}");
        for (name, value) in more.as_object().unwrap() {
            if name == "text" || name == "tool_choice" {
                assert_eq!(said[name], *value, "the reply repeats it: {said}");
            }
        }
    }
    let space = json!({ "type": "namespace", "name": "town", "description": "x", "tools": [function()] });
    answer(&house, &ask(json!({ "tools": [space] }))).await;
    assert_eq!(sent(&house)["tools"][0]["function"]["name"], "town.get_weather");
    house.close().await;
}

#[tokio::test]
async fn nothing_is_kept_between_two_requests() {
    let house = house().await;
    let first =
        answer(&house, &json!({ "model": "omni", "input": "Why?", "store": true, "max_output_tokens": 3 })).await;
    assert_eq!(first["store"], false, "and it is said");
    let received = house.sim.tally().received;
    for (field, value) in [("previous_response_id", &first["id"]), ("conversation", &json!("conv_1"))] {
        let body = json!({ "model": "omni", "input": "And?", field: value });
        let text = refusal(PATH, 400, &ask(&house, &body).await);
        assert!(text.starts_with(field) && text.contains("send the earlier items in input"), "{text}");
    }
    let one = format!("{PATH}/{}", first["id"].as_str().unwrap());
    for (method, path) in [("GET", one.as_str()), ("DELETE", &one), ("POST", &format!("{one}/cancel"))] {
        assert_eq!(house.ask("shop", method, path, None).await.status, 404, "{method} {path}");
    }
    assert_eq!(house.sim.tally().received, received, "nothing went upstream");
    house.close().await;
}

//! Answers as values.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::{Map, Value, json};

use super::tokens::{count, pieces};
use super::{Plan, Wish, embed, messages_prompt, normalise, plan};
use crate::sim::builtin::{default_models, recorded_models};
use crate::sim::model::Model;
use crate::sim::options::{Base, merge};
use crate::sim::request::{Body as _, Chat};

fn model(name: &str) -> Model {
    let all = recorded_models().into_iter().chain(default_models());
    all.into_iter().find(|model| model.name == name).unwrap()
}

/// Plans the answer to a chat body.
fn answer(name: &str, body: &Value) -> Plan {
    let model = model(name);
    let mut body = body.clone();
    body["model"] = name.into();
    let request = Chat::read(body.to_string().as_bytes()).unwrap().0;
    let none = Map::new();
    let base = Base { parameters: &none, context_length: 4096, trained: 4096, shift: true };
    let options = merge(&base, &request.options).unwrap();
    let prompt = messages_prompt(&model, &request);
    let wish = Wish {
        request: &request,
        sampling: &options.sampling,
        think: model.can("thinking"),
        num_ctx: options.runner.num_ctx,
        shift: true,
        marks_show: false,
    };
    plan(&model, &prompt, &wish)
}

fn said(plan: &Plan) -> String {
    plan.steps.iter().filter(|step| !step.thinking).map(|step| step.text.as_str()).collect()
}

fn chat(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}]})
}

#[test]
fn prompts_count_as_they_did_in_the_recordings() {
    let gemma = model("gemma:a");
    for (text, tokens) in
        [("Why is the sky blue? One sentence.", 18), ("Count: one two three four", 15), ("Give a city.", 13), ("x", 10)]
    {
        let request = Chat::read(chat(text).to_string().as_bytes()).unwrap().0;
        assert_eq!(messages_prompt(&gemma, &request).tokens, tokens, "{text}");
        assert_eq!(pieces(text).concat(), text);
    }
    assert_eq!(count(&"word ".repeat(6000)), 6001);
}

#[test]
fn answers_repeat_and_follow_prompt_and_seed() {
    let plain = answer("llama3.2:3b", &chat("Why is the sky blue?"));
    assert_eq!(plain, answer("llama3.2:3b", &chat("Why is the sky blue?")));
    assert_ne!(said(&plain), said(&answer("llama3.2:3b", &chat("Why is the sky green?"))));
    let mut seeded = chat("Why is the sky blue?");
    seeded["options"] = json!({"seed": 7});
    assert_ne!(said(&plain), said(&answer("llama3.2:3b", &seeded)));
    assert_eq!((plain.reason, plain.tokens), ("stop", plain.steps.len() as u64 + 1));
}

#[test]
fn num_predict_cuts_without_changing_what_was_said() {
    let mut body = chat("Why is the sky blue?");
    body["options"] = json!({"num_predict": 5});
    let short = answer("gemma:a", &body);
    assert_eq!((short.reason, short.tokens, short.steps.len()), ("length", 5, 5));
    body["options"] = json!({"num_predict": 50});
    assert!(said(&answer("gemma:a", &body)).starts_with(&said(&short)));
    // thinking comes first, and counts
    body["options"] = json!({"num_predict": 4});
    let thinking = answer("thinky:latest", &body);
    assert!(thinking.steps.iter().all(|step| step.thinking) && thinking.reason == "length");
}

#[test]
fn stop_texts_end_the_answer_before_them() {
    let whole = said(&answer("llama3.2:3b", &chat("Why?")));
    let stop: String = whole.chars().skip(20).take(3).collect();
    let mut body = chat("Why?");
    body["options"] = json!({"stop": ["never said", stop]});
    let cut = answer("llama3.2:3b", &body);
    assert_eq!(said(&cut), whole.split(&stop).next().unwrap());
    assert_eq!(cut.reason, "stop");
}

#[test]
fn formats_are_kept() {
    let mut body = chat("Give a city.");
    body["format"] = "json".into();
    let free: Value = serde_json::from_str(&said(&answer("llama3.2:3b", &body))).unwrap();
    assert!(free.is_object());
    let schema = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 5},
            "kind": {"enum": ["big", "small"]},
            "size": {"type": "integer", "minimum": 500, "maximum": 510},
            "tags": {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3},
            "next": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]},
        },
        "required": ["city"],
        "$defs": {"place": {"type": "object", "properties": {"name": {"type": ["string", "null"]}, "open": {"type": "boolean"}}}},
    });
    body["format"] = schema.clone();
    let made: Value = serde_json::from_str(&said(&answer("llama3.2:3b", &body))).unwrap();
    assert!(jsonschema::is_valid(&schema, &made), "{made}");
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    let mut body = chat("x");
    body["format"] = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
    assert!(said(&answer("llama3.2:3b", &body)).starts_with("{\"next\""));
    let many = json!({"type": "array", "minItems": 9000, "items": {"$ref": "#/properties/many"}});
    body["format"] = json!({"type": "object", "properties": {"many": many}});
    assert!(said(&answer("llama3.2:3b", &body)).len() < 1_000_000);
}

#[test]
fn tools_are_called_with_arguments_of_their_schema() {
    let weather = json!({"type": "function", "function": {"name": "get_weather", "parameters":
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}});
    let mut body = chat("weather in Paris?");
    body["tools"] = json!([weather]);
    let call = answer("qwen2.5:7b", &body);
    let calls = call.steps.last().unwrap().tool_calls.clone().unwrap();
    assert_eq!(calls[0]["function"]["name"], "get_weather");
    assert_eq!(calls[0]["function"]["arguments"], json!({"city": "Paris"}));
    // with the result in hand it talks
    body["messages"] = json!([{"role": "user", "content": "weather in Paris?"}, {"role": "tool", "content": "sunny"}]);
    assert!(answer("qwen2.5:7b", &body).steps.iter().all(|step| step.tool_calls.is_none()));
}

#[test]
fn vectors_are_of_length_one_and_near_for_near_texts() {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let (sky, heaven, tax) = (
        embed("w", "why is the sky blue", 64),
        embed("w", "why is the sky so blue", 64),
        embed("w", "file a tax form", 64),
    );
    assert!((dot(&sky, &sky) - 1.0).abs() < 1e-5);
    assert!(dot(&sky, &heaven) > 0.8 && dot(&sky, &tax) < 0.5);
    let mut cut = sky[..8].to_vec();
    normalise(&mut cut);
    assert!((dot(&cut, &cut) - 1.0).abs() < 1e-5);
    assert!((dot(&embed("w", "", 64), &embed("w", "", 64)) - 1.0).abs() < 1e-5);
}

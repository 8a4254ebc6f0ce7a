//! Tables of models: one for demos, and the one of the server that the recordings were made on.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::model::Model;

/// Models for demos: a small and a larger chat model, a thinking one, an embedder.
#[must_use]
pub fn default_models() -> Vec<Model> {
    Model::parse_file(include_str!("demo.toml")).unwrap_or_default()
}

/// The models of the recorded Ollama 0.32.15, newest first: what it listed and showed of each, and its speed.
#[must_use]
pub fn recorded_models() -> Vec<Model> {
    let few_shot = "{{- range .Messages }}{{ .Content }}\n{{ end }}";
    let thinky = json!({
        "name": "thinky", "modified_at": "2026-11-23T06:41:05.5Z", "capabilities": ["completion", "thinking"],
        "parent": "gemma:a", "template": few_shot,
        "thinking": "Snow is white, so it is white.", "text": "Yes, snow is white.\n",
    });
    let tooly = json!({
        "name": "tooly", "modified_at": "2026-11-23T06:41:05.4Z", "capabilities": ["completion", "tools"],
        "parent": "gemma:a", "template": few_shot, "keeps_calling_tools": true,
    });
    let stamped = json!({
        "name": "stamped", "modified_at": "2026-11-23T06:28:27.212409414Z", "size": 253_113_419, "parent": "gemma:a",
        "digest": "eb8179058ee08c12984e68d225d0ad3f97b88b008a9486e28599362c18626d90",
        "system": "You answer in one short sentence.",
        "parameters": {"num_ctx": 2048, "stop": ["\n\n"], "temperature": 0.1},
    });
    [
        thinky,
        tooly,
        gemma("d", "9c622b9a78a6f260b25a6d9f7ad6a194c6bea0bd8dcce9abc5aa871f18d558f6", "27.098227795"),
        tinybert(),
        stamped,
        gemma("c", "5f05b6db0ba546c1cb10d8ab10c3c3cb34cdf901607feeec6c689e6ee96fa6f4", "23.887812045"),
        gemma("b", "5414e178c8dacd23aa004312e19c314c5be7772c7d5af44584928b563993b477", "20.716373506"),
        gemma("a", "cd98e1469a15e9ad110a7e3f06a7b58fc65d50b6b3b41315e57bbec3d7102533", "17.779201669"),
    ]
    .into_iter()
    .filter_map(|fields| recorded(&fields))
    .collect()
}

/// What `/api/show` said of the two sets of weights.
#[derive(Deserialize)]
struct Shown {
    model_info: Map<String, Value>,
    tensors: Vec<Value>,
}

const GEMMA_TEMPLATE: &str = "{{- range .Messages }}<start_of_turn>{{ if eq .Role \"assistant\" }}model{{ else }}user\
                              {{ end }}\n{{ .Content }}<end_of_turn>\n{{ end }}<start_of_turn>model\n";

fn gemma(tag: &str, digest: &str, seconds: &str) -> Value {
    let modified_at = format!("2026-11-23T06:28:{seconds}Z");
    let mut fields = json!({"name": format!("gemma:{tag}"), "digest": digest, "modified_at": modified_at});
    let weights = match tag {
        // the layers that the recordings show; the tags below belong to a as well
        "a" => "eea83b9054622d0ed5f6a00d34126f3e231c7b2f5c9ddfbc3b25713394f67108".into(),
        "d" => "2c65cdd2a5bf88f261ce09a6430ea615f129995efa78b0389716f228059ac99d".into(),
        other => super::model::hash(&format!("gemma weights {other}")),
    };
    fields["weights"] = Value::String(weights);
    fields
}

fn tinybert() -> Value {
    json!({
        "name": "tinybert", "modified_at": "2026-11-23T06:28:27.139890551Z", "size": 426_422, "family": "bert",
        "digest": "208286448b7da4ee0fcf2b24cb40797b69f30f6cd35403cd311cda1128332ab4",
        "weights": "49af68d232f8c492463559f2834d24c100ce249f8b9800535ab4fb961a472897",
        "parameter_size": "105K", "quantization": "unknown", "capabilities": ["embedding"],
        "context_length": 512, "embedding_length": 64, "load_ms": 320, "memory": 2_500_000,
        "template": "{{ .Prompt }}", "prompt_tokens_per_second": 2000.0,
    })
}

/// The fields over what the tags on one set of weights have in common.
fn recorded(fields: &Value) -> Option<Model> {
    let bert = fields["family"] == "bert";
    let shown: Shown = serde_json::from_str(match bert {
        true => include_str!("recorded/tinybert.json"),
        false => include_str!("recorded/gemma.json"),
    })
    .ok()?;
    let mut model = json!({
        "weights": "eea83b9054622d0ed5f6a00d34126f3e231c7b2f5c9ddfbc3b25713394f67108",
        "size": 253_113_333, "memory": 344_677_416, "vram": 0, "family": "gemma3", "parameter_size": "268.10M",
        "context_length": 32768, "embedding_length": 640, "load_ms": 1890, "template": GEMMA_TEMPLATE,
        "prompt_tokens_per_second": 500.0, "tokens_per_second": 68.0, "parallel_speed": 0.87, "answer_tokens": 4000,
        "model_info": shown.model_info, "tensors": shown.tensors,
    });
    let map = model.as_object_mut()?;
    map.extend(fields.as_object()?.clone());
    Model::parse_file(&json!({ "models": [model] }).to_string()).ok()?.pop()
}

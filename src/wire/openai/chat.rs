//! `/v1/chat/completions` requests.

use super::messages;
use super::request::{bad, keep_alive, keeps_tools, made, options, refuse, refuse_unsupported, shape, stop};
use super::tables;
use crate::domain::{Fault, InferenceRequest, Intent, JsonField, Measure, Surface, Task};
use crate::wire::go_json::{Document, elements, go_quote, read};
use crate::wire::ollama::{check_model, check_top_logprobs, raw};

/// Reads a chat request and turns it into a native one.
pub(in crate::wire) fn decode_chat(body: &[u8]) -> Result<InferenceRequest, Fault> {
    let document = read(body, &tables::CHAT).map_err(refuse)?;
    let mut list = Vec::new();
    let _ = elements(document.get("messages").unwrap_or("[]"), |message| list.push(message));
    if list.is_empty() {
        return Err(bad("[] is too short - 'messages'"));
    }
    refuse_unsupported(&document)?;
    let keeps_tools = keeps_tools(&document)?;
    let converted = messages::convert(&list)?;
    let mut measure =
        Measure { body_bytes: body.len(), prompt_bytes: converted.prompt_bytes, inputs: 1, output_cap: None };
    let mut fields = vec![made("messages", &converted.json)?];
    if let Some(format) = format(&document)? {
        fields.push(made("format", &format)?);
    }
    if let (true, Some(tools)) = (keeps_tools, document.get("tools")) {
        measure.prompt_bytes += tools.len();
        fields.push(made("tools", tools)?);
    }
    fields.extend(think(&document)?);
    for name in ["logprobs", "top_logprobs"] {
        if let Some(value) = document.get(name) {
            fields.push((name.into(), raw(value)?));
        }
    }
    check_top_logprobs(&document)?;
    let model = document.text("model").into_owned();
    check_model(Task::Chat, &model)?;
    let stop = stop(&document, false)?;
    let options = options(&document, stop.as_deref(), &NAMED)?;
    measure.output_cap = options.output_cap;
    Ok(InferenceRequest {
        surface: Surface::V1Chat,
        model,
        stream: document.is_true("stream"),
        // messages whose content is an empty list vanish; with none left Ollama only loads the model
        intent: if converted.json == "[]" { Intent::Load } else { Intent::Answer },
        fields,
        options: options.sampling,
        runner_options: options.runner,
        keep_alive: keep_alive(&document),
        shape: shape(&document)?,
        echo: Vec::new(),
        measure,
    })
}

/// Fields that are options; of two names for one option the later one here counts.
const NAMED: [(&str, &str); 7] = [
    ("max_tokens", "num_predict"),
    ("max_completion_tokens", "num_predict"),
    ("temperature", "temperature"),
    ("seed", "seed"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("top_p", "top_p"),
];

fn format(document: &Document<'_>) -> Result<Option<String>, Fault> {
    let (mut kind, mut schema) = (String::new(), None);
    for object in document.all("response_format") {
        let format = read(object.as_bytes(), &tables::RESPONSE_FORMAT).map_err(refuse)?;
        if format.get("type").is_some() {
            kind = format.text("type").trim().to_lowercase();
        }
        for inner in format.all("json_schema") {
            let inner = read(inner.as_bytes(), &tables::JSON_SCHEMA).map_err(refuse)?;
            schema = inner.get("schema").map(str::to_owned).or(schema);
        }
    }
    Ok(match kind.as_str() {
        "json_object" => Some("\"json\"".into()),
        "json_schema" => schema,
        _ => None,
    })
}

/// `reasoning.effort`, else `reasoning_effort`, as `think`.
fn think(document: &Document<'_>) -> Result<Option<JsonField>, Fault> {
    let mut effort = None;
    for object in document.all("reasoning") {
        let reasoning = read(object.as_bytes(), &tables::REASONING).map_err(refuse)?;
        effort = Some(reasoning.text("effort").into_owned());
    }
    think_of(&effort.unwrap_or_else(|| document.text("reasoning_effort").into_owned()))
}

/// An effort as `think`.
pub(super) fn think_of(effort: &str) -> Result<Option<JsonField>, Fault> {
    let think = match effort {
        "" => return Ok(None),
        "none" => "false".into(),
        "minimal" => "\"low\"".into(),
        "low" | "medium" | "high" | "max" => format!("\"{effort}\""),
        "xhigh" | "ultra" => "\"max\"".into(),
        _ => {
            return Err(bad(format!(
                "invalid reasoning value: {} (must be \"minimal\", \"low\", \"medium\", \"high\", \"xhigh\", \
                 \"ultra\", \"max\", or \"none\")",
                go_quote(effort)
            )));
        }
    };
    Ok(Some(made("think", &think)?))
}

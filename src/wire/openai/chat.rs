//! `/v1/chat/completions` requests.

use super::fields::CHAT;
use super::messages;
use super::request::{bad, keep_alive, keeps_tools, made, options, refuse, schema, shape, stop, truncate};
use super::tables;
use crate::domain::{Fault, InferenceRequest, Intent, JsonField, Measure, ReplyShape, Surface, Task};
use crate::wire::fields::{self, shown};
use crate::wire::go_json::{Document, elements, go_quote, members, number, read, read_text, unquote};
use crate::wire::ollama::{check_model, check_top_logprobs};

/// Reads a chat request and turns it into a native one.
pub(in crate::wire) fn decode_chat(body: &[u8]) -> Result<InferenceRequest, Fault> {
    let document = read(body, &tables::CHAT).map_err(refuse)?;
    let messages = document.get("messages").unwrap_or("[]");
    let list = document.documents(messages).unwrap_or_default();
    if list.is_empty() {
        return Err(bad("[] is too short - 'messages'"));
    }
    fields::check(&document, CHAT)?;
    check_caps(&document)?;
    let keeps_tools = keeps_tools(&document)?;
    let converted = messages::convert(list, messages.len() + 64)?;
    let mut measure =
        Measure { body_bytes: body.len(), prompt_bytes: converted.prompt_bytes, inputs: 1, output_cap: None };
    // messages whose content is an empty list vanish; with none left Ollama only loads the model
    let intent = if converted.json == "[]" { Intent::Load } else { Intent::Answer };
    let mut fields = vec![made("messages", converted.json)];
    fields.extend(format(&document)?);
    if let (true, Some(tools)) = (keeps_tools, document.get("tools")) {
        check_tools(tools)?;
        measure.prompt_bytes += tools.len();
        fields.push(made("tools", tools));
    }
    fields.extend(think(&document)?);
    fields.extend(truncate(&document));
    for name in ["logprobs", "top_logprobs"] {
        if let Some(value) = document.get(name) {
            fields.push(made(name, value));
        }
    }
    check_top_logprobs(&document)?;
    if document.get("top_logprobs").is_some_and(|count| number(count) > 0.0) && !document.is_true("logprobs") {
        return Err(bad("top_logprobs is set without logprobs: set logprobs to true as well").at("top_logprobs"));
    }
    let model = document.text("model").into_owned();
    check_model(Task::Chat, &model)?;
    let stop = stop(&document, false)?;
    let options = options(&document, stop.as_deref(), &NAMED)?;
    measure.output_cap = options.output_cap;
    Ok(InferenceRequest {
        surface: Surface::V1Chat,
        model,
        stream: document.is_true("stream"),
        intent,
        fields,
        options: options.sampling,
        runner_options: options.runner,
        keep_alive: keep_alive(&document),
        shape: ReplyShape { one_tool_call: document.get("parallel_tool_calls") == Some("false"), ..shape(&document)? },
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

fn format(document: &Document<'_>) -> Result<Option<JsonField>, Fault> {
    let (mut kind, mut asked) = (String::new(), None);
    for object in document.all("response_format") {
        let format = read_text(object, &tables::RESPONSE_FORMAT).map_err(refuse)?;
        if format.get("type").is_some() {
            kind = format.text("type").trim().to_lowercase();
        }
        for inner in format.all("json_schema") {
            let inner = read_text(inner, &tables::JSON_SCHEMA).map_err(refuse)?;
            asked = inner.get("schema").or(asked);
        }
    }
    match (kind.as_str(), asked) {
        ("" | "text", _) => Ok(None),
        ("json_object", _) => Ok(Some(made("format", "\"json\""))),
        ("json_schema", Some(asked)) => schema("response_format.json_schema.schema", asked).map(Some),
        ("json_schema", None) => {
            let text =
                "response_format is a json_schema without a schema: put it into response_format.json_schema.schema";
            Err(bad(text).at("response_format.json_schema.schema"))
        }
        _ => Err(bad(format!(
            "response_format.type is {}: use \"text\", \"json_object\" or \"json_schema\"",
            shown(&go_quote(&kind))
        ))
        .at("response_format.type")),
    }
}

/// Two names for one limit must not say two things.
fn check_caps(document: &Document<'_>) -> Result<(), Fault> {
    match (document.get("max_tokens"), document.get("max_completion_tokens")) {
        (Some(old), Some(new)) if number(old) != number(new) => Err(bad(format!(
            "max_tokens is {old} and max_completion_tokens is {new}, but both mean the same: send only the latter"
        ))
        .at("max_tokens")),
        _ => Ok(()),
    }
}

/// Ollama takes a tool of any type for a function without a name.
fn check_tools(tools: &str) -> Result<(), Fault> {
    let (mut at, mut odd) = (0, None);
    let _ = elements(tools, |tool| {
        let _ = members(tool, |key, value| {
            if key == "type" && value.starts_with('"') && !matches!(&*unquote(value), "function" | "") {
                odd.get_or_insert((at, value));
            }
        });
        at += 1;
    });
    let Some((at, kind)) = odd else { return Ok(()) };
    let text = format!("tools[{at}].type is {}, but only functions can be called here: use \"function\"", shown(kind));
    Err(bad(text).at(format!("tools[{at}].type")))
}

/// `reasoning.effort`, else `reasoning_effort`, as `think`.
fn think(document: &Document<'_>) -> Result<Option<JsonField>, Fault> {
    let mut effort = None;
    for object in document.all("reasoning") {
        let reasoning = read_text(object, &tables::REASONING).map_err(refuse)?;
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
    Ok(Some(made("think", think)))
}

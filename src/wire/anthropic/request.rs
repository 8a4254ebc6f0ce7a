//! `/v1/messages` requests: read, checked in Ollama's order, turned into native chats.

use super::blocks::Converted;
use super::estimate::estimate;
use super::tables;
use crate::domain::{Fault, InferenceRequest, Intent, JsonField, Measure, ReplyShape, Surface, Task};
use crate::wire::go_json::{Document, documents, elements, number, read, unquote};
use crate::wire::ollama::{PARAMETERS, check_model};
use crate::wire::options::{Merged, Options};
use crate::wire::out::is_empty_list;
use crate::wire::request::{bad, keep_alive, made, refuse, truncate};

/// Fields that are options.
const NAMED: [(&str, &str); 4] =
    [("max_tokens", "num_predict"), ("temperature", "temperature"), ("top_p", "top_p"), ("top_k", "top_k")];

/// Reads a messages request and turns it into a native chat.
pub(in crate::wire) fn decode_messages(body: &[u8]) -> Result<InferenceRequest, Fault> {
    let document = read(body, &tables::MESSAGES).map_err(refuse)?;
    let model = document.text("model").into_owned();
    if model.is_empty() {
        return Err(bad("model is required"));
    }
    if document.get("max_tokens").map_or(0.0, number) <= 0.0 {
        return Err(bad("max_tokens is required and must be positive"));
    }
    if document.get("messages").is_none_or(is_empty_list) {
        return Err(bad("messages is required"));
    }
    refuse_hosted(&document)?;
    let stream = document.is_true("stream");
    let mut converted = Converted::new(body.len(), stream);
    if let Some(system) = document.get("system") {
        converted.system(system)?;
    }
    let messages = documents(document.get("messages").unwrap_or("[]"), &tables::MESSAGE);
    for (at, message) in messages.enumerate() {
        converted.add(at, &message.map_err(refuse)?)?;
    }
    let messages = converted.json()?;
    let mut measure =
        Measure { body_bytes: body.len(), prompt_bytes: converted.prompt_bytes, inputs: 1, output_cap: None };
    let (calls_allowed, one_tool_call) = choice(&document)?;
    // messages that say nothing vanish; with none left Ollama only loads the model
    let intent = if messages == "[]" { Intent::Load } else { Intent::Answer };
    let mut fields = vec![made("messages", messages)];
    fields.extend(format(&document)?);
    if let Some(tools) = tools(&document)?.filter(|_| calls_allowed) {
        measure.prompt_bytes += tools.len();
        fields.push(made("tools", tools));
    }
    fields.extend(think(&document)?);
    fields.extend(truncate(&document));
    check_model(Task::Chat, &model)?;
    let options = options(&document)?;
    measure.output_cap = options.output_cap;
    Ok(InferenceRequest {
        surface: Surface::V1Messages,
        model,
        stream,
        intent,
        fields,
        options: options.sampling,
        runner_options: options.runner,
        keep_alive: keep_alive(&document),
        shape: ReplyShape {
            one_tool_call,
            guessed_prompt: converted.guessed_bytes.map_or(0, |said| estimate(&document, said)),
            ..ReplyShape::default()
        },
        echo: Vec::new(),
        measure,
    })
}

/// Options in Ollama's terms; unlike OpenAI's surfaces this one has no defaults of its own.
fn options(document: &Document<'_>) -> Result<Options, Fault> {
    let mut merged = Merged::read(document.all("options"))?;
    for (field, option) in NAMED {
        if let Some(value) = document.get(field) {
            merged.set(option, value);
        }
    }
    if let Some(stop) = document.get("stop_sequences").filter(|list| !is_empty_list(list)) {
        merged.set("stop", stop);
    }
    merged.check()
}

/// What would be done elsewhere than here.
fn refuse_hosted(document: &Document<'_>) -> Result<(), Fault> {
    for (field, what) in [
        ("mcp_servers", "the gateway calls no servers for a model: leave it out, and give the model tools of your own"),
        ("container", "there are no containers here: leave it out"),
    ] {
        if document.get(field).is_some_and(|value| !is_empty_list(value)) {
            return Err(bad(format!("{field} is set, but {what}")).at(field));
        }
    }
    Ok(())
}

/// `tool_choice`: whether tools may be called, and whether only one at a time.
fn choice(document: &Document<'_>) -> Result<(bool, bool), Fault> {
    let Some(choice) = document.get("tool_choice") else { return Ok((true, false)) };
    let choice = read(choice.as_bytes(), &tables::TOOL_CHOICE).map_err(refuse)?;
    let one = choice.is_true("disable_parallel_tool_use");
    match &*choice.text("type") {
        "auto" | "" => Ok((true, one)),
        "none" => Ok((false, one)),
        kind => {
            let text = format!(
                "tool_choice.type is {kind:?}, but Ollama cannot be made to call a tool: use \"auto\" or \"none\""
            );
            Err(bad(text).at("tool_choice.type"))
        }
    }
}

/// Tools in Ollama's form.
fn tools(document: &Document<'_>) -> Result<Option<String>, Fault> {
    let mut list = Vec::new();
    let _ = elements(document.get("tools").unwrap_or("[]"), |tool| list.push(tool));
    let mut all = Vec::with_capacity(list.len());
    for (at, tool) in list.into_iter().enumerate() {
        let tool = read(tool.as_bytes(), &tables::TOOL).map_err(refuse)?;
        let kind = tool.text("type");
        if !matches!(&*kind, "" | "custom") {
            let text = format!(
                "tools[{at}].type is {kind:?}, but only tools of your own can be called here: use \"custom\" with an \
                 input_schema"
            );
            return Err(bad(text).at(format!("tools[{at}].type")));
        }
        let schema = tool.get("input_schema");
        if let Some(schema) = schema {
            read(schema.as_bytes(), &PARAMETERS)
                .map_err(|odd| bad(format!("invalid input_schema for tool {:?}: {}", tool.text("name"), odd.text())))?;
        }
        let part = |key: &str, value: Option<&str>| value.map(|v| format!(",\"{key}\":{v}")).unwrap_or_default();
        all.push(format!(
            "{{\"type\":\"function\",\"function\":{{\"name\":{}{}{}}}}}",
            tool.get("name").unwrap_or("\"\""),
            part("description", tool.get("description")),
            part("parameters", schema)
        ));
    }
    Ok((!all.is_empty()).then(|| format!("[{}]", all.join(","))))
}

/// `thinking`, else `output_config.effort`, as `think`.
fn think(document: &Document<'_>) -> Result<Option<JsonField>, Fault> {
    if let Some(thinking) = document.get("thinking") {
        let thinking = read(thinking.as_bytes(), &tables::THINKING).map_err(refuse)?;
        match &*thinking.text("type") {
            "enabled" => return Ok(Some(made("think", "true"))),
            "disabled" => return Ok(Some(made("think", "false"))),
            // the model decides, or the effort does
            "adaptive" | "" => {}
            kind => {
                let text = format!("thinking.type is {kind:?}: use \"enabled\", \"disabled\" or \"adaptive\"");
                return Err(bad(text).at("thinking.type"));
            }
        }
    }
    let Some(config) = document.get("output_config") else { return Ok(None) };
    let config = read(config.as_bytes(), &tables::OUTPUT_CONFIG).map_err(refuse)?;
    let effort = config.text("effort").trim().to_lowercase();
    match effort.as_str() {
        "" => Ok(None),
        "xhigh" => Ok(Some(made("think", "\"high\""))),
        "low" | "medium" | "high" | "max" => Ok(Some(made("think", format!("\"{effort}\"")))),
        _ => {
            let text =
                format!("output_config.effort is {effort:?}: use \"low\", \"medium\", \"high\", \"xhigh\" or \"max\"");
            Err(bad(text).at("output_config.effort"))
        }
    }
}

/// A JSON schema that the answer must follow: `output_config.format`, or the older `output_format`.
fn format(document: &Document<'_>) -> Result<Option<JsonField>, Fault> {
    let config = document.get("output_config").map(|config| read(config.as_bytes(), &tables::OUTPUT_CONFIG));
    let inner = config.transpose().map_err(refuse)?.and_then(|config| config.get("format"));
    let Some(format) = inner.or_else(|| document.get("output_format")) else { return Ok(None) };
    let field = if inner.is_some() { "output_config.format" } else { "output_format" };
    let format = read(format.as_bytes(), &tables::FORMAT).map_err(refuse)?;
    match (&*unquote(format.get("type").unwrap_or("\"\"")), format.get("schema")) {
        ("json_schema", Some(schema)) => Ok(Some(made("format", schema))),
        _ => {
            Err(bad(format!("{field} must be {{\"type\":\"json_schema\",\"schema\":…}}: nothing else can be enforced"))
                .at(field))
        }
    }
}

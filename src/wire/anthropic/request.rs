//! `/v1/messages` requests: read, checked in Ollama's order, turned into native chats.

use super::blocks::Converted;
use super::estimate::estimate;
use super::fields::MESSAGES;
use super::tables;
use crate::domain::{Fault, InferenceRequest, Intent, JsonField, Measure, ReplyShape, Surface, Task};
use crate::wire::fields::{self, shown};
use crate::wire::go_json::{Document, Struct, elements, number, read, read_text, unquote};
use crate::wire::ollama::{PARAMETERS, check_model};
use crate::wire::options::{Merged, Options};
use crate::wire::out::is_empty_list;
use crate::wire::request::{self, bad, keep_alive, made, refuse, truncate};

/// Fields that are options.
const NAMED: [(&str, &str); 4] =
    [("max_tokens", "num_predict"), ("temperature", "temperature"), ("top_p", "top_p"), ("top_k", "top_k")];

/// Reads a messages request and turns it into a native chat.
pub(in crate::wire) fn decode_messages(body: &[u8]) -> Result<InferenceRequest, Fault> {
    let document = read(body, &tables::MESSAGES).map_err(refuse)?;
    let list = messages(&document)?;
    let model = document.text("model").into_owned();
    if model.is_empty() {
        return Err(bad("model is required"));
    }
    if document.get("max_tokens").map_or(0.0, number) <= 0.0 {
        return Err(bad("max_tokens is required and must be positive"));
    }
    if list.is_empty() {
        return Err(bad("messages is required"));
    }
    fields::check(&document, MESSAGES)?;
    let stream = document.is_true("stream");
    let mut converted = Converted::of(document.get("system"), list, body.len(), stream)?;
    let messages = converted.json();
    let mut measure =
        Measure { body_bytes: body.len(), prompt_bytes: converted.prompt_bytes, inputs: 1, output_cap: None };
    let (calls_allowed, one_tool_call) = choice(&document)?;
    // messages that say nothing vanish; with none left Ollama only loads the model
    let intent = if messages == "[]" { Intent::Load } else { Intent::Answer };
    let mut fields = vec![made("messages", messages)];
    fields.extend(format(&document)?);
    if let Some(tools) = tools(&document)?.filter(|_| calls_allowed) {
        // as the caller wrote them: Go's escapes are not tokens of the model's
        measure.prompt_bytes += document.get("tools").map_or(0, str::len);
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

/// The messages; one without content is refused as Ollama's decoder of a message does it, before anything else.
fn messages<'d, 'a>(document: &'d Document<'a>) -> Result<&'d [Document<'a>], Fault> {
    let list = document.documents(document.get("messages").unwrap_or("[]")).unwrap_or_default();
    let whole = list.iter().all(|message| message.has("content"));
    if whole { Ok(list) } else { Err(bad("unexpected end of JSON input")) }
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
        let mut texts = true;
        let _ = elements(stop, |item| texts = texts && item.starts_with('"'));
        if !texts {
            return Err(bad(format!("stop_sequences is {}: use a list of texts", shown(stop))).at("stop_sequences"));
        }
        merged.set("stop", stop);
    }
    merged.check()
}

/// `tool_choice`: whether tools may be called, and whether only one at a time.
fn choice(document: &Document<'_>) -> Result<(bool, bool), Fault> {
    let one = merged(document, "tool_choice", &tables::TOOL_CHOICE, "disable_parallel_tool_use")? == Some("true");
    match &*merged(document, "tool_choice", &tables::TOOL_CHOICE, "type")?.map(unquote).unwrap_or_default() {
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
            read_text(schema, &PARAMETERS)
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

/// A member of a field that holds an object; of several objects of that name Go makes one.
fn merged<'a>(
    document: &Document<'a>,
    field: &'static str,
    table: &'static Struct,
    name: &str,
) -> Result<Option<&'a str>, Fault> {
    let mut found = None;
    for object in document.all(field) {
        found = read_text(object, table).map_err(refuse)?.get(name).or(found);
    }
    Ok(found)
}

/// `thinking`, else `output_config.effort`, as `think`.
fn think(document: &Document<'_>) -> Result<Option<JsonField>, Fault> {
    match &*merged(document, "thinking", &tables::THINKING, "type")?.map(unquote).unwrap_or_default() {
        "enabled" => return Ok(Some(made("think", "true"))),
        "disabled" => return Ok(Some(made("think", "false"))),
        // the model decides, or the effort does
        "adaptive" | "between_tools" | "" => {}
        kind => {
            let text = format!("thinking.type is {kind:?}: use \"enabled\", \"disabled\" or \"adaptive\"");
            return Err(bad(text).at("thinking.type"));
        }
    }
    let effort = merged(document, "output_config", &tables::OUTPUT_CONFIG, "effort")?.map(unquote).unwrap_or_default();
    let effort = effort.trim().to_lowercase();
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
    let inner = merged(document, "output_config", &tables::OUTPUT_CONFIG, "format")?;
    let Some(format) = inner.or_else(|| document.get("output_format")) else { return Ok(None) };
    let field = if inner.is_some() { "output_config.format" } else { "output_format" };
    let format = read(format.as_bytes(), &tables::FORMAT).map_err(refuse)?;
    match (&*unquote(format.get("type").unwrap_or("\"\"")), format.get("schema")) {
        ("json_schema", Some(schema)) => request::schema(&format!("{field}.schema"), schema).map(Some),
        _ => {
            Err(bad(format!("{field} must be {{\"type\":\"json_schema\",\"schema\":…}}: nothing else can be enforced"))
                .at(field))
        }
    }
}

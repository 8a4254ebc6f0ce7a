//! What OpenAI's requests have in common: sampling options, tools, usage in streams.

use super::tables;
use crate::domain::{Fault, ReplyShape};
use crate::wire::fields::shown;
use crate::wire::go_json::{Document, elements, read_text, unquote};
use crate::wire::options::{Merged, Options};
pub(super) use crate::wire::request::{bad, keep_alive, made, refuse, schema, truncate};

/// Whether the tools stay: not with `tool_choice: "none"`; what forces a call is refused.
pub(super) fn keeps_tools(document: &Document<'_>) -> Result<bool, Fault> {
    match document.get("tool_choice") {
        None => Ok(true),
        Some(choice) => match &*unquote(choice) {
            "auto" => Ok(true),
            "none" => Ok(false),
            _ => Err(bad(format!(
                "tool_choice is {}, but Ollama cannot be made to call a tool: use \"auto\" or \"none\"",
                shown(choice)
            ))
            .at("tool_choice")),
        },
    }
}

/// Options in Ollama's terms: what the request names, then the gateway's own `options` object, then 1.0 for
/// `temperature` and `top_p`, which Ollama's `/v1` sets over a model's own.
pub(super) fn options(
    document: &Document<'_>,
    stop: Option<&str>,
    named: &[(&str, &'static str)],
) -> Result<Options, Fault> {
    let mut merged = Merged::read(document.all("options"))?;
    for (field, option) in named {
        if let Some(value) = document.get(field) {
            merged.set(*option, value);
        }
    }
    if let Some(stop) = stop {
        merged.set("stop", stop);
    }
    for option in ["temperature", "top_p"] {
        if !merged.has(option) {
            merged.set(option, "1.0");
        }
    }
    merged.check()
}

/// `stop` as a list of strings; `None` when there is none. What is no text is refused: on `/v1/completions` (`late`) in
/// Ollama's words for an item of a list, elsewhere Ollama drops it in silence.
pub(super) fn stop(document: &Document<'_>, late: bool) -> Result<Option<String>, Fault> {
    let Some(stop) = document.get("stop") else { return Ok(None) };
    if stop.starts_with('"') {
        return Ok(Some(format!("[{stop}]")));
    }
    let mut texts: Vec<&str> = Vec::new();
    let mut odd = None;
    let list = elements(stop, |item| if item.starts_with('"') { texts.push(item) } else { odd = Some(item) });
    match odd {
        Some(item) if late => Err(bad(format!("invalid type for 'stop' field: {}", go_type(item))).at("stop")),
        None if list.is_ok() => Ok((!texts.is_empty()).then(|| format!("[{}]", texts.join(",")))),
        _ => Err(bad(format!("stop is {}: use a text or a list of texts", shown(stop))).at("stop")),
    }
}

/// What `%T` prints for a value decoded into an `interface{}`.
pub(super) fn go_type(token: &str) -> &'static str {
    match token.bytes().next() {
        Some(b'"') => "string",
        Some(b'{') => "map[string]interface {}",
        Some(b'[') => "[]interface {}",
        Some(b't' | b'f') => "bool",
        Some(b'n') | None => "<nil>",
        _ => "float64",
    }
}

/// `stream_options`, objects merged.
pub(super) fn shape(document: &Document<'_>) -> Result<ReplyShape, Fault> {
    let mut shape = ReplyShape::default();
    for object in document.all("stream_options") {
        let options = read_text(object, &tables::STREAM_OPTIONS).map_err(refuse)?;
        if let Some(wanted) = options.get("include_usage") {
            shape.include_usage = wanted == "true";
        }
    }
    Ok(shape)
}

//! What a caller of `/v1/responses` may ask for and nobody here can give: refused by name, with the way out.

use super::super::request::{bad, refuse};
use super::tables;
use crate::domain::Fault;
use crate::wire::go_json::{Document, elements, members, number, read, unquote};
use crate::wire::out::is_empty_list;

/// Things to include that are there anyway, or that belong to tools of the server's own, which no answer uses.
const INCLUDED: [&str; 7] = [
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
];

/// Refuses what would change the answer and cannot be honoured.
pub(super) fn check(document: &Document<'_>) -> Result<(), Fault> {
    stateless(document)?;
    if document.is_true("background") {
        let text =
            "background is true, but answers are only given while the caller waits: set it to false, or use stream";
        return Err(bad(text).at("background"));
    }
    if document.get("context_management").is_some_and(|list| !is_empty_list(list)) {
        let text = "context_management is not supported, because nothing is compacted here: leave it out";
        return Err(bad(text).at("context_management"));
    }
    include(document)?;
    if let Some(count) = document.get("top_logprobs").filter(|count| number(count) != 0.0) {
        let text =
            format!("top_logprobs is {count}, but this route gives none: use /v1/chat/completions with logprobs");
        return Err(bad(text).at("top_logprobs"));
    }
    truncation(document)?;
    obfuscation(document)?;
    verbosity(document)
}

/// What would need something that was kept of an earlier request.
fn stateless(document: &Document<'_>) -> Result<(), Fault> {
    for (name, way) in [
        ("previous_response_id", "send the earlier items in input"),
        ("conversation", "send the earlier items in input"),
        ("prompt", "send its text in instructions or input"),
    ] {
        if document.get(name).is_some_and(|value| refers(name, value)) {
            return Err(bad(format!("{name} is not supported, because nothing is stored here: {way}")).at(name));
        }
    }
    Ok(())
}

/// Whether a value names something; a `prompt` that is a text is one of the older routes' and means nothing here.
fn refers(name: &str, value: &str) -> bool {
    if name == "prompt" { value.starts_with('{') } else { value != "\"\"" }
}

fn include(document: &Document<'_>) -> Result<(), Fault> {
    let mut refused = None;
    let _ = elements(document.get("include").unwrap_or("[]"), |item| {
        if item != "null" && !INCLUDED.contains(&&*unquote(item)) {
            refused.get_or_insert(item);
        }
    });
    match refused {
        None => Ok(()),
        Some("\"message.output_text.logprobs\"") => {
            let text = "include has \"message.output_text.logprobs\", but this route gives none: use \
                        /v1/chat/completions with logprobs";
            Err(bad(text).at("include"))
        }
        Some(item) => Err(bad(format!("include has {item}, which is not supported: leave it out")).at("include")),
    }
}

fn truncation(document: &Document<'_>) -> Result<(), Fault> {
    match document.get("truncation") {
        None | Some("\"auto\"" | "\"disabled\"") => Ok(()),
        Some(other) => Err(bad(format!("truncation is {other}: use \"auto\" or \"disabled\"")).at("truncation")),
    }
}

/// Padding against eavesdroppers who measure events; absent is Ollama's and means none.
fn obfuscation(document: &Document<'_>) -> Result<(), Fault> {
    let mut wanted = false;
    let _ = members(document.get("stream_options").unwrap_or("{}"), |key, value| {
        wanted |= key == "include_obfuscation" && value == "true";
    });
    if wanted {
        let text = "stream_options.include_obfuscation is true, but events are not padded here: set it to false";
        return Err(bad(text).at("stream_options.include_obfuscation"));
    }
    Ok(())
}

fn verbosity(document: &Document<'_>) -> Result<(), Fault> {
    for object in document.all("text") {
        let text = read(object.as_bytes(), &tables::TEXT).map_err(refuse)?;
        if let Some(value) = text.get("verbosity").filter(|value| *value != "\"medium\"") {
            let text = format!("text.verbosity is {value}, but Ollama has no such setting: leave it out");
            return Err(bad(text).at("text.verbosity"));
        }
    }
    Ok(())
}

//! Native request bodies: read against their table, checked in the order of Ollama's handlers, split for the gateway.

use super::tables;
use crate::domain::{
    Fault, FaultClass, InferenceRequest, Intent, InvalidName, Json, JsonField, Measure, ModelName, ReplyShape, Surface,
    Task, field,
};
use crate::wire::go_json::{self, Bad, Document, elements, folds_to_start, number, read, unquote};
use crate::wire::options::{MOST_FIELDS, Merged};
use crate::wire::out::is_empty_list;

/// Fields that do not go upstream as they came.
const TAKEN_APART: [&str; 5] = ["model", "stream", "options", "keep_alive", "shift"];

/// Reads the body of a native surface.
pub(in crate::wire) fn decode(surface: Surface, body: &[u8]) -> Result<InferenceRequest, Fault> {
    let table = tables::of(surface);
    let document = read(body, table).map_err(refuse)?;
    check_top_logprobs(&document)?;
    let model = document.text("model").into_owned();
    check_model(surface.task(), &model)?;
    let mut measure =
        Measure { body_bytes: body.len(), prompt_bytes: document.prompt_bytes, inputs: 1, output_cap: None };
    if surface == Surface::Embed {
        let (inputs, bytes) = check_inputs(document.get("input"))?;
        measure.inputs = inputs;
        measure.prompt_bytes = bytes;
    }
    measure.prompt_bytes += document.get("tools").map_or(0, str::len);
    let options = Merged::read(document.all("options"))?.check()?;
    measure.output_cap = options.output_cap;
    let mut runner_options = options.runner;
    if surface.task().embeds() {
        // Ollama has no context shift for embeddings
    } else if let Some(shift) = document.get("shift") {
        runner_options.push(("shift".into(), Json::known(shift)));
    }
    let keep_alive = document.get("keep_alive").and_then(|token| go_json::keep_alive(token).ok());
    let unload = keep_alive.is_some_and(|time| time.is_zero()) && !surface.task().embeds();
    let intent = match (asks_nothing(surface.task(), &document), unload) {
        (false, _) => Intent::Answer,
        (true, false) => Intent::Load,
        (true, true) => Intent::Unload,
    };
    Ok(InferenceRequest {
        surface,
        model,
        // what a prompt would be rendered to is told in one object
        stream: !surface.task().embeds()
            && document.get("stream") != Some("false")
            && !document.is_true("_debug_render_only"),
        intent,
        fields: fields(&document, table)?,
        options: options.sampling,
        runner_options,
        keep_alive,
        shape: ReplyShape::default(),
        echo: Vec::new(),
        measure,
    })
}

fn refuse(bad: Bad) -> Fault {
    let text = if bad == Bad::Empty { "missing request body".into() } else { bad.text() };
    Fault::new(FaultClass::BadRequest, text)
}

/// Whether the request only loads or unloads.
fn asks_nothing(task: Task, document: &Document<'_>) -> bool {
    match task {
        Task::Chat => document.get("messages").is_none_or(is_empty_list),
        Task::Generate | Task::Embeddings => document.is_empty_text("prompt"),
        Task::Embed => document.get("input").is_none_or(|input| input == "\"\"" || is_empty_list(input)),
    }
}

/// Known fields in Ollama's order, then the unknown ones.
fn fields(document: &Document<'_>, table: &'static go_json::Struct) -> Result<Vec<JsonField>, Fault> {
    let mut fields: Vec<JsonField> = Vec::with_capacity(8);
    for (name, _) in table.fields.iter().filter(|(name, _)| !TAKEN_APART.contains(name)) {
        if let Some(value) = document.get(name) {
            fields.push(((*name).into(), Json::known(value)));
        }
    }
    let known = fields.len();
    for (key, value) in &document.unknown {
        if folds_to_start(key, "_debug") {
            continue;
        }
        let full = fields.len() - known >= MOST_FIELDS;
        match fields.iter_mut().skip(known).find(|(name, _)| name == key) {
            Some(twin) => twin.1 = Json::known(*value),
            None if full => {
                let text = format!("more than {MOST_FIELDS} fields that Ollama does not know; the next is {key:?}");
                return Err(Fault::new(FaultClass::BadRequest, text).at(key.as_ref()));
            }
            None => fields.push((key.to_string().into(), Json::known(*value))),
        }
    }
    fields.retain(|(_, value)| value.get() != "null");
    Ok(fields)
}

/// Ollama's range check, the same on every surface that has the field.
pub(in crate::wire) fn check_top_logprobs(document: &Document<'_>) -> Result<(), Fault> {
    let count = document.get("top_logprobs").map_or(0.0, number);
    if (0.0..=20.0).contains(&count) {
        return Ok(());
    }
    Err(Fault::new(FaultClass::BadRequest, "top_logprobs must be between 0 and 20"))
}

/// Ollama's refusals of an empty and of a malformed name.
pub(in crate::wire) fn check_model(task: Task, model: &str) -> Result<(), Fault> {
    if model.trim().is_empty() {
        return Err(match task {
            Task::Chat | Task::Embeddings => Fault::new(FaultClass::BadRequest, "model is required"),
            Task::Generate | Task::Embed => Fault::new(FaultClass::NotFound, format!("model '{model}' not found")),
        });
    }
    if ModelName::is_valid(model) { Ok(()) } else { Err(Fault::new(FaultClass::BadRequest, InvalidName.to_string())) }
}

/// Number and bytes of embedding inputs.
pub(in crate::wire) fn check_inputs(input: Option<&str>) -> Result<(usize, usize), Fault> {
    let invalid = || Fault::new(FaultClass::BadRequest, "invalid input type");
    let Some(input) = input else { return Ok((0, 0)) };
    if input.starts_with('"') {
        let bytes = input.len() - 2;
        return Ok((usize::from(bytes > 0), bytes));
    }
    let (mut count, mut bytes, mut texts) = (0, 0, true);
    elements(input, |item| {
        texts = texts && item.starts_with('"');
        count += 1;
        bytes += item.len().saturating_sub(2);
    })
    .map_err(|_| invalid())?;
    if texts { Ok((count, bytes)) } else { Err(invalid()) }
}

/// Bytes of the longest of several embedding inputs; `None` for other requests.
#[must_use]
pub fn longest_input(request: &InferenceRequest) -> Option<usize> {
    let input = field(&request.fields, "input")?.get();
    let mut longest = input.len();
    if input.starts_with('[') {
        longest = 0;
        let _ = elements(input, |item| longest = longest.max(item.len()));
    }
    Some(longest.saturating_sub(2))
}

/// What `/api/show` is asked.
#[derive(Debug, Clone)]
pub struct ShowRequest {
    /// The model as the caller wrote it.
    pub model: String,
    /// Whether long arrays and tensors are wanted.
    pub verbose: bool,
    /// What is to be shown in the place of the tag's own: `system`, `template`, `options`.
    pub fields: Vec<JsonField>,
}

/// Reads the body of `/api/show`, whose model may stand in the deprecated `name` (the CLI sends it there).
///
/// # Errors
/// A `BadRequest` in Ollama's words.
pub fn decode_show(body: &[u8]) -> Result<ShowRequest, Fault> {
    let document = read(body, &tables::SHOW).map_err(refuse)?;
    let tokens = [document.get("model"), document.get("name")];
    let model = tokens.into_iter().flatten().map(unquote).find(|name| !name.is_empty()).unwrap_or_default();
    // show words an empty name as chat does
    check_model(Task::Chat, &model)?;
    let mut fields: Vec<JsonField> = Vec::new();
    for name in ["system", "template", "options"] {
        if let Some(value) = document.get(name) {
            fields.push((name.into(), Json::known(value)));
        }
    }
    Ok(ShowRequest { model: model.into_owned(), verbose: document.is_true("verbose"), fields })
}

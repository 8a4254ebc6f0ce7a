//! `/v1/completions` requests.

use super::fields::COMPLETIONS;
use super::request::{keep_alive, made, options, refuse, shape, stop, truncate};
use super::tables;
use crate::domain::{Fault, FaultClass, InferenceRequest, Intent, Measure, Surface, Task};
use crate::wire::fields;
use crate::wire::go_json::{number, read};
use crate::wire::ollama::check_model;

/// Fields that are options.
const NAMED: [(&str, &str); 6] = [
    ("max_tokens", "num_predict"),
    ("temperature", "temperature"),
    ("seed", "seed"),
    ("frequency_penalty", "frequency_penalty"),
    ("presence_penalty", "presence_penalty"),
    ("top_p", "top_p"),
];

/// Reads a completion request and turns it into a native generation.
pub(in crate::wire) fn decode_completion(body: &[u8]) -> Result<InferenceRequest, Fault> {
    let document = read(body, &tables::COMPLETION).map_err(refuse)?;
    let stop = stop(&document, true)?;
    fields::check(&document, COMPLETIONS)?;
    let mut fields = Vec::with_capacity(4);
    for name in ["prompt", "suffix"] {
        if let Some(value) = document.get(name) {
            fields.push(made(name, value));
        }
    }
    if let Some(count) = document.get("logprobs") {
        if !(0.0..=20.0).contains(&number(count)) {
            return Err(Fault::new(FaultClass::BadRequest, "top_logprobs must be between 0 and 20"));
        }
        fields.push(made("logprobs", "true"));
        fields.push(made("top_logprobs", count));
    }
    fields.extend(truncate(&document));
    let model = document.text("model").into_owned();
    check_model(Task::Generate, &model)?;
    // a top_p of zero is none to Ollama
    let named = if document.get("top_p").is_some_and(|p| number(p) == 0.0) { &NAMED[..5] } else { &NAMED[..] };
    let options = options(&document, stop.as_deref(), named)?;
    let keep_alive = keep_alive(&document);
    let intent = match (document.is_empty_text("prompt"), keep_alive.is_some_and(|time| time.is_zero())) {
        (false, _) => Intent::Answer,
        (true, false) => Intent::Load,
        (true, true) => Intent::Unload,
    };
    let measure = Measure {
        body_bytes: body.len(),
        prompt_bytes: document.prompt_bytes,
        inputs: 1,
        output_cap: options.output_cap,
    };
    Ok(InferenceRequest {
        surface: Surface::V1Completions,
        model,
        stream: document.is_true("stream"),
        intent,
        fields,
        options: options.sampling,
        runner_options: options.runner,
        keep_alive,
        shape: shape(&document)?,
        echo: Vec::new(),
        measure,
    })
}

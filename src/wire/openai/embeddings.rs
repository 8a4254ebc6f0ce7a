//! `/v1/embeddings` requests.

use super::fields::EMBEDDINGS;
use super::request::{bad, keep_alive, made, refuse, truncate};
use super::tables;
use crate::domain::{Fault, InferenceRequest, Intent, Measure, ReplyShape, Surface, Task};
use crate::wire::fields;
use crate::wire::go_json::{number, read};
use crate::wire::ollama::{check_inputs, check_model};
use crate::wire::options::Merged;
use crate::wire::out::is_empty_list;

/// Reads an embedding request and turns it into a native one.
pub(in crate::wire) fn decode_embeddings(body: &[u8]) -> Result<InferenceRequest, Fault> {
    let document = read(body, &tables::EMBEDDINGS).map_err(refuse)?;
    fields::check(&document, EMBEDDINGS)?;
    let encoding = document.text("encoding_format");
    let base64_vectors = encoding.eq_ignore_ascii_case("base64");
    if !(encoding.is_empty() || base64_vectors || encoding.eq_ignore_ascii_case("float")) {
        return Err(bad(format!(
            "Invalid value for 'encoding_format' = {encoding}. Supported values: ['float', 'base64']."
        )));
    }
    let input = match document.get("input") {
        // an empty text is an input here, on the native route it is none
        Some("\"\"") => "[\"\"]",
        Some(input) if !is_empty_list(input) => input,
        _ => return Err(bad("invalid input")),
    };
    let model = document.text("model").into_owned();
    check_model(Task::Embed, &model)?;
    let (inputs, prompt_bytes) = check_inputs(Some(input))?;
    let mut fields = vec![made("input", input)];
    if let Some(dimensions) = document.get("dimensions").filter(|count| number(count) != 0.0) {
        if number(dimensions) < 0.0 {
            return Err(bad(format!("dimensions is {dimensions}: use 1 or more, or leave it out")).at("dimensions"));
        }
        fields.push(made("dimensions", dimensions));
    }
    fields.extend(truncate(&document));
    let options = Merged::read(document.all("options"))?.check()?;
    Ok(InferenceRequest {
        surface: Surface::V1Embeddings,
        model,
        stream: false,
        intent: Intent::Answer,
        fields,
        options: options.sampling,
        runner_options: options.runner,
        keep_alive: keep_alive(&document),
        shape: ReplyShape { base64_vectors, ..ReplyShape::default() },
        echo: Vec::new(),
        measure: Measure { body_bytes: body.len(), prompt_bytes, inputs, output_cap: None },
    })
}

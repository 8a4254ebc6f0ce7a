//! What requests of every dialect but Ollama's own have in common: refusals, fields that a conversion makes, and the
//! gateway's own fields, which are read as on the native routes.

use std::time::Duration;

use super::fields::shown;
use super::go_json::{self, Bad, Document};
use crate::domain::{Fault, FaultClass, Json, JsonField};

/// A refusal in Ollama's words.
pub(super) fn bad(text: impl Into<String>) -> Fault {
    Fault::new(FaultClass::BadRequest, text)
}

/// A body that is no such request; nothing at all is Go's `EOF` here.
pub(super) fn refuse(bad_json: Bad) -> Fault {
    let field = bad_json.field();
    let fault = bad(bad_json.text());
    match field {
        Some(field) => fault.at(field),
        None => fault,
    }
}

/// A field whose text a conversion made.
pub(super) fn made(name: &'static str, text: impl Into<String>) -> JsonField {
    (name.into(), Json::known(text))
}

/// A JSON schema as `format`; Ollama finds out only once it has the request, and then calls it a defect of its own.
pub(super) fn schema(field: &str, schema: &str) -> Result<JsonField, Fault> {
    // the word is taken there for any object
    if schema.starts_with('{') || schema == "\"json\"" {
        return Ok(made("format", schema));
    }
    Err(bad(format!("{field} is {}, but a schema is an object", shown(schema))).at(field))
}

/// `truncate`, as on the native routes.
pub(super) fn truncate(document: &Document<'_>) -> Option<JsonField> {
    document.get("truncate").map(|wish| made("truncate", wish))
}

/// `keep_alive`, as on the native routes.
pub(super) fn keep_alive(document: &Document<'_>) -> Option<Duration> {
    document.get("keep_alive").and_then(|token| go_json::keep_alive(token).ok())
}

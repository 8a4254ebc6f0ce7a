//! Lists of models: `/api/tags` and `/api/ps` from Ollama's own entries, `/v1/models` from names and times.

use super::out::{number, push, string};
use crate::domain::ModelName;
use serde_json::value::RawValue;

/// A model as `/v1/models` lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedModel<'a> {
    /// The id callers use.
    pub id: &'a str,
    /// When it was last changed, in seconds since 1970.
    pub created: u64,
}

/// The body of `/api/tags` or `/api/ps`: `{"models":[…]}` with the entries as given.
#[must_use]
pub fn native_list<'a>(entries: impl IntoIterator<Item = &'a RawValue>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    push(&mut out, "{\"models\":[");
    for (at, entry) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push(&mut out, entry.get());
    }
    push(&mut out, "]}");
    out
}

/// The body of `/v1/models`; without models `data` is null, as Ollama has it.
#[must_use]
pub fn model_list<'a>(models: impl IntoIterator<Item = ListedModel<'a>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    push(&mut out, "{\"object\":\"list\",\"data\":");
    let start = out.len();
    for listed in models {
        out.push(if out.len() == start { b'[' } else { b',' });
        object(&mut out, &listed);
    }
    let end = if out.len() == start { "null}\n" } else { "]}\n" };
    push(&mut out, end);
    out
}

/// The body of `/v1/models/{id}`.
#[must_use]
pub fn model(listed: ListedModel<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    object(&mut out, &listed);
    out.push(b'\n');
    out
}

/// The body of `/api/version`.
#[must_use]
pub fn version(version: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    push(&mut out, "{\"version\":");
    string(&mut out, version);
    out.push(b'}');
    out
}

fn object(out: &mut Vec<u8>, listed: &ListedModel<'_>) {
    let name = ModelName::parse(listed.id).ok();
    push(out, "{\"id\":");
    string(out, listed.id);
    push(out, ",\"object\":\"model\",\"created\":");
    number(out, listed.created);
    push(out, ",\"owned_by\":");
    string(out, name.as_ref().map_or("library", ModelName::namespace));
    out.push(b'}');
}

//! JSON Schemas of the policy files, for editors; made from the same description as their readers.
//!
//! Owns the choice of document. `config` adds the schema of its own file.

use serde_json::{Value, json};

use super::document::{AppDocument, Form, ModelsDocument, default_schema};

/// A kind of policy file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaOf {
    /// `<app>.toml`.
    App,
    /// `default.toml`.
    Default,
    /// `models.toml`.
    Models,
}

/// The JSON Schema (2020-12) of a policy file.
#[must_use]
pub fn schema(of: SchemaOf) -> Value {
    match of {
        SchemaOf::App => titled("policies/<app>.toml", AppDocument::schema()),
        SchemaOf::Default => titled("policies/default.toml", default_schema()),
        SchemaOf::Models => titled("policies/models.toml", ModelsDocument::schema()),
    }
}

/// Adds the dialect and a title to a document's schema.
pub(crate) fn titled(title: &str, schema: Value) -> Value {
    let mut whole =
        json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "title": format!("Gaucho: {title}") });
    if let (Some(whole), Value::Object(schema)) = (whole.as_object_mut(), schema) {
        whole.extend(schema);
    }
    whole
}

//! A JSON value as somebody wrote it.

use std::borrow::Cow;

/// One JSON value: digits and escapes as written, no white space around it, on one line or not.
///
/// Whoever makes one has scanned it or wrote it: it goes out as it is, and nobody checks it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// Takes a text that is known to be one JSON value.
    #[must_use]
    pub fn known(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }
}

/// One JSON field: its name in final spelling and its value as written.
pub type JsonField = (Cow<'static, str>, Json);

/// The value of the field `name`, if it is there.
#[must_use]
pub fn field<'a>(fields: &'a [JsonField], name: &str) -> Option<&'a Json> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

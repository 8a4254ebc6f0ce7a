//! A text on its way from a caller's body into upstream's: it goes as it was written until another joins it.

use std::borrow::Cow;

use super::go_json::{Sink, unquote};
use super::out::{push, string};

/// A text of a prompt.
#[derive(Debug)]
pub(super) enum Text<'a> {
    /// A JSON string token of a body.
    Written(&'a str),
    /// A text that was decoded or made.
    Made(Cow<'a, str>),
}

impl Default for Text<'_> {
    fn default() -> Self {
        Self::Made(Cow::Borrowed(""))
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::Made(text.into())
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self::Made(text.into())
    }
}

impl<'a> Text<'a> {
    /// The text of a string member, or nothing.
    pub(super) fn of(token: Option<&'a str>) -> Self {
        token.map(Self::Written).unwrap_or_default()
    }

    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        // no escape stands for nothing
        self.len() == 0
    }

    /// Bytes, escapes counted as they were written.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Written(token) => token.len().saturating_sub(2),
            Self::Made(text) => text.len(),
        }
    }

    /// The text decoded.
    pub(super) fn decoded(&self) -> Cow<'_, str> {
        match self {
            Self::Written(token) => unquote(token),
            Self::Made(text) => Cow::Borrowed(text),
        }
    }

    /// Appends a text. Two halves of a surrogate pair that meet stay halves, as for Ollama, which decodes before it joins.
    pub(super) fn join(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else if !other.is_empty() {
            let mut text = match std::mem::take(self) {
                Self::Written(token) => unquote(token).into_owned(),
                Self::Made(text) => text.into_owned(),
            };
            text.push_str(&other.decoded());
            *self = Self::Made(text.into());
        }
    }

    /// Appends it to a body as a JSON string.
    pub(super) fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Written(token) => push(out, token),
            Self::Made(text) => string(out, text),
        }
    }
}

//! A prompt that did not fit into its model's context: both sizes, and what became of it.
//!
//! Owns the one form in which header, log and comment say it. What is to become of a prompt is `policy`'s and `gateway`'s.

use std::fmt;

use super::ModelName;

/// What is known of a prompt and of the context that it did not fit into, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Oversize {
    /// Tokens of the prompt.
    pub prompt: Option<u64>,
    /// Tokens of the context.
    pub context: Option<u64>,
    /// The prompt's size is an estimate: Ollama does not say how long an embedding input is.
    pub estimated: bool,
}

impl fmt::Display for Oversize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(prompt) = self.prompt {
            write!(f, "; prompt_tokens={prompt}")?;
        }
        if let Some(context) = self.context {
            write!(f, "; context={context}")?;
        }
        f.write_str(if self.estimated && self.prompt.is_some() { "; estimated" } else { "" })
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OverflowEnd {
    /// Ollama was told to cut it.
    Truncated,
    /// The request was refused.
    Refused,
    /// It went to a model with a larger context.
    Routed(ModelName),
}

impl OverflowEnd {
    /// The word for metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Refused => "refused",
            Self::Routed(_) => "routed",
        }
    }
}

/// One prompt that did not fit. Its text is a header's value: `truncated; prompt_tokens=6010; context=512`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overflow {
    /// Both sizes.
    pub sizes: Oversize,
    /// What became of it.
    pub end: OverflowEnd,
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.end.as_str())?;
        if let OverflowEnd::Routed(model) = &self.end {
            write!(f, "; model={model}")?;
        }
        self.sizes.fmt(f)
    }
}

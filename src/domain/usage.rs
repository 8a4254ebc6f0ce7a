//! What a request cost and how it ended, as the ledger and the metrics count it.

use std::time::Duration;

use super::FaultClass;

/// What one request used. Durations come from Ollama's own figures where it gave them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time from arrival to admission.
    pub queue: Duration,
    /// Ollama's `load_duration`: its own scheduler's wait plus the load.
    pub load: Duration,
    /// Ollama's `prompt_eval_duration`.
    pub prompt: Duration,
    /// Ollama's `eval_duration`.
    pub generation: Duration,
    /// Arrival to the first event from upstream; `None` when none came.
    pub first_event: Option<Duration>,
    /// Arrival to the end of the reply.
    pub total: Duration,
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub output_tokens: u64,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the reply's body handed to the caller's connection.
    pub bytes_out: u64,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The whole answer was produced and taken.
    Answered,
    /// The caller left before the end.
    Left,
    /// Refused or failed, and why.
    Faulted(FaultClass),
}

impl Outcome {
    /// The word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Left => "left",
            Self::Faulted(class) => class.as_str(),
        }
    }
}

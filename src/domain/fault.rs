//! A fault: why a request is refused or failed, said once and rendered by the caller's dialect.
//!
//! Owns the low-cardinality class, whose fault it was, the public message and the advice to retry.
//! Status codes and shapes belong to `wire`; the private detail goes to the log and never to the caller.

use std::time::Duration;

use super::Oversize;

/// Why, in a word: the label of logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultClass {
    /// The body, a field or a header is wrong.
    BadRequest,
    /// The body is larger than allowed.
    TooLarge,
    /// The prompt does not fit into the model's context.
    ContextExceeded,
    /// The body is compressed.
    Encoded,
    /// The caller sent too slowly.
    TooSlow,
    /// No credential, or one that is not (or no longer) valid.
    Unauthenticated,
    /// A valid principal that may not do this.
    Forbidden,
    /// No such model for this application.
    NotFound,
    /// The application's request rate is used up.
    RateLimited,
    /// The application's own queue is full.
    QueueFull,
    /// The gateway's queue is full.
    Busy,
    /// The request waited longer than it may.
    WaitedTooLong,
    /// The request would not have started within the time it may wait.
    TooLate,
    /// The model cannot be brought into memory.
    Unloadable,
    /// The model needs more memory than any server has.
    NeverFits,
    /// The gateway is shutting down or is a standby.
    Draining,
    /// The gateway was stopped while the request ran.
    Stopped,
    /// A surface or field that is not served.
    NotSupported,
    /// No endpoint can be reached.
    Unreachable,
    /// Upstream took too long.
    UpstreamTimeout,
    /// The runner hung and the request was taken back from it before its first event.
    Recalled,
    /// Upstream refused or failed with a status of its own.
    UpstreamError,
    /// Upstream said something that is not its protocol, or stopped before the end.
    UpstreamBroken,
    /// The model said the same again and again, until Ollama ended its answer.
    Repetition,
    /// The caller stopped reading and its buffer is full.
    SlowReader,
    /// A key was revoked while the request ran.
    Revoked,
    /// A defect of the gateway itself.
    Internal,
}

impl FaultClass {
    /// The word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::TooLarge => "too_large",
            // the code that OpenAI's clients know it by
            Self::ContextExceeded => "context_length_exceeded",
            Self::Encoded => "encoded_body",
            Self::TooSlow => "too_slow",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::QueueFull => "queue_full",
            Self::Busy => "busy",
            Self::WaitedTooLong => "waited_too_long",
            Self::TooLate => "too_late",
            Self::Unloadable => "unloadable",
            Self::NeverFits => "never_fits",
            Self::Draining => "draining",
            Self::Stopped => "gateway_stopped",
            Self::NotSupported => "not_supported",
            Self::Unreachable => "unreachable",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Recalled => "recalled",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamBroken => "upstream_broken",
            Self::Repetition => "repetition",
            Self::SlowReader => "slow_reader",
            Self::Revoked => "revoked",
            Self::Internal => "internal",
        }
    }

    /// Whose fault this class is.
    #[must_use]
    pub fn origin(self) -> Origin {
        match self {
            Self::Unreachable
            | Self::UpstreamTimeout
            | Self::Recalled
            | Self::UpstreamError
            | Self::UpstreamBroken
            | Self::Repetition
            | Self::Unloadable
            | Self::NeverFits => Origin::Upstream,
            Self::QueueFull
            | Self::Busy
            | Self::WaitedTooLong
            | Self::TooLate
            | Self::Draining
            | Self::Stopped
            | Self::Internal => Origin::Gateway,
            _ => Origin::Downstream,
        }
    }
}

/// Whose fault it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The caller's.
    Downstream,
    /// An Ollama server's.
    Upstream,
    /// The gateway's.
    Gateway,
}

/// Where an application stands against one of its limits, for `RateLimit-*` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Requests allowed per window.
    pub limit: u64,
    /// Requests left now.
    pub remaining: u64,
    /// Time until the limit is whole again.
    pub reset: Duration,
}

/// Where a request stood in the queue that refused it, or would have stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlace {
    /// Its place, 1 = next; `None` where it had none.
    pub position: Option<usize>,
    /// Time until a newcomer would start.
    pub eta: Duration,
}

/// Bytes of a text for the caller at most: it may repeat a value of any length, which is nobody's to read again, least of
/// all in the log.
const LONGEST: usize = 600;

/// The text without its middle where it is too long: what it is about stands first, what to do last.
fn shortened(text: String) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    let (first, last) = (text.floor_char_boundary(LONGEST / 2), text.ceil_char_boundary(text.len() - LONGEST / 3));
    format!("{}…{}", text.get(..first).unwrap_or_default(), text.get(last..).unwrap_or_default())
}

/// A refusal or failure on its way to the caller.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Why, in a word.
    pub class: FaultClass,
    /// What the caller reads. Names the field or limit, its value and the remedy; never a secret.
    pub message: String,
    /// The field the message is about, as a path (`options.num_ctx`), where there is one.
    pub param: Option<String>,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
    /// The application's rate limit, where that is what refused.
    pub limit: Option<Limit>,
    /// The place in the queue, where that is what refused.
    pub place: Option<QueuePlace>,
    /// What is known of a prompt that did not fit, where that is what refused.
    pub oversize: Option<Oversize>,
    /// Upstream's own status and message, passed on where the dialect can.
    pub upstream_status: Option<u16>,
    /// Whether Ollama refused with it in the place of a stream, which it writes otherwise than other refusals.
    pub for_a_stream: bool,
    /// For the log only.
    pub detail: Option<String>,
}

impl Fault {
    /// A fault with a public message and no advice.
    #[must_use]
    pub fn new(class: FaultClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: shortened(message.into()),
            param: None,
            retry_after: None,
            limit: None,
            place: None,
            oversize: None,
            upstream_status: None,
            for_a_stream: false,
            detail: None,
        }
    }

    /// Names the field the message is about.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(shortened(param.into()));
        self
    }

    /// Advises to try again after `wait`.
    #[must_use]
    pub fn retry(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds what only the log may show.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Keeps the status with which upstream answered.
    #[must_use]
    pub fn upstream(mut self, status: u16) -> Self {
        self.upstream_status = Some(status);
        self
    }

    /// Says that Ollama refused with it in the place of a stream.
    #[must_use]
    pub fn for_a_stream(mut self, so: bool) -> Self {
        self.for_a_stream = so;
        self
    }

    /// Says where the application stands against the limit that refused it.
    #[must_use]
    pub fn limited(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Says how large the prompt was that did not fit.
    #[must_use]
    pub fn sized(mut self, oversize: Oversize) -> Self {
        self.oversize = Some(oversize);
        self
    }

    /// Says where in the queue it was refused.
    #[must_use]
    pub fn placed(mut self, position: Option<usize>, eta: Duration) -> Self {
        self.place = Some(QueuePlace { position, eta });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_keeps_its_first_and_last_words() {
        let fault = Fault::new(FaultClass::BadRequest, format!("think is {}: use a level", "é".repeat(50_000)));
        assert!(fault.message.len() < LONGEST && fault.message.starts_with("think is éé"), "{}", fault.message);
        assert!(fault.message.contains("é…é") && fault.message.ends_with("é: use a level"), "{}", fault.message);
        assert_eq!(Fault::new(FaultClass::BadRequest, "short").message, "short");
    }
}

//! The log's form: JSON lines for machines, compact text for a person at a terminal.
//!
//! Owns the filter's grammar (`info`, `gaucho=debug,warn`) and the set-up of `tracing`; `lines` writes.

use std::io::{IsTerminal, stderr};

use tracing::Subscriber;
use tracing::subscriber::SetGlobalDefaultError;
use tracing_subscriber::EnvFilter;

use super::LogLines;

/// How log events look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// One short coloured line.
    Text,
}

impl LogFormat {
    /// Text when standard error is a terminal, else JSON.
    #[must_use]
    pub fn for_stderr() -> Self {
        if stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// What a log filter may be, to follow the word "use".
pub const LOG_FILTERS: &str =
    "a level (error, warn, info, debug, trace, off), or levels by part, such as `warn,gaucho=debug`";

/// Whether [`init`] would take this log filter.
#[must_use]
pub fn is_log_filter(text: &str) -> bool {
    read_filter(text).is_ok()
}

/// The log filter cannot be read, or logs were set up before.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The text is not a filter.
    #[error("log filter {text:?} is not usable: {detail}; use {LOG_FILTERS}")]
    Syntax {
        /// What was given.
        text: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A second set-up in one process.
    #[error("logs are set up already in this process")]
    Repeated(#[from] SetGlobalDefaultError),
}

/// Sends the log events of this process that pass `filter` to `lines`.
///
/// # Errors
/// [`LogsError`]; nothing is set up then.
pub fn init(filter: &str, format: LogFormat, lines: &LogLines) -> Result<(), LogsError> {
    tracing::subscriber::set_global_default(subscriber(filter, format, lines)?)?;
    Ok(())
}

fn is_level_or_part(word: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    const PARTS: [&str; 4] = ["gaucho", "hyper", "rustls", "reqwest"];
    word.is_empty()
        || word.parse::<u8>().is_ok_and(|level| level <= 5)
        || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
        || PARTS.contains(&word)
}

fn read_filter(text: &str) -> Result<EnvFilter, LogsError> {
    // a word that is no level would be the name of a part of the program that says nothing
    let odd = text.split(',').map(str::trim).find(|word| !word.contains(['=', ':', '[']) && !is_level_or_part(word));
    let wrong = |detail| LogsError::Syntax { text: text.to_owned(), detail };
    if let Some(odd) = odd {
        return Err(wrong(format!("{odd:?} is no level")));
    }
    EnvFilter::builder().parse(text).map_err(|error| wrong(error.to_string()))
}

pub(super) fn subscriber(
    filter: &str,
    format: LogFormat,
    lines: &LogLines,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogsError> {
    let base = tracing_subscriber::fmt().with_env_filter(read_filter(filter)?).with_writer(lines.clone());
    Ok(match format {
        LogFormat::Json => {
            Box::new(base.json().flatten_event(true).with_current_span(false).with_span_list(false).finish())
        }
        LogFormat::Text => Box::new(base.compact().with_ansi(true).finish()),
    })
}

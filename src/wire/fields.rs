//! What becomes of a request's documented fields: one table for each surface of OpenAI's and Anthropic's.
//!
//! Owns the verdicts, and the refusals of values that cannot be had; the tables stand beside their dialects. What an
//! honoured field turns into is its surface's. Names that are in no table are dropped, as Ollama drops them there.

use super::go_json::Document;
use super::out::is_empty_list;
use super::request::bad;
use crate::domain::Fault;

/// What becomes of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It does what its dialect says it does.
    Honoured,
    /// It asks for nothing in the answer: accounts, caches and speed are the operator's.
    Harmless,
    /// Values that pass this ask for what is done anyway; any other is refused, with why and what to do.
    Only(fn(&str) -> bool, &'static str),
    /// The gateway's own, beyond the dialect.
    Ours,
}

/// A field and its fate.
pub(super) type Rule = (&'static str, Fate);

/// Refuses what a caller would rely on and cannot have.
///
/// # Errors
/// `BadRequest` that names the field, its value, why, and what to do.
pub(super) fn check(document: &Document<'_>, rules: &[Rule]) -> Result<(), Fault> {
    for (field, fate) in rules {
        let Fate::Only(passes, why) = fate else { continue };
        // what Ollama does not know either stands among the unknown
        let unknown = document.unknown.iter().rev().find(|(name, _)| name == field).map(|(_, value)| *value);
        match document.get(field).or(unknown) {
            Some(value) if value != "null" && !passes(value) => {
                return Err(bad(format!("{field} is {}, but {why}", shown(value))).at(*field));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A caller's value, shortened.
pub(super) fn shown(value: &str) -> String {
    match value.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", value.get(..cut).unwrap_or_default()),
        None => value.to_owned(),
    }
}

/// No value is had.
pub(super) fn never(_: &str) -> bool {
    false
}

/// An empty list or object.
pub(super) fn is_empty(value: &str) -> bool {
    value.strip_prefix('{').is_some_and(|rest| rest.trim_start() == "}") || is_empty_list(value)
}

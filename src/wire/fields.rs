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
    check_in("", document, rules)
}

/// The same for an object inside; `prefix` is its name with a dot.
pub(super) fn check_in(prefix: &str, document: &Document<'_>, rules: &[Rule]) -> Result<(), Fault> {
    for (field, fate) in rules {
        let Fate::Only(passes, why) = fate else { continue };
        if !document.may_have(field) {
            continue;
        }
        // what Ollama does not know either stands among the unknown
        let unknown = document.unknown.iter().rev().find(|(name, _)| name == field).map(|(_, value)| *value);
        match document.get(field).or(unknown) {
            Some(value) if value != "null" && !passes(value) => {
                let field = format!("{prefix}{field}");
                return Err(bad(format!("{field} is {}, but {why}", shown(value))).at(field));
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

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::{InferenceRequest, Surface};
    use crate::wire::decode;
    use crate::wire::go_json::Struct;

    /// A route: its rules, its table of types, and a good request without its end.
    pub(in crate::wire) struct Route(
        pub(in crate::wire) Surface,
        pub(in crate::wire) &'static [Rule],
        pub(in crate::wire) &'static Struct,
        pub(in crate::wire) &'static str,
    );

    impl Route {
        /// Sends one field more.
        pub(in crate::wire) fn send(&self, field: &str, value: &str) -> Result<InferenceRequest, Fault> {
            decode(self.0, format!("{},\"{field}\":{value}}}", self.3).as_bytes())
        }

        /// Every field that is documented has one fate, and what is honoured is read.
        pub(in crate::wire) fn is_told_whole(&self, documented: &str) {
            let Self(surface, rules, table, _) = self;
            for field in documented.split_whitespace() {
                let fates = rules.iter().filter(|(name, _)| *name == field).count();
                assert_eq!(fates, 1, "{surface:?} {field}");
            }
            for (field, fate) in *rules {
                let documented = documented.split_whitespace().any(|name| name == *field);
                assert_eq!(documented, !matches!(fate, Fate::Ours) && !field.starts_with('_'), "{surface:?} {field}");
                let read = table.fields.iter().any(|(name, _)| name == field);
                assert!(read || matches!(fate, Fate::Harmless | Fate::Only(..)), "{surface:?} {field} is not read");
            }
        }

        /// What is harmless changes nothing, and null is absent.
        pub(in crate::wire) fn takes_what_is_harmless(&self) {
            let plain = self.send("x", "1").unwrap();
            for (field, fate) in self.1 {
                let value = if matches!(fate, Fate::Harmless) { r#"{"a":"b"}"# } else { "null" };
                if self.3.contains(&format!("\"{field}\":")) {
                    continue;
                }
                let request = self.send(field, value).unwrap();
                assert_eq!(format!("{:?}", request.fields), format!("{:?}", plain.fields), "{field}");
                assert_eq!(format!("{:?}", request.options), format!("{:?}", plain.options), "{field}");
            }
        }
    }
}

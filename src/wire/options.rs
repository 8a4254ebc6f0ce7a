//! The `options` object: merged, checked, and split into what the caller may set and what reloads a runner.
//!
//! Keys are exact here (Go reads them into a map); unknown ones are kept. A wrong type is refused with Ollama's words
//! but with 400, where Ollama answers 500 for the caller's mistake.

use std::borrow::Cow;

use super::go_json::{Kind, elements, members, number};
use crate::domain::{Fault, FaultClass, Json, JsonField};

/// Most options, and most unknown fields, taken: the search for duplicates is linear.
pub(super) const MOST_FIELDS: usize = 128;

/// Checked options.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) sampling: Vec<JsonField>,
    pub(super) runner: Vec<JsonField>,
    pub(super) output_cap: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Integer,
    Float,
    Bool,
    Strings,
}

/// Known options: name, form, and whether it belongs to the runner.
const KNOWN: [(&str, Form, bool); 20] = [
    ("num_keep", Form::Integer, false),
    ("seed", Form::Integer, false),
    ("num_predict", Form::Integer, false),
    ("top_k", Form::Integer, false),
    ("top_p", Form::Float, false),
    ("min_p", Form::Float, false),
    ("typical_p", Form::Float, false),
    ("repeat_last_n", Form::Integer, false),
    ("temperature", Form::Float, false),
    ("repeat_penalty", Form::Float, false),
    ("presence_penalty", Form::Float, false),
    ("frequency_penalty", Form::Float, false),
    ("stop", Form::Strings, false),
    ("num_ctx", Form::Integer, true),
    ("num_batch", Form::Integer, true),
    ("num_gpu", Form::Integer, true),
    ("main_gpu", Form::Integer, true),
    ("use_mmap", Form::Bool, true),
    ("num_thread", Form::Integer, true),
    ("draft_num_predict", Form::Integer, true),
];

/// Options before the check: the last value of each name.
#[derive(Debug, Default)]
pub(super) struct Merged<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Merged<'a> {
    /// Merges objects as Go merges them into one map.
    pub(super) fn read(objects: impl Iterator<Item = &'a str>) -> Result<Self, Fault> {
        let mut merged = Self(Vec::with_capacity(8));
        let mut room = true;
        for object in objects {
            // cannot fail: the object was scanned when the body was
            let _ = members(object, |key, value| room = room && merged.set(key, value));
        }
        if room {
            return Ok(merged);
        }
        let text = format!("options: more than {MOST_FIELDS} different names; send only those Ollama knows");
        Err(Fault::new(FaultClass::BadRequest, text).at("options"))
    }

    /// Sets a value; false when there is no room for another name.
    pub(super) fn set(&mut self, key: impl Into<Cow<'a, str>>, value: &'a str) -> bool {
        let key = key.into();
        let full = self.0.len() >= MOST_FIELDS;
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some(entry) => entry.1 = value,
            None if full => return false,
            None => self.0.push((key, value)),
        }
        true
    }

    /// Whether a value is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, value)| name == key && *value != "null")
    }

    /// Checks and splits.
    pub(super) fn check(self) -> Result<Options, Fault> {
        let mut options = Options { sampling: Vec::with_capacity(self.0.len()), ..Options::default() };
        for (name, value) in self.0.into_iter().filter(|(_, value)| *value != "null") {
            let known = KNOWN.iter().find(|(known, ..)| *known == name);
            if let Some((_, form, _)) = known {
                check(&name, *form, value)?;
            }
            if name == "num_predict" {
                options.output_cap = bound(value);
            }
            let runner = known.is_some_and(|(_, _, of_runner)| *of_runner);
            let name = known.map_or_else(|| name.into_owned().into(), |(known, ..)| Cow::Borrowed(*known));
            let field = (name, Json::known(value));
            if runner { &mut options.runner } else { &mut options.sampling }.push(field);
        }
        Ok(options)
    }
}

/// A token count that bounds: with less than one whole token Ollama sets no limit.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Go truncates too; at least 1 here")]
pub(super) fn bound(token: &str) -> Option<u64> {
    let count = number(token).trunc();
    (count >= 1.0).then_some(count as u64)
}

fn check(name: &str, form: Form, value: &str) -> Result<(), Fault> {
    let kind = value.bytes().next().and_then(Kind::of);
    let wanted = match (form, kind) {
        (Form::Integer | Form::Float, Some(Kind::Number)) | (Form::Bool, Some(Kind::Bool)) => return Ok(()),
        (Form::Strings, Some(Kind::Array)) => {
            let mut texts = true;
            let _ = elements(value, |item| texts = texts && item.starts_with('"'));
            if texts {
                return Ok(());
            }
            "an array of strings"
        }
        (Form::Integer, _) => "type integer",
        (Form::Float, _) => "type float32",
        (Form::Bool, _) => "type boolean",
        (Form::Strings, _) => "type array",
    };
    Err(Fault::new(FaultClass::BadRequest, format!("option {name:?} must be of {wanted}"))
        .at(format!("options.{name}")))
}

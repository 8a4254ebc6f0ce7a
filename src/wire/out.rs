//! Small pieces of JSON output: everything the encoders write goes through these few functions.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use super::go_json::{Sink, write_string};
use crate::domain::{Json, JsonField};

/// Appends text as it is (JSON punctuation and constant keys).
pub(super) fn push(out: &mut impl Sink, text: &str) {
    out.append(text);
}

/// Appends a JSON string.
pub(super) fn string(out: &mut impl Sink, text: &str) {
    write_string(out, text);
}

/// Appends a number.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    // writing to a vector cannot fail
    let _ = write!(out, "{value}");
}

/// Appends a value as written.
pub(super) fn raw(out: &mut Vec<u8>, value: &Json) {
    push(out, value.get());
}

/// Appends `,"name":value`.
pub(super) fn member(out: &mut Vec<u8>, field: &JsonField) {
    out.push(b',');
    key(out, field);
    raw(out, &field.1);
}

/// Appends `"name":`; a name that is ours needs no escape.
pub(super) fn key(out: &mut Vec<u8>, (name, _): &JsonField) {
    match name {
        Cow::Borrowed(name) => {
            out.push(b'"');
            push(out, name);
            out.push(b'"');
        }
        Cow::Owned(name) => string(out, name),
    }
    out.push(b':');
}

/// Appends a constant key such as `,"eval_count":` and a number, unless that is zero.
pub(super) fn count(out: &mut Vec<u8>, key: &str, value: u64) {
    if value != 0 {
        push(out, key);
        number(out, value);
    }
}

/// The same for a duration in nanoseconds.
pub(super) fn nanos(out: &mut Vec<u8>, key: &str, value: Duration) {
    count(out, key, u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
}

/// Whether a token is an empty array.
pub(super) fn is_empty_list(token: &str) -> bool {
    token.strip_prefix('[').is_some_and(|rest| rest.trim_start() == "]")
}

/// A raw value, unless it is an empty list: Ollama leaves those out.
pub(super) fn filled(list: Option<&Json>) -> Option<&Json> {
    list.filter(|list| !is_empty_list(list.get()))
}

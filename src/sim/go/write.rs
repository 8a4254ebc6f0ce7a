//! Text as Go writes it: JSON with HTML-safe escapes, `%q`, shortest floats.

use std::fmt::Write as _;

use serde::Serialize;

/// JSON as `encoding/json` writes it: compact, and `<`, `>`, `&`, U+2028 and U+2029 escaped.
pub(in crate::sim) fn json(value: &impl Serialize) -> String {
    let plain = serde_json::to_string(value).unwrap_or_else(|_| "null".into());
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return plain;
    }
    // outside of strings JSON has none of these characters, so a plain replacement is safe
    let mut out = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            other => out.push(other),
        }
    }
    out
}

/// `%q`: a Go string literal.
pub(in crate::sim) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            other => push_escaped(&mut out, other),
        }
    }
    out.push('"');
    out
}

/// A byte as the scanner's errors name it: in single quotes, read as a Latin-1 character.
pub(super) fn quote_char(byte: u8) -> String {
    let mut out = String::from("'");
    match char::from(byte) {
        '\'' => out.push_str("\\'"),
        other => push_escaped(&mut out, other),
    }
    out.push('\'');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        control if u32::from(control) < 0x20 || control == '\u{7f}' => {
            let _ = write!(out, "\\x{:02x}", u32::from(control));
        }
        control if control.is_control() => {
            let _ = write!(out, "\\u{:04x}", u32::from(control));
        }
        other => out.push(other),
    }
}

/// The shortest digits that read back as the same `f32`, with an exponent where Go uses one.
pub(in crate::sim) fn push_f32(out: &mut String, value: f32) {
    let size = value.abs();
    let _ =
        if size != 0.0 && !(1e-6..1e21).contains(&size) { write!(out, "{value:e}") } else { write!(out, "{value}") };
}

/// The same for `f64`.
pub(in crate::sim) fn push_f64(out: &mut String, value: f64) {
    let size = value.abs();
    let _ =
        if size != 0.0 && !(1e-6..1e21).contains(&size) { write!(out, "{value:e}") } else { write!(out, "{value}") };
}

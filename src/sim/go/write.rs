//! Text as Go writes it: JSON with HTML-safe escapes, `%q`, shortest floats.

use std::fmt::{Display, LowerExp, Write as _};
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// JSON as `encoding/json` writes it: compact, floats in Go's digits, and `<`, `>`, `&`, U+2028 and U+2029 escaped.
pub(in crate::sim) fn json(value: &impl Serialize) -> String {
    let mut out = Vec::with_capacity(256);
    // replies are plain data with text keys, which always serialise
    let _ = value.serialize(&mut Serializer::with_formatter(&mut out, GoFormat));
    String::from_utf8(out).unwrap_or_default()
}

/// Where Go's JSON differs from serde's.
struct GoFormat;

impl Formatter for GoFormat {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let mut digits = String::new();
        push_f64(&mut digits, value);
        writer.write_all(digits.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            write!(writer, "\\u{:04x}", chars.next().map_or(0, u32::from))?;
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
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
    push_float(out, f64::from(value.abs()), &value);
}

/// The same for `f64`.
pub(in crate::sim) fn push_f64(out: &mut String, value: f64) {
    push_float(out, value.abs(), &value);
}

fn push_float(out: &mut String, size: f64, value: &(impl Display + LowerExp)) {
    if size >= 1e21 {
        out.push_str(&format!("{value:e}").replace('e', "e+"));
    } else if size != 0.0 && size < 1e-6 {
        out.push_str(&format!("{value:e}"));
    } else {
        out.push_str(&value.to_string());
    }
}

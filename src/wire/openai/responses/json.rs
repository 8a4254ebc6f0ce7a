//! JSON of a reply in either of Ollama's orders, and JSON of a request as a reply repeats it.
//!
//! Everything here is one line: a line feed inside would end the `data:` line of an event.

use std::borrow::Cow;

use crate::wire::go_json::{elements, members, number, unquote};
use crate::wire::out::{push, string};

/// The order of an object's members. Ollama writes a whole reply from structs, as they are declared, and the events of
/// a stream from maps, whose keys Go sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Declared,
    Sorted,
}

impl Order {
    /// The order in the reply to a request.
    pub(super) fn of(stream: bool) -> Self {
        if stream { Self::Sorted } else { Self::Declared }
    }
}

/// A member: its key and what writes its value.
pub(super) type Member<'a> = (&'static str, &'a dyn Fn(&mut Vec<u8>));

/// Appends an object of members given as declared.
pub(super) fn object(out: &mut Vec<u8>, order: Order, members: &mut [Member<'_>]) {
    if order == Order::Sorted {
        members.sort_unstable_by_key(|(key, _)| *key);
    }
    for (at, (key, write)) in members.iter().enumerate() {
        push(out, if at == 0 { "{\"" } else { ",\"" });
        push(out, key);
        push(out, "\":");
        write(out);
    }
    out.push(b'}');
}

/// Deepest nesting whose keys are sorted: below, the order is the caller's.
const SORTED_DEPTH: u8 = 24;

/// Appends a value with its keys sorted and none twice, as Go writes a map.
pub(super) fn sorted(out: &mut Vec<u8>, value: &str) {
    nested(out, value, SORTED_DEPTH);
}

fn nested(out: &mut Vec<u8>, value: &str, depth: u8) {
    let close = match value.bytes().next() {
        Some(b'{') if depth > 0 => b'}',
        Some(b'[') if depth > 0 => b']',
        _ => return compact(out, value),
    };
    let mut first = true;
    let mut comma = |out: &mut Vec<u8>| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
    };
    // neither walk can fail: the value was scanned when the body was
    if close == b']' {
        out.push(b'[');
        let _ = elements(value, |element| {
            comma(out);
            nested(out, element, depth - 1);
        });
    } else {
        let mut list: Vec<(Cow<'_, str>, &str)> = Vec::new();
        let _ = members(value, |key, value| list.push((key, value)));
        // stable: of several values of one key the last one stays last, and it counts
        list.sort_by(|(one, _), (other, _)| one.cmp(other));
        out.push(b'{');
        for (at, (key, value)) in list.iter().enumerate() {
            if list.get(at + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            comma(out);
            string(out, key);
            out.push(b':');
            nested(out, value, depth - 1);
        }
    }
    out.push(close);
}

/// Appends a value without the white space between its tokens; its order, its numbers and its escapes stay.
pub(super) fn compact(out: &mut Vec<u8>, value: &str) {
    let (mut quoted, mut escaped) = (false, false);
    for byte in value.bytes() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' if !quoted => {}
            // as Go writes them everywhere
            b'<' => push(out, "\\u003c"),
            b'>' => push(out, "\\u003e"),
            b'&' => push(out, "\\u0026"),
            _ => out.push(byte),
        }
        quoted ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
    }
}

/// A number as Go prints a `float64` that is whole (`1`, where the caller wrote `1.0`); others keep their digits.
pub(super) fn plain(token: &str) -> Cow<'_, str> {
    if token.len() < 16 && token.bytes().all(|byte| byte.is_ascii_digit()) {
        return token.into();
    }
    let value = number(token);
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    if whole { format!("{}", value + 0.0).into() } else { token.into() }
}

/// Appends the text of a JSON string token, escaped as Go does.
pub(super) fn text(out: &mut Vec<u8>, token: &str) {
    string(out, &unquote(token));
}

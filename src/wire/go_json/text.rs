//! Strings as Go's `encoding/json` and `strconv` read and write them.
//!
//! Owns unquoting (a lone surrogate becomes U+FFFD), key folding, JSON quoting with Go's escapes, and `%q`.

use std::borrow::Cow;

use wide::u8x16;

use super::run::{is, is_control, unmarked};

/// The text of a JSON string token that was already scanned, quotes included. Never fails: what is no escape stays.
pub(in crate::wire) fn unquote(token: &str) -> Cow<'_, str> {
    let inner = inside(token);
    let first = plain(inner);
    if first == inner.len() {
        return Cow::Borrowed(inner);
    }
    let (mut head, mut rest) = inner.split_at(first);
    let mut out = String::with_capacity(inner.len());
    while !rest.is_empty() {
        out.push_str(head);
        rest = unescape(rest, &mut out);
        (head, rest) = rest.split_at(plain(rest));
    }
    out.push_str(head);
    Cow::Owned(out)
}

/// What stands between the quotes of a token.
fn inside(token: &str) -> &str {
    token.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(token)
}

/// Bytes before the first escape.
fn plain(text: &str) -> usize {
    unmarked(text.as_bytes(), |bytes| is(bytes, b'\\'))
}

/// Bytes of the text that [`unquote`] gives.
pub(in crate::wire) fn text_len(token: &str) -> usize {
    let inner = inside(token);
    let (mut bytes, mut rest, mut one) = (inner.len(), inner, String::new());
    loop {
        rest = rest.get(plain(rest)..).unwrap_or_default();
        match rest.as_bytes().get(1) {
            None => return bytes,
            Some(b'u') => {
                one.clear();
                let after = unescape_unit(rest, &mut one);
                bytes -= rest.len() - after.len() - one.len();
                rest = after;
            }
            // the backslash
            Some(_) => {
                bytes -= 1;
                rest = rest.get(2..).unwrap_or_default();
            }
        }
    }
}

/// Reads the escape at the start of `text` and gives what follows it.
fn unescape<'a>(text: &'a str, out: &mut String) -> &'a str {
    let code = text.as_bytes().get(1).copied().unwrap_or(b'\\');
    if code == b'u' {
        return unescape_unit(text, out);
    }
    out.push(match code {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        other => char::from(other),
    });
    text.get(2..).unwrap_or_default()
}

/// Reads `\uXXXX`, and a second one when the two are a surrogate pair.
fn unescape_unit<'a>(text: &'a str, out: &mut String) -> &'a str {
    let unit = |at: &str| at.strip_prefix("\\u").and_then(|t| t.get(..4)).and_then(|h| u16::from_str_radix(h, 16).ok());
    let first = unit(text).unwrap_or(0xFFFD);
    let rest = text.get(6..).unwrap_or_default();
    if let Some(second) = unit(rest)
        && let Some(Ok(pair)) = char::decode_utf16([first, second]).next()
        && u32::from(pair) > 0xFFFF
    {
        out.push(pair);
        return rest.get(6..).unwrap_or_default();
    }
    out.push(char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER));
    rest
}

/// Whether Go takes the key `written` for the field `name` (lower-case ASCII): any case, and the two letters outside
/// ASCII whose simple folding is an ASCII letter (long s, Kelvin sign).
pub(in crate::wire) fn folds_to(written: &str, name: &str) -> bool {
    if written.is_ascii() {
        return written.eq_ignore_ascii_case(name);
    }
    fold(written).eq(name.chars().map(|c| c.to_ascii_lowercase()))
}

/// Whether `written` starts with `prefix` (lower-case ASCII) after folding.
pub(in crate::wire) fn folds_to_start(written: &str, prefix: &str) -> bool {
    let mut letters = fold(written);
    prefix.chars().all(|wanted| letters.next() == Some(wanted))
}

fn fold(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().map(|c| match c {
        '\u{17F}' => 's',
        '\u{212A}' => 'k',
        other => other.to_ascii_lowercase(),
    })
}

/// What JSON is written to: bytes, or text where the whole is one.
pub(in crate::wire) trait Sink {
    /// Appends it.
    fn append(&mut self, text: &str);
}

impl Sink for Vec<u8> {
    fn append(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

impl Sink for String {
    fn append(&mut self, text: &str) {
        self.push_str(text);
    }
}

/// Appends `text` as a JSON string as Go does: `<`, `>`, `&` and the two line separators are escaped too.
pub(in crate::wire) fn write_string(out: &mut impl Sink, text: &str) {
    out.append("\"");
    let mut rest = text;
    loop {
        let (plain, marked) = rest.split_at(unmarked(rest.as_bytes(), may_need_escape));
        out.append(plain);
        let Some(c) = marked.chars().next() else { break };
        rest = marked.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '"' => out.append("\\\""),
            '\\' => out.append("\\\\"),
            '\n' => out.append("\\n"),
            '\r' => out.append("\\r"),
            '\t' => out.append("\\t"),
            '\u{8}' => out.append("\\b"),
            '\u{c}' => out.append("\\f"),
            '<' => out.append("\\u003c"),
            '>' => out.append("\\u003e"),
            '&' => out.append("\\u0026"),
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => out.append(&format!("\\u{:04x}", u32::from(c))),
            other => out.append(other.encode_utf8(&mut [0; 4])),
        }
    }
    out.append("\"");
}

/// Marks what Go escapes, and the first byte of the line separators.
fn may_need_escape(bytes: u8x16) -> u8x16 {
    let html = is(bytes, b'<') | is(bytes, b'>') | is(bytes, b'&');
    is(bytes, b'"') | is(bytes, b'\\') | is_control(bytes) | html | is(bytes, 0xE2)
}

/// `text` as Go's `%q` prints it.
pub(in crate::wire) fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || u32::from(c) == 0x7F => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() || (c.is_whitespace() && c != ' ') || u32::from(c) == 0xAD => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

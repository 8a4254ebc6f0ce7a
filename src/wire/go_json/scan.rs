//! The grammar of JSON with Go's words for what is wrong.
//!
//! A [`Scanner`] walks bytes and never looks back; it knows nothing of types or fields (that is `schema`).
//! Nesting is bounded by [`MAX_DEPTH`], so that no body can exhaust the stack.

use wide::u8x16;

use super::numbers::{leading_digits, plain_numbers};
use super::run::{is, is_control, unmarked};

/// Deepest nesting of objects and arrays taken (Go takes 10,000; nobody needs more than a few dozen).
pub(in crate::wire) const MAX_DEPTH: u16 = 512;

/// Why a text is not the JSON it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::wire) enum Bad {
    /// There is nothing but white space (Go: `EOF`).
    Empty,
    /// Anything else, in Go's words where Go has words for it.
    Text(String),
    /// What is wrong with this field, which is the gateway's own.
    Field(&'static str, String),
}

impl Bad {
    /// Go's `unexpected EOF`.
    pub(super) fn cut() -> Self {
        Self::Text("unexpected EOF".into())
    }

    /// The field that it is about, where it is the gateway's own.
    pub(in crate::wire) fn field(&self) -> Option<&'static str> {
        match self {
            Self::Field(field, _) => Some(field),
            _ => None,
        }
    }

    /// The words alone.
    pub(in crate::wire) fn text(self) -> String {
        match self {
            Self::Empty => "EOF".into(),
            Self::Text(text) | Self::Field(_, text) => text,
        }
    }
}

/// What a value starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) enum Kind {
    Object,
    Array,
    Text,
    Number,
    Bool,
    Null,
}

impl Kind {
    /// Go's word for it in `json: cannot unmarshal …`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::Text => "string",
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Null => "null",
        }
    }

    /// The kind of a value's first byte; `None` when no value starts so.
    pub(in crate::wire) fn of(first: u8) -> Option<Self> {
        Some(match first {
            b'{' => Self::Object,
            b'[' => Self::Array,
            b'"' => Self::Text,
            b'-' | b'0'..=b'9' => Self::Number,
            b't' | b'f' => Self::Bool,
            b'n' => Self::Null,
            _ => return None,
        })
    }
}

/// From where to where a token stands, in bytes.
pub(super) type Span = (usize, usize);

/// A position in a text.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u16,
    /// Of all bytes of strings the bits that one of them has, and some of what stands around.
    seen: u8x16,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0, seen: u8x16::splat(0) }
    }

    /// Bytes walked so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Whether what was walked is certainly ASCII: nothing but strings can hold anything else.
    pub(super) fn is_ascii(&self) -> bool {
        // a mask is made of top bits
        self.seen.to_bitmask() == 0
    }

    /// What was walked since `start`.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes((start, self.at))
    }

    /// The bytes of a span.
    pub(super) fn bytes(&self, (from, to): Span) -> &'a [u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// The next byte that is not white space, left in place.
    pub(super) fn lead(&mut self) -> Option<u8> {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Checks that nothing but white space follows.
    pub(super) fn end(&mut self) -> Result<(), Bad> {
        self.lead().map_or(Ok(()), |byte| Err(unexpected(byte, "after top-level value")))
    }

    /// The kind of the next value, left in place.
    pub(super) fn kind(&mut self) -> Result<Kind, Bad> {
        let first = self.lead().ok_or_else(Bad::cut)?;
        Kind::of(first).ok_or_else(|| unexpected(first, "looking for beginning of value"))
    }

    /// Takes the opening bracket; true when the container is empty, and then it is closed too.
    pub(super) fn open(&mut self, close: u8) -> Result<bool, Bad> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Bad::Text(format!(
                "exceeded max depth: the JSON nests deeper than {MAX_DEPTH} objects and arrays"
            )));
        }
        let empty = self.lead().ok_or_else(Bad::cut)? == close;
        if empty {
            self.at += 1;
            self.depth -= 1;
        }
        Ok(empty)
    }

    /// Takes what stands after an element: true when the container goes on.
    pub(super) fn more(&mut self, close: u8, after: &str) -> Result<bool, Bad> {
        let byte = self.lead().ok_or_else(Bad::cut)?;
        if byte == b',' {
            self.at += 1;
            return Ok(true);
        }
        if byte != close {
            return Err(unexpected(byte, after));
        }
        self.at += 1;
        self.depth -= 1;
        Ok(false)
    }

    /// Takes an object's key and its colon; gives where the key stands, quotes included.
    pub(super) fn key(&mut self) -> Result<Span, Bad> {
        let byte = self.lead().ok_or_else(Bad::cut)?;
        if byte != b'"' {
            return Err(unexpected(byte, "looking for beginning of object key string"));
        }
        let start = self.at;
        self.string()?;
        let key = (start, self.at);
        match self.lead().ok_or_else(Bad::cut)? {
            b':' => self.at += 1,
            other => return Err(unexpected(other, "after object key")),
        }
        Ok(key)
    }

    /// Takes one value of any kind and gives its bytes.
    pub(super) fn value(&mut self) -> Result<&'a [u8], Bad> {
        let kind = self.kind()?;
        let start = self.at;
        match kind {
            Kind::Object => self.object()?,
            Kind::Array => self.array()?,
            _ => self.scalar(kind)?,
        }
        Ok(self.since(start))
    }

    fn object(&mut self) -> Result<(), Bad> {
        let mut more = !self.open(b'}')?;
        while more {
            let _ = self.key()?;
            self.value()?;
            more = self.more(b'}', "after object key:value pair")?;
        }
        Ok(())
    }

    fn array(&mut self) -> Result<(), Bad> {
        let mut more = !self.open(b']')?;
        while more {
            self.at += plain_numbers(self.bytes, self.at);
            self.value()?;
            more = self.more(b']', "after array element")?;
        }
        Ok(())
    }

    /// Takes a string, number, bool or null.
    pub(super) fn scalar(&mut self, kind: Kind) -> Result<(), Bad> {
        match kind {
            Kind::Text => self.string(),
            Kind::Number => self.number(),
            Kind::Null => self.literal("null"),
            _ if self.bytes.get(self.at) == Some(&b't') => self.literal("true"),
            _ => self.literal("false"),
        }
    }

    fn string(&mut self) -> Result<(), Bad> {
        self.at += 1;
        while !self.blocks() {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let step = self.plain_bytes(rest);
            self.at += step + 1;
            match rest.get(step) {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(&other) => return Err(unexpected(other, "in string literal")),
                None => return Err(Bad::cut()),
            }
        }
        Ok(())
    }

    /// Takes what a string holds, sixteen bytes at a time, until it ends (true) or needs a closer look.
    fn blocks(&mut self) -> bool {
        while let Some(block) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let bytes = u8x16::new(*block);
            self.seen |= bytes;
            let mut stops = stops(bytes).to_bitmask();
            while stops != 0 {
                let stop = stops.trailing_zeros() as usize;
                match block.get(stop..) {
                    Some([b'"', ..]) => {
                        self.at += stop + 1;
                        return true;
                    }
                    Some([b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..]) => {
                        stops &= !0 << (stop + 2)
                    }
                    _ => {
                        self.at += stop;
                        return false;
                    }
                }
            }
            self.at += block.len();
        }
        false
    }

    /// Bytes at the front that a string may hold as they are: no quote, backslash or control character.
    fn plain_bytes(&mut self, bytes: &[u8]) -> usize {
        unmarked(bytes, |bytes| {
            self.seen |= bytes;
            stops(bytes)
        })
    }

    #[inline]
    fn escape(&mut self) -> Result<(), Bad> {
        let code = self.next()?;
        match code {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    let digit = self.next()?;
                    if !digit.is_ascii_hexdigit() {
                        return Err(unexpected(digit, "in \\u hexadecimal character escape"));
                    }
                }
                Ok(())
            }
            other => Err(unexpected(other, "in string escape code")),
        }
    }

    fn next(&mut self) -> Result<u8, Bad> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(Bad::cut)?;
        self.at += 1;
        Ok(byte)
    }

    fn literal(&mut self, word: &'static str) -> Result<(), Bad> {
        for expected in word.bytes() {
            let byte = self.next()?;
            if byte != expected {
                let context = format!("in literal {word} (expecting {})", quoted(expected));
                return Err(unexpected(byte, &context));
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Bad> {
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        // a leading zero stands alone: what follows it is judged by whoever comes next
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digits(&mut self, context: &str) -> Result<(), Bad> {
        let first = self.next()?;
        if !first.is_ascii_digit() {
            return Err(unexpected(first, context));
        }
        self.at += leading_digits(self.bytes.get(self.at..).unwrap_or_default());
        Ok(())
    }
}

/// Marks what a string cannot hold as it is.
fn stops(bytes: u8x16) -> u8x16 {
    is(bytes, b'"') | is(bytes, b'\\') | is_control(bytes)
}

fn unexpected(byte: u8, context: &str) -> Bad {
    Bad::Text(format!("invalid character {} {context}", quoted(byte)))
}

/// A byte as Go's scanner prints it: taken for a Latin-1 character, in single quotes.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => "'\\''".into(),
        b'"' => "'\"'".into(),
        _ => {
            let text = super::text::go_quote(char::from(byte).encode_utf8(&mut [0; 4]));
            format!("'{}'", text.trim_matches('"'))
        }
    }
}

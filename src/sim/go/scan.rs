//! The first JSON value of a body as a tree, with the error texts of Go's scanner.
//!
//! Keeps duplicate keys and their order: what they mean depends on the Go type (`decode`).

use super::write::quote_char;

/// Nesting that is still read. Go allows 10,000; the stand-in's stack does not need to.
const MAX_DEPTH: usize = 500;

/// A JSON value as written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    /// The number's own digits.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// Every key in order, duplicates included.
    Object(Vec<(String, Node)>),
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing but white space.
    Empty,
    /// The body ends inside the value.
    Truncated,
    /// Go's text for everything else.
    Syntax(String),
}

/// Reads the first value; bytes after it are ignored, as Go's `Decoder` does.
pub(super) fn scan(bytes: &[u8]) -> Result<Node, Broken> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.skip_space();
    if scanner.peek().is_none() {
        return Err(Broken::Empty);
    }
    scanner.value(0)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte, or the error of a body that ends here.
    fn need(&self) -> Result<u8, Broken> {
        self.peek().ok_or(Broken::Truncated)
    }

    fn bad(byte: u8, place: &str) -> Broken {
        Broken::Syntax(format!("invalid character {} {place}", quote_char(byte)))
    }

    fn value(&mut self, depth: usize) -> Result<Node, Broken> {
        if depth > MAX_DEPTH {
            return Err(Broken::Syntax("exceeded max depth".into()));
        }
        self.skip_space();
        match self.need()? {
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => Ok(Node::Text(self.string()?)),
            b't' => self.literal("true", Node::Bool(true)),
            b'f' => self.literal("false", Node::Bool(false)),
            b'n' => self.literal("null", Node::Null),
            b'-' | b'0'..=b'9' => self.number(),
            other => Err(Self::bad(other, "looking for beginning of value")),
        }
    }

    fn literal(&mut self, word: &str, node: Node) -> Result<Node, Broken> {
        for expected in word.bytes() {
            let byte = self.need()?;
            if byte != expected {
                let place = format!("in literal {word} (expecting {})", quote_char(expected));
                return Err(Self::bad(byte, &place));
            }
            self.at += 1;
        }
        Ok(node)
    }

    fn object(&mut self, depth: usize) -> Result<Node, Broken> {
        self.at += 1;
        let mut fields = Vec::new();
        self.skip_space();
        if self.need()? == b'}' {
            self.at += 1;
            return Ok(Node::Object(fields));
        }
        loop {
            self.skip_space();
            let byte = self.need()?;
            if byte != b'"' {
                return Err(Self::bad(byte, "looking for beginning of object key string"));
            }
            let key = self.string()?;
            self.skip_space();
            let byte = self.need()?;
            if byte != b':' {
                return Err(Self::bad(byte, "after object key"));
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            fields.push((key, value));
            self.skip_space();
            let byte = self.need()?;
            self.at += 1;
            match byte {
                b',' => {}
                b'}' => return Ok(Node::Object(fields)),
                other => return Err(Self::bad(other, "after object key:value pair")),
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Node, Broken> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.need()? == b']' {
            self.at += 1;
            return Ok(Node::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            let byte = self.need()?;
            self.at += 1;
            match byte {
                b',' => {}
                b']' => return Ok(Node::List(items)),
                other => return Err(Self::bad(other, "after array element")),
            }
        }
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn digit(&mut self, place: &str) -> Result<u8, Broken> {
        match self.need()? {
            digit @ b'0'..=b'9' => {
                self.at += 1;
                Ok(digit)
            }
            other => Err(Self::bad(other, place)),
        }
    }

    fn number(&mut self) -> Result<Node, Broken> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.digit("in numeric literal")? != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Node::Number(String::from_utf8_lossy(text).into_owned()))
    }

    /// A string; invalid UTF-8 and lone surrogates become U+FFFD, as in Go.
    fn string(&mut self) -> Result<String, Broken> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let byte = self.need()?;
            self.at += 1;
            match byte {
                b'"' => return Ok(String::from_utf8_lossy(&out).into_owned()),
                b'\\' => self.escape(&mut out)?,
                0..=0x1f => return Err(Self::bad(byte, "in string literal")),
                other => out.push(other),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let byte = self.need()?;
        self.at += 1;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let decoded = self.unicode()?;
                out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            other => return Err(Self::bad(other, "in string escape code")),
        };
        out.push(plain);
        Ok(())
    }

    /// What follows `\u`, with the second half of a surrogate pair when it is there.
    fn unicode(&mut self) -> Result<char, Broken> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(b"\\u")) {
            let mark = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xdc00..0xe000).contains(&second) {
                let joined = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // not its other half: the first alone is broken, the second is read again on its own
            self.at = mark;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, Broken> {
        let mut value = 0;
        for _ in 0..4 {
            let byte = self.need()?;
            let digit =
                char::from(byte).to_digit(16).ok_or_else(|| Self::bad(byte, "in \\u hexadecimal character escape"))?;
            self.at += 1;
            value = value * 16 + digit;
        }
        Ok(value)
    }
}

//! A body read into a Go type: which keys count, what a wrong type is called, what wins.
//!
//! A type is described by [`Kind`]; the result is a canonical JSON value (known fields only, in their own
//! spelling, nulls left out) that serde can take without further checks.

use serde_json::{Map, Number, Value};

use super::duration;
use super::scan::{Broken, Node, scan};
use super::write::quote;

/// A Go type, as far as reading needs it.
#[derive(Debug)]
pub(in crate::sim) enum Kind {
    /// `string`
    Text,
    /// `bool` or `*bool`
    Bool,
    /// `int`
    Int,
    /// `any` and `json.RawMessage`: everything is taken
    Any,
    /// `map[string]any`: duplicate objects merge
    Map,
    /// `api.Duration` (`keep_alive`), in nanoseconds
    KeepAlive,
    /// `api.ThinkValue`
    Think,
    /// `api.ImageData`: base64
    Image,
    /// A slice: its elements and its Go name
    List(&'static Kind, &'static str),
    /// A struct with its Go name and JSON fields
    Struct(&'static str, &'static [(&'static str, Kind)]),
    /// A struct that reads itself through a local type named `Alias`
    Aliased(&'static [(&'static str, Kind)]),
}

impl Kind {
    fn go_name(&self) -> String {
        match self {
            Self::Text => "string".into(),
            Self::Bool => "bool".into(),
            Self::Int => "int".into(),
            Self::Map => "map[string]interface {}".into(),
            Self::Image => "api.ImageData".into(),
            Self::List(_, name) => (*name).into(),
            Self::Struct(name, _) => format!("api.{name}"),
            Self::Aliased(_) => "api.Alias".into(),
            Self::Any | Self::KeepAlive | Self::Think => "interface {}".into(),
        }
    }
}

/// Reads the first JSON value of `body` as `kind`.
///
/// # Errors
/// The text that Ollama puts into its 400.
pub(in crate::sim) fn decode(body: &[u8], kind: &Kind) -> Result<Value, String> {
    let node = scan(body).map_err(|broken| match broken {
        Broken::Empty => "missing request body".to_owned(),
        Broken::Truncated => "unexpected EOF".to_owned(),
        Broken::Syntax(text) => text,
    })?;
    let mut reader = Reader::default();
    let value = reader.read(&node, kind, None)?;
    reader.mismatch.map_or(Ok(value.unwrap_or(Value::Object(Map::new()))), Err)
}

/// Where the reader stands, for the texts of type errors.
#[derive(Default)]
struct Reader {
    /// The innermost struct's Go name.
    within: Option<&'static str>,
    path: Vec<&'static str>,
    /// The first wrong type. Go reads on after one, and reports it at the end.
    mismatch: Option<String>,
}

impl Reader {
    /// `None` for a null, which changes nothing. An `Err` is an error that stops the reading at once.
    fn read(&mut self, node: &Node, kind: &Kind, old: Option<Value>) -> Result<Option<Value>, String> {
        if matches!(node, Node::Null) {
            // a null empties pointers, maps, slices and interfaces, and leaves plain values as they were
            return Ok(if matches!(kind, Kind::Text | Kind::Int | Kind::Struct(..)) { old } else { None });
        }
        let value = match (kind, node) {
            (Kind::Text, Node::Text(text)) => Value::String(text.clone()),
            (Kind::Bool, Node::Bool(flag)) => Value::Bool(*flag),
            (Kind::Int, Node::Number(digits)) => {
                let Ok(number) = digits.parse::<i64>() else {
                    self.mismatched(&format!("number {digits}"), kind);
                    return Ok(old);
                };
                number.into()
            }
            (Kind::Any, node) => plain(node),
            (Kind::Map, Node::Object(fields)) => {
                let mut map = match old {
                    Some(Value::Object(map)) => map,
                    _ => Map::new(),
                };
                map.extend(fields.iter().map(|(key, value)| (key.clone(), plain(value))));
                Value::Object(map)
            }
            (Kind::KeepAlive, node) => duration::keep_alive(node)?.into(),
            (Kind::Think, node) => think(node)?,
            (Kind::Image, Node::Text(text)) => {
                check_base64(text)?;
                Value::String(text.clone())
            }
            (Kind::List(of, _), Node::List(items)) => self.list(items, of)?,
            (Kind::Struct(name, fields), Node::Object(given)) => {
                let before = self.within.replace(name);
                let object = self.object(given, fields, old)?;
                self.within = before;
                object
            }
            (Kind::Aliased(fields), Node::Object(given)) => self.object(given, fields, None)?,
            (kind, node) => {
                self.mismatched(word(node), kind);
                return Ok(old);
            }
        };
        Ok(Some(value))
    }

    fn list(&mut self, items: &[Node], of: &Kind) -> Result<Value, String> {
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            out.push(self.read(item, of, None)?.unwrap_or_else(|| zero(of)));
        }
        Ok(Value::Array(out))
    }

    fn object(
        &mut self,
        given: &[(String, Node)],
        fields: &'static [(&'static str, Kind)],
        old: Option<Value>,
    ) -> Result<Value, String> {
        let mut out = match old {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        for (key, node) in given {
            let Some((name, kind)) = find(fields, key) else { continue };
            self.path.push(name);
            let value = self.read(node, kind, out.get(*name).cloned())?;
            self.path.pop();
            match value {
                Some(value) => out.insert((*name).to_owned(), value),
                None => out.remove(*name),
            };
        }
        Ok(Value::Object(out))
    }

    fn mismatched(&mut self, found: &str, kind: &Kind) {
        if self.mismatch.is_some() {
            return;
        }
        let place = match self.within {
            Some(within) if !self.path.is_empty() => format!("struct field {within}.{}", self.path.join(".")),
            _ => "value".into(),
        };
        self.mismatch = Some(format!("json: cannot unmarshal {found} into Go {place} of type {}", kind.go_name()));
    }
}

/// The exact key first, then any letter case, as Go looks fields up.
fn find(fields: &'static [(&'static str, Kind)], key: &str) -> Option<&'static (&'static str, Kind)> {
    fields.iter().find(|(name, _)| *name == key).or_else(|| {
        let folded = fold(key);
        fields.iter().find(|(name, _)| *name == folded)
    })
}

/// Lower case as Go folds names: ASCII, and the two other letters that fold to ASCII.
fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            'ſ' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

fn word(node: &Node) -> &'static str {
    match node {
        Node::Null => "null",
        Node::Bool(_) => "bool",
        Node::Number(_) => "number",
        Node::Text(_) => "string",
        Node::List(_) => "array",
        Node::Object(_) => "object",
    }
}

/// What a null element of a slice leaves behind.
fn zero(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Image => Value::String(String::new()),
        Kind::Bool => Value::Bool(false),
        Kind::Int => Value::from(0),
        Kind::Struct(..) | Kind::Aliased(_) | Kind::Map => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

/// The node as an ordinary JSON value; the last of duplicate keys wins.
fn plain(node: &Node) -> Value {
    match node {
        Node::Null => Value::Null,
        Node::Bool(flag) => Value::Bool(*flag),
        Node::Number(digits) => number(digits),
        Node::Text(text) => Value::String(text.clone()),
        Node::List(items) => Value::Array(items.iter().map(plain).collect()),
        Node::Object(fields) => Value::Object(fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect()),
    }
}

fn number(digits: &str) -> Value {
    if let Ok(whole) = digits.parse::<i64>() {
        return whole.into();
    }
    digits.parse::<f64>().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
}

fn think(node: &Node) -> Result<Value, String> {
    const LEVELS: &str = r#""high", "medium", "low", "max", true, or false"#;
    match node {
        Node::Bool(flag) => Ok(Value::Bool(*flag)),
        Node::Text(level) if matches!(level.as_str(), "high" | "medium" | "low" | "max") => {
            Ok(Value::String(level.clone()))
        }
        Node::Text(other) => Err(format!("invalid think value: {} (must be {LEVELS})", quote(other))),
        _ => Err(format!("think must be a boolean or string ({LEVELS})")),
    }
}

/// Go's `base64.StdEncoding`, which skips line ends and names the first byte it cannot read.
fn check_base64(text: &str) -> Result<(), String> {
    let illegal = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let (mut count, mut pads) = (0_usize, 0_usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\r' | b'\n' => {}
            b'=' if count % 4 >= 2 || pads > 0 => {
                pads += 1;
                count += 1;
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if pads == 0 => count += 1,
            _ => return illegal(at),
        }
        if pads > 0
            && count % 4 == 0
            && at + 1 < text.len()
            && !text.as_bytes()[at + 1..].iter().all(|b| matches!(b, b'\r' | b'\n'))
        {
            return illegal(at + 1);
        }
    }
    if count % 4 == 0 { Ok(()) } else { illegal(text.len()) }
}

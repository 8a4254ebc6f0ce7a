//! Reads a text against a table of a Go struct: which key is which field, and whether the types fit.
//!
//! As in Go a wrong type is remembered while reading goes on (the first one is reported), a type with a decoder of
//! its own ends the reading with its own words, and a broken grammar anywhere beats both. What was found is a
//! [`Document`].

use super::document::Document;
use super::scan::{Bad, Kind, Scanner, Span};
use super::text::{folds_to, unquote};
use super::value::{check_base64, check_think, fits_float32, fits_float64, keep_alive};

/// A Go type, as far as a request can break it.
#[derive(Debug)]
pub(in crate::wire) enum Type {
    /// `string`.
    Text,
    /// `*string`.
    TextPointer,
    /// A `string` that becomes prompt tokens: its bytes are counted.
    Prompt,
    /// `bool`.
    Bool,
    /// `int`.
    Int,
    /// `float64`.
    Float64,
    /// `float32`.
    Float32,
    /// `interface{}`.
    Any,
    /// `map[string]interface {}`.
    Map,
    /// Not looked into.
    Raw,
    /// `api.ImageData`.
    Base64,
    /// `api.ThinkValue`.
    Think,
    /// `api.Duration`.
    KeepAlive,
    /// The same where the field is the gateway's own: it says itself what is wrong.
    OurKeepAlive,
    /// A slice: Go's name of it and its element.
    List(&'static str, &'static Type),
    /// A slice of structs, each kept as a document of its own.
    Documents(&'static str, &'static Type),
    /// This, where it is such documents, such a struct or a text; anything else is not looked into.
    Loose(&'static Type),
    /// What a decoder of its own takes as a `string` or, decoded apart, as this.
    TextOr(&'static Type),
    /// A struct.
    Struct(&'static Struct),
    /// `api.PropertyType`: a string, or this list of them.
    StringOrList(&'static Type),
    /// `api.ToolPropertiesMap`, whose values are of this type.
    Ordered(&'static Type),
    /// A struct with a decoder of its own: what is wrong inside is final and named after the struct around it.
    Own(&'static Struct),
}

/// A Go struct: the name in `Go value of type …`, the one in `Go struct field ….`, and its fields.
#[derive(Debug)]
pub(in crate::wire) struct Struct {
    pub(in crate::wire) full: &'static str,
    pub(in crate::wire) short: &'static str,
    pub(in crate::wire) fields: &'static [Field],
}

/// A field's JSON name and type.
pub(in crate::wire) type Field = (&'static str, Type);

impl Struct {
    /// The field that Go would put the key into, which is a token as written.
    pub(super) fn find(&self, key: &[u8]) -> Option<&'static Field> {
        let plain = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\""))?;
        // nearly all; no name has what would need an escape
        if let Some(field) = self.fields.iter().find(|(name, _)| name.as_bytes() == plain) {
            return Some(field);
        }
        // a key that is not UTF-8 is no field's; the body is refused for it later
        let key = unquote(std::str::from_utf8(key).ok()?);
        let exact = self.fields.iter().find(|(name, _)| *name == key);
        exact.or_else(|| self.fields.iter().find(|(name, _)| folds_to(&key, name)))
    }
}

impl Type {
    /// Go's name.
    fn name(&self) -> &'static str {
        match self {
            Self::Text | Self::TextPointer | Self::Prompt => "string",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float64 => "float64",
            Self::Float32 => "float32",
            Self::Map => "map[string]interface {}",
            Self::Base64 => "api.ImageData",
            Self::List(name, _) | Self::Documents(name, _) => name,
            Self::TextOr(other) => other.name(),
            Self::StringOrList(list) => list.name(),
            Self::Struct(s) | Self::Own(s) => s.full,
            Self::Any
            | Self::Raw
            | Self::Loose(_)
            | Self::Think
            | Self::KeepAlive
            | Self::OurKeepAlive
            | Self::Ordered(_) => "interface {}",
        }
    }

    /// Whether every text is good.
    fn takes_any_text(&self) -> bool {
        matches!(
            self,
            Self::Text
                | Self::TextPointer
                | Self::TextOr(_)
                | Self::StringOrList(_)
                | Self::Any
                | Self::Raw
                | Self::Loose(_)
        )
    }

    /// Whether a later `null` takes back an earlier value (pointers, slices, maps) or changes nothing (the rest).
    pub(super) fn null_clears(&self) -> bool {
        !matches!(self, Self::Text | Self::Prompt | Self::Loose(Self::Text))
    }
}

/// Reads the first JSON value of `body` against `table`; what follows it is ignored.
///
/// # Errors
/// [`Bad::Empty`] for no value at all; otherwise Go's words for the first fault.
pub(in crate::wire) fn read<'a>(body: &'a [u8], table: &'static Struct) -> Result<Document<'a>, Bad> {
    let text = std::str::from_utf8(body);
    // a broken grammar is told before broken text
    let sound = text.or_else(|e| std::str::from_utf8(body.get(..e.valid_up_to()).unwrap_or_default()));
    let sound = sound.unwrap_or_default();
    let (document, reader) = Reader::over(body, sound, table)?;
    if reader.scan.at() > sound.len() {
        return Err(Bad::Text(format!("invalid UTF-8 at byte {} of the body: JSON must be UTF-8", sound.len())));
    }
    reader.checked(document)
}

/// The same for a text inside a body, which is known to be UTF-8.
///
/// # Errors
/// As [`read`].
pub(in crate::wire) fn read_text<'a>(text: &'a str, table: &'static Struct) -> Result<Document<'a>, Bad> {
    let (document, reader) = Reader::over(text.as_bytes(), text, table)?;
    reader.checked(document)
}

/// The elements of the array `text`, a part of a body that was scanned, which was not read as such `documents` there;
/// none for another value.
pub(in crate::wire) fn documents<'a>(text: &'a str, documents: &'static Type) -> Vec<Document<'a>> {
    const NOWHERE: Struct = Struct { full: "", short: "", fields: &[] };
    let mut reader = Reader::new(text.as_bytes(), text);
    // cannot fail: it was scanned
    let _ = reader.value(documents, &Context { path: None, owner: &NOWHERE, own: false });
    reader.document.list.1
}

/// Where in the structs the reader is, for error texts.
struct Context<'c> {
    path: Option<Path<'c>>,
    owner: &'static Struct,
    own: bool,
}

#[derive(Clone, Copy)]
struct Path<'c> {
    name: &'static str,
    up: Option<&'c Path<'c>>,
}

impl Path<'_> {
    fn write(&self, out: &mut String) {
        if let Some(up) = self.up {
            up.write(out);
            out.push('.');
        }
        out.push_str(self.name);
    }
}

struct Reader<'a> {
    scan: Scanner<'a>,
    /// What is scanned, as far as it is UTF-8.
    text: &'a str,
    /// Whether the object that comes next is kept as a document.
    keep: bool,
    /// The one that was begun last.
    document: Document<'a>,
    bad: Option<Bad>,
    /// Set when `bad` is final: only the grammar is read from there on.
    end: bool,
    prompt: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], text: &'a str) -> Self {
        let (scan, document) = (Scanner::new(bytes), Document::default());
        Self { scan, text, keep: false, document, bad: None, end: false, prompt: 0 }
    }

    /// Reads the first value of `bytes`.
    fn over(bytes: &'a [u8], text: &'a str, table: &'static Struct) -> Result<(Document<'a>, Self), Bad> {
        let mut reader = Self::new(bytes, text);
        if reader.scan.lead().is_none() {
            return Err(Bad::Empty);
        }
        let document = reader.document(&Type::Struct(table), &Context { path: None, owner: table, own: false })?;
        Ok((document, reader))
    }

    /// The document, if nothing in it was wrong.
    fn checked(self, mut document: Document<'a>) -> Result<Document<'a>, Bad> {
        document.prompt_bytes = self.prompt;
        self.bad.map_or(Ok(document), Err)
    }

    /// Reads the next value as a document.
    fn document(&mut self, ty: &Type, context: &Context<'_>) -> Result<Document<'a>, Bad> {
        self.scan.lead();
        let (start, around) = (self.scan.at(), std::mem::take(&mut self.document));
        self.keep = true;
        self.value(ty, context)?;
        // it was no object
        self.keep = false;
        let mut document = std::mem::replace(&mut self.document, around);
        document.written = self.written((start, self.scan.at()));
        Ok(document)
    }

    /// What stands there; nothing where it is not UTF-8, of which nothing else will be told.
    fn written(&self, (from, to): Span) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    fn value(&mut self, ty: &Type, context: &Context<'_>) -> Result<(), Bad> {
        let kind = self.scan.kind()?;
        if kind == Kind::Text && ty.takes_any_text() {
            return self.scan.scalar(kind);
        }
        if self.end || matches!(ty, Type::Raw) {
            return self.scan.value().map(drop);
        }
        if matches!(ty, Type::Think | Type::KeepAlive | Type::OurKeepAlive) {
            return self.own_scalar(kind, ty, context);
        }
        if let Type::TextOr(other) = ty {
            // decoded apart: the field itself is in no path
            let up = context.path.and_then(|path| path.up.copied());
            return self.value(other, &Context { path: up, ..*context });
        }
        match (kind, ty) {
            (Kind::Object, Type::Struct(s) | Type::Own(s)) => {
                let own = context.own || matches!(ty, Type::Own(_));
                let inside = Context { path: context.path, owner: if own { context.owner } else { s }, own };
                self.object(Some(s), &Type::Raw, &inside)
            }
            (_, Type::StringOrList(list)) => self.value(list, &Context { own: true, ..*context }),
            (Kind::Object, Type::Ordered(of)) => self.object(None, of, &Context { own: true, ..*context }),
            (_, Type::Ordered(_)) if kind != Kind::Null => {
                let text = "Value looks like object, but can't find closing '}' symbol";
                self.fault(Bad::Text(text.into()), true);
                self.scan.value().map(drop)
            }
            (Kind::Object, Type::Map | Type::Any) => self.object(None, &Type::Any, context),
            (Kind::Array, Type::List(_, item)) => self.array(item, context),
            (Kind::Array, Type::Documents(_, item)) => self.documents(item, context),
            (Kind::Object, Type::Loose(like @ Type::Struct(_)))
            | (Kind::Array, Type::Loose(like @ Type::Documents(..))) => self.value(like, context),
            (_, Type::Loose(_)) => self.scan.value().map(drop),
            (Kind::Array, Type::Any) => self.array(&Type::Any, context),
            (Kind::Object | Kind::Array, _) => {
                self.mismatch(kind.word(), ty, context);
                self.scan.value().map(drop)
            }
            _ => self.scalar(kind, ty, context),
        }
    }

    fn object(&mut self, table: Option<&'static Struct>, other: &Type, context: &Context<'_>) -> Result<(), Bad> {
        let keep = std::mem::take(&mut self.keep);
        let mut more = !self.scan.open(b'}')?;
        while more {
            let key = self.scan.key()?;
            let field = table.and_then(|table| table.find(self.scan.bytes(key)));
            self.scan.lead();
            let start = self.scan.at();
            match field {
                Some((name, ty)) => {
                    let path = Path { name, up: context.path.as_ref() };
                    self.value(ty, &Context { path: Some(path), ..*context })?;
                }
                None => self.value(other, context)?,
            }
            if keep {
                let value = self.written((start, self.scan.at()));
                self.document.add(field, self.written(key), value)?;
            }
            more = self.scan.more(b'}', "after object key:value pair")?;
        }
        Ok(())
    }

    fn array(&mut self, item: &Type, context: &Context<'_>) -> Result<(), Bad> {
        let mut more = !self.scan.open(b']')?;
        while more {
            self.value(item, context)?;
            more = self.scan.more(b']', "after array element")?;
        }
        Ok(())
    }

    fn documents(&mut self, item: &Type, context: &Context<'_>) -> Result<(), Bad> {
        let start = self.scan.at();
        let mut list = Vec::new();
        let mut more = !self.scan.open(b']')?;
        while more {
            list.push(self.document(item, context)?);
            more = self.scan.more(b']', "after array element")?;
        }
        self.document.list = (self.written((start, self.scan.at())), list);
        Ok(())
    }

    fn scalar(&mut self, kind: Kind, ty: &Type, context: &Context<'_>) -> Result<(), Bad> {
        let start = self.scan.at();
        self.scan.scalar(kind)?;
        match (kind, ty) {
            (Kind::Null, _) | (Kind::Bool, Type::Bool | Type::Any) => return Ok(()),
            (Kind::Text, Type::Prompt) => {
                self.prompt += self.scan.at() - start - 2;
                return Ok(());
            }
            _ => {}
        }
        let token = self.written((start, self.scan.at()));
        match (kind, ty) {
            (Kind::Text, Type::Base64) => {
                if let Err(text) = check_base64(&unquote(token)) {
                    self.fault(Bad::Text(text), context.own);
                }
            }
            (Kind::Number, Type::Int) if token.parse::<i64>().is_ok() => {}
            (Kind::Number, Type::Float32) if fits_float32(token) => {}
            (Kind::Number, Type::Float64 | Type::Any) if fits_float64(token) => {}
            (Kind::Number, Type::Int | Type::Float32 | Type::Float64) => {
                self.mismatch(&format!("number {token}"), ty, context);
            }
            (Kind::Number, Type::Any) => self.mismatch(&format!("number {token}"), &Type::Float64, context),
            _ => self.mismatch(kind.word(), ty, context),
        }
        Ok(())
    }

    /// A value whose Go type reads itself.
    fn own_scalar(&mut self, kind: Kind, ty: &Type, context: &Context<'_>) -> Result<(), Bad> {
        let start = self.scan.at();
        self.scan.value()?;
        let token = self.written((start, self.scan.at()));
        let read = match ty {
            _ if kind == Kind::Null => Ok(()),
            Type::Think => check_think(token).map_err(Bad::Text),
            Type::OurKeepAlive => keep_alive(token).map(drop).map_err(|why| {
                let remedy = "use seconds, or a text such as \"5m\"; a negative one is for ever";
                Bad::Field("keep_alive", format!("keep_alive: {why}: {remedy}"))
            }),
            _ if kind == Kind::Number && !fits_float64(token) => {
                Err(Bad::Text(unmarshal(&format!("number {token}"), &Type::Float64, context)))
            }
            _ => keep_alive(token).map(drop).map_err(Bad::Text),
        };
        if let Err(bad) = read {
            self.fault(bad, true);
        }
        Ok(())
    }

    fn mismatch(&mut self, what: &str, ty: &Type, context: &Context<'_>) {
        if self.bad.is_some() && !context.own {
            return;
        }
        // inside a decoder of its own Go sees a private copy of the type
        let text = unmarshal(what, ty, context);
        self.fault(Bad::Text(text), context.own || matches!(ty, Type::Own(_)));
    }

    fn fault(&mut self, bad: Bad, last: bool) {
        if last {
            self.end = true;
            self.bad = Some(bad);
        } else {
            self.bad.get_or_insert(bad);
        }
    }
}

fn unmarshal(what: &str, ty: &Type, context: &Context<'_>) -> String {
    let mut text = format!("json: cannot unmarshal {what} into Go ");
    match &context.path {
        Some(path) => {
            text.push_str("struct field ");
            text.push_str(context.owner.short);
            text.push('.');
            path.write(&mut text);
        }
        None => text.push_str("value"),
    }
    text.push_str(" of type ");
    text.push_str(ty.name());
    text
}

//! What was found in an object that was read against a table: the values of its fields, as written.
//!
//! Owns which of several values of one name counts; values are slices of the body. Reading is `schema`'s.

use std::borrow::Cow;

use super::scan::{Bad, Span};
use super::schema::{Field, Struct, Type, read_text};
use super::text::unquote;

/// Most members, duplicates included, taken in an object that is read against a table: each is remembered.
const MOST_MEMBERS: usize = 1024;

/// A member of the object, as byte ranges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) field: Option<&'static Field>,
    pub(super) key: Span,
    pub(super) value: Span,
}

/// What is found while an object is read.
#[derive(Debug, Default)]
pub(super) struct Inside<'a> {
    found: Vec<Entry>,
    /// The last list of documents: as written, and its elements.
    pub(super) list: (&'a str, Vec<Document<'a>>),
}

impl Inside<'_> {
    /// Adds a member.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn add(&mut self, entry: Entry) -> Result<(), Bad> {
        if self.found.len() >= MOST_MEMBERS {
            return Err(Bad::Text(format!("more than {MOST_MEMBERS} fields in one object")));
        }
        if self.found.is_empty() {
            self.found.reserve(8);
        }
        self.found.push(entry);
        Ok(())
    }
}

/// An object read against a table.
#[derive(Debug)]
pub(in crate::wire) struct Document<'a> {
    text: &'a str,
    /// Where in it the object stands.
    span: Span,
    found: Vec<Entry>,
    /// A bit for each name that is there: most names that are asked for are not.
    names: u64,
    /// Keys that are no field of the table, decoded, with their values; in order, with duplicates.
    pub(in crate::wire) unknown: Vec<(Cow<'a, str>, &'a str)>,
    /// The last list of documents: as written, and its elements.
    list: (&'a str, Vec<Document<'a>>),
    /// Bytes of the strings that become prompt tokens, of the outermost document.
    pub(in crate::wire) prompt_bytes: usize,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, span: Span, inside: Inside<'a>) -> Self {
        let Inside { found, list } = inside;
        let mut document = Self { text, span, found, names: 0, unknown: Vec::new(), list, prompt_bytes: 0 };
        for entry in &document.found {
            document.names |= match entry.field {
                Some((name, _)) => bit(name),
                None => {
                    let key = unquote(document.slice(entry.key));
                    let bit = bit(&key);
                    document.unknown.push((key, document.slice(entry.value)));
                    bit
                }
            };
        }
        document
    }

    /// Whether the object, whose table has every field of this one too but looks into none, fits this one.
    ///
    /// # Errors
    /// As [`read_text`].
    pub(in crate::wire) fn fits(&self, table: &'static Struct) -> Result<(), Bad> {
        let fits = |entry: &Entry| {
            let of = |(name, _): &&Field| entry.field.is_some_and(|(field, _)| field == name);
            match table.fields.iter().find(of) {
                Some((_, Type::Raw)) | None => true,
                Some((_, Type::Text)) => self.slice(entry.value).starts_with(['"', 'n']),
                _ => false,
            }
        };
        if self.written().starts_with('{') && self.found.iter().all(fits) {
            return Ok(());
        }
        read_text(self.written(), table).map(drop)
    }

    /// The documents that are the elements of this list, a member's value, if it was read as such.
    pub(in crate::wire) fn documents(&self, list: &str) -> Option<&[Self]> {
        std::ptr::eq(self.list.0, list).then_some(&*self.list.1)
    }

    /// The value that counts for a field: the last one; `null` is absent.
    #[inline]
    pub(in crate::wire) fn get(&self, name: &str) -> Option<&'a str> {
        if self.may_have(name) { self.last(name) } else { None }
    }

    /// Whether a member may be there, known to the table or not: no is certain.
    #[inline]
    pub(in crate::wire) fn may_have(&self, name: &str) -> bool {
        self.names & bit(name) != 0
    }

    fn last(&self, name: &str) -> Option<&'a str> {
        for entry in self.found.iter().rev() {
            let Some((_, ty)) = entry.field.filter(|(field, _)| *field == name) else { continue };
            let value = self.slice(entry.value);
            if value != "null" {
                return Some(value);
            }
            if ty.null_clears() {
                return None;
            }
        }
        None
    }

    /// Whether a string field is absent or holds no text.
    pub(in crate::wire) fn is_empty_text(&self, name: &str) -> bool {
        // no escape stands for nothing
        self.get(name).is_none_or(|token| token == "\"\"")
    }

    /// Every value of a field since the last `null`, for types that merge.
    pub(in crate::wire) fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let of_field = move |entry: &Entry| entry.field.is_some_and(|(field, _)| *field == name);
        let null = |entry: &Entry| {
            of_field(entry) && entry.field.is_some_and(|(_, ty)| ty.null_clears()) && self.slice(entry.value) == "null"
        };
        let found = if self.may_have(name) { &*self.found } else { &[] };
        let after = found.iter().rposition(null).map_or(0, |null| null + 1);
        let values = found.iter().skip(after).filter(move |entry| of_field(entry));
        values.map(|entry| self.slice(entry.value)).filter(|value| *value != "null")
    }

    fn slice(&self, (from, to): Span) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// Whether a field is there, be it `null`.
    pub(in crate::wire) fn has(&self, name: &str) -> bool {
        self.found.iter().any(|entry| entry.field.is_some_and(|(field, _)| *field == name))
    }

    /// The object as written.
    pub(in crate::wire) fn written(&self) -> &'a str {
        self.slice(self.span)
    }

    /// The decoded text of a string field; empty when absent.
    pub(in crate::wire) fn text(&self, name: &str) -> Cow<'a, str> {
        self.get(name).map_or(Cow::Borrowed(""), unquote)
    }

    /// Whether a bool field is true.
    pub(in crate::wire) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}

/// One of 64 bits for a name.
#[inline]
fn bit(name: &str) -> u64 {
    let ends = name.bytes().next().unwrap_or(0).wrapping_mul(3) ^ name.bytes().next_back().unwrap_or(0);
    1 << ((usize::from(ends) + 7 * name.len()) & 63)
}

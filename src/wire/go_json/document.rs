//! What was found in an object that was read against a table: the values of its fields, as written.
//!
//! Owns which of several values of one name counts; values are slices of the body. Reading is `schema`'s.

use std::borrow::Cow;

use super::scan::Bad;
use super::schema::{Field, Struct, Type, read_text};
use super::text::unquote;

/// Most members, duplicates included, taken in an object that is read against a table: each is remembered.
const MOST_MEMBERS: usize = 1024;

/// An object read against a table.
#[derive(Debug, Default)]
pub(in crate::wire) struct Document<'a> {
    /// The object as written.
    pub(in crate::wire) written: &'a str,
    /// Values of fields, as written.
    found: Vec<(&'static Field, &'a str)>,
    /// Keys that are no field of the table, decoded, with their values; in order, with duplicates.
    pub(in crate::wire) unknown: Vec<(Cow<'a, str>, &'a str)>,
    /// A bit for each name that is there: most names that are asked for are not.
    names: u64,
    /// The last list of documents: as written, and its elements.
    pub(super) list: (&'a str, Vec<Document<'a>>),
    /// Bytes of the strings that become prompt tokens, of the outermost document.
    pub(in crate::wire) prompt_bytes: usize,
}

impl<'a> Document<'a> {
    /// Adds a member, whose key is a token.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn add(&mut self, field: Option<&'static Field>, key: &'a str, value: &'a str) -> Result<(), Bad> {
        if self.found.len() + self.unknown.len() >= MOST_MEMBERS {
            return Err(Bad::Text(format!("more than {MOST_MEMBERS} fields in one object")));
        }
        if let Some(field) = field {
            self.names |= bit(field.0);
            if self.found.is_empty() {
                self.found.reserve(8);
            }
            self.found.push((field, value));
        } else {
            let key = unquote(key);
            self.names |= bit(&key);
            self.unknown.push((key, value));
        }
        Ok(())
    }

    /// Whether the object, whose table has every field of this one too but looks into none, fits this one.
    ///
    /// # Errors
    /// As [`read_text`].
    pub(in crate::wire) fn fits(&self, table: &'static Struct) -> Result<(), Bad> {
        let mut found = self.found.iter();
        let fits = found.all(|((name, _), value)| match table.fields.iter().find(|(field, _)| field == name) {
            Some((_, Type::Raw)) | None => true,
            Some((_, Type::Text)) => value.starts_with(['"', 'n']),
            _ => false,
        });
        if fits && self.written.starts_with('{') {
            return Ok(());
        }
        read_text(self.written, table).map(drop)
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
        for ((_, ty), value) in self.found.iter().rev().filter(|((field, _), _)| *field == name) {
            if *value != "null" {
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
        let found = if self.may_have(name) { &*self.found } else { &[] };
        let null = |((field, ty), value): &(&Field, &str)| *field == name && ty.null_clears() && *value == "null";
        let after = found.iter().rposition(null).map_or(0, |null| null + 1);
        let values = found.iter().skip(after).filter(move |((field, _), value)| *field == name && *value != "null");
        values.map(|(_, value)| *value)
    }

    /// Whether a field is there, be it `null`.
    pub(in crate::wire) fn has(&self, name: &str) -> bool {
        self.found.iter().any(|((field, _), _)| *field == name)
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
    1 << ((usize::from(name.bytes().next().unwrap_or(0)) + 7 * name.len()) & 63)
}

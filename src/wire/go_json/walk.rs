//! Walks over JSON that needs no table: an object's members, an array's elements, one whole value.
//!
//! One pass, no tree, nothing copied but escaped strings.

use std::borrow::Cow;

use super::scan::{Bad, Kind, Scanner};
use super::text::unquote;

/// Calls `each` with every member of the object `text` (decoded key, value as written), duplicates included.
///
/// # Errors
/// When `text` is not one whole JSON object.
pub(in crate::wire) fn members<'a>(text: &'a str, mut each: impl FnMut(Cow<'a, str>, &'a str)) -> Result<(), Bad> {
    let mut scan = Scanner::new(text.as_bytes());
    expect(&mut scan, Kind::Object)?;
    let mut more = !scan.open(b'}')?;
    while more {
        let key = scan.key()?;
        let value = value(&mut scan, text)?;
        each(unquote(text.get(key.0..key.1).unwrap_or_default()), value);
        more = scan.more(b'}', "after object key:value pair")?;
    }
    scan.end()
}

/// A long array in an object, as written, and its elements.
pub(in crate::wire) type List<'a> = (&'a [u8], Vec<&'a [u8]>);

/// As [`members`], of bytes that need not be text; the array in the field `name` is not among the members but given back
/// (the last one), and read once.
///
/// # Errors
/// As [`members`], and when `bytes` are no text.
pub(in crate::wire) fn members_and_list<'a>(
    bytes: &'a [u8],
    name: &str,
    mut each: impl FnMut(Cow<'a, str>, &'a str),
) -> Result<Option<List<'a>>, Bad> {
    let mut scan = Scanner::new(bytes);
    expect(&mut scan, Kind::Object)?;
    let mut list = None;
    let mut more = !scan.open(b'}')?;
    while more {
        let (from, to) = scan.key()?;
        let key = unquote(text(bytes.get(from..to).unwrap_or_default())?);
        let (kind, start) = (scan.kind()?, scan.at());
        if kind == Kind::Array && key == name {
            let mut elements = Vec::new();
            let mut more = !scan.open(b']')?;
            while more {
                elements.push(scan.value()?);
                more = scan.more(b']', "after array element")?;
            }
            list = Some((scan.since(start), elements));
        } else {
            each(key, text(scan.value()?)?);
        }
        more = scan.more(b'}', "after object key:value pair")?;
    }
    scan.end()?;
    if !scan.is_ascii() {
        text(bytes)?;
    }
    Ok(list)
}

fn text(bytes: &[u8]) -> Result<&str, Bad> {
    std::str::from_utf8(bytes).map_err(|e| Bad::Text(e.to_string()))
}

/// The value of a key of an object that Go reads into a map: exact, the last one counts. `None` for what is no object.
pub(in crate::wire) fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let mut found = None;
    members(object, |key, value| {
        if key == name {
            found = Some(value);
        }
    })
    .ok()?;
    found
}

/// Calls `each` with every element of the array `text`, as written.
///
/// # Errors
/// When `text` is not one whole JSON array.
pub(in crate::wire) fn elements<'a>(text: &'a str, mut each: impl FnMut(&'a str)) -> Result<(), Bad> {
    let mut scan = Scanner::new(text.as_bytes());
    expect(&mut scan, Kind::Array)?;
    let mut more = !scan.open(b']')?;
    while more {
        each(value(&mut scan, text)?);
        more = scan.more(b']', "after array element")?;
    }
    scan.end()
}

/// The one value `text` holds, if it is JSON and nothing but white space stands around it.
pub(in crate::wire) fn whole(text: &str) -> Option<&str> {
    checked(text).ok()
}

/// The same, with Go's words for what is wrong.
///
/// # Errors
/// When `text` is not one whole JSON value.
pub(in crate::wire) fn checked(text: &str) -> Result<&str, Bad> {
    let mut scan = Scanner::new(text.as_bytes());
    let value = value(&mut scan, text)?;
    scan.end()?;
    Ok(value)
}

fn expect(scan: &mut Scanner<'_>, kind: Kind) -> Result<(), Bad> {
    if scan.lead().is_none() {
        return Err(Bad::Empty);
    }
    let found = scan.kind()?;
    if found == kind {
        return Ok(());
    }
    Err(Bad::Text(format!("expected {}, found {}", kind.word(), found.word())))
}

/// The next value of `text`, which is what `scan` walks: a token starts and ends at ASCII, so it is a slice of it.
fn value<'a>(scan: &mut Scanner<'_>, text: &'a str) -> Result<&'a str, Bad> {
    scan.lead();
    let start = scan.at();
    scan.value()?;
    Ok(text.get(start..scan.at()).unwrap_or_default())
}

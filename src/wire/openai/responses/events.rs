//! One event of a stream: its name, its number and its members, in the form of server-sent events.

use super::json::{Member, Order, object};
use crate::wire::out::{number, push, string};

/// Appends an event and counts it; `members` are all but the number and the type.
pub(super) fn event(next: &mut u64, out: &mut Vec<u8>, name: &str, members: &[Member<'_>]) {
    let at = *next;
    *next += 1;
    let kind = |out: &mut Vec<u8>| string(out, name);
    let count = |out: &mut Vec<u8>| number(out, at);
    let mut all = Vec::with_capacity(members.len() + 2);
    all.extend_from_slice(members);
    all.extend([("type", &kind as &dyn Fn(&mut Vec<u8>)), ("sequence_number", &count)]);
    push(out, "event: ");
    push(out, name);
    push(out, "\ndata: ");
    object(out, Order::Sorted, &mut all);
    push(out, "\n\n");
}

/// What writes a text.
pub(super) fn text_of(text: &str) -> impl Fn(&mut Vec<u8>) {
    move |out| string(out, text)
}

/// What writes an index.
pub(super) fn number_of(index: usize) -> impl Fn(&mut Vec<u8>) {
    move |out| number(out, index as u64)
}

/// What writes a constant.
pub(super) fn raw_of(value: &'static str) -> impl Fn(&mut Vec<u8>) {
    move |out| push(out, value)
}

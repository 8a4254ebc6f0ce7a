//! The items of a reply's `output`: what was thought, said and called.
//!
//! Texts are kept once, escaped already: every later event and the whole reply repeat them as they are.

use super::events::raw_of;
use super::json::{Member, Order, object};
use crate::wire::out::{push, string};

/// An item; its place in the output is its index.
#[derive(Debug)]
pub(super) struct Item {
    /// `msg_…`, `rs_…` or `fc_…`.
    pub(super) id: String,
    /// `in_progress`, `completed` or `incomplete`.
    pub(super) status: &'static str,
    pub(super) kind: Kind,
}

/// What an item holds. Texts are escaped, without quotes.
#[derive(Debug)]
pub(super) enum Kind {
    Message(Vec<u8>),
    Thought(Vec<u8>),
    /// `call_id` and `name` are JSON strings.
    Call {
        call_id: String,
        name: String,
        arguments: Vec<u8>,
    },
}

impl Kind {
    /// How ids of such items start.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Message(_) => "msg",
            Self::Thought(_) => "rs",
            Self::Call { .. } => "fc",
        }
    }
}

impl Item {
    /// Appends the item; while it is in progress it is still empty.
    pub(super) fn write(&self, out: &mut Vec<u8>, order: Order) {
        let begun = self.status == "in_progress";
        let id = |out: &mut Vec<u8>| string(out, &self.id);
        let status = |out: &mut Vec<u8>| string(out, self.status);
        match &self.kind {
            Kind::Message(text) => {
                let content = |out: &mut Vec<u8>| list(out, begun, |out| part(out, order, text));
                let (kind, role) = (raw_of("\"message\""), raw_of("\"assistant\""));
                let mut members: [Member<'_>; 5] =
                    [("id", &id), ("type", &kind), ("status", &status), ("role", &role), ("content", &content)];
                object(out, order, &mut members);
            }
            Kind::Thought(text) => {
                let summary = |out: &mut Vec<u8>| list(out, begun, |out| summary(out, order, text));
                let encrypted = |out: &mut Vec<u8>| quoted(out, text);
                let kind = raw_of("\"reasoning\"");
                let mut members: [Member<'_>; 4] =
                    [("id", &id), ("type", &kind), ("summary", &summary), ("encrypted_content", &encrypted)];
                let said = if begun { 3 } else { 4 };
                object(out, order, members.split_at_mut(said).0);
            }
            Kind::Call { call_id, name, arguments } => {
                let kind = raw_of("\"function_call\"");
                let call_id = |out: &mut Vec<u8>| push(out, call_id);
                let name = |out: &mut Vec<u8>| push(out, name);
                let arguments = |out: &mut Vec<u8>| quoted(out, if begun { b"" } else { arguments });
                let mut members: [Member<'_>; 6] = [
                    ("id", &id),
                    ("type", &kind),
                    ("status", &status),
                    ("call_id", &call_id),
                    ("name", &name),
                    ("arguments", &arguments),
                ];
                object(out, order, &mut members);
            }
        }
    }
}

/// Appends a text part of a message.
pub(super) fn part(out: &mut Vec<u8>, order: Order, text: &[u8]) {
    let kind = raw_of("\"output_text\"");
    let text = |out: &mut Vec<u8>| quoted(out, text);
    let empty = raw_of("[]");
    object(out, order, &mut [("type", &kind), ("text", &text), ("annotations", &empty), ("logprobs", &empty)]);
}

/// Appends a part of what was thought.
pub(super) fn summary(out: &mut Vec<u8>, order: Order, text: &[u8]) {
    let kind = raw_of("\"summary_text\"");
    let text = |out: &mut Vec<u8>| quoted(out, text);
    object(out, order, &mut [("type", &kind), ("text", &text)]);
}

/// Appends a text that is escaped already.
pub(super) fn quoted(out: &mut Vec<u8>, escaped: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(escaped);
    out.push(b'"');
}

/// Appends `text` to `kept`, escaped, and gives what was appended.
pub(super) fn escape<'a>(kept: &'a mut Vec<u8>, text: &str) -> &'a [u8] {
    let from = kept.len();
    string(kept, text);
    // without the quotes
    kept.pop();
    if from < kept.len() {
        kept.remove(from);
    }
    kept.get(from..).unwrap_or_default()
}

/// Appends items as a list.
pub(super) fn output(out: &mut Vec<u8>, order: Order, items: &[Item]) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        item.write(out, order);
    }
    out.push(b']');
}

fn list(out: &mut Vec<u8>, empty: bool, element: impl Fn(&mut Vec<u8>)) {
    out.push(b'[');
    if !empty {
        element(out);
    }
    out.push(b']');
}

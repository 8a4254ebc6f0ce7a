//! The tool calls of a native answer, for dialects that write them in another form.

use crate::domain::Piece;
use crate::wire::go_json::{elements, members};
use crate::wire::out::filled;

/// One call; every part is JSON as upstream wrote it.
#[derive(Debug)]
pub(in crate::wire) struct ToolCall<'a> {
    /// A string, empty where upstream gave none.
    pub(in crate::wire) id: &'a str,
    /// A number.
    pub(in crate::wire) index: &'a str,
    /// A string.
    pub(in crate::wire) name: &'a str,
    /// An object.
    pub(in crate::wire) arguments: &'a str,
}

impl<'a> ToolCall<'a> {
    fn read(call: &'a str) -> Self {
        let mut read = Self { id: "\"\"", index: "0", name: "\"\"", arguments: "{}" };
        let mut function = "{}";
        // cannot fail, here and below: all of it was scanned when the event was
        let _ = members(call, |key, value| match &*key {
            "id" => read.id = value,
            "function" => function = value,
            _ => {}
        });
        let _ = members(function, |key, value| match &*key {
            "index" => read.index = value,
            "name" => read.name = value,
            "arguments" => read.arguments = value,
            _ => {}
        });
        read
    }
}

/// The calls of a piece, in their order.
pub(in crate::wire) fn tool_calls(piece: &Piece) -> Vec<ToolCall<'_>> {
    let mut calls = Vec::new();
    if let Some(list) = filled(piece.tool_calls.as_ref()) {
        let _ = elements(list.get(), |call| calls.push(ToolCall::read(call)));
    }
    calls
}

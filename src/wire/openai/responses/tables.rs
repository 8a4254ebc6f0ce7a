//! Ollama's structs of `/v1/responses`, plus the fields only this gateway honours or refuses.

use crate::wire::go_json::{Struct, Type};

/// `reasoning`.
pub(super) static REASONING: Struct = Struct {
    full: "openai.ResponsesReasoning",
    short: "ResponsesReasoning",
    fields: &[("effort", Type::Text), ("generate_summary", Type::Text), ("summary", Type::Text)],
};

/// `text.format`.
pub(super) static TEXT_FORMAT: Struct = Struct {
    full: "openai.ResponsesTextFormat",
    short: "ResponsesTextFormat",
    fields: &[("type", Type::Text), ("name", Type::Text), ("schema", Type::Raw), ("strict", Type::Bool)],
};

/// `text`.
pub(super) static TEXT: Struct =
    Struct { full: "openai.ResponsesText", short: "ResponsesText", fields: &[("format", Type::Struct(&TEXT_FORMAT))] };

/// A tool; one of type `namespace` holds tools.
pub(super) static TOOL: Struct = Struct {
    full: "openai.ResponsesTool",
    short: "ResponsesTool",
    fields: &[
        ("type", Type::Text),
        ("name", Type::Text),
        ("description", Type::Text),
        ("strict", Type::Bool),
        ("parameters", Type::Map),
        ("tools", Type::List("[]openai.ResponsesTool", &Type::Struct(&TOOL))),
    ],
};

/// The whole request; from `previous_response_id` on Ollama does not know the fields.
pub(in crate::wire::openai) static RESPONSES: Struct = Struct {
    full: "openai.ResponsesRequest",
    short: "ResponsesRequest",
    fields: &[
        ("model", Type::Text),
        ("background", Type::Bool),
        ("conversation", Type::Raw),
        ("include", Type::List("[]string", &Type::Text)),
        // a type with a decoder of its own: read in `input`
        ("input", ITEMS),
        ("instructions", Type::Text),
        ("max_output_tokens", Type::Int),
        ("reasoning", Type::Struct(&REASONING)),
        ("temperature", Type::Float64),
        ("text", Type::Struct(&TEXT)),
        ("top_p", Type::Float64),
        ("truncation", Type::Text),
        ("tools", Type::List("[]openai.ResponsesTool", &Type::Struct(&TOOL))),
        ("stream", Type::Bool),
        ("previous_response_id", Type::Any),
        ("prompt", Type::Any),
        ("context_management", Type::Any),
        ("stream_options", Type::Any),
        ("top_logprobs", Type::Int),
        ("tool_choice", Type::Any),
        ("parallel_tool_calls", Type::Bool),
        ("metadata", Type::Map),
        ("options", Type::Map),
        ("keep_alive", Type::OurKeepAlive),
        ("truncate", Type::Bool),
    ],
};

/// The request as far as its `input` goes.
pub(super) static INPUT: Struct = Struct { full: RESPONSES.full, short: RESPONSES.short, fields: &[("input", ITEMS)] };

/// Items, whatever they are: which table they must fit is told by their type.
pub(super) const ITEMS: Type = Type::Loose(&Type::Documents("", &Type::Loose(&Type::Struct(&ANY_ITEM))));

/// Parts, likewise.
pub(super) const PARTS: Type = Type::Loose(&Type::Documents("", &Type::Loose(&Type::Struct(&ANY_PART))));

const TEXT_OR_NOT: Type = Type::Loose(&Type::Text);

/// The fields of all items.
static ANY_ITEM: Struct = Struct {
    full: "",
    short: "",
    fields: &[
        ("type", TEXT_OR_NOT),
        ("role", TEXT_OR_NOT),
        ("content", PARTS),
        ("call_id", TEXT_OR_NOT),
        ("name", TEXT_OR_NOT),
        ("arguments", TEXT_OR_NOT),
        ("output", PARTS),
        ("id", TEXT_OR_NOT),
        ("status", TEXT_OR_NOT),
        ("action", Type::Raw),
        ("summary", Type::Raw),
        ("encrypted_content", TEXT_OR_NOT),
    ],
};

/// The fields of all parts.
static ANY_PART: Struct = Struct {
    full: "",
    short: "",
    fields: &[
        ("type", TEXT_OR_NOT),
        ("text", TEXT_OR_NOT),
        ("detail", TEXT_OR_NOT),
        ("image_url", TEXT_OR_NOT),
        ("file_id", TEXT_OR_NOT),
        ("file_data", TEXT_OR_NOT),
        ("file_url", TEXT_OR_NOT),
        ("filename", TEXT_OR_NOT),
    ],
};

/// What an input item is, read first, with the content that it has if it is a message.
pub(super) static ITEM: Struct = Struct {
    full: "struct { Type string \"json:\\\"type\\\"\"; Role string \"json:\\\"role\\\"\" }",
    short: "",
    fields: &[("type", Type::Text), ("role", Type::Text), ("content", Type::Raw)],
};

/// A call the model made.
pub(super) static CALL: Struct = Struct {
    full: "openai.ResponsesFunctionCall",
    short: "ResponsesFunctionCall",
    fields: &[
        ("id", Type::Text),
        ("type", Type::Text),
        ("call_id", Type::Text),
        ("name", Type::Text),
        ("arguments", Type::Text),
    ],
};

/// What a call gave.
pub(super) static OUTPUT: Struct = Struct {
    full: "struct { Type string \"json:\\\"type\\\"\"; CallID string \"json:\\\"call_id\\\"\"; \
           Output json.RawMessage \"json:\\\"output\\\"\" }",
    short: "",
    fields: &[("type", Type::Text), ("call_id", Type::Text), ("output", Type::Raw)],
};

static SUMMARY: Struct = Struct {
    full: "openai.ResponsesReasoningSummary",
    short: "ResponsesReasoningSummary",
    fields: &[("type", Type::Text), ("text", Type::Text)],
};

/// Thinking of an earlier answer.
pub(super) static THOUGHT: Struct = Struct {
    full: "openai.ResponsesReasoningInput",
    short: "ResponsesReasoningInput",
    fields: &[
        ("id", Type::Text),
        ("type", Type::Text),
        ("summary", Type::List("[]openai.ResponsesReasoningSummary", &Type::Struct(&SUMMARY))),
        ("encrypted_content", Type::Text),
    ],
};

static ACTION: Struct = Struct {
    full: "openai.ResponsesWebSearchAction",
    short: "ResponsesWebSearchAction",
    fields: &[("type", Type::Text), ("query", Type::Text)],
};

/// A search that another server made for an earlier answer.
pub(super) static SEARCH: Struct = Struct {
    full: "openai.ResponsesWebSearchCall",
    short: "ResponsesWebSearchCall",
    fields: &[("id", Type::Text), ("type", Type::Text), ("status", Type::Text), ("action", Type::Struct(&ACTION))],
};

/// What a content part is, read first.
pub(super) static PART: Struct =
    Struct { full: "struct { Type string \"json:\\\"type\\\"\" }", short: "", fields: &[("type", Type::Text)] };

/// Text of a caller.
pub(super) static INPUT_TEXT: Struct = Struct {
    full: "openai.ResponsesTextContent",
    short: "ResponsesTextContent",
    fields: &[("type", Type::Text), ("text", Type::Text)],
};

/// Text of an earlier answer.
pub(super) static OUTPUT_TEXT: Struct = Struct {
    full: "openai.ResponsesOutputTextContent",
    short: "ResponsesOutputTextContent",
    fields: &[("type", Type::Text), ("text", Type::Text)],
};

/// An image.
pub(super) static IMAGE: Struct = Struct {
    full: "openai.ResponsesImageContent",
    short: "ResponsesImageContent",
    fields: &[("type", Type::Text), ("detail", Type::Text), ("file_id", Type::Text), ("image_url", Type::Text)],
};

/// A file.
pub(super) static FILE: Struct = Struct {
    full: "openai.ResponsesFileContent",
    short: "ResponsesFileContent",
    fields: &[
        ("type", Type::Text),
        ("file_data", Type::Text),
        ("file_id", Type::Text),
        ("file_url", Type::Text),
        ("filename", Type::Text),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_of_any_item_is_all_that_one_can_have() {
        let of_items = [&ITEM, &CALL, &OUTPUT, &THOUGHT, &SEARCH].map(|table| (table, &ANY_ITEM));
        let of_parts = [&PART, &INPUT_TEXT, &OUTPUT_TEXT, &IMAGE, &FILE].map(|table| (table, &ANY_PART));
        for (table, any) in of_items.into_iter().chain(of_parts) {
            for (name, _) in table.fields {
                assert!(any.fields.iter().any(|(field, _)| field == name), "{name} of {}", table.full);
            }
        }
    }
}

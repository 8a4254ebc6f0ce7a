//! Anthropic's request structs as Ollama declares them, plus the fields only this gateway honours or refuses.

use crate::wire::go_json::{Struct, Type};

const STRINGS: Type = Type::List("[]string", &Type::Text);

/// The `source` of an image.
pub(super) static SOURCE: Struct = Struct {
    full: "anthropic.ImageSource",
    short: "ImageSource",
    fields: &[("type", Type::Text), ("media_type", Type::Text), ("data", Type::Text), ("url", Type::Text)],
};

static CITATION: Struct = Struct {
    full: "anthropic.Citation",
    short: "Citation",
    fields: &[
        ("type", Type::Text),
        ("url", Type::Text),
        ("title", Type::Text),
        ("encrypted_index", Type::Text),
        ("cited_text", Type::Text),
    ],
};

/// A content block.
pub(super) static BLOCK: Struct = Struct {
    full: "anthropic.ContentBlock",
    short: "ContentBlock",
    fields: &[
        ("type", Type::Text),
        ("text", Type::TextPointer),
        ("citations", Type::List("[]anthropic.Citation", &Type::Struct(&CITATION))),
        ("source", Type::Struct(&SOURCE)),
        ("id", Type::Text),
        ("name", Type::Text),
        ("input", Type::Any),
        ("tool_use_id", Type::Text),
        ("content", Type::Any),
        ("is_error", Type::Bool),
        ("thinking", Type::TextPointer),
        ("signature", Type::Text),
    ],
};

const BLOCKS: Type = Type::Documents("[]anthropic.ContentBlock", &Type::Struct(&BLOCK));

/// Ollama decodes a message by hand, into a struct without a name.
const BY_HAND: &str = "struct { Role string \"json:\\\"role\\\"\"; Content json.RawMessage \"json:\\\"content\\\"\" }";

static MESSAGE_PARAM: Struct =
    Struct { full: BY_HAND, short: "", fields: &[("role", Type::Text), ("content", Type::TextOr(&BLOCKS))] };

/// A tool.
pub(super) static TOOL: Struct = Struct {
    full: "anthropic.Tool",
    short: "Tool",
    fields: &[
        ("type", Type::Text),
        ("name", Type::Text),
        ("description", Type::Text),
        ("input_schema", Type::Raw),
        ("max_uses", Type::Int),
    ],
};

/// `tool_choice`.
pub(super) static TOOL_CHOICE: Struct = Struct {
    full: "anthropic.ToolChoice",
    short: "ToolChoice",
    fields: &[("type", Type::Text), ("name", Type::Text), ("disable_parallel_tool_use", Type::Bool)],
};

/// `thinking`.
pub(super) static THINKING: Struct = Struct {
    full: "anthropic.ThinkingConfig",
    short: "ThinkingConfig",
    fields: &[("type", Type::Text), ("budget_tokens", Type::Int)],
};

static METADATA: Struct = Struct { full: "anthropic.Metadata", short: "Metadata", fields: &[("user_id", Type::Text)] };

/// `output_config`; Ollama does not know its `format`.
pub(super) static OUTPUT_CONFIG: Struct = Struct {
    full: "anthropic.OutputConfig",
    short: "OutputConfig",
    fields: &[("effort", Type::Text), ("format", Type::Raw)],
};

/// `output_config.format`, and `output_format` of the same form.
pub(super) static FORMAT: Struct = Struct {
    full: "anthropic.OutputFormat",
    short: "OutputFormat",
    fields: &[("type", Type::Text), ("schema", Type::Raw)],
};

/// `/v1/messages`; from `output_format` on Ollama does not know the fields.
pub(super) static MESSAGES: Struct = Struct {
    full: "anthropic.MessagesRequest",
    short: "MessagesRequest",
    fields: &[
        ("model", Type::Text),
        ("max_tokens", Type::Int),
        ("messages", Type::Documents("[]anthropic.MessageParam", &Type::Own(&MESSAGE_PARAM))),
        ("system", Type::Any),
        ("stream", Type::Bool),
        ("temperature", Type::Float64),
        ("top_p", Type::Float64),
        ("top_k", Type::Int),
        ("stop_sequences", STRINGS),
        ("tools", Type::List("[]anthropic.Tool", &Type::Struct(&TOOL))),
        ("tool_choice", Type::Struct(&TOOL_CHOICE)),
        ("thinking", Type::Struct(&THINKING)),
        ("metadata", Type::Struct(&METADATA)),
        ("output_config", Type::Struct(&OUTPUT_CONFIG)),
        ("output_format", Type::Raw),
        ("options", Type::Map),
        ("keep_alive", Type::OurKeepAlive),
        ("truncate", Type::Bool),
    ],
};

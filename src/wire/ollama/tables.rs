//! Ollama's request structs as tables: JSON names, Go types and Go names, for reading and for error texts.
//!
//! Field order is Ollama's and becomes the order in which fields go upstream.

use crate::domain::Surface;
use crate::wire::go_json::{Field, Struct, Type};

const STRINGS: Type = Type::List("[]string", &Type::Text);
const IMAGES: Type = Type::List("[]api.ImageData", &Type::Base64);

static TOOL_CALL_FUNCTION: Struct = Struct {
    full: "api.ToolCallFunction",
    short: "ToolCallFunction",
    fields: &[("index", Type::Int), ("name", Type::Text), ("arguments", Type::Raw)],
};

static TOOL_CALL: Struct = Struct {
    full: "api.ToolCall",
    short: "ToolCall",
    fields: &[("id", Type::Text), ("function", Type::Struct(&TOOL_CALL_FUNCTION))],
};

static MESSAGE: Struct = Struct {
    full: "api.Alias",
    short: "Alias",
    fields: &[
        ("role", Type::Text),
        ("content", Type::Prompt),
        ("thinking", Type::Prompt),
        ("images", IMAGES),
        ("tool_calls", Type::List("[]api.ToolCall", &Type::Struct(&TOOL_CALL))),
        ("tool_name", Type::Text),
        ("tool_call_id", Type::Text),
    ],
};

static PROPERTY: Struct = Struct {
    full: "api.ToolProperty",
    short: "ToolProperty",
    fields: &[
        ("anyOf", Type::List("[]api.ToolProperty", &Type::Struct(&PROPERTY))),
        ("type", Type::StringOrList(&STRINGS)),
        ("items", Type::Any),
        ("description", Type::Text),
        ("enum", Type::List("[]interface {}", &Type::Any)),
        ("properties", Type::Ordered(&Type::Struct(&PROPERTY))),
        ("required", STRINGS),
    ],
};

/// The parameters of a tool of any dialect.
pub(in crate::wire) static PARAMETERS: Struct = Struct {
    full: "api.ToolFunctionParameters",
    short: "ToolFunctionParameters",
    fields: &[
        ("type", Type::Text),
        ("$defs", Type::Any),
        ("items", Type::Any),
        ("required", STRINGS),
        ("properties", Type::Ordered(&Type::Struct(&PROPERTY))),
    ],
};

static TOOL_FUNCTION: Struct = Struct {
    full: "api.ToolFunction",
    short: "ToolFunction",
    fields: &[("name", Type::Text), ("description", Type::Text), ("parameters", Type::Struct(&PARAMETERS))],
};

static TOOL: Struct = Struct {
    full: "api.Tool",
    short: "Tool",
    fields: &[("type", Type::Text), ("items", Type::Any), ("function", Type::Struct(&TOOL_FUNCTION))],
};

/// A tool of any dialect.
pub(in crate::wire) static TOOLS: Type = Type::Struct(&TOOL);

const OPTIONS: Field = ("options", Type::Map);
const KEEP_ALIVE: Field = ("keep_alive", Type::KeepAlive);
const DEBUG: Field = ("_debug_render_only", Type::Bool);

static CHAT: Struct = Struct {
    full: "api.ChatRequest",
    short: "ChatRequest",
    fields: &[
        ("model", Type::Text),
        ("messages", Type::List("[]api.Message", &Type::Own(&MESSAGE))),
        ("stream", Type::Bool),
        ("format", Type::Raw),
        KEEP_ALIVE,
        ("tools", Type::List("api.Tools", &TOOLS)),
        OPTIONS,
        ("think", Type::Think),
        ("truncate", Type::Bool),
        ("shift", Type::Bool),
        DEBUG,
        ("logprobs", Type::Bool),
        ("top_logprobs", Type::Int),
    ],
};

static GENERATE: Struct = Struct {
    full: "api.GenerateRequest",
    short: "GenerateRequest",
    fields: &[
        ("model", Type::Text),
        ("prompt", Type::Prompt),
        ("suffix", Type::Prompt),
        ("system", Type::Prompt),
        ("template", Type::Prompt),
        ("context", Type::List("[]int", &Type::Int)),
        ("stream", Type::Bool),
        ("raw", Type::Bool),
        ("format", Type::Raw),
        KEEP_ALIVE,
        ("images", IMAGES),
        OPTIONS,
        ("think", Type::Think),
        ("truncate", Type::Bool),
        ("shift", Type::Bool),
        DEBUG,
        ("logprobs", Type::Bool),
        ("top_logprobs", Type::Int),
    ],
};

// `stream` and `shift` are no fields of the two below: they are known here so that none goes upstream
static EMBED: Struct = Struct {
    full: "api.EmbedRequest",
    short: "EmbedRequest",
    fields: &[
        ("model", Type::Text),
        ("input", Type::Any),
        KEEP_ALIVE,
        ("truncate", Type::Bool),
        ("dimensions", Type::Int),
        OPTIONS,
        ("stream", Type::Raw),
        ("shift", Type::Raw),
    ],
};

static EMBEDDINGS: Struct = Struct {
    full: "api.EmbeddingRequest",
    short: "EmbeddingRequest",
    fields: &[
        ("model", Type::Text),
        ("prompt", Type::Prompt),
        KEEP_ALIVE,
        OPTIONS,
        ("stream", Type::Raw),
        ("shift", Type::Raw),
    ],
};

/// `/api/show`.
pub(super) static SHOW: Struct = Struct {
    full: "api.ShowRequest",
    short: "ShowRequest",
    fields: &[
        ("model", Type::Text),
        ("system", Type::Text),
        ("template", Type::Text),
        ("verbose", Type::Bool),
        OPTIONS,
        ("name", Type::Text),
    ],
};

/// The table of a native surface; other surfaces get that of the native call that serves them.
pub(super) fn of(surface: Surface) -> &'static Struct {
    match surface {
        Surface::Chat | Surface::V1Chat | Surface::V1Messages | Surface::V1Responses => &CHAT,
        Surface::Generate | Surface::V1Completions => &GENERATE,
        Surface::Embed | Surface::V1Embeddings => &EMBED,
        Surface::Embeddings => &EMBEDDINGS,
    }
}

//! OpenAI's request structs as Ollama declares them, plus the fields only this gateway honours or refuses.

use crate::wire::go_json::{Struct, Type};
use crate::wire::ollama::TOOLS;

static FUNCTION: Struct = Struct {
    full: "struct { Name string \"json:\\\"name\\\"\"; Arguments string \"json:\\\"arguments\\\"\" }",
    short: "",
    fields: &[("name", Type::Text), ("arguments", Type::Text)],
};

/// A tool call in a message.
pub(super) static TOOL_CALL: Struct = Struct {
    full: "openai.ToolCall",
    short: "ToolCall",
    fields: &[("id", Type::Text), ("index", Type::Int), ("type", Type::Text), ("function", Type::Struct(&FUNCTION))],
};

/// The function of a tool call, read again when it is converted.
pub(super) static CALLED: &Struct = &FUNCTION;

/// A message.
static MESSAGE: Struct = Struct {
    full: "openai.Message",
    short: "Message",
    fields: &[
        ("role", Type::Text),
        ("content", Type::Any),
        ("reasoning", Type::Text),
        ("tool_calls", Type::List("[]openai.ToolCall", &Type::Struct(&TOOL_CALL))),
        ("name", Type::Text),
        ("tool_call_id", Type::Text),
    ],
};

/// `stream_options`.
pub(super) static STREAM_OPTIONS: Struct =
    Struct { full: "openai.StreamOptions", short: "StreamOptions", fields: &[("include_usage", Type::Bool)] };

/// `response_format.json_schema`.
pub(super) static JSON_SCHEMA: Struct =
    Struct { full: "openai.JsonSchema", short: "JsonSchema", fields: &[("schema", Type::Raw)] };

/// `response_format`.
pub(super) static RESPONSE_FORMAT: Struct = Struct {
    full: "openai.ResponseFormat",
    short: "ResponseFormat",
    fields: &[("type", Type::Text), ("json_schema", Type::Struct(&JSON_SCHEMA))],
};

/// `reasoning`.
pub(super) static REASONING: Struct =
    Struct { full: "openai.Reasoning", short: "Reasoning", fields: &[("effort", Type::Text)] };

/// `/v1/chat/completions`; from `max_completion_tokens` on Ollama does not know the fields.
pub(super) static CHAT: Struct = Struct {
    full: "openai.ChatCompletionRequest",
    short: "ChatCompletionRequest",
    fields: &[
        ("model", Type::Text),
        ("messages", Type::Documents("[]openai.Message", &Type::Struct(&MESSAGE))),
        ("stream", Type::Bool),
        ("stream_options", Type::Struct(&STREAM_OPTIONS)),
        ("max_tokens", Type::Int),
        ("seed", Type::Int),
        ("stop", Type::Any),
        ("temperature", Type::Float64),
        ("frequency_penalty", Type::Float64),
        ("presence_penalty", Type::Float64),
        ("top_p", Type::Float64),
        ("response_format", Type::Struct(&RESPONSE_FORMAT)),
        ("tools", Type::List("[]api.Tool", &TOOLS)),
        ("reasoning", Type::Struct(&REASONING)),
        ("reasoning_effort", Type::Text),
        ("logprobs", Type::Bool),
        ("top_logprobs", Type::Int),
        ("_debug_render_only", Type::Bool),
        ("max_completion_tokens", Type::Int),
        ("n", Type::Int),
        ("tool_choice", Type::Any),
        ("parallel_tool_calls", Type::Bool),
        ("options", Type::Map),
        ("keep_alive", Type::OurKeepAlive),
        ("truncate", Type::Bool),
    ],
};

/// `/v1/completions`; from `n` on Ollama does not know the fields.
pub(super) static COMPLETION: Struct = Struct {
    full: "openai.CompletionRequest",
    short: "CompletionRequest",
    fields: &[
        ("model", Type::Text),
        ("prompt", Type::Prompt),
        ("frequency_penalty", Type::Float32),
        ("max_tokens", Type::Int),
        ("presence_penalty", Type::Float32),
        ("seed", Type::Int),
        ("stop", Type::Any),
        ("stream", Type::Bool),
        ("stream_options", Type::Struct(&STREAM_OPTIONS)),
        ("temperature", Type::Float32),
        ("top_p", Type::Float32),
        ("suffix", Type::Prompt),
        ("logprobs", Type::Int),
        ("_debug_render_only", Type::Bool),
        ("n", Type::Int),
        ("options", Type::Map),
        ("keep_alive", Type::OurKeepAlive),
        ("truncate", Type::Bool),
    ],
};

/// `/v1/embeddings`.
pub(super) static EMBEDDINGS: Struct = Struct {
    full: "openai.EmbedRequest",
    short: "EmbedRequest",
    fields: &[
        ("input", Type::Any),
        ("model", Type::Text),
        ("dimensions", Type::Int),
        ("encoding_format", Type::Text),
        ("options", Type::Map),
        ("keep_alive", Type::OurKeepAlive),
        ("truncate", Type::Bool),
    ],
};

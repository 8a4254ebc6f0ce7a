//! What Ollama reads of a request: the Go types of its bodies and their plain Rust form.
//!
//! Owns the fields and their names; Go's way of reading them is `go`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::go::{Kind, decode};

const IMAGES: Kind = Kind::List(&Kind::Image, "[]api.ImageData");

const TOOL_CALLS: Kind = Kind::List(
    &Kind::Struct(
        "ToolCall",
        &[
            ("id", Kind::Text),
            (
                "function",
                Kind::Struct(
                    "ToolCallFunction",
                    &[("index", Kind::Int), ("name", Kind::Text), ("arguments", Kind::Any)],
                ),
            ),
        ],
    ),
    "[]api.ToolCall",
);

const MESSAGES: Kind = Kind::List(
    &Kind::Aliased(&[
        ("role", Kind::Text),
        ("content", Kind::Text),
        ("thinking", Kind::Text),
        ("images", IMAGES),
        ("tool_calls", TOOL_CALLS),
        ("tool_name", Kind::Text),
        ("tool_call_id", Kind::Text),
    ]),
    "[]api.Message",
);

const TOOLS: Kind = Kind::List(
    &Kind::Struct(
        "Tool",
        &[
            ("type", Kind::Text),
            ("items", Kind::Any),
            (
                "function",
                Kind::Struct(
                    "ToolFunction",
                    &[("name", Kind::Text), ("description", Kind::Text), ("parameters", Kind::Any)],
                ),
            ),
        ],
    ),
    "api.Tools",
);

const CHAT: Kind = Kind::Struct(
    "ChatRequest",
    &[
        ("model", Kind::Text),
        ("messages", MESSAGES),
        ("stream", Kind::Bool),
        ("format", Kind::Any),
        ("keep_alive", Kind::KeepAlive),
        ("tools", TOOLS),
        ("options", Kind::Map),
        ("think", Kind::Think),
        ("_debug_render_only", Kind::Bool),
        ("truncate", Kind::Bool),
        ("shift", Kind::Bool),
        ("logprobs", Kind::Bool),
        ("top_logprobs", Kind::Int),
    ],
);

const GENERATE: Kind = Kind::Struct(
    "GenerateRequest",
    &[
        ("model", Kind::Text),
        ("prompt", Kind::Text),
        ("suffix", Kind::Text),
        ("system", Kind::Text),
        ("template", Kind::Text),
        ("context", Kind::List(&Kind::Int, "[]int")),
        ("stream", Kind::Bool),
        ("raw", Kind::Bool),
        ("format", Kind::Any),
        ("keep_alive", Kind::KeepAlive),
        ("images", IMAGES),
        ("options", Kind::Map),
        ("think", Kind::Think),
        ("_debug_render_only", Kind::Bool),
        ("truncate", Kind::Bool),
        ("shift", Kind::Bool),
        ("logprobs", Kind::Bool),
        ("top_logprobs", Kind::Int),
    ],
);

const EMBED: Kind = Kind::Struct(
    "EmbedRequest",
    &[
        ("model", Kind::Text),
        ("input", Kind::Any),
        ("keep_alive", Kind::KeepAlive),
        ("truncate", Kind::Bool),
        ("dimensions", Kind::Int),
        ("options", Kind::Map),
    ],
);

const EMBEDDINGS: Kind = Kind::Struct(
    "EmbeddingRequest",
    &[("model", Kind::Text), ("prompt", Kind::Text), ("keep_alive", Kind::KeepAlive), ("options", Kind::Map)],
);

const SHOW: Kind = Kind::Struct(
    "ShowRequest",
    &[
        ("model", Kind::Text),
        ("system", Kind::Text),
        ("template", Kind::Text),
        ("verbose", Kind::Bool),
        ("options", Kind::Map),
        ("name", Kind::Text),
    ],
);

const COPY: Kind = Kind::Struct("CopyRequest", &[("source", Kind::Text), ("destination", Kind::Text)]);

const DELETE: Kind = Kind::Struct("DeleteRequest", &[("model", Kind::Text), ("name", Kind::Text)]);

/// A body that can be read.
pub(super) trait Body: DeserializeOwned {
    /// Its Go type.
    const KIND: &'static Kind;

    /// Reads a body.
    ///
    /// # Errors
    /// The text of Ollama's 400.
    fn read(body: &[u8]) -> Result<Self, String> {
        serde_json::from_value(decode(body, Self::KIND)?).map_err(|error| error.to_string())
    }
}

/// `POST /api/chat` and `POST /api/generate`, whose fields are one superset.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Inference {
    pub(super) model: String,
    pub(super) messages: Vec<Message>,
    pub(super) prompt: String,
    pub(super) suffix: String,
    pub(super) system: String,
    pub(super) template: String,
    pub(super) context: Vec<i64>,
    pub(super) raw: bool,
    pub(super) images: Vec<String>,
    pub(super) stream: Option<bool>,
    pub(super) format: Value,
    pub(super) keep_alive: Option<i64>,
    pub(super) tools: Vec<Tool>,
    pub(super) options: Map<String, Value>,
    pub(super) think: Option<Value>,
    #[serde(rename = "_debug_render_only")]
    pub(super) debug_render_only: bool,
    pub(super) truncate: Option<bool>,
    pub(super) shift: Option<bool>,
    pub(super) logprobs: bool,
    pub(super) top_logprobs: i64,
}

/// One chat message.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message {
    pub(super) role: String,
    pub(super) content: String,
    pub(super) images: Vec<String>,
    pub(super) tool_calls: Vec<Value>,
}

/// A tool the model may call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tool {
    pub(super) function: ToolFunction,
}

/// What the tool is called and takes.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolFunction {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) parameters: Value,
}

/// `POST /api/chat`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Chat(pub(super) Inference);

/// `POST /api/generate`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Generate(pub(super) Inference);

/// `POST /api/embed`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Embed {
    pub(super) model: String,
    pub(super) input: Value,
    pub(super) keep_alive: Option<i64>,
    pub(super) truncate: Option<bool>,
    pub(super) dimensions: i64,
    pub(super) options: Map<String, Value>,
}

/// `POST /api/embeddings`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Embeddings {
    pub(super) model: String,
    pub(super) prompt: String,
    pub(super) keep_alive: Option<i64>,
    pub(super) options: Map<String, Value>,
}

/// `POST /api/show`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Show {
    pub(super) model: String,
    pub(super) name: String,
    pub(super) verbose: bool,
    pub(super) system: String,
    pub(super) template: String,
}

/// `POST /api/copy`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Copy {
    pub(super) source: String,
    pub(super) destination: String,
}

/// `DELETE /api/delete`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delete {
    pub(super) model: String,
    pub(super) name: String,
}

impl Body for Chat {
    const KIND: &'static Kind = &CHAT;
}
impl Body for Generate {
    const KIND: &'static Kind = &GENERATE;
}
impl Body for Embed {
    const KIND: &'static Kind = &EMBED;
}
impl Body for Embeddings {
    const KIND: &'static Kind = &EMBEDDINGS;
}
impl Body for Show {
    const KIND: &'static Kind = &SHOW;
}
impl Body for Copy {
    const KIND: &'static Kind = &COPY;
}
impl Body for Delete {
    const KIND: &'static Kind = &DELETE;
}

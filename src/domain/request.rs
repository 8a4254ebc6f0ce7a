//! An inference request as every room after `wire` sees it: native fields, whatever dialect it came in.

use std::time::Duration;

use super::JsonField;

/// Whose grammar the caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Ollama's own `/api/*`.
    Ollama,
    /// OpenAI's `/v1/*`.
    OpenAi,
    /// Anthropic's `/v1/messages`.
    Anthropic,
}

impl Dialect {
    /// That of a route, of those that are no surface, too.
    #[must_use]
    pub fn of(route: &str) -> Self {
        match route {
            "/v1/messages" => Self::Anthropic,
            _ if route.starts_with("/v1/") => Self::OpenAi,
            _ => Self::Ollama,
        }
    }

    /// The word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }
}

/// A route on which applications ask for inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// `POST /api/chat`.
    Chat,
    /// `POST /api/generate`.
    Generate,
    /// `POST /api/embed`.
    Embed,
    /// `POST /api/embeddings` (legacy).
    Embeddings,
    /// `POST /v1/chat/completions`.
    V1Chat,
    /// `POST /v1/completions`.
    V1Completions,
    /// `POST /v1/embeddings`.
    V1Embeddings,
    /// `POST /v1/messages`.
    V1Messages,
    /// `POST /v1/responses`.
    V1Responses,
}

impl Surface {
    /// Every surface, for tables and tests.
    pub const ALL: [Self; 9] = [
        Self::Chat,
        Self::Generate,
        Self::Embed,
        Self::Embeddings,
        Self::V1Chat,
        Self::V1Completions,
        Self::V1Embeddings,
        Self::V1Messages,
        Self::V1Responses,
    ];

    /// The route, which is also the name policies use for it.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
            Self::Embed => "/api/embed",
            Self::Embeddings => "/api/embeddings",
            Self::V1Chat => "/v1/chat/completions",
            Self::V1Completions => "/v1/completions",
            Self::V1Embeddings => "/v1/embeddings",
            Self::V1Messages => "/v1/messages",
            Self::V1Responses => "/v1/responses",
        }
    }

    /// The grammar of its replies and errors.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Chat | Self::Generate | Self::Embed | Self::Embeddings => Dialect::Ollama,
            Self::V1Chat | Self::V1Completions | Self::V1Embeddings | Self::V1Responses => Dialect::OpenAi,
            Self::V1Messages => Dialect::Anthropic,
        }
    }

    /// The native call that serves it.
    #[must_use]
    pub fn task(self) -> Task {
        match self {
            Self::Chat | Self::V1Chat | Self::V1Messages | Self::V1Responses => Task::Chat,
            Self::Generate | Self::V1Completions => Task::Generate,
            Self::Embed | Self::V1Embeddings => Task::Embed,
            Self::Embeddings => Task::Embeddings,
        }
    }
}

/// A native Ollama call; the only kind that goes upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    /// `POST /api/chat`.
    Chat,
    /// `POST /api/generate`.
    Generate,
    /// `POST /api/embed`.
    Embed,
    /// `POST /api/embeddings` (legacy).
    Embeddings,
}

impl Task {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Chat, Self::Generate, Self::Embed, Self::Embeddings];

    /// The upstream route. Upstream URLs are made from this constant only, never from a caller's path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/api/chat",
            Self::Generate => "/api/generate",
            Self::Embed => "/api/embed",
            Self::Embeddings => "/api/embeddings",
        }
    }

    /// Whether it makes vectors rather than text.
    #[must_use]
    pub fn embeds(self) -> bool {
        matches!(self, Self::Embed | Self::Embeddings)
    }
}

/// What the caller wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Intent {
    /// An answer.
    Answer,
    /// Nothing but the model in memory (empty prompt, no messages, no input).
    Load,
    /// The model out of memory (the same with `keep_alive: 0`). Never passed on: residency is the operator's.
    Unload,
}

/// What `/v1` callers may ask about the form of the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplyShape {
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// `encoding_format: "base64"` of `/v1/embeddings`.
    pub base64_vectors: bool,
    /// `parallel_tool_calls: false`: no call after the first one is shown.
    pub one_tool_call: bool,
    /// Prompt tokens as Ollama guesses them for the first event of a `/v1/messages` stream.
    pub guessed_prompt: u64,
}

/// Sizes taken while decoding, so that no later room parses again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measure {
    /// Bytes of the body as received.
    pub body_bytes: usize,
    /// Bytes of text that will become prompt tokens (messages, prompt, system, tools, inputs).
    pub prompt_bytes: usize,
    /// Embedding inputs; 1 for everything else.
    pub inputs: usize,
    /// `num_predict` (or `max_tokens`, `max_completion_tokens`), where the caller set one that bounds.
    pub output_cap: Option<u64>,
}

/// A request in native terms. `fields` and `options` hold what goes upstream; what only the gateway decides is apart.
#[derive(Debug, Clone)]
pub struct InferenceRequest {
    /// Where it came in.
    pub surface: Surface,
    /// The model as the caller wrote it; replies echo it.
    pub model: String,
    /// Whether the caller wants a stream.
    pub stream: bool,
    /// What the caller wants done.
    pub intent: Intent,
    /// Native fields in Ollama's spelling and order, without `model`, `stream`, `options`, `keep_alive` and `shift`;
    /// fields we do not know are among them, as written. `truncate` among them is the caller's wish: what goes upstream is
    /// the gateway's.
    pub fields: Vec<JsonField>,
    /// Sampling options (and unknown ones), without runner options.
    pub options: Vec<JsonField>,
    /// Runner options the caller sent (`num_ctx`, `num_gpu`, …, and `shift`); `policy` decides what becomes of them.
    pub runner_options: Vec<JsonField>,
    /// `keep_alive` the caller sent; `None` when absent. `Duration::MAX` stands for "for ever".
    pub keep_alive: Option<Duration>,
    /// The form of the reply.
    pub shape: ReplyShape,
    /// What the reply repeats of the request (`/v1/responses` only): values in their final form.
    pub echo: Vec<JsonField>,
    /// Sizes.
    pub measure: Measure,
}

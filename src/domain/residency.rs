//! Loads and unloads as the scheduler orders them and `upstream` carries them out.

use std::sync::Arc;
use std::time::Duration;

use super::{EndpointId, JsonField};

/// Part of its time limit after which a load takes far longer than usual: it is told of, and room is made for it.
pub const LONG_LOAD: f64 = 1.0 / 3.0;

/// How a runner is asked for; every call for it says the same.
#[derive(Debug, Clone)]
pub struct LoadOrder {
    /// The tag to ask for.
    pub model: String,
    /// Runner options, settled.
    pub options: Vec<JsonField>,
    /// How long Ollama may keep it when idle; longer than the gateway does.
    pub keep_alive: Duration,
    /// Whether it makes vectors (another route loads it).
    pub embeds: bool,
}

impl LoadOrder {
    /// `num_ctx` as JSON text, where it is named.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.options.iter().find(|(name, _)| &**name == "num_ctx").map(|(_, value)| value.get())
    }

    /// The options as one text: equal texts mean an equal runner.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut options: Vec<_> = self.options.iter().map(|(name, value)| format!("{name}={}", value.get())).collect();
        options.sort();
        options.join(" ")
    }
}

/// Why a runner goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnloadReason {
    /// It had no work for as long as its profile keeps it.
    Idle,
    /// Another model needs its place.
    Room,
    /// It is loaded anew, because something is wrong with it.
    Reload,
}

impl UnloadReason {
    /// The word for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Room => "room",
            Self::Reload => "reload",
        }
    }
}

/// What `upstream` is to do.
#[derive(Debug, Clone)]
pub enum ResidencyCommand {
    /// Bring the weights into memory.
    Load {
        /// Where.
        endpoint: EndpointId,
        /// Which.
        weights: Box<str>,
        /// How.
        order: Arc<LoadOrder>,
        /// It is given up after this.
        within: Duration,
    },
    /// Have it make one token, to see whether it works at all.
    Probe {
        /// Where.
        endpoint: EndpointId,
        /// Which.
        weights: Box<str>,
        /// How it is addressed.
        order: Arc<LoadOrder>,
        /// The token must come within this.
        within: Duration,
    },
    /// Put them out of memory, and see them gone.
    Unload {
        /// Where.
        endpoint: EndpointId,
        /// Which.
        weights: Box<str>,
        /// How they are addressed.
        order: Arc<LoadOrder>,
        /// Why.
        why: UnloadReason,
    },
}

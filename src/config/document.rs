//! What `gaucho.toml` may say.
//!
//! Owns the keys. It does not own defaults or which source wins (`settings`).

use serde_json::{Value, json};

use super::forms::{Address, EndpointName, GpuId, LogFilter, UpstreamUrl};
use super::web::{HostName, Origin};
use crate::policy::{Bytes, Form, OneOrMany, Placed, Span, Whole, document, titled};

/// Slots of a server.
pub(super) type Slots = Whole<1, 1024>;
/// Memory of a server.
pub(crate) type Memory = Bytes<1_048_576, 1_125_899_906_842_624>;
/// How long a shutdown may take.
pub(super) type Drain = Span<0, 86_400>;
/// A time limit on someone else's silence.
pub(super) type Timeout = Span<1, 86_400>;

document! {
    /// Settings of the gateway. Flags and environment variables of the same names win over this file.
    pub(super) struct SettingsDocument {
        /// Address for applications.
        listen: Address,
        /// Address for metrics and administration.
        admin_listen: Address,
        /// Origins of web pages that may call the gateway, beside pages of this machine; one '*' in each stands for any text.
        origins: Vec<Placed<Origin>>,
        /// Names under which the gateway may be called while it listens on loopback, beside this machine's own: for a proxy
        /// beside it that passes its own name on.
        hosts: Vec<Placed<HostName>>,
        /// Certificate of the listener for applications; without it, it speaks plain HTTP.
        tls: TlsDocument,
        /// URL of the Ollama server, or a list of them; a table `endpoint` says more about each.
        ollama: OneOrMany<Placed<UpstreamUrl>>,
        /// One Ollama server.
        endpoint: Vec<Placed<EndpointDocument>>,
        /// Folder of the policy files, relative to this file.
        policies: String,
        /// Folder of the embedded store, relative to this file.
        state: String,
        /// Log filter: error, warn, info, debug, trace, or per part of the gateway.
        log: LogFilter,
        /// How long a shutdown lets running and waiting requests finish.
        drain: Drain,
        /// Slots per model of a server that does not say its own: its OLLAMA_NUM_PARALLEL.
        num_parallel: Slots,
        /// NVIDIA's management library, through which this machine's GPUs are seen: a name that the loader looks up, or a
        /// path, relative to this file.
        nvml: String,
        /// Time limits towards the servers.
        upstream: UpstreamDocument,
        /// Bounds of the gateway as a whole.
        limits: LimitsDocument,
    }
}

document! {
    /// A certificate; the files are read anew when they change.
    pub(super) struct TlsDocument {
        /// PEM file of the certificate and the chain to its issuer, relative to this file.
        cert: String,
        /// PEM file of its private key, relative to this file.
        key: String,
    }
}

document! {
    /// One Ollama server.
    pub(super) struct EndpointDocument {
        /// Its name in policies, logs and metrics; host and port by default.
        name: EndpointName,
        /// Its URL.
        url: UpstreamUrl,
        /// Its slots per model: the OLLAMA_NUM_PARALLEL it runs with.
        num_parallel: Slots,
        /// Memory it has for models, such as "24GiB"; without it the gateway learns what fits together.
        memory: Memory,
        /// The GPUs of this machine that it runs on, each by UUID ("GPU-…") or index; servers may share one. What is free
        /// there is then known; `memory` beside it is the most that is used of them.
        gpus: Vec<Placed<GpuId>>,
        /// Models it keeps in memory at once: the OLLAMA_MAX_LOADED_MODELS it runs with.
        max_loaded_models: Slots,
    }
}

document! {
    /// Time limits towards the servers.
    pub(super) struct UpstreamDocument {
        /// To connect.
        connect_timeout: Timeout,
        /// From a request to its first event, loading the model included.
        first_event_timeout: Timeout,
        /// Without a first event for this long, and for far longer than usual, the model is asked for one token, and loaded
        /// anew when that does not come either.
        silence_timeout: Timeout,
        /// Between two events.
        idle_timeout: Timeout,
        /// For an answer that is not streamed, from a request to its end.
        answer_timeout: Timeout,
    }
}

document! {
    /// Bounds of the gateway as a whole.
    pub(super) struct LimitsDocument {
        /// Requests that may wait, all applications together.
        max_queued: Whole<0, 10_000_000>,
        /// Bytes that waiting requests may hold.
        max_queued_bytes: Bytes<1_048_576, 1_099_511_627_776>,
        /// For a client to send its headers, and for a connection between two requests.
        header_timeout: Timeout,
        /// For a client to send its body.
        body_timeout: Timeout,
        /// Connections open at once.
        max_connections: Whole<1, 1_000_000>,
    }
}

/// The JSON Schema (2020-12) of `gaucho.toml`.
#[must_use]
pub fn schema() -> Value {
    let mut whole = SettingsDocument::schema();
    if let Some(endpoint) = whole.pointer_mut("/properties/endpoint/items").and_then(Value::as_object_mut) {
        endpoint.insert("required".to_owned(), json!(["url"]));
    }
    titled("gaucho.toml", whole)
}

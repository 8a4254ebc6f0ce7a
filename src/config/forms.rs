//! Forms that only settings have: listening addresses, URLs of Ollama servers, endpoint names, log filters, GPUs.
//!
//! Each but the last reads one text, so that file, flag and variable share it. It does not own which of them wins.

use std::net::SocketAddr;

use serde_json::{Value, json};
use toml::de::DeValue;
use url::{Host, Url};

use crate::domain::GpuName;
use crate::policy::{Scalar, Whole};
use crate::telemetry::{LOG_FILTERS, is_log_filter};

/// A form that is always one text, whatever source it comes from.
pub(super) trait Textual: Sized {
    /// What is allowed, to follow the word "use".
    const ALLOWED: &'static str;

    /// Reads it.
    fn from_text(text: &str) -> Option<Self>;
}

impl<T: Textual> Scalar for T {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        T::from_text(value.as_str()?)
    }

    fn allowed() -> String {
        T::ALLOWED.to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address(pub(super) SocketAddr);

impl Textual for Address {
    const ALLOWED: &'static str =
        "an IP address and a port such as \"127.0.0.1:11435\", \"0.0.0.0:11435\" or \"[::1]:0\"";

    fn from_text(text: &str) -> Option<Self> {
        text.trim().parse().ok().map(Self)
    }
}

/// The base URL of an Ollama server.
#[derive(Debug, Clone)]
pub(super) struct UpstreamUrl(pub(super) Url);

impl Textual for UpstreamUrl {
    const ALLOWED: &'static str = "an Ollama server as OLLAMA_HOST names it, such as \"127.0.0.1:11434\", \"gpu-1\" or \
                                   \"https://gpu-1/ollama\", without user name, password, query or fragment";

    /// As Ollama reads `OLLAMA_HOST`: without a scheme it is plain HTTP on port 11434; a scheme brings its own port.
    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim().trim_matches('"');
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let mut url = match scheme.to_ascii_lowercase().as_str() {
            "" => Url::parse(&format!("http://{}", bracketed(rest))).ok()?,
            "http" | "https" => Url::parse(text).ok()?,
            _ => return None,
        };
        if scheme.is_empty() && !names_port(rest) {
            url.set_port(Some(11434)).ok()?;
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        let bare = url.username().is_empty() && url.password().is_none();
        let plain = url.query().is_none() && url.fragment().is_none();
        (bare && plain && url.has_host() && url.port() != Some(0)).then_some(Self(url))
    }
}

/// An IPv6 address without brackets, as Ollama accepts it, gets them; so does an empty host get its meaning.
fn bracketed(rest: &str) -> String {
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]")
    } else if host.starts_with(':') {
        format!("127.0.0.1{host}")
    } else {
        host.to_owned()
    };
    path.map_or(host.clone(), |path| format!("{host}/{path}"))
}

/// Whether the authority ends in a port: `url` drops one that is the scheme's own (80), which must not become 11434.
fn names_port(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.parse::<std::net::Ipv6Addr>().is_ok() {
        return false;
    }
    let after_address = authority.rsplit(']').next().unwrap_or_default();
    after_address.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty())
}

impl UpstreamUrl {
    /// `host:port`, which names an endpoint that has no name.
    pub(super) fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Whether a call to it would arrive at `listen`.
    pub(super) fn reaches(&self, listen: SocketAddr) -> bool {
        let ours = |ip: std::net::IpAddr| {
            ip == listen.ip() || ip.is_unspecified() || (listen.ip().is_unspecified() && ip.is_loopback())
        };
        let host = match self.0.host() {
            Some(Host::Ipv4(ip)) => ours(ip.into()),
            Some(Host::Ipv6(ip)) => ours(ip.into()),
            Some(Host::Domain(name)) => {
                name == "localhost" && (listen.ip().is_loopback() || listen.ip().is_unspecified())
            }
            None => false,
        };
        host && self.0.port_or_known_default() == Some(listen.port())
    }
}

/// An endpoint's name.
#[derive(Debug, Clone)]
pub(super) struct EndpointName(pub(super) String);

impl Textual for EndpointName {
    const ALLOWED: &'static str = "1 to 63 letters, digits, '-', '_', '.' or ':'";

    fn from_text(text: &str) -> Option<Self> {
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        ((1..=63).contains(&text.len()) && text.bytes().all(known)).then(|| Self(text.to_owned()))
    }
}

/// What to log.
#[derive(Debug, Clone)]
pub(super) struct LogFilter(pub(super) String);

impl Textual for LogFilter {
    const ALLOWED: &'static str = LOG_FILTERS;

    fn from_text(text: &str) -> Option<Self> {
        is_log_filter(text).then(|| Self(text.to_owned()))
    }
}

/// A GPU: a UUID or an index.
#[derive(Debug, Clone)]
pub(super) struct GpuId(pub(super) GpuName);

impl Scalar for GpuId {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        if let Some(text) = value.as_str() {
            return GpuName::from_uuid(text).map(Self);
        }
        Whole::<0, 255>::parse(value).map(|index| Self(GpuName::Index(index.small())))
    }

    fn allowed() -> String {
        "a GPU's UUID such as \"GPU-5f8b6c1e-…\" in full, or its index from 0 to 255, as `nvidia-smi -L` lists them"
            .to_owned()
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "string", "pattern": "^\\s*GPU-[0-9A-Fa-f-]+\\s*$" },
            { "type": "integer", "minimum": 0, "maximum": 255 },
        ] })
    }
}

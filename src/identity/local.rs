//! Which requests count as coming from a person or program on the gateway's own machine.
//!
//! Owns Ollama's checks of `Host` (against web pages whose name points at this machine) and `Origin` (against web pages
//! elsewhere), value for value as Ollama has them, and the refusal of whatever a proxy passed on. Pure.

use std::net::IpAddr;

use super::caller::CallerFacts;

/// Origins Ollama allows from the start; `*` stands for any text.
const ORIGINS: [&str; 17] = [
    "http://localhost",
    "https://localhost",
    "http://localhost:*",
    "https://localhost:*",
    "http://127.0.0.1",
    "https://127.0.0.1",
    "http://127.0.0.1:*",
    "https://127.0.0.1:*",
    "http://0.0.0.0",
    "https://0.0.0.0",
    "http://0.0.0.0:*",
    "https://0.0.0.0:*",
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
];

/// What belongs to this machine beside the usual names.
#[derive(Debug, Clone, Default)]
pub struct LocalRules {
    /// The machine's own host name, also allowed as `Host`.
    pub hostname: Option<String>,
    /// Further origins, each with at most one `*` (`OLLAMA_ORIGINS`).
    pub origins: Vec<String>,
}

/// Why a caller does not count as local.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotLocal {
    /// Another machine's address.
    Peer,
    /// A proxy's mark.
    Forwarded,
    /// A foreign `Host`.
    Host,
    /// A foreign `Origin`.
    Origin,
}

impl LocalRules {
    pub(super) fn admit(&self, facts: &CallerFacts<'_>) -> Result<(), NotLocal> {
        let host = facts.host.unwrap_or_default();
        if !facts.peer.to_canonical().is_loopback() {
            return Err(NotLocal::Peer);
        }
        if facts.forwarded {
            return Err(NotLocal::Forwarded);
        }
        if !self.allows_host(host) {
            return Err(NotLocal::Host);
        }
        if !self.allows_origin(facts.origin.unwrap_or_default(), host) {
            return Err(NotLocal::Origin);
        }
        Ok(())
    }

    fn allows_host(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        if let Ok(address) = name.parse::<IpAddr>() {
            return is_own_network(address.to_canonical());
        }
        name.is_empty()
            || name == "localhost"
            || self.hostname.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(&name))
            || [".localhost", ".local", ".internal"].iter().any(|ending| name.ends_with(ending))
    }

    /// `host` has passed already, so a page that this gateway's own address served is welcome.
    fn allows_origin(&self, origin: &str, host: &str) -> bool {
        let same_host = || {
            let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            rest.is_some_and(|rest| rest == host)
        };
        let patterns = || ORIGINS.into_iter().chain(self.origins.iter().map(String::as_str));
        origin.is_empty() || same_host() || patterns().any(|pattern| matches(pattern, origin))
    }
}

fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host, // no port, or an IPv6 address without brackets
    }
}

fn is_own_network(address: IpAddr) -> bool {
    let private = match address {
        IpAddr::V4(address) => address.is_private(),
        IpAddr::V6(address) => address.is_unique_local(),
    };
    private || address.is_loopback() || address.is_unspecified()
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end),
    }
}

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
    /// Further origins, each with at most one `*`; that alone stands for every page.
    pub origins: Vec<String>,
    /// Further names that are allowed as `Host`, without a port.
    pub hosts: Vec<String>,
}

/// What an `Origin` says of who asks; later ones are less welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Page {
    /// No page, or one of this very host.
    None,
    /// One of any, since all are welcome.
    Any,
    /// One that is welcome.
    Listed,
    /// One that is not.
    Foreign,
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
        if self.page(facts.origin.unwrap_or_default(), host) == Page::Foreign {
            return Err(NotLocal::Origin);
        }
        Ok(())
    }

    /// Whether a server that only this machine reaches is called by a name that means it.
    #[must_use]
    pub fn allows_host(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        if let Ok(address) = name.parse::<IpAddr>() {
            return is_own_network(address.to_canonical());
        }
        name.is_empty()
            || name == "localhost"
            || self.hostname.iter().chain(&self.hosts).any(|own| own.eq_ignore_ascii_case(&name))
            || [".localhost", ".local", ".internal"].iter().any(|ending| name.ends_with(ending))
    }

    /// What the page is that `Origin` names. One that came from this very host is no foreign page: whether the host's name
    /// is ours is another question.
    #[must_use]
    pub fn page(&self, origin: &str, host: &str) -> Page {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if origin.is_empty() || rest.is_some_and(|rest| rest == host) {
            Page::None
        } else if self.origins.iter().any(|pattern| pattern == "*") {
            Page::Any
        } else if ORIGINS.into_iter().chain(self.origins.iter().map(String::as_str)).any(|p| matches(p, origin)) {
            Page::Listed
        } else {
            Page::Foreign
        }
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

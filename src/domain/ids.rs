//! Identifiers as types, so that no room passes a bare string or number for one of them.

use std::fmt;
use std::sync::Arc;

/// An application's name: the principal, the stem of its policy file, and a metric label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName(Arc<str>);

impl AppName {
    /// The longest name, in bytes.
    pub const MAX: usize = 63;

    /// Accepts 1 to 63 of `a-z 0-9 - _ .`, starting with a letter or digit.
    ///
    /// # Errors
    /// A sentence that says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let first_ok = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let rest_ok =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
        if first_ok && rest_ok && text.len() <= Self::MAX {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "application name {text:?} is not usable: use 1 to {} of a-z, 0-9, '-', '_' and '.', \
                 starting with a letter or digit",
                Self::MAX
            ))
        }
    }

    /// The application that callers from loopback are while no key and no policy exists.
    #[must_use]
    pub fn local() -> Self {
        Self("local".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Position of an endpoint (one upstream Ollama) in the configured list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u16);

/// The public part of a key: names it in listings, logs and revocations, and reveals nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub Arc<str>);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request's number within this process; printed as `req_` and 16 hex digits that also carry the process's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "req_{:016x}", self.0)
    }
}

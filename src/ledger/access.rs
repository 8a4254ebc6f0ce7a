//! The line of a request that was answered without an application: there is nothing of it to count.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use tracing::Level;

use super::line::{ms, timestamp};
use crate::telemetry::LogLines;

/// Most bytes of a path: it is whatever a stranger made up.
const LONGEST: usize = 256;

/// What is known of it.
#[derive(Debug)]
pub struct Access<'a> {
    /// When it was answered, since 1970.
    pub at: Duration,
    /// How much it matters.
    pub level: Level,
    /// The listener that answered it.
    pub listener: &'static str,
    /// Who asked.
    pub peer: IpAddr,
    /// How and for what, without the query; `None` where it could not be read.
    pub target: Option<(&'a str, &'a str)>,
    /// Status code sent.
    pub status: u16,
    /// How long the answer took.
    pub total: Duration,
    /// Why, where the status does not say it.
    pub reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    message: &'static str,
    listener: &'static str,
    peer: IpAddr,
    method: Option<&'a str>,
    path: Option<String>,
    status: u16,
    total_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Access<'_> {
    /// Writes its line.
    pub fn enter(&self, log: &LogLines) {
        let line = Line {
            timestamp: timestamp(self.at),
            level: self.level.as_str(),
            message: "request",
            listener: self.listener,
            peer: self.peer,
            method: self.target.map(|(method, _)| method),
            path: self.target.map(|(_, path)| shown(path)),
            status: self.status,
            total_ms: ms(self.total),
            reason: self.reason,
        };
        log.write(serde_json::to_vec(&line).unwrap_or_default());
    }
}

/// The path without what may be a key: one that stands where a client's base URL put it wrongly is still a key.
fn shown(path: &str) -> String {
    let mut after_k = false;
    let segments = path.split('/').map(|segment| {
        let hidden = segment.starts_with("gk_") || (after_k && !segment.is_empty());
        after_k = segment.eq_ignore_ascii_case("k") || (after_k && segment.is_empty());
        if hidden { "…" } else { segment }
    });
    let path = segments.collect::<Vec<_>>().join("/");
    if path.len() <= LONGEST { path } else { format!("{}…", &path[..path.floor_char_boundary(LONGEST)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_shows_no_key_and_has_an_end() {
        for (path, wanted) in [
            ("/api/chat", "/api/chat"),
            ("//k/secret/api/chat", "//k/…/api/chat"),
            ("/v1/K//secret", "/v1/K//…"),
            ("/v1/gk_1_x/models", "/v1/…/models"),
            ("/k", "/k"),
        ] {
            assert_eq!(shown(path), wanted);
        }
        assert_eq!(shown(&format!("/{}", "é".repeat(1000))).len(), LONGEST - 1 + "…".len());
    }
}

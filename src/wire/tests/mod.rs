//! The room against recordings of a real Ollama (byte for byte), Go's own error texts, and random input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod go_texts;
mod messages;
mod messages_table;
mod properties;
mod recordings;
mod refusals;
mod replies;
mod requests;
mod responses_replies;
mod responses_requests;
mod v1_replies;

use super::*;
use crate::domain::{Dialect, Event, Surface, Task};
use crate::wire::go_json::{unquote, write_string};
use recordings::{Recording, recordings};

/// What goes upstream where the gateway decides nothing but the tag.
fn undecided(model: &str) -> UpstreamTarget<'_> {
    UpstreamTarget { model, runner_options: &[], keep_alive: None, truncate: None, output_cap: None, model_cap: None }
}

/// JSON with every string as Go writes it once it has read it: escapes that need not be are gone, a lone surrogate is
/// replaced.
fn as_go_reads(json: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), json);
    while let Some((before, string)) = rest.split_once('"') {
        out.extend_from_slice(before.as_bytes());
        let mut escaped = false;
        let ends = |c| {
            let plain = !escaped;
            escaped = plain && c == '\\';
            plain && c == '"'
        };
        let end = string.find(ends).unwrap();
        write_string(&mut out, &unquote(&string[..end]));
        rest = &string[end + 1..];
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8(out).unwrap()
}

/// The inference surface of a path.
fn surface(path: &str) -> Option<Surface> {
    Surface::ALL.into_iter().find(|surface| surface.path() == path)
}

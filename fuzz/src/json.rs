//! JSON as an independent reader sees it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::domain::Surface;

/// Whether it is one JSON value, at any depth and with any numbers.
pub fn is_json(bytes: &[u8]) -> bool {
    // `IgnoredAny` skips without recursion; text that is no UTF-8 is no JSON, wherever it stands
    std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// The text of one JSON value.
pub fn checked(bytes: &[u8]) -> &str {
    assert!(is_json(bytes), "no JSON: {}", String::from_utf8_lossy(bytes));
    std::str::from_utf8(bytes).unwrap_or_default().trim()
}

/// The members of an object in order, duplicates included.
pub fn members(bytes: &[u8]) -> Vec<(String, String)> {
    struct Members(Vec<(String, String)>);
    struct Read;
    impl<'de> Visitor<'de> for Read {
        type Value = Members;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
            let mut members = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                members.push((key, value.get().to_owned()));
            }
            Ok(Members(members))
        }
    }
    impl<'de> Deserialize<'de> for Members {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Read)
        }
    }
    let Members(members) = serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("no JSON object ({error}): {}", String::from_utf8_lossy(bytes)));
    members
}

/// The text that one object of a stream adds to the answer.
pub fn said(surface: Surface, object: &str) -> String {
    let path: &[&str] = match surface.path() {
        "/api/chat" => &["message", "content"],
        "/api/generate" => &["response"],
        "/v1/chat/completions" => &["choices", "0", "delta", "content"],
        "/v1/completions" => &["choices", "0", "text"],
        "/v1/responses" if text(object, &["type"]) == "response.output_text.delta" => &["delta"],
        "/v1/messages" if text(object, &["delta", "type"]) == "text_delta" => &["delta", "text"],
        _ => return String::new(),
    };
    text(object, path)
}

/// The string at a path of keys and positions; empty where there is none.
pub fn text(json: &str, path: &[&str]) -> String {
    let Some((first, rest)) = path.split_first() else { return serde_json::from_str(json).unwrap_or_default() };
    // raw values, because a tree cannot hold every number that a peer may send
    let inner = match json.as_bytes().first() {
        Some(b'{') => members(json.as_bytes()).into_iter().rev().find(|(key, _)| key == first).map(|(_, value)| value),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            first.parse().ok().and_then(|at: usize| items.get(at)).map(|item| item.get().to_owned())
        }
        _ => None,
    };
    inner.map_or_else(String::new, |inner| text(&inner, rest))
}

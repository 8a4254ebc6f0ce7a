//! JSON as an independent reader sees it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::domain::Surface;

/// Whether it is one JSON value, at any depth and with any numbers.
pub fn is_json(bytes: &[u8]) -> bool {
    // `IgnoredAny` skips without recursion; text that is no UTF-8 is no JSON, wherever it stands
    std::str::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// The value; one that a tree cannot hold (a number beyond any float, a lone surrogate, 128 levels) is null.
pub fn value(bytes: &[u8]) -> Value {
    assert!(is_json(bytes), "no JSON: {}", String::from_utf8_lossy(bytes));
    serde_json::from_slice(bytes).unwrap_or(Value::Null)
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
pub fn said(surface: Surface, value: &Value) -> String {
    let text = match surface.path() {
        "/api/chat" => &value["message"]["content"],
        "/api/generate" => &value["response"],
        "/v1/chat/completions" => &value["choices"][0]["delta"]["content"],
        "/v1/completions" => &value["choices"][0]["text"],
        "/v1/responses" if value["type"] == "response.output_text.delta" => &value["delta"],
        "/v1/messages" if value["delta"]["type"] == "text_delta" => &value["delta"]["text"],
        _ => &Value::Null,
    };
    text.as_str().unwrap_or_default().to_owned()
}

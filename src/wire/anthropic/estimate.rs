//! The number of prompt tokens that a stream's first event names before anything was counted: bytes ÷ 4, exactly as Ollama
//! guesses (anthropic.EstimateInputTokens of 0.32.15).

use serde_json::Value;

use super::tables;
use crate::wire::go_json::{Document, elements, read, read_text, text_len, write_string};

/// Ollama's guess for a whole request, which has a message; `said` is the bytes it counts for the messages.
pub(super) fn estimate(document: &Document<'_>, said: usize) -> u64 {
    let mut bytes = said + document.get("system").map_or(0, content);
    let _ = elements(document.get("tools").unwrap_or("[]"), |tool| {
        let Ok(tool) = read(tool.as_bytes(), &tables::TOOL) else { return };
        bytes += tool.text("name").len() + tool.text("description").len();
        let null = if tool.has("input_schema") { 4 } else { 0 };
        bytes += tool.get("input_schema").map_or(null, str::len);
    });
    u64::try_from(bytes / 4).unwrap_or(u64::MAX).max(1)
}

/// Bytes of a text, or of blocks.
fn content(value: &str) -> usize {
    if value.starts_with('"') {
        return text_len(value);
    }
    let mut bytes = 0;
    let _ = elements(value, |item| bytes += read_text(item, &tables::BLOCK).map_or(0, |item| block(&item)));
    bytes
}

/// Bytes of a block.
pub(super) fn block(block: &Document<'_>) -> usize {
    let bytes = block.get("text").map_or(0, text_len) + block.get("thinking").map_or(0, text_len);
    if matches!(&*block.text("type"), "tool_use" | "tool_result") { bytes + written(block) } else { bytes }
}

/// The fields of a block that Ollama writes.
const WRITTEN: [&str; 11] =
    ["type", "text", "source", "id", "name", "input", "tool_use_id", "content", "is_error", "thinking", "signature"];

/// The length of the block as Ollama writes it: known fields only, empty ones left out.
fn written(block: &Document<'_>) -> usize {
    let mut members = 0;
    let mut bytes = 2;
    for name in WRITTEN {
        // what is empty is left out, but not where Go has a pointer or an interface
        let kept = matches!(name, "text" | "thinking" | "content");
        let null = (name == "input" && block.has(name)).then_some("null");
        let value = block.get(name).or(null).filter(|value| kept || !matches!(*value, "\"\"" | "false"));
        let Some(value) = value else { continue };
        let Ok(value) = serde_json::from_str::<Value>(value) else { continue };
        members += 1;
        bytes += name.len() + 3 + size(&value);
    }
    bytes + usize::saturating_sub(members, 1)
}

/// The length of a value as Go writes it, without spaces.
fn size(value: &Value) -> usize {
    let text = |text: &str| {
        let mut out = Vec::with_capacity(text.len() + 2);
        write_string(&mut out, text);
        out.len()
    };
    match value {
        Value::String(string) => text(string),
        Value::Array(items) => 2 + items.iter().map(size).sum::<usize>() + items.len().saturating_sub(1),
        Value::Object(members) => {
            let all = members.iter().map(|(key, value)| text(key) + 1 + size(value)).sum::<usize>();
            2 + all + members.len().saturating_sub(1)
        }
        other => other.to_string().len(),
    }
}

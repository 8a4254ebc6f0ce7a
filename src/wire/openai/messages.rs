//! OpenAI's messages as Ollama's: content parts become messages of their own, arguments become objects again.

use std::borrow::Cow;
use std::collections::HashMap;

use super::request::{bad, go_type, refuse};
use super::tables;
use crate::domain::Fault;
use crate::wire::go_json::{Document, check_base64, elements, member, read_text, unquote, whole};
use crate::wire::out::{is_empty_list, push, string};

/// Converted messages.
pub(super) struct Converted {
    /// The JSON array.
    pub(super) json: String,
    /// Bytes of text that become prompt tokens.
    pub(super) prompt_bytes: usize,
}

/// Converts the elements of `messages`, whose text has about `size` bytes.
pub(super) fn convert(list: &[Document<'_>], size: usize) -> Result<Converted, Fault> {
    let mut writer = Writer { out: String::with_capacity(size), prompt: 0 };
    writer.out.push('[');
    let mut called = None;
    // null is an empty message
    for message in list {
        let tool_name = tool_name(message, list, &mut called);
        writer.message(message, &tool_name)?;
    }
    writer.out.push(']');
    Ok(Converted { json: writer.out, prompt_bytes: writer.prompt })
}

/// The name of the tool a `tool` message answers for: its own, or that of the call with its id.
fn tool_name<'a>(
    message: &Document<'a>,
    list: &[Document<'a>],
    called: &mut Option<HashMap<Cow<'a, str>, Cow<'a, str>>>,
) -> Cow<'a, str> {
    if !message.text("role").eq_ignore_ascii_case("tool") {
        return Cow::Borrowed("");
    }
    let (name, id) = (message.text("name"), message.text("tool_call_id"));
    if !name.is_empty() || id.is_empty() {
        return name;
    }
    called.get_or_insert_with(|| names_by_id(list)).get(&id).cloned().unwrap_or_default()
}

/// Called functions by call id; of several with one id the last message's first counts.
fn names_by_id<'a>(list: &[Document<'a>]) -> HashMap<Cow<'a, str>, Cow<'a, str>> {
    let mut names = HashMap::new();
    for message in list.iter().rev() {
        let _ = elements(message.get("tool_calls").unwrap_or("[]"), |call| {
            let Ok(call) = read_text(call, &tables::TOOL_CALL) else { return };
            let function = call.get("function").and_then(|f| read_text(f, tables::CALLED).ok());
            names.entry(call.text("id")).or_insert_with(|| function.map(|f| f.text("name")).unwrap_or_default());
        });
    }
    names
}

struct Writer {
    out: String,
    prompt: usize,
}

impl Writer {
    fn message(&mut self, message: &Document<'_>, tool_name: &str) -> Result<(), Fault> {
        let calls = message.get("tool_calls");
        match message.get("content") {
            Some(content) if content.starts_with('"') => {
                self.open(message);
                self.content(content);
                self.extras(message, calls, tool_name)?;
                self.out.push('}');
            }
            Some(content) if content.starts_with('[') => self.parts(message, content, tool_name)?,
            other => {
                if calls.is_none() {
                    let found = other.map_or("<nil>", go_type);
                    return Err(bad(format!("invalid message content type: {found}")));
                }
                self.calls_alone(message, "")?;
            }
        }
        Ok(())
    }

    fn calls_alone(&mut self, message: &Document<'_>, tool_name: &str) -> Result<(), Fault> {
        self.open(message);
        push(&mut self.out, ",\"content\":\"\"");
        self.extras(message, message.get("tool_calls"), tool_name)?;
        self.out.push('}');
        Ok(())
    }

    fn parts(&mut self, message: &Document<'_>, content: &str, tool_name: &str) -> Result<(), Fault> {
        let mut parts = Vec::new();
        let _ = elements(content, |part| parts.push(part));
        let calls = message.get("tool_calls").filter(|calls| !is_empty_list(calls));
        for (at, part) in parts.iter().enumerate() {
            self.open(message);
            self.part(part)?;
            // the calls of a message hang on its last part
            if calls.is_some() && at + 1 == parts.len() {
                self.extras(message, calls, tool_name)?;
            }
            self.out.push('}');
        }
        if parts.is_empty() && calls.is_some() {
            self.calls_alone(message, tool_name)?;
        }
        Ok(())
    }

    fn part(&mut self, part: &str) -> Result<(), Fault> {
        let invalid = || bad("invalid message format");
        let kind = member(part, "type").ok_or_else(invalid)?;
        match &*unquote(kind) {
            "text" => {
                let text = member(part, "text").filter(|text| text.starts_with('"')).ok_or_else(invalid)?;
                self.content(text);
            }
            "image_url" => {
                let image = member(part, "image_url").ok_or_else(invalid)?;
                let url = if image.starts_with('{') { member(image, "url") } else { Some(image) };
                let url = url.filter(|url| url.starts_with('"')).ok_or_else(invalid)?;
                self.image(image_data(&unquote(url))?);
            }
            "input_audio" => {
                let audio = member(part, "input_audio").filter(|audio| audio.starts_with('{'));
                let audio = audio.ok_or_else(|| bad("invalid input_audio format"))?;
                let data = member(audio, "data").filter(|data| data.starts_with('"'));
                let data = unquote(data.ok_or_else(|| bad("invalid input_audio format: missing data"))?);
                check_base64(&data).map_err(|e| bad(format!("invalid input_audio base64 data: {e}")))?;
                self.image(&data);
            }
            _ => return Err(invalid()),
        }
        Ok(())
    }

    fn open(&mut self, message: &Document<'_>) {
        let first = self.out.len() == 1;
        push(&mut self.out, if first { "{\"role\":" } else { ",{\"role\":" });
        push(&mut self.out, message.get("role").unwrap_or("\"\""));
    }

    fn content(&mut self, token: &str) {
        self.prompt += token.len() - 2;
        push(&mut self.out, ",\"content\":");
        push(&mut self.out, token);
    }

    fn image(&mut self, data: &str) {
        push(&mut self.out, ",\"content\":\"\",\"images\":[");
        string(&mut self.out, data);
        self.out.push(']');
    }

    fn extras(&mut self, message: &Document<'_>, calls: Option<&str>, tool_name: &str) -> Result<(), Fault> {
        if let Some(reasoning) = message.get("reasoning") {
            self.prompt += reasoning.len() - 2;
            push(&mut self.out, ",\"thinking\":");
            push(&mut self.out, reasoning);
        }
        self.tool_calls(calls.unwrap_or("[]"))?;
        if !tool_name.is_empty() {
            push(&mut self.out, ",\"tool_name\":");
            string(&mut self.out, tool_name);
        }
        if let Some(id) = message.get("tool_call_id") {
            push(&mut self.out, ",\"tool_call_id\":");
            push(&mut self.out, id);
        }
        Ok(())
    }

    fn tool_calls(&mut self, list: &str) -> Result<(), Fault> {
        let mut calls = Vec::new();
        let _ = elements(list, |call| calls.push(call));
        for (at, call) in calls.iter().enumerate() {
            let call = read_text(call, &tables::TOOL_CALL).map_err(refuse)?;
            let function = read_text(call.get("function").unwrap_or("{}"), tables::CALLED).map_err(refuse)?;
            let arguments = function.text("arguments");
            let object = whole(&arguments).filter(|value| value.starts_with('{') || *value == "null");
            let object = object.ok_or_else(|| bad("invalid tool call arguments"))?;
            self.prompt += arguments.len();
            push(&mut self.out, if at == 0 { ",\"tool_calls\":[{\"id\":" } else { ",{\"id\":" });
            push(&mut self.out, call.get("id").unwrap_or("\"\""));
            push(&mut self.out, ",\"function\":{\"index\":0,\"name\":");
            push(&mut self.out, function.get("name").unwrap_or("\"\""));
            push(&mut self.out, ",\"arguments\":");
            push(&mut self.out, if object == "null" { "{}" } else { object });
            push(&mut self.out, "}}");
        }
        if !calls.is_empty() {
            self.out.push(']');
        }
        Ok(())
    }
}

/// The base64 text of a `data:` URL of an image.
pub(super) fn image_data(url: &str) -> Result<&str, Fault> {
    if url.starts_with("http://") || url.starts_with("https://") {
        return Err(bad("image URLs are not currently supported, please use base64 encoded data instead"));
    }
    const PREFIXES: [&str; 5] = [
        "data:;base64,",
        "data:image/jpeg;base64,",
        "data:image/jpg;base64,",
        "data:image/png;base64,",
        "data:image/webp;base64,",
    ];
    let data = PREFIXES.iter().find_map(|prefix| url.strip_prefix(prefix));
    data.filter(|data| check_base64(data).is_ok()).ok_or_else(|| bad("invalid image input"))
}

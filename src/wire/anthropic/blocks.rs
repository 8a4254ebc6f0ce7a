//! Anthropic's messages as Ollama's: blocks are gathered into one message, tool results become messages of their own.

use std::borrow::Cow;

use super::{estimate, tables};
use crate::domain::Fault;
use crate::wire::go_json::{Document, check_base64, documents, elements, member, read, unquote};
use crate::wire::out::{push, string};
use crate::wire::request::{bad, refuse};

/// Converted messages.
pub(super) struct Converted {
    /// The JSON array, without its end while it grows.
    out: Vec<u8>,
    /// Bytes of text that become prompt tokens.
    pub(super) prompt_bytes: usize,
    /// Bytes that Ollama counts for its guess of them, where one is wanted.
    pub(super) guessed_bytes: Option<usize>,
}

/// What the blocks of one message say.
#[derive(Default)]
struct Gathered<'a> {
    text: Cow<'a, str>,
    thinking: Cow<'a, str>,
    images: Vec<Cow<'a, str>>,
    /// Native tool calls, joined by commas.
    calls: Vec<u8>,
    /// Bytes that Ollama counts for them.
    guessed_bytes: usize,
    /// For each tool result: the call's id, its text and images.
    results: Vec<(Cow<'a, str>, String, Vec<Cow<'a, str>>)>,
}

impl Converted {
    /// No messages; `size` is about that of all, and `guess` whether Ollama's guess of their tokens is wanted.
    pub(super) fn new(size: usize, guess: bool) -> Self {
        Self { out: Vec::with_capacity(size), prompt_bytes: 0, guessed_bytes: guess.then_some(0) }
    }

    /// The JSON array.
    pub(super) fn json(&mut self) -> Result<String, Fault> {
        let end = if self.out.is_empty() { "[]" } else { "]" };
        push(&mut self.out, end);
        String::from_utf8(std::mem::take(&mut self.out)).map_err(|_| bad("the messages are not UTF-8"))
    }

    /// Adds the system prompt: a text, or text blocks that are joined.
    pub(super) fn system(&mut self, system: &str) -> Result<(), Fault> {
        let text = match system.bytes().next() {
            Some(b'"') => unquote(system),
            Some(b'[') => texts(system).into(),
            _ => return Err(bad("system is neither a text nor a list of text blocks").at("system")),
        };
        if !text.is_empty() {
            self.message("system", &Gathered { text, ..Gathered::default() });
        }
        Ok(())
    }

    /// Adds the message number `at`.
    pub(super) fn add(&mut self, at: usize, message: &Document<'_>) -> Result<(), Fault> {
        let role = message.text("role");
        let gathered = match message.get("content") {
            None => Gathered::default(),
            Some(text) if text.starts_with('"') => {
                let text = unquote(text);
                Gathered { guessed_bytes: text.len(), text, ..Gathered::default() }
            }
            Some(blocks) => gather(at, blocks, self.guessed_bytes.is_some())?,
        };
        if let Some(bytes) = &mut self.guessed_bytes {
            *bytes += role.len() + gathered.guessed_bytes;
        }
        let role = role.to_lowercase();
        let said = !gathered.text.is_empty()
            || !gathered.images.is_empty()
            || !gathered.calls.is_empty()
            || !gathered.thinking.is_empty();
        // what a user answers to calls comes before what it says beside
        let before = role == "user";
        if before {
            self.results(&gathered);
        }
        if said {
            self.message(&role, &gathered);
        }
        if !before {
            self.results(&gathered);
        }
        Ok(())
    }

    fn open(&mut self, role: &str, content: &str) {
        let first = self.out.is_empty();
        push(&mut self.out, if first { "[{\"role\":" } else { ",{\"role\":" });
        string(&mut self.out, role);
        push(&mut self.out, ",\"content\":");
        string(&mut self.out, content);
        self.prompt_bytes += content.len();
    }

    fn images(&mut self, images: &[Cow<'_, str>]) {
        for (at, image) in images.iter().enumerate() {
            push(&mut self.out, if at == 0 { ",\"images\":[" } else { "," });
            string(&mut self.out, image);
        }
        if !images.is_empty() {
            self.out.push(b']');
        }
    }

    fn message(&mut self, role: &str, said: &Gathered<'_>) {
        self.open(role, &said.text);
        if !said.thinking.is_empty() {
            self.prompt_bytes += said.thinking.len();
            push(&mut self.out, ",\"thinking\":");
            string(&mut self.out, &said.thinking);
        }
        self.images(&said.images);
        if !said.calls.is_empty() {
            self.prompt_bytes += said.calls.len();
            push(&mut self.out, ",\"tool_calls\":[");
            self.out.extend_from_slice(&said.calls);
            self.out.push(b']');
        }
        self.out.push(b'}');
    }

    fn results(&mut self, said: &Gathered<'_>) {
        for (id, text, images) in &said.results {
            self.open("tool", text);
            self.images(images);
            if !id.is_empty() {
                push(&mut self.out, ",\"tool_call_id\":");
                string(&mut self.out, id);
            }
            self.out.push(b'}');
        }
    }
}

fn gather(at: usize, blocks: &str, guess: bool) -> Result<Gathered<'_>, Fault> {
    if !blocks.starts_with('[') {
        let found = match blocks.bytes().next() {
            Some(b'{') => "object",
            Some(b't' | b'f') => "bool",
            _ => "number",
        };
        return Err(bad(format!("json: cannot unmarshal {found} into Go value of type []anthropic.ContentBlock")));
    }
    let mut gathered = Gathered::default();
    for (place, block) in documents(blocks, &tables::BLOCK).enumerate() {
        let block = block.map_err(refuse)?;
        if guess {
            gathered.guessed_bytes += estimate::block(&block);
        }
        take(&mut gathered, &block, || format!("messages[{at}].content[{place}].type"))?;
    }
    Ok(gathered)
}

fn take<'a>(said: &mut Gathered<'a>, block: &Document<'a>, place: impl Fn() -> String) -> Result<(), Fault> {
    match &*block.text("type") {
        "text" => said.text.to_mut().push_str(&block.text("text")),
        "image" => {
            let source = block.get("source").ok_or_else(|| bad("invalid image source"))?;
            said.images.push(image(source)?);
        }
        kind @ ("tool_use" | "server_tool_use") => {
            for field in ["id", "name"] {
                if kind == "tool_use" && block.text(field).is_empty() {
                    return Err(bad(format!("tool_use block missing required '{field}' field")));
                }
            }
            let input = block.get("input").unwrap_or("{}");
            if !input.starts_with('{') {
                return Err(bad(format!("{}: the input of a tool_use block is an object", place())).at(place()));
            }
            let first = said.calls.is_empty();
            push(&mut said.calls, if first { "{\"id\":" } else { ",{\"id\":" });
            push(&mut said.calls, block.get("id").unwrap_or("\"\""));
            push(&mut said.calls, ",\"function\":{\"index\":0,\"name\":");
            push(&mut said.calls, block.get("name").unwrap_or("\"\""));
            push(&mut said.calls, ",\"arguments\":");
            push(&mut said.calls, input);
            push(&mut said.calls, "}}");
        }
        "tool_result" => {
            let (text, images) = result(block.get("content"))?;
            said.results.push((block.text("tool_use_id"), text, images));
        }
        "web_search_tool_result" => {
            let found = block.get("content").map(found).unwrap_or_default();
            said.results.push((block.text("tool_use_id"), found, Vec::new()));
        }
        "thinking" => said.thinking = block.text("thinking"),
        // holds nothing that another model could read
        "redacted_thinking" => {}
        other => {
            let text = format!(
                "{} is {other:?}, which no model here can read: send text, image, tool_use, tool_result or thinking blocks",
                place()
            );
            return Err(bad(text).at(place()));
        }
    }
    Ok(())
}

/// A picture's base64.
fn image(source: &str) -> Result<Cow<'_, str>, Fault> {
    let source = read(source.as_bytes(), &tables::SOURCE).map_err(refuse)?;
    let kind = source.text("type");
    if kind != "base64" {
        return Err(bad(format!("invalid image source type: {kind}. Only base64 images are supported.")));
    }
    let data = source.text("data");
    check_base64(&data).map_err(|e| bad(format!("invalid base64 image data: {e}")))?;
    Ok(data)
}

/// The text and the pictures of a tool's result.
fn result(content: Option<&str>) -> Result<(String, Vec<Cow<'_, str>>), Fault> {
    let Some(content) = content else { return Ok(Default::default()) };
    if content.starts_with('"') {
        return Ok((unquote(content).into_owned(), Vec::new()));
    }
    let (mut sources, mut images) = (Vec::new(), Vec::new());
    let _ = elements(content, |block| {
        if member(block, "type").is_some_and(|kind| unquote(kind) == "image") {
            sources.push(member(block, "source").filter(|source| source.starts_with('{')));
        }
    });
    for source in sources {
        images.push(image(source.ok_or_else(|| bad("invalid tool_result image source"))?)?);
    }
    Ok((texts(content), images))
}

/// The texts of a list's text blocks, joined.
fn texts(list: &str) -> String {
    let mut all = String::new();
    let _ = elements(list, |block| {
        let is_text = member(block, "type").is_some_and(|kind| unquote(kind) == "text");
        if let Some(text) = member(block, "text").filter(|text| is_text && text.starts_with('"')) {
            all.push_str(&unquote(text));
        }
    });
    all
}

/// What an earlier search found, as Ollama tells it to a model.
fn found(content: &str) -> String {
    if content.starts_with('"') {
        return unquote(content).into_owned();
    }
    let mut all = String::new();
    let of = |item: &str, name| {
        member(item, name).filter(|value| *value != "null").map(|value| unquote(value).into_owned()).unwrap_or_default()
    };
    let _ = elements(content, |item| {
        if of(item, "type") == "web_search_result" {
            all.push_str(&format!("- {}: {}\n", of(item, "title"), of(item, "url")));
        }
    });
    all
}

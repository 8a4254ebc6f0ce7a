//! Anthropic's messages as Ollama's: blocks are gathered into one message, tool results become messages of their own.

use std::borrow::Cow;

use super::parts::{self, Images};
use super::{estimate, tables};
use crate::domain::Fault;
use crate::wire::fields::shown;
use crate::wire::go_json::{Document, read, text_len};
use crate::wire::out::{push, string};
use crate::wire::request::{bad, refuse};
use crate::wire::text::Text;

/// Converted messages.
pub(super) struct Converted {
    /// The JSON array, without its end while it grows.
    out: String,
    /// Bytes of text that become prompt tokens.
    pub(super) prompt_bytes: usize,
    /// Bytes that Ollama counts for its guess of them, where one is wanted.
    pub(super) guessed_bytes: Option<usize>,
}

/// What the blocks of one message say.
#[derive(Default)]
struct Gathered<'a> {
    text: Text<'a>,
    thinking: Text<'a>,
    images: Images<'a>,
    /// Native tool calls, joined by commas.
    calls: String,
    /// Bytes of the calls' inputs.
    input_bytes: usize,
    /// Bytes that Ollama counts for them.
    guessed_bytes: usize,
    /// For each tool result: the call's id, its text and images.
    results: Vec<(Cow<'a, str>, Text<'a>, Images<'a>)>,
}

impl Converted {
    /// Converts the system prompt and the messages; `size` is about that of all, and `guess` whether Ollama's guess of their
    /// tokens is wanted.
    pub(super) fn of(system: Option<&str>, messages: &[Document<'_>], size: usize, guess: bool) -> Result<Self, Fault> {
        let guessed_bytes = guess.then_some(0);
        let mut converted = Self { out: String::with_capacity(size), prompt_bytes: 0, guessed_bytes };
        let text = system.map(parts::system).transpose()?.unwrap_or_default();
        if !text.is_empty() {
            converted.message("system", &Gathered { text, ..Gathered::default() });
        }
        for (at, message) in messages.iter().enumerate() {
            converted.add(at, message)?;
        }
        Ok(converted)
    }

    /// The JSON array.
    pub(super) fn json(&mut self) -> String {
        let end = if self.out.is_empty() { "[]" } else { "]" };
        push(&mut self.out, end);
        std::mem::take(&mut self.out)
    }

    /// Adds the message number `at`.
    fn add(&mut self, at: usize, message: &Document<'_>) -> Result<(), Fault> {
        let role = message.text("role");
        let gathered = match message.get("content") {
            None => Gathered::default(),
            Some(text) if text.starts_with('"') => {
                let guessed_bytes = if self.guessed_bytes.is_some() { text_len(text) } else { 0 };
                Gathered { guessed_bytes, text: Text::Written(text), ..Gathered::default() }
            }
            Some(blocks) => gather(at, message.documents(blocks).unwrap_or_default(), self.guessed_bytes.is_some())?,
        };
        if let Some(bytes) = &mut self.guessed_bytes {
            *bytes += role.len() + gathered.guessed_bytes;
        }
        let lower = role.bytes().all(|byte| byte.is_ascii_lowercase());
        let role = if lower { role } else { role.to_lowercase().into() };
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

    fn open(&mut self, role: &str, content: &Text<'_>) {
        let first = self.out.is_empty();
        push(&mut self.out, if first { "[{\"role\":" } else { ",{\"role\":" });
        string(&mut self.out, role);
        push(&mut self.out, ",\"content\":");
        content.write(&mut self.out);
        self.prompt_bytes += content.len();
    }

    fn images(&mut self, images: &[Cow<'_, str>]) {
        for (at, image) in images.iter().enumerate() {
            push(&mut self.out, if at == 0 { ",\"images\":[" } else { "," });
            string(&mut self.out, image);
        }
        if !images.is_empty() {
            self.out.push(']');
        }
    }

    fn message(&mut self, role: &str, said: &Gathered<'_>) {
        self.open(role, &said.text);
        if !said.thinking.is_empty() {
            self.prompt_bytes += said.thinking.len();
            push(&mut self.out, ",\"thinking\":");
            said.thinking.write(&mut self.out);
        }
        self.images(&said.images);
        if !said.calls.is_empty() {
            self.prompt_bytes += said.input_bytes;
            push(&mut self.out, ",\"tool_calls\":[");
            self.out.push_str(&said.calls);
            self.out.push(']');
        }
        self.out.push('}');
    }

    fn results(&mut self, said: &Gathered<'_>) {
        for (id, text, images) in &said.results {
            self.open("tool", text);
            self.images(images);
            if !id.is_empty() {
                push(&mut self.out, ",\"tool_call_id\":");
                string(&mut self.out, id);
            }
            self.out.push('}');
        }
    }
}

fn gather<'a>(at: usize, blocks: &[Document<'a>], guess: bool) -> Result<Gathered<'a>, Fault> {
    let mut gathered = Gathered::default();
    for (place, block) in blocks.iter().enumerate() {
        if guess {
            gathered.guessed_bytes += estimate::block(block);
        }
        take(&mut gathered, block, || format!("messages[{at}].content[{place}]"))?;
    }
    Ok(gathered)
}

fn take<'a>(said: &mut Gathered<'a>, block: &Document<'a>, place: impl Fn() -> String) -> Result<(), Fault> {
    match &*block.text("type") {
        "text" => said.text.join(Text::of(block.get("text"))),
        "image" => {
            let source = block.get("source").ok_or_else(|| bad("invalid image source"))?;
            let source = read(source.as_bytes(), &tables::SOURCE).map_err(refuse)?;
            said.images.push(parts::image(&source.text("type"), source.text("data"))?);
        }
        kind @ ("tool_use" | "server_tool_use") => {
            for field in ["id", "name"] {
                if kind == "tool_use" && block.text(field).is_empty() {
                    return Err(bad(format!("tool_use block missing required '{field}' field")));
                }
            }
            let input = block.get("input").unwrap_or(if block.has("input") { "null" } else { "{}" });
            if !input.starts_with(['{', 'n']) {
                let place = format!("{}.input", place());
                return Err(bad(format!("{place} is {}: use an object", shown(input))).at(place));
            }
            let first = said.calls.is_empty();
            push(&mut said.calls, if first { "{\"id\":" } else { ",{\"id\":" });
            push(&mut said.calls, block.get("id").unwrap_or("\"\""));
            push(&mut said.calls, ",\"function\":{\"index\":0,\"name\":");
            push(&mut said.calls, block.get("name").unwrap_or("\"\""));
            push(&mut said.calls, ",\"arguments\":");
            push(&mut said.calls, input);
            said.input_bytes += input.len();
            push(&mut said.calls, "}}");
        }
        "tool_result" => {
            let (text, images) = parts::result(block.get("content"), &place())?;
            said.results.push((block.text("tool_use_id"), text, images));
        }
        "web_search_tool_result" => {
            said.results.push((block.text("tool_use_id"), parts::found(block.get("content")).into(), Vec::new()));
        }
        "thinking" => {
            if let Some(thinking) = block.get("thinking") {
                said.thinking = Text::Written(thinking);
            }
        }
        // holds nothing that another model could read
        "redacted_thinking" => {}
        other => return Err(parts::odd(&place(), other, "text, image, tool_use, tool_result or thinking blocks")),
    }
    Ok(())
}

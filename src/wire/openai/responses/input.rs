//! `input` as native messages: items are read as Ollama reads them, then merged into turns as it merges them.

use std::borrow::Cow;

use super::super::messages::image_data;
use super::super::request::bad;
use super::tables;
use crate::domain::Fault;
use crate::wire::go_json::{Bad, Document, Struct, Type, checked, documents, go_quote, read};
use crate::wire::out::{push, string};
use crate::wire::text::Text;

/// An input item.
enum Item<'a> {
    Message {
        role: Cow<'a, str>,
        content: Content<'a>,
    },
    Call(Call<'a>),
    Output {
        call_id: Cow<'a, str>,
        output: Content<'a>,
    },
    /// With the thinking.
    Thought(Text<'a>),
    /// History that the following message tells again.
    Search,
}

/// What a message or an output holds.
enum Content<'a> {
    Text(Text<'a>),
    Parts(Vec<Part<'a>>),
}

/// A part of a content.
enum Part<'a> {
    Text(Text<'a>),
    Image { url: Cow<'a, str> },
    File,
}

struct Call<'a> {
    id: Cow<'a, str>,
    name: Cow<'a, str>,
    /// A JSON object in text.
    arguments: Cow<'a, str>,
}

/// A native message.
#[derive(Default)]
struct Message<'a> {
    role: Cow<'a, str>,
    content: Text<'a>,
    thinking: Text<'a>,
    images: Vec<Cow<'a, str>>,
    /// Arguments are a JSON object.
    calls: Vec<Call<'a>>,
    call_id: Cow<'a, str>,
}

/// Native messages.
pub(super) struct Messages {
    /// The JSON array.
    pub(super) json: String,
    /// Bytes of text that become prompt tokens.
    pub(super) prompt_bytes: usize,
}

/// Converts `instructions` and `input`, of which the last text and the last list count, as for Ollama.
pub(super) fn convert(document: &Document<'_>) -> Result<Messages, Fault> {
    let (mut text, mut list) = (Text::default(), Vec::new());
    for input in document.all("input") {
        match input.strip_prefix('"') {
            Some(_) => text = Text::Written(input),
            None => list = items(document, input).map_err(bad)?,
        }
    }
    let instructions = Text::of(document.get("instructions"));
    let mut turns = Turns::default();
    for (role, content) in [("system", instructions), ("user", text)] {
        if !content.is_empty() {
            turns.push(Message { role: role.into(), content, ..Message::default() });
        }
    }
    turns.list.reserve(list.len());
    turns.read(list)?;
    Ok(write(&turns.list))
}

/// What is wrong with the `input` of a body in which something is wrong: Ollama says that first, wherever it stands.
pub(super) fn fault(body: &[u8]) -> Option<Fault> {
    let document = read(body, &tables::INPUT).ok()?;
    let mut lists = document.all("input").filter(|input| !input.starts_with('"'));
    lists.find_map(|list| items(&document, list).err()).map(bad)
}

/// Reads all items before any of them is judged, as Ollama does.
fn items<'a>(document: &Document<'a>, list: &'a str) -> Result<Vec<Item<'a>>, String> {
    expect_array(list, "input")?;
    each(document, list, &tables::ITEMS, |at, one| item(one).map_err(|why| format!("input[{at}]: {why}")))
}

/// Reads each element of a list in the document, which is kept there unless it says the same thing twice.
fn each<'a, T>(
    document: &Document<'a>,
    list: &'a str,
    like: &'static Type,
    read: impl Fn(usize, &Document<'a>) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let again;
    let found = match document.documents(list) {
        Some(found) => found,
        None => {
            again = documents(list, like);
            &again
        }
    };
    let mut all = Vec::with_capacity(found.len());
    for (at, one) in found.iter().enumerate() {
        all.push(read(at, one)?);
    }
    Ok(all)
}

fn item<'a>(item: &Document<'a>) -> Result<Item<'a>, String> {
    fits(item, &tables::ITEM)?;
    match &*item.text("type") {
        "" if item.text("role").is_empty() => Err("input item missing required 'type' field".into()),
        "" | "message" => Ok(Item::Message { role: item.text("role"), content: content(item, "content")? }),
        "function_call" => {
            fits(item, &tables::CALL)?;
            let (id, name, arguments) = (item.text("call_id"), item.text("name"), item.text("arguments"));
            Ok(Item::Call(Call { id, name, arguments }))
        }
        "function_call_output" => {
            fits(item, &tables::OUTPUT)?;
            Ok(Item::Output { call_id: item.text("call_id"), output: content(item, "output")? })
        }
        "reasoning" => {
            fits(item, &tables::THOUGHT)?;
            Ok(Item::Thought(Text::of(item.get("encrypted_content"))))
        }
        "web_search_call" => fits(item, &tables::SEARCH).map(|()| Item::Search),
        other => Err(format!("unknown input item type: {}", go_quote(other))),
    }
}

/// A content or an output: a string or a list of parts.
fn content<'a>(item: &Document<'a>, name: &str) -> Result<Content<'a>, String> {
    let Some(token) = item.get(name) else { return Ok(Content::Parts(Vec::new())) };
    if token.starts_with('"') {
        return Ok(Content::Text(Text::Written(token)));
    }
    expect_array(token, name)?;
    each(item, token, &tables::PARTS, |at, one| part(one).map_err(|why| format!("{name}[{at}]: {why}")))
        .map(Content::Parts)
}

fn part<'a>(part: &Document<'a>) -> Result<Part<'a>, String> {
    fits(part, &tables::PART)?;
    let text = || Part::Text(Text::of(part.get("text")));
    match &*part.text("type") {
        "input_text" => fits(part, &tables::INPUT_TEXT).map(|()| text()),
        "output_text" => fits(part, &tables::OUTPUT_TEXT).map(|()| text()),
        "input_image" => fits(part, &tables::IMAGE).map(|()| Part::Image { url: part.text("image_url") }),
        "input_file" => fits(part, &tables::FILE).map(|()| Part::File),
        other => Err(format!("unknown content type: {other}")),
    }
}

/// What must be a list (or null, which is an empty one).
fn expect_array(token: &str, name: &str) -> Result<(), String> {
    let wrong = match token.bytes().next() {
        Some(b'[') => return Ok(()),
        Some(b'{') => "object",
        Some(b't' | b'f') => "bool",
        _ => "number",
    };
    Err(format!(
        "{name} must be a string or array: json: cannot unmarshal {wrong} into Go value of type []json.RawMessage"
    ))
}

fn fits(written: &Document<'_>, table: &'static Struct) -> Result<(), String> {
    written.fits(table).map_err(Bad::text)
}

/// Messages as they grow.
#[derive(Default)]
struct Turns<'a> {
    list: Vec<Message<'a>>,
    /// Thinking that waits for the assistant's next message.
    thought: Text<'a>,
}

impl<'a> Turns<'a> {
    fn push(&mut self, message: Message<'a>) {
        self.list.push(message);
    }

    fn read(&mut self, items: Vec<Item<'a>>) -> Result<(), Fault> {
        let mut items = items.into_iter().peekable();
        while let Some(item) = items.next() {
            match item {
                Item::Thought(text) => self.thought = text,
                Item::Search => {}
                Item::Message { role, content } => {
                    let answered = match items.peek() {
                        Some(Item::Output { call_id, .. }) => Some(call_id.as_ref()),
                        _ => None,
                    };
                    let message = message(role, content)?;
                    self.message(message, answered);
                }
                Item::Call(call) => self.call(call)?,
                Item::Output { call_id, output } => {
                    let message = message("tool".into(), output)?;
                    self.push(Message { call_id, ..message });
                }
            }
        }
        if !self.thought.is_empty() {
            let thinking = std::mem::take(&mut self.thought);
            self.push(Message { role: "assistant".into(), thinking, ..Message::default() });
        }
        Ok(())
    }

    /// Takes a message; an assistant's between a call and the output that `answered` names joins the call's.
    fn message(&mut self, mut message: Message<'a>, answered: Option<&str>) {
        if message.role == "assistant" {
            if !self.thought.is_empty() {
                message.thinking = std::mem::take(&mut self.thought);
            }
            let answered = answered.filter(|id| !id.is_empty());
            let called = |last: &Message<'_>| {
                last.role == "assistant" && last.calls.iter().any(|call| Some(&*call.id) == answered)
            };
            if let Some(last) = self.list.last_mut().filter(|last| answered.is_some() && called(last)) {
                if !last.content.is_empty() && !message.content.is_empty() {
                    last.content.join("\n".into());
                }
                last.content.join(message.content);
                last.images.append(&mut message.images);
                if !message.thinking.is_empty() {
                    last.thinking = message.thinking;
                }
                return;
            }
        }
        self.push(message);
    }

    /// Takes a call, which joins the assistant's message before it.
    fn call(&mut self, mut call: Call<'a>) -> Result<(), Fault> {
        call.arguments = object(call.arguments)?;
        if self.list.last().is_none_or(|last| last.role != "assistant") {
            self.push(Message { role: "assistant".into(), ..Message::default() });
        }
        if let Some(last) = self.list.last_mut() {
            last.calls.push(call);
            if !self.thought.is_empty() {
                last.thinking = std::mem::take(&mut self.thought);
            }
        }
        Ok(())
    }
}

/// The arguments of a call as the object they must be; Ollama's words if they are not.
fn object(text: Cow<'_, str>) -> Result<Cow<'_, str>, Fault> {
    if text.is_empty() {
        return Ok("{}".into());
    }
    // Go looks one blank further than the end, and has other words for it in a text than in a stream
    let why = match checked(&format!("{text} ")) {
        Ok(value) if value.starts_with('{') || value == "null" => return Ok(text),
        Ok(_) => "Value looks like object, but can't find closing '}' symbol".to_owned(),
        Err(why) => {
            Some(why.text()).filter(|why| why != "unexpected EOF").unwrap_or("unexpected end of JSON input".into())
        }
    };
    Err(bad(format!("failed to parse function call arguments: {why}")))
}

fn message<'a>(role: Cow<'a, str>, content: Content<'a>) -> Result<Message<'a>, Fault> {
    let mut message = Message { role, ..Message::default() };
    let parts = match content {
        Content::Text(content) => return Ok(Message { content, ..message }),
        Content::Parts(parts) => parts,
    };
    for part in parts {
        match part {
            Part::Text(text) => message.content.join(text),
            Part::Image { url } if url.is_empty() => {
                let text =
                    "input_image without image_url: only images in the request itself are supported, as a data: URL";
                return Err(bad(text).at("input"));
            }
            Part::Image { url } => message.images.push(image(url)?),
            Part::File => return Err(bad("file inputs are not currently supported")),
        }
    }
    Ok(message)
}

fn image(url: Cow<'_, str>) -> Result<Cow<'_, str>, Fault> {
    match url {
        Cow::Borrowed(url) => image_data(url).map(Cow::Borrowed),
        Cow::Owned(url) => image_data(&url).map(|data| Cow::Owned(data.to_owned())),
    }
}

fn write(list: &[Message<'_>]) -> Messages {
    let mut out = String::with_capacity(list.iter().map(|message| message.content.len() + 64).sum());
    out.push('[');
    let mut prompt_bytes = 0;
    for (at, message) in list.iter().enumerate() {
        push(&mut out, if at == 0 { "{\"role\":" } else { ",{\"role\":" });
        string(&mut out, &message.role);
        push(&mut out, ",\"content\":");
        message.content.write(&mut out);
        prompt_bytes += message.content.len() + message.thinking.len();
        if !message.thinking.is_empty() {
            push(&mut out, ",\"thinking\":");
            message.thinking.write(&mut out);
        }
        for (at, data) in message.images.iter().enumerate() {
            push(&mut out, if at == 0 { ",\"images\":[" } else { "," });
            string(&mut out, data);
        }
        if !message.images.is_empty() {
            out.push(']');
        }
        for (at, call) in message.calls.iter().enumerate() {
            push(&mut out, if at == 0 { ",\"tool_calls\":[{" } else { ",{" });
            if !call.id.is_empty() {
                push(&mut out, "\"id\":");
                string(&mut out, &call.id);
                out.push(',');
            }
            push(&mut out, "\"function\":{\"index\":0,\"name\":");
            string(&mut out, &call.name);
            push(&mut out, ",\"arguments\":");
            push(&mut out, &call.arguments);
            push(&mut out, "}}");
            prompt_bytes += call.arguments.len();
        }
        if !message.calls.is_empty() {
            out.push(']');
        }
        if !message.call_id.is_empty() {
            push(&mut out, ",\"tool_call_id\":");
            string(&mut out, &message.call_id);
        }
        out.push('}');
    }
    out.push(']');
    Messages { json: out, prompt_bytes }
}

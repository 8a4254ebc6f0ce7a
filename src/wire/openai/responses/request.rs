//! `/v1/responses` requests.

use super::super::chat::think_of;
use super::super::fields::{REASONING, RESPONSES, TEXT};
use super::super::request::{self, bad, keep_alive, keeps_tools, made, refuse};
use super::json::{Member, Order, compact, object, plain, sorted};
use super::{input, tables, tools};
use crate::domain::{Fault, InferenceRequest, Intent, JsonField, Measure, ReplyShape, Surface, Task, field};
use crate::wire::fields::{self, shown};
use crate::wire::go_json::{Document, go_quote, read, unquote};
use crate::wire::ollama::check_model;
use crate::wire::options::{Merged, Options};
use crate::wire::out::{push, string};

/// Reads a request and turns it into a native chat.
pub(in crate::wire) fn decode_responses(body: &[u8]) -> Result<InferenceRequest, Fault> {
    let document = read(body, &tables::RESPONSES).map_err(|bad| input::fault(body).unwrap_or_else(|| refuse(bad)))?;
    let messages = input::convert(&document)?;
    let reasoning = Reasoning::read(&document)?;
    let think = think_of(&reasoning.effort)?;
    let model = document.text("model").into_owned();
    check_model(Task::Chat, &model)?;
    fields::check(&document, RESPONSES)?;
    for object in document.all("reasoning") {
        let reasoning = read(object.as_bytes(), &tables::REASONING).map_err(refuse)?;
        fields::check_in("reasoning.", &reasoning, REASONING)?;
    }
    let keeps_tools = keeps_tools(&document)?;
    let native_tools = document.get("tools").map(tools::convert).transpose()?;
    let text = Format::read(&document)?;
    let mut measure =
        Measure { body_bytes: body.len(), prompt_bytes: messages.prompt_bytes, inputs: 1, output_cap: None };
    // nothing to answer: Ollama only loads the model
    let intent = if messages.json == "[]" { Intent::Load } else { Intent::Answer };
    let mut fields = vec![made("messages", messages.json)];
    fields.extend(text.native()?);
    if let (true, Some(tools)) = (keeps_tools, &native_tools) {
        // as the caller wrote them: Go's escapes are not tokens of the model's
        measure.prompt_bytes += document.get("tools").map_or(0, str::len);
        fields.push(made("tools", tools));
    }
    fields.extend(think);
    fields.extend(truncate(&document)?);
    let options = options(&document)?;
    measure.output_cap = options.output_cap;
    let stream = document.is_true("stream");
    Ok(InferenceRequest {
        surface: Surface::V1Responses,
        model,
        stream,
        intent,
        fields,
        echo: Echo { document: &document, order: Order::of(stream) }.fields(&reasoning, &text, &options)?,
        options: options.sampling,
        runner_options: options.runner,
        keep_alive: keep_alive(&document),
        shape: ReplyShape {
            one_tool_call: document.get("parallel_tool_calls") == Some("false"),
            ..ReplyShape::default()
        },
        measure,
    })
}

/// Options in Ollama's terms: what the request names, then the gateway's own `options` object, then a temperature of
/// 1.0, which Ollama sets on this route over a model's own (and no `top_p`).
fn options(document: &Document<'_>) -> Result<Options, Fault> {
    let mut merged = Merged::read(document.all("options"))?;
    for (name, option) in [("temperature", "temperature"), ("top_p", "top_p"), ("max_output_tokens", "num_predict")] {
        if let Some(value) = document.get(name) {
            merged.set(option, value);
        }
    }
    if !merged.has("temperature") {
        merged.set("temperature", "1.0");
    }
    merged.check()
}

/// Whether the prompt may be cut: the gateway's own `truncate`, or OpenAI's `truncation`, which must not say another thing.
fn truncate(document: &Document<'_>) -> Result<Option<JsonField>, Fault> {
    let Some(truncation) = document.get("truncation") else { return Ok(request::truncate(document)) };
    let wish = match &*unquote(truncation) {
        "auto" => "true",
        "disabled" => "false",
        _ => {
            let text = format!("truncation is {}: use \"auto\" or \"disabled\"", shown(truncation));
            return Err(bad(text).at("truncation"));
        }
    };
    match document.get("truncate") {
        Some(own) if own != wish => {
            let text = format!("truncate is {own} and truncation is {truncation}: send only one of them");
            Err(bad(text).at("truncation"))
        }
        _ => Ok(Some(made("truncate", wish))),
    }
}

/// The reply repeats what was in force, which the policy decided where the request said nothing.
pub(in crate::wire) fn say_truncated(echo: &mut Vec<JsonField>) {
    echo.retain(|(name, _)| name != "truncation");
    echo.push(made("truncation", "\"auto\""));
}

/// `reasoning`.
#[derive(Default)]
struct Reasoning {
    effort: String,
    summary: String,
}

impl Reasoning {
    fn read(document: &Document<'_>) -> Result<Self, Fault> {
        let mut found = Self::default();
        for object in document.all("reasoning") {
            let reasoning = read(object.as_bytes(), &tables::REASONING).map_err(refuse)?;
            for (name, place) in [("effort", &mut found.effort), ("summary", &mut found.summary)] {
                if reasoning.get(name).is_some() {
                    *place = reasoning.text(name).into_owned();
                }
            }
        }
        Ok(found)
    }
}

/// `text.format`.
#[derive(Default)]
struct Format {
    present: bool,
    kind: String,
    name: String,
    schema: Option<String>,
    strict: Option<String>,
}

impl Format {
    fn read(document: &Document<'_>) -> Result<Self, Fault> {
        let mut found = Self::default();
        for object in document.all("text") {
            let text = read(object.as_bytes(), &tables::TEXT).map_err(refuse)?;
            fields::check_in("text.", &text, TEXT)?;
            for object in text.all("format") {
                let format = read(object.as_bytes(), &tables::TEXT_FORMAT).map_err(refuse)?;
                found.present = true;
                if format.get("type").is_some() {
                    found.kind = format.text("type").into_owned();
                }
                if format.get("name").is_some() {
                    found.name = format.text("name").into_owned();
                }
                found.schema = format.get("schema").map(str::to_owned).or(found.schema);
                found.strict = format.get("strict").map(str::to_owned).or(found.strict);
            }
        }
        Ok(found)
    }

    /// The native `format`.
    fn native(&self) -> Result<Option<JsonField>, Fault> {
        match (&*self.kind, &self.schema) {
            ("" | "text", _) => Ok(None),
            ("json_object", _) => Ok(Some(made("format", "\"json\""))),
            ("json_schema", Some(schema)) => request::schema("text.format.schema", schema).map(Some),
            ("json_schema", None) => {
                let text = "text.format is json_schema without a schema: send text.format.schema, or use json_object";
                Err(bad(text).at("text.format.schema"))
            }
            (other, _) => {
                let kinds = "use \"text\", \"json_object\" or \"json_schema\"";
                Err(bad(format!("text.format.type is {}: {kinds}", go_quote(other))).at("text.format.type"))
            }
        }
    }
}

/// What the reply repeats, each value as Ollama prints it in the order of the reply.
struct Echo<'a> {
    document: &'a Document<'a>,
    order: Order,
}

impl Echo<'_> {
    fn fields(&self, reasoning: &Reasoning, text: &Format, options: &Options) -> Result<Vec<JsonField>, Fault> {
        let document = self.document;
        let mut fields = Vec::with_capacity(8);
        let instructions = document.text("instructions");
        if !instructions.is_empty() {
            let mut out = String::with_capacity(instructions.len() + 2);
            string(&mut out, &instructions);
            fields.push(made("instructions", out));
        }
        for (name, option) in [("temperature", "temperature"), ("top_p", "top_p"), ("max_output_tokens", "num_predict")]
        {
            if let Some(value) = field(&options.sampling, option) {
                fields.push(made(name, plain(value.get())));
            }
        }
        let mut add = |name: &'static str, write: &dyn Fn(&mut Vec<u8>)| -> Result<(), Fault> {
            let mut out = Vec::with_capacity(32);
            write(&mut out);
            let out = String::from_utf8(out).map_err(|_| bad(format!("{name} is not UTF-8")))?;
            fields.push(made(name, out));
            Ok(())
        };
        if let Some(list) = document.get("tools") {
            add("tools", &|out| tools::echo(out, list, self.order))?;
        }
        if text.present {
            add("text", &|out| self.text(out, text))?;
        }
        if !(reasoning.effort.is_empty() && reasoning.summary.is_empty()) {
            add("reasoning", &|out| self.reasoning(out, reasoning))?;
        }
        if let Some(metadata) = document.get("metadata") {
            add("metadata", &|out| sorted(out, metadata))?;
        }
        for name in ["truncation", "tool_choice", "parallel_tool_calls"] {
            if let Some(value) = document.get(name) {
                add(name, &|out| compact(out, value))?;
            }
        }
        Ok(fields)
    }

    fn text(&self, out: &mut Vec<u8>, text: &Format) {
        let kind = |out: &mut Vec<u8>| string(out, &text.kind);
        let name = |out: &mut Vec<u8>| string(out, &text.name);
        let schema = |out: &mut Vec<u8>| compact(out, text.schema.as_deref().unwrap_or("null"));
        let strict = |out: &mut Vec<u8>| push(out, text.strict.as_deref().unwrap_or("null"));
        let mut members: Vec<Member<'_>> = vec![("type", &kind)];
        if !text.name.is_empty() {
            members.push(("name", &name));
        }
        if text.schema.is_some() {
            members.push(("schema", &schema));
        }
        if text.strict.is_some() {
            members.push(("strict", &strict));
        }
        push(out, "{\"format\":");
        object(out, self.order, &mut members);
        out.push(b'}');
    }

    /// What was not said is null in a stream and absent in a whole reply.
    fn reasoning(&self, out: &mut Vec<u8>, reasoning: &Reasoning) {
        let said = |out: &mut Vec<u8>, text: &str| match text {
            "" => push(out, "null"),
            text => string(out, text),
        };
        let effort = |out: &mut Vec<u8>| said(out, &reasoning.effort);
        let summary = |out: &mut Vec<u8>| said(out, &reasoning.summary);
        let mut members: Vec<Member<'_>> = Vec::with_capacity(2);
        if self.order == Order::Sorted || !reasoning.effort.is_empty() {
            members.push(("effort", &effort));
        }
        if self.order == Order::Sorted || !reasoning.summary.is_empty() {
            members.push(("summary", &summary));
        }
        object(out, self.order, &mut members);
    }
}

//! The native reply behind a recorded `/v1` one: what the gateway's upstream has to say so that its caller reads what
//! was recorded.
//!
//! A stream that stops without its end was a failure that Ollama swallowed there; natively it is an error line.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::recording::Recording;
use super::support::raw::Raw;

/// What Ollama said natively when the model's process died (recording `crash_chat_stream`).
const DIED: &str = "{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n";

/// The native route behind a `/v1` route.
pub(crate) fn route(path: &str) -> Option<&'static str> {
    match path {
        "/v1/chat/completions" | "/v1/responses" | "/v1/messages" => Some("/api/chat"),
        "/v1/completions" => Some("/api/generate"),
        "/v1/embeddings" => Some("/api/embed"),
        _ => None,
    }
}

/// The native reply behind a recorded reply.
pub(crate) fn reply(recording: &Recording) -> Raw {
    let recorded = &recording.reply;
    let body = recorded.body();
    if recorded.status != 200 {
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        return whole(recorded.status, &recorded.reason, json!({ "error": body["error"]["message"] }).to_string());
    }
    let chat = recording.path != "/v1/completions";
    if recorded.header("content-type") == Some("text/event-stream") {
        let mut frames = Vec::new();
        let mut reader = Reader::default();
        for frame in &recorded.frames {
            frames.extend(reader.frame(&recording.path, frame).map(|piece| piece.text(chat, true)));
        }
        if !reader.ended {
            frames.push(DIED.to_owned());
        }
        let headers = vec![("Content-Type".to_owned(), "application/x-ndjson".to_owned())];
        return Raw { status: 200, reason: "OK".into(), headers, framing: "chunked".into(), frames, cut: false };
    }
    let body = match recording.path.as_str() {
        "/v1/embeddings" => vectors(&body),
        "/v1/responses" => responses_whole(&body).text(chat, false),
        "/v1/messages" => messages_whole(&body).text(chat, false),
        _ => openai(&body).text(chat, false),
    };
    whole(200, "OK", body)
}

fn whole(status: u16, reason: &str, body: String) -> Raw {
    let headers = vec![("Content-Type".to_owned(), "application/json; charset=utf-8".to_owned())];
    let (reason, framing) = (reason.to_owned(), "length".to_owned());
    Raw { status, reason, headers, framing, frames: vec![body], cut: false }
}

/// One native object.
#[derive(Default)]
struct Piece {
    text: String,
    thinking: Option<String>,
    /// Id, name, arguments as an object's text.
    calls: Vec<(String, String, String)>,
    logprobs: Option<Box<RawValue>>,
    /// The reason, tokens of the prompt, tokens of the answer.
    done: Option<(String, u64, u64)>,
}

impl Piece {
    fn text(&self, chat: bool, line: bool) -> String {
        let string = |text: &str| Value::from(text).to_string();
        let mut out = String::from("{\"model\":\"upstream\",\"created_at\":\"2026-11-23T06:28:50.123456789Z\"");
        out += &format!(
            ",\"{}\":{}",
            if chat { "message\":{\"role\":\"assistant\",\"content" } else { "response" },
            string(&self.text)
        );
        if let Some(thinking) = &self.thinking {
            out += &format!(",\"thinking\":{}", string(thinking));
        }
        let calls = self.calls.iter().enumerate().map(|(at, (id, name, arguments))| {
            let (id, name) = (string(id), string(name));
            format!("{{\"id\":{id},\"function\":{{\"index\":{at},\"name\":{name},\"arguments\":{arguments}}}}}")
        });
        let calls: Vec<String> = calls.collect();
        if !calls.is_empty() {
            out += &format!(",\"tool_calls\":[{}]", calls.join(","));
        }
        out += if chat { "}" } else { "" };
        match &self.done {
            None => out += ",\"done\":false",
            Some((reason, ..)) => out += &format!(",\"done\":true,\"done_reason\":\"{reason}\""),
        }
        if let Some(logprobs) = &self.logprobs {
            out += &format!(",\"logprobs\":{}", logprobs.get());
        }
        if let Some((_, prompt, output)) = &self.done {
            out += &format!(
                ",\"total_duration\":9000000,\"load_duration\":1000000,\"prompt_eval_count\":{prompt},\
                 \"prompt_eval_duration\":2000000,\"eval_count\":{output},\"eval_duration\":3000000"
            );
        }
        out += if line { "}\n" } else { "}" };
        out
    }
}

#[derive(Deserialize)]
struct OpenAi {
    #[serde(default)]
    model: String,
    choices: Vec<Choice>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Said>,
    message: Option<Said>,
    finish_reason: Option<String>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    reasoning: Option<String>,
    #[serde(default)]
    tool_calls: Vec<Value>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Box<RawValue>,
}

/// The piece behind an object of `/v1/chat/completions` or `/v1/completions`.
fn openai(text: &str) -> Piece {
    let OpenAi { choices, usage, .. } = serde_json::from_str(text).unwrap();
    let choice = choices.into_iter().next().unwrap();
    let said = choice.delta.or(choice.message);
    let said = said.unwrap_or(Said { content: choice.text, reasoning: None, tool_calls: Vec::new() });
    let call = |call: Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&call["id"]), text(&call["function"]["name"]), text(&call["function"]["arguments"]))
    };
    Piece {
        text: said.content.unwrap_or_default(),
        thinking: said.reasoning,
        calls: said.tool_calls.into_iter().map(call).collect(),
        logprobs: choice.logprobs.map(|list| list.content),
        done: choice.finish_reason.map(|reason| {
            let count = |name: &str| usage.as_ref().and_then(|usage| usage[name].as_u64()).unwrap_or(7);
            let reason = if reason == "tool_calls" { "stop".to_owned() } else { reason };
            (reason, count("prompt_tokens"), count("completion_tokens"))
        }),
    }
}

/// Reads the frames of a stream.
#[derive(Default)]
struct Reader {
    ended: bool,
    /// The call of a tool that is being written.
    call: Option<(String, String, String)>,
}

impl Reader {
    /// The piece behind a frame, if one is. What is said several times in a frame was one piece natively.
    fn frame(&mut self, path: &str, frame: &str) -> Option<Piece> {
        let mut whole: Option<Piece> = None;
        for data in frame.lines().filter_map(|line| line.strip_prefix("data: ")) {
            if data == "[DONE]" {
                self.ended = true;
                continue;
            }
            let piece = match path {
                "/v1/responses" => self.responses(&serde_json::from_str(data).unwrap()),
                "/v1/messages" => self.messages(&serde_json::from_str(data).unwrap()),
                _ => openai_chunk(data, &mut whole),
            };
            match (&mut whole, piece) {
                (Some(whole), Some(piece)) => whole.merge(piece),
                (whole, piece) => *whole = piece.or(whole.take()),
            }
        }
        whole
    }

    fn responses(&mut self, event: &Value) -> Option<Piece> {
        let delta = || event["delta"].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap_or_default() {
            "response.output_text.delta" => Some(Piece { text: delta(), ..Piece::default() }),
            "response.reasoning_summary_text.delta" => Some(Piece { thinking: Some(delta()), ..Piece::default() }),
            "response.output_item.done" if event["item"]["type"] == "function_call" => {
                Some(Piece { calls: vec![function_call(&event["item"])], ..Piece::default() })
            }
            "response.completed" | "response.incomplete" => {
                self.ended = true;
                Some(Piece { done: Some(usage("stop", &event["response"]["usage"])), ..Piece::default() })
            }
            _ => None,
        }
    }

    fn messages(&mut self, event: &Value) -> Option<Piece> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap_or_default() {
            "content_block_start" if event["content_block"]["type"] == "tool_use" => {
                let block = &event["content_block"];
                self.call = Some((text(&block["id"]), text(&block["name"]), String::new()));
                None
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                match delta["type"].as_str().unwrap_or_default() {
                    "text_delta" => Some(Piece { text: text(&delta["text"]), ..Piece::default() }),
                    "thinking_delta" => Some(Piece { thinking: Some(text(&delta["thinking"])), ..Piece::default() }),
                    "input_json_delta" => {
                        self.call.as_mut()?.2 += &text(&delta["partial_json"]);
                        None
                    }
                    _ => None,
                }
            }
            "content_block_stop" => self.call.take().map(|call| Piece { calls: vec![call], ..Piece::default() }),
            "message_delta" => {
                let reason = stopped(&event["delta"]["stop_reason"]);
                Some(Piece { done: Some(usage(reason, &event["usage"])), ..Piece::default() })
            }
            "message_stop" => {
                self.ended = true;
                None
            }
            _ => None,
        }
    }
}

/// A chunk; usage belongs to the piece before it, and the chunk without a model is what Ollama makes of an error.
fn openai_chunk(data: &str, before: &mut Option<Piece>) -> Option<Piece> {
    let chunk: OpenAi = serde_json::from_str(data).unwrap();
    if chunk.choices.is_empty() {
        if let Some((_, prompt, output)) = before.as_mut().and_then(|piece| piece.done.as_mut()) {
            let count = |name: &str| chunk.usage.as_ref().and_then(|usage| usage[name].as_u64()).unwrap_or_default();
            (*prompt, *output) = (count("prompt_tokens"), count("completion_tokens"));
        }
        return None;
    }
    (!chunk.model.is_empty()).then(|| openai(data))
}

impl Piece {
    fn merge(&mut self, later: Self) {
        self.text += &later.text;
        self.thinking = self.thinking.take().or(later.thinking);
        self.calls.extend(later.calls);
        self.logprobs = self.logprobs.take().or(later.logprobs);
        self.done = self.done.take().or(later.done);
    }
}

fn usage(reason: &str, usage: &Value) -> (String, u64, u64) {
    let count = |name: &str| usage[name].as_u64().unwrap_or_default();
    (reason.to_owned(), count("input_tokens"), count("output_tokens"))
}

fn stopped(reason: &Value) -> &'static str {
    if reason == "max_tokens" { "length" } else { "stop" }
}

fn function_call(item: &Value) -> (String, String, String) {
    let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
    (text("call_id"), text("name"), text("arguments"))
}

fn responses_whole(body: &str) -> Piece {
    let body: Value = serde_json::from_str(body).unwrap();
    let mut piece = Piece { done: Some(usage("stop", &body["usage"])), ..Piece::default() };
    for item in body["output"].as_array().into_iter().flatten() {
        let text = |list: &Value| {
            let parts = list.as_array().into_iter().flatten();
            parts.map(|part| part["text"].as_str().unwrap_or_default()).collect::<String>()
        };
        match item["type"].as_str().unwrap_or_default() {
            "reasoning" => piece.thinking = Some(text(&item["summary"])),
            "message" => piece.text += &text(&item["content"]),
            _ => piece.calls.push(function_call(item)),
        }
    }
    piece
}

fn messages_whole(body: &str) -> Piece {
    let body: Value = serde_json::from_str(body).unwrap();
    let reason = stopped(&body["stop_reason"]);
    let mut piece = Piece { done: Some(usage(reason, &body["usage"])), ..Piece::default() };
    for block in body["content"].as_array().into_iter().flatten() {
        let text = |name: &str| block[name].as_str().unwrap_or_default().to_owned();
        match block["type"].as_str().unwrap_or_default() {
            "thinking" => piece.thinking = Some(text("thinking")),
            "tool_use" => piece.calls.push((text("id"), text("name"), block["input"].to_string())),
            _ => piece.text += &text("text"),
        }
    }
    piece
}

#[derive(Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
    usage: Value,
}

#[derive(Deserialize)]
struct Embedding {
    embedding: Box<RawValue>,
}

fn vectors(body: &str) -> String {
    let Embeddings { data, usage } = serde_json::from_str(body).unwrap();
    let vectors: Vec<String> = data.iter().map(|item| vector(item.embedding.get())).collect();
    format!(
        "{{\"model\":\"upstream\",\"embeddings\":[{}],\"total_duration\":9000000,\"load_duration\":1000000,\
         \"prompt_eval_count\":{}}}",
        vectors.join(","),
        usage["prompt_tokens"]
    )
}

fn vector(text: &str) -> String {
    let Ok(packed) = serde_json::from_str::<String>(text) else { return text.to_owned() };
    let bytes = base64::engine::general_purpose::STANDARD.decode(packed).unwrap();
    let floats = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()).to_string());
    format!("[{}]", floats.collect::<Vec<_>>().join(","))
}

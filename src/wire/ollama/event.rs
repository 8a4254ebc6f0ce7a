//! One NDJSON line, or one whole body, of Ollama's native replies as an event.
//!
//! Fields this version does not know are kept as written; so are values nobody here needs to understand.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::{Event, Finish, Json, Piece, Task, Vectors};
use crate::wire::go_json::{members, members_and_list, unquote};

/// A line that is not Ollama's protocol; the text is for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a reply of Ollama: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads one line of a stream.
///
/// # Errors
/// [`Malformed`] when it is no JSON object, a field has the wrong type, or nothing says what it is.
pub fn decode_event(task: Task, line: &[u8]) -> Result<Event, Malformed> {
    if task.embeds() {
        return decode_body(task, &Bytes::copy_from_slice(line));
    }
    let line = std::str::from_utf8(line).map_err(|e| Malformed(e.to_string()))?;
    let mut reply = Reply::default();
    members(line, |key, value| reply.member(task, key, value)).map_err(|e| Malformed(e.text()))?;
    reply.event(Reply::piece)
}

/// Reads the whole body of a reply that is no stream. Vectors stay where they are: they are looked at once.
///
/// # Errors
/// As [`decode_event`].
pub fn decode_body(task: Task, body: &Bytes) -> Result<Event, Malformed> {
    let name = match task {
        Task::Embed => "embeddings",
        Task::Embeddings => "embedding",
        Task::Chat | Task::Generate => return decode_event(task, body),
    };
    let mut reply = Reply::default();
    let list = members_and_list(body, name, |key, value| reply.member(task, key, value));
    let list = list.map_err(|e| Malformed(e.text()))?;
    reply.event(|reply| {
        let (vectors, each) = list.ok_or_else(|| Malformed(format!("no {name} in it")))?;
        Ok(Event::Vectors(Box::new(Vectors {
            vectors: body.slice_ref(vectors),
            each: each.into_iter().map(|vector| body.slice_ref(vector)).collect(),
            metrics: reply.finish.metrics,
            extra: reply.piece.extra,
        })))
    })
}

/// Fields of Ollama's own, of which null means that they are not there; of others it is a value.
const KNOWN: [&str; 19] = [
    "model",
    "created_at",
    "response",
    "thinking",
    "tool_calls",
    "message",
    "embeddings",
    "embedding",
    "done",
    "done_reason",
    "context",
    "logprobs",
    "error",
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
];

#[derive(Default)]
struct Reply {
    error: Option<String>,
    done: Option<bool>,
    piece: Piece,
    finish: Finish,
    /// The first fault.
    bad: Option<Malformed>,
}

impl Reply {
    fn member(&mut self, task: Task, key: Cow<'_, str>, value: &str) {
        if let Err(malformed) = self.take(task, key, value) {
            self.bad.get_or_insert(malformed);
        }
    }

    fn take(&mut self, task: Task, key: Cow<'_, str>, value: &str) -> Result<(), Malformed> {
        if value == "null" && KNOWN.contains(&&*key) {
            return Ok(());
        }
        match &*key {
            "model" => {}
            "created_at" => self.piece.created_at = text(&key, value)?,
            "response" if task == Task::Generate => self.piece.text = text(&key, value)?,
            "thinking" if task == Task::Generate => self.piece.thinking = some_text(&key, value)?,
            "tool_calls" if task == Task::Generate => self.piece.tool_calls = Some(raw(value)),
            "message" if task == Task::Chat => self.message(value)?,
            "embeddings" if task == Task::Embed => return Err(Malformed("embeddings is no list".into())),
            "embedding" if task == Task::Embeddings => return Err(Malformed("embedding is no list".into())),
            "done" => self.done = Some(value == "true"),
            "done_reason" => self.finish.reason = some_text(&key, value)?,
            "context" => self.finish.context = Some(raw(value)),
            "logprobs" => self.piece.logprobs = Some(raw(value)),
            "error" => self.error = Some(error_text(value)),
            _ if self.metric(&key, value)? => {}
            _ => self.piece.extra.push((key.into_owned().into(), raw(value))),
        }
        Ok(())
    }

    fn message(&mut self, object: &str) -> Result<(), Malformed> {
        let mut bad = None;
        let piece = &mut self.piece;
        let mut take = |key: Cow<'_, str>, value: &str| {
            match &*key {
                "role" | "content" | "thinking" | "tool_calls" if value == "null" => {}
                "role" if value == "\"assistant\"" => {}
                "role" => piece.role = Some(text(&key, value)?),
                "content" => piece.text = text(&key, value)?,
                "thinking" => piece.thinking = some_text(&key, value)?,
                "tool_calls" => piece.tool_calls = Some(raw(value)),
                _ => piece.message_extra.push((key.into_owned().into(), raw(value))),
            }
            Ok(())
        };
        members(object, |key, value| {
            if let Err(malformed) = take(key, value) {
                bad.get_or_insert(malformed);
            }
        })
        .map_err(|e| Malformed(format!("message: {}", e.text())))?;
        bad.map_or(Ok(()), Err)
    }

    fn metric(&mut self, key: &str, value: &str) -> Result<bool, Malformed> {
        let metrics = &mut self.finish.metrics;
        match key {
            "total_duration" => metrics.total = duration(key, value)?,
            "load_duration" => metrics.load = duration(key, value)?,
            "prompt_eval_count" => metrics.prompt_tokens = count(key, value)?,
            "prompt_eval_duration" => metrics.prompt = duration(key, value)?,
            "eval_count" => metrics.output_tokens = count(key, value)?,
            "eval_duration" => metrics.generation = duration(key, value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What it is, unless it is an error or has a fault.
    fn event(mut self, good: impl FnOnce(Self) -> Result<Event, Malformed>) -> Result<Event, Malformed> {
        match (self.error.take(), self.bad.take()) {
            (Some(error), _) => Ok(Event::Error(error)),
            (None, Some(malformed)) => Err(malformed),
            (None, None) => good(self),
        }
    }

    fn piece(mut self) -> Result<Event, Malformed> {
        let done = self.done.ok_or_else(|| Malformed("no \"done\" in it".into()))?;
        if done {
            self.piece.finish = Some(self.finish);
        }
        Ok(Event::Piece(Box::new(self.piece)))
    }
}

fn text(key: &str, value: &str) -> Result<String, Malformed> {
    if value.starts_with('"') {
        return Ok(unquote(value).into_owned());
    }
    Err(Malformed(format!("{key} is no string")))
}

fn some_text(key: &str, value: &str) -> Result<Option<String>, Malformed> {
    Ok(Some(text(key, value)?).filter(|text| !text.is_empty()))
}

/// An error's words; one that is no string is shown as written.
fn error_text(value: &str) -> String {
    if value.starts_with('"') { unquote(value).into_owned() } else { value.to_owned() }
}

fn count(key: &str, value: &str) -> Result<u64, Malformed> {
    if let Ok(count) = value.parse::<u64>() {
        return Ok(count);
    }
    // Go's clock may step back: a negative figure is none
    if value.parse::<i64>().is_ok() { Ok(0) } else { Err(Malformed(format!("{key} is no whole number"))) }
}

fn duration(key: &str, value: &str) -> Result<Duration, Malformed> {
    count(key, value).map(Duration::from_nanos)
}

/// A value as written, but on one line: a line end in it, which can only be white space, would end a frame.
fn raw(value: &str) -> Json {
    Json::known(match memchr::memchr2(b'\n', b'\r', value.as_bytes()) {
        Some(_) => value.replace(['\n', '\r'], " "),
        None => value.to_owned(),
    })
}

//! Replies of `/v1/responses`: one object, or a stream of numbered events.
//!
//! One item is open at a time; what begins another one closes it first, so that every index of the output belongs to
//! one item. A stream ends with `response.completed` or `response.failed`, and nothing else.

use std::borrow::Cow;

use super::events::{event, number_of, raw_of, text_of};
use super::items::{Item, Kind, escape, part, quoted, summary};
use super::json::{Member, Order};
use super::object::{Object, State};
use crate::domain::{Fault, FaultClass, Finish, InferenceRequest, Piece, RequestId};
use crate::wire::ollama::{ToolCall, tool_calls};

/// The state of one reply.
#[derive(Debug)]
pub(in crate::wire) struct ResponsesReply {
    object: Object,
    /// The number of the next event.
    next: u64,
    /// All items so far; the last one may be in progress.
    items: Vec<Item>,
    /// White space after a call: nothing, unless text follows.
    blank: String,
}

impl ResponsesReply {
    /// `model` is a JSON string already.
    pub(in crate::wire) fn new(request: &InferenceRequest, model: &[u8], id: RequestId, created: u64) -> Self {
        let object = Object::new(model, id, created, &request.echo);
        Self { object, next: 0, items: Vec::new(), blank: String::new() }
    }

    /// Appends the events that say one piece.
    pub(in crate::wire) fn chunk(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        self.begin(out);
        self.think(piece.thinking.as_deref().unwrap_or_default(), out);
        self.say(&piece.text, out);
        for call in tool_calls(piece) {
            self.call(&call, out);
        }
        if let Some(finish) = &piece.finish {
            let state = self.ended(piece, finish);
            self.close(state.word(), out);
            self.respond(state, out);
        }
    }

    /// Appends the events that end the reply with a fault. What was said before stands in its output.
    pub(in crate::wire) fn fault(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        self.begin(out);
        if let Some(open) = self.open() {
            open.status = "incomplete";
        }
        let code = if fault.class == FaultClass::RateLimited { "rate_limit_exceeded" } else { "server_error" };
        self.respond(State::Failed { code, message: &fault.message }, out);
    }

    /// Appends the body of a reply that is no stream.
    pub(in crate::wire) fn whole(&self, piece: &Piece, out: &mut Vec<u8>) {
        let mut items = Vec::new();
        let mut add = |kind: Kind| {
            let id = self.object.item_id(kind.prefix(), items.len());
            items.push(Item { id, status: "completed", kind });
        };
        if let Some(thinking) = piece.thinking.as_deref().filter(|text| !text.is_empty()) {
            add(Kind::Thought(escaped(thinking)));
        }
        let calls = tool_calls(piece);
        // white space before a call is nothing
        if calls.is_empty() || !piece.text.trim().is_empty() {
            add(Kind::Message(escaped(&piece.text)));
        }
        for (nth, call) in calls.iter().enumerate() {
            add(self.function_call(call, nth));
        }
        let state = match &piece.finish {
            Some(finish) => self.ended(piece, finish),
            None => self.ended(piece, &Finish::default()),
        };
        if let Some(last) = items.last_mut().filter(|last| !matches!(last.kind, Kind::Call { .. })) {
            last.status = state.word();
        }
        self.object.write(out, Order::Declared, state, &items);
        out.push(b'\n');
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.next == 0 {
            for name in ["response.created", "response.in_progress"] {
                let response = |out: &mut Vec<u8>| self.object.write(out, Order::Sorted, State::Begun, &[]);
                event(&mut self.next, out, name, &[("response", &response)]);
            }
        }
    }

    /// The event that ends the stream.
    fn respond(&mut self, state: State<'_>, out: &mut Vec<u8>) {
        let response = |out: &mut Vec<u8>| self.object.write(out, Order::Sorted, state, &self.items);
        event(&mut self.next, out, state.event(), &[("response", &response)]);
    }

    fn ended(&self, piece: &Piece, finish: &Finish) -> State<'static> {
        let done: Option<jiff::Timestamp> = piece.created_at.parse().ok();
        let done = done.and_then(|done| u64::try_from(done.as_second()).ok()).unwrap_or_default();
        // two machines, two clocks: nothing is done before it was asked for
        let at = done.max(self.object.created());
        State::Ended { metrics: finish.metrics, at }
    }

    fn think(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        if !matches!(self.open(), Some(Item { kind: Kind::Thought(_), .. })) {
            self.add(Kind::Thought(Vec::new()), out);
        }
        let at = self.items.len() - 1;
        let Some(Item { id, kind: Kind::Thought(kept), .. }) = self.items.last_mut() else { return };
        let delta = escape(kept, text);
        let delta = |out: &mut Vec<u8>| quoted(out, delta);
        event(
            &mut self.next,
            out,
            "response.reasoning_summary_text.delta",
            &[
                ("item_id", &text_of(id)),
                ("output_index", &number_of(at)),
                ("summary_index", &raw_of("0")),
                ("delta", &delta),
            ],
        );
    }

    fn say(&mut self, text: &str, out: &mut Vec<u8>) {
        let mut text = Cow::Borrowed(text);
        if matches!(self.items.last(), Some(Item { kind: Kind::Call { .. }, .. })) {
            self.blank.push_str(&text);
            if self.blank.trim().is_empty() {
                return;
            }
            text = std::mem::take(&mut self.blank).into();
        }
        if text.is_empty() {
            return;
        }
        if !matches!(self.open(), Some(Item { kind: Kind::Message(_), .. })) {
            self.add(Kind::Message(Vec::new()), out);
        }
        let at = self.items.len() - 1;
        let Some(Item { id, kind: Kind::Message(kept), .. }) = self.items.last_mut() else { return };
        let delta = escape(kept, &text);
        let delta = |out: &mut Vec<u8>| quoted(out, delta);
        event(
            &mut self.next,
            out,
            "response.output_text.delta",
            &[
                ("item_id", &text_of(id)),
                ("output_index", &number_of(at)),
                ("content_index", &raw_of("0")),
                ("delta", &delta),
                ("logprobs", &raw_of("[]")),
            ],
        );
    }

    fn call(&mut self, call: &ToolCall<'_>, out: &mut Vec<u8>) {
        let calls = self.items.iter().filter(|item| matches!(item.kind, Kind::Call { .. })).count();
        self.blank.clear();
        self.add(self.function_call(call, calls), out);
        self.close("completed", out);
    }

    /// A native call; one without an id gets one.
    fn function_call(&self, call: &ToolCall<'_>, nth: usize) -> Kind {
        let call_id = match call.id {
            "\"\"" | "null" => format!("\"{}\"", self.object.item_id("call", nth)),
            id => id.to_owned(),
        };
        Kind::Call { call_id, name: call.name.to_owned(), arguments: escaped(call.arguments) }
    }

    /// The item in progress.
    fn open(&mut self) -> Option<&mut Item> {
        self.items.last_mut().filter(|item| item.status == "in_progress")
    }

    /// Begins an item; the one in progress ends.
    fn add(&mut self, kind: Kind, out: &mut Vec<u8>) {
        self.close("completed", out);
        let at = self.items.len();
        let id = self.object.item_id(kind.prefix(), at);
        self.items.push(Item { id, status: "in_progress", kind });
        let Some(item) = self.items.last() else { return };
        let begun = |out: &mut Vec<u8>| item.write(out, Order::Sorted);
        let index = number_of(at);
        let name = "response.output_item.added";
        event(&mut self.next, out, name, &[("output_index", &index), ("item", &begun)]);
        let (id, zero) = (text_of(&item.id), raw_of("0"));
        match &item.kind {
            Kind::Message(_) => {
                let part = |out: &mut Vec<u8>| part(out, Order::Sorted, b"");
                let members: [Member<'_>; 4] =
                    [("item_id", &id), ("output_index", &index), ("content_index", &zero), ("part", &part)];
                event(&mut self.next, out, "response.content_part.added", &members);
            }
            Kind::Thought(_) => {
                let part = |out: &mut Vec<u8>| summary(out, Order::Sorted, b"");
                let members: [Member<'_>; 4] =
                    [("item_id", &id), ("output_index", &index), ("summary_index", &zero), ("part", &part)];
                event(&mut self.next, out, "response.reasoning_summary_part.added", &members);
            }
            Kind::Call { arguments, .. } => {
                let delta = |out: &mut Vec<u8>| quoted(out, arguments);
                let members: [Member<'_>; 3] = [("item_id", &id), ("output_index", &index), ("delta", &delta)];
                event(&mut self.next, out, "response.function_call_arguments.delta", &members);
            }
        }
    }

    /// Ends the item in progress, if there is one.
    fn close(&mut self, status: &'static str, out: &mut Vec<u8>) {
        let Some(open) = self.open() else { return };
        open.status = status;
        let at = self.items.len() - 1;
        let Some(item) = self.items.last() else { return };
        let (id, index) = (text_of(&item.id), number_of(at));
        let zero = raw_of("0");
        match &item.kind {
            Kind::Message(text) => {
                let whole = |out: &mut Vec<u8>| quoted(out, text);
                let part = |out: &mut Vec<u8>| part(out, Order::Sorted, text);
                let name = "response.output_text.done";
                let logprobs = raw_of("[]");
                let shared: [Member<'_>; 3] = [("item_id", &id), ("output_index", &index), ("content_index", &zero)];
                let [one, two, three] = shared;
                event(&mut self.next, out, name, &[one, two, three, ("text", &whole), ("logprobs", &logprobs)]);
                event(&mut self.next, out, "response.content_part.done", &[one, two, three, ("part", &part)]);
            }
            Kind::Thought(text) => {
                let whole = |out: &mut Vec<u8>| quoted(out, text);
                let part = |out: &mut Vec<u8>| summary(out, Order::Sorted, text);
                let name = "response.reasoning_summary_text.done";
                let shared: [Member<'_>; 3] = [("item_id", &id), ("output_index", &index), ("summary_index", &zero)];
                let [one, two, three] = shared;
                event(&mut self.next, out, name, &[one, two, three, ("text", &whole)]);
                let name = "response.reasoning_summary_part.done";
                event(&mut self.next, out, name, &[one, two, three, ("part", &part)]);
            }
            Kind::Call { arguments, .. } => {
                let whole = |out: &mut Vec<u8>| quoted(out, arguments);
                let name = "response.function_call_arguments.done";
                let members: [Member<'_>; 3] = [("item_id", &id), ("output_index", &index), ("arguments", &whole)];
                event(&mut self.next, out, name, &members);
            }
        }
        let done = |out: &mut Vec<u8>| item.write(out, Order::Sorted);
        let name = "response.output_item.done";
        event(&mut self.next, out, name, &[("output_index", &index), ("item", &done)]);
    }
}

fn escaped(text: &str) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len() + 2);
    escape(&mut kept, text);
    kept
}

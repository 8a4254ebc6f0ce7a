//! Anthropic's replies: one message, or the events of a stream, in the order in which Ollama sends them.

use crate::domain::{Metrics, Piece, RequestId};
use crate::wire::ollama::{ToolCall, tool_calls};
use crate::wire::out::{number, push, string};

/// What has been said so far.
#[derive(Debug)]
pub(in crate::wire) struct MessagesReply {
    /// `"id":…,"type":"message","role":"assistant","model":…`
    head: Vec<u8>,
    /// Prompt tokens as guessed, until Ollama has counted them.
    guessed_prompt: u64,
    begun: bool,
    /// The number of the block that is open, or comes next.
    index: u64,
    open: Option<Block>,
    /// Thinking that came after the text is not shown, as Ollama does not.
    thought: bool,
    /// The ids of the calls so far; one that comes again is not shown, as Ollama does not.
    called: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Thinking,
    Text,
}

impl MessagesReply {
    /// `model` is a JSON string.
    pub(in crate::wire) fn new(model: &[u8], request: RequestId, guessed_prompt: u64) -> Self {
        let mut head = Vec::with_capacity(96 + model.len());
        push(&mut head, &format!("\"id\":\"msg_{:024x}", request.0));
        push(&mut head, "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
        head.extend_from_slice(model);
        Self { head, guessed_prompt, begun: false, index: 0, open: None, thought: false, called: Vec::new() }
    }

    /// The whole message.
    pub(in crate::wire) fn whole(&self, piece: &Piece, out: &mut Vec<u8>) {
        out.push(b'{');
        out.extend_from_slice(&self.head);
        push(out, ",\"content\":");
        let start = out.len();
        let next = |out: &mut Vec<u8>| push(out, if out.len() == start { "[" } else { "," });
        if let Some(thinking) = piece.thinking.as_deref().filter(|text| !text.is_empty()) {
            next(out);
            push(out, "{\"type\":\"thinking\",\"thinking\":");
            string(out, thinking);
            out.push(b'}');
        }
        if !piece.text.is_empty() {
            next(out);
            push(out, "{\"type\":\"text\",\"text\":");
            string(out, &piece.text);
            out.push(b'}');
        }
        let calls = tool_calls(piece);
        for call in &calls {
            next(out);
            tool_use(out, call, call.arguments);
        }
        push(out, if out.len() == start { "[]" } else { "]" });
        if let Some(reason) = stop_reason(piece, !calls.is_empty()) {
            push(out, ",\"stop_reason\":");
            string(out, reason);
        }
        usage(out, &piece.finish.as_ref().map(|finish| finish.metrics).unwrap_or_default());
        push(out, "}\n");
    }

    /// The events that say a piece.
    pub(in crate::wire) fn events(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            self.begin(piece, out);
        }
        if let Some(text) = piece.thinking.as_deref().filter(|text| !text.is_empty() && !self.thought) {
            self.turn_to(Block::Thinking, out);
            self.delta(out, "{\"type\":\"thinking_delta\",\"thinking\":", text);
        }
        if !piece.text.is_empty() {
            self.turn_to(Block::Text, out);
            self.delta(out, "{\"type\":\"text_delta\",\"text\":", &piece.text);
        }
        for call in tool_calls(piece) {
            if !self.called.iter().any(|id| id == call.id) {
                self.close(out);
                self.call(&call, out);
            }
        }
        if let Some(finish) = &piece.finish {
            self.close(out);
            event(out, "message_delta");
            push(out, ",\"delta\":{");
            if let Some(reason) = stop_reason(piece, !self.called.is_empty()) {
                push(out, "\"stop_reason\":");
                string(out, reason);
            }
            out.push(b'}');
            usage(out, &finish.metrics);
            end(out);
            event(out, "message_stop");
            end(out);
        }
    }

    fn begin(&self, piece: &Piece, out: &mut Vec<u8>) {
        let counted = piece.finish.as_ref().map_or(0, |finish| finish.metrics.prompt_tokens);
        let prompt_tokens = if counted == 0 { self.guessed_prompt } else { counted };
        event(out, "message_start");
        push(out, ",\"message\":{");
        out.extend_from_slice(&self.head);
        push(out, ",\"content\":[]");
        usage(out, &Metrics { prompt_tokens, ..Metrics::default() });
        out.push(b'}');
        end(out);
    }

    /// Opens a block of this kind unless it is open.
    fn turn_to(&mut self, block: Block, out: &mut Vec<u8>) {
        if self.open == Some(block) {
            return;
        }
        self.close(out);
        self.open = Some(block);
        self.start(out);
        push(
            out,
            match block {
                Block::Thinking => "{\"type\":\"thinking\",\"thinking\":\"\"}",
                Block::Text => "{\"type\":\"text\",\"text\":\"\"}",
            },
        );
        end(out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.open.take() else { return };
        self.thought = self.thought || block == Block::Thinking;
        self.stop(out);
    }

    fn start(&self, out: &mut Vec<u8>) {
        event(out, "content_block_start");
        push(out, ",\"index\":");
        number(out, self.index);
        push(out, ",\"content_block\":");
    }

    fn delta(&self, out: &mut Vec<u8>, head: &str, text: &str) {
        event(out, "content_block_delta");
        push(out, ",\"index\":");
        number(out, self.index);
        push(out, ",\"delta\":");
        push(out, head);
        string(out, text);
        out.push(b'}');
        end(out);
    }

    fn stop(&mut self, out: &mut Vec<u8>) {
        event(out, "content_block_stop");
        push(out, ",\"index\":");
        number(out, self.index);
        end(out);
        self.index += 1;
    }

    fn call(&mut self, call: &ToolCall<'_>, out: &mut Vec<u8>) {
        self.called.push(call.id.to_owned());
        self.start(out);
        tool_use(out, call, "{}");
        end(out);
        self.delta(out, "{\"type\":\"input_json_delta\",\"partial_json\":", call.arguments);
        self.stop(out);
    }
}

/// Opens an event: its name and the `type` of its object.
fn event(out: &mut Vec<u8>, name: &str) {
    push(out, "event: ");
    push(out, name);
    push(out, "\ndata: {\"type\":\"");
    push(out, name);
    out.push(b'"');
}

fn end(out: &mut Vec<u8>) {
    push(out, "}\n\n");
}

fn tool_use(out: &mut Vec<u8>, call: &ToolCall<'_>, input: &str) {
    push(out, "{\"type\":\"tool_use\"");
    // Ollama leaves out what is empty
    for (key, value) in [(",\"id\":", call.id), (",\"name\":", call.name)] {
        if value != "\"\"" {
            push(out, key);
            push(out, value);
        }
    }
    push(out, ",\"input\":");
    push(out, input);
    out.push(b'}');
}

fn usage(out: &mut Vec<u8>, metrics: &Metrics) {
    push(out, ",\"usage\":{\"input_tokens\":");
    number(out, metrics.prompt_tokens);
    push(out, ",\"output_tokens\":");
    number(out, metrics.output_tokens);
    out.push(b'}');
}

fn stop_reason(piece: &Piece, called: bool) -> Option<&'static str> {
    let reason = piece.finish.as_ref()?.reason.as_deref().unwrap_or_default();
    match reason {
        _ if called => Some("tool_use"),
        "stop" => Some("end_turn"),
        "length" => Some("max_tokens"),
        "" => None,
        _ => Some("stop_sequence"),
    }
}

//! Turns the events of one request into the bytes its caller reads, in the caller's dialect.
//!
//! One [`Encoder`] per request, because some dialects have state: the first chunk names the role, the finish knows of
//! earlier tool calls. The formats themselves live with their dialects.

use bytes::Bytes;

use super::anthropic::MessagesReply;
use super::error::object_in_stream;
use super::go_json::elements;
use super::ollama;
use super::openai::{ChatReply, CompletionReply, EmbeddingReply, ResponsesReply};
use super::out::{filled, push, string};
use super::pieces::Pieces;
use crate::domain::{Dialect, Event, Fault, FaultClass, InferenceRequest, Json, Piece, RequestId, Surface, Task};

/// Encodes one reply.
#[derive(Debug)]
pub struct Encoder {
    stream: bool,
    /// No tool call is shown after the first one.
    one_call: bool,
    called: bool,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// With the model as a JSON string.
    Native(Task, Vec<u8>),
    Chat(ChatReply),
    Completion(CompletionReply),
    Embeddings(EmbeddingReply),
    Messages(MessagesReply),
    Responses(Box<ResponsesReply>),
}

impl Encoder {
    /// An encoder for the reply to `request`. `id` becomes the `chatcmpl-…` of OpenAI's dialect and `created` (seconds
    /// since 1970) its time.
    #[must_use]
    pub fn new(request: &InferenceRequest, id: RequestId, created: u64) -> Self {
        let mut model = Vec::with_capacity(request.model.len() + 2);
        string(&mut model, &request.model);
        let form = match request.surface {
            Surface::Chat | Surface::Generate | Surface::Embed | Surface::Embeddings => {
                Form::Native(request.surface.task(), model)
            }
            Surface::V1Chat => Form::Chat(ChatReply::new(&model, id, created, request.shape)),
            Surface::V1Completions => Form::Completion(CompletionReply::new(&model, id, created, request.shape)),
            Surface::V1Embeddings => Form::Embeddings(EmbeddingReply::new(model, request.shape)),
            Surface::V1Messages => Form::Messages(MessagesReply::new(&model, id, request.shape.guessed_prompt)),
            Surface::V1Responses => Form::Responses(Box::new(ResponsesReply::new(request, &model, id, created))),
        };
        let stream = request.stream && !request.surface.task().embeds();
        Self { stream, one_call: request.shape.one_tool_call, called: false, form }
    }

    /// Whether the reply that starts with `first` is a stream. Not so when the caller wants none, and for Ollama's
    /// native answer to a load or unload, which is one plain object even when a stream was asked for.
    #[must_use]
    pub fn replies_as_stream(&self, first: &Event) -> bool {
        self.stream && !(matches!(self.form, Form::Native(..)) && moves_model(first))
    }

    /// The `Content-Type` of a reply; `stream` is what [`Self::replies_as_stream`] said.
    #[must_use]
    pub fn content_type(&self, stream: bool) -> &'static str {
        match (&self.form, stream) {
            (Form::Native(..), true) => "application/x-ndjson",
            (Form::Native(..), false) => "application/json; charset=utf-8",
            (_, true) => "text/event-stream",
            (_, false) => "application/json",
        }
    }

    /// Appends the one frame of a stream that says `event`.
    pub fn stream(&mut self, event: &Event, out: &mut Vec<u8>) {
        let first = self.first_call(event);
        self.called = self.called || first.is_some();
        match (first.as_ref().unwrap_or(event), &mut self.form) {
            (Event::Piece(piece), Form::Native(task, model)) => {
                ollama::piece(out, *task, model, piece);
                out.push(b'\n');
            }
            (Event::Piece(piece), Form::Chat(reply)) => reply.chunk(piece, out),
            (Event::Piece(piece), Form::Completion(reply)) => reply.chunk(piece, out),
            (Event::Piece(piece), Form::Messages(reply)) => reply.events(piece, out),
            (Event::Piece(piece), Form::Responses(reply)) => reply.chunk(piece, out),
            (Event::Error(text), _) => self.fault(&Fault::new(FaultClass::UpstreamError, text.as_str()), out),
            // an embedding reply is never a stream; should it come to that, its one object is the stream
            (Event::Vectors(_), _) | (_, Form::Embeddings(_)) => out.extend(self.unary(event).concat()),
        }
    }

    /// The event with the first tool call of the answer only, or none after it, where the caller wants no more than one;
    /// `None` where there is nothing to leave out.
    fn first_call(&self, event: &Event) -> Option<Event> {
        let Event::Piece(piece) = event else { return None };
        let calls = filled(piece.tool_calls.as_ref()).filter(|_| self.one_call)?;
        let mut first = None;
        // cannot fail: the list was scanned when the event was
        let _ = elements(calls.get(), |call| {
            first.get_or_insert(call);
        });
        let first = first.filter(|_| !self.called);
        let tool_calls = first.map(|call| Json::known(format!("[{call}]")));
        Some(Event::Piece(Box::new(Piece { tool_calls, ..(**piece).clone() })))
    }

    fn dialect(&self) -> Dialect {
        match self.form {
            Form::Native(..) => Dialect::Ollama,
            Form::Messages(_) => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Whether each event of a stream is a frame of its own, where several say one event of upstream.
    #[must_use]
    pub fn frames_events(&self) -> bool {
        matches!(self.form, Form::Messages(_) | Form::Responses(_))
    }

    /// Appends a comment, which readers of server-sent events skip; only for streams of that form.
    pub fn comment(&self, text: &str, out: &mut Vec<u8>) {
        push(out, ": ");
        push(out, text);
        push(out, "\n\n");
    }

    /// Appends the frame that ends a stream with a fault, in the dialect's own form.
    pub fn fault(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        let dialect = self.dialect();
        if let Form::Responses(reply) = &mut self.form {
            return reply.fault(fault, out);
        }
        push(
            out,
            match dialect {
                Dialect::Ollama => "",
                Dialect::OpenAi => "data: ",
                Dialect::Anthropic => "event: error\ndata: ",
            },
        );
        object_in_stream(out, dialect, fault);
        push(out, if dialect == Dialect::Ollama { "\n" } else { "\n\n" });
    }

    /// The whole body of a reply that is no stream, in pieces.
    #[must_use]
    pub fn unary(&self, event: &Event) -> Vec<Bytes> {
        let mut pieces = Pieces::default();
        let out = &mut pieces.out;
        let first = self.first_call(event);
        match (first.as_ref().unwrap_or(event), &self.form) {
            (Event::Piece(piece), Form::Native(task, model)) => ollama::piece(out, *task, model, piece),
            (Event::Piece(piece), Form::Chat(reply)) => reply.whole(piece, out),
            (Event::Piece(piece), Form::Completion(reply)) => reply.whole(piece, out),
            (Event::Piece(piece), Form::Messages(reply)) => reply.whole(piece, out),
            (Event::Piece(piece), Form::Responses(reply)) => reply.whole(piece, out),
            (Event::Vectors(vectors), Form::Native(Task::Embeddings, _)) => ollama::vectors(&mut pieces, vectors),
            (Event::Vectors(vectors), Form::Native(_, model)) => ollama::embeddings(&mut pieces, model, vectors),
            (Event::Vectors(vectors), Form::Embeddings(reply)) => reply.whole(vectors, &mut pieces),
            (Event::Error(text), _) => {
                let fault = Fault::new(FaultClass::UpstreamError, text.as_str());
                object_in_stream(out, self.dialect(), &fault);
            }
            // decode_event never gives a text task vectors or the reverse
            (Event::Piece(_), Form::Embeddings(_))
            | (Event::Vectors(_), Form::Chat(_) | Form::Completion(_) | Form::Messages(_) | Form::Responses(_)) => {}
        }
        pieces.finish()
    }
}

fn moves_model(event: &Event) -> bool {
    let Event::Piece(piece) = event else { return false };
    reason(piece).is_some_and(|reason| matches!(reason, "load" | "unload"))
}

fn reason(piece: &Piece) -> Option<&str> {
    piece.finish.as_ref()?.reason.as_deref()
}

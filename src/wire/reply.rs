//! Turns the events of one request into the bytes its caller reads, in the caller's dialect.
//!
//! One [`Encoder`] per request, because some dialects have state: the first chunk names the role, the finish knows of
//! earlier tool calls. The formats themselves live with their dialects.

use super::error::object_in_stream;
use super::ollama;
use super::openai::{ChatReply, CompletionReply, EmbeddingReply, ResponsesReply};
use super::out::{push, string};
use crate::domain::{Dialect, Event, Fault, FaultClass, InferenceRequest, Piece, RequestId, Surface, Task};

/// Encodes one reply.
#[derive(Debug)]
pub struct Encoder {
    stream: bool,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// With the model as a JSON string.
    Native(Task, Vec<u8>),
    Chat(ChatReply),
    Completion(CompletionReply),
    Embeddings(EmbeddingReply),
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
            Surface::V1Responses => Form::Responses(Box::new(ResponsesReply::new(request, &model, id, created))),
        };
        Self { stream: request.stream && !request.surface.task().embeds(), form }
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
        match (event, &mut self.form) {
            (Event::Piece(piece), Form::Native(task, model)) => {
                ollama::piece(out, *task, model, piece);
                out.push(b'\n');
            }
            (Event::Piece(piece), Form::Chat(reply)) => reply.chunk(piece, out),
            (Event::Piece(piece), Form::Completion(reply)) => reply.chunk(piece, out),
            (Event::Piece(piece), Form::Responses(reply)) => reply.chunk(piece, out),
            (Event::Error(text), _) => self.fault(&Fault::new(FaultClass::UpstreamError, text.as_str()), out),
            // an embedding reply is never a stream; should it come to that, its one object is the stream
            (Event::Vectors(_), _) | (_, Form::Embeddings(_)) => out.extend(self.unary(event)),
        }
    }

    /// Appends a comment, which readers of server-sent events skip; only for streams of that form.
    pub fn comment(&self, text: &str, out: &mut Vec<u8>) {
        push(out, ": ");
        push(out, text);
        push(out, "\n\n");
    }

    /// Appends the frame that ends a stream with a fault, in the dialect's own form.
    pub fn fault(&mut self, fault: &Fault, out: &mut Vec<u8>) {
        match &mut self.form {
            Form::Native(..) => {
                object_in_stream(out, Dialect::Ollama, fault);
                out.push(b'\n');
            }
            Form::Responses(reply) => reply.fault(fault, out),
            Form::Chat(_) | Form::Completion(_) | Form::Embeddings(_) => {
                push(out, "data: ");
                object_in_stream(out, Dialect::OpenAi, fault);
                push(out, "\n\n");
            }
        }
    }

    /// The whole body of a reply that is no stream.
    #[must_use]
    pub fn unary(&self, event: &Event) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        match (event, &self.form) {
            (Event::Piece(piece), Form::Native(task, model)) => ollama::piece(&mut out, *task, model, piece),
            (Event::Piece(piece), Form::Chat(reply)) => reply.whole(piece, &mut out),
            (Event::Piece(piece), Form::Completion(reply)) => reply.whole(piece, &mut out),
            (Event::Piece(piece), Form::Responses(reply)) => reply.whole(piece, &mut out),
            (Event::Vectors(vectors), Form::Native(Task::Embeddings, _)) => ollama::vectors(&mut out, vectors),
            (Event::Vectors(vectors), Form::Native(_, model)) => ollama::embeddings(&mut out, model, vectors),
            (Event::Vectors(vectors), Form::Embeddings(reply)) => reply.whole(vectors, &mut out),
            (Event::Error(text), form) => {
                let native = matches!(form, Form::Native(..));
                let dialect = if native { Dialect::Ollama } else { Dialect::OpenAi };
                object_in_stream(&mut out, dialect, &Fault::new(FaultClass::UpstreamError, text.as_str()));
            }
            // decode_event never gives a text task vectors or the reverse
            (Event::Piece(_), Form::Embeddings(_))
            | (Event::Vectors(_), Form::Chat(_) | Form::Completion(_) | Form::Responses(_)) => {}
        }
        out
    }
}

fn moves_model(event: &Event) -> bool {
    let Event::Piece(piece) = event else { return false };
    reason(piece).is_some_and(|reason| matches!(reason, "load" | "unload"))
}

fn reason(piece: &Piece) -> Option<&str> {
    piece.finish.as_ref()?.reason.as_deref()
}

//! What goes back to the caller, and the body that carries the guard with it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::domain::{Event, Fault, FaultClass};
use crate::upstream::Reply;
use crate::wire::Encoder;

use super::in_flight::InFlight;

/// A reply: head and body.
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers beyond `Content-Type`.
    pub headers: Vec<(&'static str, String)>,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: AnswerBody,
}

/// A body that counts what it hands over and settles the request when it goes.
pub struct AnswerBody {
    flight: InFlight,
    source: Source,
}

enum Source {
    /// One piece, known from the start.
    Whole(Option<Bytes>),
    /// As upstream speaks.
    Stream(Box<Stream>),
    Ended,
}

struct Stream {
    first: Option<Event>,
    reply: Reply,
    encoder: Encoder,
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AnswerBody {
    /// A body known from the start. The guard's outcome is settled already unless the whole is `good`.
    pub(super) fn whole(bytes: Vec<u8>, flight: InFlight) -> Self {
        Self { flight, source: Source::Whole(Some(bytes.into())) }
    }

    /// A stream whose first event is known.
    pub(super) fn stream(
        first: Event,
        reply: Reply,
        encoder: Encoder,
        revoked: WaitForCancellationFutureOwned,
        flight: InFlight,
    ) -> Self {
        let stream = Stream { first: Some(first), reply, encoder, revoked: Box::pin(revoked) };
        Self { flight, source: Source::Stream(Box::new(stream)) }
    }
}

/// What a poll of a stream found.
enum Next {
    Event(Event),
    Fault(Fault),
    Ended,
}

impl Stream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.revoked.as_mut().poll(cx).is_ready() {
            let text = "the key was revoked or has expired: the answer ends here";
            return Poll::Ready(Next::Fault(Fault::new(FaultClass::Revoked, text)));
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Next::Event(first));
        }
        self.reply.poll_next(cx).map(|next| match next {
            Some(Ok(event)) => Next::Event(event),
            Some(Err(fault)) => Next::Fault(fault),
            None => Next::Ended,
        })
    }
}

impl Stream {
    /// Appends what was found in the caller's dialect; true for the end.
    fn encode(&mut self, next: Next, flight: &mut InFlight, out: &mut Vec<u8>) -> bool {
        match next {
            Next::Event(event) => {
                flight.event(&event);
                self.encoder.stream(&event, out);
                let last = is_last(&event);
                if last {
                    flight.answered();
                }
                last
            }
            Next::Fault(fault) => {
                flight.faulted(&fault);
                self.encoder.fault(&fault, out);
                true
            }
            Next::Ended => {
                // the pump went without a word, which only a defect in it can do: no stream ends as if it were whole
                let text = "the answer ended here without its end: try again";
                self.encode(Next::Fault(Fault::new(FaultClass::Internal, text)), flight, out)
            }
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        let bytes = match &mut this.source {
            Source::Ended => return Poll::Ready(None),
            Source::Whole(bytes) => {
                let bytes = bytes.take().unwrap_or_default();
                this.source = Source::Ended;
                this.flight.delivered();
                bytes
            }
            Source::Stream(stream) => {
                let mut out = Vec::with_capacity(256);
                let mut ended = false;
                // one event, one frame, as Ollama has it; an event may be nothing in the caller's dialect
                while !ended && out.is_empty() {
                    let next = ready!(stream.poll_next(cx));
                    ended = stream.encode(next, &mut this.flight, &mut out);
                }
                if ended {
                    this.source = Source::Ended;
                }
                Bytes::from(out)
            }
        };
        this.flight.sent(bytes.len());
        Poll::Ready(if bytes.is_empty() { None } else { Some(Ok(Frame::data(bytes))) })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Source::Whole(None) | Source::Ended => SizeHint::with_exact(0),
            Source::Stream(_) => SizeHint::default(),
        }
    }
}

fn is_last(event: &Event) -> bool {
    matches!(event, Event::Piece(piece) if piece.finish.is_some()) || matches!(event, Event::Vectors(_))
}

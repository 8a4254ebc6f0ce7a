//! What goes back to the caller, and the body that carries the guard with it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::domain::{Event, Fault, FaultClass};
use crate::upstream::Reply;
use crate::wire::Encoder;

use super::in_flight::InFlight;
use super::line::{Ready, Started};
use super::waiting::{Heard, Waiting};

/// Longest body, in bytes, whose length is told beforehand: Go's HTTP server sends a longer one as a chunk (recordings
/// `show`, `tags`).
const LONGEST_WITH_LENGTH: usize = 2048;

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
    /// The guard; while the request still waits it is inside the source.
    flight: Option<InFlight>,
    source: Source,
    /// Whether the length is kept to ourselves.
    chunked: bool,
}

enum Source {
    /// Pieces known from the start, none of them empty.
    Whole(std::vec::IntoIter<Bytes>),
    /// As upstream speaks.
    Stream(Box<Stream>),
    /// The request has not begun, and its caller hears so.
    Waiting(Box<Waiting>, Box<Encoder>),
    Ended,
}

struct Stream {
    /// What is known already.
    next: Option<Next>,
    reply: Option<Reply>,
    encoder: Encoder,
    /// What is encoded and not handed over yet, and whether nothing follows it.
    unsent: Bytes,
    ended: bool,
    ends: Ends,
}

/// What ends a running answer before its end.
pub(super) struct Ends {
    /// The key is no longer valid.
    pub(super) revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The gateway stops without waiting for it.
    pub(super) cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Ends {
    /// The fault that ends it, once there is one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if self.revoked.as_mut().poll(cx).is_ready() {
            let text = "the key was revoked or has expired: the answer ends here";
            return Poll::Ready(Fault::new(FaultClass::Revoked, text));
        }
        self.cut.as_mut().poll(cx).map(|()| {
            let text = "the gateway was stopped before the answer was complete: try again in a moment";
            Fault::new(FaultClass::Stopped, text).retry(Duration::from_secs(2))
        })
    }
}

impl AnswerBody {
    /// A body known from the start. The guard's outcome is settled already unless the whole is `good`.
    pub(super) fn whole(pieces: Vec<Bytes>, flight: InFlight) -> Self {
        Self { flight: Some(flight), source: Source::Whole(pieces.into_iter()), chunked: false }
    }

    /// The same without telling its length beforehand, if `so`.
    pub(super) fn chunked(mut self, so: bool) -> Self {
        self.chunked = so;
        self
    }

    /// A stream whose first event is known.
    pub(super) fn stream(first: Event, reply: Reply, encoder: Encoder, ends: Ends, flight: InFlight) -> Self {
        let stream = Stream::new(Next::Event(first), Some(reply), encoder, ends);
        Self { flight: Some(flight), source: Source::Stream(Box::new(stream)), chunked: true }
    }

    /// A stream whose first event is still to come.
    pub(super) fn waiting(waiting: Waiting, encoder: Encoder) -> Self {
        Self { flight: None, source: Source::Waiting(Box::new(waiting), Box::new(encoder)), chunked: true }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match (&mut self.source, &mut self.flight) {
                (Source::Waiting(waiting, encoder), _) => match ready!(waiting.poll(cx)) {
                    Heard::Comment(text) => {
                        let mut out = Vec::with_capacity(64);
                        encoder.comment(&text, &mut out);
                        waiting.said(out.len());
                        return Poll::Ready(Some(out.into()));
                    }
                    Heard::Arrived(arrived) => {
                        let mut out = Vec::new();
                        // the head is gone: what it would have said is a comment
                        if let Some(overflow) = arrived.1.overflow() {
                            encoder.comment(&format!("overflow; {overflow}"), &mut out);
                        }
                        self.arrive(*arrived);
                        if !out.is_empty() {
                            return Poll::Ready(Some(out.into()));
                        }
                    }
                },
                (Source::Whole(pieces), Some(flight)) => {
                    let next = pieces.next();
                    if pieces.as_slice().is_empty() {
                        flight.delivered();
                        self.source = Source::Ended;
                    }
                    return Poll::Ready(next);
                }
                (Source::Stream(stream), Some(flight)) => {
                    // one event, one frame, as Ollama has it; an event may be nothing in the caller's dialect
                    if stream.unsent.is_empty() {
                        let mut out = Vec::with_capacity(256);
                        while !stream.ended && out.is_empty() {
                            let next = ready!(stream.poll_next(cx));
                            stream.ended = stream.encode(next, flight, &mut out);
                        }
                        stream.unsent = out.into();
                    }
                    let frame = stream.frame();
                    if stream.ended && stream.unsent.is_empty() {
                        self.source = Source::Ended;
                    }
                    return Poll::Ready(Some(frame));
                }
                (Source::Ended, _) | (_, None) => return Poll::Ready(None),
            }
        }
    }

    /// The wait is over: what comes next is the stream, or the fault that it ends with.
    fn arrive(&mut self, arrived: (Ready, InFlight, Result<Started, Fault>)) {
        let Source::Waiting(_, encoder) = std::mem::replace(&mut self.source, Source::Ended) else { return };
        let (ready, flight, started) = arrived;
        let (next, reply) = match started {
            Ok(Started { first, reply }) => (Next::Event(first), reply),
            Err(fault) => (Next::Fault(fault), None),
        };
        self.source = Source::Stream(Box::new(Stream::new(next, reply, *encoder, ready.ends())));
        self.flight = Some(flight);
    }
}

/// What a poll of a stream found.
enum Next {
    Event(Event),
    Fault(Fault),
    Ended,
}

impl Stream {
    fn new(first: Next, reply: Option<Reply>, encoder: Encoder, ends: Ends) -> Self {
        Self { next: Some(first), reply, encoder, unsent: Bytes::new(), ended: false, ends }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if !matches!(self.next, Some(Next::Fault(_)))
            && let Poll::Ready(fault) = self.ends.poll(cx)
        {
            return Poll::Ready(Next::Fault(fault));
        }
        if let Some(next) = self.next.take() {
            return Poll::Ready(next);
        }
        let Some(reply) = &mut self.reply else { return Poll::Ready(Next::Ended) };
        reply.poll_next(cx).map(|next| match next {
            Some(Ok(event)) => Next::Event(event),
            Some(Err(fault)) => Next::Fault(fault),
            None => Next::Ended,
        })
    }
}

impl Stream {
    /// The next frame of what is encoded.
    fn frame(&mut self) -> Bytes {
        if !self.encoder.frames_events() {
            return std::mem::take(&mut self.unsent);
        }
        let end = self.unsent.windows(2).position(|two| two == b"\n\n");
        self.unsent.split_to(end.map_or(self.unsent.len(), |end| end + 2))
    }

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
        let next = ready!(self.poll_bytes(cx)).filter(|bytes| !bytes.is_empty());
        if let (Some(bytes), Some(flight)) = (&next, &mut self.flight) {
            flight.sent(bytes.len());
        }
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(pieces) if !self.chunked => {
                let length = pieces.as_slice().iter().map(Bytes::len).sum::<usize>();
                if length > LONGEST_WITH_LENGTH { SizeHint::default() } else { SizeHint::with_exact(length as u64) }
            }
            Source::Ended => SizeHint::with_exact(0),
            Source::Whole(_) | Source::Stream(_) | Source::Waiting(..) => SizeHint::default(),
        }
    }
}

fn is_last(event: &Event) -> bool {
    matches!(event, Event::Piece(piece) if piece.finish.is_some()) || matches!(event, Event::Vectors(_))
}

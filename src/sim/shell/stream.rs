//! A streamed answer: one object a piece, each at its time, with the fault that was asked for.

use std::io;

use bytes::Bytes;
use futures_util::stream;

use super::control::Fault;
use super::http::{Reply, lines};
use super::once::{CRASH, huge};
use super::talk::Talk;
use crate::domain::Moment;

/// The reply with the answer as JSON lines. Dropping its body gives back the slot and the runner.
pub(super) fn reply(talk: Talk, fault: Option<Fault>) -> Reply {
    let start = talk.app.stage.clock.now();
    let speaker = Speaker { talk, fault, start, at: 0, sent: 0, over: false };
    lines(stream::unfold(speaker, |mut speaker| async move { speaker.next().await.map(|line| (line, speaker)) }))
}

struct Speaker {
    talk: Talk,
    fault: Option<Fault>,
    /// When the slot was there.
    start: Moment,
    /// The next step of the plan.
    at: usize,
    /// Objects sent.
    sent: usize,
    over: bool,
}

impl Speaker {
    /// The next line; `None` ends the body in good order, an error in the middle.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        let stage = self.talk.app.stage.clone();
        let answer = &self.talk.answer;
        let tokens = answer.plan.steps.get(self.at).map_or(answer.plan.tokens, |step| step.tokens);
        stage.until(self.start.after(stage.real(answer.due(tokens)))).await;
        if let Some(line) = self.upset().await {
            return line;
        }
        let created_at = self.talk.app.now().to_string();
        let line = match self.talk.answer.plan.steps.get(self.at) {
            Some(step) => self.talk.answer.piece(step, created_at),
            None => {
                self.end();
                self.talk.answer.last(created_at)
            }
        };
        self.at += 1;
        self.sent += 1;
        Some(Ok(format!("{line}\n").into()))
    }

    /// Does the fault when its turn has come; the outer `None` goes on as if nothing were.
    async fn upset(&mut self) -> Option<Option<io::Result<Bytes>>> {
        let due = match self.fault {
            Some(
                Fault::Close { after }
                | Fault::Stall { after }
                | Fault::Crash { after }
                | Fault::EndSilently { after }
                | Fault::Garbage { after }
                | Fault::HugeLine { after, .. },
            ) => self.sent >= after,
            _ => false,
        };
        if !due {
            return None;
        }
        match self.fault.take()? {
            Fault::Stall { .. } => std::future::pending().await,
            Fault::Close { .. } => {
                self.end();
                // an error drops what is not written yet: let the objects before it leave first
                tokio::task::yield_now().await;
                Some(Some(Err(io::ErrorKind::ConnectionAborted.into())))
            }
            Fault::Crash { .. } => {
                self.end();
                Some(Some(Ok(format!("{{\"error\":\"{CRASH}\"}}\n").into())))
            }
            Fault::EndSilently { .. } => {
                self.end();
                Some(None)
            }
            Fault::Garbage { .. } => {
                self.sent += 1;
                Some(Some(Ok(Bytes::from_static(b"{\"model\": oops\n"))))
            }
            Fault::HugeLine { bytes, .. } => {
                self.sent += 1;
                let line = huge(&self.talk, bytes, |answer, step, now| answer.piece(step, now));
                Some(Some(Ok(format!("{line}\n").into())))
            }
            Fault::DelayHeaders(_) | Fault::Answer { .. } => None,
        }
    }

    /// Nothing follows: the slot is free, and a client that leaves now takes nothing with it.
    fn end(&mut self) {
        self.over = true;
        self.talk.lease.answered();
        self.talk.slot.free();
    }
}

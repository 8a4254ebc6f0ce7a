//! A streamed answer: one object a piece, each at its time, with the fault that was asked for.

use std::io;

use bytes::Bytes;
use futures_util::stream;

use super::control::Fault;
use super::http::{Reply, lines};
use super::once::{CRASH, huge};
use super::talk::Talk;
use crate::sim::settings::Scheduler;

/// The reply with the answer as JSON lines. Dropping its body gives back the slot and the runner, unless Ollama would
/// not notice.
pub(super) fn reply(talk: Talk, fault: Option<Fault>) -> Reply {
    let speaker = Speaker { talk, fault, at: 0, sent: 0, over: false };
    lines(stream::unfold(Spoken(Some(speaker)), |mut spoken| async move {
        let line = spoken.0.as_mut()?.next().await;
        line.map(|line| (line, spoken))
    }))
}

/// A speaker in the hands of a connection.
struct Spoken(Option<Speaker>);

impl Drop for Spoken {
    /// The client has left. Ollama tells a generation only where it hands over the next piece; with the connection
    /// stuck in a write nobody takes that, and the generation runs on to its own end with slot and runner (B6).
    fn drop(&mut self) {
        let Some(speaker) = self.0.take() else { return };
        let app = speaker.talk.app.clone();
        let unaware = !speaker.over && speaker.talk.stuck.is() && app.settings.scheduler == Scheduler::Ollama;
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && unaware
        {
            let stop = app.stop.clone();
            app.tasks.spawn_on(async move { stop.run_until_cancelled(speaker.run_on()).await }, &runtime);
        }
    }
}

struct Speaker {
    talk: Talk,
    fault: Option<Fault>,
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
        let plan = &self.talk.answer.plan;
        let tokens = plan.steps.get(self.at).map_or(plan.tokens, |step| step.tokens);
        self.talk.until(tokens).await;
        self.talk.lease.unless_hung().await;
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

    /// Makes what is left for nobody.
    async fn run_on(mut self) {
        let stage = self.talk.app.stage.clone();
        stage.control.abandon(1);
        self.talk.until(self.talk.answer.plan.tokens).await;
        drop(self);
        stage.control.abandon(-1);
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
                // a pause lets what was sent before out; with the error hyper throws away what it still holds
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

//! A whole answer in one object, after the time it takes.

use std::io;

use http::StatusCode;

use super::control::Fault;
use super::http::{Final, Reply, ok, refuse};
use super::talk::Talk;
use crate::sim::answer::Answer;
use crate::sim::text::Step;

/// What Ollama says when a runner dies under a request.
pub(super) const CRASH: &str = "an error was encountered while running the model: unexpected EOF";

/// Waits for the answer's end and replies; a fault upsets the whole.
pub(super) async fn reply(mut talk: Talk, fault: Option<Fault>) -> io::Result<Reply> {
    talk.until(talk.answer.plan.tokens).await;
    talk.lease.unless_hung().await;
    let now = talk.app.now().to_string();
    let reply: io::Result<Final> = match fault {
        Some(Fault::Stall { .. }) => std::future::pending().await,
        Some(Fault::Close { .. }) => Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Crash { .. }) => Ok(refuse(StatusCode::INTERNAL_SERVER_ERROR, CRASH)),
        Some(Fault::Garbage { .. }) => Ok(ok("{\"model\": oops".into())),
        Some(Fault::EndSilently { .. }) => Ok(ok(talk.answer.whole(now, false))),
        Some(Fault::HugeLine { bytes, .. }) => Ok(ok(huge(&talk, bytes, |answer, step, now| {
            let mut whole = Answer { plan: answer.plan.clone(), model: answer.model.clone(), context: None, ..*answer };
            whole.plan.steps = vec![step.clone()];
            whole.whole(now, true)
        }))),
        _ => Ok(ok(talk.answer.whole(now, true))),
    };
    talk.lease.answered();
    reply.map(Reply::from)
}

/// The object that `encode` makes of a step with this many bytes of text.
pub(super) fn huge(talk: &Talk, bytes: usize, encode: impl FnOnce(&Answer, &Step, String) -> String) -> String {
    let step = Step { text: "a".repeat(bytes), tokens: 1, ..Step::default() };
    encode(&talk.answer, &step, talk.app.now().to_string())
}

//! What Ollama meant by a status that is not 200.

use std::time::Duration;

use crate::domain::{Fault, FaultClass};
use crate::wire::go_json::{members, unquote};

/// How long to wait after Ollama's own queue was full: it names no time itself.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Most bytes of an unreadable body that go to the log.
const EXCERPT: usize = 512;

/// The fault behind a refusal of Ollama: class by status, its own words, its own status.
#[must_use]
pub fn upstream_fault(status: u16, body: &[u8]) -> Fault {
    if matches!(status, 401 | 403 | 407) {
        return closed(status, body);
    }
    let class = match status {
        400 => FaultClass::BadRequest,
        404 => FaultClass::NotFound,
        503 => FaultClass::Busy,
        _ => FaultClass::UpstreamError,
    };
    let fault = match message(body) {
        Some(message) => Fault::new(class, message),
        None => {
            let excerpt = body.get(..EXCERPT).unwrap_or(body);
            Fault::new(class, format!("Ollama answered {status} without saying why"))
                .detail(String::from_utf8_lossy(excerpt))
        }
    };
    let fault = fault.upstream(status);
    if class == FaultClass::Busy { fault.retry(BUSY_WAIT) } else { fault }
}

/// Ollama asks nobody who they are: a proxy before it, or its own check of names, does not know the gateway. The caller's
/// key has nothing to do with it, so the reply is a 502 and does not repeat the status.
fn closed(status: u16, body: &[u8]) -> Fault {
    let text = format!(
        "the Ollama server, or a proxy before it, refused the gateway itself ({status}): your key is not the reason, \
         tell the operator"
    );
    let excerpt = body.get(..EXCERPT).unwrap_or(body);
    Fault::new(FaultClass::UpstreamError, text).detail(String::from_utf8_lossy(excerpt))
}

fn message(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let mut message = None;
    members(text, |key, value| {
        if key == "error" && value.starts_with('"') {
            message = Some(unquote(value).into_owned());
        }
    })
    .ok()?;
    message.filter(|message| !message.is_empty())
}

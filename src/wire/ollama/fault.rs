//! What Ollama meant by a status that is not 200.

use std::time::Duration;

use crate::domain::{Fault, FaultClass, Oversize};
use crate::wire::go_json::{members, unquote};

/// How long to wait after Ollama's own queue was full, or a proxy's limit reached: they name no time themselves.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// Most bytes of an unreadable body that go to the log.
const EXCERPT: usize = 512;

/// The fault behind a refusal of Ollama: class by status, its own words, its own status.
#[must_use]
pub fn upstream_fault(status: u16, body: &[u8]) -> Fault {
    if matches!(status, 401 | 403 | 407) {
        return closed(status, body);
    }
    let said = message(body);
    let oversize = said.as_deref().and_then(oversize);
    let class = match status {
        // the older embeddings route says 500 for the caller's mistake
        400 | 500 if oversize.is_some() => FaultClass::ContextExceeded,
        400 => FaultClass::BadRequest,
        // a `format` that is none; the reply stays as Ollama has it, but no server failed
        500 if said.as_deref().is_some_and(|said| said.starts_with("invalid format: ")) => FaultClass::BadRequest,
        404 => FaultClass::NotFound,
        503 => FaultClass::Busy,
        _ => FaultClass::UpstreamError,
    };
    let mut fault = match said {
        Some(message) => Fault::new(class, message),
        None => {
            let excerpt = body.get(..EXCERPT).unwrap_or(body);
            Fault::new(class, format!("Ollama answered {status} without saying why"))
                .detail(String::from_utf8_lossy(excerpt))
        }
    };
    fault.oversize = oversize;
    let fault = fault.upstream(status);
    if matches!(status, 429 | 503) { fault.retry(BUSY_WAIT) } else { fault }
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

/// What Ollama says when a prompt does not fit: the runner's own JSON as a text, which has both sizes, or one of its own
/// sentences (`ollama-facts` 1.5), which have none. `None` for anything else.
fn oversize(message: &str) -> Option<Oversize> {
    const SENTENCES: [&str; 4] = [
        "the input length exceeds the context length",
        "the prompt is longer than the context length",
        "input after truncation exceeds maximum context length",
        "input exceeds maximum context length",
    ];
    if SENTENCES.iter().any(|sentence| message.starts_with(sentence)) {
        return Some(Oversize::default());
    }
    if !message.contains("exceed_context_size_error") {
        return None;
    }
    let mut sizes = Oversize::default();
    let _ = members(message, |key, error| {
        if key == "error" {
            let _ = members(error, |key, value| match &*key {
                "n_prompt_tokens" => sizes.prompt = value.parse().ok(),
                "n_ctx" => sizes.context = value.parse().ok(),
                _ => {}
            });
        }
    });
    Some(sizes)
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

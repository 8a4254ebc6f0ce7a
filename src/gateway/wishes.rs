//! What a caller may wish for by headers of the gateway's own.
//!
//! Owns the reading of those headers and how a wish meets the application's policy. It does not own the forms (`policy`)
//! nor what becomes of a wish (`ticket`).

use std::time::Duration;

use http::HeaderMap;

use crate::domain::{Dialect, Fault, FaultClass, InferenceRequest, Intent, Moment, Surface};
use crate::policy::{Cadence, Scalar, Span, show_text};

/// How long the caller will wait for the start.
const DEADLINE: &str = "X-Gaucho-Deadline";
/// How often it wants to hear that it still waits.
const KEEPALIVE: &str = "X-Gaucho-Keepalive";

type Deadline = Span<0, 86_400>;

/// The wishes of one request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    deadline: Option<Duration>,
    keepalive: Option<Cadence>,
}

/// Until when a request may wait, and which rule says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) until: Moment,
    pub(super) limit: Duration,
    pub(super) rule: &'static str,
}

impl Wishes {
    /// Reads the headers of a request on `surface`. NDJSON has no comments, so nobody is heard who asks for them there.
    ///
    /// # Errors
    /// `BadRequest` that names the header and what it may say.
    pub(super) fn read(headers: &HeaderMap, surface: Surface) -> Result<Self, Fault> {
        let deadline = read(headers, DEADLINE, Deadline::from_text, &Deadline::allowed())?;
        let keepalive = match surface.dialect() {
            Dialect::OpenAi | Dialect::Anthropic => read(headers, KEEPALIVE, Cadence::from_text, &Cadence::allowed())?,
            Dialect::Ollama => None,
        };
        Ok(Self { deadline: deadline.map(|span| span.0), keepalive })
    }

    /// How long the request may wait from `now` on: a wish only shortens the application's `max_wait`.
    pub(super) fn patience(&self, max_wait: Duration, now: Moment) -> Patience {
        let (limit, rule) = match self.deadline {
            Some(wish) if wish < max_wait => (wish, DEADLINE),
            _ => (max_wait, "max_wait"),
        };
        Patience { until: now.after(limit), limit, rule }
    }

    /// How often the caller hears that it still waits, where its answer has a form that allows it; `usual` is what the
    /// application's policy says.
    pub(super) fn keepalive(&self, request: &InferenceRequest, usual: Option<Duration>) -> Option<Duration> {
        let surface = request.surface;
        let events = surface.dialect() != Dialect::Ollama && request.stream && !surface.task().embeds();
        let every = self.keepalive.map_or(usual, |wish| wish.0);
        every.filter(|_| events && request.intent == Intent::Answer)
    }
}

/// The value of a header that may come once.
fn read<T>(
    headers: &HeaderMap,
    name: &'static str,
    parse: impl Fn(&str) -> Option<T>,
    allowed: &str,
) -> Result<Option<T>, Fault> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong = |what: String| Fault::new(FaultClass::BadRequest, format!("header `{name}` {what}")).at(name);
    if values.next().is_some() {
        return Err(wrong("is there more than once: send it once".to_owned()));
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    match parse(text.trim()) {
        Some(read) => Ok(Some(read)),
        None => Err(wrong(format!("is {}: use {allowed}", show_text(&text)))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn wishes(values: &[&str]) -> Result<Wishes, Fault> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("x-gaucho-deadline", value.parse().unwrap());
        }
        Wishes::read(&headers, Surface::Chat)
    }

    #[test]
    fn a_deadline_only_shortens() {
        let most = Duration::from_secs(30);
        let limit = |text: &str| {
            let patience = wishes(&[text]).unwrap().patience(most, Moment::ZERO);
            (patience.until.since_start().as_millis(), patience.rule)
        };
        assert_eq!(limit("5"), (5000, DEADLINE));
        assert_eq!(limit("0.5"), (500, DEADLINE));
        assert_eq!(limit("500ms"), (500, DEADLINE));
        assert_eq!(limit(" 0 "), (0, DEADLINE));
        assert_eq!(limit("1h30m"), (30_000, "max_wait"));
        assert_eq!(limit("30s"), (30_000, "max_wait"));
        assert_eq!(Wishes::default().patience(most, Moment::ZERO).rule, "max_wait");
    }

    #[test]
    fn what_is_not_a_time_is_refused_by_name() {
        for values in [&["soon"][..], &["-1"], &["25h"], &["10 s"], &["NaN"], &["inf"], &[""], &["1", "1"]] {
            let fault = wishes(values).unwrap_err();
            assert_eq!((fault.class, fault.param.as_deref()), (FaultClass::BadRequest, Some(DEADLINE)), "{values:?}");
            assert!(fault.message.contains(DEADLINE), "{}", fault.message);
        }
    }
}

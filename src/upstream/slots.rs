//! How many requests a live server runs at once for one model: found out by sending more and more together.
//!
//! Owns the calls, what counts as "at once", and when the answer is sure enough. It does not choose the model or judge the
//! answer (`app`). Invariants: bounded in requests and time; every answer is read to its end, so that nothing stays behind.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Map, Value, json};

use crate::domain::{Clock, EndpointId, Event, JsonField, Moment, Task};
use crate::wire;

use super::client::{Client, reason};

/// Most requests sent together.
const MOST: u32 = 128;
/// A round below what was sent decides once it was seen this often; rounds that differ are given up after so many.
const SURE: (usize, usize) = (3, 7);
/// For all rounds; the load before them has the time that any first event has.
const TIME: Duration = Duration::from_secs(180);
/// How long each answer is to take, so that a server's pace of starting them does not matter, and its bounds in tokens.
const SPAN: Duration = Duration::from_millis(500);
const TOKENS: (u32, u32) = (24, 240);
/// Pieces below which an answer says nothing.
const SHORT: usize = 8;
/// Longest line that is accepted.
const MOST_BYTES: usize = 1 << 20;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    /// So many ran at once, and no more when more were there.
    Exactly(u32),
    /// So many ran at once; no more were sent.
    AtLeast(u32),
}

/// A measurement to be made.
#[derive(Debug)]
pub struct SlotProbe {
    /// The way to the servers.
    pub client: Client,
    /// For the order of events.
    pub clock: Clock,
    /// Which server.
    pub endpoint: EndpointId,
    /// The tag to ask for; it has to generate.
    pub model: String,
    /// Runner options, as every call for it carries them.
    pub options: Vec<JsonField>,
    /// How long the model stays loaded; `None` leaves that as it is.
    pub keep_alive: Option<Duration>,
}

impl SlotProbe {
    /// Loads the model if need be, and measures.
    ///
    /// # Errors
    /// Why nothing could be found out.
    pub async fn measure(&self) -> Result<Slots, String> {
        let first = self.run(0, TOKENS.0, self.client.timeouts.first_event).await?;
        first.fit(&self.model)?;
        let tokens = tokens(&first);
        tokio::time::timeout(TIME, self.search(tokens))
            .await
            .unwrap_or_else(|_| Err(format!("not done after {} s: name a smaller model with --model", TIME.as_secs())))
    }

    /// Puts the model out of memory; if that fails it leaves when its time is over.
    pub async fn unload(&self) {
        let body = wire::encode_load(&self.model, &self.options, Duration::ZERO);
        if let Ok(endpoint) = self.client.endpoint(self.endpoint) {
            let _ = self.client.ask(endpoint, Task::Generate.path(), body).await;
        }
    }

    async fn search(&self, tokens: u32) -> Result<Slots, String> {
        let (mut hunt, mut asked, mut serial) = (Hunt::default(), Hunt::FIRST, 1);
        loop {
            let runs = (serial..serial + asked).map(|serial| self.run(serial, tokens, TIME));
            let traces = try_join_all(runs).await?;
            serial += asked;
            match hunt.take(asked, at_once(&traces)) {
                Step::Round(next) => asked = next,
                Step::Found(slots) => return Ok(slots),
                Step::Unsure(seen) => {
                    return Err(format!(
                        "the rounds differ ({seen:?} at once): something else uses the server; try again when it rests"
                    ));
                }
            }
        }
    }

    /// One short generation, from its call to its end.
    async fn run(&self, serial: u32, tokens: u32, patience: Duration) -> Result<Trace, String> {
        let call = self.client.call(self.endpoint, Task::Generate, self.body(serial, tokens), |error| {
            crate::domain::Fault::new(crate::domain::FaultClass::Unreachable, reason(&error))
        });
        let late = |_| format!("{} did not answer within {} s", self.model, patience.as_secs());
        let response = tokio::time::timeout(patience, call).await.map_err(late)?.map_err(|fault| fault.message)?;
        tokio::time::timeout(patience, self.read(response)).await.map_err(late)?
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Trace, String> {
        if response.status() != 200 {
            let status = response.status().as_u16();
            let body = response.bytes().await.map_err(|error| reason(&error))?;
            return Err(format!("status {status}: {}", wire::upstream_fault(status, &body).message));
        }
        let (mut lines, mut trace) = (wire::Lines::new(MOST_BYTES), Trace::default());
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
            let now = self.clock.now();
            lines.push(&chunk);
            let before = trace.arrivals.len();
            while let Some(line) = lines.next_line().map_err(|bad| bad.to_string())? {
                match wire::decode_event(Task::Generate, line).map_err(|bad| bad.to_string())? {
                    Event::Error(why) => return Err(why),
                    Event::Piece(piece) => {
                        trace.done |= piece.finish.is_some();
                        if !piece.text.is_empty() || piece.thinking.is_some() {
                            trace.arrivals.push(now);
                        }
                    }
                    Event::Vectors(_) => {}
                }
            }
            trace.reads += usize::from(trace.arrivals.len() > before);
        }
        if trace.done { Ok(trace) } else { Err("the server broke off in the middle of an answer".to_owned()) }
    }

    /// A prompt that every model goes on with, different each time so that no answer profits from another's.
    fn body(&self, serial: u32, tokens: u32) -> Vec<u8> {
        let from = 1000 + 10 * u64::from(serial);
        let prompt = (from..from + 5).map(|n| format!("{n}, ")).collect::<String>();
        let mut options: Map<String, Value> = Map::new();
        options.insert("temperature".to_owned(), json!(0));
        options.insert("num_predict".to_owned(), json!(tokens));
        let mut body = json!({ "model": self.model, "prompt": prompt.trim_end(), "raw": true, "stream": true });
        for (name, value) in &self.options {
            let Ok(value) = serde_json::from_str::<Value>(value.get()) else { continue };
            if &**name == "shift" {
                body["shift"] = value;
            } else {
                options.insert(name.to_string(), value);
            }
        }
        body["options"] = Value::Object(options);
        if let Some(time) = self.keep_alive {
            body["keep_alive"] = if time == Duration::MAX { json!(-1) } else { json!(time.as_secs()) };
        }
        body.to_string().into_bytes()
    }
}

/// When the pieces of an answer came.
#[derive(Debug, Default)]
struct Trace {
    arrivals: Vec<Moment>,
    /// Reads in which any came.
    reads: usize,
    done: bool,
}

impl Trace {
    /// From its first piece to its middle one. The second half is a margin: the next request may start in a slot before
    /// the end of the one before it is read here.
    fn span(&self) -> Option<(Moment, Moment)> {
        Some((*self.arrivals.first()?, *self.arrivals.get(self.arrivals.len() / 2)?))
    }

    fn fit(&self, model: &str) -> Result<(), String> {
        let pieces = self.arrivals.len();
        if pieces < SHORT {
            return Err(format!("{model} ended after {pieces} pieces of text: name another model with --model"));
        }
        if self.reads <= 2 {
            return Err("the answer comes in one piece: something between here and the server holds streams back; \
                        run this beside the server"
                .to_owned());
        }
        Ok(())
    }
}

/// Tokens that take long enough at the speed of this answer.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped to a few hundred"
)]
fn tokens(trace: &Trace) -> u32 {
    let (Some(first), Some(last)) = (trace.arrivals.first(), trace.arrivals.last()) else { return TOKENS.0 };
    let each = last.since(*first).as_secs_f64() / trace.arrivals.len() as f64;
    (SPAN.as_secs_f64() / each).clamp(f64::from(TOKENS.0), f64::from(TOKENS.1)) as u32
}

/// The most answers that were under way at one moment.
fn at_once(traces: &[Trace]) -> u32 {
    let spans: Vec<(Moment, Moment)> = traces.iter().filter_map(Trace::span).collect();
    let at = |moment: Moment| spans.iter().filter(|(first, middle)| (*first..=*middle).contains(&moment)).count();
    let most = spans.iter().map(|(first, _)| at(*first)).max().unwrap_or(0);
    u32::try_from(most).unwrap_or(u32::MAX)
}

/// What to do after a round.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Round(u32),
    Found(Slots),
    Unsure(Vec<u32>),
}

/// The search: twice as many as long as all of them run at once, then the same again until it is sure.
#[derive(Debug, Default)]
struct Hunt {
    seen: Vec<u32>,
}

impl Hunt {
    const FIRST: u32 = 2;

    fn take(&mut self, asked: u32, at_once: u32) -> Step {
        if at_once >= asked {
            self.seen.clear();
            return if asked >= MOST { Step::Found(Slots::AtLeast(asked)) } else { Step::Round((asked * 2).min(MOST)) };
        }
        self.seen.push(at_once);
        // a round can miss one that started late, it cannot show one too many
        let best = self.seen.iter().copied().max().unwrap_or(0);
        let times = self.seen.iter().filter(|seen| **seen == best).count();
        if best > 0 && times >= SURE.0 {
            Step::Found(Slots::Exactly(best))
        } else if self.seen.len() >= SURE.1 {
            Step::Unsure(std::mem::take(&mut self.seen))
        } else {
            Step::Round(asked)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(from: u64, until: u64) -> Trace {
        let arrivals = (from..=until).map(|ms| Moment::from_start(Duration::from_millis(ms))).collect();
        Trace { arrivals, reads: 9, done: true }
    }

    #[test]
    fn answers_that_follow_each_other_in_a_slot_are_not_at_once() {
        assert_eq!(at_once(&[]), 0);
        assert_eq!(at_once(&[trace(0, 100), trace(99, 200), trace(199, 300)]), 1, "even where their edges touch");
        assert_eq!(at_once(&[trace(0, 100), trace(20, 120), trace(101, 200), trace(121, 220)]), 2);
        assert_eq!(at_once(&[trace(0, 100), trace(1, 100), trace(2, 100), trace(3, 100)]), 4);
        assert_eq!(at_once(&[trace(0, 100), Trace::default()]), 1, "an answer without text is none");
    }

    #[test]
    fn a_faster_model_is_asked_for_more_tokens() {
        assert_eq!(tokens(&trace(0, 24)), 240);
        assert_eq!(tokens(&Trace { arrivals: vec![Moment::ZERO; 9], reads: 1, done: true }), 240);
        let slow = (0..24).map(|n| Moment::from_start(Duration::from_millis(500 * n))).collect();
        assert_eq!(tokens(&Trace { arrivals: slow, reads: 24, done: true }), 24);
    }

    #[test]
    fn the_search_doubles_and_then_makes_sure() {
        let hunt = |slots: u32| {
            let (mut hunt, mut asked, mut rounds) = (Hunt::default(), Hunt::FIRST, 0);
            loop {
                rounds += 1;
                match hunt.take(asked, asked.min(slots)) {
                    Step::Round(next) => asked = next,
                    Step::Found(slots) => return (slots, rounds),
                    Step::Unsure(seen) => unreachable!("{seen:?}"),
                }
            }
        };
        assert_eq!(hunt(1), (Slots::Exactly(1), 3));
        assert_eq!(hunt(3), (Slots::Exactly(3), 4));
        assert_eq!(hunt(4), (Slots::Exactly(4), 5));
        assert_eq!(hunt(100), (Slots::Exactly(100), 9));
        assert_eq!(hunt(4000), (Slots::AtLeast(128), 7));
    }

    #[test]
    fn a_round_that_misses_one_does_not_decide_and_rounds_that_differ_are_given_up() {
        let mut hunt = Hunt::default();
        let steps: Vec<Step> = [1, 2, 2].into_iter().map(|seen| hunt.take(4, seen)).collect();
        assert_eq!(steps, [Step::Round(4), Step::Round(4), Step::Round(4)]);
        assert_eq!(hunt.take(4, 4), Step::Round(8), "all of them after all");
        let mut hunt = Hunt::default();
        let steps: Vec<Step> = [0, 1, 0, 2, 1, 3, 1].into_iter().map(|seen| hunt.take(4, seen)).collect();
        assert_eq!(
            steps[..6],
            [Step::Round(4), Step::Round(4), Step::Round(4), Step::Round(4), Step::Round(4), Step::Round(4)]
        );
        assert_eq!(steps[6], Step::Unsure(vec![0, 1, 0, 2, 1, 3, 1]));
    }
}

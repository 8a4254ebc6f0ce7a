//! What was learned of each runner, so that a restart need not learn it again.
//!
//! Owns the values that go out and come back. Where they are kept is `app`'s.

use std::collections::btree_map::Entry;

use crate::domain::EndpointId;

use super::callers::Callers;
use super::pool::Pool;
use super::predict::Speed;
use super::site::Runner;
use super::{Core, PoolIndex};

/// What was learned of one set of weights on one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Lesson {
    /// Where.
    pub endpoint: EndpointId,
    /// The weights.
    pub weights: Box<str>,
    /// The tag that they were asked for by.
    pub model: String,
    /// The runner options that `need` holds for.
    pub options: String,
    /// Bytes it took, where `/api/ps` showed it.
    pub need: Option<u64>,
    /// Swap cost, seconds.
    pub cost: f64,
    /// A load alone, seconds.
    pub load: f64,
    /// Time between an answer and the next request of its callers, seconds.
    pub think: f64,
    /// Share of answers that a request of the same application follows at once.
    pub returns: f64,
    /// Bytes of text per prompt token.
    pub bytes_per_token: f64,
    /// Prompt tokens per second.
    pub prompt_speed: f64,
    /// Generated tokens per second.
    pub output_speed: f64,
    /// Tokens of a usual answer.
    pub output_tokens: f64,
    /// Real service ÷ predicted, for texts.
    pub bias: f64,
}

impl Lesson {
    /// Whether every number is one that could have been learned; a file may say anything.
    fn is_sane(&self) -> bool {
        let positive = [self.cost, self.load, self.bytes_per_token, self.prompt_speed, self.output_speed, self.bias];
        positive.iter().all(|value| value.is_finite() && *value > 0.0 && *value < 1e7)
            && (0.0..=3600.0).contains(&self.think)
            && (0.0..=1.0).contains(&self.returns)
            && (0.0..=1e6).contains(&self.output_tokens)
    }
}

impl Core {
    /// Everything learned so far of runners that were loaded here.
    #[must_use]
    pub fn lessons(&self) -> Vec<Lesson> {
        let mut lessons: Vec<Lesson> = self.taught.values().cloned().collect();
        for pool in &self.pools {
            for (endpoint, runner) in pool.runners.iter().filter(|(_, runner)| runner.is_learned()) {
                lessons.retain(|old| (old.endpoint, &old.weights) != (*endpoint, &pool.weights));
                lessons.push(lesson(*endpoint, pool, runner));
            }
        }
        lessons
    }

    /// Takes over what was learned by an earlier process. Before the first request.
    pub fn teach(&mut self, lessons: Vec<Lesson>) {
        for lesson in lessons.into_iter().filter(Lesson::is_sane) {
            self.taught.insert((lesson.weights.clone(), lesson.endpoint), lesson);
        }
    }

    /// The speed that was learned of these weights, anywhere.
    pub(super) fn taught_speed(&self, weights: &str) -> Speed {
        self.taught_anywhere(weights).map_or_else(Speed::default, Speed::taught)
    }

    /// How callers of these weights are known to behave, anywhere.
    pub(super) fn taught_callers(&self, weights: &str) -> Callers {
        let taught = |lesson: &Lesson| Callers::new(lesson.returns, lesson.think);
        self.taught_anywhere(weights).map_or_else(Callers::default, taught)
    }

    fn taught_anywhere(&self, weights: &str) -> Option<&Lesson> {
        self.taught.values().find(|lesson| *lesson.weights == *weights)
    }

    /// The runner of these weights there; a new one gets what was learned of it.
    pub(super) fn runner(
        &mut self,
        pool: PoolIndex,
        endpoint: EndpointId,
        new: impl FnOnce() -> Runner,
    ) -> &mut Runner {
        let members = &mut self.pools[pool.0];
        match members.runners.entry(endpoint) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let mut runner = new();
                if let Some(lesson) = self.taught.remove(&(members.weights.clone(), endpoint)) {
                    runner.learned(&lesson);
                }
                place.insert(runner)
            }
        }
    }
}

fn lesson(endpoint: EndpointId, pool: &Pool, runner: &Runner) -> Lesson {
    Lesson {
        endpoint,
        weights: pool.weights.clone(),
        model: runner.order.model.clone(),
        options: runner.order.fingerprint(),
        need: runner.seen.then_some(runner.need),
        cost: runner.cost,
        load: runner.load_time,
        think: runner.think(),
        returns: pool.lines.returns(),
        bytes_per_token: pool.speed.bytes_per_token(),
        prompt_speed: pool.speed.prompt_speed(),
        output_speed: pool.speed.output_speed(),
        output_tokens: pool.speed.usual_output(),
        bias: pool.speed.text_bias(),
    }
}

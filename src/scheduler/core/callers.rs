//! How the callers of a line behave: whether they come back after an answer, and how soon.
//!
//! Owns that knowledge, one application and model at a time. A program in a loop asks again as soon as it is answered; traffic
//! of many people comes whenever it comes. Who looks ahead has to know which of the two stands in a line.

use crate::domain::Moment;

/// An arrival so soon after an answer counts as the same caller's next request, seconds.
const SOON: f64 = 2.0;
/// Share of answers that are followed by a request, from which on callers are taken to come back.
const COME_BACK: f64 = 0.5;
/// What is remembered of earlier answers at each new one.
const KEPT: f64 = 0.95;
/// Weight of the newest observation in a learned mean.
const NEWEST: f64 = 0.2;

/// See the module's header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Callers {
    /// Answers, and those of them that a request followed soon, older ones counting less.
    answers: f64,
    followed: f64,
    /// Callers with an answer that may be back soon, and the sum of when they got it, seconds.
    away: u32,
    since: f64,
    /// Seconds from an answer to the next request of who comes back.
    pause: f64,
}

impl Default for Callers {
    fn default() -> Self {
        Self { answers: 0.0, ..Self::new(0.0, 0.5) }
    }
}

impl Callers {
    /// Nobody was seen yet; of callers of this model, elsewhere or earlier, such a share came back after such a pause.
    pub(super) fn new(share: f64, pause: f64) -> Self {
        Self { answers: 1.0, followed: share, away: 0, since: 0.0, pause }
    }

    /// One of them was answered.
    pub(super) fn answered(&mut self, now: Moment) {
        let now = now.since_start().as_secs_f64();
        self.give_up(now);
        self.answers = KEPT * self.answers + 1.0;
        self.followed *= KEPT;
        self.away += 1;
        self.since += now;
    }

    /// A request came.
    pub(super) fn asked(&mut self, now: Moment) {
        let now = now.since_start().as_secs_f64();
        self.give_up(now);
        if self.away > 0 {
            let since = self.since / f64::from(self.away);
            self.pause += NEWEST * (now - since - self.pause);
            self.followed += 1.0;
            self.away -= 1;
            self.since -= since;
        }
    }

    /// Who stays away for longer is not coming back.
    fn give_up(&mut self, now: f64) {
        let away = f64::from(self.away);
        if now * away - self.since > SOON * away {
            (self.away, self.since) = (0, 0.0);
        }
    }

    /// Whether they usually ask again as soon as they are answered.
    pub(super) fn come_back(&self) -> bool {
        let (followed, answers) = self.known();
        followed > COME_BACK * answers
    }

    /// Answers that a request followed soon, and answers of which it is known.
    pub(super) fn known(&self) -> (f64, f64) {
        (self.followed, (self.answers - f64::from(self.away)).max(self.followed))
    }

    /// Seconds from an answer to the next request of who comes back.
    pub(super) fn pause(&self) -> f64 {
        self.pause
    }

    /// Callers who may be back soon, and for how many seconds they have been away.
    pub(super) fn away(&self, now: Moment) -> (u32, f64) {
        let away = now.since_start().as_secs_f64() - self.since / f64::from(self.away.max(1));
        if away <= SOON { (self.away, away) } else { (0, 0.0) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment::from_start(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn a_loop_comes_back_and_a_crowd_does_not() {
        let mut program = Callers::new(0.0, 1.0);
        for turn in 0..30 {
            program.asked(at(10.0 * f64::from(turn)));
            program.answered(at(10.0 * f64::from(turn) + 9.7));
        }
        assert!(program.come_back(), "{program:?}");
        assert!((program.pause() - 0.3).abs() < 0.01, "{program:?}");
        assert_eq!(program.away(at(299.8)).0, 1);
        assert_eq!(program.away(at(399.8)).0, 0);
        let mut crowd = Callers::new(1.0, 1.0);
        for turn in 0..30 {
            crowd.asked(at(10.0 * f64::from(turn)));
            crowd.answered(at(10.0 * f64::from(turn) + 3.0));
        }
        assert!(!crowd.come_back(), "{crowd:?}");
    }

    #[test]
    fn a_burst_that_is_answered_is_over() {
        let mut burst = Callers::new(0.0, 1.0);
        (0..100).for_each(|_| burst.asked(at(1.0)));
        (0..100).for_each(|turn| burst.answered(at(2.0 + f64::from(turn))));
        assert!(!burst.come_back(), "{burst:?}");
    }
}

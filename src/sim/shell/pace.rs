//! How fast the answers of one runner get on: alone at full speed, beside others at a share of it.
//!
//! All answers that run on a runner get on equally fast, so one clock of progress serves them all. Pure: owns no timer
//! and reads no clock (`stage` does).

use std::time::Duration;

use super::stage::scaled;
use crate::domain::Moment;

/// One runner's clock of progress.
#[derive(Debug)]
pub(super) struct Pace {
    /// What several answers make together, by what one makes alone.
    together: f64,
    running: usize,
    /// The progress at `at`, as the time it would have taken alone.
    progress: Duration,
    at: Moment,
}

impl Pace {
    pub(super) fn new(together: f64, now: Moment) -> Self {
        Self { together, running: 0, progress: Duration::ZERO, at: now }
    }

    /// Share of full speed that each answer has.
    fn rate(&self) -> f64 {
        if self.running <= 1 { 1.0 } else { self.together / self.running as f64 }
    }

    /// The progress by `now`.
    pub(super) fn progress(&self, now: Moment) -> Duration {
        self.progress.saturating_add(by(now.since(self.at), self.rate()))
    }

    /// So many run from `now` on; true when that changes their speed.
    pub(super) fn run(&mut self, now: Moment, running: usize) -> bool {
        let before = self.rate();
        self.progress = self.progress(now);
        self.at = now;
        self.running = running;
        before != self.rate()
    }

    /// When the progress is this far unless something changes; a moment that is past when it was so far before.
    pub(super) fn due(&self, progress: Duration) -> Moment {
        self.at.after(by(progress.saturating_sub(self.progress), 1.0 / self.rate()))
    }
}

/// Exact at full speed, so that the times of an answer that ran alone are the model's own to the nanosecond.
fn by(time: Duration, factor: f64) -> Duration {
    if factor == 1.0 { time } else { scaled(time, factor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn answers_beside_each_other_share_the_speed() {
        let mut pace = Pace::new(0.8, at(0));
        assert!(!pace.run(at(0), 1));
        let whole = Duration::from_secs(10);
        assert_eq!(pace.due(whole), at(10));
        // two, from its half on: each at two fifths of the speed
        assert!(pace.run(at(5), 2));
        assert_eq!(pace.progress(at(10)), Duration::from_secs(7));
        assert_eq!(pace.due(whole), Moment::from_start(Duration::from_millis(17_500)));
        // alone again
        assert!(pace.run(at(10), 1));
        assert_eq!(pace.due(whole), at(13));
        assert_eq!(pace.due(Duration::from_secs(1)), at(10), "what is past is not put into the future");
    }
}

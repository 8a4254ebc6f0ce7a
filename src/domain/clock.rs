//! Time as the rooms see it: a monotone moment for deadlines and a wall clock for people.
//!
//! The only place that reads a real clock. Pure cores take a [`Moment`] as an argument instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point on the process's own monotone time line, in nanoseconds since the clock was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The start of the time line.
    pub const ZERO: Self = Self(0);

    /// The moment `since_start` after the clock was made (saturates after 584 years).
    #[must_use]
    pub fn from_start(since_start: Duration) -> Self {
        Self(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Time since the clock was made.
    #[must_use]
    pub fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Time from `earlier` to here; zero when `earlier` is later, so that a clock that jumps back does no harm.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `by` later (saturating).
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A source of time, real or set by hand.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Real(Instant),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clock; moments count from now.
    #[must_use]
    pub fn real() -> Self {
        Self(Source::Real(Instant::now()))
    }

    /// A clock that stands still until [`Clock::advance`] moves it; for tests and simulations.
    #[must_use]
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(0))))
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Source::Real(start) => Moment::from_start(start.elapsed()),
            Source::Manual(at) => Moment(at.load(Ordering::SeqCst)),
        }
    }

    /// Seconds and nanoseconds since 1970, for people and for expiry dates.
    #[must_use]
    pub fn wall(&self) -> Duration {
        match &self.0 {
            Source::Real(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            // 2026-01-01: a fixed, plausible date
            Source::Manual(at) => Duration::from_secs(1_767_225_600) + Duration::from_nanos(at.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock forward; a real clock moves by itself and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(at) = &self.0 {
            at.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }
}

/// A wall-clock reading (since 1970) as a date that prints as RFC 3339 in UTC.
#[must_use]
pub fn date(since_1970: Duration) -> jiff::Timestamp {
    let nanos = i128::try_from(since_1970.as_nanos()).unwrap_or(i128::MAX);
    jiff::Timestamp::from_nanosecond(nanos).unwrap_or(jiff::Timestamp::MAX)
}

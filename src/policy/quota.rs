//! Request rates: one bucket per application, kept across reloads while its rate stays the same.
//!
//! The only home of governor. It does not own which rate holds (`app_rules`) and reads time only from the
//! [`Clock`] it was given.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::app_rules::Rate;
use crate::domain::{AppName, Clock, Limit};

type Limiter = RateLimiter<NotKeyed, InMemoryState, Ticks, StateInformationMiddleware>;

/// The gateway's clock as governor wants it.
#[derive(Debug, Clone)]
struct Ticks(Clock);

impl GovernorClock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.now().since_start()
    }
}

/// A request that the rate refused: where the application stands, and when one is allowed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) limit: Limit,
    pub(super) wait: Duration,
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    limiter: Limiter,
    /// When it is whole again, in nanoseconds of the clock: governor's own reckoning, which it does not show.
    whole: AtomicU64,
}

impl Bucket {
    fn taken(&self, now: Duration) {
        let step = nanos(interval(self.rate));
        let later = |whole: u64| Some(whole.max(nanos(now)).saturating_add(step));
        let _ = self.whole.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }

    fn whole(&self) -> Duration {
        Duration::from_nanos(self.whole.load(Ordering::Relaxed))
    }
}

/// The buckets of all applications that have a rate.
#[derive(Debug)]
pub(super) struct Quotas {
    clock: Ticks,
    buckets: Mutex<HashMap<AppName, Arc<Bucket>>>,
}

impl Quotas {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock: Ticks(clock), buckets: Mutex::default() }
    }

    /// Takes one request from the application's bucket.
    pub(super) fn take(&self, app: &AppName, rate: Rate) -> Result<Limit, Refused> {
        let bucket = self.bucket(app, rate);
        let now = self.clock.now();
        match bucket.limiter.check() {
            Ok(state) => {
                bucket.taken(now);
                Ok(standing(rate, state.remaining_burst_capacity().min(rate.burst), Duration::ZERO))
            }
            Err(not_yet) => {
                let wait = not_yet.wait_time_from(now);
                Err(Refused { limit: standing(rate, 0, wait), wait })
            }
        }
    }

    /// What taking one would find now, without taking it.
    pub(super) fn look(&self, app: &AppName, rate: Rate) -> Result<Limit, Refused> {
        let bucket = self.lock().get(app).filter(|bucket| bucket.rate == rate).map(Arc::clone);
        let left = bucket.map_or(Duration::ZERO, |bucket| bucket.whole().saturating_sub(self.clock.now()));
        let (interval, size) = (interval(rate), interval(rate) * rate.burst);
        let remaining = size.saturating_sub(left).as_nanos() / interval.as_nanos().max(1);
        match u32::try_from(remaining).unwrap_or(u32::MAX) {
            0 => {
                let wait = (left + interval).saturating_sub(size);
                Err(Refused { limit: standing(rate, 0, wait), wait })
            }
            remaining => Ok(standing(rate, remaining, Duration::ZERO)),
        }
    }

    /// Forgets buckets whose rate is not in force any more.
    pub(super) fn keep(&self, in_force: impl Fn(&AppName) -> Option<Rate>) {
        self.lock().retain(|app, bucket| in_force(app) == Some(bucket.rate));
    }

    fn bucket(&self, app: &AppName, rate: Rate) -> Arc<Bucket> {
        let mut buckets = self.lock();
        match buckets.get(app) {
            Some(bucket) if bucket.rate == rate => Arc::clone(bucket),
            _ => {
                let limiter = RateLimiter::direct_with_clock(quota(rate), self.clock.clone());
                let bucket = Arc::new(Bucket { rate, whole: AtomicU64::new(0), limiter: limiter.with_middleware() });
                buckets.insert(app.clone(), Arc::clone(&bucket));
                bucket
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppName, Arc<Bucket>>> {
        // every change is one insert or retain: a thread that panicked left nothing half done
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn quota(rate: Rate) -> Quota {
    let positive = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_minute(positive(rate.requests_per_minute)).allow_burst(positive(rate.burst))
}

/// The limit is the bucket's size; it is whole again when every request taken has been given back.
fn standing(rate: Rate, remaining: u32, next: Duration) -> Limit {
    let interval = interval(rate);
    let missing = rate.burst.saturating_sub(remaining);
    // a bucket that just refused is one interval less the wait on its way to the next request
    let reset = if next.is_zero() { interval * missing } else { interval * missing.saturating_sub(1) + next };
    Limit { limit: u64::from(rate.burst), remaining: u64::from(remaining), reset }
}

/// Time in which one request is given back.
fn interval(rate: Rate) -> Duration {
    Duration::from_secs(60) / rate.requests_per_minute.max(1)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

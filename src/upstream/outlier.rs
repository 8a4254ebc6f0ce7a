//! When an endpoint that fails is left alone, and for how long; which failed calls may be made elsewhere. Pure: moments
//! come in.
//!
//! What an operator wants, and so the rules:
//! - **Several endpoints.** One whose calls fail three times in a row (no success between; calls that were under way
//!   together count once, so that one crash is one failure) draws requests like a drain, because failing is fast. It is
//!   *ejected* for 5 s, then 10, … up to 5 minutes; after a healthy minute it starts at 5 s again. It comes back when a
//!   probe passes, on trial: the next failure ejects it at once, the first success ends the trial. A server that stopped
//!   answering the poller is not probed; once it answers again it is another one, and probed at once.
//! - **Silence** (no event within the time limit, or callers that left after a long wait without one) is suspicious from
//!   the second time on, since each costs its caller so much, but it may be a long prompt. So the probe comes at once,
//!   and any sign of life from another call clears the endpoint.
//! - **The only endpoint** that has the model is never ejected for calls that broke off or runners that died: trying
//!   costs little, may work, and tells the caller the true reason, while ejecting would refuse everything. Nor because it
//!   refuses connections: the first call that is refused takes it out for all until a poll is answered, and callers wait
//!   for that until their `max_wait` (`may_wait`). For silence it is ejected, because each try costs a whole time limit; it
//!   is probed at once and then every 5 s.
//! - **The model's own failures** (4xx, a load that fails, a full queue) say nothing about the endpoint.

use std::time::Duration;

use crate::domain::{Fault, FaultClass, Moment};

/// The first time out, and between probes of an endpoint that has no substitute.
const FIRST: Duration = Duration::from_secs(5);
/// The longest time out.
const LONGEST: Duration = Duration::from_secs(300);
/// After so long without an ejection, the next one is the first again.
const HEALTHY: Duration = Duration::from_secs(60);
/// Calls of one request beyond its first.
const RETRIES: usize = 2;
/// Failures in a row that eject.
const ENOUGH: u32 = 3;

/// How a call failed where the endpoint is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection, or a proxy that has none.
    Unreachable,
    /// No event in time.
    Silent,
    /// It broke off, or spoke another protocol.
    Broken,
    /// The process that runs the model died.
    Died,
}

impl Trouble {
    /// What the fault of a call says of the endpoint; `None` where it is the request's or the model's.
    pub(super) fn of(fault: &Fault) -> Option<Self> {
        match (fault.class, fault.upstream_status) {
            (FaultClass::Unreachable, _) | (FaultClass::UpstreamError, Some(502 | 504)) => Some(Self::Unreachable),
            (FaultClass::UpstreamTimeout, _) => Some(Self::Silent),
            (FaultClass::UpstreamBroken, _) => Some(Self::Broken),
            (FaultClass::UpstreamError, _) if runner_died(&fault.message) => Some(Self::Died),
            _ => None,
        }
    }

    /// The word for logs and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Broken => "broken",
            Self::Died => "runner_died",
        }
    }

    fn patience(self) -> u32 {
        if self == Self::Silent { 2 } else { ENOUGH }
    }
}

/// Ollama's words for a runner that went away under a request (`ollama-facts` 1.5).
fn runner_died(message: &str) -> bool {
    ["model runner has unexpectedly stopped", "an error was encountered while running the model"]
        .iter()
        .any(|words| message.contains(words))
}

/// Whether a call that failed so before its first event may be made at another endpoint: nothing was said, and another
/// one may well do better. `before` counts the calls of this request that failed already. A request under which a runner
/// died gets one more runner and no third: it may be what kills them.
#[must_use]
pub fn may_go_elsewhere(fault: &Fault, before: usize) -> bool {
    let most = match (fault.class, fault.upstream_status) {
        (FaultClass::Unreachable | FaultClass::UpstreamBroken, _) => RETRIES,
        // a full queue there, or a model that was removed there
        (FaultClass::Busy, Some(503)) | (FaultClass::NotFound, Some(404)) => RETRIES,
        (FaultClass::UpstreamError, Some(502 | 504)) => RETRIES,
        (FaultClass::UpstreamError, _) if runner_died(&fault.message) => 1,
        _ => 0,
    };
    before < most
}

/// Whether a call that failed so before its first event may wait for the same server where that went away: nobody answered,
/// or its connection broke.
#[must_use]
pub fn may_wait(fault: &Fault) -> bool {
    matches!(Trouble::of(fault), Some(Trouble::Unreachable | Trouble::Broken))
}

/// What is thought of one endpoint.
#[derive(Debug)]
pub(super) struct Outlier {
    /// Failures in a row.
    row: u32,
    /// The last one that counted; calls that began before it belong to it.
    counted: Moment,
    /// The time out that the next ejection gets.
    backoff: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    In {
        since: Moment,
    },
    Out {
        why: Trouble,
        /// When it was ejected or last probed.
        tried: Moment,
        probe_at: Moment,
    },
}

impl Default for Outlier {
    fn default() -> Self {
        Self { row: 0, counted: Moment::ZERO, backoff: FIRST, state: State::In { since: Moment::ZERO } }
    }
}

impl Outlier {
    /// A call came to its good end; true when that brings the endpoint back.
    pub(super) fn succeeded(&mut self, now: Moment) -> bool {
        match self.state {
            State::In { .. } => {
                self.row = 0;
                false
            }
            State::Out { .. } => self.spoke(now),
        }
    }

    /// A call got its first event; true when that brings the endpoint back, because it was only thought to be silent.
    pub(super) fn spoke(&mut self, now: Moment) -> bool {
        let back = matches!(self.state, State::Out { why: Trouble::Silent, .. });
        if back {
            self.come_back(now);
        }
        back
    }

    /// A call that began at `began` failed at `now`; `alone` when no other usable endpoint has its model. True when the
    /// endpoint is ejected by it.
    pub(super) fn failed(&mut self, now: Moment, began: Moment, trouble: Trouble, alone: bool) -> bool {
        let State::In { since } = self.state else { return false };
        if self.row > 0 && began < self.counted {
            return false;
        }
        self.row = self.row.saturating_add(1);
        self.counted = now;
        if self.row < trouble.patience() || (alone && trouble != Trouble::Silent) {
            return false;
        }
        if now.since(since) >= HEALTHY {
            self.backoff = FIRST;
        }
        let probe_at = if trouble == Trouble::Silent { now } else { self.next_probe(now) };
        self.state = State::Out { why: trouble, tried: now, probe_at };
        true
    }

    /// When the next probe is due; `alone` when nothing else is usable.
    pub(super) fn probe_due(&self, alone: bool) -> Option<Moment> {
        match self.state {
            State::In { .. } => None,
            State::Out { tried, probe_at, .. } if alone => Some(probe_at.min(tried.after(FIRST))),
            State::Out { probe_at, .. } => Some(probe_at),
        }
    }

    /// The server had stopped answering and answers again: it is another one now, and probed at once.
    pub(super) fn restarted(&mut self, now: Moment) {
        if let State::Out { probe_at, .. } = &mut self.state {
            *probe_at = now;
            self.backoff = FIRST;
        }
    }

    /// A probe is over; true when the endpoint comes back.
    pub(super) fn probed(&mut self, now: Moment, passed: bool) -> bool {
        let State::Out { why, .. } = self.state else { return false };
        if passed {
            self.come_back(now);
        } else {
            self.state = State::Out { why, tried: now, probe_at: self.next_probe(now) };
        }
        passed
    }

    fn come_back(&mut self, now: Moment) {
        let State::Out { why, .. } = self.state else { return };
        self.state = State::In { since: now };
        // on trial, except where it was only suspected
        self.row = if why == Trouble::Silent { 0 } else { ENOUGH - 1 };
        self.counted = now;
    }

    fn next_probe(&mut self, now: Moment) -> Moment {
        let at = now.after(self.backoff);
        self.backoff = (self.backoff * 2).min(LONGEST);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_start(Duration::from_secs(seconds))
    }

    /// Three failures, one a second from `start`; whether the last one ejects.
    fn three(outlier: &mut Outlier, start: u64, trouble: Trouble, alone: bool) -> bool {
        assert!(!outlier.failed(at(start), at(start), trouble, alone));
        let second = outlier.failed(at(start + 1), at(start + 1), trouble, alone);
        second || outlier.failed(at(start + 2), at(start + 2), trouble, alone)
    }

    #[test]
    fn three_failures_in_a_row_eject_and_a_success_between_does_not() {
        for trouble in [Trouble::Unreachable, Trouble::Broken, Trouble::Died] {
            let mut outlier = Outlier::default();
            assert!(three(&mut outlier, 100, trouble, false));
            assert_eq!(outlier.probe_due(false), Some(at(107)), "{trouble:?}");
            assert!(!outlier.failed(at(103), at(103), trouble, false), "it is out already");
            let mut outlier = Outlier::default();
            for second in 0..9 {
                assert!(!outlier.failed(at(second), at(second), trouble, false));
                if second % 2 == 1 {
                    assert!(!outlier.succeeded(at(second)));
                }
            }
        }
    }

    #[test]
    fn calls_that_break_together_are_one_failure() {
        let mut outlier = Outlier::default();
        for _ in 0..20 {
            assert!(!outlier.failed(at(10), at(1), Trouble::Broken, false));
        }
        assert!(!outlier.failed(at(12), at(11), Trouble::Broken, false));
        assert!(outlier.failed(at(14), at(13), Trouble::Broken, false));
    }

    #[test]
    fn the_time_out_doubles_to_five_minutes_and_a_healthy_minute_forgets() {
        let mut outlier = Outlier::default();
        assert!(three(&mut outlier, 100, Trouble::Broken, false));
        let mut pauses = Vec::new();
        let mut now = 102;
        for _ in 0..9 {
            let due = outlier.probe_due(false).map_or(0, |due| due.since_start().as_secs());
            pauses.push(due - now);
            now = due;
            assert!(!outlier.probed(at(now), false));
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(outlier.probed(at(now), true) && outlier.probe_due(false).is_none());
        assert!(outlier.failed(at(now + 9), at(now + 8), Trouble::Broken, false), "on trial");
        assert_eq!(outlier.probe_due(false), Some(at(now + 309)));
        assert!(outlier.probed(at(now + 309), true));
        outlier.succeeded(at(now + 310));
        assert!(three(&mut outlier, now + 400, Trouble::Broken, false), "trial over: three again");
        assert_eq!(outlier.probe_due(false), Some(at(now + 407)), "and five seconds again");
    }

    #[test]
    fn the_only_endpoint_is_ejected_for_silence_alone_and_probed_at_once_and_often() {
        for trouble in [Trouble::Unreachable, Trouble::Broken, Trouble::Died] {
            let mut outlier = Outlier::default();
            for second in 0..50 {
                assert!(!outlier.failed(at(second), at(second), trouble, true), "{trouble:?}");
            }
        }
        let mut outlier = Outlier::default();
        assert!(three(&mut outlier, 100, Trouble::Silent, true));
        let mut now = 101;
        assert_eq!(outlier.probe_due(true), Some(at(now)));
        for _ in 0..20 {
            outlier.probed(at(now), false);
            assert_eq!(outlier.probe_due(true), Some(at(now + 5)));
            now += 5;
        }
        // whoever was ejected beside a substitute that has gone since is not left out for minutes either
        assert!(outlier.probe_due(false) > Some(at(now)));
    }

    #[test]
    fn a_server_that_was_restarted_does_not_wait_for_its_predecessors_time() {
        let mut outlier = Outlier::default();
        outlier.restarted(at(1));
        assert!(outlier.probe_due(false).is_none(), "nothing to probe");
        assert!(three(&mut outlier, 100, Trouble::Unreachable, false));
        for now in [200, 300, 400, 500] {
            outlier.probed(at(now), false);
        }
        assert_eq!(outlier.probe_due(false), Some(at(580)));
        outlier.restarted(at(510));
        assert_eq!(outlier.probe_due(false), Some(at(510)));
        outlier.probed(at(510), false);
        assert_eq!(outlier.probe_due(false), Some(at(515)));
    }

    #[test]
    fn a_sign_of_life_clears_who_was_thought_silent_and_nobody_else() {
        let mut outlier = Outlier::default();
        assert!(three(&mut outlier, 100, Trouble::Silent, false));
        assert!(outlier.spoke(at(102)));
        assert_eq!(outlier.probe_due(false), None);
        let mut outlier = Outlier::default();
        assert!(three(&mut outlier, 100, Trouble::Died, false));
        assert!(!outlier.spoke(at(103)) && !outlier.succeeded(at(103)));
        assert!(outlier.probe_due(false).is_some());
    }

    #[test]
    fn a_call_is_made_elsewhere_where_that_may_help_and_no_oftener_than_it_may() {
        let died = Fault::new(FaultClass::UpstreamError, "model runner has unexpectedly stopped").upstream(500);
        let boom = Fault::new(FaultClass::UpstreamError, "boom").upstream(500);
        let times = |fault: &Fault| (0..9).take_while(|before| may_go_elsewhere(fault, *before)).count();
        assert_eq!(times(&Fault::new(FaultClass::Unreachable, "")), 2);
        assert_eq!(times(&Fault::new(FaultClass::UpstreamBroken, "")), 2);
        assert_eq!(times(&Fault::new(FaultClass::Busy, "").upstream(503)), 2);
        assert_eq!(times(&Fault::new(FaultClass::NotFound, "").upstream(404)), 2);
        assert_eq!((times(&died), times(&boom)), (1, 0));
        for class in [FaultClass::UpstreamTimeout, FaultClass::BadRequest, FaultClass::Busy, FaultClass::NotFound] {
            assert_eq!(times(&Fault::new(class, "")), 0, "{class:?}");
        }
    }

    #[test]
    fn only_what_the_endpoint_is_to_blame_for_counts() {
        let died = "model runner has unexpectedly stopped, this may be due to resource limitations";
        let error = |status, text: &str| Fault::new(FaultClass::UpstreamError, text).upstream(status);
        assert_eq!(Trouble::of(&error(500, died)), Some(Trouble::Died));
        assert_eq!(Trouble::of(&error(500, "llama-server process has terminated: exit status 1")), None, "a load");
        assert_eq!(Trouble::of(&error(500, "option \"num_ctx\" must be of type integer")), None);
        assert_eq!(Trouble::of(&error(502, "Ollama answered 502 without saying why")), Some(Trouble::Unreachable));
        assert_eq!(Trouble::of(&Fault::new(FaultClass::UpstreamTimeout, "")), Some(Trouble::Silent));
        assert_eq!(Trouble::of(&Fault::new(FaultClass::UpstreamBroken, "")), Some(Trouble::Broken));
        for class in [FaultClass::BadRequest, FaultClass::NotFound, FaultClass::Busy, FaultClass::SlowReader] {
            assert_eq!(Trouble::of(&Fault::new(class, died).upstream(400)), None, "{class:?}");
        }
    }
}

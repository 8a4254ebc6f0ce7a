//! A call that failed before its first event, made again: at another endpoint, or where it was when the runner hung or the
//! server went away.
//!
//! Owns whether that is done. At another endpoint: the fault must be one that it may not have (`upstream` says which), and a
//! usable one must hold the same weights. Where it was: the request goes back into the queue and waits there for its server.
//! The request's own deadline holds in either case, and the grant is not taken again.

use crate::catalog::Resolved;
use crate::domain::{EndpointId, Fault, FaultClass, Moment};
use crate::scheduler::Permit;
use crate::upstream::{may_go_elsewhere, may_wait};

use super::in_flight::InFlight;
use super::line::Parts;

/// Hung runners, and servers that went away under it, that one request survives: it may be what hangs or kills them.
const RECALLS: usize = 2;

/// The attempts at one request.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Where it may still run.
    pub(super) resolved: Resolved,
    /// The turn of a call that was refused without any work.
    pub(super) kept: Option<Permit>,
    /// When it must have started.
    pub(super) deadline: Moment,
    failed: Vec<Fault>,
    /// How often a runner hung or a server went away under it.
    recalled: usize,
    /// How often a server turned out to be away, or what its name means changed.
    put_back: usize,
    /// When it first asked for a slot.
    since: Moment,
}

impl Attempts {
    pub(super) fn new(resolved: Resolved, deadline: Moment, now: Moment) -> Self {
        Self { resolved, kept: None, deadline, failed: Vec::new(), recalled: 0, put_back: 0, since: now }
    }

    /// When it first asked for a slot, unless this is the first time.
    pub(super) fn again(&self) -> Option<Moment> {
        (self.recalled > 0 || self.put_back > 0 || !self.failed.is_empty()).then_some(self.since)
    }

    /// Its name means something else now: it is tried with that.
    pub(super) fn put_back(&mut self, resolved: Resolved) {
        self.put_back += 1;
        self.resolved = resolved;
    }

    /// The call at `endpoint` failed before its first event: on to the next attempt, without that endpoint where another one
    /// can be used. `whole` is all that may serve it.
    ///
    /// # Errors
    /// The fault itself, when there is to be no other attempt.
    pub(super) fn failed(
        &mut self,
        endpoint: EndpointId,
        fault: Fault,
        (parts, whole): (&Parts, &Resolved),
        flight: &mut InFlight,
    ) -> Result<(), Fault> {
        let name = whole.at(endpoint).map(|holder| holder.endpoint.name.clone());
        let retried = name.map(|name| (name, fault.class));
        let fleet = parts.catalog.fleet();
        let view = |id: EndpointId| fleet.endpoints.get(usize::from(id.0));
        let others = |id: EndpointId| id != endpoint && view(id).is_some_and(|view| view.is_usable());
        let any = self.resolved.holders.iter().any(|holder| others(holder.endpoint.id));
        let in_time = parts.clock.now() < self.deadline;
        if fault.class == FaultClass::Recalled && self.recalled < RECALLS {
            // the runner is being loaded anew; the request keeps its deadline
            self.recalled += 1;
        } else if in_time && any && may_go_elsewhere(&fault, self.failed.len()) {
            self.resolved.holders.retain(|holder| holder.endpoint.id != endpoint);
            self.failed.push(fault);
        } else if in_time && fault.class == FaultClass::Unreachable {
            // no server saw it, so no number of times is too much
            self.put_back(whole.clone());
        } else if in_time
            && self.recalled < RECALLS
            && may_wait(&fault)
            && view(endpoint).is_some_and(|view| view.trouble.is_some())
        {
            self.recalled += 1;
            self.resolved = whole.clone();
        } else {
            return Err(fault);
        }
        flight.note(|record| record.retried.extend(retried));
        Ok(())
    }

    /// No slot for it. After an attempt that failed, that failure is what the caller learns.
    pub(super) fn refused(&mut self, refusal: Fault, flight: &mut InFlight) -> Fault {
        let Some(fault) = self.failed.pop() else { return refusal };
        // nothing was made again after it
        flight.note(|record| drop(record.retried.pop()));
        fault
    }
}

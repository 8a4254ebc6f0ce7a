//! A call that failed before its first event, made again: at another endpoint, or where it was when the runner hung.
//!
//! Owns whether that is done: the fault must be one that another endpoint may not have (`upstream` says which), another
//! usable endpoint must hold the same weights, and the request's own deadline holds. The grant is not taken again.

use crate::catalog::Resolved;
use crate::domain::{EndpointId, Fault, FaultClass, Moment};
use crate::scheduler::Permit;
use crate::upstream::may_go_elsewhere;

use super::in_flight::InFlight;
use super::line::Parts;

/// Hung runners that one request survives: it may be what hangs them.
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
    /// How often a runner hung under it.
    recalled: usize,
    /// When it first asked for a slot.
    since: Moment,
}

impl Attempts {
    pub(super) fn new(resolved: Resolved, deadline: Moment, now: Moment) -> Self {
        Self { resolved, kept: None, deadline, failed: Vec::new(), recalled: 0, since: now }
    }

    /// When it first asked for a slot, unless this is the first time.
    pub(super) fn again(&self) -> Option<Moment> {
        (self.recalled > 0 || !self.failed.is_empty()).then_some(self.since)
    }

    /// The call at `endpoint` failed before its first event: on to the next attempt, without that endpoint.
    ///
    /// # Errors
    /// The fault itself, when there is to be no other attempt.
    pub(super) fn failed(
        &mut self,
        endpoint: EndpointId,
        fault: Fault,
        parts: &Parts,
        flight: &mut InFlight,
    ) -> Result<(), Fault> {
        if fault.class == FaultClass::Recalled && self.recalled < RECALLS {
            // the runner is being loaded anew; the request keeps its deadline
            self.recalled += 1;
            if let Some(holder) = self.resolved.at(endpoint) {
                flight.note(|record| record.retried.push((holder.endpoint.name.clone(), fault.class)));
            }
            return Ok(());
        }
        let fleet = parts.catalog.fleet();
        let usable = |id: EndpointId| fleet.endpoints.get(usize::from(id.0)).is_some_and(|view| view.is_usable());
        let others = |id: EndpointId| id != endpoint && usable(id);
        let any = self.resolved.holders.iter().any(|holder| others(holder.endpoint.id));
        if !any || !may_go_elsewhere(&fault, self.failed.len()) || parts.clock.now() >= self.deadline {
            return Err(fault);
        }
        if let Some(at) = self.resolved.holders.iter().position(|holder| holder.endpoint.id == endpoint) {
            let holder = self.resolved.holders.remove(at);
            flight.note(|record| record.retried.push((holder.endpoint.name.clone(), fault.class)));
        }
        self.failed.push(fault);
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

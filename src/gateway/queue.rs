//! What waits, as applications and operators see it.
//!
//! Owns the form of the listing. The places and times are the scheduler's; whose requests a caller may see is decided here:
//! its own.

use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::{AppName, Fault, FleetView, ModelName, Moment};
use crate::scheduler::core::{Estimate, Queued, WaitReason};

use super::answer::{Answer, AnswerBody};
use super::call::Caller;
use super::in_flight::InFlight;
use super::line::{Gateway, refused};

impl Gateway {
    /// `GET /v1/gaucho/queue`: the caller's own requests that wait.
    pub async fn queue(&self, caller: Caller) -> Answer {
        let mut flight = self.begin("/v1/gaucho/queue");
        match self.own_queue(&caller, &mut flight) {
            Ok(list) => {
                flight.note(|record| record.status = 200);
                let body = AnswerBody::whole(vec![list.to_string().into()], flight);
                Answer { status: 200, headers: Vec::new(), content_type: "application/json", body }
            }
            Err(fault) => refused(fault, flight),
        }
    }

    fn own_queue(&self, caller: &Caller, flight: &mut InFlight) -> Result<Value, Fault> {
        let principal = self.identify(caller, flight)?;
        let app = principal.app();
        let (now, fleet) = (self.parts.clock.now(), self.parts.catalog.fleet());
        let shown = |name: &ModelName| self.parts.desk.may_see(app, name);
        let queue = self.parts.scheduler.queue(Some(app));
        Ok(list(queue.iter().map(|queued| row(queued, now, self.name(&fleet, queued, shown))).collect()))
    }

    /// What waits, of one application or of all, for operators: the same rows, and whose each is.
    #[must_use]
    pub fn whole_queue(&self, app: Option<&AppName>) -> Value {
        let (now, fleet) = (self.parts.clock.now(), self.parts.catalog.fleet());
        let queue = self.parts.scheduler.queue(app);
        let rows = queue.iter().map(|queued| {
            let mut row = row(queued, now, self.name(&fleet, queued, |_| true));
            row["app"] = json!(queued.app.as_str());
            row
        });
        list(rows.collect())
    }

    /// Weights by a name that people know: the first tag of them that may be `shown`, or one that they had.
    fn name(&self, fleet: &FleetView, queued: &Queued, shown: impl Fn(&ModelName) -> bool) -> String {
        let mut tags = fleet.endpoints.iter().flat_map(|endpoint| endpoint.tags_of(&queued.weights));
        let once = || self.parts.catalog.once_known_as(&queued.weights).filter(&shown);
        let name = tags.find(|name| shown(name)).cloned().or_else(once);
        name.map_or_else(|| queued.weights.to_string(), |name| name.to_string())
    }
}

fn list(rows: Vec<Value>) -> Value {
    json!({ "object": "list", "data": rows })
}

fn row(queued: &Queued, now: Moment, model: String) -> Value {
    let estimate = &queued.estimate;
    json!({
        "id": queued.label.to_string(),
        "model": model,
        "class": queued.class.as_str(),
        "position": estimate.position,
        "waiting_seconds": seconds(now.since(queued.since)),
        "eta_seconds": eta(estimate),
        "deadline_seconds": seconds(queued.deadline.since(now)),
        "reason": estimate.reason.as_str(),
        "reason_text": estimate.reason.text(),
    })
}

/// Seconds until it starts; null where nobody can say.
pub(super) fn eta(estimate: &Estimate) -> Option<f64> {
    (estimate.reason != WaitReason::Unreachable).then(|| seconds(estimate.wait))
}

/// Seconds with three digits.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

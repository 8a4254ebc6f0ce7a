//! The line itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::catalog::{Catalog, Resolved};
use crate::domain::{
    Clock, Event, Fault, FaultClass, Finish, InferenceRequest, Intent, ModelName, Piece, RequestId, date,
};
use crate::identity::{CallerFacts, Doorkeeper, Principal};
use crate::policy::{Desk, Grant};
use crate::scheduler::core::Refused;
use crate::scheduler::{Permit, Scheduler};
use crate::upstream::{Discovery, Order, Upstream};
use crate::wire::{self, Encoder};

use super::answer::{Answer, AnswerBody};
use super::call::{Call, Caller};
use super::elsewhere::Attempts;
use super::in_flight::InFlight;
use super::settle::Settler;
use super::ticket;

/// How old the fleet view may be when somebody asks for what it does not show.
const FRESH: Duration = Duration::from_secs(1);

/// The rooms a gateway is made of.
pub struct Parts {
    /// Who may call.
    pub doors: Doorkeeper,
    /// What they may do.
    pub desk: Arc<Desk>,
    /// What names mean.
    pub catalog: Arc<Catalog>,
    /// When they run.
    pub scheduler: Scheduler,
    /// Where they run.
    pub upstream: Upstream,
    /// What runs where.
    pub discovery: Discovery,
    /// Time.
    pub clock: Clock,
    /// Where ended requests go.
    pub settler: Settler,
}

/// The gateway; one per process.
pub struct Gateway {
    pub(super) parts: Parts,
    next_id: AtomicU64,
}

/// What the line gives when all went well.
struct Served {
    /// The first event, already here: a fault before it still has a status of its own.
    first: Event,
    reply: Option<crate::upstream::Reply>,
    request: InferenceRequest,
    principal: Principal,
    grant: Grant,
}

impl Gateway {
    /// A gateway whose request ids start at `seed` (random per process, so that ids are unique across restarts).
    #[must_use]
    pub fn new(parts: Parts, seed: u64) -> Self {
        Self { parts, next_id: AtomicU64::new(seed & 0xffff_ffff_0000_0000) }
    }

    /// Serves one request for inference: the life of a request, step by step. Every way out is an [`Answer`], and the
    /// guard in its body settles the request when it ends or its caller leaves.
    pub async fn serve(&self, call: Call) -> Answer {
        let mut flight = self.begin(call.surface.path());
        match self.run(call, &mut flight).await {
            Ok(served) => good(served, flight),
            Err(fault) => refused(fault, flight),
        }
    }

    /// The line. Each step takes what earlier steps made; a fault leaves at once.
    async fn run(&self, call: Call, flight: &mut InFlight) -> Result<Served, Fault> {
        let Call { surface, caller, body } = call;
        let principal = self.identify(&caller, flight)?;
        drop(caller);
        let body = body.read(self.max_body(&principal)).await?;
        flight.note(|record| record.usage.bytes_in = body.len() as u64);
        let request = wire::decode(surface, &body)?;
        drop(body);
        flight.note(|record| record.stream = request.stream);
        let name = ModelName::parse(&request.model).map_err(|bad| malformed(&bad.to_string()))?;
        let grant = self.parts.desk.grant(principal.app(), &request, &name)?;
        flight.note(|record| record.class = Some(grant.rules.class));
        let resolved = self.resolve(&name, &request).await?;
        flight.note(|record| record.model = Some(resolved.name.clone()));
        if request.intent == Intent::Unload {
            return Ok(Served { first: unloaded(&self.parts.clock), reply: None, request, principal, grant });
        }
        let mut attempts = Attempts::new(resolved, self.parts.clock.now().after(grant.rules.max_wait));
        loop {
            let permit = self.admit(&principal, &grant, &request, &attempts, flight).await;
            let permit = permit.map_err(|refusal| attempts.refused(refusal, flight))?;
            let endpoint = permit.endpoint();
            let order = self.order(&permit, &grant, &request, &attempts.resolved)?;
            let mut reply = self.parts.upstream.call(permit, order);
            let gone = principal.gone();
            let first = tokio::select! {
                first = reply.next() => first.unwrap_or_else(|| Err(ended())),
                () = gone.cancelled() => return Err(revoked()),
            };
            match first {
                Ok(first) => return Ok(Served { first, reply: Some(reply), request, principal, grant }),
                Err(fault) => attempts.failed(endpoint, fault, &self.parts, flight)?,
            }
        }
    }

    /// A guard for a request on `route`.
    pub(super) fn begin(&self, route: &'static str) -> InFlight {
        let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        InFlight::begin(id, route, self.parts.clock.clone(), self.parts.settler.clone())
    }

    /// Step 2: who is calling.
    pub(super) fn identify(&self, caller: &Caller, flight: &mut InFlight) -> Result<Principal, Fault> {
        let facts = CallerFacts::read(caller.peer, &caller.headers, caller.path_key.as_deref())?;
        let principal = self.parts.doors.identify(&facts)?;
        flight.note(|record| {
            record.app = Some(principal.app().clone());
            record.key = principal.key().cloned();
        });
        Ok(principal)
    }

    /// Most bytes of a body that this principal may send.
    pub(super) fn max_body(&self, principal: &Principal) -> usize {
        usize::try_from(self.parts.desk.rules(principal.app()).max_body).unwrap_or(usize::MAX)
    }

    /// Step 5: what the name means. A name nobody has may have been pulled a moment ago, so the fleet is asked again.
    pub(super) async fn resolve(&self, name: &ModelName, request: &InferenceRequest) -> Result<Resolved, Fault> {
        let embeds = request.surface.task().embeds();
        match self.parts.catalog.resolve(name, &request.model, embeds) {
            Err(fault) if matches!(fault.class, FaultClass::NotFound | FaultClass::Unreachable) => {
                self.parts.discovery.refresh(FRESH).await;
                self.parts.catalog.resolve(name, &request.model, embeds)
            }
            resolved => resolved,
        }
    }

    /// Step 7: a slot. Leaving while waiting withdraws; a revoked key waits no longer; what cannot be loaded because it
    /// was removed meanwhile is told as what nobody has.
    async fn admit(
        &self,
        principal: &Principal,
        grant: &Grant,
        request: &InferenceRequest,
        attempts: &Attempts,
        flight: &mut InFlight,
    ) -> Result<Permit, Fault> {
        let Attempts { resolved, deadline, .. } = attempts;
        let ticket = ticket::make(&self.parts, grant, request, resolved, *deadline)?;
        let gone = principal.gone();
        let permit = tokio::select! {
            permit = self.parts.scheduler.admit(ticket) => permit,
            () = gone.cancelled() => return Err(revoked()),
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(why @ Refused::Unloadable { .. }) => {
                self.resolve(&resolved.name, request).await?;
                return Err(ticket::refusal(&why, grant));
            }
            Err(why) => return Err(ticket::refusal(&why, grant)),
        };
        let holder = resolved.at(permit.endpoint());
        flight.note(|record| {
            record.usage.queue += permit.waited();
            record.endpoint = holder.map(|holder| (holder.endpoint.id, holder.endpoint.name.clone()));
        });
        Ok(permit)
    }

    /// Step 8's order: the request in native terms, with the runner options that this gateway decided.
    fn order(
        &self,
        permit: &Permit,
        grant: &Grant,
        request: &InferenceRequest,
        resolved: &Resolved,
    ) -> Result<Order, Fault> {
        let holder = resolved.at(permit.endpoint());
        let holder = holder.ok_or_else(|| Fault::new(FaultClass::Internal, "admitted where the model is not"))?;
        let runner = self.parts.catalog.runner(holder, &grant.profile);
        let model = resolved.name.to_string();
        let target = wire::UpstreamTarget {
            model: &model,
            runner_options: &runner.order.options,
            keep_alive: Some(runner.order.keep_alive),
            output_cap: grant.output_cap,
        };
        let body = wire::encode_upstream(request, &target);
        let stream = request.stream && !request.surface.task().embeds();
        Ok(Order { task: request.surface.task(), stream, body, runner: Arc::clone(&runner.order) })
    }
}

/// Steps 9 and 10: the answer in the caller's dialect, with the guard inside.
fn good(served: Served, mut flight: InFlight) -> Answer {
    let Served { first, reply, request, principal, grant } = served;
    let encoder = Encoder::new(&request, flight.id(), flight.arrived_wall().as_secs());
    let mut headers = vec![("X-Request-Id", flight.id().to_string())];
    if let Some(standing) = grant.standing {
        headers.extend(wire::limit_headers(request.surface.dialect(), &standing));
    }
    flight.note(|record| record.status = 200);
    let streams = encoder.replies_as_stream(&first);
    match reply {
        Some(reply) if streams => {
            let content_type = encoder.content_type(true);
            let revoked = principal.gone().cancelled_owned();
            Answer {
                status: 200,
                headers,
                content_type,
                body: AnswerBody::stream(first, reply, encoder, revoked, flight),
            }
        }
        _ => {
            flight.event(&first);
            let content_type = encoder.content_type(false);
            let whole = encoder.unary(&first);
            Answer { status: 200, headers, content_type, body: AnswerBody::whole(whole, flight) }
        }
    }
}

/// The one door for refusals.
pub(super) fn refused(fault: Fault, mut flight: InFlight) -> Answer {
    flight.faulted(&fault);
    let refusal = wire::refusal(flight.dialect(), &fault);
    flight.note(|record| record.status = refusal.status);
    let mut headers = refusal.headers;
    headers.push(("X-Request-Id", flight.id().to_string()));
    Answer {
        status: refusal.status,
        headers,
        content_type: refusal.content_type,
        body: AnswerBody::whole(refusal.body, flight),
    }
}

fn malformed(text: &str) -> Fault {
    Fault::new(FaultClass::BadRequest, text).at("model")
}

fn ended() -> Fault {
    Fault::new(FaultClass::UpstreamBroken, "the Ollama server ended the answer before it began: try again")
}

fn revoked() -> Fault {
    Fault::new(FaultClass::Revoked, "the key was revoked or has expired")
}

/// Ollama's reply to an unload. Residency is the operator's, so it is answered as done and evicts nothing.
fn unloaded(clock: &Clock) -> Event {
    let finish = Finish { reason: Some("unload".to_owned()), ..Finish::default() };
    let created_at = date(clock.wall()).to_string();
    Event::Piece(Box::new(Piece { created_at, finish: Some(finish), ..Piece::default() }))
}

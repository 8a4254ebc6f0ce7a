//! The line itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, Resolved};
use crate::domain::{
    Clock, Event, Fault, FaultClass, Finish, InferenceRequest, Intent, Limit, ModelName, Moment, Piece, RequestId, date,
};
use crate::identity::{CallerFacts, Doorkeeper, Principal, Target};
use crate::policy::{Desk, Grant};
use crate::scheduler::core::Refused;
use crate::scheduler::{Permit, Scheduler};
use crate::upstream::{Discovery, Order, Reply, Upstream};
use crate::wire::{self, Encoder};

use super::answer::{Answer, AnswerBody, Ends};
use super::call::{Call, Caller};
use super::elsewhere::Attempts;
use super::in_flight::InFlight;
use super::overflow::{Fitting, Refused as Oversized};
use super::settle::Settler;
use super::ticket;
use super::wishes::{Patience, Wishes};

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
    /// Cancelled when it stops without waiting for what runs.
    cut: CancellationToken,
}

/// A request that passed every step before the queue.
pub(super) struct Ready {
    pub(super) request: InferenceRequest,
    pub(super) principal: Principal,
    pub(super) grant: Grant,
    pub(super) resolved: Resolved,
    pub(super) patience: Patience,
    /// What is done so that the prompt fits.
    pub(super) fitting: Fitting,
    /// How often the caller hears that it still waits.
    pub(super) keepalive: Option<Duration>,
    cut: CancellationToken,
}

impl Ready {
    /// What may end the answer before its end.
    pub(super) fn ends(&self) -> Ends {
        Ends {
            revoked: Box::pin(self.principal.gone().cancelled_owned()),
            cut: Box::pin(self.cut.clone().cancelled_owned()),
        }
    }
}

/// A request whose answer has begun.
pub(super) struct Started {
    /// The first event, already here: a fault before it still has a status of its own.
    pub(super) first: Event,
    /// What follows.
    pub(super) reply: Option<Reply>,
}

impl Gateway {
    /// A gateway whose request ids start at `seed` (random per process, so that ids are unique across restarts).
    #[must_use]
    pub fn new(parts: Parts, seed: u64) -> Self {
        Self { parts, next_id: AtomicU64::new(seed & 0xffff_ffff_0000_0000), cut: CancellationToken::new() }
    }

    /// Ends what runs now, each with an error that says so.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Serves one request for inference: the life of a request, step by step. Every way out is an [`Answer`], and the
    /// guard in its body settles the request when it ends or its caller leaves.
    pub async fn serve(self: &Arc<Self>, call: Call) -> Answer {
        let mut flight = self.begin(call.surface.path());
        let mut ready = match self.run(call, &mut flight).await {
            Ok(ready) => ready,
            Err(fault) => return refused(fault, flight),
        };
        if let Some(every) = ready.keepalive {
            return self.wait_aloud(ready, every, flight).await;
        }
        match self.start(&mut ready, &mut flight).await {
            Ok(started) => good(ready, started, flight),
            Err(fault) => refused(fault, flight),
        }
    }

    /// The line up to the queue. Each step takes what earlier steps made; a fault leaves at once.
    async fn run(&self, call: Call, flight: &mut InFlight) -> Result<Ready, Fault> {
        let Call { surface, caller, body } = call;
        let principal = self.identify(&caller, flight)?;
        let wishes = Wishes::read(&caller.headers, surface)?;
        drop(caller);
        let body = body.read(self.max_body(&principal)).await?;
        flight.note(|record| record.usage.bytes_in = body.len() as u64);
        let mut request = wire::decode(surface, &body)?;
        drop(body);
        flight.note(|record| record.stream = request.stream);
        let name = ModelName::parse(&request.model).map_err(|bad| malformed(&bad.to_string()))?;
        let grant = self.parts.desk.grant(principal.app(), &request, &name)?;
        flight.note(|record| record.class = Some(grant.rules.class));
        let resolved = self.resolve(&name, &request).await?;
        flight.note(|record| record.model = Some(resolved.name.clone()));
        resolved.fit(&mut request)?;
        let patience = wishes.patience(grant.rules.max_wait, self.parts.clock.now());
        let keepalive = wishes.keepalive(&request, grant.rules.keepalive);
        let fitting = Fitting::of(&request);
        let cut = self.cut.clone();
        Ok(Ready { request, principal, grant, resolved, patience, fitting, keepalive, cut })
    }

    /// The line from the queue to the first event.
    pub(super) async fn start(&self, ready: &mut Ready, flight: &mut InFlight) -> Result<Started, Fault> {
        if ready.request.intent == Intent::Unload {
            return Ok(Started { first: unloaded(&self.parts.clock), reply: None });
        }
        let mut attempts = Attempts::new(ready.resolved.clone(), ready.patience.until, self.parts.clock.now());
        loop {
            let permit = match attempts.kept.take() {
                Some(kept) => kept,
                None => {
                    let permit = self.admit(ready, &mut attempts, flight).await;
                    permit.map_err(|refusal| attempts.refused(refusal, flight))?
                }
            };
            let endpoint = permit.endpoint();
            let order = self.order(&permit, ready)?;
            let mut reply = self.parts.upstream.call(permit, order);
            let mut ends = ready.ends();
            let first = tokio::select! {
                first = reply.next() => first.unwrap_or_else(|| Err(ended())),
                fault = std::future::poll_fn(|cx| ends.poll(cx)) => return Err(fault),
            };
            match first {
                Ok(first) => return Ok(Started { first, reply: Some(reply) }),
                Err(fault) if fault.class == FaultClass::ContextExceeded => {
                    let oversized = Oversized { fault, endpoint, permit: reply.unused() };
                    attempts = self.overflowed(oversized, ready, attempts, flight).await?;
                }
                Err(fault) => {
                    let fault = as_asked(fault, ready);
                    attempts.failed(endpoint, fault, (&self.parts, &ready.resolved), flight)?;
                }
            }
        }
    }

    /// A guard for a request on `route`.
    pub(super) fn begin(&self, route: &'static str) -> InFlight {
        let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
        InFlight::begin(id, route, self.parts.clock.clone(), self.parts.settler.clone(), self.cut.clone())
    }

    /// Step 2: who is calling.
    pub(super) fn identify(&self, caller: &Caller, flight: &mut InFlight) -> Result<Principal, Fault> {
        let (method, target) = (caller.method.as_str(), &caller.target);
        let target = Target { method, path: target.path(), query: target.query() };
        let facts = CallerFacts::read(caller.peer, target, &caller.headers, caller.path_key.as_deref())?;
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
        self.resolve_as(name, &request.model, request.surface.task().embeds()).await
    }

    /// As [`Gateway::resolve`], for a name that its callers know as `asked`.
    pub(super) async fn resolve_as(&self, name: &ModelName, asked: &str, embeds: bool) -> Result<Resolved, Fault> {
        match self.parts.catalog.resolve(name, asked, embeds) {
            Err(fault) if matches!(fault.class, FaultClass::NotFound | FaultClass::Unreachable) => {
                self.parts.discovery.refresh(FRESH).await;
                self.parts.catalog.resolve(name, asked, embeds)
            }
            resolved => resolved,
        }
    }

    /// Step 7: a slot. Leaving while waiting withdraws; a revoked key waits no longer. What the name
    /// means is looked up again when that changes meanwhile: a model that was removed is told as what nobody has.
    async fn admit(&self, ready: &mut Ready, attempts: &mut Attempts, flight: &mut InFlight) -> Result<Permit, Fault> {
        loop {
            let Ready { request, principal, grant, patience, .. } = &*ready;
            let resolved = &attempts.resolved;
            let mut ticket = ticket::make(&self.parts, grant, request, resolved, flight.id(), attempts.deadline)?;
            ticket.again = attempts.again();
            let seats: Vec<_> = ticket.seats.iter().map(|seat| seat.endpoint).collect();
            let gone = principal.gone();
            let queueing = Queueing { since: self.parts.clock.now(), clock: &self.parts.clock, flight: &mut *flight };
            let verdict = tokio::select! {
                biased;
                verdict = self.parts.scheduler.admit(ticket) => Some(verdict),
                () = self.parts.catalog.moved(&resolved.name, &resolved.weights, &seats) => None,
                () = gone.cancelled() => return Err(revoked()),
            };
            drop(queueing);
            match verdict {
                Some(Ok(permit)) => {
                    let holder = resolved.at(permit.endpoint());
                    flight.note(|record| {
                        record.endpoint = holder.map(|holder| (holder.endpoint.id, holder.endpoint.name.clone()));
                    });
                    return Ok(permit);
                }
                Some(Err(why)) => {
                    if matches!(why, Refused::Unloadable { .. }) {
                        self.resolve(&resolved.name, request).await?;
                    }
                    return Err(ticket::refusal(&why, grant, patience));
                }
                None => {
                    let resolved = self.resolve(&resolved.name, request).await?;
                    resolved.fit(&mut ready.request)?;
                    attempts.put_back(resolved.clone());
                    ready.resolved = resolved;
                }
            }
        }
    }

    /// Step 8's order: the request in native terms, with the runner options that this gateway decided.
    fn order(&self, permit: &Permit, ready: &Ready) -> Result<Order, Fault> {
        let Ready { request, grant, resolved, .. } = ready;
        let holder = resolved.at(permit.endpoint());
        let holder = holder.ok_or_else(|| Fault::new(FaultClass::Internal, "admitted where the model is not"))?;
        let runner = self.parts.catalog.runner(holder, &grant.profile);
        let model = resolved.name.to_string();
        let target = wire::UpstreamTarget {
            model: &model,
            runner_options: &runner.order.options,
            keep_alive: Some(runner.order.keep_alive),
            truncate: ready.fitting.truncate,
            output_cap: grant.output_cap,
            model_cap: holder.model.output_cap,
        };
        let body = wire::encode_upstream(request, &target);
        let stream = request.stream && !request.surface.task().embeds();
        let cut = ready.fitting.truncate == Some(true);
        Ok(Order { task: request.surface.task(), stream, body, cut, runner: Arc::clone(&runner.order) })
    }
}

/// Time in the queue, which ends by a slot, a refusal, or the caller's leave.
struct Queueing<'f> {
    flight: &'f mut InFlight,
    clock: &'f Clock,
    since: Moment,
}

impl Drop for Queueing<'_> {
    fn drop(&mut self) {
        let waited = self.clock.now().since(self.since);
        self.flight.note(|record| record.usage.queue += waited);
    }
}

/// Steps 9 and 10: the answer in the caller's dialect, with the guard inside.
pub(super) fn good(ready: Ready, started: Started, mut flight: InFlight) -> Answer {
    let Started { first, reply } = started;
    let mut headers = head(&ready, &flight);
    headers.push(("X-Gaucho-Queue-Wait", format!("{:.3}", flight.queued().as_secs_f64())));
    flight.note(|record| record.status = 200);
    let encoder = Encoder::new(&ready.request, flight.id(), flight.arrived_wall().as_secs());
    let streams = encoder.replies_as_stream(&first);
    let content_type = encoder.content_type(streams);
    let body = match reply {
        Some(reply) if streams => AnswerBody::stream(first, reply, encoder, ready.ends(), flight),
        _ => {
            flight.event(&first);
            let whole = encoder.unary(&first);
            AnswerBody::whole(whole, flight)
        }
    };
    Answer { status: 200, headers, content_type, body }
}

/// The headers that every answer to a granted request has.
pub(super) fn head(ready: &Ready, flight: &InFlight) -> Vec<(&'static str, String)> {
    about(flight, ready.grant.standing.as_ref())
}

/// The headers that say what became of a request, and where its application stands.
fn about(flight: &InFlight, standing: Option<&Limit>) -> Vec<(&'static str, String)> {
    let mut headers = wire::id_headers(flight.dialect(), flight.id());
    headers.extend(flight.overflow().map(|overflow| ("X-Gaucho-Overflow", overflow.to_string())));
    headers.extend(flight.stream_headers());
    let limits = standing.map(|limit| wire::limit_headers(flight.dialect(), limit, flight.arrived_wall()));
    headers.extend(limits.into_iter().flatten());
    headers
}

/// The one door for refusals.
pub(super) fn refused(fault: Fault, mut flight: InFlight) -> Answer {
    flight.faulted(&fault);
    let refusal = wire::refusal(flight.dialect(), &fault).of(flight.dialect(), flight.id());
    flight.note(|record| record.status = refusal.status);
    let mut headers = refusal.headers;
    headers.extend(about(&flight, fault.limit.as_ref()));
    Answer {
        status: refusal.status,
        headers,
        content_type: refusal.content_type,
        body: AnswerBody::whole(vec![refusal.body.into()], flight).chunked(refusal.chunked),
    }
}

fn malformed(text: &str) -> Fault {
    Fault::new(FaultClass::BadRequest, text).at("model")
}

/// Ollama's own words name the model as the gateway asked for it; the caller reads the name it sent.
fn as_asked(mut fault: Fault, ready: &Ready) -> Fault {
    let canonical = ready.resolved.name.to_string();
    if fault.upstream_status.is_some() && fault.message.contains(&canonical) {
        for quote in ['"', '\''] {
            let (theirs, own) =
                (format!("{quote}{canonical}{quote}"), format!("{quote}{}{quote}", ready.request.model));
            fault.message = fault.message.replace(&theirs, &own);
        }
    }
    fault
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

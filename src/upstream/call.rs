//! One call to an endpoint: send, read at full speed, give the slot back the moment upstream is done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use crate::domain::{EndpointId, Event, Fault, FaultClass, LoadOrder, Metrics, Task};
use crate::scheduler::core::Observed;
use crate::scheduler::{Permit, Scheduler};
use crate::wire;

use super::client::{Client, reason};
use super::discovery::Discovery;
use super::echo::Echo;
use super::health::{Health, Watched};
use super::outlier::may_wait;
use super::reply::{Budget, Reply, Sink, pipe};

/// Longest line, and longest whole answer, that is accepted from upstream.
const MOST_BYTES: usize = 256 << 20;
/// How long the end of a call that broke waits to learn whether its server went away.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// What to call.
#[derive(Debug)]
pub struct Order {
    /// Which native route.
    pub task: Task,
    /// Whether upstream was asked to stream.
    pub stream: bool,
    /// The body.
    pub body: Vec<u8>,
    /// Whether it lets Ollama cut its prompt: what the prompt's size then takes says nothing of others.
    pub cut: bool,
    /// How the runner is asked for, as the body says too.
    pub runner: Arc<LoadOrder>,
}

/// The way to the endpoints; clones are handles.
#[derive(Debug, Clone)]
pub struct Upstream {
    client: Client,
    discovery: Discovery,
    health: Health,
    scheduler: Scheduler,
    budget: Budget,
    tasks: TaskTracker,
}

impl Upstream {
    /// Calls by `client`, within `budget`, each in a task of `tasks`; `scheduler` hears at once of a server that went away.
    #[must_use]
    pub fn new(
        client: Client,
        discovery: Discovery,
        health: Health,
        scheduler: Scheduler,
        budget: Budget,
        tasks: TaskTracker,
    ) -> Self {
        Self { client, discovery, health, scheduler, budget, tasks }
    }

    /// Calls the permit's endpoint. The call goes on by itself until it ends or the reply is dropped; the permit is
    /// given back at that moment.
    #[must_use]
    pub fn call(&self, permit: Permit, order: Order) -> Reply {
        let (sink, reply) = pipe(&self.budget);
        let watched = self.health.watch(permit.endpoint(), Arc::clone(&order.runner), order.stream);
        let pump = Pump {
            client: self.client.clone(),
            discovery: self.discovery.clone(),
            scheduler: self.scheduler.clone(),
            order,
            sink,
            watched,
            began: false,
            echo: Echo::default(),
        };
        let task = self.tasks.spawn(pump.run(permit));
        reply.driven_by(task.abort_handle())
    }

    /// `/api/show` of the endpoint: status and body as it answered.
    ///
    /// # Errors
    /// `Unreachable` when it does not answer, `UpstreamError` when it does not know the gateway.
    pub async fn show(&self, endpoint: EndpointId, body: Vec<u8>) -> Result<(u16, Bytes), Fault> {
        let endpoint = self.client.endpoint(endpoint)?;
        match self.client.ask(endpoint, "/api/show", body).await.map_err(unreachable)? {
            (status @ (401 | 403 | 407), body) => Err(wire::upstream_fault(status, &body)),
            answered => Ok(answered),
        }
    }

    /// Bytes of answers that callers have not taken yet.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.budget.held()
    }
}

fn unreachable(detail: String) -> Fault {
    Fault::new(FaultClass::Unreachable, "the Ollama server cannot be reached now: try again shortly")
        .retry(Duration::from_secs(2))
        .detail(detail)
}

struct Pump {
    client: Client,
    discovery: Discovery,
    scheduler: Scheduler,
    order: Order,
    sink: Sink,
    watched: Watched,
    /// Whether something has come of it.
    began: bool,
    echo: Echo,
}

impl Pump {
    async fn run(mut self, permit: Permit) {
        let mut observed = Observed::default();
        let recalled = permit.recalled();
        let ended = tokio::select! {
            ended = self.drive(&permit, &mut observed) => ended,
            () = recalled => Err(taken_back(self.began)),
        };
        observed.complete = observed.complete && !self.order.cut;
        let Self { discovery, scheduler, sink, watched, .. } = self;
        // judged first: whoever learns of the fault may ask again at once
        watched.ended(&ended);
        if let Err(fault) = ended {
            if fault.class == FaultClass::ContextExceeded {
                return sink.refused(fault, permit);
            }
            // and the slot comes back last: nobody who waits is sent to a server that went away
            look_after(&discovery, &scheduler, permit.endpoint(), &fault).await;
            sink.fault(fault);
        }
        permit.settle(observed);
    }

    async fn drive(&mut self, permit: &Permit, observed: &mut Observed) -> Result<(), Fault> {
        let timeouts = self.client.timeouts;
        let patience = if self.order.stream { timeouts.first_event } else { timeouts.whole };
        let response = tokio::time::timeout(patience, self.send(permit.endpoint()))
            .await
            .map_err(|_| too_slow("did not begin to answer", patience))??;
        let status = response.status().as_u16();
        if status != 200 {
            // only what Ollama finds after it chose to stream has no charset (`ollama-facts` 1.5)
            let kind = response.headers().get("content-type");
            let for_a_stream = self.order.stream && kind.is_some_and(|kind| kind == "application/json");
            let body = whole(response, timeouts.idle).await?;
            return Err(wire::upstream_fault(status, &body).for_a_stream(for_a_stream));
        }
        if self.order.stream {
            self.stream(response, permit, observed).await
        } else {
            self.once(response, observed).await
        }
    }

    async fn send(&mut self, endpoint: EndpointId) -> Result<reqwest::Response, Fault> {
        let body = std::mem::take(&mut self.order.body);
        let failed = |error: reqwest::Error| {
            if error.is_connect() { unreachable(reason(&error)) } else { broken(false, &reason(&error)) }
        };
        self.client.call(endpoint, self.order.task, body, failed).await
    }

    async fn once(&self, response: reqwest::Response, observed: &mut Observed) -> Result<(), Fault> {
        let body = whole(response, self.client.timeouts.idle).await?;
        let event = wire::decode_body(self.order.task, &body).map_err(|bad| garbled(false, &bad.to_string()))?;
        if let Event::Error(text) = event {
            return Err(Fault::new(FaultClass::UpstreamError, text).upstream(500));
        }
        // an answer that Ollama's repeat guard ended says `done: false` itself: it is whole, and passed on as it is
        learn(&event, observed);
        self.sink.event(event, body.len())
    }

    async fn stream(
        &mut self,
        mut response: reqwest::Response,
        permit: &Permit,
        observed: &mut Observed,
    ) -> Result<(), Fault> {
        let mut lines = wire::Lines::new(MOST_BYTES);
        let mut pause = Duration::MAX;
        loop {
            let Some(chunk) = self.chunk(&mut response, permit, pause).await? else {
                // a load is answered by one object without a line end, even to those who asked for a stream
                let last = lines.rest().to_vec();
                if !last.is_empty() && self.line(&last, observed)? {
                    return Ok(());
                }
                return Err(if self.echo.ends_an_answer() {
                    repeated()
                } else {
                    broken(self.began, "the stream ended without done:true")
                });
            };
            lines.push(&chunk);
            while let Some(line) = lines.next_line().map_err(|bad| garbled(self.began, &bad.to_string()))? {
                if !std::mem::replace(&mut self.began, true) {
                    pause = permit.began();
                }
                if self.line(line, observed)? {
                    // its end of file means that Ollama has let go of the slot, and that the connection can be reused
                    let _ = tokio::time::timeout(Duration::from_secs(1), response.chunk()).await;
                    return Ok(());
                }
            }
        }
    }

    /// The next bytes of a stream. One that says nothing for `pause` in the middle of its answer is told of.
    async fn chunk(
        &self,
        response: &mut reqwest::Response,
        permit: &Permit,
        pause: Duration,
    ) -> Result<Option<Bytes>, Fault> {
        let timeouts = self.client.timeouts;
        let patience = if self.began { timeouts.idle } else { timeouts.first_event };
        let quiet = pause.min(patience);
        let mut next = tokio::time::timeout(quiet, response.chunk()).await;
        if next.is_err() && quiet < patience {
            permit.hushed();
            next = tokio::time::timeout(patience.saturating_sub(quiet), response.chunk()).await;
            if next.is_ok() {
                let _ = permit.began();
            }
        }
        let late = |_| if self.began { stopped(patience) } else { too_slow("did not begin to answer", patience) };
        next.map_err(late)?.map_err(|error| broken(self.began, &reason(&error)))
    }

    /// Hands one line over; true for the last one.
    fn line(&mut self, line: &[u8], observed: &mut Observed) -> Result<bool, Fault> {
        let event = wire::decode_event(self.order.task, line);
        let event = event.map_err(|bad| garbled(self.watched.has_spoken(), &bad.to_string()))?;
        if let Event::Error(text) = event {
            return Err(Fault::new(FaultClass::UpstreamError, text).upstream(500));
        }
        self.watched.spoke();
        self.echo.heard(&event);
        let last = learn(&event, observed);
        self.sink.event(event, line.len())?;
        Ok(last)
    }
}

/// Finds out, where a call failed as if its server went away, whether that is so; then the server is out for all at once.
async fn look_after(discovery: &Discovery, scheduler: &Scheduler, endpoint: EndpointId, fault: &Fault) {
    match fault.class {
        FaultClass::Unreachable => {
            discovery.lost(endpoint, fault.detail.clone().unwrap_or_else(|| fault.message.clone()));
        }
        FaultClass::UpstreamTimeout => discovery.hurry(endpoint),
        _ if may_wait(fault) => {
            let _ = tokio::time::timeout(LOOK_WITHIN, discovery.list(endpoint)).await;
        }
        _ => {}
    }
    if !discovery.answers(endpoint) {
        scheduler.endpoint(endpoint, false, false);
        // from now on it is asked as one that is silent: soon, then ever more seldom
        discovery.hurry(endpoint);
    }
}

/// Reads a whole body, bounded.
async fn whole(mut response: reqwest::Response, patience: Duration) -> Result<Bytes, Fault> {
    let mut body = Vec::new();
    loop {
        let chunk = tokio::time::timeout(patience, response.chunk())
            .await
            .map_err(|_| stopped(patience))?
            .map_err(|error| broken(false, &reason(&error)))?;
        let Some(chunk) = chunk else { return Ok(body.into()) };
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(Fault::new(FaultClass::UpstreamBroken, "the Ollama server's answer is larger than 256 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
}

/// Notes what the event says about speed and length; true for the last one.
fn learn(event: &Event, observed: &mut Observed) -> bool {
    let (metrics, complete) = match event {
        Event::Piece(piece) => match &piece.finish {
            Some(finish) => (finish.metrics, matches!(finish.reason.as_deref(), Some("stop" | "length"))),
            None => return false,
        },
        Event::Vectors(vectors) => (vectors.metrics, true),
        Event::Error(_) => return false,
    };
    *observed = seen(metrics, complete);
    true
}

fn seen(metrics: Metrics, complete: bool) -> Observed {
    let known = metrics.load + metrics.prompt + metrics.generation;
    Observed {
        prompt_tokens: metrics.prompt_tokens,
        prompt_seconds: metrics.prompt.as_secs_f64(),
        output_tokens: metrics.output_tokens,
        output_seconds: metrics.generation.as_secs_f64(),
        // Ollama counts the wait for a slot nowhere (`ollama-facts` 1.4)
        slot_wait: metrics.total.saturating_sub(known).as_secs_f64(),
        complete,
    }
}

fn taken_back(began: bool) -> Fault {
    let text = if began {
        "the model hung in the middle of the answer and is loaded anew: the answer so far is not whole, try again"
    } else {
        "the model hung and was loaded anew, and hung again: try again later, and tell the operator"
    };
    Fault::new(FaultClass::Recalled, text).retry(Duration::from_secs(5))
}

fn too_slow(what: &str, patience: Duration) -> Fault {
    Fault::new(FaultClass::UpstreamTimeout, format!("the Ollama server {what} within {} s", patience.as_secs()))
}

fn stopped(patience: Duration) -> Fault {
    let seconds = patience.as_secs();
    let text = format!("the Ollama server stopped in the middle of the answer: nothing more came for {seconds} s");
    Fault::new(FaultClass::UpstreamTimeout, text)
}

/// It broke off; `told` is whether anything of the answer was passed on.
fn broken(told: bool, detail: &str) -> Fault {
    let text = if told {
        "the Ollama server broke off before the answer was complete: the answer so far is not whole, try again"
    } else {
        "the Ollama server broke off before anything of an answer came: try again"
    };
    Fault::new(FaultClass::UpstreamBroken, text).detail(detail.to_owned())
}

/// Its repeat guard ended the answer.
fn repeated() -> Fault {
    let text = "the model repeated itself, and Ollama ended its answer there, unfinished: change the prompt, the temperature \
                or repeat_penalty, because the same request may end the same way";
    Fault::new(FaultClass::Repetition, text).detail("the stream ended without done:true after equal pieces".to_owned())
}

/// It said what is no answer.
fn garbled(told: bool, detail: &str) -> Fault {
    if told {
        return broken(true, detail);
    }
    let text = "what came from the Ollama server's address is no answer of Ollama's: tell the operator if it stays so";
    Fault::new(FaultClass::UpstreamBroken, text).detail(detail.to_owned())
}

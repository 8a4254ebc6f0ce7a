//! The server that the environment names, a gateway before it, clients that time what they get, and the table of a scene.
//!
//! Owns how a scene is driven; what it expects is said in `mod.rs`. The same clients drive the server itself, so that the
//! two can be compared on one machine.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::gateway::{House, Plan};
use crate::support::raw::{self, Exchange};

/// Scenes share one server: one at a time.
static TURN: Mutex<()> = Mutex::const_new(());
/// Messages differ, so that nothing is answered from what the server still knows.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// The longest that any single answer may take before a scene fails.
const LIMIT: Duration = Duration::from_secs(240);

/// What the environment says of the server.
pub(super) struct Server {
    pub(super) url: String,
    pub(super) models: Vec<String>,
    pub(super) slots: u32,
}

impl Server {
    /// Fails, saying what is missing, where no server is named.
    pub(super) fn named() -> Self {
        let url = std::env::var("GAUCHO_LIVE_OLLAMA")
            .expect("these scenes need a real Ollama: GAUCHO_LIVE_OLLAMA=http://127.0.0.1:11434 names it");
        let models = std::env::var("GAUCHO_LIVE_MODELS").unwrap_or_else(|_| "gemma:a,gemma:b,gemma:c".to_owned());
        let models: Vec<String> = models.split(',').map(|model| model.trim().to_owned()).collect();
        assert!(models.len() >= 3, "GAUCHO_LIVE_MODELS names three models of different weights: {models:?}");
        let slots = std::env::var("GAUCHO_LIVE_SLOTS").unwrap_or_else(|_| "2".to_owned());
        let slots = slots.parse().expect("GAUCHO_LIVE_SLOTS is the server's OLLAMA_NUM_PARALLEL");
        Self { url, models, slots }
    }

    fn addr(&self) -> SocketAddr {
        let host = self.url.trim_start_matches("http://").trim_end_matches('/');
        host.parse().expect("GAUCHO_LIVE_OLLAMA is http://ADDRESS:PORT")
    }
}

/// Whom the clients of a scene ask.
pub(super) enum Door {
    /// A gateway with room for one model.
    Gateway(Box<House>),
    /// The server itself.
    Raw(SocketAddr),
}

/// A scene under way: nobody else uses the server meanwhile.
pub(super) struct Scene {
    pub(super) door: Door,
    pub(super) models: Vec<String>,
    name: &'static str,
    began: Instant,
    loads: f64,
    _turn: MutexGuard<'static, ()>,
}

/// The applications of every scene.
pub(super) const APPS: [&str; 3] = ["app-a", "app-b", "app-c"];

impl Scene {
    /// Through a gateway, with the first model loaded.
    pub(super) async fn through_the_gateway(name: &'static str) -> Self {
        let server = Server::named();
        let turn = TURN.lock().await;
        let plan = Plan::new().upstreams(&[&server.url]).slots(server.slots);
        let plan = APPS.into_iter().fold(plan, Plan::app);
        let house = plan.settings(|settings| settings.endpoints[0].max_loaded_models = 1).build().await;
        Self::begin(name, Door::Gateway(Box::new(house)), server.models, turn).await
    }

    /// Past the gateway.
    pub(super) async fn raw(name: &'static str) -> Self {
        let server = Server::named();
        let turn = TURN.lock().await;
        Self::begin(name, Door::Raw(server.addr()), server.models, turn).await
    }

    async fn begin(name: &'static str, door: Door, models: Vec<String>, turn: MutexGuard<'static, ()>) -> Self {
        let mut scene = Self { door, models, name, began: Instant::now(), loads: 0.0, _turn: turn };
        let warm = scene.ask(0, 0).await;
        assert!(warm.whole, "{} cannot be answered at all: {warm:?}", scene.models[0]);
        scene.loads = scene.all_loads().await;
        scene.began = Instant::now();
        scene
    }

    /// Seconds since it began.
    pub(super) fn age(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Loads since it began; of the server itself nobody tells.
    pub(super) async fn loads(&self) -> f64 {
        self.all_loads().await - self.loads
    }

    async fn all_loads(&self) -> f64 {
        let Door::Gateway(house) = &self.door else { return f64::NAN };
        let text = house.metrics().await;
        let loads = text.lines().filter(|line| line.starts_with("gaucho_upstream_loads_total{"));
        loads.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// A short unique chat of 24 tokens, as an application.
    pub(super) async fn ask(&self, app: usize, model: usize) -> Answer {
        self.ask_with(app, model, json!({ "num_predict": 24 })).await
    }

    /// The same with other options.
    pub(super) async fn ask_with(&self, app: usize, model: usize, options: Value) -> Answer {
        let asked = Instant::now();
        let body = self.chat(model, options);
        let exchange = self.send(app, &body).await;
        tokio::time::timeout(LIMIT, read(exchange, asked))
            .await
            .unwrap_or_else(|_| panic!("{}: not answered", self.name))
    }

    /// The body of a short unique streamed chat.
    pub(super) fn chat(&self, model: usize, options: Value) -> Value {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let messages = json!([{ "role": "user", "content": format!("Tell story {turn} of {}.", std::process::id()) }]);
        let mut all = json!({ "temperature": 0 });
        for (name, value) in options.as_object().unwrap() {
            all[name] = value.clone();
        }
        json!({ "model": self.models[model], "messages": messages, "options": all })
    }

    /// Sends a chat as an application.
    pub(super) async fn send(&self, app: usize, body: &Value) -> Exchange {
        match &self.door {
            Door::Gateway(house) => house.send(APPS[app], "POST", "/api/chat", Some(&body.to_string())).await,
            Door::Raw(addr) => raw::send(*addr, "POST", "/api/chat", &[], Some(&body.to_string())).await,
        }
    }

    /// Sends a chat on a connection with hardly any room for what is not read.
    pub(super) async fn send_small(&self, app: usize, body: &Value) -> Exchange {
        let (addr, key) = match &self.door {
            Door::Gateway(house) => (house.addr, format!("Authorization: Bearer {}\r\n", house.key(APPS[app]))),
            Door::Raw(addr) => (*addr, String::new()),
        };
        let (body, mut exchange) = (body.to_string(), raw::open_small(addr).await);
        let head = format!("POST /api/chat HTTP/1.1\r\nHost: {addr}\r\n{key}Content-Length: {}\r\n\r\n", body.len());
        exchange.write(head.as_bytes()).await;
        exchange.write(body.as_bytes()).await;
        exchange
    }

    /// A client that asks again as soon as it is answered, until so many seconds after the scene began.
    pub(super) async fn again(&self, app: usize, model: usize, until: f64) -> Vec<Answer> {
        let mut answers = Vec::new();
        while self.age() < until {
            answers.push(self.ask(app, model).await);
        }
        answers
    }

    /// Prints one line of the table.
    pub(super) async fn row(&self, of: &str, answers: &[Answer]) {
        let door = if matches!(self.door, Door::Raw(_)) { "raw" } else { "gaucho" };
        let (whole, first) = (sorted(answers, |answer| answer.took), sorted(answers, |answer| answer.first));
        let loads = self.loads().await;
        let loads = if loads.is_nan() { "?".to_owned() } else { loads.to_string() };
        println!(
            "| {:<8} | {door:<6} | {of:<12} | {:>3} of {:>3} | {:>5.1} s | {:>3} loads | p50 {:>5.2} s | p99 {:>5.2} s | first p50 {:>5.2} s, max {:>5.2} s |",
            self.name,
            answers.iter().filter(|answer| answer.whole).count(),
            answers.len(),
            self.age(),
            loads,
            at(&whole, 0.5),
            at(&whole, 0.99),
            at(&first, 0.5),
            at(&first, 1.0),
        );
    }

    /// Ends it: nothing may be left running or waiting.
    pub(super) async fn end(self) {
        if let Door::Gateway(house) = self.door {
            // the end of an answer is read before the gateway has heard of it; the stand-in is not in use here
            let taken = |text: &str| {
                let mut used = text.lines().filter(|line| line.starts_with("gaucho_scheduler_slots_used{"));
                used.any(|line| !line.ends_with(" 0"))
            };
            let idle = async { while taken(&house.metrics().await) {} };
            assert!(tokio::time::timeout(LIMIT, idle).await.is_ok(), "{}: a slot stays taken", self.name);
            house.close().await;
        }
    }
}

/// What a client got.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// It came to its good end.
    pub(super) whole: bool,
    /// Seconds to the first text.
    pub(super) first: f64,
    /// Seconds to the end.
    pub(super) took: f64,
    /// Its last line.
    pub(super) last: String,
}

/// Reads a streamed chat to its end.
pub(super) async fn read(mut exchange: Exchange, asked: Instant) -> Answer {
    let mut head = exchange.read_head().await;
    let mut answer = Answer { status: head.status, whole: false, first: f64::NAN, took: f64::NAN, last: String::new() };
    if head.framing == "length" {
        let length: usize = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        answer.last = exchange.bytes(length).await;
    }
    while head.framing == "chunked"
        && let Some(chunk) = exchange.chunk(&mut head).await
    {
        if answer.first.is_nan() {
            answer.first = asked.elapsed().as_secs_f64();
        }
        answer.last = chunk;
    }
    answer.took = asked.elapsed().as_secs_f64();
    let end = answer.last.trim_end().lines().last().unwrap_or_default();
    answer.whole = answer.status == 200 && !head.cut && end.contains("\"done\":true");
    answer
}

/// Fails where one did not come to its good end.
pub(super) fn all_whole(answers: &[Answer]) {
    let bad: Vec<&Answer> = answers.iter().filter(|answer| !answer.whole).collect();
    assert!(bad.is_empty(), "{} of {} not answered: {:?}", bad.len(), answers.len(), bad.first());
}

/// The median of what answers took, seconds.
pub(super) fn median(answers: &[Answer]) -> f64 {
    at(&sorted(answers, |answer| answer.took), 0.5)
}

fn sorted(answers: &[Answer], of: impl Fn(&Answer) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = answers.iter().map(of).filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn at(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((share * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
}

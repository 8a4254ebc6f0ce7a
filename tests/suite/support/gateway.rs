//! A whole gateway in front of a stand-in Ollama, in this process, on free ports, in a folder of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gaucho::app::{Cut, Gaucho, Telemetry};
use gaucho::config::{self, Overrides, Settings};
use gaucho::domain::{AppName, Clock};
use gaucho::identity::Keys;
use gaucho::sim::{self, Sim};
use gaucho::store::Store;
use gaucho::telemetry::{LogLines, Registry};
use tempfile::TempDir;

use super::dialect::request;
use super::eventually;
use super::raw::{self, Raw};

/// What the log's writer wrote.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a house is to be.
pub(crate) struct Plan {
    policies: Vec<(String, String)>,
    apps: Vec<String>,
    sim: sim::Settings,
    num_parallel: u32,
    upstreams: Option<Vec<String>>,
    edit: Box<dyn FnOnce(&mut Settings)>,
}

impl Plan {
    /// One stand-in with the recorded models, fast and with one slot each; no policies; no keys.
    pub(crate) fn new() -> Self {
        let sim = sim::Settings { models: sim::recorded_models(), speed: 50.0, ..sim::Settings::default() };
        let edit: Box<dyn FnOnce(&mut Settings)> = Box::new(|_| {});
        Self { policies: Vec::new(), apps: Vec::new(), sim, num_parallel: 1, upstreams: None, edit }
    }

    /// A policy file.
    pub(crate) fn policy(mut self, file: &str, text: &str) -> Self {
        self.policies.push((file.to_owned(), text.to_owned()));
        self
    }

    /// An application with a key.
    pub(crate) fn app(mut self, app: &str) -> Self {
        self.apps.push(app.to_owned());
        self
    }

    /// Slots per runner, on both sides.
    pub(crate) fn slots(mut self, slots: u32) -> Self {
        self.num_parallel = slots;
        self.sim.num_parallel = slots as usize;
        self
    }

    /// Changes the stand-in's settings.
    pub(crate) fn sim(mut self, edit: impl FnOnce(&mut sim::Settings)) -> Self {
        edit(&mut self.sim);
        self
    }

    /// Other upstreams than the stand-in.
    pub(crate) fn upstreams(mut self, urls: &[&str]) -> Self {
        self.upstreams = Some(urls.iter().map(|url| (*url).to_owned()).collect());
        self
    }

    /// Changes the gateway's settings.
    pub(crate) fn settings(mut self, edit: impl FnOnce(&mut Settings) + 'static) -> Self {
        self.edit = Box::new(edit);
        self
    }

    /// Builds it and waits until it serves.
    pub(crate) async fn build(self) -> House {
        // boxed: it is larger than a future should be
        Box::pin(self.make()).await
    }

    async fn make(self) -> House {
        let dir = TempDir::new().unwrap();
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies).unwrap();
        for (file, text) in &self.policies {
            std::fs::write(policies.join(file), text).unwrap();
        }
        let sim = Sim::start(self.sim).await.unwrap();
        let urls = self.upstreams.unwrap_or_else(|| vec![sim.url()]);
        let mut settings = settings(&dir, urls, self.num_parallel);
        (self.edit)(&mut settings);
        let mut keys = Vec::new();
        for app in self.apps {
            let key = make_key(&settings.state, &app);
            keys.push((app, key));
        }
        House::open(sim, dir, settings, keys).await
    }
}

fn settings(dir: &TempDir, ollama: Vec<String>, num_parallel: u32) -> Settings {
    let overrides = Overrides {
        listen: Some("127.0.0.1:0".to_owned()),
        admin_listen: Some("127.0.0.1:0".to_owned()),
        ollama,
        policies: Some(dir.path().join("policies")),
        state: Some(dir.path().join("state")),
        num_parallel: Some(num_parallel.to_string()),
        ..Overrides::default()
    };
    let file = dir.path().join("gaucho.toml");
    std::fs::write(&file, "").unwrap();
    config::load(Some(&file), overrides, &|_| None).unwrap()
}

/// A key for `app` in the state folder, made as `gaucho key create` makes it.
pub(crate) fn make_key(state: &std::path::Path, app: &str) -> String {
    let keys = Keys::new(Store::open(state).unwrap(), Clock::real());
    keys.create(&AppName::parse(app).unwrap(), None, None).unwrap().text.expose().to_owned()
}

/// The request lines logged so far.
pub(crate) fn read_log(log: &Log, lines: &LogLines) -> Vec<serde_json::Value> {
    assert!(lines.flush(Duration::from_secs(5)), "the log is not written");
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A running gateway and its stand-in.
pub(crate) struct House {
    pub(crate) gaucho: Gaucho,
    pub(crate) sim: Sim,
    /// The application listener.
    pub(crate) addr: SocketAddr,
    /// The admin listener.
    pub(crate) admin: SocketAddr,
    pub(crate) dir: TempDir,
    pub(crate) settings: Settings,
    keys: Vec<(String, String)>,
    log: Log,
    lines: LogLines,
}

impl House {
    /// Serves from these settings, and waits until it does.
    async fn open(sim: Sim, dir: TempDir, settings: Settings, keys: Vec<(String, String)>) -> Self {
        let (log, registry) = (Log::default(), Registry::new());
        let lines = LogLines::start(log.clone(), &registry).unwrap();
        let telemetry = Telemetry { lines: lines.clone(), registry, log_requests: true, log_probes: false };
        let mut gaucho = Gaucho::new(settings.clone(), telemetry, Clock::real());
        let addresses = gaucho.serve().await.unwrap();
        let (addr, admin) = (addresses.applications, addresses.admin);
        let house = Self { gaucho, sim, addr, admin, dir, settings, keys, log, lines };
        house.until_ready().await;
        house
    }

    /// The gateway ends, and another one serves from the same state.
    pub(crate) async fn again(self) -> Self {
        assert_eq!(self.gaucho.drain(Duration::from_secs(10), std::future::pending()).await, Cut::default());
        Self::open(self.sim, self.dir, self.settings, self.keys).await
    }

    /// A house with the application `shop` and gemma:a in memory.
    pub(crate) async fn with_gemma(plan: Plan) -> Self {
        let house = plan.app("shop").build().await;
        assert_eq!(house.post("shop", "/api/chat", &request("/api/chat", "gemma:a", false)).await.status, 200);
        house
    }

    /// Takes the only slot of the model until the exchange is dropped.
    pub(crate) async fn occupied(&self, path: &str, model: &str) -> raw::Exchange {
        self.sim.inject(sim::Fault::Stall { after: 0 });
        let running = self.send("shop", "POST", path, Some(&request(path, model, false).to_string())).await;
        eventually("it runs", || self.sim.tally().in_flight == 1).await;
        running
    }

    /// The key of an application that the plan named.
    pub(crate) fn key(&self, app: &str) -> &str {
        &self.keys.iter().find(|(name, _)| name == app).unwrap().1
    }

    /// Sends a request as `app` (empty: without a key) and reads the whole reply.
    pub(crate) async fn ask(&self, app: &str, method: &str, path: &str, body: Option<&str>) -> Raw {
        self.send(app, method, path, body).await.read().await
    }

    /// Sends a request as `app` (empty: without a key).
    pub(crate) async fn send(&self, app: &str, method: &str, path: &str, body: Option<&str>) -> raw::Exchange {
        let headers = if app.is_empty() { Vec::new() } else { vec![self.bearer(app)] };
        raw::send(self.addr, method, path, &headers, body).await
    }

    /// POSTs JSON as `app` with a header more.
    pub(crate) async fn send_with(
        &self,
        app: &str,
        path: &str,
        header: (&str, &str),
        body: &serde_json::Value,
    ) -> raw::Exchange {
        let headers = [self.bearer(app), (header.0.to_owned(), header.1.to_owned())];
        raw::send(self.addr, "POST", path, &headers, Some(&body.to_string())).await
    }

    /// Revokes the key of an application.
    pub(crate) fn revoke(&self, app: &str) {
        let keys = Keys::new(Store::open(&self.settings.state).unwrap(), Clock::real());
        keys.revoke(self.key(app).split('_').nth(1).unwrap()).unwrap();
    }

    fn bearer(&self, app: &str) -> (String, String) {
        ("Authorization".to_owned(), format!("Bearer {}", self.key(app)))
    }

    /// POSTs JSON as `app`.
    pub(crate) async fn post(&self, app: &str, path: &str, body: &serde_json::Value) -> Raw {
        self.ask(app, "POST", path, Some(&body.to_string())).await
    }

    /// The metrics as the admin listener shows them.
    pub(crate) async fn metrics(&self) -> String {
        raw::send(self.admin, "GET", "/metrics", &[], None).await.read().await.body()
    }

    /// The value of one metric with exactly these labels (as written), 0 when it is not there.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        line.unwrap_or(0.0)
    }

    /// Waits until a metric has this value.
    pub(crate) async fn until_metric(&self, series: &str, value: f64) {
        let wait = async {
            while self.metric(series).await != value {
                tokio::task::yield_now().await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(10), wait).await;
        assert!(done.is_ok(), "{series} never was {value}:\n{}", self.metrics().await);
    }

    /// Waits until a model of an endpoint is known.
    pub(crate) async fn until_known(&self, endpoint: SocketAddr, model: &str) {
        let known = format!("gaucho_upstream_resident_bytes{{endpoint=\"{endpoint}\",model=\"{model}\"}}");
        let wait = async { while !self.metrics().await.contains(&known) {} };
        assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "{model} is never known");
    }

    /// Waits until at least this many requests wait.
    pub(crate) async fn until_queued(&self, least: usize) {
        let wait = async {
            while self.metric("gaucho_scheduler_queue_depth ").await < least as f64 {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "{least} never waited");
    }

    /// Waits until a request line like this is logged, and gives it.
    pub(crate) async fn until_log(&self, like: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let wait = async {
            loop {
                if let Some(line) = self.log_lines().into_iter().find(&like) {
                    return line;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.expect("such a line was never logged")
    }

    /// The request lines logged so far.
    pub(crate) fn log_lines(&self) -> Vec<serde_json::Value> {
        read_log(&self.log, &self.lines)
    }

    /// Ends it without waiting for what runs or waits; what was cut, and the request lines.
    pub(crate) async fn cut(self) -> (Cut, Vec<serde_json::Value>) {
        let Self { gaucho, log, lines, sim: _sim, .. } = self;
        let cut = gaucho.drain(Duration::from_secs(30), std::future::ready(())).await;
        (cut, read_log(&log, &lines))
    }

    async fn until_ready(&self) {
        let wait = async {
            while raw::send(self.admin, "GET", "/readyz", &[], None).await.read().await.status != 200 {
                tokio::task::yield_now().await;
            }
        };
        // some plans have upstreams that never answer: those tests look for themselves
        let _ = tokio::time::timeout(Duration::from_secs(3), wait).await;
    }

    /// Waits until nothing runs upstream any more.
    pub(crate) async fn until_upstream_is_idle(&self) {
        super::eventually("upstream is idle", || self.sim.tally().in_flight == 0).await;
    }

    /// Ends it; fails when a permit, a slot or a queued request was left behind.
    pub(crate) async fn close(self) {
        self.until_upstream_is_idle().await;
        self.until_metric("gaucho_scheduler_queue_depth ", 0.0).await;
        let text = self.metrics().await;
        for line in text.lines().filter(|line| line.starts_with("gaucho_scheduler_slots_used{")) {
            assert!(line.ends_with(" 0"), "a slot is still taken: {line}");
        }
        assert_eq!(self.gaucho.drain(Duration::from_secs(10), std::future::pending()).await, Cut::default());
        self.sim.shutdown().await;
    }
}

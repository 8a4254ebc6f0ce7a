//! The upstream of one recording: the stand-in for lists, loads and probes, the recorded bytes for the one request.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gaucho::sim::{Model, Settings, Sim, recorded_models};
use serde_json::Value;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::native;
use super::recording::Recording;
use super::support::fake::request;
use super::support::raw::{self, Raw};

const INFERENCE: [&str; 4] = ["/api/chat", "/api/generate", "/api/embed", "/api/embeddings"];

/// A running upstream.
pub(crate) struct Upstream {
    addr: SocketAddr,
    script: Arc<Mutex<Arc<Script>>>,
    task: tokio::task::JoinHandle<()>,
    _sim: Sim,
}

struct Script {
    /// The method and the route that are answered as recorded.
    method: String,
    route: String,
    /// Whether the recorded reply refuses its caller, which lists and `show` do not do to the gateway.
    refuses: bool,
    /// For `/api/show`: the request it is the answer to.
    shown: Option<(String, bool)>,
    reply: Vec<u8>,
    /// Whether the one request only loads.
    loads: bool,
    /// Models that the gateway has loaded.
    loaded: Mutex<HashSet<String>>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// The upstream as it was when `recordings` were made, which answers as in the first of them.
    pub(crate) async fn start(recordings: &[&Recording]) -> Self {
        let settings = Settings { models: models(recordings), speed: 1e4, ..Settings::default() };
        let sim = Sim::start(settings).await.unwrap();
        let script = Arc::new(Mutex::new(Arc::new(Script::of(recordings[0]))));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (behind, current) = (sim.addr(), Arc::clone(&script));
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                open.spawn(serve(socket, behind, Arc::clone(&current)));
            }
        });
        Self { addr, script, task, _sim: sim }
    }

    /// From now on it answers as in `recording`.
    pub(crate) fn play(&self, recording: &Recording) {
        *self.script.lock().unwrap() = Arc::new(Script::of(recording));
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

/// Whether a recording needs an upstream and a gateway of its own: it is about lists and what is loaded, or about an
/// upstream that fails.
pub(crate) fn needs_its_own(recording: &Recording) -> bool {
    let good = recording.reply.status == 200;
    let asked = native::route(&recording.path).is_some() || INFERENCE.contains(&&*recording.path);
    if !asked {
        return good;
    }
    let body = recording.reply.body();
    let ends = ["\"done\":true", "[DONE]", "message_stop", "response.completed"];
    let broken = good && recording.reply.framing == "chunked" && !ends.iter().any(|end| body.contains(end));
    recording.reply.status >= 500 || broken || good && loads(recording)
}

fn loads(recording: &Recording) -> bool {
    let body = recording.json();
    let empty = |field: &str| {
        body[field].as_str().is_none_or(str::is_empty) && body[field].as_array().is_none_or(Vec::is_empty)
    };
    ["prompt", "Prompt", "messages", "input"].into_iter().all(empty)
}

/// The models that the real server had: the last two came later, and some were made or pulled for a case.
fn models(recordings: &[&Recording]) -> Vec<Model> {
    let mut models = recorded_models();
    let early = |recording: &&Recording| recording.reply.header("date").unwrap_or_default() < "Mon, 23 Nov 2026 06:41";
    let early = recordings.iter().all(early);
    models.retain(|model| !early || !matches!(model.name.as_str(), "tooly:latest" | "thinky:latest"));
    for recording in recordings {
        make(&mut models, recording);
    }
    models
}

fn make(models: &mut Vec<Model>, recording: &Recording) {
    let asked = recording.json()["model"].as_str().unwrap_or_default().to_owned();
    let plain = |name: &str| name.to_lowercase().replace("https://", "").replace("registry.ollama.ai/", "");
    let plain = |name: &str| plain(name).trim_start_matches("library/").trim_end_matches(":latest").to_owned();
    let known = models.iter().any(|model| plain(&model.name) == plain(&asked));
    if !known && !asked.is_empty() && recording.reply.status == 200 {
        let mut made = models.iter().find(|model| model.name == "gemma:a").unwrap().clone();
        made.name = asked;
        models.insert(0, made);
    }
}

fn show(body: &Value) -> (String, bool) {
    let model = body["model"].as_str().filter(|model| !model.is_empty()).or(body["name"].as_str());
    (model.unwrap_or_default().trim_end_matches(":latest").to_lowercase(), body["verbose"] == true)
}

/// A reply as bytes, chunked where it is a stream.
fn bytes(raw: &Raw) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {} {}\r\n", raw.status, raw.reason);
    let framing = |name: &str| ["content-length", "transfer-encoding"].iter().any(|f| name.eq_ignore_ascii_case(f));
    for (name, value) in raw.headers.iter().filter(|(name, _)| !framing(name)) {
        out += &format!("{name}: {value}\r\n");
    }
    if raw.framing == "chunked" {
        out += "Transfer-Encoding: chunked\r\n\r\n";
        for frame in &raw.frames {
            out += &format!("{:x}\r\n{frame}\r\n", frame.len());
        }
        out += "0\r\n\r\n";
    } else {
        out += &format!("Content-Length: {}\r\n\r\n{}", raw.body().len(), raw.body());
    }
    out.into_bytes()
}

async fn serve(socket: TcpStream, behind: SocketAddr, current: Arc<Mutex<Arc<Script>>>) {
    let mut socket = BufReader::new(socket);
    while let Some((method, path, body)) = request(&mut socket).await {
        let script = Arc::clone(&current.lock().unwrap());
        let answer = if script.is_the_one(&method, &path, &body) {
            script.reply.clone()
        } else {
            let exchange = raw::send(behind, &method, &path, &[], Some(&body)).await;
            bytes(&exchange.read().await)
        };
        if socket.write_all(&answer).await.is_err() {
            return;
        }
    }
}

impl Script {
    fn of(recording: &Recording) -> Self {
        let native = native::route(&recording.path);
        let reply = if native.is_some() { native::reply(recording) } else { recording.reply.clone() };
        Self {
            method: recording.method.clone(),
            route: native.unwrap_or(&recording.path).to_owned(),
            refuses: recording.reply.status != 200,
            shown: (recording.path == "/api/show").then(|| show(&recording.json())),
            reply: bytes(&reply),
            loads: loads(recording),
            loaded: Mutex::default(),
        }
    }

    /// Whether a request is the caller's, or for what the recording is the answer to.
    fn is_the_one(&self, method: &str, path: &str, body: &str) -> bool {
        if path != self.route || method != self.method {
            return false;
        }
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        if INFERENCE.contains(&path) {
            return !self.is_the_gateways_own(&body);
        }
        !self.refuses && self.shown.as_ref().is_none_or(|shown| *shown == show(&body))
    }

    /// What only loads is the gateway's own, the first time also where the recorded request does no more; a probe asks
    /// for one token or vector of `a`.
    fn is_the_gateways_own(&self, body: &Value) -> bool {
        if body["prompt"] == "a" && body["options"]["num_predict"] == 1 || body["input"] == "a" {
            return true;
        }
        let work = ["prompt", "messages", "input"].iter().any(|field| body.get(field).is_some());
        let model = body["model"].as_str().unwrap_or_default().to_owned();
        !work && (!self.loads || self.loaded.lock().unwrap().insert(model))
    }
}

//! Checked settings: every source read, the winner of each key chosen, the defaults filled in.
//!
//! Owns the defaults and the rules between keys. It does not own forms (`forms`, `document`) or flags (`sources`).

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::document::{Drain, EndpointDocument, LimitsDocument, SettingsDocument, Slots, Timeout, UpstreamDocument};
use super::forms::{Address, GpuId, LogFilter, Textual, UpstreamUrl};
use super::sources::{Overrides, Sources};
use super::web::{self, TlsFiles, Web};
use crate::domain::GpuName;
use crate::policy::{self, KeepAlive, Placed, Policies, Problem, Scalar, Span};

/// All settings of a gateway, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The settings file, if there is one.
    pub file: Option<SettingsFile>,
    /// Address for applications; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Address for metrics and administration.
    pub admin_listen: SocketAddr,
    /// What web pages may do.
    pub web: Web,
    /// The application listener's certificate, if it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// What the admin listener asks for as `Authorization: Bearer`; the probes stay open.
    pub admin_token: Option<Secret>,
    /// The Ollama servers, at least one; a server's position is its `EndpointId`.
    pub endpoints: Vec<Endpoint>,
    /// Folder of policy files; `None` where none was named and `./policies` is not there.
    pub policies: Option<PathBuf>,
    /// Folder of the embedded store; it may not exist yet.
    pub state: PathBuf,
    /// Log filter.
    pub log: String,
    /// How long a shutdown lets requests finish.
    pub drain: Duration,
    /// `OLLAMA_KEEP_ALIVE`, where our environment has it as the servers do.
    pub keep_alive: Option<KeepAlive>,
    /// NVIDIA's management library: a path, or a name that the loader looks up.
    pub nvml: PathBuf,
    /// Time limits towards the servers.
    pub upstream: UpstreamTimeouts,
    /// Bounds of the gateway as a whole.
    pub limits: Limits,
}

/// A settings file as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct SettingsFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl SettingsFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for SettingsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SettingsFile({})", self.path.display())
    }
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub std::sync::Arc<str>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// One Ollama server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name in policies, logs and metrics.
    pub name: String,
    /// Its base URL, without credentials; a path has no slash at its end (but for the root's).
    pub url: Url,
    /// Its slots per model, at least 1.
    pub num_parallel: u32,
    /// Where that is said: a flag, a variable, a key, or that it is the default.
    pub num_parallel_by: &'static str,
    /// Bytes of memory it has for models, where the operator says.
    pub memory: Option<u64>,
    /// The GPUs of this machine that it runs on, each once; empty where the operator does not say.
    pub gpus: Vec<GpuName>,
    /// Models it keeps in memory at once, at least 1.
    pub max_loaded_models: u32,
}

/// Time limits towards the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// To connect.
    pub connect: Duration,
    /// From a request to its first event, loading the model included.
    pub first_event: Duration,
    /// The least silence after which a model may be asked for a token.
    pub silence: Duration,
    /// Between two events.
    pub idle: Duration,
    /// For an answer that is not streamed, from a request to its end.
    pub whole: Duration,
}

/// Bounds of the gateway as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests that may wait, all applications together.
    pub max_queued: usize,
    /// Bytes that waiting requests may hold.
    pub max_queued_bytes: u64,
    /// For a client to send its headers.
    pub header_timeout: Duration,
    /// For a client to send its body.
    pub body_timeout: Duration,
    /// Connections open at once.
    pub max_connections: usize,
}

/// Reads all settings: flag beats environment beats file beats default. Paths in the file are relative to the file.
///
/// # Errors
/// Every problem of every source.
pub fn load(
    file: Option<&Path>,
    overrides: Overrides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, Vec<Problem>> {
    let mut sources = Sources { env, problems: Vec::new() };
    let found = file.map(Path::to_owned).or_else(|| default_file(&sources));
    let beside = found.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let file = found.as_deref().and_then(|file| read_file(file, &mut sources.problems));
    let written = file.as_ref().and_then(|file| policy::read_document(&file.path, &file.bytes, &mut sources.problems));
    let written: SettingsDocument = written.unwrap_or_default();
    let folder = |written: &Option<Placed<String>>| written.as_ref().map(|path| beside.join(&path.value));

    let listen = address(&mut sources, "listen", overrides.listen.as_deref(), written.listen.as_ref());
    let admin = address(&mut sources, "admin-listen", overrides.admin_listen.as_deref(), written.admin_listen.as_ref());
    let drain =
        (sources.pick(("--drain", overrides.drain.as_deref()), "GAUCHO_DRAIN", Span::from_text, &Drain::allowed()))
            .or_else(|| written.drain.as_ref().map(|placed| placed.value))
            .map_or(Duration::from_secs(300), |drain| drain.0);
    let settings = Settings {
        file,
        listen,
        admin_listen: admin,
        web: web::web(&mut sources, &overrides, &written),
        tls: web::tls(&mut sources, &overrides, written.tls.as_ref(), beside),
        admin_token: admin_token(&mut sources),
        endpoints: endpoints(&mut sources, &overrides, &written),
        policies: (overrides.policies.clone())
            .or_else(|| sources.variable("GAUCHO_POLICIES").map(PathBuf::from))
            .or_else(|| folder(&written.policies))
            .or_else(|| Path::new("policies").is_dir().then(|| PathBuf::from("policies"))),
        state: (overrides.state.clone())
            .or_else(|| sources.variable("GAUCHO_STATE").map(PathBuf::from))
            .or_else(|| folder(&written.state))
            .unwrap_or_else(|| default_state(&sources)),
        log: (sources.pick(
            ("--log", overrides.log.as_deref()),
            "GAUCHO_LOG",
            LogFilter::from_text,
            LogFilter::ALLOWED,
        ))
        .or_else(|| written.log.as_ref().map(|placed| placed.value.clone()))
        .map_or_else(|| "info".to_owned(), |filter| filter.0),
        drain,
        keep_alive: sources.pick(("", None), "OLLAMA_KEEP_ALIVE", KeepAlive::from_text, &KeepAlive::allowed()),
        nvml: (sources.variable("GAUCHO_NVML").map(PathBuf::from))
            .or_else(|| written.nvml.as_ref().map(|nvml| library(beside, &nvml.value)))
            .unwrap_or_else(|| PathBuf::from("libnvidia-ml.so.1")),
        upstream: upstream(written.upstream.as_ref().map(|placed| &placed.value)),
        limits: limits(written.limits.as_ref().map(|placed| &placed.value)),
    };
    check_addresses(&settings, &mut sources.problems);
    sources.problems.sort_by(Problem::by_place);
    if sources.problems.is_empty() { Ok(settings) } else { Err(sources.problems) }
}

/// A library as the file names it: a bare name is the loader's to find, a path is relative to the file.
fn library(beside: &Path, written: &str) -> PathBuf {
    if written.contains('/') { beside.join(written) } else { PathBuf::from(written) }
}

/// The settings file when none is named: `GAUCHO_CONFIG`, else `./gaucho.toml` if it is there.
fn default_file(sources: &Sources<'_>) -> Option<PathBuf> {
    let here = || Some(PathBuf::from("gaucho.toml")).filter(|file| file.is_file());
    sources.variable("GAUCHO_CONFIG").map(PathBuf::from).or_else(here)
}

/// `GAUCHO_ADMIN_TOKEN`, or the text of the file that `GAUCHO_ADMIN_TOKEN_FILE` names. Never a key of the settings file,
/// which people put under version control.
fn admin_token(sources: &mut Sources<'_>) -> Option<Secret> {
    let secret = |text: &str| Some(Secret(text.trim().into())).filter(|secret| !secret.0.is_empty());
    if let Some(token) = sources.variable("GAUCHO_ADMIN_TOKEN") {
        return secret(&token);
    }
    let file = sources.variable("GAUCHO_ADMIN_TOKEN_FILE")?;
    let read = std::fs::read_to_string(&file).map_err(|error| error.to_string());
    let token = read.and_then(|text| secret(&text).ok_or_else(|| "it is empty".to_owned()));
    token
        .map_err(|why| {
            let message = format!("cannot be used ({why}): name a file that holds the token");
            sources.problems.push(Problem::whole("environment", "GAUCHO_ADMIN_TOKEN_FILE", &file, message));
        })
        .ok()
}

fn read_file(file: &Path, problems: &mut Vec<Problem>) -> Option<SettingsFile> {
    match std::fs::read(file) {
        Ok(bytes) => Some(SettingsFile { path: file.to_owned(), bytes }),
        Err(error) => {
            let message = format!("cannot be read ({error}): name another file with --config");
            problems.push(Problem::whole(file, "", "", message));
            None
        }
    }
}

fn address(sources: &mut Sources<'_>, name: &str, flag: Option<&str>, written: Option<&Placed<Address>>) -> SocketAddr {
    let variable = format!("GAUCHO_{}", name.replace('-', "_").to_uppercase());
    let port = if name == "listen" { 11435 } else { 11436 };
    sources
        .pick((&format!("--{name}"), flag), &variable, Address::from_text, Address::ALLOWED)
        .or(written.map(|placed| placed.value))
        .map_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)), |address| address.0)
}

/// The servers: those of flag or environment instead of the file's, which names them by `ollama` or by `[[endpoint]]`.
fn endpoints(sources: &mut Sources<'_>, overrides: &Overrides, written: &SettingsDocument) -> Vec<Endpoint> {
    let slots = slots(sources, overrides, written);
    let most = max_loaded(sources);
    let flags = (!overrides.ollama.is_empty()).then(|| overrides.ollama.join(","));
    let said = sources.pick(("--ollama", flags.as_deref()), "GAUCHO_OLLAMA", url_list, UpstreamUrl::ALLOWED);
    if let (Some(one), Some(_)) = (&written.ollama, &written.endpoint) {
        sources.problems.push(one.place.problem("", "cannot stand beside [[endpoint]]: name every server in one way"));
    }
    let endpoints: Vec<Endpoint> = if let Some(urls) = said {
        urls.iter().map(|url| endpoint(None, url, slots, most)).collect()
    } else if let Some(listed) = &written.endpoint {
        let read = listed.value.iter();
        read.filter_map(|entry| from_document(entry, slots, most, &mut sources.problems)).collect()
    } else if let Some(urls) = &written.ollama {
        if urls.value.0.is_empty() {
            sources.problems.push(urls.place.problem("[]", "an empty list is not allowed: name at least one server"));
        }
        urls.value.0.iter().map(|url| endpoint(None, &url.value, slots, most)).collect()
    } else {
        UpstreamUrl::from_text("127.0.0.1:11434").iter().map(|url| endpoint(None, url, slots, most)).collect()
    };
    check_twins(&endpoints, &mut sources.problems);
    endpoints
}

/// Slots, and where they are said.
#[derive(Clone, Copy)]
struct Claim {
    slots: u32,
    by: &'static str,
}

/// The slots of a server that does not say its own.
fn slots(sources: &mut Sources<'_>, overrides: &Overrides, written: &SettingsDocument) -> Claim {
    let number = |text: &str| text.parse().ok().filter(|n| (1..=1024).contains(n));
    // Ollama reads 0 as 1
    let theirs = |text: &str| text.parse().ok().filter(|n| *n <= 1024).map(|n: u32| n.max(1));
    let flag = ("--num-parallel", overrides.num_parallel.as_deref());
    let by = if overrides.num_parallel.is_some() { "--num-parallel" } else { "GAUCHO_NUM_PARALLEL" };
    let claim = |by| move |slots| Claim { slots, by };
    sources
        .pick(flag, "GAUCHO_NUM_PARALLEL", number, &Slots::allowed())
        .map(claim(by))
        .or_else(|| written.num_parallel.as_ref().map(|placed| placed.value.small()).map(claim("num_parallel")))
        .or_else(|| {
            let theirs = sources.pick(("", None), "OLLAMA_NUM_PARALLEL", theirs, "a whole number from 0 to 1024");
            theirs.map(claim("OLLAMA_NUM_PARALLEL as our own environment has it"))
        })
        .unwrap_or(Claim { slots: 1, by: "the default" })
}

/// Reads a list of servers; commas separate, a comma at an end does no harm.
fn url_list(text: &str) -> Option<Vec<UpstreamUrl>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let urls: Vec<UpstreamUrl> = parts.map(UpstreamUrl::from_text).collect::<Option<_>>()?;
    (!urls.is_empty()).then_some(urls)
}

fn from_document(
    entry: &Placed<EndpointDocument>,
    slots: Claim,
    most: u32,
    problems: &mut Vec<Problem>,
) -> Option<Endpoint> {
    let document = &entry.value;
    let Some(url) = &document.url else {
        // a URL that is there but wrong is already reported
        let path = format!("{}.url", entry.place.path());
        if !problems.iter().any(|problem| problem.path == path) {
            problems.push(entry.place.problem("", format!("url is missing: use {}", UpstreamUrl::ALLOWED)));
        }
        return None;
    };
    let own = |slots: &Placed<Slots>| Claim { slots: slots.value.small(), by: "num_parallel of its [[endpoint]]" };
    let slots = document.num_parallel.as_ref().map_or(slots, own);
    let name = document.name.as_ref().map(|placed| placed.value.0.clone());
    let most = document.max_loaded_models.as_ref().map_or(most, |placed| placed.value.small());
    let memory = document.memory.as_ref().map(|placed| placed.value.0);
    let gpus = document.gpus.as_ref().map(|placed| gpus(placed, problems)).unwrap_or_default();
    Some(Endpoint { memory, gpus, ..endpoint(name, &url.value, slots, most) })
}

fn gpus(written: &Placed<Vec<Placed<GpuId>>>, problems: &mut Vec<Problem>) -> Vec<GpuName> {
    if written.value.is_empty() {
        let message = "an empty list is not allowed: name at least one GPU, or leave the key out";
        problems.push(written.place.problem("[]", message));
    }
    let mut names: Vec<GpuName> = Vec::new();
    for gpu in &written.value {
        let name = &gpu.value.0;
        if names.contains(name) {
            let message = format!("{name} is named twice: name each GPU once");
            problems.push(gpu.place.problem(name.to_string(), message));
        } else {
            names.push(name.clone());
        }
    }
    names
}

fn endpoint(name: Option<String>, url: &UpstreamUrl, claim: Claim, max_loaded_models: u32) -> Endpoint {
    let name = name.unwrap_or_else(|| url.authority());
    Endpoint {
        name,
        url: url.0.clone(),
        num_parallel: claim.slots,
        num_parallel_by: claim.by,
        memory: None,
        gpus: Vec::new(),
        max_loaded_models,
    }
}

/// Models in memory of a server that does not say its own: `OLLAMA_MAX_LOADED_MODELS`, else Ollama's three (for one GPU).
fn max_loaded(sources: &mut Sources<'_>) -> u32 {
    // Ollama reads 0 as its own choice
    let theirs = |text: &str| text.parse().ok().filter(|n| *n <= 1024).map(|n: u32| if n == 0 { 3 } else { n });
    sources.pick(("", None), "OLLAMA_MAX_LOADED_MODELS", theirs, "a whole number from 0 to 1024").unwrap_or(3)
}

fn check_twins(endpoints: &[Endpoint], problems: &mut Vec<Problem>) {
    let (mut names, mut urls) = (BTreeSet::new(), BTreeSet::new());
    for endpoint in endpoints {
        let url = endpoint.url.as_str();
        if !urls.insert(url) {
            let message = format!("{url} is named twice: each server once, or it would get more than its slots");
            problems.push(Problem::whole("settings", "ollama", url, message));
        } else if !names.insert(&endpoint.name) {
            let message = format!("{:?} is the name of two endpoints: give each its own", endpoint.name);
            problems.push(Problem::whole("settings", "endpoint.name", &endpoint.name, message));
        }
    }
}

fn check_addresses(settings: &Settings, problems: &mut Vec<Problem>) {
    let (listen, admin) = (settings.listen, settings.admin_listen);
    if listen == admin && listen.port() != 0 {
        let message = format!("{listen} is already the address for applications: use another port");
        problems.push(Problem::whole("settings", "admin_listen", &admin.to_string(), message));
    }
    if !admin.ip().is_loopback() && settings.admin_token.is_none() {
        let message = format!(
            "{admin} can be reached from other machines: set GAUCHO_ADMIN_TOKEN (or GAUCHO_ADMIN_TOKEN_FILE), \
             or listen on 127.0.0.1"
        );
        problems.push(Problem::whole("settings", "admin_listen", &admin.to_string(), message));
    }
    let own = |endpoint: &&Endpoint| {
        let url = UpstreamUrl(endpoint.url.clone());
        url.reaches(listen) || url.reaches(admin)
    };
    for endpoint in settings.endpoints.iter().filter(own) {
        let url = endpoint.url.as_str();
        let message = format!("{url} is the gateway itself: name the Ollama server's own address");
        problems.push(Problem::whole("settings", "ollama", url, message));
    }
}

fn default_state(sources: &Sources<'_>) -> PathBuf {
    let under = |variable: &str, rest: &str| sources.variable(variable).map(|base| Path::new(&base).join(rest));
    under("XDG_STATE_HOME", "gaucho")
        .or_else(|| under("HOME", ".local/state/gaucho"))
        .unwrap_or_else(|| PathBuf::from("/var/lib/gaucho"))
}

fn time(written: Option<&Placed<Timeout>>, seconds: u64) -> Duration {
    written.map_or(Duration::from_secs(seconds), |placed| placed.value.0)
}

fn upstream(written: Option<&UpstreamDocument>) -> UpstreamTimeouts {
    UpstreamTimeouts {
        connect: time(written.and_then(|w| w.connect_timeout.as_ref()), 5),
        first_event: time(written.and_then(|w| w.first_event_timeout.as_ref()), 600),
        silence: time(written.and_then(|w| w.silence_timeout.as_ref()), 20),
        idle: time(written.and_then(|w| w.idle_timeout.as_ref()), 120),
        whole: time(written.and_then(|w| w.answer_timeout.as_ref()), 1800),
    }
}

fn limits(written: Option<&LimitsDocument>) -> Limits {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let max_queued = written.and_then(|w| w.max_queued.as_ref());
    let max_queued_bytes = written.and_then(|w| w.max_queued_bytes.as_ref());
    let max_connections = written.and_then(|w| w.max_connections.as_ref());
    Limits {
        max_queued: max_queued.map_or(10_000, |placed| count(placed.value.unsigned())),
        max_queued_bytes: max_queued_bytes.map_or(1 << 30, |placed| placed.value.0),
        header_timeout: time(written.and_then(|w| w.header_timeout.as_ref()), 30),
        body_timeout: time(written.and_then(|w| w.body_timeout.as_ref()), 60),
        max_connections: max_connections.map_or(20_000, |placed| count(placed.value.unsigned())),
    }
}

/// Applications whose `endpoints` cover none of the servers: each would be refused for ever.
#[must_use]
pub fn endpoint_problems(settings: &Settings, policies: &Policies) -> Vec<Problem> {
    let names: Vec<&str> = settings.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    let covers = |rules: &policy::AppRules| {
        settings.endpoints.iter().any(|endpoint| rules.endpoints.allow(&endpoint.name, endpoint.url.as_str()))
    };
    let folder = settings.policies.clone().unwrap_or_default();
    let stranded = policies.apps().into_iter().filter(|(_, rules)| !covers(rules));
    stranded
        .map(|(app, rules)| {
            let patterns = rules.endpoints.patterns().collect::<Vec<_>>().join(", ");
            let message = format!("{patterns:?} covers none of the servers, which are {}", names.join(", "));
            Problem::whole(folder.join(format!("{app}.toml")), "endpoints", &patterns, message)
        })
        .collect()
}

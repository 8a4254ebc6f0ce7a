//! From settings to a gateway: every room made, every handle passed on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{self, Catalog, EndpointPlan};
use crate::config::{self, Settings, endpoint_problems};
use crate::domain::{Clock, EndpointId, EndpointView, Json, LoadOrder, ResidencyCommand, Resident};
use crate::gateway::{Gateway, Parts, settler};
use crate::identity::{Doorkeeper, Keyring, LocalRules, PolicyKeys, keep_fresh};
use crate::ledger::Ledger;
use crate::policy::{Desk, Folder, KeepAlive, Policies, Problem};
use crate::scheduler::Scheduler;
use crate::scheduler::core::{Bounds, GpuSet, Room, Sighting};
use crate::store::Store;
use crate::telemetry::{GpuMetrics, LogLines, Registry, RequestMetrics, SchedulerMetrics};
use crate::upstream::{Budget, Client, Discovery, Endpoint, Health, Stagehand, Timeouts, Upstream};

use super::gpus::{Sight, follow_gpus};
use super::lessons;
use super::reload::{Reload, tell_strays};

/// Bytes of answers that callers have not taken yet: over all, and of one.
const ANSWERS: (usize, usize) = (1 << 30, 64 << 20);
/// Ollama's own default, sent where neither a profile nor `OLLAMA_KEEP_ALIVE` says otherwise.
pub(super) const KEEP_ALIVE: KeepAlive = KeepAlive::seconds(300);
/// Commands that may be on their way: one per endpoint and then some.
const COMMANDS: usize = 1024;
/// For the small calls to Ollama.
const CONTROL: Duration = Duration::from_secs(10);

/// Where a process logs and counts; made before anything else, so that start-up is logged too.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Log lines.
    pub lines: LogLines,
    /// Metrics.
    pub registry: Registry,
    /// Whether each request gets a log line (not when the log filter keeps `gaucho::request` out).
    pub log_requests: bool,
    /// Whether probes and scrapes do, too (where the filter lets `gaucho::request=debug` in).
    pub log_probes: bool,
}

/// The rooms of a running gateway that others look at.
#[derive(Clone)]
pub(super) struct House {
    pub(super) gateway: Arc<Gateway>,
    pub(super) scheduler: Scheduler,
    pub(super) discovery: Discovery,
    pub(super) upstream: Upstream,
    pub(super) metrics: RequestMetrics,
    pub(super) counts: SchedulerMetrics,
    pub(super) ledger: Ledger,
    pub(super) gpus: Sight,
    pub(super) gpu_metrics: GpuMetrics,
}

/// Builds the rooms and starts their tasks on `tasks`; they end at `stop`.
///
/// # Errors
/// Every reason why this configuration cannot run.
pub(super) async fn build(
    settings: &Settings,
    telemetry: &Telemetry,
    clock: &Clock,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<House, Vec<String>> {
    let one = |why: String| vec![why];
    let metrics = RequestMetrics::register(&telemetry.registry);
    let folder = settings.policies.as_deref().map(Folder::read);
    let policies = match &folder {
        Some(folder) => Policies::compile(folder).map_err(listed)?,
        None => Policies::built_in(),
    };
    let strays = endpoint_problems(settings, &policies);
    if !strays.is_empty() {
        return Err(listed(strays));
    }
    let first_keys = Arc::new(policy_keys(&policies));
    let (policy_keys, policy_keys_seen) = watch::channel(Arc::clone(&first_keys));
    let store = open(&settings.state).await.map_err(one)?;
    let keyring = keyring(store.clone(), first_keys, clock).await.map_err(one)?;
    let memory = store.clone();
    tasks.spawn(keep_fresh(store, Arc::clone(&keyring), clock.clone(), policy_keys_seen, stop.clone()));
    let doors = Doorkeeper::new(keyring, clock.clone(), local_rules(settings));
    let desk = Arc::new(Desk::new(policies, clock.clone()));
    if let Some(folder) = folder {
        tell_strays(&folder);
        let reload = Reload { desk: Arc::clone(&desk), keys: policy_keys, metrics: metrics.clone() };
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled(reload.follow(folder)).await });
    }

    let gpus = Sight::start(settings, clock).await.map_err(one)?;
    let client = client(settings).map_err(one)?;
    let discovery = Discovery::new(client.clone(), clock.clone());
    let names = settings.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    let counts = SchedulerMetrics::register(&telemetry.registry, names);
    let (scheduler, ordered) = scheduler(settings, &gpus, clock, counts.clone());
    lessons::start(tasks, stop, memory, &scheduler, &settings.endpoints);
    let stagehand =
        Stagehand::new(client.clone(), discovery.clone(), scheduler.clone(), metrics.clone(), clock.clone());
    tasks.spawn(stagehand.run(ordered, tasks.clone(), stop.clone()));
    let health = Health::new(client.clone(), discovery.clone(), metrics.clone(), clock.clone());
    let budget = Budget::new(ANSWERS.0, ANSWERS.1);
    let upstream = Upstream::new(client, discovery.clone(), health.clone(), scheduler.clone(), budget, tasks.clone());
    let log = telemetry.log_requests.then(|| telemetry.lines.clone());
    let ledger = Ledger::new(metrics.clone(), log);
    let (settler, settling) = settler(ledger.clone());
    tasks.spawn(settling);
    start(tasks, stop, &scheduler, (&discovery, &settings.endpoints), health);
    feed(tasks, stop, &scheduler, &gpus);
    let keep_alive = settings.keep_alive.unwrap_or(KEEP_ALIVE);
    let parts = Parts {
        doors,
        desk,
        catalog: Arc::new(Catalog::new(discovery.watch(), plans(settings, &gpus), keep_alive)),
        scheduler: scheduler.clone(),
        upstream: upstream.clone(),
        discovery: discovery.clone(),
        clock: clock.clone(),
        settler,
    };
    let gateway = Arc::new(Gateway::new(parts, seed()));
    let gpu_metrics = GpuMetrics::register(&telemetry.registry);
    Ok(House { gateway, scheduler, discovery, upstream, metrics, counts, ledger, gpus, gpu_metrics })
}

/// The scheduler, and what it orders.
fn scheduler(
    settings: &Settings,
    gpus: &Sight,
    clock: &Clock,
    counts: SchedulerMetrics,
) -> (Scheduler, mpsc::Receiver<ResidencyCommand>) {
    let bounds = Bounds { queued: settings.limits.max_queued, queued_bytes: size(settings.limits.max_queued_bytes) };
    let (commands, ordered) = mpsc::channel(COMMANDS);
    let scheduler = Scheduler::new(bounds, &rooms(settings, gpus), clock.clone(), commands, counts);
    scheduler.suspect_after(settings.upstream.silence);
    (scheduler, ordered)
}

fn listed(problems: Vec<Problem>) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// What the policies say of identity.
pub(super) fn policy_keys(policies: &Policies) -> PolicyKeys {
    let hashes = policies.key_hashes().map(|(app, hash)| (app.clone(), hash)).collect();
    PolicyKeys { applications: policies.has_app_files(), hashes }
}

async fn open(state: &Path) -> Result<Store, String> {
    let state = state.to_owned();
    blocking(move || Store::open(&state)).await
}

async fn keyring(store: Store, policy: Arc<PolicyKeys>, clock: &Clock) -> Result<Arc<Keyring>, String> {
    let now = clock.wall();
    blocking(move || Keyring::load(&store, &policy, now)).await.map(Arc::new)
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static, E: ToString + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What belongs to this machine, and what the operator lets in beside it.
pub(super) fn local_rules(settings: &Settings) -> LocalRules {
    LocalRules { hostname: hostname(), origins: settings.web.origins.clone(), hosts: settings.web.hosts.clone() }
}

fn hostname() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

pub(super) fn client(settings: &Settings) -> Result<Client, String> {
    let endpoints = settings.endpoints.iter().zip(0u16..).map(|(endpoint, id)| Endpoint {
        id: EndpointId(id),
        name: endpoint.name.clone(),
        base: endpoint.url.as_str().trim_end_matches('/').to_owned(),
        num_parallel: endpoint.num_parallel,
    });
    let upstream = settings.upstream;
    let timeouts = Timeouts {
        connect: upstream.connect,
        first_event: upstream.first_event,
        silence: upstream.silence,
        idle: upstream.idle,
        whole: upstream.whole,
        control: CONTROL,
    };
    Client::new(endpoints.collect(), timeouts)
}

/// The rooms' own tasks, and the wire from the fleet view to the scheduler.
fn start(
    tasks: &TaskTracker,
    stop: &CancellationToken,
    scheduler: &Scheduler,
    (discovery, endpoints): (&Discovery, &[config::Endpoint]),
    health: Health,
) {
    let configured: Vec<_> = endpoints.iter().map(|endpoint| endpoint.num_parallel).collect();
    let prober_stop = stop.clone();
    tasks.spawn(async move { health.run(prober_stop).await });
    let (poller, poller_stop) = (discovery.clone(), stop.clone());
    tasks.spawn(async move { poller.run(poller_stop).await });
    let (timer, timer_stop) = (scheduler.clone(), stop.clone());
    tasks.spawn(async move { timer.run(timer_stop).await });
    let (scheduler, mut fleet, stop) = (scheduler.clone(), discovery.watch(), stop.clone());
    tasks.spawn(async move {
        loop {
            let view = Arc::clone(&fleet.borrow_and_update());
            for (endpoint, num_parallel) in view.endpoints.iter().zip(&configured) {
                if endpoint.trouble.is_none() {
                    let residents =
                        endpoint.resident.iter().map(|resident| sighting(resident, endpoint, *num_parallel));
                    scheduler.seen(endpoint.id, endpoint.asked, residents.collect());
                }
                scheduler.endpoint(endpoint.id, endpoint.is_usable(), endpoint.trouble.is_none());
            }
            tokio::select! {
                changed = fleet.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    });
}

/// The wire from the look at GPUs to the scheduler.
fn feed(tasks: &TaskTracker, stop: &CancellationToken, scheduler: &Scheduler, gpus: &Sight) {
    let (scheduler, stop, map, seen) = (scheduler.clone(), stop.clone(), gpus.map.clone(), gpus.gpus.watch());
    let follow = follow_gpus(map, seen, move |gpu| scheduler.gpu(gpu.device, gpu.total, gpu.used));
    tasks.spawn(async move { stop.run_until_cancelled(follow).await });
}

/// A runner that `/api/ps` shows, and how it would be unloaded.
fn sighting(resident: &Resident, endpoint: &EndpointView, num_parallel: u32) -> Sighting {
    let model = endpoint.models.values().find(|model| model.weights == resident.weights);
    let context = resident.context_length.map(|tokens| Json::known(tokens.to_string()));
    let order = LoadOrder {
        model: resident.name.to_string(),
        options: context.map(|tokens| ("num_ctx".into(), tokens)).into_iter().collect(),
        keep_alive: KEEP_ALIVE.time(),
        embeds: false,
    };
    Sighting {
        weights: resident.weights.as_str().into(),
        bytes: resident.size,
        slots: model.map_or(1, |model| catalog::slots(model, num_parallel)),
        order: Arc::new(order),
    }
}

fn rooms(settings: &Settings, gpus: &Sight) -> Vec<Room> {
    let places = |at: usize| gpus.map.endpoints().get(at).into_iter().flatten().copied();
    let room = |(at, endpoint): (usize, &config::Endpoint)| Room {
        bytes: endpoint.memory,
        models: endpoint.max_loaded_models,
        gpus: GpuSet::of(places(at)),
    };
    settings.endpoints.iter().enumerate().map(room).collect()
}

/// The memory of an endpoint is that of its GPUs, as far as the operator does not allow less.
pub(super) fn plans(settings: &Settings, gpus: &Sight) -> Vec<EndpointPlan> {
    let plan = |(at, endpoint): (usize, &config::Endpoint)| EndpointPlan {
        num_parallel: endpoint.num_parallel,
        memory: [endpoint.memory, gpus.map.memory(at, &gpus.first)].into_iter().flatten().min(),
    };
    settings.endpoints.iter().enumerate().map(plan).collect()
}

/// Random, so that request ids differ between two runs.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    // without randomness ids start at 0, which is still right within one run
    let _ = getrandom::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

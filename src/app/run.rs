//! A process's life: open the doors, wait for the lease, serve, drain, stop.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::{self, Phase, Readiness};
use crate::config::Settings;
use crate::domain::Clock;
use crate::http::{AccessLog, Limits, Server, Shared, Tls, Web, router};
use crate::store::Lease;

use super::build::{House, Telemetry, build, local_rules};
use super::reload::tell_of_settings;
use super::{gauges, operators};

/// For a peer that stops reading.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// For running answers that are cut to say so to their callers.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// For the rooms' own tasks to end once nothing is served any more.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// A gateway process, from open doors to the end.
pub struct Gaucho {
    settings: Settings,
    telemetry: Telemetry,
    clock: Clock,
    readiness: Readiness,
    house: Arc<OnceLock<House>>,
    gateway: Arc<OnceLock<Arc<crate::gateway::Gateway>>>,
    /// Ends accepting, then open connections, then the rooms' tasks.
    stop: CancellationToken,
    cut: CancellationToken,
    halt: CancellationToken,
    /// The application listener's task; it ends with the last connection.
    serving: Option<JoinHandle<()>>,
    operators: Option<JoinHandle<()>>,
    tasks: TaskTracker,
    addresses: Option<Addresses>,
    lease: Option<Lease>,
}

/// Where a process listens, ports resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// For applications.
    pub applications: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
}

/// What a drain did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// Requests that were running.
    pub running: usize,
    /// Requests that were waiting.
    pub waiting: usize,
}

impl Gaucho {
    /// A process that has opened nothing yet.
    #[must_use]
    pub fn new(settings: Settings, telemetry: Telemetry, clock: Clock) -> Self {
        Self {
            settings,
            telemetry,
            clock,
            readiness: Readiness::new(Phase::Standby("starting".to_owned())),
            house: Arc::default(),
            gateway: Arc::default(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            halt: CancellationToken::new(),
            serving: None,
            operators: None,
            tasks: TaskTracker::new(),
            addresses: None,
            lease: None,
        }
    }

    /// Where it listens, once it does.
    #[must_use]
    pub fn addresses(&self) -> Option<Addresses> {
        self.addresses
    }

    /// What goes on, in one line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let Some(house) = self.house.get() else { return "starting".to_owned() };
        let view = house.scheduler.view();
        let (used, slots) = view.runners.iter().fold((0, 0), |(used, slots), r| (used + r.used, slots + r.slots));
        let totals = house.ledger.totals();
        let count = |total: &AtomicU64| total.load(Ordering::Relaxed);
        format!(
            "{} answered, {} refused or failed, {} left; {used} of {slots} slots busy, {} waiting",
            count(&totals.answered),
            count(&totals.faulted),
            count(&totals.left),
            view.queued
        )
    }

    /// Opens both listeners. Until [`Gaucho::serve`] is done they answer as a standby does.
    ///
    /// # Errors
    /// Every address that cannot be listened on.
    pub async fn open(&mut self) -> Result<Addresses, Vec<String>> {
        if let Some(addresses) = self.addresses {
            return Ok(addresses);
        }
        let limits = Limits {
            header_timeout: self.settings.limits.header_timeout,
            write_timeout: WRITE_TIMEOUT,
            connections: self.settings.limits.max_connections,
        };
        let applications =
            Server::bind(self.settings.listen, limits, self.clock.clone()).await.map_err(|why| vec![why])?;
        let tls = self.settings.tls.as_ref().map(|files| Tls::load(&files.cert, &files.key)).transpose();
        let tls = tls.map_err(|why| vec![why])?;
        let applications = applications.with_tls(tls.clone()).with_log(self.access_log("applications"));
        let admin =
            Server::bind(self.settings.admin_listen, limits, self.clock.clone()).await.map_err(|why| vec![why])?;
        let admin = admin.with_log(self.access_log("admin"));
        let addresses = Addresses {
            applications: applications.address().map_err(|why| vec![why])?,
            admin: admin.address().map_err(|why| vec![why])?,
        };
        let web = Web { rules: local_rules(&self.settings), on_loopback: addresses.applications.ip().is_loopback() };
        let body_timeout = self.settings.limits.body_timeout;
        let shared = Shared { gateway: Arc::clone(&self.gateway), body_timeout, web };
        let app = router(shared).merge(admin::probes(self.readiness.clone()));
        let (house, registry) = (Arc::clone(&self.house), self.telemetry.registry.clone());
        let metrics = Arc::new(move || {
            if let Some(house) = house.get() {
                gauges::set(house);
            }
            registry.encode()
        });
        let token = self.settings.admin_token.clone().map(|secret| secret.0);
        let answers = operators::answers(Arc::clone(&self.house));
        let operators = admin::router(self.readiness.clone(), metrics, answers, token);
        self.serving = Some(tokio::spawn(applications.run(app, self.stop.clone(), self.cut.clone())));
        // the probes answer until the very end
        self.operators = Some(tokio::spawn(admin.run(operators, self.halt.clone(), self.halt.clone())));
        let speaks = if tls.is_some() { "https" } else { "http" };
        if let Some(tls) = tls {
            let registry = self.telemetry.registry.clone();
            self.tasks.spawn(tls.follow(self.clock.clone(), registry, self.halt.clone()));
        }
        tracing::info!(applications = %addresses.applications, speaks, admin = %addresses.admin, "listening");
        self.addresses = Some(addresses);
        Ok(addresses)
    }

    /// Where a listener logs what the ledger does not know of.
    fn access_log(&self, listener: &'static str) -> Option<AccessLog> {
        let Telemetry { lines, log_requests, log_probes, .. } = &self.telemetry;
        log_requests.then(|| AccessLog { lines: lines.clone(), listener, probes: *log_probes })
    }

    /// Waits for the state folder's lease, then serves. Returns once requests are served.
    ///
    /// # Errors
    /// Every reason why this configuration cannot run.
    pub async fn serve(&mut self) -> Result<Addresses, Vec<String>> {
        self.take_lease().await?;
        let house = build(&self.settings, &self.telemetry, &self.clock, &self.tasks, &self.halt).await?;
        if let Some(file) = self.settings.file.clone() {
            let halt = self.halt.clone();
            self.tasks.spawn(async move { halt.run_until_cancelled(tell_of_settings(file)).await });
        }
        let addresses = self.open().await?;
        self.readiness.serve(house.discovery.watch());
        let _ = self.gateway.set(Arc::clone(&house.gateway));
        let _ = self.house.set(house);
        tracing::info!(
            endpoints = ?self.settings.endpoints.iter().map(|e| e.url.as_str()).collect::<Vec<_>>(),
            policies = self.settings.policies.as_ref().map_or("none".into(), |dir| dir.display().to_string()),
            state = %self.settings.state.display(),
            "serving"
        );
        Ok(addresses)
    }

    async fn take_lease(&mut self) -> Result<(), Vec<String>> {
        let state = self.settings.state.clone();
        let note = format!("process {}, listening on {}", std::process::id(), self.settings.listen);
        let taken = Lease::try_take(&state, &note).map_err(|error| vec![error.to_string()])?;
        if let Some(lease) = taken {
            self.lease = Some(lease);
            return Ok(());
        }
        let who = Lease::holder(&state).unwrap_or_else(|| "another process".to_owned());
        let why = format!("{who} serves from {}", state.display());
        self.readiness.enter(Phase::Standby(why.clone()));
        tracing::warn!(%why, "standing by: this gateway takes over when the other one lets go");
        // the owner may listen on the very same addresses; then they are opened after it has gone
        if let Err(problems) = self.open().await {
            tracing::info!(problems = problems.join("; "), "standing by without listening");
        }
        self.lease = Some(Lease::take(state, note).await.map_err(|error| vec![error.to_string()])?);
        tracing::info!("taking over");
        Ok(())
    }

    /// Takes nothing new, finishes what runs and what waits within `patience` or until `hurry` resolves, and stops.
    pub async fn drain(mut self, patience: Duration, hurry: impl Future<Output = ()>) -> Cut {
        self.readiness.enter(Phase::Draining);
        if let Some(house) = self.house.get() {
            house.scheduler.drain();
        }
        self.stop.cancel();
        let mut cut = Cut::default();
        if let Some(mut serving) = self.serving.take() {
            tokio::select! {
                _ = &mut serving => {}
                () = tokio::time::sleep(patience) => cut = self.cut_off(serving).await,
                () = hurry => cut = self.cut_off(serving).await,
            }
        }
        self.close().await;
        cut
    }

    /// Ends the rooms' tasks; the settling task goes last, when everything that may still settle is gone.
    async fn close(self) {
        self.halt.cancel();
        let Self { operators, tasks, house, gateway, lease, .. } = self;
        if let Some(operators) = operators {
            let _ = tokio::time::timeout(LAST_TASKS, operators).await;
        }
        drop((house, gateway));
        tasks.close();
        let _ = tokio::time::timeout(LAST_TASKS, tasks.wait()).await;
        drop(lease);
    }

    /// Refuses what waits, ends what runs and then open connections, and counts what is cut.
    async fn cut_off(&self, mut serving: JoinHandle<()>) -> Cut {
        let mut cut = Cut::default();
        if let Some(house) = self.house.get() {
            let view = house.scheduler.view();
            cut.running = view.runners.iter().map(|runner| runner.used as usize).sum();
            cut.waiting = view.queued;
            house.scheduler.cut();
            house.gateway.cut();
        }
        if tokio::time::timeout(LAST_WORDS, &mut serving).await.is_err() {
            self.cut.cancel();
            let _ = tokio::time::timeout(LAST_TASKS, serving).await;
        }
        cut
    }
}

//! `gaucho serve`: the gateway itself.

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{Cut, Gaucho, Telemetry};
use crate::config::{Overrides, Settings};
use crate::domain::Clock;
use crate::telemetry::{self, LogFormat, LogLines, Registry};

/// Serve applications in front of Ollama.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Settings file [env: GAUCHO_CONFIG] [default: ./gaucho.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address for applications [env: GAUCHO_LISTEN] [default: 127.0.0.1:11435]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address for operators: metrics and probes [env: GAUCHO_ADMIN_LISTEN] [default: 127.0.0.1:11436]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Origins of web pages that may call, beside this machine's own, such as `https://chat.example`; one `*` in each stands
    /// for any text [env: GAUCHO_ORIGINS]
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    origins: Vec<String>,
    /// Names under which a gateway on loopback may be called, beside this machine's own [env: GAUCHO_HOSTS]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    hosts: Vec<String>,
    /// PEM file of a certificate: applications are then served over TLS [env: GAUCHO_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file of its private key [env: GAUCHO_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// An Ollama server; repeat or separate by commas for several [env: GAUCHO_OLLAMA] [default: http://127.0.0.1:11434]
    #[arg(long, value_name = "URL")]
    ollama: Vec<String>,
    /// Folder of policy files [env: GAUCHO_POLICIES] [default: ./policies if it is there]
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// What to log, for example `info` or `warn,gaucho=debug` [env: GAUCHO_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How long a shutdown may wait for what runs and waits [env: GAUCHO_DRAIN] [default: 5m]
    #[arg(long, value_name = "TIME")]
    drain: Option<String>,
    /// Requests each model serves at once, as `OLLAMA_NUM_PARALLEL` of the servers [env: GAUCHO_NUM_PARALLEL] [default: 1]
    #[arg(long, value_name = "N")]
    num_parallel: Option<String>,
}

impl ServeArgs {
    fn overrides(&self, state: Option<PathBuf>) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
            admin_listen: self.admin_listen.clone(),
            origins: self.origins.clone(),
            hosts: self.hosts.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
            ollama: self.ollama.clone(),
            policies: self.policies.clone(),
            state,
            log: self.log.clone(),
            drain: self.drain.clone(),
            num_parallel: self.num_parallel.clone(),
        }
    }
}

/// Runs until a signal; the exit code says whether anything was cut.
pub(crate) fn run(args: &ServeArgs, state: Option<PathBuf>, err: &mut dyn Write) -> i32 {
    let Some(settings) = super::settings(args.config.as_deref(), args.overrides(state), err) else { return 1 };
    let telemetry = match start_telemetry(&settings.log) {
        Ok(telemetry) => telemetry,
        Err(why) => {
            let _ = writeln!(err, "{why}");
            return 1;
        }
    };
    let code = super::block_on(serve(settings, telemetry.clone()));
    let _ = telemetry.lines.flush(super::LAST_LINES);
    match code {
        Ok(code) => code,
        Err(problems) => {
            for problem in problems {
                let _ = writeln!(err, "gaucho serve: {problem}");
            }
            1
        }
    }
}

/// Logs to standard error from now on.
pub(super) fn start_telemetry(filter: &str) -> Result<Telemetry, String> {
    let registry = Registry::new();
    let lines = LogLines::start(std::io::stderr(), &registry)
        .map_err(|error| format!("the log's writer cannot be started: {error}"))?;
    telemetry::init(filter, LogFormat::for_stderr(), &lines).map_err(|error| error.to_string())?;
    let log_requests = tracing::enabled!(target: "gaucho::request", tracing::Level::INFO);
    let log_probes = tracing::enabled!(target: "gaucho::request", tracing::Level::DEBUG);
    Ok(Telemetry { lines, registry, log_requests, log_probes })
}

async fn serve(settings: Settings, telemetry: Telemetry) -> Result<i32, Vec<String>> {
    let deaf = |error: std::io::Error| vec![format!("signals cannot be heard: {error}")];
    let signals = Signals::listen().map_err(deaf)?;
    let hangups = signal(SignalKind::hangup()).map_err(deaf)?;
    tokio::select! {
        ended = live(settings, telemetry, signals) => ended,
        never = answer_hangups(hangups) => match never {},
    }
}

/// A hangup, with which other servers read their files again, ends nothing; it is told what it would have been for.
async fn answer_hangups(mut hangups: Signal) -> Infallible {
    loop {
        // it is heard for as long as the process lives
        if hangups.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        tracing::info!(
            signal = "hangup",
            "nothing to do: policy files are read live by themselves; changes of gaucho.toml, flags and environment need \
             a restart (a standby takes over)"
        );
    }
}

async fn live(settings: Settings, telemetry: Telemetry, mut signals: Signals) -> Result<i32, Vec<String>> {
    let patience = settings.drain;
    let mut gaucho = Gaucho::new(settings, telemetry, Clock::real());
    tokio::select! {
        started = gaucho.serve() => { started?; }
        name = signals.next() => {
            tracing::info!(signal = name, "stopping before it served anything");
            return Ok(0);
        }
    }
    let name = signals.next().await;
    tracing::info!(
        signal = name,
        patience_s = patience.as_secs(),
        "shutting down: nothing new is taken, what runs and waits is finished; a second signal cuts"
    );
    let cut = gaucho.drain(patience, async { _ = signals.next().await }).await;
    if cut == Cut::default() {
        tracing::info!("stopped; nothing was cut");
        Ok(0)
    } else {
        tracing::warn!(running = cut.running, waiting = cut.waiting, "stopped; these requests were cut");
        Ok(1)
    }
}

/// The two signals that stop a process.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one's name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupt",
            _ = self.terminate.recv() => "terminate",
        }
    }
}

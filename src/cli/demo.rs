//! `gaucho demo`: a gateway, a stand-in Ollama and the shipped policies in one process, to look at and play with.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::{Addresses, Gaucho, Telemetry};
use crate::config::{self, Overrides, Settings};
use crate::domain::{AppName, Clock};
use crate::identity::Keys;
use crate::sim::{self, Sim};
use crate::store::Store;
use crate::telemetry::{self, LogFormat, LogLines, Registry};

use super::serve::Signals;

/// Try it: a gateway with the example policies in front of a simulated Ollama, nothing to install.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// A real Ollama server instead of the simulated one
    #[arg(long, value_name = "URL")]
    ollama: Option<String>,
    /// Address for applications
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:11435")]
    listen: SocketAddr,
    /// Address for operators
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:11436")]
    admin_listen: SocketAddr,
    /// How many times faster than real ones the simulated models are
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,
}

/// The files of `policies/`, so that an installed binary has them too.
const POLICIES: [(&str, &str); 7] = [
    ("default.toml", include_str!("../../policies/default.toml")),
    ("models.toml", include_str!("../../policies/models.toml")),
    ("agent.toml", include_str!("../../policies/agent.toml")),
    ("chat-ui.toml", include_str!("../../policies/chat-ui.toml")),
    ("ci.toml", include_str!("../../policies/ci.toml")),
    ("embeddings-indexer.toml", include_str!("../../policies/embeddings-indexer.toml")),
    ("nightly-batch.toml", include_str!("../../policies/nightly-batch.toml")),
];

/// The applications that get a key.
const APPS: [&str; 2] = ["chat-ui", "nightly-batch"];
/// Slots of the simulated server.
const SLOTS: u32 = 2;
/// Between two summaries: at a terminal, and elsewhere.
const PACE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Runs until a signal.
pub(crate) fn run(args: &DemoArgs, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    super::said(super::block_on(demo(args, out)), err)
}

async fn demo(args: &DemoArgs, out: &mut dyn Write) -> Result<(), Vec<String>> {
    let one = |why: String| vec![why];
    let mut signals = Signals::listen().map_err(|error| one(error.to_string()))?;
    let folder = Folder::make().map_err(one)?;
    let simulated = match &args.ollama {
        Some(_) => None,
        None => Some(simulate(args.speed).await.map_err(one)?),
    };
    let url = args.ollama.clone().or_else(|| simulated.as_ref().map(Sim::url)).unwrap_or_default();
    let settings = settings(args, &folder.0, url)?;
    let telemetry = telemetry(&folder.0).map_err(one)?;
    let keys = keys(&folder.0).map_err(one)?;
    let mut gaucho = Gaucho::new(settings, telemetry, Clock::real());
    let addresses = gaucho.serve().await?;
    let _ = greet(out, args, &folder.0, addresses, &keys);
    tokio::select! {
        _ = signals.next() => {}
        () = summarise(&gaucho, out) => {}
    }
    let _ = writeln!(out);
    gaucho.drain(Duration::ZERO, std::future::pending()).await;
    if let Some(simulated) = simulated {
        simulated.shutdown().await;
    }
    Ok(())
}

async fn simulate(speed: f64) -> Result<Sim, String> {
    let settings = sim::Settings { num_parallel: SLOTS as usize, speed, ..sim::Settings::default() };
    Sim::start(settings).await.map_err(|error| format!("the simulated Ollama cannot be started: {error}"))
}

fn settings(args: &DemoArgs, folder: &Path, ollama: String) -> Result<Settings, Vec<String>> {
    let overrides = Overrides {
        listen: Some(args.listen.to_string()),
        admin_listen: Some(args.admin_listen.to_string()),
        ollama: vec![ollama],
        policies: Some(folder.join("policies")),
        state: Some(folder.join("state")),
        num_parallel: args.ollama.is_none().then(|| SLOTS.to_string()),
        ..Overrides::default()
    };
    // the demo is the same everywhere: neither the environment nor a settings file has a say
    let env = |_: &str| None;
    let no_file = folder.join("gaucho.toml");
    let written = std::fs::write(&no_file, "").map_err(|error| vec![error.to_string()]);
    written?;
    config::load(Some(&no_file), overrides, &env).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// Logs go to a file, so that the summary keeps its line.
fn telemetry(folder: &Path) -> Result<Telemetry, String> {
    let registry = Registry::new();
    let file = std::fs::File::create(folder.join("gaucho.log")).map_err(|error| error.to_string())?;
    let lines = LogLines::start(file, &registry).map_err(|error| error.to_string())?;
    telemetry::init("info", LogFormat::Json, &lines).map_err(|error| error.to_string())?;
    Ok(Telemetry { lines, registry, log_requests: true, log_probes: false })
}

fn keys(folder: &Path) -> Result<Vec<(&'static str, String)>, String> {
    let store = Store::open(&folder.join("state")).map_err(|error| error.to_string())?;
    let keys = Keys::new(store, Clock::real());
    let make = |app: &'static str| {
        let name = AppName::parse(app)?;
        let made = keys.create(&name, None, Some("demo")).map_err(|error| error.to_string())?;
        Ok((app, made.text.expose().to_owned()))
    };
    APPS.into_iter().map(make).collect()
}

fn greet(
    out: &mut dyn Write,
    args: &DemoArgs,
    folder: &Path,
    addresses: Addresses,
    keys: &[(&str, String)],
) -> std::io::Result<()> {
    let at = addresses.applications;
    let behind = args.ollama.as_deref().unwrap_or("a simulated Ollama, 2 slots for each model");
    writeln!(out, "Gaucho demo, in front of {behind}\n")?;
    writeln!(out, "  for applications  http://{at}")?;
    writeln!(out, "  for operators     http://{}/metrics", addresses.admin)?;
    writeln!(out, "  policies          {} (edit them: they are read live)", folder.join("policies").display())?;
    writeln!(out, "  log               {}\n", folder.join("gaucho.log").display())?;
    for (app, key) in keys {
        writeln!(out, "  key of {app:<13}  {key}")?;
    }
    let key = keys.first().map_or("", |(_, key)| key.as_str());
    writeln!(out, "\nPaste one of these into another terminal:\n")?;
    writeln!(
        out,
        "  curl http://{at}/v1/chat/completions -H 'Authorization: Bearer {key}' \
         -d '{{\"model\":\"llama3.2:3b\",\"messages\":[{{\"role\":\"user\",\"content\":\"Why is the sky blue?\"}}]}}'\n"
    )?;
    writeln!(out, "  OLLAMA_HOST=http://{at}/k/{key} ollama run llama3.2:3b 'Why is the sky blue?'\n")?;
    writeln!(
        out,
        "  python3 -c \"from openai import OpenAI; print(OpenAI(base_url='http://{at}/v1', api_key='{key}')\
         .chat.completions.create(model='llama3.2:3b', messages=[dict(role='user', content='Why is the sky blue?')])\
         .choices[0].message.content)\"\n"
    )?;
    writeln!(out, "Ctrl-C ends the demo and removes its folder.\n")?;
    out.flush()
}

/// One line that stays up to date.
async fn summarise(gaucho: &Gaucho, out: &mut dyn Write) {
    let terminal = std::io::stdout().is_terminal();
    let mut tick = tokio::time::interval(if terminal { PACE.0 } else { PACE.1 });
    let mut last = String::new();
    loop {
        tick.tick().await;
        let line = gaucho.summary();
        if line == last {
            continue;
        }
        let _ = if terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
        last = line;
    }
}

/// The demo's own folder, gone with the demo.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("gaucho-demo-{}", std::process::id()));
        let policies = folder.join("policies");
        let fail = |error: std::io::Error| format!("{} cannot be written: {error}", folder.display());
        std::fs::create_dir_all(&policies).map_err(fail)?;
        for (name, text) in POLICIES {
            std::fs::write(policies.join(name), text).map_err(fail)?;
        }
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_shipped_policy_file_is_in_the_demo() {
        let shipped = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/policies")).unwrap();
        let names = shipped.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut tables: Vec<String> =
            names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "toml")).collect();
        tables.sort();
        let mut built_in: Vec<&str> = POLICIES.iter().map(|(name, _)| *name).collect();
        built_in.sort_unstable();
        assert_eq!(tables, built_in);
    }
}

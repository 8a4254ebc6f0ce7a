//! `gaucho check`: every mistake in settings, policies, certificate and state at once, or a summary when there is none.
//!
//! Owns the output. The checks are those of `config`, `policy`, `http` and `store`, the same that `serve` and reload use;
//! nothing is changed by them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::promises;
use crate::config::{self, Overrides, Settings};
use crate::domain::Clock;
use crate::http::Tls;
use crate::identity::Keys;
use crate::policy::{self, AppRules, Folder, Policies, Problem, SchemaOf};
use crate::store::{Inspected, Store, StoreError};

/// Check settings, policies, certificate and state folder, and change nothing: lists every mistake with its place, and exits
/// with 1 if there is one.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Folder of policy files [default: what the settings say, else ./policies]
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Settings file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the JSON Schema of a kind of file instead, for editors
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "app")]
    schema: Option<Kind>,
}

/// A kind of file that has a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// policies/APP.toml, APP being an application's name
    App,
    /// policies/default.toml
    Default,
    /// policies/models.toml
    Models,
    /// gaucho.toml
    Settings,
}

/// What is sound, and what else there is to say.
struct Checked {
    settings: Settings,
    policies: Policies,
    /// `None` where no folder was named and there is none at the usual place: the check may run far from the gateway.
    state: Option<Inspected>,
    concerns: Vec<String>,
}

/// Runs the command with the process's environment; returns the exit code.
pub(crate) fn run(args: &CheckArgs, state: Option<PathBuf>, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    // an output that is closed early (a pager, `head`) does not change the verdict
    let (code, _) = judge(args, state, &config::process_env, out, err);
    code
}

fn judge(
    args: &CheckArgs,
    state: Option<PathBuf>,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> (i32, io::Result<()>) {
    if let Some(kind) = args.schema {
        return (0, writeln!(out, "{:#}", schema(kind)));
    }
    match check(args, state, env) {
        Ok(checked) => (0, report(&checked, out, err)),
        Err(problems) => (1, list(&problems, err)),
    }
}

fn report(checked: &Checked, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    let Checked { settings, policies, state, concerns } = checked;
    for concern in concerns {
        writeln!(err, "warning: {concern}")?;
    }
    summary(settings, policies, out)?;
    if let Some(state) = state {
        let found = if state.store.is_some() { "sound" } else { "nothing is kept yet" };
        let holder = state.holder.as_ref().map(|who| format!("; {who} serves from it now")).unwrap_or_default();
        writeln!(out, "{}: {found}{holder}", settings.state.display())?;
    }
    promises::write(settings, policies, state.as_ref().and_then(|state| state.store.as_ref()), out)
}

fn schema(kind: Kind) -> serde_json::Value {
    match kind {
        Kind::App => policy::schema(SchemaOf::App),
        Kind::Default => policy::schema(SchemaOf::Default),
        Kind::Models => policy::schema(SchemaOf::Models),
        Kind::Settings => config::schema(),
    }
}

/// Each thing is checked even when another is wrong, as far as one is known without the other.
fn check(
    args: &CheckArgs,
    state: Option<PathBuf>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Checked, Vec<Problem>> {
    let named = args.config.is_some() || state.is_some() || env("GAUCHO_STATE").is_some();
    let overrides = Overrides { policies: args.policies.clone(), state, ..Overrides::default() };
    let settings = config::load(args.config.as_deref(), overrides, env);
    let folder = match &settings {
        Ok(settings) => settings.policies.clone(),
        Err(_) => args.policies.clone(),
    };
    let folder = folder.map(|folder| Folder::read(&folder));
    let policies = folder.as_ref().map_or_else(|| Ok(Policies::built_in()), Policies::compile);
    let mut problems = Vec::new();
    let (mut concerns, mut state) = (folder.as_ref().map(strays).unwrap_or_default(), None);
    if let Ok(settings) = &settings {
        concerns.extend(certificate(settings).unwrap_or_else(|problem| {
            problems.push(problem);
            None
        }));
        if named || settings.state.exists() {
            match keep(&settings.state) {
                Ok((found, odd)) => {
                    state = Some(found);
                    concerns.extend(odd);
                }
                Err(why) => problems.push(Problem::whole("settings", "state", "", why.to_string())),
            }
        }
    }
    match (settings, policies) {
        (Ok(settings), Ok(policies)) => {
            // without a settings file the servers are a guess, and the check may run far from them
            if args.config.is_some() {
                problems.extend(config::endpoint_problems(&settings, &policies));
            }
            if problems.is_empty() { Ok(Checked { settings, policies, state, concerns }) } else { Err(problems) }
        }
        (settings, policies) => {
            problems.extend(settings.err().unwrap_or_default());
            problems.extend(policies.err().unwrap_or_default());
            Err(problems)
        }
    }
}

/// What is to be said of files in the policies folder that are not read.
fn strays(folder: &Folder) -> Vec<String> {
    let said = |file: &Path| format!("{} is not read: its name does not end in .toml", file.display());
    folder.strays().map(said).collect()
}

/// What stands in the state folder, and what is to be said of it.
fn keep(folder: &Path) -> Result<(Inspected, Vec<String>), StoreError> {
    let found = Store::inspect(folder)?;
    let damaged = match &found.store {
        Some(store) => Keys::new(store.clone(), Clock::real()).damaged()?,
        None => Vec::new(),
    };
    let said = |id| format!("the stored record of key {id} is damaged: the key is not accepted, make a new one");
    Ok((found, damaged.into_iter().map(said).collect()))
}

/// What is to be said of the certificate, if there is one.
fn certificate(settings: &Settings) -> Result<Option<String>, Problem> {
    let Some(files) = &settings.tls else { return Ok(None) };
    let tls = Tls::load(&files.cert, &files.key).map_err(|why| Problem::whole("settings", "tls", "", why))?;
    Ok(tls.concern(Clock::real().wall()))
}

fn list(problems: &[Problem], err: &mut dyn Write) -> io::Result<()> {
    for problem in problems {
        writeln!(err, "{problem}")?;
    }
    let noun = if problems.len() == 1 { "problem" } else { "problems" };
    writeln!(err, "{} {noun}", problems.len())
}

fn summary(settings: &Settings, policies: &Policies, out: &mut dyn Write) -> io::Result<()> {
    let Some(folder) = &settings.policies else {
        return writeln!(out, "no policies folder: built-in rules for every application; fine");
    };
    let (apps, profiles) = (policies.apps(), policies.profiles().count());
    writeln!(out, "{}: {} applications, {profiles} runner profiles; fine", folder.display(), apps.len())?;
    let widest = apps.iter().map(|(app, _)| app.as_str().len()).max().unwrap_or(0);
    for (app, rules) in apps {
        writeln!(out, "  {:widest$}  {}", app.as_str(), line(rules))?;
    }
    Ok(())
}

fn line(rules: &AppRules) -> String {
    let models: Vec<&str> = rules.models.patterns().collect();
    let models = if models.is_empty() { "none".to_owned() } else { models.join(", ") };
    let rate = match rules.rate {
        Some(rate) => format!("{}/min, burst {}", rate.requests_per_minute, rate.burst),
        None => "no rate".to_owned(),
    };
    let running = rules.max_concurrent.map_or_else(|| "any number".to_owned(), |most| most.to_string());
    let class = rules.class.as_str();
    format!(
        "{class:<11}  weight {:<5}  {rate:<20}  {running} running, {} waiting  models {models}",
        rules.weight, rules.max_queued
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clap::Parser;

    use super::*;
    use crate::store::{Change, Collection, Lease};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: CheckArgs,
    }

    /// Exit code, standard output, standard error.
    fn gaucho_check(arguments: &[&str]) -> (i32, String, String) {
        let args = Line::try_parse_from(["check"].iter().chain(arguments)).unwrap_or_else(|e| unreachable!("{e}")).args;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let home = std::env::temp_dir().display().to_string();
        let env = |name: &str| (name == "HOME").then(|| home.clone());
        let (code, written) = judge(&args, None, &env, &mut out, &mut err);
        written.unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_shipped_policies_pass_with_a_summary() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        let (code, out, err) = gaucho_check(&["--policies", folder.to_str().unwrap()]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("policies: 5 applications, 5 runner profiles; fine"), "{out}");
        assert!(out.contains("ci                  standard     weight 0.5    30/min, burst 5"), "{out}");
    }

    #[test]
    fn mistakes_of_settings_and_policies_are_listed_together() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("gaucho.toml");
        std::fs::write(&config, "lisen = 1\npolicies = \"p\"\n").unwrap();
        std::fs::create_dir(dir.path().join("p")).unwrap();
        std::fs::write(dir.path().join("p/a.toml"), "weight = 0\nclass = 1\n").unwrap();
        let (policies, config) = (dir.path().join("p"), config.to_str().unwrap());
        let (code, out, err) = gaucho_check(&["--config", config, "--policies", policies.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("gaucho.toml:1:1: lisen: unknown key; did you mean \"listen\"?"), "{err}");
        assert!(err.contains("a.toml:2:9: class: 1 is not allowed"), "{err}");
        assert!(err.ends_with("3 problems\n"), "{err}");
    }

    #[test]
    fn endpoints_that_do_not_exist_are_a_problem_when_the_servers_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("gaucho.toml");
        std::fs::write(&config, "ollama = \"gpu-1\"\npolicies = \".\"\n").unwrap();
        std::fs::write(dir.path().join("a.toml"), "endpoints = [\"gpu-2*\"]").unwrap();
        std::fs::rename(&config, dir.path().join(".gaucho.toml")).unwrap();
        let config = dir.path().join(".gaucho.toml");
        let (code, _, err) = gaucho_check(&["--config", config.to_str().unwrap()]);
        assert_eq!(code, 1);
        assert!(
            err.contains("a.toml: endpoints: \"gpu-2*\" covers none of the servers, which are gpu-1:11434"),
            "{err}"
        );
    }

    #[test]
    fn certificate_and_state_are_looked_at_as_serve_would_and_together() {
        let dir = tempfile::tempdir().unwrap();
        let (config, state) = (dir.path().join("gaucho.toml"), dir.path().join("state"));
        let text = "state = \"state\"\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n";
        std::fs::write(&config, text).unwrap();
        let check = || gaucho_check(&["--config", config.to_str().unwrap()]);
        let (code, _, err) = check();
        assert_eq!(code, 1);
        assert!(err.contains("cert.pem cannot be read: ") && err.ends_with("1 problem\n"), "{err}");
        let issue = |cert: &str, key: &str| {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            std::fs::write(dir.path().join(cert), made.cert.pem()).unwrap();
            std::fs::write(dir.path().join(key), made.signing_key.serialize_pem()).unwrap();
        };
        issue("cert.pem", "other.pem");
        issue("other.pem", "key.pem");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("gaucho.db"), "noise".repeat(200)).unwrap();
        let (code, _, err) = check();
        assert_eq!(code, 1);
        assert!(err.contains("is not that of the certificate") && err.contains("is damaged"), "{err}");
        assert!(err.ends_with("2 problems\n"), "{err}");
        issue("cert.pem", "key.pem");
        std::fs::remove_file(state.join("gaucho.db")).unwrap();
        let (code, out, err) = check();
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains("state: nothing is kept yet\n"), "{out}");
        let store = Store::open(&state).unwrap();
        store.commit(&[Change::Insert(Collection("keys"), "abc", "{}")]).unwrap().unwrap();
        let _lease = Lease::try_take(&state, "process 7, listening on 127.0.0.1:1").unwrap();
        let (code, out, err) = check();
        assert_eq!(code, 0);
        assert!(err.starts_with("warning: the stored record of key abc is damaged"), "{err}");
        assert!(out.contains("state: sound; process 7, listening on 127.0.0.1:1 serves from it now\n"), "{out}");
    }

    #[test]
    fn files_that_look_meant_and_are_not_read_are_named_and_no_mistake() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("old.d")).unwrap();
        let meant = ["chat.TOML", "chat.tml", "chat.yaml"];
        let left =
            ["README.md", "readme", "a.toml~", "a.toml.bak", "a.toml.orig", "b.tmp", ".a.toml.swp", "a.swp", "a.toml"];
        for name in meant.iter().chain(&left) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let (code, _, err) = gaucho_check(&["--policies", dir.path().to_str().unwrap()]);
        let said = |name: &&str| {
            format!("warning: {} is not read: its name does not end in .toml\n", dir.path().join(name).display())
        };
        assert_eq!((code, err), (0, meant.iter().map(said).collect()));
    }

    #[test]
    fn every_schema_is_printed() {
        for kind in [&["--schema"][..], &["--schema", "default"], &["--schema", "models"], &["--schema", "settings"]] {
            let (code, out, _) = gaucho_check(kind);
            let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!((code, &schema["additionalProperties"]), (0, &serde_json::json!(false)));
        }
    }
}

//! `gaucho key`: make, list, revoke and rotate keys, beside a running gateway or without one.
//!
//! Owns the arguments and the print; `identity::Keys` does the work. A new key is printed alone on standard output,
//! once.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{Span, SpanRelativeTo, Timestamp};
use serde::Serialize;

use crate::domain::{AppName, Clock};
use crate::identity::{KeyError, KeyRecord, Keys, NewKey, SshKey};
use crate::store::Store;

/// `gaucho key ...`
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key for an application; prints the key, and nothing else, on standard output
    Create {
        /// The application: the name of its policy file without .toml
        #[arg(value_parser = AppName::parse)]
        app: AppName,
        /// How long the key is valid, such as 90d or 12h; without it, for ever
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Duration>,
        /// A note that `key list` shows
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
    },
    /// Let an Ollama client sign as an application (OLLAMA_AUTH=1) instead of sending a key
    AddSsh {
        /// The application: the name of its policy file without .toml
        #[arg(value_parser = AppName::parse)]
        app: AppName,
        /// The client's public key, `ssh-ed25519 AAAA… name`, the file that holds it (~/.ollama/id_ed25519.pub), or - for
        /// standard input
        #[arg(required = true, value_name = "PUBLIC_KEY")]
        key: Vec<String>,
        /// How long it is valid, such as 90d or 12h; without it, for ever
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Duration>,
        /// A note that `key list` shows; without it, the name behind the key
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
    },
    /// List every key ever made here, without the keys themselves
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// End a key for good, within a second and with the requests that run under it
    Revoke {
        /// The key's id, as `key list` shows it
        id: String,
    },
    /// Make a key that takes over from another; prints the new key alone on standard output
    Rotate {
        /// The old key's id, as `key list` shows it
        id: String,
        /// How long the old key stays valid, such as 1h; 0s ends it now
        #[arg(long, value_name = "TIME", value_parser = time)]
        overlap: Duration,
    },
}

/// Runs the command on the state folder `state`; gives the exit code.
pub(crate) fn run(args: &KeyArgs, state: &Path, clock: &Clock, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    match act(&args.verb, state, clock, out, err) {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(err, "gaucho: {error}");
            1
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("cannot print the result: {0}")]
    Print(#[from] io::Error),
    #[error("the public key cannot be read from {from}: {error}")]
    Unread { from: String, error: io::Error },
}

fn act(verb: &Verb, state: &Path, clock: &Clock, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
    // only making a key makes a state folder: for the rest an empty one is a mistyped one
    let open = |store: Result<Store, _>| store.map(|store| Keys::new(store, clock.clone())).map_err(KeyError::from);
    match verb {
        Verb::Create { app, expires, label } => {
            let made = open(Store::open(state))?.create(app, *expires, label.as_deref())?;
            show_new(&made, out, err)?;
        }
        Verb::AddSsh { app, key, expires, label } => {
            let (key, comment) = SshKey::parse(&public_key(key)?).map_err(KeyError::from)?;
            let label = label.as_deref().or(comment.as_deref());
            let KeyRecord { id, app, expires, .. } = open(Store::open(state))?.add_ssh(app, key, *expires, label)?;
            let until = expires.map_or_else(|| "without end".into(), |expires| format!("until {}", date(expires)));
            writeln!(out, "{id}")?;
            writeln!(err, "key {id} for {app}: the public key {}, valid {until}", key.fingerprint())?;
        }
        Verb::List { json } => list(&open(Store::open_existing(state))?.list()?, *json, clock, out)?,
        Verb::Revoke { id } => {
            let KeyRecord { id, app, .. } = open(Store::open_existing(state))?.revoke(id)?;
            writeln!(err, "key {id} of {app} is revoked; a running gateway ends its requests within a second")?;
        }
        Verb::Rotate { id, overlap } => {
            let made = open(Store::open_existing(state))?.rotate(id, *overlap)?;
            show_new(&made, out, err)?;
            if let Some(old) = &made.record.rotated_from {
                let until = clock.wall().saturating_add(*overlap);
                writeln!(err, "key {old} stays valid until {} at the latest", date(until))?;
            }
        }
    }
    Ok(())
}

/// The text of a public key: as it stands, or what a file or standard input holds.
fn public_key(words: &[String]) -> Result<String, Failure> {
    let text = words.join(" ");
    // more than one word is no file's name; and a key pasted wrongly is no file either
    if words.len() > 1 || text.trim().contains(' ') || text.starts_with("ssh-") {
        return Ok(text);
    }
    let read = if text == "-" { io::read_to_string(io::stdin()) } else { std::fs::read_to_string(&text) };
    read.map_err(|error| Failure::Unread { from: text, error })
}

/// The key goes out first: if that fails, the note says which key to revoke.
fn show_new(made: &NewKey, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    let KeyRecord { id, app, expires, .. } = &made.record;
    let printed = writeln!(out, "{}", made.text.expose()).and_then(|()| out.flush());
    let until = expires.map_or_else(|| "without end".into(), |expires| format!("until {}", date(expires)));
    if printed.is_ok() {
        writeln!(err, "key {id} for {app}, valid {until}. It is shown this once: keep it safe.")?;
    } else {
        writeln!(err, "key {id} for {app} was made but could not be shown: `gaucho key revoke {id}`")?;
    }
    printed
}

fn list(keys: &[KeyRecord], json: bool, clock: &Clock, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<Row> = keys.iter().map(|key| Row::new(key, clock.wall())).collect();
    if json {
        serde_json::to_writer_pretty(&mut *out, &rows)?;
        return writeln!(out);
    }
    let line = |out: &mut dyn Write, cells: [&str; 7]| {
        let [id, kind, state, created, expires, app, label] = cells;
        let text = format!("{id:<10}  {kind:<4}  {state:<7}  {created:<20}  {expires:<20}  {app:<16}  {label}");
        writeln!(out, "{}", text.trim_end())
    };
    line(out, ["ID", "KIND", "STATE", "CREATED", "EXPIRES", "APP", "LABEL"])?;
    for row in &rows {
        let expires = row.expires.as_deref().unwrap_or("never");
        line(
            out,
            [&row.id, row.kind, row.state, &row.created, expires, &row.app, row.label.as_deref().unwrap_or_default()],
        )?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Row {
    id: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    app: String,
    label: Option<String>,
    created: String,
    expires: Option<String>,
    revoked: Option<String>,
    rotated_from: Option<String>,
    state: &'static str,
}

impl Row {
    fn new(key: &KeyRecord, now: Duration) -> Self {
        Self {
            id: key.id.to_string(),
            kind: if key.ssh.is_some() { "ssh" } else { "text" },
            fingerprint: key.ssh.as_ref().map(SshKey::fingerprint),
            app: key.app.to_string(),
            label: key.label.clone(),
            created: date(key.created),
            expires: key.expires.map(date),
            revoked: key.revoked.map(date),
            rotated_from: key.rotated_from.as_ref().map(ToString::to_string),
            state: key.state(now).as_str(),
        }
    }
}

/// UTC to the second; a date too far for a calendar is shown as the far future.
fn date(since_1970: Duration) -> String {
    let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `90d`, `1h30m`, `2w`: a time with its units. A day is 24 hours.
fn time(text: &str) -> Result<Duration, String> {
    const REMEDY: &str = "give a number and a unit, such as 90d, 12h or 1h30m";
    let span: Span = text.trim().parse().map_err(|_| format!("{text:?} is not a length of time: {REMEDY}"))?;
    let exact = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("{text:?} has no fixed length: months and years differ, {REMEDY}"))?;
    Duration::try_from(exact).map_err(|_| format!("{text:?} is in the past: {REMEDY}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        key: KeyArgs,
    }

    struct Shell {
        dir: tempfile::TempDir,
        clock: Clock,
    }

    impl Shell {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), clock: Clock::manual() }
        }

        /// Exit code, standard output, standard error.
        fn key(&self, line: &[&str]) -> (i32, String, String) {
            let args = Line::try_parse_from([&["key"], line].concat()).unwrap_or_else(|error| panic!("{error}"));
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let code = run(&args.key, &self.dir.path().join("state"), &self.clock, &mut out, &mut err);
            (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
        }

        fn id_of(key: &str) -> String {
            key.split('_').nth(1).unwrap().to_owned()
        }
    }

    #[test]
    fn a_new_key_is_alone_on_standard_output() {
        let shell = Shell::new();
        let (code, out, err) = shell.key(&["create", "shop", "--expires", "90d", "--label", "till 3"]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(out.lines().count(), 1);
        assert!(out.starts_with("gk_") && out.ends_with('\n'), "{out}");
        assert!(err.contains("2026-04-01T00:00:00Z") && !err.contains(out.trim()), "{err}");
    }

    #[test]
    fn the_list_shows_states_and_no_secret() {
        let shell = Shell::new();
        let (_, short, _) = shell.key(&["create", "shop", "--expires", "1h"]);
        let (_, long, _) = shell.key(&["create", "wiki", "--label", "two\u{e9}"]);
        let (_, bad, _) = shell.key(&["create", "shop"]);
        assert_eq!(shell.key(&["revoke", &Shell::id_of(&bad)]).0, 0);
        shell.clock.advance(Duration::from_secs(3600));
        let (code, table, _) = shell.key(&["list"]);
        assert_eq!((code, table.lines().count()), (0, 4), "{table}");
        let (_, json, _) = shell.key(&["list", "--json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        for (key, state) in [(&short, "expired"), (&long, "active"), (&bad, "revoked")] {
            let row = rows.iter().find(|row| row["id"] == *Shell::id_of(key)).unwrap();
            assert_eq!(row["state"], state);
            let line = table.lines().find(|line| line.starts_with(&Shell::id_of(key))).unwrap();
            assert!(line.contains(state), "{line}");
            let secret = key.trim().rsplit('_').next().unwrap();
            assert!(!table.contains(secret) && !json.contains(secret));
        }
    }

    #[test]
    fn rotation_prints_the_new_key_and_the_end_of_the_old() {
        let shell = Shell::new();
        let (_, old, _) = shell.key(&["create", "shop"]);
        let (code, new, err) = shell.key(&["rotate", &Shell::id_of(&old), "--overlap", "1h"]);
        assert_eq!(code, 0, "{err}");
        assert_eq!(new.lines().count(), 1);
        assert_ne!(new, old);
        assert!(err.contains(&Shell::id_of(&old)) && err.contains("2026-01-01T01:00:00Z"), "{err}");
    }

    #[test]
    fn mistakes_are_answered_with_a_remedy_and_make_no_folder() {
        let shell = Shell::new();
        for line in [vec!["list"], vec!["revoke", "0123456789"], vec!["rotate", "0123456789", "--overlap", "1h"]] {
            let (code, out, err) = shell.key(&line);
            assert_eq!((code, out.as_str()), (1, ""), "{line:?}");
            assert!(err.contains("--state"), "{err}");
        }
        assert!(!shell.dir.path().join("state").exists());
        shell.key(&["create", "shop"]);
        let (code, _, err) = shell.key(&["revoke", "0123456789"]);
        assert!(code == 1 && err.contains("0123456789") && err.contains("gaucho key list"), "{err}");
        let (code, _, err) = shell.key(&["revoke", "a-secret-someone-pasted"]);
        assert!(code == 1 && !err.contains("pasted"), "{err}");
    }

    #[test]
    fn a_public_key_is_taken_as_text_or_from_its_file() {
        const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL8icXYqs+4sTGk7c4CwqPaVtf4SUAHrGG28Z2bIMacB";
        let shell = Shell::new();
        let file = shell.dir.path().join("id_ed25519.pub");
        std::fs::write(&file, format!("{PUBLIC} me@here\n")).unwrap();
        let (code, id, err) = shell.key(&["add-ssh", "shop", file.to_str().unwrap(), "--expires", "1h"]);
        assert!(code == 0 && err.contains("SHA256:gBiV2LtD7NWTonBrA5v3Lsc8my/B9MJP47GY6+Yx3QM"), "{err}");
        let (_, table, _) = shell.key(&["list"]);
        let line = table.lines().find(|line| line.starts_with(id.trim())).unwrap();
        assert!(line.contains("ssh ") && line.contains("active") && line.ends_with("me@here"), "{line}");
        let words: Vec<&str> = ["add-ssh", "shop"].into_iter().chain(PUBLIC.split(' ')).collect();
        let (code, _, err) = shell.key(&words);
        assert!(code == 1 && err.contains("already stands for shop"), "{err}");
        assert_eq!(shell.key(&["revoke", id.trim()]).0, 0);
        let (code, _, err) = shell.key(&["add-ssh", "shop", &format!("{PUBLIC} x"), "--label", "desk"]);
        assert_eq!(code, 0, "{err}");
        for (bad, said) in [("/nowhere/key.pub", "/nowhere/key.pub"), ("ssh-rsa AAAA", "ssh-ed25519")] {
            let (code, out, err) = shell.key(&["add-ssh", "shop", bad]);
            assert!(code == 1 && out.is_empty() && err.contains(said), "{bad}: {err}");
        }
    }

    #[test]
    fn times_need_units() {
        for (text, seconds) in [("90d", 7_776_000), ("12h", 43_200), ("1h30m", 5400), ("2w", 1_209_600), ("0s", 0)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["90", "", "d", "-1h", "1mo", "1y", "soon", "99999999999d", "1h ago"] {
            let error = time(text).expect_err(text);
            assert!(error.contains("90d") && error.contains(text), "{error}");
        }
    }
}

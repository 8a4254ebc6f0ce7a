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
use crate::identity::{KeyError, KeyRecord, Keys, NewKey};
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
}

fn act(verb: &Verb, state: &Path, clock: &Clock, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
    // only making a key makes a state folder: for the rest an empty one is a mistyped one
    let open = |store: Result<Store, _>| store.map(|store| Keys::new(store, clock.clone())).map_err(KeyError::from);
    match verb {
        Verb::Create { app, expires, label } => {
            let made = open(Store::open(state))?.create(app, *expires, label.as_deref())?;
            show_new(&made, out, err)?;
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
    let line = |out: &mut dyn Write, cells: [&str; 6]| {
        let [id, state, created, expires, app, label] = cells;
        let text = format!("{id:<10}  {state:<7}  {created:<20}  {expires:<20}  {app:<16}  {label}");
        writeln!(out, "{}", text.trim_end())
    };
    line(out, ["ID", "STATE", "CREATED", "EXPIRES", "APP", "LABEL"])?;
    for row in &rows {
        let expires = row.expires.as_deref().unwrap_or("never");
        line(out, [&row.id, row.state, &row.created, expires, &row.app, row.label.as_deref().unwrap_or_default()])?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Row {
    id: String,
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

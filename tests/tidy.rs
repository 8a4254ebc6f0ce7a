//! House rules on the source text: ranks, framework homes, headers, file length, and what is never written.
//!
//! Each failure names file, line, rule and the mend.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// A room may import only rooms of a smaller rank (ARCHITECTURE.md).
const RANKS: [(&str, u8); 21] = [
    ("domain", 0),
    ("wire", 1),
    ("store", 1),
    ("telemetry", 1),
    ("identity", 2),
    ("sim", 2),
    ("policy", 3),
    ("catalog", 4),
    ("cache", 5),
    ("scheduler", 6),
    ("upstream", 7),
    ("lab", 8),
    ("ledger", 8),
    ("gateway", 9),
    ("rollout", 9),
    ("admin", 10),
    ("http", 11),
    ("config", 12),
    ("app", 13),
    ("cli", 14),
    ("main", 15),
];

/// Equal or smaller ranks that may still not be imported: the two planes stay apart.
const FORBIDDEN: [(&str, &str); 1] = [("admin", "gateway")];

/// A framework and the rooms it may appear in.
const HOMES: [(&str, &[&str]); 15] = [
    ("axum", &["http", "admin"]),
    ("hyper", &["http", "sim"]),
    ("hyper_util", &["http", "sim"]),
    ("reqwest", &["upstream"]),
    ("rustls", &["upstream", "http"]),
    ("tokio_rustls", &["http"]),
    ("aws_lc_rs", &["identity", "upstream", "http"]),
    ("x509_parser", &["http"]),
    ("nvml_wrapper", &["upstream"]),
    ("governor", &["policy"]),
    ("rusqlite", &["store"]),
    ("notify", &["config"]),
    ("clap", &["cli"]),
    ("prometheus_client", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// Rooms and files that are pure: no tokio, no logs, no clock.
const PURE: [&str; 6] =
    ["src/wire/", "src/scheduler/core/", "src/policy/rules", "src/sim/core/", "src/domain/", "src/lab/"];

/// Text that is never written, where it may be written after all, and what to write instead.
const NEVER: [(&str, &[&str], &str); 7] = [
    ("use crate::*", &[], "name what you use"),
    ("Instant::now()", &["src/domain/clock.rs"], "take a Moment, or read domain::Clock"),
    ("SystemTime::now()", &["src/domain/clock.rs"], "take a Moment, or read domain::Clock"),
    ("thread::sleep", &[], "wait for an event"),
    ("std::env::var", &["src/config/sources.rs"], "read it through the function that config takes"),
    ("process::exit", &["src/main.rs"], "return an exit code"),
    ("unbounded_channel", &[], "bound it"),
];

/// Exceptions: file, rule, reason. Meant to stay empty.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

const LONGEST_FILE: usize = 500;

struct Source {
    path: String,
    room: String,
    text: String,
}

impl Source {
    /// The lines before the inline test module, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let in_tests = self.path.ends_with("tests.rs") || self.path.contains("/tests/");
        let end = if in_tests { 0 } else { usize::MAX };
        self.text.lines().take_while(|line| *line != "#[cfg(test)]").enumerate().take(end).map(|(n, l)| (n + 1, l))
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join(folder), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let path = file.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            let room = path.trim_start_matches("src/").split('/').next().unwrap().trim_end_matches(".rs").to_owned();
            Source { room, text: fs::read_to_string(&file).unwrap(), path }
        })
        .collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

fn rank(room: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank)
}

fn excused(path: &str, rule: &str) -> bool {
    EXCEPTIONS.iter().any(|(file, what, _)| *file == path && *what == rule)
}

/// Fails with every breach at once.
fn check(rule: &str, breaches: Vec<(String, String)>) {
    let left: Vec<_> =
        breaches.into_iter().filter(|(path, _)| !excused(path.split(':').next().unwrap(), rule)).collect();
    let list: Vec<String> = left.iter().map(|(place, mend)| format!("{place}: {rule}: {mend}")).collect();
    assert!(list.is_empty(), "\n{}\n", list.join("\n"));
}

/// `crate::room` paths on a line of code.
fn imports(line: &str) -> Vec<String> {
    if line.trim_start().starts_with("//") {
        return Vec::new();
    }
    let word = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    line.match_indices("crate::").map(|(at, found)| word(&line[at + found.len()..])).filter(|w| !w.is_empty()).collect()
}

#[test]
fn rooms_import_only_smaller_ranks() {
    let mut breaches = Vec::new();
    for source in sources("src").iter().filter(|source| source.room != "lib") {
        let own = rank(&source.room).unwrap_or_else(|| panic!("{}: give room {} a rank", source.path, source.room));
        for (number, line) in source.lines() {
            for target in imports(line).into_iter().filter(|target| *target != source.room) {
                let Some(other) = rank(&target) else { continue };
                let apart = FORBIDDEN.contains(&(source.room.as_str(), target.as_str()));
                if other >= own || apart {
                    let mend = format!("{} ({own}) may not import {target} ({other})", source.room);
                    breaches.push((format!("{}:{number}", source.path), mend));
                }
            }
        }
    }
    check("ranks", breaches);
}

#[test]
fn frameworks_stay_in_their_rooms() {
    let mut breaches = Vec::new();
    for source in sources("src") {
        for (number, line) in source.lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for (framework, homes) in HOMES {
                let used = line.contains(&format!("{framework}::")) || line.contains(&format!("use {framework};"));
                if used && !homes.contains(&source.room.as_str()) {
                    breaches.push((format!("{}:{number}", source.path), format!("{framework} lives in {homes:?}")));
                }
            }
        }
    }
    check("framework homes", breaches);
}

#[test]
fn pure_code_knows_no_runtime() {
    let mut breaches = Vec::new();
    for source in sources("src").iter().filter(|s| PURE.iter().any(|pure| s.path.starts_with(pure))) {
        for (number, line) in source.lines() {
            for runtime in ["tokio::", "tracing::"] {
                if line.contains(runtime) && !line.trim_start().starts_with("//") {
                    breaches.push((format!("{}:{number}", source.path), format!("no {runtime} in a pure core")));
                }
            }
        }
    }
    check("pure cores", breaches);
}

#[test]
fn every_file_says_what_it_is() {
    let breaches = ["src", "tests", "benches"].iter().flat_map(|folder| sources(folder)).filter_map(|source| {
        let missing = !source.text.starts_with("//!");
        missing.then(|| (source.path, "start with a `//!` header: what it owns, and what it does not".to_owned()))
    });
    check("headers", breaches.collect());
}

#[test]
fn files_stay_short() {
    let breaches = sources("src").into_iter().filter(|source| !source.is_test()).filter_map(|source| {
        let lines = source.lines().count();
        (lines > LONGEST_FILE).then(|| (source.path, format!("{lines} lines; split it below {LONGEST_FILE}")))
    });
    check("file length", breaches.collect());
}

#[test]
fn what_is_never_written_is_not_written() {
    let mut breaches = Vec::new();
    for source in sources("src") {
        for (number, line) in source.lines().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for (text, homes, mend) in NEVER {
                if line.contains(text) && !homes.iter().any(|home| source.path.starts_with(home)) {
                    breaches.push((format!("{}:{number}", source.path), format!("`{text}`: {mend}")));
                }
            }
        }
    }
    check("never written", breaches);
}

#[test]
fn tests_do_not_sleep() {
    let mut breaches = Vec::new();
    for source in sources("tests").iter().chain(&sources("src")).filter(|s| s.path != "tests/tidy.rs") {
        let test_text = source.path.starts_with("tests/") || source.is_test();
        let start = if test_text { 0 } else { source.lines().count() };
        for (number, line) in source.text.lines().enumerate().skip(start) {
            if line.contains("sleep(") && !line.trim_start().starts_with("//") {
                breaches
                    .push((format!("{}:{}", source.path, number + 1), "wait for an event, with a limit".to_owned()));
            }
        }
    }
    check("no sleeping in tests", breaches);
}

//! The real program as a process: its log, its signals, its commands beside a running gateway.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gaucho::sim::{self, Sim};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::support::raw::{self, Exchange, Raw};
use crate::tls::{DAY, issue_until};

/// A `gaucho serve` with a folder and an upstream of its own.
struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    addr: String,
    admin: String,
}

async fn upstream(speed: f64) -> Sim {
    let settings = sim::Settings { models: sim::recorded_models(), speed, ..sim::Settings::default() };
    Sim::start(settings).await.unwrap()
}

fn gaucho(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaucho"));
    command.current_dir(folder).env("GAUCHO_STATE", folder.join("state")).kill_on_drop(true);
    command
}

fn start(folder: &Path, sim: &Sim, more: &[&str]) -> Process {
    let args = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ollama", &sim.url()];
    let mut child = gaucho(folder).args(args).args(more).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap()).lines();
    Process { child, log, addr: String::new(), admin: String::new() }
}

impl Process {
    /// Reads the log up to a line whose message has this text; gives the line.
    async fn until(&mut self, text: &str) -> Value {
        let wait = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "message": line }));
                let found = line["message"].as_str().is_some_and(|message| message.contains(text));
                if let (Some(addr), Some(admin)) = (line["applications"].as_str(), line["admin"].as_str()) {
                    (self.addr, self.admin) = (addr.to_owned(), admin.to_owned());
                }
                if found {
                    return line;
                }
            }
            panic!("the log ended without {text:?}");
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("no line with {text:?}"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()), signal).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await.expect("it does not stop").unwrap()
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Exchange {
        let body = body.map(Value::to_string);
        raw::send(self.addr.parse().unwrap(), method, path, &[], body.as_deref()).await
    }

    async fn get(&self, path: &str) -> Raw {
        self.send("GET", path, None).await.read().await
    }

    /// A stream that has begun.
    async fn stream(&self, tokens: u32) -> (Exchange, Raw) {
        let body = json!({ "model": "gemma:a", "prompt": "x", "options": { "num_predict": tokens } });
        let mut exchange = self.send("POST", "/api/generate", Some(&body)).await;
        let mut head = exchange.read_head().await;
        assert!(exchange.chunk(&mut head).await.is_some());
        (exchange, head)
    }
}

/// Reads an answer to its end.
async fn last_chunk(exchange: &mut Exchange, head: &mut Raw) -> String {
    let mut last = String::new();
    while let Some(chunk) = exchange.chunk(head).await {
        last = chunk;
    }
    last
}

#[tokio::test]
async fn a_signal_lets_the_running_stream_finish_and_a_second_one_cuts_it() {
    let folder = TempDir::new().unwrap();
    let sim = upstream(4.0).await;
    let mut process = start(folder.path(), &sim, &[]);
    process.until("serving").await;
    let (mut exchange, mut head) = process.stream(40).await;
    process.signal(Signal::SIGTERM);
    process.until("shutting down").await;
    let last = last_chunk(&mut exchange, &mut head).await;
    assert!(!head.cut && last.contains("\"done\":true"), "{last}");
    assert_eq!(process.ended().await.code(), Some(0));

    let sim = upstream(0.2).await;
    let mut process = start(folder.path(), &sim, &[]);
    process.until("serving").await;
    let (mut exchange, mut head) = process.stream(4000).await;
    process.signal(Signal::SIGINT);
    process.until("shutting down").await;
    process.signal(Signal::SIGTERM);
    let line = process.until("these requests were cut").await;
    assert_eq!((&line["running"], &line["waiting"]), (&json!(1), &json!(0)), "{line}");
    let last = last_chunk(&mut exchange, &mut head).await;
    assert!(last.contains("the gateway was stopped"), "a stream that was cut does not look whole: {last}");
    assert_eq!(process.ended().await.code(), Some(1));
}

#[tokio::test]
async fn a_hangup_ends_neither_who_serves_nor_who_stands_by_nor_a_drain() {
    let folder = TempDir::new().unwrap();
    let sim = upstream(4.0).await;
    let mut process = start(folder.path(), &sim, &[]);
    process.until("serving").await;
    let mut standby = start(folder.path(), &sim, &[]);
    standby.until("standing by").await;
    let (mut exchange, mut head) = process.stream(40).await;
    for process in [&mut process, &mut standby] {
        process.signal(Signal::SIGHUP);
        let line = process.until("policy files are read live").await;
        assert!(line["level"] == "INFO" && line["message"].as_str().unwrap().contains("need a restart"), "{line}");
    }
    process.signal(Signal::SIGTERM);
    process.until("shutting down").await;
    process.signal(Signal::SIGHUP);
    process.until("policy files are read live").await;
    let last = last_chunk(&mut exchange, &mut head).await;
    assert!(!head.cut && last.contains("\"done\":true"), "{last}");
    assert_eq!(process.ended().await.code(), Some(0));
    standby.until("serving").await;
    standby.signal(Signal::SIGTERM);
    assert_eq!(standby.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_by_its_own_limit() {
    let folder = TempDir::new().unwrap();
    let sim = upstream(0.2).await;
    let mut process = start(folder.path(), &sim, &["--drain", "1s"]);
    process.until("serving").await;
    let (_exchange, _head) = process.stream(4000).await;
    process.signal(Signal::SIGTERM);
    process.until("these requests were cut").await;
    assert_eq!(process.ended().await.code(), Some(1));
}

#[tokio::test]
async fn a_bad_edit_is_logged_with_its_place_and_a_good_one_is_taken() {
    let folder = TempDir::new().unwrap();
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    let sim = upstream(50.0).await;
    let mut process = start(folder.path(), &sim, &[]);
    process.until("serving").await;
    std::fs::write(policies.join("default.toml"), "\nwieght = 2\n").unwrap();
    let line = process.until("a mistake in the policies").await;
    let problem = line["problem"].as_str().unwrap();
    assert!(problem.contains("default.toml:2:1") && problem.contains("wieght"), "{problem}");
    process.until("not taken").await;
    assert_eq!(process.get("/api/tags").await.status, 200, "the policies in force stay");
    std::fs::write(policies.join("default.toml"), "models = [\"gemma:b\"]\n").unwrap();
    process.until("are in force").await;
    let tags = process.get("/api/tags").await.body();
    assert!(tags.contains("gemma:b") && !tags.contains("gemma:a"), "{tags}");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn changes_that_are_not_taken_are_told() {
    let folder = TempDir::new().unwrap();
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("chat.TOML"), "weight = 2\n").unwrap();
    std::fs::write(folder.path().join("gaucho.toml"), "num_parallel = 1\n").unwrap();
    let sim = upstream(50.0).await;
    let mut process = start(folder.path(), &sim, &[]);
    let line = process.until("is not read").await;
    assert!(line["file"].as_str().unwrap().ends_with("chat.TOML") && line["level"] == "WARN", "{line}");
    process.until("serving").await;
    std::fs::write(policies.join("shop.yaml"), "weight: 2\n").unwrap();
    let mut line = process.until("is not read").await;
    while !line["file"].as_str().unwrap().ends_with("shop.yaml") {
        line = process.until("is not read").await;
    }
    std::fs::write(folder.path().join("gaucho.toml"), "num_parallel = 2\n").unwrap();
    let line = process.until("the settings file changed").await;
    assert!(line["message"].as_str().unwrap().contains("restart (a standby takes over) to use it"), "{line}");
    assert_eq!((&line["file"], &line["level"]), (&json!("gaucho.toml"), &json!("WARN")), "{line}");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_at_the_start_at_a_reload_by_a_gauge_and_by_check() {
    let folder = TempDir::new().unwrap();
    let sim = upstream(50.0).await;
    let (over, soon, late) = (SystemTime::now() - DAY, SystemTime::now() + 3 * DAY, SystemTime::now() + 90 * DAY);
    issue_until(folder.path(), over);
    let tls = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let mut process = start(folder.path(), &sim, &tls);
    // whoever watches the certificate and whoever serves begin at the same time
    let (mut concern, mut serving) = (None, false);
    while concern.is_none() || !serving {
        let line = process.until("").await;
        let message = line["message"].as_str().unwrap();
        serving |= message.contains("serving");
        if message.contains("clients refuse the certificate") {
            concern = Some(line);
        }
    }
    let line = concern.unwrap();
    assert!(line["why"].as_str().unwrap().contains("cert.pem: it ended on ") && line["level"] == "WARN", "{line}");
    let admin = process.admin.parse().unwrap();
    let shown = async |end: SystemTime| {
        let end = end.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let line = format!("\ngaucho_tls_not_after_timestamp_seconds {end}\n");
        let metrics = async || raw::send(admin, "GET", "/metrics", &[], None).await.read().await.body();
        let told = async { while !metrics().await.contains(&line) {} };
        assert!(tokio::time::timeout(Duration::from_secs(20), told).await.is_ok(), "never {line}");
    };
    shown(over).await;
    issue_until(folder.path(), soon);
    let line = process.until("clients refuse the certificate").await;
    assert!(line["why"].as_str().unwrap().contains("cert.pem: it ends on "), "{line}");
    shown(soon).await;
    std::fs::write(folder.path().join("tls.toml"), "[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n").unwrap();
    let check = async || {
        let args = ["check", "--config", "tls.toml"];
        let done = gaucho(folder.path()).args(args).output().await.unwrap();
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = check().await;
    assert!(code == 0 && said.contains("warning: ") && said.contains("cert.pem: it ends on "), "{code}: {said}");
    issue_until(folder.path(), late);
    process.until("a new certificate is in use").await;
    shown(late).await;
    assert_eq!(check().await, (0, String::new()));
    process.signal(Signal::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    while let Some(line) = process.log.next_line().await.unwrap() {
        assert!(!line.contains("clients refuse"), "a good one is no concern: {line}");
    }
}

#[tokio::test]
async fn lines_that_nobody_reads_any_more_are_counted() {
    let folder = TempDir::new().unwrap();
    let sim = upstream(50.0).await;
    let mut process = start(folder.path(), &sim, &[]);
    process.until("serving").await;
    let (addr, admin) = (process.addr.clone(), process.admin.parse().unwrap());
    drop(process.log);
    let lost = async {
        loop {
            let asked = raw::send(addr.parse().unwrap(), "GET", "/api/tags", &[], None).await.read().await;
            assert_eq!(asked.status, 200, "it serves on");
            let metrics = raw::send(admin, "GET", "/metrics", &[], None).await.read().await.body();
            if !metrics.contains("gaucho_telemetry_log_lines_dropped_total 0") {
                return metrics;
            }
        }
    };
    let metrics = tokio::time::timeout(Duration::from_secs(20), lost).await.expect("lost lines are not counted");
    assert!(metrics.contains("gaucho_telemetry_log_lines_dropped_total "), "{metrics}");
    process.child.kill().await.unwrap();
}

#[tokio::test]
async fn probes_and_scrapes_have_lines_where_the_filter_asks_for_them() {
    let folder = TempDir::new().unwrap();
    let sim = upstream(50.0).await;
    let mut process = start(folder.path(), &sim, &["--log", "info,gaucho::request=debug"]);
    process.until("serving").await;
    let (applications, admin) = (process.addr.clone(), process.admin.clone());
    for (listener, addr, path) in [
        ("applications", &applications, "/healthz"),
        ("admin", &admin, "/readyz"),
        ("admin", &admin, "/metrics"),
        ("admin", &admin, "/v1/queue"),
        ("admin", &admin, "/v1/fleet"),
    ] {
        raw::send(addr.parse().unwrap(), "GET", path, &[], None).await.read().await;
        let line = process.until("request").await;
        assert_eq!((&line["listener"], &line["path"]), (&json!(listener), &json!(path)), "{line}");
        assert_eq!(line["level"], "DEBUG", "{line}");
    }
    process.signal(Signal::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked_beside_a_running_gateway() {
    let folder = TempDir::new().unwrap();
    let sim = upstream(50.0).await;
    let mut process = start(folder.path(), &sim, &[]);
    process.until("serving").await;
    let key = async |args: &[&str]| {
        let done = gaucho(folder.path()).arg("key").args(args).output().await.unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let made = key(&["create", "shop", "--label", "the shop"]).await;
    let text = made.trim_end();
    assert!(!text.contains(char::is_whitespace), "the key alone, for scripts: {made:?}");
    let path = format!("/k/{text}/api/tags");
    let until = async |path: &str, status: u16| {
        let wait = async { while process.get(path).await.status != status {} };
        assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "never {status}");
    };
    // the first key shuts the door
    until("/api/tags", 403).await;
    assert_eq!(process.get(&path).await.status, 200);
    let listed = key(&["list"]).await;
    let id = text.split('_').nth(1).unwrap();
    assert!(listed.contains(id) && listed.contains("the shop") && !listed.contains(text), "{listed}");
    key(&["revoke", id]).await;
    until(&path, 403).await;
    process.signal(Signal::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    let rest = async {
        let mut rest = String::new();
        while let Some(line) = process.log.next_line().await.unwrap() {
            rest.push_str(&line);
        }
        rest
    };
    assert!(!rest.await.contains(text), "the key is in the log");
}

#[tokio::test]
async fn a_process_on_the_same_addresses_stands_by_and_takes_over() {
    let folder = TempDir::new().unwrap();
    let sim = upstream(50.0).await;
    let mut first = start(folder.path(), &sim, &[]);
    first.until("serving").await;
    let (addr, admin) = (first.addr.clone(), first.admin.clone());
    let same = ["--listen", addr.as_str(), "--admin-listen", admin.as_str(), "--ollama"];
    let url = sim.url();
    let mut child = gaucho(folder.path()).arg("serve").args(same).arg(&url).stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut second = Process { child, log, addr: addr.clone(), admin };
    let line = second.until("standing by").await;
    assert!(line["why"].as_str().unwrap().contains(&format!("process {}", first.child.id().unwrap())), "{line}");
    assert_eq!(first.get("/api/tags").await.status, 200, "the first one serves on");
    first.signal(Signal::SIGTERM);
    assert_eq!(first.ended().await.code(), Some(0));
    second.until("serving").await;
    assert_eq!(second.addr, addr, "on the very same address");
    let wait = async { while second.get("/api/tags").await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it does not serve");
    second.signal(Signal::SIGTERM);
    assert_eq!(second.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_start_that_cannot_be_says_why_and_leaves_with_one() {
    let folder = TempDir::new().unwrap();
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("shop.toml"), "weight = -1\nmodles = []\n").unwrap();
    let run = async |args: &[&str]| {
        let mut command = gaucho(folder.path());
        let common = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        command.args(common).args(args);
        let done = tokio::time::timeout(Duration::from_secs(20), command.output()).await.unwrap().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, text) = run(&[]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("shop.toml:1:") && text.contains("shop.toml:2:"), "every mistake at once: {text}");
    std::fs::remove_file(policies.join("shop.toml")).unwrap();
    let (code, text) = run(&["--ollama", "not a url", "--drain", "soon"]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("--ollama") && text.contains("--drain"), "every mistake at once: {text}");
}

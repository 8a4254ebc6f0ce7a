//! What operators do: edit policies, stop, stand by, probe.

use std::process::Stdio;
use std::time::Duration;

use gaucho::app::{Cut, Gaucho, Telemetry};
use gaucho::domain::Clock;
use gaucho::sim::Fault;
use gaucho::telemetry::{LogLines, Registry};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::support::dialect::{self, TEXT, broken_stream, request};
use crate::support::gateway::{House, Log, Plan, read_log};
use crate::support::raw;

fn short() -> serde_json::Value {
    json!({ "model": "gemma:a", "prompt": "x", "stream": false, "options": { "num_predict": 2 } })
}

async fn get(addr: std::net::SocketAddr, path: &str) -> raw::Raw {
    raw::send(addr, "GET", path, &[], None).await.read().await
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !done().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "never happened: {what}");
}

/// Replaces a policy file as editors do: a new file, renamed over the old one.
fn edit(house: &House, file: &str, text: &str) {
    let folder = house.dir.path().join("policies");
    std::fs::write(folder.join(".new"), text).unwrap();
    std::fs::rename(folder.join(".new"), folder.join(file)).unwrap();
}

#[tokio::test]
async fn a_good_edit_takes_effect_and_a_bad_one_changes_nothing() {
    let house = Plan::new().app("shop").policy("shop.toml", "models = [\"gemma:a\"]\n").build().await;
    assert_eq!(house.post("shop", "/api/generate", &short()).await.status, 200);
    edit(&house, "shop.toml", "models = [\"gemma:b\"]\n");
    until("the edit holds", async || house.post("shop", "/api/generate", &short()).await.status == 403).await;
    assert_eq!(house.metric("gaucho_policy_reloads_total{result=\"taken\"} ").await, 1.0);
    edit(&house, "shop.toml", "modles = [\"gemma:a\"]\n");
    house.until_metric("gaucho_policy_reloads_total{result=\"rejected\"} ", 1.0).await;
    assert_eq!(house.post("shop", "/api/generate", &short()).await.status, 403, "the policies in force stay");
    assert_eq!(get(house.addr, "/readyz").await.status, 200);
    edit(&house, "shop.toml", "models = [\"gemma:a\"]\n");
    until("the mended edit holds", async || house.post("shop", "/api/generate", &short()).await.status == 200).await;
    house.close().await;
}

#[tokio::test]
async fn both_listeners_tell_alive_and_ready_and_metrics_are_the_operators_alone() {
    let house = Plan::new().app("shop").build().await;
    for addr in [house.addr, house.admin] {
        assert_eq!(get(addr, "/healthz").await.status, 200);
        assert_eq!(get(addr, "/readyz").await.status, 200);
    }
    assert_eq!(get(house.addr, "/metrics").await.status, 404);
    assert_eq!(house.post("shop", "/api/generate", &short()).await.status, 200);
    assert_eq!(house.post("", "/api/generate", &short()).await.status, 403);
    house.until_metric("gaucho_gateway_refused_total{app=\"unknown\",reason=\"unauthenticated\"} ", 1.0).await;
    let metrics = house.metrics().await;
    for family in [
        "gaucho_gateway_requests",
        "gaucho_gateway_refused",
        "gaucho_gateway_ttft_seconds",
        "gaucho_gateway_generation_tokens_per_second",
        "gaucho_scheduler_queue_depth",
        "gaucho_scheduler_queue_wait_seconds",
        "gaucho_scheduler_slots",
        "gaucho_scheduler_slots_used",
        "gaucho_upstream_loads",
        "gaucho_policy_reloads",
    ] {
        assert!(metrics.contains(&format!("# TYPE {family} ")), "{family} is not there");
    }
    house.close().await;
}

#[tokio::test]
async fn metrics_ask_for_the_token_where_one_is_set() {
    let token = Some(gaucho::config::Secret("open sesame".into()));
    let house = Plan::new().settings(move |settings| settings.admin_token = token).build().await;
    assert_eq!(get(house.admin, "/metrics").await.status, 401);
    assert_eq!(get(house.admin, "/readyz").await.status, 200, "the probes stay open");
    let headers = [("Authorization".to_owned(), "Bearer open sesame".to_owned())];
    assert_eq!(raw::send(house.admin, "GET", "/metrics", &headers, None).await.read().await.status, 200);
}

/// A house with one answer running and one waiting behind it.
async fn busy(speed: f64) -> (House, raw::Exchange, raw::Raw, raw::Exchange) {
    let house = Plan::new().app("shop").sim(|sim| sim.speed = speed).build().await;
    let body = json!({ "model": "gemma:a", "prompt": "x", "options": { "num_predict": 60 } }).to_string();
    let mut running = house.send("shop", "POST", "/api/generate", Some(&body)).await;
    let mut head = running.read_head().await;
    assert!(running.chunk(&mut head).await.is_some());
    let waiting = house.send("shop", "POST", "/api/generate", Some(&short().to_string())).await;
    house.until_queued(1).await;
    (house, running, head, waiting)
}

#[tokio::test]
async fn a_shutdown_finishes_what_runs_and_what_waits() {
    let (house, mut running, mut head, waiting) = busy(3.0).await;
    let House { gaucho, sim, addr, .. } = house;
    let drained = tokio::spawn(gaucho.drain(Duration::from_secs(30), std::future::pending()));
    until("the door is shut", async || tokio::net::TcpStream::connect(addr).await.is_err()).await;
    while let Some(chunk) = running.chunk(&mut head).await {
        head.frames.push(chunk);
    }
    assert!(head.body().contains("\"done\":true"), "{head:?}");
    assert_eq!(waiting.read().await.status, 200);
    assert_eq!(drained.await.unwrap(), Cut::default());
    assert_eq!(sim.tally().in_flight, 0);
}

#[tokio::test]
async fn who_comes_during_a_shutdown_is_told_to_come_again() {
    let house = Plan::new().app("shop").build().await;
    assert_eq!(house.post("shop", "/api/generate", &short()).await.status, 200);
    // requests whose bodies are still on their way when the door closes
    let mut late = Vec::new();
    for path in crate::support::dialect::ALL {
        let model = if path.contains("embed") { "tinybert" } else { "gemma:a" };
        let body = crate::support::dialect::request(path, model, true).to_string();
        let mut exchange = raw::open(house.addr).await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {}\r\n", house.key("shop"));
        exchange
            .write(format!("{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())
            .await;
        assert_eq!(exchange.read_head().await.status, 100, "{path}: the gateway reads its body now");
        late.push((path, exchange, body));
    }
    let House { gaucho, sim, addr, admin, .. } = house;
    let drained = tokio::spawn(gaucho.drain(Duration::from_secs(30), std::future::pending()));
    until("the door is shut", async || tokio::net::TcpStream::connect(addr).await.is_err()).await;
    let ready = get(admin, "/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body().contains("draining"), "{ready:?}");
    assert_eq!(get(admin, "/healthz").await.status, 200, "alive to the very end");
    for (path, mut exchange, body) in late {
        exchange.write(body.as_bytes()).await;
        let refused = exchange.reply().await;
        assert!(crate::support::dialect::refusal(path, 503, &refused).contains("shutting down"), "{path}");
        assert_eq!(refused.header("retry-after"), Some("2"), "{path}");
    }
    assert_eq!(drained.await.unwrap(), Cut::default());
    sim.shutdown().await;
}

#[tokio::test]
async fn a_second_signal_cuts_and_tells_callers_and_operators_what_it_cut() {
    let slots = u32::try_from(TEXT.len()).unwrap();
    let house = House::with_gemma(Plan::new().slots(slots)).await;
    let mut running = Vec::new();
    for path in TEXT {
        house.sim.inject(Fault::Stall { after: 1 });
        let mut exchange = house.send("shop", "POST", path, Some(&request(path, "gemma:a", true).to_string())).await;
        let mut head = exchange.read_head().await;
        let first = exchange.chunk(&mut head).await;
        head.frames.extend(first);
        running.push((path, head, exchange));
    }
    let waiting = house.send("shop", "POST", "/api/generate", Some(&short().to_string())).await;
    house.until_queued(1).await;
    let (cut, log) = house.cut().await;
    assert_eq!(cut, Cut { running: TEXT.len(), waiting: 1 });
    for (path, mut head, mut exchange) in running {
        while let Some(chunk) = exchange.chunk(&mut head).await {
            head.frames.push(chunk);
        }
        assert!(broken_stream(path, &head).contains("the gateway was stopped"), "{path}: {head:?}");
        let line = log.iter().find(|line| line["route"] == path && line["stream"] == true).unwrap();
        assert_eq!((&line["outcome"], &line["level"]), (&json!("gateway_stopped"), &json!("WARN")), "{line}");
        assert!(line["generation_ms"].as_f64() > Some(0.0) && line["output_tokens"].as_u64() > Some(0), "{line}");
    }
    assert_eq!(waiting.read().await.status, 503);
}

#[tokio::test]
async fn a_second_gateway_on_the_same_state_stands_by_and_takes_over() {
    let house = Plan::new().app("shop").build().await;
    let registry = Registry::new();
    let log = Log::default();
    let lines = LogLines::start(log.clone(), &registry).unwrap();
    let telemetry = Telemetry { lines: lines.clone(), registry, log_requests: true, log_probes: false };
    let mut second = Gaucho::new(house.settings.clone(), telemetry, Clock::real());
    let addresses = second.open().await.unwrap();
    let key = house.key("shop").to_owned();
    let takes_over = tokio::spawn(async move {
        second.serve().await.unwrap();
        second
    });
    until("it says why it is not ready", async || {
        let ready = get(addresses.admin, "/readyz").await;
        ready.status == 503 && ready.body().contains("standby") && ready.body().contains("process")
    })
    .await;
    let path = format!("/k/{key}/api/tags");
    let refused = get(addresses.applications, &path).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")));
    for route in dialect::ALL.into_iter().chain(["/api/show", "/v1/audio/transcriptions"]) {
        let body = dialect::request(route, "gemma:a", true).to_string();
        let refused = raw::send(addresses.applications, "POST", route, &[], Some(&body)).await.read().await;
        let text = dialect::refusal(route, 503, &refused);
        assert!(text.contains("a standby") && text.contains("try again"), "{route}: {text}");
        assert_eq!(refused.header("retry-after"), Some("2"), "{route}: {refused:?}");
        let id = refused.header("x-request-id").unwrap();
        assert!(id.starts_with("req_"), "{route}: {id}");
        let named = route == "/v1/messages";
        assert_eq!(refused.body().contains(id), named, "{route}: {refused:?}");
        let told = |line: &Value| line["reason"].as_str().is_some_and(|why| why.contains(id));
        let line = read_log(&log, &lines).into_iter().find(told);
        assert_eq!(line.map(|line| line["status"].clone()), Some(json!(503)), "{route}");
    }
    let House { gaucho, sim, .. } = house;
    gaucho.drain(Duration::from_secs(5), std::future::pending()).await;
    let second = tokio::time::timeout(Duration::from_secs(10), takes_over).await.unwrap().unwrap();
    until("it serves", async || get(addresses.applications, &path).await.status == 200).await;
    second.drain(Duration::from_secs(5), std::future::pending()).await;
    sim.shutdown().await;
}

#[tokio::test]
async fn the_process_starts_tells_its_addresses_and_stops_cleanly_on_a_signal() {
    let house = Plan::new().build().await;
    let folder = tempfile::TempDir::new().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gaucho"))
        .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ollama", &house.sim.url()])
        .current_dir(folder.path())
        .env("GAUCHO_STATE", folder.path().join("state"))
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut admin = String::new();
    while let Some(line) = log.next_line().await.unwrap() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let Some(address) = line["admin"].as_str() {
            address.clone_into(&mut admin);
        }
        if line["message"] == "serving" {
            break;
        }
    }
    let health = |ready: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gaucho"));
        command.args(["health", "--admin-listen", &admin]).current_dir(folder.path()).stderr(Stdio::null());
        if ready {
            command.arg("--ready");
        }
        command.stdout(Stdio::null());
        command
    };
    assert!(health(false).status().await.unwrap().success());
    until("it is ready", async || health(true).status().await.unwrap().success()).await;
    let id = i32::try_from(child.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended:?}");
    assert!(!health(false).status().await.unwrap().success());
    house.close().await;
}

#[tokio::test]
async fn check_lists_every_mistake_and_the_exit_code_tells() {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("a.toml"), "wieght = 2\nclass = \"urgent\"\n").unwrap();
    std::fs::write(folder.path().join("b.toml"), "max_queued = -1\n").unwrap();
    let check = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gaucho"));
        command.arg("check").arg("--policies").arg(folder.path()).output().await.unwrap()
    };
    let bad = check().await;
    assert_eq!(bad.status.code(), Some(1));
    let text = String::from_utf8(bad.stderr).unwrap();
    for place in ["a.toml:1:1: wieght", "a.toml:2:9: class", "b.toml:1:14: max_queued"] {
        assert!(text.contains(place), "{place} is not in\n{text}");
    }
    std::fs::write(folder.path().join("a.toml"), "weight = 2\n").unwrap();
    std::fs::write(folder.path().join("b.toml"), "max_queued = 1\n").unwrap();
    assert_eq!(check().await.status.code(), Some(0));
}

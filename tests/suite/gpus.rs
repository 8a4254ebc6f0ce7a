//! The GPUs of this machine, seen through a stand-in for NVIDIA's library that vanishes, loses GPUs and lacks symbols.

use std::process::Stdio;
use std::time::Duration;

use gaucho::config::Settings;
use gaucho::domain::{Clock, GpuName, Moment};
use gaucho::upstream::{GpuProbe, Gpus};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::support::gateway::Plan;
use crate::support::nvml::{LOST, NOT_SUPPORTED, Nvml};

const GB: u64 = 1 << 30;

fn at(seconds: u64) -> Moment {
    Moment::from_start(Duration::from_secs(seconds))
}

#[test]
fn two_gpus_are_seen_as_they_change() {
    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &[]);
    nvml.show(&[(24 * GB, 20 * GB, 50, 61, 0), (80 * GB, 80 * GB, 0, 33, 0)]);
    let mut probe = GpuProbe::new(&nvml.library);
    let view = probe.look(at(1));
    assert_eq!((view.gpus.len(), view.faults.len()), (2, 0), "{view:?}");
    let first = &view.gpus[0];
    assert_eq!((first.total, first.free, first.used, first.index), (24 * GB, 20 * GB, 4 * GB, 0));
    assert_eq!((first.utilisation, first.temperature, first.asked), (Some(0.5), Some(61), at(1)));
    let by_uuid = GpuName::from_uuid("GPU-00000001-0000-0000-0000-000000000000").unwrap();
    assert_eq!(view.named(&by_uuid).map(|gpu| gpu.index), Some(1));
    assert_eq!(view.named(&GpuName::Index(2)), None);
    nvml.show(&[(24 * GB, 3 * GB, 50, 61, 0), (80 * GB, 80 * GB, 0, 33, 0)]);
    assert_eq!(probe.look(at(2)).gpus[0].free, 3 * GB);
}

#[test]
fn a_lost_gpu_is_its_own_fault_and_comes_back() {
    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &[]);
    let whole = [(24 * GB, 20 * GB, 0, 40, 0), (80 * GB, 80 * GB, 0, 33, 0)];
    nvml.show(&whole);
    let mut probe = GpuProbe::new(&nvml.library);
    assert_eq!(probe.look(at(1)).gpus.len(), 2);
    nvml.show(&[(24 * GB, 20 * GB, 0, 40, LOST), whole[1]]);
    for second in 2..100 {
        let view = probe.look(at(second));
        assert_eq!(view.gpus.len(), 1, "the other one stays");
        assert_eq!(view.gpus[0].index, 1);
        assert!(view.faults[0].starts_with("GPU 0: "), "{view:?}");
    }
    nvml.show(&whole);
    let view = probe.look(at(100));
    assert_eq!((view.gpus.len(), view.faults.len()), (2, 0), "{view:?}");
}

#[test]
fn a_driver_that_vanishes_is_tried_again_less_and_less_often() {
    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &[]);
    nvml.show(&[(GB, GB, 0, 40, 0)]);
    let mut probe = GpuProbe::new(&nvml.library);
    assert_eq!(probe.look(at(1)).gpus.len(), 1);
    nvml.vanish();
    let mut why = String::new();
    for second in 2..40 {
        let view = probe.look(at(second));
        assert!(view.gpus.is_empty());
        why.clone_from(&view.faults[0]);
    }
    assert!(why.contains("driver is not loaded"), "{why}");
    nvml.show(&[(GB, GB, 0, 40, 0)]);
    let back = (40..200).find(|second| !probe.look(at(*second)).gpus.is_empty());
    let back = back.expect("it is seen again");
    assert!((41..=100).contains(&back), "not at once, and within the longest rest: {back}");
    // a rest begins anew after it was well
    nvml.vanish();
    assert!(probe.look(at(back + 1)).gpus.is_empty());
    nvml.show(&[(GB, GB, 0, 40, 0)]);
    assert_eq!(probe.look(at(back + 3)).gpus.len(), 1);
}

#[test]
fn no_library_no_driver_and_missing_symbols_are_faults_and_no_panics() {
    let fault = |library: &std::path::Path| {
        let view = GpuProbe::new(library).look(at(1));
        assert!(view.gpus.is_empty(), "{view:?}");
        view.faults.join("; ")
    };
    let folder = TempDir::new().unwrap();
    assert!(fault(&folder.path().join("absent.so")).starts_with("NVML is not here: "));
    std::fs::write(folder.path().join("text.so"), "no library at all").unwrap();
    assert!(fault(&folder.path().join("text.so")).starts_with("NVML is not here: "));
    let nvml = Nvml::build(folder.path(), &[]);
    assert!(fault(&nvml.library).contains("driver is not loaded"));
    let other = TempDir::new().unwrap();
    let nvml = Nvml::build(other.path(), &["MEMORY"]);
    nvml.show(&[(GB, GB, 0, 40, 0)]);
    assert!(fault(&nvml.library).contains("nvmlDeviceGetMemoryInfo_v2"));
    let other = TempDir::new().unwrap();
    let nvml = Nvml::build(other.path(), &["SHUTDOWN"]);
    nvml.show(&[(GB, GB, 0, 40, 0)]);
    assert!(fault(&nvml.library).contains("nvmlShutdown is missing"));
    let other = TempDir::new().unwrap();
    let nvml = Nvml::build(other.path(), &[]);
    nvml.show(&[(GB, GB, 0, 40, NOT_SUPPORTED)]);
    assert!(fault(&nvml.library).contains("set `memory =`"));
}

#[test]
fn what_is_nice_to_have_may_be_missing() {
    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &["UTILISATION"]);
    nvml.show(&[(GB, GB, 0, 40, 0)]);
    let view = GpuProbe::new(&nvml.library).look(at(1));
    assert_eq!((view.gpus[0].utilisation, view.gpus[0].temperature), (None, Some(40)));
}

#[tokio::test]
async fn the_view_is_there_at_once_and_follows() {
    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &[]);
    nvml.show(&[(24 * GB, 20 * GB, 0, 40, 0)]);
    let gpus = Gpus::start(GpuProbe::new(&nvml.library), Clock::real()).await.unwrap();
    let mut watch = gpus.watch();
    assert_eq!(watch.borrow().gpus[0].free, 20 * GB);
    nvml.show(&[(24 * GB, 2 * GB, 0, 40, 0)]);
    let seen = watch.wait_for(|view| view.gpus.first().is_some_and(|gpu| gpu.free == 2 * GB));
    assert!(tokio::time::timeout(Duration::from_secs(10), seen).await.is_ok());
    drop(gpus);
    let ended = async { while watch.changed().await.is_ok() {} };
    assert!(tokio::time::timeout(Duration::from_secs(10), ended).await.is_ok(), "the thread ends with its last handle");
}

#[tokio::test]
async fn operators_see_the_gpus_and_no_longer_those_that_are_gone() {
    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &[]);
    nvml.show(&[(24 * GB, 20 * GB, 50, 61, 0), (80 * GB, 80 * GB, 0, 33, 0)]);
    let library = nvml.library.clone();
    let house = Plan::new().settings(move |settings| settings.nvml = library).build().await;
    let metrics = house.metrics().await;
    for line in [
        "gaucho_gpu_memory_bytes{gpu=\"GPU-00000000-0000-0000-0000-000000000000\"} 25769803776\n",
        "gaucho_gpu_memory_used_bytes{gpu=\"GPU-00000000-0000-0000-0000-000000000000\"} 4294967296\n",
        "gaucho_gpu_utilisation_ratio{gpu=\"GPU-00000000-0000-0000-0000-000000000000\"} 0.5\n",
        "gaucho_gpu_temperature_celsius{gpu=\"GPU-00000001-0000-0000-0000-000000000000\"} 33\n",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    nvml.show(&[(24 * GB, 20 * GB, 50, 61, 0), (80 * GB, 80 * GB, 0, 33, LOST)]);
    let gone = async {
        while house.metrics().await.contains("gpu=\"GPU-00000001") {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), gone).await.is_ok(), "{}", house.metrics().await);
    assert!(house.metrics().await.contains("gaucho_gpu_memory_bytes{gpu=\"GPU-00000000"), "the other one stays");
    house.close().await;
}

const MB: u64 = 1 << 20;

/// The context that the model is loaded with where the endpoint is as `edit` makes it; by its profile 32,768, as a
/// fallback 4,096.
async fn loaded_context(edit: impl FnOnce(&mut Settings) + 'static) -> u64 {
    let models = "[models.\"gemma:a\"]\nnum_ctx = 32768\nfallback = { num_ctx = 4096 }\n";
    let house = Plan::new().app("shop").policy("models.toml", models).settings(edit).build().await;
    let body = json!({ "model": "gemma:a", "prompt": "x", "stream": false, "options": { "num_predict": 2 } });
    let answer = house.post("shop", "/api/generate", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = house.sim.seen().into_iter().find(|seen| seen.path == "/api/generate").unwrap();
    let context = serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap()["options"]["num_ctx"].as_u64();
    house.close().await;
    context.unwrap()
}

#[tokio::test]
async fn a_profile_that_does_not_fit_gives_way_to_its_fallback() {
    // weights 253 MB, 18,432 bytes of KV per token: about 1,016 MB by the profile, 488 MB by the fallback
    assert_eq!(loaded_context(|settings| settings.endpoints[0].memory = Some(1200 * MB)).await, 32_768);
    assert_eq!(loaded_context(|settings| settings.endpoints[0].memory = Some(700 * MB)).await, 4096);
    assert_eq!(loaded_context(|_| {}).await, 32_768, "unknown memory");
}

#[tokio::test]
async fn the_memory_of_the_named_gpus_decides_where_no_other_is_named() {
    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &[]);
    nvml.show(&[(24 * GB, 20 * GB, 0, 40, 0), (700 * MB, 600 * MB, 0, 40, 0)]);
    let on = |gpu: u32, memory: Option<u64>| {
        let library = nvml.library.clone();
        loaded_context(move |settings| {
            settings.nvml = library;
            settings.endpoints[0].gpus = vec![GpuName::Index(gpu)];
            settings.endpoints[0].memory = memory;
        })
    };
    assert_eq!(on(0, None).await, 32_768);
    assert_eq!(on(1, None).await, 4096);
    assert_eq!(on(0, Some(700 * MB)).await, 4096, "`memory` caps");
    assert_eq!(on(7, None).await, 32_768, "a GPU that is not seen is no reason to stop");
}

/// The real program's log from its start until a line whose message has this text; gives all lines.
async fn until(log: &mut Lines<BufReader<ChildStderr>>, text: &str) -> Vec<serde_json::Value> {
    let mut lines = Vec::new();
    let wait = async {
        while let Some(line) = log.next_line().await.unwrap() {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let found = line["message"].as_str().is_some_and(|message| message.contains(text));
            lines.push(line);
            if found {
                return;
            }
        }
        panic!("the log ended without {text:?}: {lines:#?}");
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never logged: {text:?}"));
    lines
}

fn said<'a>(lines: &'a [serde_json::Value], text: &str) -> Vec<&'a serde_json::Value> {
    lines.iter().filter(|line| line["message"].as_str().is_some_and(|message| message.contains(text))).collect()
}

fn serve(folder: &std::path::Path, library: &std::path::Path, gpus: &str) -> (Child, Lines<BufReader<ChildStderr>>) {
    let config = folder.join("other.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\nstate = \"state\"\n[[endpoint]]\nurl = \"127.0.0.1:9\"\n{gpus}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaucho"));
    command.current_dir(folder).args(["serve", "--config"]).arg(&config).env("GAUCHO_NVML", library);
    let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap()).lines();
    (child, log)
}

#[tokio::test]
async fn the_log_tells_of_gpus_once_for_each_change() {
    let folder = TempDir::new().unwrap();
    let (_child, mut log) = serve(folder.path(), &folder.path().join("absent.so"), "");
    let lines = until(&mut log, "serving").await;
    let absent = said(&lines, "memory then comes from `memory =`");
    assert_eq!((absent.len(), absent[0]["level"].as_str()), (1, Some("INFO")), "absence is normal: {absent:#?}");

    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &[]);
    nvml.show(&[(24 * GB, 20 * GB, 0, 40, 0)]);
    let (_child, mut log) = serve(folder.path(), &nvml.library, "gpus = [0, 5]");
    let lines = until(&mut log, "serving").await;
    assert_eq!(said(&lines, "a GPU is seen").len(), 1, "{lines:#?}");
    let missing = said(&lines, "a GPU that an endpoint names is not seen");
    assert_eq!((missing.len(), missing[0]["gpu"].as_str()), (1, Some("5")), "{missing:#?}");
    assert!(missing[0]["there"].as_str().unwrap().starts_with("0 (GPU-00000000-"), "the names there are: {missing:#?}");
    nvml.vanish();
    let gone = until(&mut log, "cannot be seen any more").await;
    nvml.show(&[(24 * GB, 20 * GB, 0, 40, 0)]);
    let back = until(&mut log, "a GPU is seen").await;
    let again = said(&back, "cannot be seen any more");
    assert!(said(&gone, "a GPU is seen").is_empty() && again.is_empty(), "once for each change: {again:#?}");
}

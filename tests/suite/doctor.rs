//! `gaucho doctor` as a process: what it says of servers, and the slots it measures where the configuration is right,
//! and where it lies.

use std::path::Path;

use gaucho::sim::{self, Model, Sim};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::nvml::Nvml;
use crate::support::raw;

/// A model whose answers of 200 tokens take half a second.
fn model(name: &str, size: u64) -> Model {
    let mut model = Model::named(name).unwrap();
    (model.size, model.load_ms, model.tokens_per_second, model.answer_tokens) = (size, 20, 400.0, Some(200));
    model
}

async fn server(slots: usize, models: Vec<Model>) -> Sim {
    let settings = sim::Settings { num_parallel: slots, models, ..sim::Settings::default() };
    Sim::start(settings).await.unwrap()
}

/// Exit code, standard output, standard error. No library for GPUs unless the arguments' settings name one.
async fn doctor(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaucho"));
    command.current_dir(folder).args(["doctor"]).args(args).kill_on_drop(true);
    for name in ["GAUCHO_NUM_PARALLEL", "OLLAMA_NUM_PARALLEL", "GAUCHO_OLLAMA", "GAUCHO_CONFIG", "GAUCHO_NVML"] {
        command.env_remove(name);
    }
    let done = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

async fn resident(sim: &Sim) -> Vec<Value> {
    let listing = raw::send(sim.addr(), "GET", "/api/ps", &[], None).await.read().await.body();
    serde_json::from_str::<Value>(&listing).unwrap()["models"].as_array().unwrap().clone()
}

/// The generations that the stand-in was asked for.
fn generations(sim: &Sim) -> Vec<Value> {
    let bodies = sim.seen().into_iter().filter(|seen| seen.path == "/api/generate");
    let bodies = bodies.map(|seen| serde_json::from_slice::<Value>(&seen.body).unwrap());
    bodies.filter(|body| body.get("prompt").is_some()).collect()
}

/// What it says, and its exit code, where the server has `slots` and the configuration claims `claimed`.
async fn measured(slots: usize, claimed: u32) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let sim = server(slots, vec![model("small:1b", 1_000_000)]).await;
    let claimed = claimed.to_string();
    let (code, out, err) =
        doctor(folder.path(), &["--ollama", &sim.url(), "--slots", "--num-parallel", &claimed]).await;
    assert!(err.contains("with small:1b, which is loaded for it"), "{err}");
    assert!(err.contains("uses its GPU for some seconds"), "it warns: {err}");
    assert!(err.contains("may warn meanwhile that somebody uses the server directly"), "{err}");
    assert_eq!((sim.tally().in_flight, sim.loads()), (0, 1), "one load, nothing left behind");
    assert_eq!(resident(&sim).await.len(), 0, "and unloaded again");
    let prompts: Vec<Value> = generations(&sim).into_iter().map(|body| body["prompt"].clone()).collect();
    assert!(prompts.iter().enumerate().all(|(n, prompt)| !prompts[..n].contains(prompt)), "prompts differ");
    (code, out)
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_measured_as_they_are() {
    let servers = [1, 2, 4].map(|slots| async move { (slots, measured(slots, u32::try_from(slots).unwrap()).await) });
    for (slots, (code, out)) in futures_util::future::join_all(servers).await {
        assert_eq!(code, Some(0), "{out}");
        let noun = if slots == 1 { "request" } else { "requests" };
        assert!(out.contains(&format!("  measured  {slots} {noun} at once with small:1b\n")), "{out}");
        assert!(out.contains(&format!("as claimed: {slots}\n")), "{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_lies_is_told_what_to_change() {
    let ((code, out), (other_code, other_out)) = tokio::join!(measured(4, 2), measured(1, 4));
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("! measured  4 requests at once"), "{out}");
    assert!(out.contains("2 claimed (--num-parallel): the gateway leaves slots empty; set num_parallel = 4"), "{out}");
    assert_eq!(other_code, Some(1), "{other_out}");
    assert!(other_out.contains("set num_parallel = 1 for this endpoint"), "{other_out}");
    assert!(other_out.contains("or start the server with OLLAMA_NUM_PARALLEL=4"), "{other_out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_in_memory_is_measured_as_it_is_and_stays() {
    let folder = TempDir::new().unwrap();
    let sim = server(2, vec![model("small:1b", 1_000_000), model("big:7b", 7_000_000)]).await;
    let load = json!({ "model": "big:7b", "keep_alive": "1h", "options": { "num_ctx": 2048 } }).to_string();
    assert_eq!(raw::send(sim.addr(), "POST", "/api/generate", &[], Some(&load)).await.read().await.status, 200);
    let before = resident(&sim).await;
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let models = "[models.\"*\"]\nnum_ctx = 2048\nkeep_alive = 60\n";
    std::fs::write(folder.path().join("policies/models.toml"), models).unwrap();
    let (code, out, err) = doctor(folder.path(), &["--ollama", &sim.url(), "--slots", "--num-parallel", "2"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(err.contains("with big:7b, which is in memory"), "{err}");
    assert!(out.contains("in memory big:7b "), "{out}");
    assert_eq!(sim.loads(), 1, "nothing was loaded anew");
    assert_eq!((before.len(), resident(&sim).await.len()), (1, 1));
    let asked = generations(&sim);
    assert!(asked.iter().all(|body| body["options"]["num_ctx"] == 2048), "as the gateway would run it: {asked:?}");
    assert!(asked.iter().all(|body| body.get("keep_alive").is_none()), "how long it stays is not changed: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_ollama_serves_one_at_a_time_is_said_to_be_so() {
    let folder = TempDir::new().unwrap();
    let mut single = model("single:1b", 1_000_000);
    single.family = "qwen3next".to_owned();
    let sim = server(4, vec![single, model("other:7b", 7_000_000)]).await;
    let args = ["--ollama", &sim.url(), "--slots", "--num-parallel", "4", "--model", "single:1b"];
    let (code, out, _) = doctor(folder.path(), &args).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("1 request at once with single:1b"), "{out}");
    assert!(out.contains("one at a time whatever OLLAMA_NUM_PARALLEL is: name another with --model"), "{out}");
    // left to itself it takes one that can tell, though it is larger
    let (code, out, _) = doctor(folder.path(), &args[..5]).await;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("4 requests at once with other:7b"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_measured_is_neither_right_nor_wrong() {
    let folder = TempDir::new().unwrap();
    let mut embedder = model("embedder", 1_000_000);
    embedder.capabilities = vec!["embedding".to_owned()];
    let mut short = model("short:1b", 1_000_000);
    short.answer_tokens = Some(3);
    let sim = server(2, vec![embedder, short]).await;
    let url = sim.url();
    for (args, said) in [
        (&["--ollama", &url, "--slots", "--model", "embedder"][..], "embedder:latest does not generate"),
        (&["--ollama", &url, "--slots", "--model", "absent"], "it does not have absent:latest"),
        (&["--ollama", &url, "--slots"], "pieces of text: name another model with --model"),
        (&["--ollama", "127.0.0.1:9", "--slots"], "nothing: cannot connect"),
    ] {
        let (code, out, err) = doctor(folder.path(), args).await;
        assert_eq!(code, Some(2), "{args:?} {out}{err}");
        assert!(out.contains(said), "{said}: {out}");
    }
    let (code, _, _) = doctor(folder.path(), &["--ollama", &url, "--model", "x"]).await;
    assert_eq!(code, Some(2), "--model is nothing without --slots");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_described_with_its_gpus_and_what_spilled() {
    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &[]);
    nvml.show(&[(24 << 30, 20 << 30, 0, 40, 0)]);
    let mut spilled = model("spilled:7b", 2 << 30);
    (spilled.memory, spilled.vram) = (Some(2 << 30), Some(1 << 30));
    let sim = server(2, vec![spilled]).await;
    let load = json!({ "model": "spilled:7b" }).to_string();
    assert_eq!(raw::send(sim.addr(), "POST", "/api/generate", &[], Some(&load)).await.read().await.status, 200);
    let settings = format!(
        "nvml = \"./libnvml-stand-in.so\"\n[[endpoint]]\nname = \"first\"\nurl = \"{}\"\nnum_parallel = 2\n\
         gpus = [0, \"GPU-0000beef\"]\n[[endpoint]]\nname = \"second\"\nurl = \"127.0.0.1:9\"\nmemory = \"8GiB\"\n",
        sim.url()
    );
    let config = folder.path().join("other.toml");
    std::fs::write(&config, settings).unwrap();
    let (code, out, err) = doctor(folder.path(), &["--config", config.to_str().unwrap()]).await;
    assert_eq!((code, err.as_str()), (Some(1), ""), "one of them does not answer: {out}");
    for line in [
        "\n  answers   version 0.32.15, 1 model\n",
        "\n  slots     2 claimed (num_parallel of its [[endpoint]]); `--slots` measures them\n",
        "\n  GPU       0 GPU-00000000-0000-0000-0000-000000000000 Stand-in GPU: 4.0 GiB of 24.0 GiB used\n",
        "\n! GPU       GPU-0000beef is not seen on this machine: correct `gpus`\n",
        "\n! in memory spilled:7b 2.0 GiB, context 4096, 1.0 GiB of it NOT on the GPU: slow",
        "\n! answers   no: cannot connect: Connection refused",
        "\n  memory    8.0 GiB by `memory`; 3 models in it at most\n",
        "\nthis machine\n  GPU       0 GPU-0",
    ] {
        assert!(out.contains(line), "{line:?}\n{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_is_not_seen_and_a_spill_into_room_that_is_configured_are_not_as_configured() {
    let folder = TempDir::new().unwrap();
    let nvml = Nvml::build(folder.path(), &[]);
    nvml.show(&[(24 << 30, 20 << 30, 0, 40, 0)]);
    let mut spilled = model("spilled:7b", 2 << 30);
    (spilled.memory, spilled.vram) = (Some(2 << 30), Some(1 << 30));
    let sim = server(1, vec![spilled]).await;
    let exit = async |more: &str| {
        let config = folder.path().join("other.toml");
        let text = format!("nvml = \"./libnvml-stand-in.so\"\n[[endpoint]]\nurl = \"{}\"\n{more}\n", sim.url());
        std::fs::write(&config, text).unwrap();
        let (code, out, err) = doctor(folder.path(), &["--config", config.to_str().unwrap()]).await;
        assert_eq!(err, "", "{out}");
        (code.unwrap(), out.lines().filter(|line| line.starts_with('!')).count())
    };
    assert_eq!(exit("gpus = [0]").await, (0, 0));
    assert_eq!(exit("gpus = [0, 1]").await, (1, 1), "the second one is not seen");
    let load = json!({ "model": "spilled:7b" }).to_string();
    assert_eq!(raw::send(sim.addr(), "POST", "/api/generate", &[], Some(&load)).await.read().await.status, 200);
    for (more, code) in [
        ("", 0),
        ("gpus = [0]", 1),
        ("memory = \"8GiB\"", 1),
        ("memory = \"1GiB\"", 0),
        ("memory = \"1GiB\"\ngpus = [0]", 0),
    ] {
        assert_eq!(exit(more).await, (code, 1), "{more}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Ollama with a small model: GAUCHO_LIVE_OLLAMA names it, GAUCHO_NUM_PARALLEL its slots"]
async fn the_slots_of_a_real_server_are_measured_as_they_are() {
    let folder = TempDir::new().unwrap();
    let url = std::env::var("GAUCHO_LIVE_OLLAMA").expect("GAUCHO_LIVE_OLLAMA names the server");
    let slots = std::env::var("GAUCHO_NUM_PARALLEL").unwrap_or_else(|_| "1".to_owned());
    let (code, out, err) = doctor(folder.path(), &["--ollama", &url, "--slots", "--num-parallel", &slots]).await;
    assert_eq!(code, Some(0), "{out}{err}");
}

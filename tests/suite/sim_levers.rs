//! What tests may break in a stand-in besides single answers, as its clients see it; and how answers share a runner.

use std::net::SocketAddr;

use gaucho::sim::{Fault, Lie, LoadFault, Model, Scheduler, Settings, Sim, recorded_models};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::raw::{Exchange, open_small, post, send};

async fn server(settings: Settings) -> Sim {
    Sim::start(Settings { models: recorded_models(), speed: 1e4, ..settings }).await.unwrap()
}

fn small(model: &str) -> Value {
    json!({"model": model, "prompt": "x", "stream": false, "options": {"num_predict": 2}})
}

async fn ask(addr: SocketAddr, model: &str) -> Exchange {
    send(addr, "POST", "/api/generate", &[], Some(&small(model).to_string())).await
}

async fn get(addr: SocketAddr, path: &str) -> String {
    send(addr, "GET", path, &[], None).await.read().await.body()
}

async fn unload(sim: &Sim, model: &str) {
    let said = post(sim.addr(), "/api/generate", &json!({"model": model, "keep_alive": 0})).await;
    assert!(said.body().contains("\"unload\""), "{said:?}");
}

#[tokio::test]
async fn a_hung_runner_looks_healthy_and_is_sound_again_after_an_unload() {
    let sim = server(Settings { num_parallel: 2, ..Settings::default() }).await;
    assert!(!sim.hang("gemma:a"), "it is not loaded");
    assert_eq!(post(sim.addr(), "/api/generate", &small("gemma:a")).await.status, 200);
    assert!(sim.hang("gemma:a"));
    let hung = [ask(sim.addr(), "gemma:a").await, ask(sim.addr(), "gemma:a").await];
    eventually("both run", || sim.runner("gemma:a").peak_running == 2).await;
    assert!(get(sim.addr(), "/api/ps").await.contains("gemma:a"));
    assert!(get(sim.addr(), "/api/tags").await.contains("gemma:a"));
    unload(&sim, "gemma:a").await;
    assert!(get(sim.addr(), "/api/ps").await.contains("gemma:a"), "its callers keep it");
    assert_eq!(sim.tally().answered, 2);
    drop(hung);
    eventually("its callers are gone", || sim.tally().in_flight == 0).await;
    assert_eq!(get(sim.addr(), "/api/ps").await, "{\"models\":[]}");
    assert_eq!(post(sim.addr(), "/api/generate", &small("gemma:a")).await.status, 200);
    assert_eq!(sim.loads(), 2);
}

#[tokio::test]
async fn a_lost_slot_blocks_everybody_until_the_runner_is_unloaded() {
    let sim = server(Settings::default()).await;
    assert_eq!(post(sim.addr(), "/api/generate", &small("gemma:a")).await.status, 200);
    assert!(sim.lose_slot("gemma:a"));
    let waits = ask(sim.addr(), "gemma:a").await;
    eventually("it waits", || sim.runner("gemma:a").inside == 1).await;
    unload(&sim, "gemma:a").await;
    assert!(get(sim.addr(), "/api/ps").await.contains("gemma:a"), "whoever waits keeps the runner");
    drop(waits);
    eventually("nobody waits", || sim.runner("gemma:a").inside == 0).await;
    assert_eq!(get(sim.addr(), "/api/ps").await, "{\"models\":[]}");
    assert_eq!(post(sim.addr(), "/api/generate", &small("gemma:a")).await.status, 200);
}

#[tokio::test]
async fn an_unload_can_fail_to_happen() {
    let sim = server(Settings::default()).await;
    assert_eq!(post(sim.addr(), "/api/generate", &small("gemma:a")).await.status, 200);
    assert!(sim.hold_unload("gemma:a", true));
    unload(&sim, "gemma:a").await;
    assert!(get(sim.addr(), "/api/ps").await.contains("gemma:a"));
    assert!(sim.hold_unload("gemma:a", false));
    assert_eq!(get(sim.addr(), "/api/ps").await, "{\"models\":[]}");
}

#[tokio::test]
async fn loads_can_fail_hang_and_find_nothing() {
    let sim = server(Settings { max_loaded_models: 1, ..Settings::default() }).await;
    assert!(!sim.upset_loads("nobody:latest", &LoadFault::NeverEnds, 1));
    let text = "llama runner process has terminated: exit status 2";
    assert!(sim.upset_loads("gemma:a", &LoadFault::Fails(text.into()), 2));
    for _ in 0..2 {
        let failed = post(sim.addr(), "/api/generate", &small("gemma:a")).await;
        assert_eq!((failed.status, failed.body()), (500, format!("{{\"error\":\"{text}\"}}")));
    }
    assert_eq!(post(sim.addr(), "/api/generate", &small("gemma:a")).await.status, 200);
    assert_eq!(sim.loads(), 3);
    assert!(sim.upset_loads("gemma:b", &LoadFault::NeverEnds, 1));
    let endless = ask(sim.addr(), "gemma:b").await;
    eventually("it loads", || sim.runner("gemma:b").loads == 1).await;
    drop(endless);
    assert_eq!(post(sim.addr(), "/api/generate", &small("gemma:b")).await.status, 200);
    assert!(sim.upset_loads("tinybert:latest", &LoadFault::Missing, 1));
    let failed = post(sim.addr(), "/api/embed", &json!({"model": "tinybert", "input": "x"})).await;
    let words = "{\"error\":\"model \\\"tinybert\\\" not found, try pulling it first\"}";
    assert_eq!((failed.status, failed.body().as_str()), (404, words));
}

#[tokio::test]
async fn a_model_that_is_removed_while_it_waits_for_its_load_is_not_found() {
    let sim = server(Settings { max_loaded_models: 1, ..Settings::default() }).await;
    assert_eq!(post(sim.addr(), "/api/generate", &small("gemma:a")).await.status, 200);
    sim.inject(Fault::Stall { after: 0 });
    let running = ask(sim.addr(), "gemma:a").await;
    eventually("it runs", || sim.runner("gemma:a").inside == 1).await;
    let waiting = ask(sim.addr(), "gemma:b").await;
    eventually("it waits", || sim.runner("gemma:b").inside == 1).await;
    let body = json!({"model": "gemma:b"}).to_string();
    assert_eq!(send(sim.addr(), "DELETE", "/api/delete", &[], Some(&body)).await.read().await.status, 200);
    drop(running);
    let failed = waiting.read().await;
    assert!(failed.status == 404 && failed.body().contains("try pulling it first"), "{failed:?}");
}

#[tokio::test]
async fn the_list_of_what_is_loaded_can_lie() {
    let models = vec![Model::named("mine").unwrap()];
    let sim = Sim::start(Settings { models, speed: 1e4, ..Settings::default() }).await.unwrap();
    let addr = sim.addr();
    sim.lie(Some(Lie::Old));
    assert_eq!(post(addr, "/api/generate", &small("mine")).await.status, 200);
    assert_eq!(get(addr, "/api/ps").await, "{\"models\":[]}", "as old as the lie");
    let first = |list: String| serde_json::from_str::<Value>(&list).unwrap()["models"][0].clone();
    sim.lie(Some(Lie::NoVram));
    let said = first(get(addr, "/api/ps").await);
    assert_eq!((&said["name"], &said["size_vram"]), (&json!("mine:latest"), &json!(0)));
    sim.lie(Some(Lie::Says("{\"models\": oops".into())));
    assert_eq!(get(addr, "/api/ps").await, "{\"models\": oops");
    sim.lie(Some(Lie::Silence));
    let mut silent = send(addr, "GET", "/api/ps", &[], None).await;
    assert!(get(addr, "/api/tags").await.contains("mine"), "all else is answered");
    let head = tokio::time::timeout(std::time::Duration::from_millis(50), silent.read_head()).await;
    assert!(head.is_err(), "{head:?}");
    sim.lie(None);
    let truth = first(get(addr, "/api/ps").await);
    assert!(truth["size_vram"].as_u64() > Some(0), "{truth}");
}

#[tokio::test]
async fn answers_beside_each_other_are_slower_and_say_so() {
    let model = Model {
        tokens_per_second: 100.0,
        prompt_tokens_per_second: 1e6,
        parallel_speed: 0.8,
        load_ms: 0,
        answer_tokens: Some(200),
        ..Model::named("shared").unwrap()
    };
    let settings = Settings { models: vec![model], num_parallel: 2, speed: 4.0, ..Settings::default() };
    let sim = Sim::start(settings).await.unwrap();
    let body = json!({"model": "shared", "prompt": "x", "stream": false, "options": {"num_predict": 100}});
    let seconds = |reply: &str| {
        let reply: Value = serde_json::from_str(reply).unwrap();
        reply["eval_duration"].as_f64().unwrap() / 1e9
    };
    let alone = post(sim.addr(), "/api/generate", &body).await;
    let alone = seconds(&alone.body());
    assert!((alone - 1.0).abs() < 1e-6, "{alone}");
    let (one, other) = tokio::join!(post(sim.addr(), "/api/generate", &body), post(sim.addr(), "/api/generate", &body));
    for reply in [one, other] {
        // at two fifths of the speed, for as long as they run beside each other
        let took = seconds(&reply.body());
        assert!((1.4..2.6).contains(&took), "{took}: {reply:?}");
    }
}

/// A stream whose client reads nothing of a line that no buffer has room for, and leaves.
async fn stuck(scheduler: Scheduler) -> Sim {
    let settings = Settings { models: recorded_models(), speed: 2.0, scheduler, ..Settings::default() };
    let sim = Sim::start(settings).await.unwrap();
    assert_eq!(post(sim.addr(), "/api/generate", &small("gemma:a")).await.status, 200);
    sim.inject(Fault::HugeLine { after: 0, bytes: 8 << 20 });
    let body = json!({"model": "gemma:a", "prompt": "x", "options": {"num_predict": 3000}}).to_string();
    let mut client = open_small(sim.addr()).await;
    let head =
        format!("POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.write(head.as_bytes()).await;
    client.read_head().await;
    assert!(client.line().await.is_some());
    assert_eq!(sim.tally().in_flight, 1);
    drop(client);
    sim
}

#[tokio::test]
async fn an_ideal_server_notices_even_a_client_that_does_not_read() {
    let sim = stuck(Scheduler::Ollama).await;
    eventually("the generation runs on", || sim.tally().abandoned == 1).await;
    assert_eq!((sim.tally().cancelled, sim.tally().in_flight), (0, 1));
    // a server that stops does not wait for it
    sim.shutdown().await;
    let sim = stuck(Scheduler::Ideal).await;
    eventually("it is noticed", || sim.tally().cancelled == 1 && sim.tally().in_flight == 0).await;
    assert_eq!(sim.tally().abandoned, 0);
}

#[tokio::test]
async fn a_batch_of_texts_takes_the_single_slot_for_all_of_them_before_the_next_request() {
    let model = Model { prompt_tokens_per_second: 3.0, load_ms: 0, ..recorded_models().remove(3) };
    let settings = Settings { models: vec![model], speed: 30.0, ..Settings::default() };
    let sim = Sim::start(settings).await.unwrap();
    assert_eq!(post(sim.addr(), "/api/embed", &json!({"model": "tinybert"})).await.status, 200);
    // a text of one token and its two marks is a second's work
    let batch = json!({"model": "tinybert", "input": vec!["x"; 8]}).to_string();
    let batch = send(sim.addr(), "POST", "/api/embed", &[], Some(&batch)).await;
    eventually("the batch is inside", || sim.runner("tinybert:latest").peak_running == 1).await;
    let single = post(sim.addr(), "/api/embed", &json!({"model": "tinybert", "input": "x"})).await;
    assert_eq!(single.status, 200);
    assert_eq!(sim.tally().answered, 3, "the whole batch came first");
    assert_eq!(sim.runner("tinybert:latest").peak_running, 1);
    assert_eq!(batch.read().await.status, 200);
}

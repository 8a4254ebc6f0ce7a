//! The stand-in under several clients: slots, loads, idle runners, clients that leave, and what its handle shows of it.

use std::net::SocketAddr;
use std::time::Duration;

use gaucho::sim::{Model, Settings, Sim};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::raw::{Exchange, post, send};

/// A server whose answers of 500 tokens take long enough to be seen (a second), and whose loads take no time.
async fn server(settings: Settings) -> Sim {
    let models = ["a", "b", "c"].map(|name| Model {
        load_ms: 0,
        answer_tokens: Some(500),
        tokens_per_second: 500.0,
        ..Model::named(name).unwrap()
    });
    Sim::start(Settings { models: models.into(), ..settings }).await.unwrap()
}

async fn ask(addr: SocketAddr, model: &str, tokens: u32) -> Exchange {
    let messages = json!([{"role": "user", "content": "hello"}]);
    let body = json!({"model": model, "messages": messages, "options": {"num_predict": tokens}});
    send(addr, "POST", "/api/chat", &[], Some(&body.to_string())).await
}

fn last(body: &str) -> Value {
    serde_json::from_str(body.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn no_more_run_at_once_than_there_are_slots() {
    let sim = server(Settings { num_parallel: 2, ..Settings::default() }).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(ask(sim.addr(), "a", 20).await);
    }
    eventually("all are inside", || sim.runner("a:latest").inside == 5).await;
    for exchange in waiting {
        assert_eq!(last(&exchange.read().await.body())["done"], true);
    }
    let counts = sim.runner("a:latest");
    assert_eq!((counts.peak_running, counts.peak_inside, counts.inside), (2, 5, 0));
    assert_eq!((sim.tally().received, sim.tally().answered, sim.tally().cancelled), (5, 5, 0));
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot_at_once() {
    let sim = server(Settings::default()).await;
    let mut first = ask(sim.addr(), "a", 400).await;
    assert_eq!(first.read_head().await.status, 200);
    let waits = ask(sim.addr(), "a", 1).await;
    eventually("the second waits", || sim.runner("a:latest").inside == 2).await;
    drop(first);
    assert_eq!(last(&waits.read().await.body())["done_reason"], "length");
    eventually("the first is counted", || sim.tally().cancelled == 1).await;
    assert_eq!(sim.tally().in_flight, 0);
}

#[tokio::test]
async fn a_client_that_leaves_before_its_answer_is_noticed_too() {
    let sim = server(Settings::default()).await;
    let body = json!({"model": "a", "prompt": "hello", "stream": false, "options": {"num_predict": 400}});
    let once = send(sim.addr(), "POST", "/api/generate", &[], Some(&body.to_string())).await;
    eventually("it runs", || sim.runner("a:latest").peak_running == 1).await;
    let waits = ask(sim.addr(), "a", 400).await;
    eventually("another waits for the slot", || sim.runner("a:latest").inside == 2).await;
    drop(waits);
    eventually("the one that waits is gone", || sim.runner("a:latest").inside == 1).await;
    drop(once);
    eventually("both are gone", || sim.tally().cancelled == 2 && sim.tally().in_flight == 0).await;
}

#[tokio::test]
async fn runners_are_loaded_reloaded_and_unloaded() {
    let sim = server(Settings { max_loaded_models: 1, ..Settings::default() }).await;
    let talk = async |model: &str, num_ctx: u32| {
        let body = json!({"model": model, "prompt": "x", "stream": false,
                          "options": {"num_ctx": num_ctx, "num_predict": 1}});
        assert_eq!(post(sim.addr(), "/api/generate", &body).await.status, 200);
    };
    let resident = async || {
        let body = send(sim.addr(), "GET", "/api/ps", &[], None).await.read().await.body();
        let list: Value = serde_json::from_str(&body).unwrap();
        let list = list["models"].as_array().unwrap().clone();
        list.iter().map(|model| (model["name"].clone(), model["context_length"].clone())).collect::<Vec<_>>()
    };
    talk("a", 2048).await;
    talk("a", 4096).await;
    assert_eq!(resident().await, [(json!("a:latest"), json!(4096))]);
    assert_eq!(sim.runner("a:latest").loads, 2);
    talk("b", 4096).await;
    assert_eq!(resident().await, [(json!("b:latest"), json!(4096))]);
    let unload = post(sim.addr(), "/api/generate", &json!({"model": "b", "keep_alive": 0})).await;
    assert_eq!(last(&unload.body())["done_reason"], "unload");
    assert_eq!(resident().await, []);
    assert_eq!(sim.loads(), 3);
}

#[tokio::test]
async fn an_idle_runner_goes_after_its_keep_alive() {
    let sim = server(Settings { keep_alive: Duration::from_millis(30), ..Settings::default() }).await;
    post(sim.addr(), "/api/generate", &json!({"model": "a"})).await;
    let (addr, mut left) = (sim.addr(), String::new());
    let gone = async {
        while left != "{\"models\":[]}" {
            left = send(addr, "GET", "/api/ps", &[], None).await.read().await.body();
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), gone).await.is_ok(), "still there");
}

#[tokio::test]
async fn replies_report_the_models_own_times() {
    let model = Model { load_ms: 5000, tokens_per_second: 10.0, ..Model::named("slow").unwrap() };
    let sim = Sim::start(Settings { models: vec![model], speed: 1000.0, ..Settings::default() }).await.unwrap();
    let body = json!({"model": "slow", "prompt": "x", "stream": false, "options": {"num_predict": 20}});
    let reply = last(&post(sim.addr(), "/api/generate", &body).await.body());
    let seconds = |field: &str| reply[field].as_u64().unwrap() / 1_000_000_000;
    assert_eq!((seconds("load_duration"), seconds("eval_duration"), seconds("total_duration")), (5, 2, 7));
    let parts = ["load_duration", "prompt_eval_duration", "eval_duration"].map(|field| reply[field].as_u64().unwrap());
    assert_eq!(reply["total_duration"].as_u64().unwrap(), parts.iter().sum::<u64>());
}

#[tokio::test]
async fn the_handle_shows_what_arrived() {
    let sim = server(Settings::default()).await;
    let headers = [("X-Trace".to_owned(), "7".to_owned())];
    let body = json!({"model": "a"}).to_string();
    send(sim.addr(), "POST", "/api/generate?x=1", &headers, Some(&body)).await.read().await;
    let seen = sim.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].path.as_str(), &seen[0].body[..]), ("/api/generate?x=1", body.as_bytes()));
    assert_eq!(seen[0].headers["x-trace"], "7");
    let addr = sim.addr();
    sim.shutdown().await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "still listening");
}

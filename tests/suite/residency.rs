//! Ollama's own defects when applications share it: each shown on the raw stand-in first, then its absence behind the
//! gateway (`ollama-facts` 2.8).

use std::time::Duration;

use gaucho::sim::{self, Sim};
use serde_json::{Value, json};

use crate::support::gateway::{House, Plan};
use crate::support::{eventually, raw};

fn settings() -> sim::Settings {
    sim::Settings { models: sim::recorded_models(), speed: 50.0, max_loaded_models: 1, ..sim::Settings::default() }
}

fn crowded() -> Plan {
    Plan::new().app("shop").sim(|sim| sim.max_loaded_models = 1).settings(|settings| {
        for endpoint in &mut settings.endpoints {
            endpoint.max_loaded_models = 1;
        }
    })
}

fn chat(model: &str, tokens: u32) -> Value {
    let messages = json!([{ "role": "user", "content": "Why?" }]);
    json!({ "model": model, "messages": messages, "stream": false, "options": { "num_predict": tokens } })
}

/// Requests for `model` that are left after a moment, again and again.
async fn impatient(addr: std::net::SocketAddr, headers: &[(String, String)], sim: &Sim, times: u64) {
    for turn in 1..=times {
        let body = chat("gemma:a", 4).to_string();
        let exchange = raw::send(addr, "POST", "/api/chat", headers, Some(&body)).await;
        if headers.is_empty() {
            eventually("the load begins", || sim.loads() >= turn).await;
        } else {
            eventually("the request arrives", || sim.loads() >= 1).await;
        }
        drop(exchange);
        if headers.is_empty() {
            eventually("the load dies with its client", || sim.runner("gemma:a").inside == 0).await;
        }
    }
}

#[tokio::test]
async fn a_load_outlives_the_client_that_asked_for_it() {
    let slow = |sim: &mut sim::Settings| sim.speed = 4.0;
    let mut raw_settings = settings();
    slow(&mut raw_settings);
    let ollama = Sim::start(raw_settings).await.unwrap();
    impatient(ollama.addr(), &[], &ollama, 4).await;
    assert_eq!(ollama.loads(), 4, "raw: every client that leaves takes the load with it");

    let house = Plan::new().app("shop").sim(slow).build().await;
    let headers = [("Authorization".to_owned(), format!("Bearer {}", house.key("shop")))];
    impatient(house.addr, &headers, &house.sim, 4).await;
    assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a", 4)).await.status, 200);
    assert_eq!(house.sim.loads(), 1, "one load, finished and used");
    house.close().await;
}

#[tokio::test]
async fn a_model_is_loaded_once_whatever_contexts_its_callers_ask_for() {
    let with = |num_ctx: u32| {
        let mut body = chat("gemma:a", 2);
        body["options"]["num_ctx"] = num_ctx.into();
        body
    };
    let ollama = Sim::start(settings()).await.unwrap();
    for num_ctx in [2048, 4096, 2048, 4096] {
        assert_eq!(raw::post(ollama.addr(), "/api/chat", &with(num_ctx)).await.status, 200);
    }
    assert_eq!(ollama.loads(), 4, "raw: a reload for every change");

    let house = Plan::new().app("shop").build().await;
    for num_ctx in [2048, 4096, 2048, 4096] {
        assert_eq!(house.post("shop", "/api/chat", &with(num_ctx)).await.status, 200);
    }
    assert_eq!(house.sim.loads(), 1);
    house.close().await;
}

/// Keeps `clients` requests for gemma:a in the system until `stop`; returns how many were answered.
async fn endless(house: &House, clients: usize, stop: impl Fn() -> bool) -> usize {
    let client = || async {
        let mut answered = 0;
        while !stop() {
            assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a", 8)).await.status, 200);
            answered += 1;
        }
        answered
    };
    futures_util::future::join_all((0..clients).map(|_| client())).await.into_iter().sum()
}

#[tokio::test]
async fn a_late_model_gets_its_turn_while_another_is_kept_busy() {
    // raw: while somebody keeps gemma:a busy, gemma:b waits for an eviction that never comes
    let ollama = Sim::start(settings()).await.unwrap();
    let addr = ollama.addr();
    assert_eq!(raw::post(addr, "/api/chat", &chat("gemma:a", 1)).await.status, 200);
    let mut busy = Vec::new();
    for _ in 0..3 {
        // overlapping requests: the victim is never idle
        busy.push(tokio::spawn(async move { raw::post(addr, "/api/chat", &chat("gemma:a", 200)).await }));
    }
    eventually("gemma:a is busy", || ollama.tally().in_flight == 3).await;
    let late = tokio::spawn(async move { raw::post(addr, "/api/chat", &chat("gemma:b", 1)).await });
    for _ in 0..6 {
        let next = tokio::spawn(async move { raw::post(addr, "/api/chat", &chat("gemma:a", 200)).await });
        assert_eq!(busy.remove(0).await.unwrap().status, 200);
        busy.push(next);
        assert!(!late.is_finished(), "raw: the late model was answered after all");
    }
    drop((late, busy));

    let house = crowded().build().await;
    let done = std::cell::Cell::new(false);
    let late = async {
        eventually("gemma:a is busy", || house.sim.tally().received > 8).await;
        let answer = house.post("shop", "/api/chat", &chat("gemma:b", 1)).await;
        done.set(true);
        answer
    };
    let (answer, others) =
        tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(late, endless(&house, 3, || done.get())) })
            .await
            .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(others > 0);
    assert!(house.sim.loads() <= 4, "{} loads", house.sim.loads());
    house.close().await;
}

#[tokio::test]
async fn a_model_that_can_never_fit_is_refused_with_numbers_before_it_evicts_anybody() {
    let house =
        Plan::new().app("shop").settings(|settings| settings.endpoints[0].memory = Some(100 << 20)).build().await;
    let refused = house.post("shop", "/api/chat", &chat("gemma:a", 1)).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.body().contains("100 MiB"), "{refused:?}");
    assert_eq!(house.sim.loads(), 0);
    house.close().await;
}

#[tokio::test]
async fn models_behind_one_place_swap_by_our_order_and_all_are_answered() {
    let house = crowded().build().await;
    let models = ["gemma:a", "gemma:b", "gemma:c"];
    let asks = (0..30).map(|turn| {
        let body = chat(models[turn % 3], 2);
        let house = &house;
        async move { house.post("shop", "/api/chat", &body).await.status }
    });
    let answers = futures_util::future::join_all(asks).await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    // thirty requests in rotation, all at once: raw Ollama needs a load for nearly each of them
    assert!(house.sim.loads() <= 6, "{} loads", house.sim.loads());
    house.close().await;
}

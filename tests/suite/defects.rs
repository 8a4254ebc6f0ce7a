//! Ollama's own defects when applications share it (`ollama-facts` 2.8, B1 to B10): each shown on the raw stand-in
//! first, then its absence behind the gateway. One function per defect.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gaucho::sim::{self, Fault, Model, Sim};
use serde_json::{Value, json};

use crate::support::gateway::{House, Plan};
use crate::support::raw::{self, Exchange};
use crate::support::{dialect, eventually};

fn settings() -> sim::Settings {
    sim::Settings { models: sim::recorded_models(), speed: 50.0, max_loaded_models: 1, ..sim::Settings::default() }
}

/// A gateway for application `shop` before a stand-in that holds so many models at once, as both know.
fn room_for(models: u32) -> Plan {
    let endpoints = move |settings: &mut gaucho::config::Settings| {
        settings.endpoints.iter_mut().for_each(|endpoint| endpoint.max_loaded_models = models);
    };
    Plan::new().app("shop").sim(|sim| sim.max_loaded_models = models as usize).settings(endpoints)
}

fn chat(model: &str, tokens: u32) -> Value {
    let messages = json!([{ "role": "user", "content": "Why?" }]);
    json!({ "model": model, "messages": messages, "stream": false, "options": { "num_predict": tokens } })
}

/// A request on its way to a raw stand-in.
async fn ask(addr: SocketAddr, model: &str) -> Exchange {
    raw::send(addr, "POST", "/api/chat", &[], Some(&chat(model, 1).to_string())).await
}

/// The same through a gateway.
async fn ask_as(house: &House, app: &str, model: &str) -> Exchange {
    house.send(app, "POST", "/api/chat", Some(&chat(model, 1).to_string())).await
}

async fn ps(addr: SocketAddr) -> String {
    raw::send(addr, "GET", "/api/ps", &[], None).await.read().await.body()
}

/// A raw stand-in whose gemma:a is busy until the exchange is dropped.
async fn busy(settings: sim::Settings) -> (Sim, Exchange) {
    let ollama = Sim::start(settings).await.unwrap();
    assert_eq!(raw::post(ollama.addr(), "/api/chat", &chat("gemma:a", 1)).await.status, 200);
    ollama.inject(Fault::Stall { after: 0 });
    let running = ask(ollama.addr(), "gemma:a").await;
    eventually("gemma:a is busy", || ollama.runner("gemma:a").inside == 1).await;
    (ollama, running)
}

/// The same through a gateway.
async fn busy_house(plan: Plan) -> (House, Exchange) {
    let house = plan.build().await;
    assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a", 1)).await.status, 200);
    house.until_upstream_is_idle().await;
    house.sim.inject(Fault::Stall { after: 0 });
    let running = ask_as(&house, "shop", "gemma:a").await;
    eventually("gemma:a is busy", || house.sim.tally().in_flight == 1).await;
    (house, running)
}

/// B1: one loader takes requests for models that are not loaded strictly in order, and waits inline for each.
#[tokio::test]
async fn a_person_does_not_wait_behind_every_load_that_a_batch_asked_for() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let models = || names.map(|name| Model { load_ms: 10_000, ..Model::named(name).unwrap() }).to_vec();
    let ollama = Sim::start(sim::Settings { models: models(), ..settings() }).await.unwrap();
    assert_eq!(raw::post(ollama.addr(), "/api/chat", &chat("a", 1)).await.status, 200);
    let mut batch = Vec::new();
    for name in &names[1..5] {
        batch.push(ask(ollama.addr(), name).await);
        let tag = format!("{name}:latest");
        eventually("it is in the queue", || ollama.runner(&tag).peak_inside == 1).await;
    }
    assert_eq!(raw::post(ollama.addr(), "/api/chat", &chat("f", 1)).await.status, 200);
    assert_eq!(ollama.loads(), 6, "raw: every load asked for before comes first");

    let plan = room_for(1).app("night").policy("shop.toml", "class = \"interactive\"\n");
    let house = plan.policy("night.toml", "class = \"batch\"\n").sim(|sim| sim.models = models()).build().await;
    assert_eq!(house.post("shop", "/api/chat", &chat("a", 1)).await.status, 200);
    let mut batch = Vec::new();
    for (before, name) in names[1..5].iter().enumerate() {
        batch.push(ask_as(&house, "night", name).await);
        // the first one may be loading already
        house.until_queued(before).await;
    }
    assert_eq!(house.post("shop", "/api/chat", &chat("f", 1)).await.status, 200);
    assert!(house.sim.loads() <= 4, "{} loads before a person was answered", house.sim.loads());
    for waiting in batch {
        assert_eq!(waiting.read().await.status, 200);
    }
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

/// B2: a victim stays in use while it is marked, so whoever keeps it busy keeps every load waiting.
#[tokio::test]
async fn a_late_model_gets_its_turn_while_another_is_kept_busy() {
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

    let house = room_for(1).build().await;
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

/// B3: requests that differ in a runner option reload the model under each other.
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

/// B4: whoever leaves the queue for loads keeps his place in it, and his handler never returns.
#[tokio::test]
async fn a_caller_that_leaves_the_queue_gives_up_his_place() {
    let (ollama, running) = busy(sim::Settings { max_queue: 1, ..settings() }).await;
    let first = ask(ollama.addr(), "gemma:b").await;
    eventually("the loader has it", || ollama.runner("gemma:b").inside == 1).await;
    let second = ask(ollama.addr(), "gemma:c").await;
    eventually("it is in the queue", || ollama.runner("gemma:c").inside == 1).await;
    drop(second);
    eventually("its handler is lost", || ollama.runner("gemma:c").leaked_handlers == 1).await;
    let refused = raw::post(ollama.addr(), "/api/chat", &chat("gemma:d", 1)).await;
    assert_eq!(refused.status, 503, "raw: nobody is in the queue, and it is full: {refused:?}");
    drop(running);
    assert_eq!(first.read().await.status, 200);
    assert_eq!(raw::post(ollama.addr(), "/api/chat", &chat("gemma:d", 1)).await.status, 200);
    assert_eq!(ollama.runner("gemma:c").loads, 0);

    let plan = room_for(1).policy("shop.toml", "max_queued = 2\n");
    let (house, running) = busy_house(plan).await;
    let first = ask_as(&house, "shop", "gemma:b").await;
    house.until_queued(1).await;
    let second = ask_as(&house, "shop", "gemma:c").await;
    house.until_queued(2).await;
    drop(second);
    house.until_metric("gaucho_scheduler_queue_depth ", 1.0).await;
    let third = ask_as(&house, "shop", "gemma:d").await;
    house.until_queued(2).await;
    drop(running);
    assert_eq!((first.read().await.status, third.read().await.status), (200, 200));
    let left = house.sim.runner("gemma:c");
    assert_eq!((left.loads, left.peak_inside, left.leaked_handlers), (0, 0, 0), "it never went upstream");
    house.close().await;
}

/// B5: whoever leaves while the loader has his request still costs somebody his place in memory, and a load.
#[tokio::test]
async fn a_caller_that_leaves_while_room_is_made_for_him_costs_nobody_his_place() {
    let (ollama, running) = busy(settings()).await;
    let nobody = ask(ollama.addr(), "gemma:b").await;
    eventually("room is made for it", || ollama.runner("gemma:b").inside == 1).await;
    drop(nobody);
    eventually("it has left", || ollama.runner("gemma:b").inside == 0).await;
    drop(running);
    eventually("a load is begun for nobody", || ollama.runner("gemma:b").loads == 1).await;
    assert_eq!(ps(ollama.addr()).await, "{\"models\":[]}", "raw: and gemma:a is gone for it");
    assert_eq!(raw::post(ollama.addr(), "/api/chat", &chat("gemma:a", 1)).await.status, 200);
    assert_eq!(ollama.runner("gemma:a").loads, 2);

    let (house, running) = busy_house(room_for(1)).await;
    let nobody = ask_as(&house, "shop", "gemma:b").await;
    house.until_queued(1).await;
    drop(nobody);
    house.until_metric("gaucho_scheduler_queue_depth ", 0.0).await;
    drop(running);
    house.until_upstream_is_idle().await;
    assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a", 1)).await.status, 200);
    assert_eq!((house.sim.runner("gemma:a").loads, house.sim.runner("gemma:b").loads), (1, 0));
    house.close().await;
}

/// A caller of a stream that reads its beginning, then nothing more until no buffer has room, and then leaves.
async fn stop_reading_and_leave(addr: SocketAddr, key: Option<&str>, sim: &Sim, tokens: u32) {
    // more than all buffers on the way take
    sim.inject(Fault::HugeLine { after: 1, bytes: 8 << 20 });
    let body = json!({ "model": "gemma:a", "prompt": "x", "options": { "num_predict": tokens } }).to_string();
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let mut stalled = raw::open_small(addr).await;
    let head =
        format!("POST /api/generate HTTP/1.1\r\nHost: localhost\r\n{key}Content-Length: {}\r\n\r\n{body}", body.len());
    stalled.write(head.as_bytes()).await;
    let mut reply = stalled.read_head().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(stalled.chunk(&mut reply).await.is_some());
    assert!(stalled.line().await.is_some(), "the large piece has begun");
}

/// B6: a generation whose caller stopped reading and left holds its slot until it ends by itself.
#[tokio::test]
async fn a_caller_that_stops_reading_and_leaves_does_not_hold_the_slot() {
    let slow = |sim: &mut sim::Settings| sim.speed = 2.0;
    let mut raw_settings = settings();
    slow(&mut raw_settings);
    let ollama = Sim::start(raw_settings).await.unwrap();
    let addr = ollama.addr();
    assert_eq!(raw::post(addr, "/api/chat", &chat("gemma:a", 1)).await.status, 200);
    let begun = Instant::now();
    stop_reading_and_leave(addr, None, &ollama, 700).await;
    eventually("the generation is nobody's", || ollama.tally().abandoned == 1).await;
    let next = tokio::spawn(async move { raw::post(addr, "/api/chat", &chat("gemma:a", 1)).await });
    eventually("the next one waits", || ollama.runner("gemma:a").inside == 2).await;
    let unload = raw::post(addr, "/api/generate", &json!({ "model": "gemma:a", "keep_alive": 0 })).await;
    assert!(unload.body().contains("\"done_reason\":\"unload\""), "{unload:?}");
    assert!(ps(addr).await.contains("gemma:a"), "raw: it says it unloads, and does not");
    assert_eq!((ollama.tally().abandoned, next.is_finished()), (1, false));
    assert_eq!(next.await.unwrap().status, 200);
    // 700 tokens at 2 × 68 a second
    assert!(begun.elapsed() > Duration::from_secs(5), "raw: not before the end: {:?}", begun.elapsed());
    assert_eq!(ollama.tally().abandoned, 0);

    let house = Plan::new().app("shop").sim(slow).build().await;
    assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a", 1)).await.status, 200);
    house.until_upstream_is_idle().await;
    // half a minute of generation
    stop_reading_and_leave(house.addr, Some(house.key("shop")), &house.sim, 4000).await;
    let left = Instant::now();
    assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a", 1)).await.status, 200);
    assert!(left.elapsed() < Duration::from_secs(10), "{:?}", left.elapsed());
    assert_eq!(house.sim.tally().abandoned, 0);
    assert_eq!(house.sim.tally().cancelled, 1);
    house.close().await;
}

/// B7: requests for a loaded model wait for its slots without bound, whatever `OLLAMA_MAX_QUEUE` says.
#[tokio::test]
async fn the_wait_for_a_slot_is_bounded_and_refusals_say_how_long_the_queue_is() {
    let (ollama, running) = busy(sim::Settings { max_queue: 2, ..settings() }).await;
    let mut crowd = Vec::new();
    for _ in 0..30 {
        crowd.push(ask(ollama.addr(), "gemma:a").await);
    }
    eventually("all are taken", || ollama.runner("gemma:a").inside == 31).await;
    assert_eq!(ollama.tally().answered, 1, "raw: nobody is refused");
    drop((running, crowd));

    let (house, running) = busy_house(Plan::new().app("shop").policy("shop.toml", "max_queued = 5\n")).await;
    let mut crowd = Vec::new();
    for count in 1..=5 {
        crowd.push(ask_as(&house, "shop", "gemma:a").await);
        house.until_queued(count).await;
    }
    for path in dialect::TEXT {
        let refused = house.post("shop", path, &dialect::request(path, "gemma:a", true)).await;
        let text = dialect::refusal(path, 429, &refused);
        assert!(text.contains("has 5 requests waiting and may have 5 (max_queued)"), "{text}");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    drop(running);
    for waiting in crowd {
        assert_eq!(waiting.read().await.status, 200);
    }
    assert_eq!(house.sim.runner("gemma:a").peak_inside, 1, "no more inside than there are slots");
    house.close().await;
}

/// B8: among idle runners the victim is the first by the name of its blob, however dear or busy it is.
#[tokio::test]
async fn the_victim_is_the_one_that_is_cheap_to_bring_back() {
    let models = || {
        let of = |name: &str, blob: &str, load_ms| Model {
            weights: blob.repeat(64),
            load_ms,
            ..Model::named(name).unwrap()
        };
        vec![of("dear", "0", 20_000), of("cheap", "1", 500), of("third", "2", 500)]
    };
    let visits = ["dear", "cheap", "dear", "dear", "third"];
    let ollama = Sim::start(sim::Settings { models: models(), max_loaded_models: 2, ..settings() }).await.unwrap();
    for model in visits {
        assert_eq!(raw::post(ollama.addr(), "/api/chat", &chat(model, 1)).await.status, 200);
    }
    let left = ps(ollama.addr()).await;
    assert!(left.contains("cheap") && !left.contains("dear"), "raw: {left}");

    let house = room_for(2).sim(|sim| sim.models = models()).build().await;
    for model in visits {
        assert_eq!(house.post("shop", "/api/chat", &chat(model, 1)).await.status, 200);
    }
    let left = ps(house.sim.addr()).await;
    assert!(left.contains("dear") && !left.contains("cheap"), "{left}");
    assert_eq!(house.sim.loads(), 3);
    house.close().await;
}

/// Requests for `model` that are left after a moment, again and again.
async fn impatient(addr: SocketAddr, headers: &[(String, String)], sim: &Sim, times: u64) {
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

/// B9: a load belongs to the request that asked for it and dies with its client.
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

/// B10: for a model that can never fit, everybody else is evicted one by one, and then it spills.
#[tokio::test]
async fn a_model_that_can_never_fit_is_refused_with_numbers_before_it_evicts_anybody() {
    let models = || {
        let of = |name: &str, size: u64| Model { size, ..Model::named(name).unwrap() };
        vec![of("one", 1 << 30), of("two", 1 << 30), of("huge", 40 << 30)]
    };
    let memory = 8_u64 << 30;
    let loaded = sim::Settings { models: models(), max_loaded_models: 3, memory: Some(memory), ..settings() };
    let ollama = Sim::start(loaded).await.unwrap();
    for model in ["one", "two", "huge"] {
        assert_eq!(raw::post(ollama.addr(), "/api/chat", &chat(model, 1)).await.status, 200);
    }
    let left: Value = serde_json::from_str(&ps(ollama.addr()).await).unwrap();
    let left = left["models"].as_array().unwrap();
    assert_eq!((left.len(), &left[0]["name"]), (1, &json!("huge:latest")), "raw: alone: {left:?}");
    assert!(left[0]["size_vram"].as_u64() < left[0]["size"].as_u64(), "raw: and not even in memory: {left:?}");

    let plan = Plan::new().app("shop").settings(move |settings| settings.endpoints[0].memory = Some(memory));
    let house = plan.sim(|sim| (sim.models, sim.memory) = (models(), Some(memory))).build().await;
    for model in ["one", "two"] {
        assert_eq!(house.post("shop", "/api/chat", &chat(model, 1)).await.status, 200);
    }
    let refused = house.post("shop", "/api/chat", &chat("huge", 1)).await;
    assert_eq!(refused.status, 500, "{refused:?}");
    assert!(refused.body().contains("8 GiB") || refused.body().contains("8192 MiB"), "{refused:?}");
    let refused = house.post("shop", "/v1/chat/completions", &chat("huge", 1)).await;
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), (None, Some("false")));
    let left = ps(house.sim.addr()).await;
    assert!(left.contains("one:latest") && left.contains("two:latest"), "{left}");
    assert_eq!(house.sim.loads(), 2);
    house.close().await;
}

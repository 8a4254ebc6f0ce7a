//! Callers that leave or stop reading: nothing of theirs stays in the queue or in a slot.

use std::time::{Duration, Instant};

use gaucho::sim::Fault;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::support::dialect;
use crate::support::eventually;
use crate::support::gateway::{House, Plan};

fn long(model: &str) -> String {
    let messages = json!([{ "role": "user", "content": "Why is the sky blue?" }]);
    json!({ "model": model, "messages": messages, "options": { "num_predict": 2000 } }).to_string()
}

fn short(model: &str) -> serde_json::Value {
    json!({ "model": model, "prompt": "x", "stream": false, "options": { "num_predict": 2 } })
}

/// A house in which answers take long enough to be left.
async fn slow() -> House {
    Plan::new().app("shop").sim(|sim| sim.speed = 2.0).build().await
}

#[tokio::test]
async fn a_caller_that_leaves_while_its_answer_runs_cancels_it_upstream_at_once() {
    let house = slow().await;
    let mut exchange = house.send("shop", "POST", "/api/chat", Some(&long("gemma:a"))).await;
    let mut head = exchange.read_head().await;
    assert!(exchange.chunk(&mut head).await.is_some());
    let left = Instant::now();
    drop(exchange);
    eventually("the call upstream is cancelled", || house.sim.tally().cancelled == 1).await;
    // a tenth of a second is promised; a busy machine gets a whole one
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    house.until_metric("gaucho_scheduler_queue_depth ", 0.0).await;
    let line = house.until_log(|line| line["outcome"] == "left").await;
    assert!(line["output_tokens"].as_u64() > Some(0), "{line}");
    assert!(line["generation_ms"].as_f64() > Some(0.0), "what it used until then counts: {line}");
    house.close().await;
}

#[tokio::test]
async fn a_caller_that_leaves_the_queue_is_withdrawn_and_costs_upstream_nothing() {
    let house = slow().await;
    let mut first = house.send("shop", "POST", "/api/chat", Some(&long("gemma:a"))).await;
    let mut head = first.read_head().await;
    assert!(first.chunk(&mut head).await.is_some());
    let received = house.sim.tally().received;
    let second = house.send("shop", "POST", "/api/chat", Some(&long("gemma:a"))).await;
    house.until_metric("gaucho_scheduler_queue_depth ", 1.0).await;
    let left = Instant::now();
    drop(second);
    house.until_metric("gaucho_scheduler_queue_depth ", 0.0).await;
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    drop(first);
    house.until_upstream_is_idle().await;
    assert_eq!(house.sim.tally().received, received, "it never went upstream");
    house.close().await;
}

#[tokio::test]
async fn a_caller_that_stops_reading_never_holds_the_slot() {
    let house = Plan::new().app("shop").sim(|sim| sim.speed = 1000.0).build().await;
    // more than any socket buffer takes, and nobody who reads it
    house.sim.inject(Fault::HugeLine { after: 1, bytes: 32 << 20 });
    let body = json!({ "model": "gemma:a", "prompt": "x", "options": { "num_predict": 5 } }).to_string();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut stalled = socket.connect(house.addr).await.unwrap();
    let head = format!(
        "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
        house.key("shop"),
        body.len()
    );
    stalled.write_all(head.as_bytes()).await.unwrap();
    eventually("the answer is complete upstream", || {
        let tally = house.sim.tally();
        tally.answered >= 2 && tally.in_flight == 0
    })
    .await;
    assert_eq!(
        house.post("shop", "/api/generate", &short("gemma:a")).await.status,
        200,
        "the next is served beside it"
    );
    drop(stalled);
    house.close().await;
}

#[tokio::test]
async fn fifty_callers_at_once_never_exceed_the_slots() {
    let house = Plan::new().app("shop").slots(3).build().await;
    let body = short("gemma:a");
    let asks = (0..50).map(|_| house.post("shop", "/api/generate", &body));
    let answers = futures_util::future::join_all(asks).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(house.sim.runner("gemma:a").peak_inside, 3, "all slots used, none twice");
    house.close().await;
}

#[tokio::test]
async fn one_caller_gets_its_turn_beside_an_application_with_many() {
    let house = Plan::new().app("crowd").app("single").build().await;
    assert_eq!(house.post("single", "/api/generate", &short("gemma:a")).await.status, 200);
    let body = short("gemma:a");
    let crowd = futures_util::future::join_all((0..20).map(|_| house.post("crowd", "/api/generate", &body)));
    let single = async {
        house.until_queued(15).await;
        let before = house.sim.tally().answered;
        assert_eq!(house.post("single", "/api/generate", &body).await.status, 200);
        house.sim.tally().answered - before
    };
    let (answers, overtook) = tokio::join!(crowd, single);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(overtook <= 6, "{overtook} others were answered first");
    house.close().await;
}

/// Whose request upstream is answering, in order of arrival: the prompt's first letter.
fn order(house: &House) -> Vec<char> {
    let seen = house.sim.seen();
    let prompts = seen.iter().filter(|seen| seen.path == "/api/generate");
    let letter = |body: &[u8]| -> Option<char> {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        body["prompt"].as_str()?.chars().next()
    };
    prompts.filter_map(|seen| letter(&seen.body)).collect()
}

#[tokio::test]
async fn an_application_with_ten_clients_leaves_half_to_one_with_a_single_client() {
    let house = Plan::new().app("crowd").app("single").build().await;
    let ask = async |app: &str, prompt: &str| {
        let body = json!({ "model": "gemma:a", "prompt": prompt, "stream": false, "options": { "num_predict": 8 } });
        assert_eq!(house.post(app, "/api/generate", &body).await.status, 200);
    };
    ask("single", "load").await;
    let done = std::cell::Cell::new(false);
    let client = async || {
        while !done.get() {
            ask("crowd", "x").await;
        }
    };
    let crowd = futures_util::future::join_all((0..10).map(|_| client()));
    let single = async {
        house.until_queued(8).await;
        for _ in 0..20 {
            ask("single", "y").await;
        }
        done.set(true);
    };
    tokio::join!(crowd, single);
    let order = order(&house);
    let first = order.iter().position(|who| *who == 'y').unwrap();
    let last = order.iter().rposition(|who| *who == 'y').unwrap();
    // between its first and its last, in the order in which Ollama got them
    let others = order[first..last].iter().filter(|who| **who == 'x').count();
    assert!(others <= 30, "{others} of the crowd beside 20 of the single client: {order:?}");
    assert_eq!(house.sim.runner("gemma:a").peak_inside, 1);
    house.close().await;
}

#[tokio::test]
async fn a_crowd_that_leaves_leaves_nothing_behind() {
    let house = Plan::new().app("shop").slots(2).build().await;
    assert_eq!(house.post("shop", "/api/generate", &short("gemma:a")).await.status, 200);
    let before = house.sim.tally().received;
    let mut crowd = Vec::new();
    for count in 0..20 {
        if count < 2 {
            // what runs goes on until its caller leaves
            house.sim.inject(Fault::Stall { after: 0 });
        }
        crowd.push(house.send("shop", "POST", "/api/chat", Some(&long("gemma:a"))).await);
        house.until_queued(usize::saturating_sub(count, 1)).await;
    }
    // of those that wait every second one leaves, then the rest, and at last those that run
    let waiting = crowd.split_off(2);
    let (stay, leave): (Vec<_>, Vec<_>) = waiting.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    drop(leave);
    house.until_metric("gaucho_scheduler_queue_depth ", 9.0).await;
    drop(stay);
    house.until_metric("gaucho_scheduler_queue_depth ", 0.0).await;
    let tally = house.sim.tally();
    assert_eq!(tally.received, before + 2, "those that waited never went upstream: {tally:?}");
    drop(crowd);
    house.until_upstream_is_idle().await;
    assert!(house.sim.runner("gemma:a").peak_inside <= 2);
    assert_eq!(house.post("shop", "/api/generate", &short("gemma:a")).await.status, 200);
    house.close().await;
}

#[tokio::test]
async fn on_every_text_surface_a_caller_that_closes_or_half_closes_has_left_at_once() {
    let house = Plan::new().app("shop").build().await;
    assert_eq!(house.post("shop", "/api/generate", &short("gemma:a")).await.status, 200);
    let mut cancelled = house.sim.tally().cancelled;
    let mut slowest = Duration::ZERO;
    for path in dialect::TEXT {
        for (stream, half) in [(true, true), (true, false), (false, true), (false, false)] {
            let body = dialect::request(path, "gemma:a", stream).to_string();
            house.sim.inject(Fault::Stall { after: 0 });
            let running = house.send("shop", "POST", path, Some(&body)).await;
            eventually("it runs", || house.sim.tally().in_flight == 1).await;
            let waiting = house.send("shop", "POST", path, Some(&body)).await;
            house.until_queued(1).await;
            // first the one that waits, then the one that runs
            let mut leave = async |mut exchange: crate::support::raw::Exchange, running: bool| {
                let left = Instant::now();
                if half {
                    exchange.half_close().await;
                }
                let kept = half.then_some(exchange);
                if running {
                    eventually("it is cancelled", || house.sim.tally().cancelled == cancelled + 1).await;
                } else {
                    house.until_metric("gaucho_scheduler_queue_depth ", 0.0).await;
                }
                slowest = slowest.max(left.elapsed());
                drop(kept);
            };
            leave(waiting, false).await;
            leave(running, true).await;
            cancelled += 1;
        }
    }
    // a tenth of a second is promised; a busy machine gets a whole one
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    house.close().await;
}

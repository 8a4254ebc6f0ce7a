//! Streaming `/v1` callers that hear from the gateway while they wait.

use std::time::{Duration, Instant};

use gaucho::sim::Fault;
use serde_json::{Value, json};

use crate::support::dialect::{self, broken_stream, is_whole, refusal, request};
use crate::support::eventually;
use crate::support::gateway::{House, Plan};
use crate::support::raw::{Exchange, Raw};

/// The surfaces whose streams can carry comments.
const EVENTS: [&str; 4] = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"];
const EVERY_SECOND: (&str, &str) = ("X-Gaucho-Keepalive", "1s");

/// Sends a stream that wants to hear every second, and reads its head, which comes before its slot.
async fn waiting(house: &House, path: &str) -> (Exchange, Raw) {
    let mut exchange = house.send_with("shop", path, EVERY_SECOND, &request(path, "gemma:a", true)).await;
    let head = exchange.read_head().await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{head:?}");
    assert_eq!(house.metric("gaucho_scheduler_queue_depth ").await, 1.0, "{path}: it still waits");
    (exchange, head)
}

/// Reads the rest of a stream.
async fn rest(mut exchange: Exchange, mut head: Raw) -> Raw {
    while let Some(chunk) = exchange.chunk(&mut head).await {
        head.frames.push(chunk);
    }
    head
}

#[tokio::test]
async fn a_stream_that_waits_says_its_place_and_then_goes_on_as_always() {
    let house = House::with_gemma(Plan::new()).await;
    for path in EVENTS {
        let running = house.occupied("/api/chat", "gemma:a").await;
        let (mut exchange, mut head) = waiting(&house, path).await;
        let comment = exchange.chunk(&mut head).await.unwrap();
        assert!(comment.starts_with(": waiting; position 1, about ") && comment.ends_with(" s\n\n"), "{comment:?}");
        drop(running);
        let whole = rest(exchange, head).await;
        assert!(is_whole(path, &whole), "{whole:?}");
        let events: Vec<&String> = whole.frames.iter().filter(|frame| !frame.starts_with(": ")).collect();
        assert!(events.iter().all(|frame| frame.starts_with("data: ") || frame.starts_with("event: ")), "{events:?}");
    }
    let line = house.until_log(|line| line["route"] == EVENTS[1] && line["outcome"] == "answered").await;
    assert!(line["queue_ms"].as_f64() > Some(900.0), "{line}");
    house.close().await;
}

#[tokio::test]
async fn a_request_that_waits_for_its_first_event_says_so() {
    let house = House::with_gemma(Plan::new()).await;
    house.sim.inject(Fault::Stall { after: 0 });
    let body = request(EVENTS[0], "gemma:a", true);
    let mut exchange = house.send_with("shop", EVENTS[0], EVERY_SECOND, &body).await;
    let mut head = exchange.read_head().await;
    for _ in 0..2 {
        let comment = exchange.chunk(&mut head).await.unwrap();
        assert_eq!(comment, ": running; waiting for the first token\n\n");
    }
    drop(exchange);
    eventually("the call upstream is cancelled", || house.sim.tally().cancelled == 1).await;
    house.close().await;
}

#[tokio::test]
async fn a_fault_after_the_head_is_the_streams_last_event() {
    let house = House::with_gemma(Plan::new().policy("shop.toml", "max_wait = 2.5\n")).await;
    for path in EVENTS {
        let running = house.occupied("/api/chat", "gemma:a").await;
        let (exchange, head) = waiting(&house, path).await;
        let reply = rest(exchange, head).await;
        let text = broken_stream(path, &reply);
        assert!(text.contains("max_wait") && text.contains("number 1"), "{text}");
        assert!(reply.frames[0].starts_with(": waiting"), "{reply:?}");
        drop(running);
        house.until_upstream_is_idle().await;
    }
    let line = house.until_log(|line| line["outcome"] == "waited_too_long").await;
    assert_eq!(line["status"], json!(200), "{line}");
    assert!(
        line["queue_ms"].as_f64().unwrap() > 0.9 * line["total_ms"].as_f64().unwrap(),
        "it did nothing else: {line}"
    );
    for path in EVENTS {
        let running = house.occupied("/api/chat", "gemma:a").await;
        house.sim.inject(Fault::Close { after: 0 });
        let (exchange, head) = waiting(&house, path).await;
        drop(running);
        broken_stream(path, &rest(exchange, head).await);
    }
    house.close().await;
}

#[tokio::test]
async fn what_never_comes_to_waiting_keeps_its_status() {
    let policy = "models = [\"gemma:*\"]\nmax_queued = 1\n";
    let house = House::with_gemma(Plan::new().policy("shop.toml", policy)).await;
    let running = house.occupied("/api/chat", "gemma:a").await;
    let kept = waiting(&house, EVENTS[0]).await;
    for path in EVENTS {
        let asks = [
            (request(path, "gemma:a", true), 429),
            (request(path, "gemma:none", true), 404),
            (request(path, "tinybert", true), 403),
            (json!({ "model": 7 }), 400),
        ];
        for (body, status) in asks {
            let refused = house.send_with("shop", path, EVERY_SECOND, &body).await.read().await;
            refusal(path, status, &refused);
            assert_eq!(refused.header("retry-after").is_some(), status == 429, "{refused:?}");
        }
        for bad in ["soon", "0.5s", "2m", "-1"] {
            let header = ("X-Gaucho-Keepalive", bad);
            let refused = house.send_with("shop", path, header, &request(path, "gemma:a", true)).await;
            let text = refusal(path, 400, &refused.read().await);
            assert!(text.contains("X-Gaucho-Keepalive") && text.contains("from 1s to 1m"), "{text}");
        }
        let nobody = [("X-Gaucho-Keepalive".to_owned(), "1s".to_owned())];
        let body = request(path, "gemma:a", true).to_string();
        let refused = crate::support::raw::send(house.addr, "POST", path, &nobody, Some(&body)).await;
        refusal(path, 401, &refused.read().await);
    }
    drop((running, kept));
    house.close().await;
}

#[tokio::test]
async fn a_caller_that_leaves_is_withdrawn_before_and_after_its_first_comment() {
    let house = House::with_gemma(Plan::new()).await;
    let running = house.occupied("/api/chat", "gemma:a").await;
    let received = house.sim.tally().received;
    let mut slowest = Duration::ZERO;
    for path in EVENTS {
        for (heard, half) in [(false, false), (false, true), (true, false), (true, true)] {
            let (mut exchange, mut head) = waiting(&house, path).await;
            if heard {
                assert!(exchange.chunk(&mut head).await.is_some());
            }
            let left = Instant::now();
            if half {
                exchange.half_close().await;
            }
            let kept = half.then_some(exchange);
            house.until_metric("gaucho_scheduler_queue_depth ", 0.0).await;
            slowest = slowest.max(left.elapsed());
            drop(kept);
        }
    }
    // a tenth of a second is promised; a busy machine gets a whole one
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(house.sim.tally().received, received, "none of them went upstream");
    let line = house.until_log(|line| line["outcome"] == "left" && line["route"] == EVENTS[1]).await;
    assert_eq!((&line["app"], &line["status"]), (&json!("shop"), &json!(200)), "{line}");
    drop(running);
    house.close().await;
}

#[tokio::test]
async fn a_revoked_key_waits_no_longer() {
    let house = House::with_gemma(Plan::new()).await;
    let running = house.occupied("/api/chat", "gemma:a").await;
    let (exchange, head) = waiting(&house, EVENTS[0]).await;
    house.revoke("shop");
    let reply = tokio::time::timeout(Duration::from_secs(5), rest(exchange, head)).await.unwrap();
    assert!(broken_stream(EVENTS[0], &reply).contains("revoked"), "{reply:?}");
    drop(running);
    house.close().await;
}

#[tokio::test]
async fn what_cannot_carry_comments_is_served_as_without_the_wish() {
    let house = House::with_gemma(Plan::new().policy("shop.toml", "keepalive = 1\n")).await;
    let running = house.occupied("/api/chat", "gemma:a").await;
    let mut asked = Vec::new();
    for path in dialect::TEXT {
        for stream in [false, true] {
            if EVENTS.contains(&path) && stream {
                continue;
            }
            let header = ("X-Gaucho-Keepalive", if EVENTS.contains(&path) { "1s" } else { "whatever" });
            asked.push((path, stream, house.send_with("shop", path, header, &request(path, "gemma:a", stream)).await));
            house.until_queued(asked.len()).await;
        }
    }
    // longer than the interval: long enough that whoever would be told has been
    let (mut told, mut head) = waiting_with_policy(&house, asked.len() + 1).await;
    assert!(told.chunk(&mut head).await.unwrap().starts_with(": waiting"), "the policy's own key speaks");
    let off = ("X-Gaucho-Keepalive", "off");
    let silent = house.send_with("shop", EVENTS[0], off, &request(EVENTS[0], "gemma:a", true)).await;
    house.until_queued(asked.len() + 2).await;
    drop(running);
    for (path, stream, exchange) in asked {
        let reply = exchange.read().await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        assert!(reply.frames.iter().all(|frame| !frame.starts_with(": ")), "{path}: {reply:?}");
        assert!(reply.header("x-gaucho-queue-wait").is_some(), "{path}: {reply:?}");
        assert!(!stream || is_whole(path, &reply), "{path}: {reply:?}");
        let lines = reply.body();
        let json = lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
        assert!(json, "{path}: {lines}");
    }
    assert!(is_whole(EVENTS[1], &rest(told, head).await));
    let silent = silent.read().await;
    assert!(is_whole(EVENTS[0], &silent) && !silent.body().contains(": waiting"), "{silent:?}");
    house.close().await;
}

/// A stream that hears every second because its application's policy says so.
async fn waiting_with_policy(house: &House, queued: usize) -> (Exchange, Raw) {
    let body = request(EVENTS[1], "gemma:a", true).to_string();
    let mut exchange = house.send("shop", "POST", EVENTS[1], Some(&body)).await;
    let head = exchange.read_head().await;
    assert_eq!(head.status, 200, "{head:?}");
    house.until_queued(queued).await;
    (exchange, head)
}

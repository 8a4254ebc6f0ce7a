//! An Ollama that fails: before the first event the caller gets a status, after it the dialect's own error, and never
//! a silent end; the slot is free again either way.

use std::time::Duration;

use gaucho::sim::Fault;
use tokio::net::TcpListener;

use crate::support::dialect::{TEXT, broken_stream, request};
use crate::support::gateway::{House, Plan};

async fn house() -> House {
    let house = Plan::new()
        .app("shop")
        .settings(|settings| {
            settings.upstream.idle = Duration::from_millis(300);
            settings.upstream.first_event = Duration::from_secs(1);
            settings.upstream.whole = Duration::from_secs(1);
        })
        .build()
        .await;
    // loaded beforehand, so that every fault meets an answer
    assert_eq!(house.post("shop", "/api/chat", &request("/api/chat", "gemma:a", false)).await.status, 200);
    house
}

async fn the_next_is_served(house: &House, path: &str) {
    let next = house.post("shop", path, &request(path, "gemma:a", false)).await;
    assert_eq!(next.status, 200, "{path}: {next:?}");
}

#[tokio::test]
async fn a_failure_in_the_middle_of_a_stream_is_an_error_in_the_dialect() {
    let house = house().await;
    let faults = [
        Fault::Close { after: 2 },
        Fault::Crash { after: 2 },
        Fault::EndSilently { after: 2 },
        Fault::Garbage { after: 2 },
        Fault::Stall { after: 2 },
    ];
    for path in TEXT {
        for fault in &faults {
            house.sim.inject(fault.clone());
            let reply = house.post("shop", path, &request(path, "gemma:a", true)).await;
            assert_eq!((reply.status, reply.cut), (200, false), "{path} {fault:?}: {reply:?}");
            assert!(reply.frames.len() >= 3, "{path} {fault:?}: what came before the failure is passed on: {reply:?}");
            let message = broken_stream(path, &reply);
            assert!(!message.is_empty(), "{path} {fault:?}");
            if matches!(fault, Fault::Crash { .. }) {
                assert!(message.contains("unexpected EOF"), "Ollama's own words: {message}");
            }
            the_next_is_served(&house, path).await;
        }
    }
    let endpoint = house.sim.addr();
    let series = |reason: &str| format!("gaucho_upstream_errors_total{{endpoint=\"{endpoint}\",reason=\"{reason}\"}}");
    house.until_metric(&series("upstream_broken"), 3.0 * TEXT.len() as f64).await;
    house.until_metric(&series("upstream_error"), TEXT.len() as f64).await;
    house.until_metric(&series("upstream_timeout"), TEXT.len() as f64).await;
    let line = house.until_log(|line| line["outcome"] == "upstream_timeout").await;
    assert!(line["reason"].as_str().unwrap().contains("stopped in the middle"), "{line}");
    house.close().await;
}

#[tokio::test]
async fn a_failure_before_the_first_event_has_a_status() {
    let house = house().await;
    let busy = "{\"error\":\"server busy, please try again.  maximum pending requests exceeded\"}";
    let faults = [
        (Fault::Answer { status: 500, body: "{\"error\":\"boom\"}".into() }, 500, "boom"),
        (Fault::Answer { status: 503, body: busy.into() }, 503, "server busy"),
        (Fault::Answer { status: 200, body: "<html>".into() }, 502, "is no answer of Ollama's"),
        (Fault::Close { after: 0 }, 502, "broke off before anything of an answer came"),
        (Fault::Crash { after: 0 }, 500, "unexpected EOF"),
        (Fault::Garbage { after: 0 }, 502, "is no answer of Ollama's"),
        (Fault::Stall { after: 0 }, 504, "within"),
    ];
    for path in TEXT {
        for stream in [false, true] {
            // one wait for silence per dialect is enough
            let twin = path.contains("generate") || path == "/v1/completions";
            let silent = |fault: &Fault| twin && matches!(fault, Fault::Stall { .. });
            for (fault, status, text) in faults.iter().filter(|(fault, ..)| !silent(fault)) {
                house.sim.inject(fault.clone());
                let reply = house.post("shop", path, &request(path, "gemma:a", stream)).await;
                assert_eq!(reply.status, *status, "{path} stream {stream} {fault:?}: {reply:?}");
                assert!(reply.body().contains(text), "{path} stream {stream} {fault:?}: {reply:?}");
                if *status == 503 {
                    assert!(reply.header("retry-after").is_some(), "{reply:?}");
                }
                the_next_is_served(&house, path).await;
            }
        }
    }
    house.close().await;
}

#[tokio::test]
async fn one_very_long_line_passes() {
    let house = house().await;
    house.sim.inject(Fault::HugeLine { after: 1, bytes: 3 << 20 });
    let reply = house.post("shop", "/api/chat", &request("/api/chat", "gemma:a", true)).await;
    assert!(reply.body().len() > 3 << 20 && reply.body().contains("\"done\":true"));
    house.close().await;
}

#[tokio::test]
async fn headers_that_come_late_are_waited_for() {
    let house = house().await;
    house.sim.inject(Fault::DelayHeaders(Duration::from_millis(500)));
    the_next_is_served(&house, "/v1/chat/completions").await;
    house.close().await;
}

#[tokio::test]
async fn without_any_server_callers_learn_so_at_once_and_readiness_says_why() {
    // a port that was free a moment ago: nobody listens there
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let house = Plan::new().app("shop").upstreams(&[&format!("http://{gone}")]).build().await;
    for path in TEXT {
        let reply = house.post("shop", path, &request(path, "gemma:a", false)).await;
        assert_eq!(reply.status, 502, "{path}: {reply:?}");
        assert!(reply.body().contains("no Ollama server can be reached"), "{path}: {reply:?}");
        assert!(reply.header("retry-after").is_some(), "{path}: {reply:?}");
    }
    let ready = crate::support::raw::send(house.admin, "GET", "/readyz", &[], None).await.read().await;
    assert_eq!(ready.status, 503);
    assert!(ready.body().contains("cannot connect"), "{ready:?}");
    house.close().await;
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_given_up() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", mute.local_addr().unwrap());
    let held = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((socket, _)) = mute.accept().await {
            open.push(socket);
        }
    });
    let house = Plan::new().app("shop").upstreams(&[&url]).build().await;
    let alive = crate::support::raw::send(house.addr, "GET", "/healthz", &[], None).await.read().await;
    assert_eq!(alive.status, 200);
    let ready = crate::support::raw::send(house.addr, "GET", "/readyz", &[], None).await.read().await;
    assert_eq!(ready.status, 503, "{ready:?}");
    held.abort();
}

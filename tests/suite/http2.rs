//! HTTP/2 by prior knowledge: the same answers, the same limits, and a stream that is reset has left at once.

use std::time::Duration;

use gaucho::sim::Fault;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::eventually;
use crate::support::gateway::Plan;
use crate::support::h2::{self, piece};
use crate::support::{dialect, raw};

fn chat(model: &str, tokens: u32) -> String {
    let messages = json!([{ "role": "user", "content": "Why is the sky blue?" }]);
    json!({ "model": model, "messages": messages, "options": { "num_predict": tokens } }).to_string()
}

#[tokio::test]
async fn every_surface_answers_on_http2_as_on_http1() {
    let house = Plan::new().app("shop").build().await;
    let h2 = h2::plain(&house).await;
    for path in dialect::ALL {
        for (app, model) in [("shop", "gemma:a"), ("shop", "absent"), ("", "gemma:a")] {
            let body = dialect::request(path, model, false);
            let (status, _) = h2.ask(&house, app, "POST", path, &body.to_string()).await;
            let other = house.ask(app, "POST", path, Some(&body.to_string())).await;
            assert_eq!(status, other.status, "{path} {app} {model}");
        }
    }
    assert_eq!(h2.ask(&house, "", "GET", "/", "").await, (200, "Ollama is running".to_owned()));
    assert_eq!(h2.ask(&house, "", "GET", "/api/nothing", "").await.0, 404);
    let path_key = format!("/k/{}/api/version", house.key("shop"));
    assert_eq!(h2.ask(&house, "", "GET", &path_key, "").await.0, 200);
    house.close().await;
}

#[tokio::test]
async fn each_event_is_sent_as_it_comes() {
    let house = Plan::new().app("shop").sim(|sim| sim.speed = 2.0).build().await;
    let h2 = h2::plain(&house).await;
    for path in dialect::TEXT {
        let mut response =
            h2.send(&house, "shop", "POST", path, &dialect::request(path, "gemma:a", true).to_string()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        // the first event is here while the model still writes
        let first = piece(&mut response).await.unwrap().unwrap();
        assert!(first.ends_with('\n') && !first.trim_end().contains("\n\n"), "{path}: one event: {first:?}");
        assert_eq!(house.sim.tally().in_flight, 1, "{path}: the model still writes");
        let mut last = first;
        while let Some(next) = piece(&mut response).await {
            last = next.unwrap();
        }
        let ends = ["[DONE]", "\"done\":true", "event: message_stop", "event: response.completed"];
        assert!(ends.iter().any(|end| last.contains(end)), "{path}: {last}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_stream_that_is_reset_or_whose_connection_ends_has_left_at_once() {
    let house = Plan::new().app("shop").sim(|sim| sim.speed = 2.0).build().await;
    let (h2, socket) = h2::cuttable(&house).await;
    let mut running = h2.send(&house, "shop", "POST", "/api/chat", &chat("gemma:a", 2000)).await.unwrap();
    assert!(piece(&mut running).await.is_some());
    // one that waits: its answer has not begun, so dropping the exchange resets the stream
    let body = chat("gemma:a", 2000);
    let mut waiting = Box::pin(h2.send(&house, "shop", "POST", "/api/chat", &body));
    let queued = house.until_metric("gaucho_scheduler_queue_depth ", 1.0);
    tokio::select! {
        _ = &mut waiting => panic!("it does not wait"),
        () = queued => {}
    }
    drop(waiting);
    house.until_metric("gaucho_scheduler_queue_depth ", 0.0).await;
    assert_eq!(house.sim.tally().in_flight, 1, "the other stream of the connection goes on");
    assert!(piece(&mut running).await.is_some());
    drop(running);
    eventually("a reset cancels upstream", || house.sim.tally().cancelled == 1).await;
    assert_eq!(h2.ask(&house, "", "GET", "/", "").await.0, 200, "the connection goes on");
    // and the whole connection at once
    let mut running = h2.send(&house, "shop", "POST", "/api/chat", &chat("gemma:a", 2000)).await.unwrap();
    assert!(piece(&mut running).await.is_some());
    socket.shutdown(std::net::Shutdown::Both).unwrap();
    eventually("its end cancels upstream", || house.sim.tally().cancelled == 2).await;
    house.until_log(|line| line["outcome"] == "left" && line["output_tokens"].as_u64() > Some(0)).await;
    house.close().await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_never_holds_the_slot() {
    let house = Plan::new().app("shop").sim(|sim| sim.speed = 1000.0).build().await;
    house.sim.inject(Fault::HugeLine { after: 1, bytes: 8 << 20 });
    let h2 = h2::plain(&house).await;
    // hyper's client grants a window of a few megabytes and no more until it is read
    let unread = h2.send(&house, "shop", "POST", "/api/chat", &chat("gemma:a", 5)).await.unwrap();
    eventually("the answer is complete upstream", || {
        let tally = house.sim.tally();
        tally.answered >= 1 && tally.in_flight == 0
    })
    .await;
    let body = dialect::request("/api/chat", "gemma:a", false).to_string();
    assert_eq!(h2.ask(&house, "shop", "POST", "/api/chat", &body).await.0, 200, "beside it, on the same connection");
    drop(unread);
    house.close().await;
}

#[tokio::test]
async fn a_drain_lets_streams_finish_and_takes_no_more() {
    let house = Plan::new().app("shop").sim(|sim| sim.speed = 4.0).build().await;
    let h2 = h2::plain(&house).await;
    let mut running = h2.send(&house, "shop", "POST", "/api/chat", &chat("gemma:a", 60)).await.unwrap();
    assert!(piece(&mut running).await.is_some());
    let gaucho = house.gaucho;
    let drained = tokio::spawn(gaucho.drain(Duration::from_secs(30), std::future::pending()));
    let mut whole = String::new();
    while let Some(next) = piece(&mut running).await {
        whole.push_str(&next.unwrap());
    }
    assert!(whole.contains("\"done\":true"), "cut: {whole}");
    assert_eq!(drained.await.unwrap(), gaucho::app::Cut::default());
    // told to go, not torn off
    assert!(h2.task.await.unwrap().is_ok());
    house.sim.shutdown().await;
}

#[tokio::test]
async fn floods_of_resets_and_endless_heads_cost_their_own_connection() {
    let plan = Plan::new().app("shop").settings(|settings| {
        settings.limits.header_timeout = Duration::from_millis(300);
    });
    let house = plan.build().await;
    let ended = |bytes: Vec<u8>| {
        let addr = house.addr;
        async move {
            let mut socket = TcpStream::connect(addr).await.unwrap();
            socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            // a peer that is cut off in mid-sentence cannot write on
            let _ = socket.write_all(&bytes).await;
            let mut said = Vec::new();
            let end = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut said)).await;
            assert!(end.is_ok(), "the connection stays open");
        }
    };
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    let settings = frame(4, 0, 0, &[]);
    // GET / of the static table, opened and reset ten thousand times over
    let resets: Vec<u8> = (0..10_000u32)
        .flat_map(|n| {
            [frame(1, 5, 2 * n + 1, &[0x82, 0x84, 0x86]), frame(3, 0, 2 * n + 1, &8u32.to_be_bytes())].concat()
        })
        .collect();
    ended([settings.clone(), resets].concat()).await;
    // a head that is never complete
    let mut endless = frame(1, 1, 1, &[0x82, 0x84, 0x86]);
    for _ in 0..20_000 {
        endless.extend(frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']));
    }
    ended([settings.clone(), endless].concat()).await;
    // half a greeting, a greeting and nothing, and one that goes on with HTTP/1.1
    ended(settings.clone()).await;
    for start in ["PRI * HTTP", "PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n"] {
        let mut socket = raw::open(house.addr).await;
        socket.write(start.as_bytes()).await;
        assert!(tokio::time::timeout(Duration::from_secs(10), socket.read_to_end()).await.is_ok(), "{start}");
    }
    assert_eq!(house.ask("shop", "GET", "/api/version", None).await.status, 200, "others are served");
    house.close().await;
}

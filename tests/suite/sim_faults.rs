//! The faults that tests may put into a stand-in's answers, as a client sees them.

use std::time::Duration;

use gaucho::sim::{Fault, Settings, Sim, recorded_models};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::raw::{Raw, post, send};

async fn server() -> Sim {
    Sim::start(Settings { models: recorded_models(), speed: 1e6, ..Settings::default() }).await.unwrap()
}

/// One answer of eight tokens under `fault`, and one after it, which must be sound.
async fn upset(fault: Fault, stream: bool) -> Raw {
    let sim = server().await;
    sim.inject(fault);
    let body = json!({"model": "gemma:a", "prompt": "hello", "stream": stream, "options": {"num_predict": 8}});
    let raw = post(sim.addr(), "/api/generate", &body).await;
    let sound = post(sim.addr(), "/api/generate", &body).await;
    assert!(sound.body().contains("\"done\":true"), "{sound:?}");
    assert_eq!(sim.runner("gemma:a").inside, 0);
    raw
}

fn ends_well(raw: &Raw) -> bool {
    !raw.cut && raw.body().contains("\"done\":true")
}

#[tokio::test]
async fn a_stream_can_break_in_the_middle() {
    let raw = upset(Fault::Close { after: 3 }, true).await;
    assert!(raw.status == 200 && raw.cut && raw.frames.len() == 3, "{raw:?}");
    let raw = upset(Fault::EndSilently { after: 3 }, true).await;
    assert!(!raw.cut && raw.frames.len() == 3 && !ends_well(&raw), "{raw:?}");
    let raw = upset(Fault::Crash { after: 3 }, true).await;
    assert!(raw.frames.len() == 4 && raw.frames[3].starts_with("{\"error\":\"an error was encountered"), "{raw:?}");
    let raw = upset(Fault::Garbage { after: 3 }, true).await;
    assert!(serde_json::from_str::<Value>(&raw.frames[3]).is_err() && ends_well(&raw), "{raw:?}");
    let raw = upset(Fault::HugeLine { after: 0, bytes: 1 << 20 }, true).await;
    assert!(raw.frames[0].len() > 1 << 20 && ends_well(&raw));
}

#[tokio::test]
async fn a_whole_answer_can_fail() {
    assert!(upset(Fault::Close { after: 0 }, false).await.cut);
    assert_eq!(upset(Fault::Crash { after: 0 }, false).await.status, 500);
    let raw = upset(Fault::EndSilently { after: 0 }, false).await;
    assert!(raw.status == 200 && raw.body().ends_with("\"done\":false}"), "{raw:?}");
    assert!(serde_json::from_str::<Value>(&upset(Fault::Garbage { after: 0 }, false).await.body()).is_err());
    let raw = upset(Fault::Answer { status: 503, body: "{\"error\":\"no\"}".into() }, true).await;
    assert_eq!((raw.status, raw.body().as_str()), (503, "{\"error\":\"no\"}"));
    let raw = upset(Fault::DelayHeaders(Duration::from_millis(5)), true).await;
    assert!(ends_well(&raw), "{raw:?}");
}

#[tokio::test]
async fn a_stall_lasts_until_the_client_leaves() {
    let sim = server().await;
    sim.inject(Fault::Stall { after: 2 });
    let body = json!({"model": "gemma:a", "prompt": "hello"}).to_string();
    let mut stalled = send(sim.addr(), "POST", "/api/generate", &[], Some(&body)).await;
    let mut raw = stalled.read_head().await;
    for _ in 0..2 {
        assert!(stalled.chunk(&mut raw).await.is_some());
    }
    assert_eq!(sim.tally().in_flight, 1);
    drop(stalled);
    eventually("the client is missed", || sim.tally().cancelled == 1 && sim.tally().in_flight == 0).await;
}

#[tokio::test]
async fn embeddings_can_fail_too() {
    let sim = server().await;
    let body = json!({"model": "tinybert", "input": "x"});
    sim.inject(Fault::Crash { after: 0 });
    assert_eq!(post(sim.addr(), "/api/embed", &body).await.status, 500);
    sim.inject(Fault::Close { after: 0 });
    assert!(post(sim.addr(), "/api/embed", &body).await.cut);
    assert_eq!(post(sim.addr(), "/api/embed", &body).await.status, 200);
}

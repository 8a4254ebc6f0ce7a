//! The official clients, `ollama`, `openai` and `anthropic` for Python and JavaScript, and what people put on top of them,
//! `litellm` and `langchain-ollama`, against a running gateway.
//!
//! Each is driven by a script in `tests/clients/` that asserts for itself; this side makes the gateway, the faults, and
//! looks at the stand-in behind it. Where Python or Node is missing a test says so and passes, unless
//! `GAUCHO_REQUIRE_CLIENTS=1`.

mod script;
mod tools;

use gaucho::sim::{Fault, Model};

use crate::support::dialect::request;
use crate::support::eventually;
use crate::support::gateway::{House, Plan};
use script::Script;
use tools::Tool;

/// One script per client.
macro_rules! clients {
    ($($client:ident: $tool:expr, $file:literal;)*) => {$(
        mod $client {
            use super::*;

            #[tokio::test]
            async fn does_everything_it_offers() {
                everyday($tool, $file).await;
            }

            #[tokio::test]
            async fn raises_when_an_answer_breaks_off() {
                broken($tool, $file).await;
            }

            #[tokio::test]
            async fn frees_its_slot_by_leaving() {
                leaves($tool, $file).await;
            }

            #[tokio::test]
            async fn is_told_that_it_cannot_wait() {
                queued($tool, $file).await;
            }
        }
    )*};
}

clients! {
    python_ollama: Tool::Python, "native.py";
    python_openai: Tool::Python, "openai_sdk.py";
    python_anthropic: Tool::Python, "anthropic_sdk.py";
    js_ollama: Tool::Node, "native.mjs";
    js_openai: Tool::Node, "openai_sdk.mjs";
    js_anthropic: Tool::Node, "anthropic_sdk.mjs";
    litellm_native: Tool::OnTop, "litellm_native.py";
    litellm_openai: Tool::OnTop, "litellm_openai.py";
    langchain: Tool::OnTop, "langchain.py";
    python_responses: Tool::Python, "responses.py";
    js_responses: Tool::Node, "responses.mjs";
}

#[tokio::test]
async fn every_reply_passes_the_strict_models_of_the_python_clients() {
    let house = house(400.0).await;
    let Some(script) = start(Tool::Python, "strict.py", "everything", &house) else { return house.close().await };
    script.done().await;
    house.close().await;
}

#[tokio::test]
async fn python_openai_reads_past_what_is_said_while_it_waits() {
    waits(Tool::Python, "openai_sdk.py").await;
}

#[tokio::test]
async fn python_anthropic_reads_past_what_is_said_while_it_waits() {
    waits(Tool::Python, "anthropic_sdk.py").await;
}

#[tokio::test]
async fn js_anthropic_reads_past_what_is_said_while_it_waits() {
    waits(Tool::Node, "anthropic_sdk.mjs").await;
}

#[tokio::test]
async fn js_openai_reads_past_what_is_said_while_it_waits() {
    waits(Tool::Node, "openai_sdk.mjs").await;
}

#[tokio::test]
async fn python_openai_reads_past_what_is_said_while_a_response_waits() {
    waits(Tool::Python, "responses.py").await;
}

#[tokio::test]
async fn js_openai_reads_past_what_is_said_while_a_response_waits() {
    waits(Tool::Node, "responses.mjs").await;
}

/// A gateway for the application `shop`, which may not use every model, `throttled`, which may ask once, and `hasty`,
/// which may not wait.
async fn house(speed: f64) -> House {
    let models = "models = [\"gemma:a\", \"tooly\", \"thinky\", \"seer\", \"omni\", \"tinybert\", \"nowhere\"]\n";
    Plan::new()
        .app("shop")
        .app("throttled")
        .app("hasty")
        .policy("shop.toml", &format!("{models}requests_per_minute = 6000\n"))
        .policy("throttled.toml", "requests_per_minute = 1\n")
        .policy("hasty.toml", "max_queued = 0\n")
        .sim(|sim| {
            sim.speed = speed;
            let seer = like_gemma(&sim.models, "seer", &["vision"]);
            let omni = like_gemma(&sim.models, "omni", &["tools", "thinking", "vision"]);
            sim.models.extend([seer, omni]);
        })
        .build()
        .await
}

/// A model of our own on the weights of gemma:a that can do more.
fn like_gemma(models: &[Model], name: &str, more: &[&str]) -> Model {
    let gemma = models.iter().find(|model| model.name == "gemma:a").unwrap().clone();
    let Model { name, digest, .. } = Model::named(name).unwrap();
    let capabilities = ["completion"].iter().chain(more).map(ToString::to_string).collect();
    Model { name, digest, capabilities, ..gemma }
}

fn start(tool: Tool, file: &str, part: &str, house: &House) -> Option<Script> {
    let base = format!("http://{}", house.addr);
    let keys = [
        ("BASE_URL", base.as_str()),
        ("KEY", house.key("shop")),
        ("THROTTLED_KEY", house.key("throttled")),
        ("HASTY_KEY", house.key("hasty")),
    ];
    Some(Script::start(tool.ready()?, file, part, &keys))
}

async fn everyday(tool: Tool, file: &str) {
    let house = house(200.0).await;
    let Some(script) = start(tool, file, "everyday", &house) else { return house.close().await };
    script.done().await;
    let tally = house.sim.tally();
    assert_eq!((tally.cancelled, tally.in_flight), (0, 0), "the client read all that it asked for");
    // Anthropic has no embeddings
    let weights = if file.starts_with("anthropic") { 1 } else { 2 };
    assert_eq!(house.sim.loads(), weights, "one load per set of weights, whatever the clients send");
    house.close().await;
}

/// Every way in which an answer can end early, in the order in which the scripts ask.
async fn broken(tool: Tool, file: &str) {
    let house = house(200.0).await;
    let Some(script) = start(tool, file, "broken", &house) else { return house.close().await };
    // loaded beforehand: a fault is for an answer, not for the gateway's own load
    let load = serde_json::json!({ "model": "gemma:a" });
    assert_eq!(house.post("shop", "/api/generate", &load).await.status, 200);
    let after = 2;
    let chats =
        [Fault::Close { after }, Fault::Crash { after }, Fault::EndSilently { after }, Fault::Garbage { after }];
    for fault in chats {
        house.sim.inject(fault);
    }
    house.sim.inject(Fault::Crash { after });
    house.sim.inject(Fault::Crash { after: 0 });
    script.go().await.done().await;
    house.close().await;
}

/// A client that leaves in the middle of a stream, then one that leaves before any answer.
async fn leaves(tool: Tool, file: &str) {
    // slow enough that no answer ends by itself in a test's time
    let house = house(5.0).await;
    let Some(script) = start(tool, file, "leaves", &house) else { return house.close().await };
    let script = script.says("left").await;
    house.until_upstream_is_idle().await;
    assert_eq!(house.sim.tally().cancelled, 1, "the stream that was left");
    let script = script.go().await;
    eventually("the answer at once is under way", || house.sim.tally().in_flight == 1).await;
    let script = script.go().await;
    let script = script.says("left").await;
    house.until_upstream_is_idle().await;
    assert_eq!(house.sim.tally().cancelled, 2, "the answer that was not waited for");
    script.go().await.done().await;
    house.close().await;
}

/// A client that may not wait, and one that will not, while the only slot is taken.
async fn queued(tool: Tool, file: &str) {
    let house = house(200.0).await;
    assert_eq!(house.post("shop", "/api/chat", &request("/api/chat", "gemma:a", false)).await.status, 200);
    let running = house.occupied("/api/chat", "gemma:a").await;
    let Some(script) = start(tool, file, "queued", &house) else {
        drop(running);
        return house.close().await;
    };
    script.done().await;
    drop(running);
    house.close().await;
}

/// A stream that waits for the only slot and is told so.
async fn waits(tool: Tool, file: &str) {
    let house = house(200.0).await;
    let ask = |stream: bool| request("/v1/chat/completions", "gemma:a", stream);
    assert_eq!(house.post("shop", "/v1/chat/completions", &ask(false)).await.status, 200);
    house.sim.inject(Fault::Stall { after: 0 });
    let running =
        house.send("shop", "POST", "/api/chat", Some(&request("/api/chat", "gemma:a", false).to_string())).await;
    eventually("the slot is taken", || house.sim.tally().in_flight == 1).await;
    let Some(script) = start(tool, file, "waits", &house) else {
        drop(running);
        return house.close().await;
    };
    let script = script.says("waiting").await;
    // one that began to wait later hears its first word later
    let later = ("X-Gaucho-Keepalive", "1s");
    let mut later = house.send_with("shop", "/v1/chat/completions", later, &ask(true)).await;
    let mut head = later.read_head().await;
    assert!(later.chunk(&mut head).await.unwrap().starts_with(": waiting; position 2"));
    drop((later, running));
    script.done().await;
    house.close().await;
}

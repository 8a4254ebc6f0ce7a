//! What was learned of a runner outlives the gateway that learned it.

use serde_json::{Value, json};

use crate::support::fake::Fake;
use crate::support::gateway::{House, Plan};
use crate::support::raw;

/// Bytes that the list of models has, and those that `/api/ps` shows once it is loaded.
const LISTED: u64 = 60_000_000_000;
const TAKEN: u64 = 7_000_000;

async fn operator(house: &House, path: &str) -> Value {
    let page = raw::send(house.admin, "GET", path, &[], None).await.read().await;
    serde_json::from_str(&page.body()).unwrap()
}

/// How long a request would wait for the model, seconds.
async fn foretold(house: &House) -> f64 {
    let account = operator(house, "/v1/explain?app=shop&model=fake").await;
    assert_eq!(account["waits"]["reason"], "turn", "not in memory yet: {account}");
    account["waits"]["eta_seconds"].as_f64().unwrap()
}

/// The planned bytes of the model and the seconds a swap to it costs, once the runner is in this state.
async fn plan(house: &House, state: &str, settled: impl Fn(&Value) -> bool) -> (u64, f64) {
    let wait = async {
        loop {
            let fleet = operator(house, "/v1/fleet").await;
            let runner = fleet["data"][0]["runners"][0].clone();
            if runner["state"] == state && settled(&runner) {
                return (runner["planned_bytes"].as_u64().unwrap(), runner["swap_seconds"].as_f64().unwrap());
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("it never was in that state")
}

#[tokio::test]
async fn what_a_runner_takes_and_how_long_it_loads_is_known_after_a_restart() {
    let fake = Fake::start().await;
    let model = json!({ "name": "fake:latest", "digest": "00", "size": LISTED, "capabilities": ["completion"],
                        "details": { "format": "gguf" } });
    fake.always("/api/tags", &json!({ "models": [model] }).to_string(), false);
    fake.always("/api/ps", "{\"models\":[]}", false);
    // a load takes until it is let go
    fake.always("/api/generate", "", true);
    let house = Plan::new().app("shop").upstreams(&[&fake.url()]).build().await;
    let body = json!({ "model": "fake", "messages": [{ "role": "user", "content": "Why?" }], "stream": false });

    assert!(foretold(&house).await >= 60.0, "a gigabyte a second, while nobody knows");
    let learns = async {
        let guessed = plan(&house, "loading", |_| true).await;
        assert!(guessed.0 >= LISTED && guessed.1 >= 60.0, "{guessed:?}");
        let there = json!([{ "name": "fake:latest", "digest": "00", "size": TAKEN, "size_vram": TAKEN }]);
        fake.always("/api/ps", &json!({ "models": there }).to_string(), false);
        fake.as_before("/api/generate");
    };
    let (reply, ()) = tokio::join!(house.post("shop", "/api/chat", &body), learns);
    assert_eq!(reply.status, 200, "{reply:?}");
    let learned = plan(&house, "resident", |runner| runner["planned_bytes"] == TAKEN).await;
    assert!(learned.1 < 20.0, "{learned:?}");

    fake.always("/api/ps", "{\"models\":[]}", false);
    fake.always("/api/generate", "", true);
    let house = Box::pin(house.again()).await;
    assert!(foretold(&house).await <= learned.1.ceil() + 1.0, "as long as it took");
    let asks = house.send("shop", "POST", "/api/chat", Some(&body.to_string())).await;
    assert_eq!(plan(&house, "loading", |_| true).await, learned);
    fake.as_before("/api/generate");
    assert_eq!(asks.read().await.status, 200);
    house.close().await;
}

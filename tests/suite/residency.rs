//! Residency by the gateway's own order, where raw Ollama would swap for nearly every request.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::fake::Fake;
use crate::support::gateway::Plan;

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

fn tag(name: &str, digest: &str) -> Value {
    json!({ "name": name, "digest": digest, "size": 1, "capabilities": ["completion"], "details": { "format": "gguf" } })
}

#[tokio::test]
async fn a_server_that_restarts_in_the_middle_of_an_unload_is_used_as_soon_as_it_is_back() {
    let tags = json!({ "models": [tag("fake:latest", "00"), tag("other:latest", "01")] }).to_string();
    let as_told = |fake: &Fake, loaded: Value| {
        fake.always("/api/tags", &tags, false);
        fake.always("/api/show", "{}", false);
        fake.always("/api/ps", &json!({ "models": loaded }).to_string(), false);
    };
    let fake = Fake::start().await;
    as_told(&fake, json!([{ "name": "other:latest", "digest": "01", "size": 7, "size_vram": 7 }]));
    // what would unload it gets no answer
    fake.always("/api/generate", "", true);
    let (url, addr) = (fake.url(), fake.addr());
    let plan = Plan::new().app("shop").upstreams(&[&url]);
    let house = plan.settings(|settings| settings.endpoints[0].max_loaded_models = 1).build().await;
    house
        .until_metric(&format!("gaucho_upstream_resident_bytes{{endpoint=\"{addr}\",model=\"other:latest\"}} "), 7.0)
        .await;
    let restart = async {
        eventually("the other model is to go", || fake.asked("/api/generate") > 0).await;
        fake.stop().await;
        while house.ask("", "GET", "/readyz", None).await.status == 200 {}
        let fake = Fake::start_at(&addr.to_string()).await;
        as_told(&fake, json!([]));
        fake
    };
    let body = chat("fake", 2);
    let (reply, _fake) = tokio::join!(house.post("shop", "/api/chat", &body), restart);
    assert_eq!(reply.status, 200, "{reply:?}");
    let unloads = format!(
        "gaucho_upstream_unloads_total{{endpoint=\"{addr}\",model=\"other:latest\",reason=\"room\",result=\"done\"}} "
    );
    assert_eq!(house.metric(&unloads).await, 1.0, "it is gone, and nobody is sent to look at the server");
    house.close().await;
}

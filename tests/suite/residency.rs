//! Residency by the gateway's own order, where raw Ollama would swap for nearly every request.

use serde_json::{Value, json};

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

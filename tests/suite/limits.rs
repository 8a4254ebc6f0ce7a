//! What policies limit, as a caller sees it.

use serde_json::{Value, json};

use crate::support::gateway::Plan;

fn ask(model: &str) -> Value {
    json!({ "model": model, "prompt": "x", "stream": false, "max_tokens": 2, "options": { "num_predict": 2 } })
}

#[tokio::test]
async fn a_rate_says_which_limit_its_value_and_when_it_frees() {
    let house = Plan::new().app("shop").policy("shop.toml", "requests_per_minute = 6\nburst = 2\n").build().await;
    for path in ["/api/generate", "/v1/completions"] {
        let reply = house.post("shop", path, &ask("gemma:a")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("ratelimit-limit"), Some("2"), "{reply:?}");
        assert_eq!(reply.header("x-ratelimit-limit-requests").is_some(), path.starts_with("/v1"), "{reply:?}");
    }
    for path in ["/api/generate", "/v1/completions"] {
        let refused = house.post("shop", path, &ask("gemma:a")).await;
        assert_eq!(refused.status, 429, "{refused:?}");
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&seconds), "{refused:?}");
        assert_eq!(refused.header("ratelimit-remaining"), Some("0"), "{refused:?}");
        for part in ["requests_per_minute", "6 requests", "allowed in"] {
            assert!(refused.body().contains(part), "{part}: {refused:?}");
        }
    }
    let line = house.until_log(|line| line["outcome"] == "rate_limited").await;
    assert_eq!((&line["app"], &line["status"]), (&json!("shop"), &json!(429)));
    house.close().await;
}

#[tokio::test]
async fn ceilings_are_kept_and_named() {
    let policy = "max_output_tokens = 3\nmax_embed_inputs = 2\nmax_context = 100\nmax_body = \"4KiB\"\n\
                  surfaces = [\"/api/generate\", \"/api/embed\"]\nrunner_options = \"refuse\"\n";
    let house = Plan::new().app("shop").policy("shop.toml", policy).build().await;
    let mut body = ask("gemma:a");
    body["options"]["num_predict"] = 500.into();
    let reply = house.post("shop", "/api/generate", &body).await;
    assert!(reply.body().contains("\"eval_count\":3"), "clamped: {reply:?}");
    let refusals = [
        ("/api/embed", json!({ "model": "tinybert", "input": ["a", "b", "c"] }), 400, "3 entries"),
        ("/api/generate", json!({ "model": "gemma:a", "prompt": "word ".repeat(300) }), 400, "max_context"),
        ("/api/generate", json!({ "model": "gemma:a", "prompt": "word ".repeat(3000) }), 413, "4096"),
        (
            "/api/generate",
            json!({ "model": "gemma:a", "prompt": "x", "options": { "num_ctx": 9 } }),
            400,
            "options.num_ctx",
        ),
        ("/api/chat", json!({ "model": "gemma:a", "messages": [] }), 403, "/api/chat"),
        ("/v1/completions", ask("gemma:a"), 403, "/v1/completions"),
    ];
    for (path, body, status, text) in refusals {
        let refused = house.post("shop", path, &body).await;
        assert_eq!(refused.status, status, "{path}: {refused:?}");
        assert!(refused.body().contains(text), "{path} {text}: {refused:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_full_queue_and_a_long_wait_are_refused_with_numbers() {
    let policy = "max_concurrent = 1\nmax_queued = 1\nmax_wait = \"1s\"\n";
    let plan = Plan::new().app("shop").app("early").policy("shop.toml", policy).slots(2);
    let house = plan.sim(|sim| sim.speed = 1.0).build().await;
    assert_eq!(house.post("early", "/api/generate", &json!({ "model": "gemma:a" })).await.status, 200);
    let long = json!({ "model": "gemma:a", "prompt": "x", "options": { "num_predict": 400 } }).to_string();
    let running = house.send("shop", "POST", "/api/generate", Some(&long)).await;
    crate::support::eventually("it runs", || house.sim.tally().in_flight == 1).await;
    let waiting = house.send("shop", "POST", "/api/generate", Some(&ask("gemma:a").to_string())).await;
    house.until_queued(1).await;
    let refused = house.post("shop", "/v1/completions", &ask("gemma:a")).await;
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.body().contains("max_queued") && refused.header("retry-after").is_some(), "{refused:?}");
    let waited = waiting.read().await;
    assert_eq!(waited.status, 503, "{waited:?}");
    assert!(waited.body().contains("max_wait") && waited.body().contains("number 1 in the queue"), "{waited:?}");
    assert_eq!(house.sim.runner("gemma:a").peak_running, 1, "max_concurrent binds before the slots");
    drop(running);
    house.close().await;
}

#[tokio::test]
async fn a_policy_may_keep_an_application_off_a_server() {
    let house = Plan::new().app("shop").policy("shop.toml", "endpoints = [\"127.0.0.1:*\"]\n").build().await;
    assert_eq!(house.post("shop", "/api/generate", &ask("gemma:a")).await.status, 200);
    std::fs::write(house.dir.path().join("policies/shop.toml"), "endpoints = [\"gpu-9\"]\n").unwrap();
    house.until_metric("gaucho_policy_reloads_total{result=\"taken\"} ", 1.0).await;
    let refused = house.post("shop", "/api/generate", &ask("gemma:a")).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.body().contains("endpoints"), "{refused:?}");
    house.close().await;
}

#[tokio::test]
async fn the_gateways_own_queue_is_bounded_in_requests_and_in_bytes() {
    for (requests, bytes) in [(1, 1 << 20), (100, 10_000)] {
        let plan = Plan::new().app("shop").app("other").settings(move |settings| {
            settings.limits.max_queued = requests;
            settings.limits.max_queued_bytes = bytes;
        });
        let house = plan.build().await;
        assert_eq!(house.post("shop", "/api/generate", &ask("gemma:a")).await.status, 200);
        house.sim.inject(gaucho::sim::Fault::Stall { after: 0 });
        let running = house.send("shop", "POST", "/api/generate", Some(&ask("gemma:a").to_string())).await;
        crate::support::eventually("it runs", || house.sim.tally().in_flight == 1).await;
        let large = json!({ "model": "gemma:a", "prompt": "word ".repeat(1500), "stream": false });
        let waiting = house.send("shop", "POST", "/api/generate", Some(&large.to_string())).await;
        house.until_queued(1).await;
        for path in ["/api/generate", "/v1/completions"] {
            let refused = house.post("other", path, &large).await;
            let text = crate::support::dialect::refusal(path, 503, &refused);
            assert!(text.contains("queue is full (1 requests"), "{text}");
            assert!(refused.header("retry-after").is_some(), "{refused:?}");
        }
        house.until_metric("gaucho_gateway_refused_total{app=\"other\",reason=\"busy\"} ", 2.0).await;
        drop((running, waiting));
        house.close().await;
    }
}

#[tokio::test]
async fn a_limit_on_running_requests_makes_the_rest_wait_not_fail() {
    let house = Plan::new().app("shop").policy("shop.toml", "max_concurrent = 2\n").slots(4).build().await;
    assert_eq!(house.post("shop", "/api/generate", &ask("gemma:a")).await.status, 200);
    let body = ask("gemma:a");
    let answers = futures_util::future::join_all((0..12).map(|_| house.post("shop", "/api/generate", &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(house.sim.runner("gemma:a").peak_inside, 2, "of four slots");
    house.close().await;
}

#[tokio::test]
async fn a_ceiling_on_the_answer_holds_in_every_spelling_of_the_wish() {
    let house = Plan::new().app("shop").policy("shop.toml", "max_output_tokens = 3\n").build().await;
    let wishes = [
        ("/api/generate", json!({ "options": { "num_predict": -1 } }), 3),
        ("/api/generate", json!({ "options": { "num_predict": 500 } }), 3),
        ("/api/generate", json!({ "options": { "num_predict": 2 } }), 2),
        ("/api/generate", json!({}), 3),
        ("/v1/completions", json!({ "max_tokens": 500 }), 3),
        ("/v1/completions", json!({ "max_tokens": 2 }), 2),
        ("/v1/chat/completions", json!({ "max_completion_tokens": 500 }), 3),
        ("/v1/chat/completions", json!({ "max_completion_tokens": 2 }), 2),
        ("/v1/chat/completions", json!({}), 3),
    ];
    for (path, wish, tokens) in wishes {
        let mut body = json!({ "model": "gemma:a", "stream": false });
        if path.contains("chat") {
            body["messages"] = json!([{ "role": "user", "content": "x" }]);
        } else {
            body["prompt"] = json!("x");
        }
        body.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        let reply = house.post("shop", path, &body).await;
        assert_eq!(reply.status, 200, "{path} {wish}: {reply:?}");
        let sent: Value = serde_json::from_slice(&house.sim.seen().last().unwrap().body).unwrap();
        assert_eq!(sent["options"]["num_predict"], tokens, "{path} {wish}: {sent}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_fixed_runner_refuses_each_wish_to_change_it_by_name() {
    let house = Plan::new()
        .app("shop")
        .policy("shop.toml", "runner_options = \"refuse\"\n")
        .policy("models.toml", "[models.\"gemma:a\"]\nnum_ctx = 2048\nkeep_alive = \"7m\"\n")
        .build()
        .await;
    for (wish, path) in [
        (json!({ "options": { "num_ctx": 8192 } }), "options.num_ctx"),
        (json!({ "options": { "num_gpu": 0 } }), "options.num_gpu"),
        (json!({ "options": { "num_thread": 3 } }), "options.num_thread"),
        (json!({ "keep_alive": -1 }), "keep_alive"),
        (json!({ "shift": false }), "shift"),
    ] {
        let mut body = ask("gemma:a");
        body.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        let refused = house.post("shop", "/api/generate", &body).await;
        let text = crate::support::dialect::refusal("/api/generate", 400, &refused);
        assert!(text.starts_with(&format!("{path} is ")), "{text}");
    }
    let mut same = ask("gemma:a");
    same["options"]["num_ctx"] = 2048.into();
    same["keep_alive"] = "7m".into();
    assert_eq!(house.post("shop", "/api/generate", &same).await.status, 200, "what holds anyway is no change");
    house.close().await;
}

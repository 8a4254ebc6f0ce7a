//! What callers see of the queue: deadlines of their own, their place and the time it takes, in headers and in words.

use serde_json::{Value, json};

use crate::support::dialect::{self, refusal};
use crate::support::gateway::{House, Plan};
use crate::support::raw::{self, Raw};

/// A model that the surface can use.
fn model(path: &str) -> &'static str {
    if path.contains("embed") { "tinybert" } else { "gemma:a" }
}

fn ask(path: &str, stream: bool) -> Value {
    dialect::request(path, model(path), stream)
}

/// Brings both models into memory.
async fn loaded(plan: Plan) -> House {
    let house = plan.build().await;
    for path in ["/api/chat", "/api/embed"] {
        assert_eq!(house.post("shop", path, &ask(path, false)).await.status, 200);
    }
    house
}

#[tokio::test]
async fn a_caller_says_how_long_it_will_wait_on_every_surface() {
    let house = loaded(Plan::new().app("shop")).await;
    for path in dialect::ALL {
        let running = house.occupied(path, model(path)).await;
        let refused = house.send_with("shop", path, ("X-Gaucho-Deadline", "200ms"), &ask(path, false)).await;
        let refused = refused.read().await;
        let text = refusal(path, 503, &refused);
        for part in ["0.2", "X-Gaucho-Deadline", "number 1 in the queue"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(refused.header("X-Gaucho-Queue-Position"), Some("1"), "{refused:?}");
        let eta: u64 = refused.header("X-Gaucho-Queue-Eta").unwrap().parse().unwrap();
        assert!(text.contains(&format!("in about {eta} s")), "{eta}: {text}");
        assert_eq!(refused.header("Retry-After").unwrap(), eta.min(600).to_string(), "{refused:?}");
        if path.starts_with("/v1") && path != "/v1/messages" {
            let body: Value = serde_json::from_str(&refused.body()).unwrap();
            let code = body["error"]["code"].as_str().unwrap();
            assert!(["waited_too_long", "too_late"].contains(&code), "{body}");
        }
        drop(running);
        house.until_upstream_is_idle().await;
    }
    house.close().await;
}

#[tokio::test]
async fn a_deadline_never_lengthens_what_the_policy_allows() {
    let house = loaded(Plan::new().app("shop").policy("shop.toml", "max_wait = 0.2\n")).await;
    let running = house.occupied("/api/chat", "gemma:a").await;
    for path in ["/api/chat", "/v1/chat/completions"] {
        let refused = house.send_with("shop", path, ("X-Gaucho-Deadline", "10m"), &ask(path, false)).await;
        let text = refusal(path, 503, &refused.read().await);
        assert!(text.contains("0.2") && text.contains("max_wait"), "{text}");
    }
    drop(running);
    house.close().await;
}

#[tokio::test]
async fn now_or_never_starts_beside_a_free_slot_and_is_refused_at_once_beside_none() {
    let house = loaded(Plan::new().app("shop")).await;
    let now = ("X-Gaucho-Deadline", "0");
    let good = house.send_with("shop", "/api/chat", now, &ask("/api/chat", false)).await.read().await;
    assert_eq!(good.status, 200, "{good:?}");
    let running = house.occupied("/api/chat", "gemma:a").await;
    let refused = house.send_with("shop", "/api/chat", now, &ask("/api/chat", false)).await.read().await;
    refusal("/api/chat", 503, &refused);
    drop(running);
    house.close().await;
}

#[tokio::test]
async fn a_deadline_that_is_none_is_refused_with_what_is_allowed() {
    let house = loaded(Plan::new().app("shop")).await;
    for path in dialect::ALL {
        let refused = house.send_with("shop", path, ("X-Gaucho-Deadline", "soon"), &ask(path, false)).await;
        let text = refusal(path, 400, &refused.read().await);
        for part in ["X-Gaucho-Deadline", "soon", "a number of seconds", "24h"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let unknown = [("X-Gaucho-Deadline".to_owned(), "soon".to_owned())];
    let body = ask("/v1/completions", false).to_string();
    let refused = raw::send(house.addr, "POST", "/v1/completions", &unknown, Some(&body)).await;
    assert_eq!(refused.read().await.status, 401, "who asks comes first");
    house.close().await;
}

#[tokio::test]
async fn a_good_answer_says_how_long_it_waited_and_not_where_it_ran() {
    let house = loaded(Plan::new().app("shop")).await;
    let waited = |reply: &Raw| -> f64 {
        assert_eq!(reply.status, 200, "{reply:?}");
        let text = reply.header("X-Gaucho-Queue-Wait").unwrap();
        assert_eq!(text.split_once('.').unwrap().1.len(), 3, "{text}");
        let url = house.settings.endpoints[0].url.host_str().unwrap();
        assert!(reply.headers.iter().all(|(_, value)| !value.contains(url)), "{reply:?}");
        text.parse().unwrap()
    };
    for path in dialect::ALL {
        for stream in [false, true] {
            let reply = house.post("shop", path, &ask(path, stream)).await;
            assert!(waited(&reply) < 5.0, "{reply:?}");
        }
    }
    let running = house.occupied("/api/chat", "gemma:a").await;
    let second = house.send("shop", "POST", "/api/chat", Some(&ask("/api/chat", false).to_string())).await;
    house.until_queued(1).await;
    drop(running);
    let second = second.read().await;
    assert!(waited(&second) > 0.0, "{second:?}");
    house.close().await;
}

#[tokio::test]
async fn a_full_queue_says_which_place_and_when_in_headers_and_in_words() {
    let house = loaded(Plan::new().app("shop").policy("shop.toml", "max_queued = 1\n")).await;
    let running = house.occupied("/api/chat", "gemma:a").await;
    let waiting = house.send("shop", "POST", "/api/chat", Some(&ask("/api/chat", false).to_string())).await;
    house.until_queued(1).await;
    for (before, path) in dialect::TEXT.into_iter().enumerate() {
        let refused = house.post("shop", path, &ask(path, true)).await;
        let text = refusal(path, 429, &refused);
        // behind the one that waits, and those refused before it that are still to come back
        let position = refused.header("X-Gaucho-Queue-Position").unwrap();
        assert!((2..=2 + before).contains(&position.parse().unwrap()), "{refused:?}");
        let eta = refused.header("X-Gaucho-Queue-Eta").unwrap();
        assert!(text.contains(&format!("number {position}")) && text.contains(&format!("in about {eta} s")), "{text}");
        if path.starts_with("/v1") && path != "/v1/messages" {
            let body: Value = serde_json::from_str(&refused.body()).unwrap();
            assert_eq!(body["error"]["code"], json!("queue_full"), "{body}");
        }
    }
    drop((waiting, running));
    house.close().await;
}

fn listed(reply: &Raw) -> Vec<Value> {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{reply:?}");
    let body: Value = serde_json::from_str(&reply.body()).unwrap();
    assert_eq!(body["object"], "list", "{body}");
    body["data"].as_array().unwrap().clone()
}

/// A GET on the admin listener.
async fn operator(house: &House, path: &str) -> Raw {
    raw::send(house.admin, "GET", path, &[], None).await.read().await
}

#[tokio::test]
async fn an_application_sees_its_own_queue_and_operators_see_all_of_it() {
    let house = loaded(Plan::new().app("shop").app("other")).await;
    let running = house.occupied("/api/chat", "gemma:a").await;
    let mut waiting = Vec::new();
    for (app, path) in [("shop", "/api/chat"), ("shop", "/v1/completions"), ("other", "/api/generate")] {
        waiting.push(house.send(app, "POST", path, Some(&ask(path, true).to_string())).await);
        house.until_queued(waiting.len()).await;
    }
    let mine = listed(&house.ask("shop", "GET", "/v1/gaucho/queue", None).await);
    assert_eq!(mine.len(), 2, "{mine:?}");
    for row in &mine {
        assert!(row["id"].as_str().unwrap().starts_with("req_"), "{row}");
        assert_eq!((&row["model"], &row["class"]), (&json!("gemma:a"), &json!("standard")), "{row}");
        assert_eq!(row["reason"], "slots", "{row}");
        assert_eq!(row["reason_text"], "every slot of the model is taken", "{row}");
        let deadline = row["deadline_seconds"].as_f64().unwrap();
        assert!((200.0..=300.0).contains(&deadline), "{row}");
        assert!(row["waiting_seconds"].is_f64() && row["eta_seconds"].is_f64(), "{row}");
        assert!(row.get("app").is_none(), "{row}");
    }
    assert!(mine[0]["position"].as_u64() < mine[1]["position"].as_u64(), "{mine:?}");
    let theirs = listed(&house.ask("other", "GET", "/v1/gaucho/queue", None).await);
    assert_eq!(theirs.len(), 1);
    assert!(mine.iter().all(|row| row["id"] != theirs[0]["id"]), "{mine:?} {theirs:?}");
    refusal("/v1/gaucho/queue", 401, &house.ask("", "GET", "/v1/gaucho/queue", None).await);

    let all = listed(&operator(&house, "/v1/queue").await);
    let apps: Vec<&str> = all.iter().map(|row| row["app"].as_str().unwrap()).collect();
    assert_eq!(apps.iter().filter(|app| **app == "shop").count(), 2, "{all:?}");
    assert_eq!(listed(&operator(&house, "/v1/queue?app=other").await).len(), 1);
    assert_eq!(listed(&operator(&house, "/v1/queue?app=nobody").await).len(), 0);
    assert_eq!(operator(&house, "/v1/queue?app=No%20Good").await.status, 400);
    assert_eq!(operator(&house, "/v1/queue?what=x").await.status, 400);
    drop((running, waiting));
    house.close().await;
}

#[tokio::test]
async fn operators_see_the_fleet_and_only_with_their_token() {
    let token = Some(gaucho::config::Secret("open sesame".into()));
    let house = Plan::new().app("shop").settings(move |settings| settings.admin_token = token).build().await;
    for path in ["/v1/queue", "/v1/fleet", "/v1/explain?app=shop&model=gemma:a", "/metrics"] {
        assert_eq!(operator(&house, path).await.status, 401, "{path}");
        assert_eq!(house.ask("shop", "GET", path, None).await.status, 404, "{path} is not for applications");
    }
    let headers = [("Authorization".to_owned(), "Bearer open sesame".to_owned())];
    let fleet = raw::send(house.admin, "GET", "/v1/fleet", &headers, None).await.read().await;
    assert_eq!(listed(&fleet).len(), 1);
}

#[tokio::test]
async fn the_fleet_says_what_is_loaded_where_and_what_is_wrong() {
    let sim = gaucho::sim::Settings { models: gaucho::sim::recorded_models(), ..gaucho::sim::Settings::default() };
    let other = gaucho::sim::Sim::start(sim).await.unwrap();
    let house = Plan::new().app("shop").upstreams(&[&other.url(), "http://127.0.0.1:9"]).build().await;
    assert_eq!(house.post("shop", "/api/chat", &ask("/api/chat", false)).await.status, 200);
    let mut seen = Vec::new();
    let loaded = async {
        while seen.is_empty() {
            let fleet = listed(&operator(&house, "/v1/fleet").await);
            assert_eq!((&fleet[1]["answers"], fleet[1]["trouble"].is_string()), (&json!(false), true), "{fleet:?}");
            assert_eq!((&fleet[0]["answers"], &fleet[0]["version"]), (&json!(true), &json!("0.32.15")), "{fleet:?}");
            seen = fleet[0]["runners"].as_array().unwrap().clone();
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), loaded).await.unwrap();
    let runner = &seen[0];
    assert_eq!((&runner["model"], &runner["slots"]), (&json!("gemma:a"), &json!(1)), "{runner}");
    assert_eq!((&runner["state"], &runner["spilled_bytes"]), (&json!("resident"), &json!(0)), "{runner}");
    assert!(runner["bytes"].as_u64() > Some(0), "{runner}");
    house.close().await;
}

//! What is known of several servers: each is asked at its own pace, odd answers cost what is odd, and a model runs where
//! it is.

use std::net::SocketAddr;
use std::time::Duration;

use gaucho::sim::{self, Sim};
use serde_json::{Value, json};

use crate::support::dialect::{self, TEXT};
use crate::support::fake::Fake;
use crate::support::gateway::{House, Plan};
use crate::support::{eventually, raw};

fn settings() -> sim::Settings {
    sim::Settings { models: sim::recorded_models(), speed: 50.0, ..sim::Settings::default() }
}

/// A stand-in with these of the recorded models.
async fn with(names: &[&str]) -> Sim {
    let mut settings = settings();
    settings.models.retain(|model| names.contains(&model.name.as_str()));
    assert_eq!(settings.models.len(), names.len());
    Sim::start(settings).await.unwrap()
}

fn chat(model: &str) -> Value {
    dialect::request("/api/chat", model, false)
}

/// Asks for an answer that begins at once.
async fn now_or_never(house: &House, model: &str) -> raw::Raw {
    house.send_with("shop", "/api/chat", ("X-Gaucho-Deadline", "0"), &chat(model)).await.read().await
}

fn resident(addr: SocketAddr, model: &str) -> String {
    format!("gaucho_upstream_resident_bytes{{endpoint=\"{addr}\",model=\"{model}\"}} ")
}

/// Waits until the gateway lists a model; a `/api/show` that hangs may have to be given up before.
async fn until_listed(house: &House, model: &str) {
    let listed = async { while !house.ask("shop", "GET", "/api/tags", None).await.body().contains(model) {} };
    tokio::time::timeout(Duration::from_secs(40), listed).await.expect("it is never listed");
}

#[tokio::test]
async fn a_server_that_answers_slowly_holds_no_other_up() {
    let (slow, quick) = (Fake::start().await, Fake::start().await);
    slow.always("/api/tags", "", true);
    let house = Plan::new().app("shop").upstreams(&[&slow.url(), &quick.url()]).build().await;
    assert_eq!(house.post("shop", "/api/chat", &chat("fake")).await.status, 200);
    eventually("the quick one is asked again", || quick.asked("/api/tags") > 1).await;
    assert_eq!(slow.asked("/api/tags"), 1, "the slow one still owes its first answer");
    house.close().await;
}

#[tokio::test]
async fn new_models_are_shown_a_few_at_a_time_and_what_is_loaded_is_seen_before() {
    let fake = Fake::start().await;
    let house = Plan::new().app("shop").upstreams(&[&fake.url()]).build().await;
    house.until_metric(&resident(fake.addr(), "fake:latest"), 1.0).await;
    let tag = |name: &str, digest: &str| json!({ "name": name, "digest": digest, "size": 1, "details": { "format": "gguf" } });
    let mut tags = vec![tag("fake:latest", "00")];
    tags.extend((0..10).map(|number| tag(&format!("new:{number}"), &format!("new{number}"))));
    fake.always("/api/show", "", true);
    fake.always("/api/tags", &json!({ "models": tags }).to_string(), false);
    let loaded = json!({ "models": [{ "name": "fake:latest", "digest": "00", "size": 7, "size_vram": 7 }] });
    fake.always("/api/ps", &loaded.to_string(), false);
    house.until_metric(&resident(fake.addr(), "fake:latest"), 7.0).await;
    eventually("several are asked for", || fake.most_shows() == 4).await;
    assert_eq!(house.post("shop", "/api/chat", &chat("fake")).await.status, 200, "what is known is served");
    fake.as_before("/api/show");
    until_listed(&house, "new:9").await;
    assert_eq!(fake.most_shows(), 4);
    house.close().await;
}

#[tokio::test]
async fn garbage_with_a_good_status_costs_only_what_it_stands_for() {
    let fake = Fake::start().await;
    let house = Plan::new().app("shop").upstreams(&[&fake.url()]).build().await;
    for garbage in ["<html>", "{}", "{\"models\":\"all\"}", ""] {
        fake.always("/api/ps", garbage, false);
        fake.always("/api/version", garbage, false);
        let listed = house.ask("shop", "GET", "/api/tags", None).await;
        assert!(listed.body().contains("fake:latest"), "{garbage}: {listed:?}");
        assert_eq!(house.post("shop", "/api/chat", &chat("fake")).await.status, 200, "{garbage}");
        // a list of models is what makes a server one
        fake.always("/api/tags", garbage, false);
        let gone = async { while house.post("shop", "/api/chat", &chat("nobody")).await.status == 404 {} };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("it is still used");
        let refused = now_or_never(&house, "fake").await;
        assert!(dialect::refusal("/api/chat", 503, &refused).contains("no server that has the model can be used now"));
        let ready = house.ask("", "GET", "/readyz", None).await;
        assert!(ready.status == 503 && ready.body().contains("its model list is not readable"), "{ready:?}");
        fake.as_before("/api/tags");
        until_listed(&house, "fake:latest").await;
    }
    house.close().await;
}

#[tokio::test]
async fn odd_entries_and_absurd_metadata_leave_a_model_usable() {
    let fake = Fake::start().await;
    let shows = [
        "<html>".to_owned(),
        "{}".to_owned(),
        "{\"modelfile\":7,\"parameters\":[],\"model_info\":\"none\"}".to_owned(),
        json!({ "modelfile": "FROM /b/sha256-01", "parameters": "num_ctx 99999999999999999999\nnum_gpu x", "model_info": {
            "general.architecture": "x", "x.block_count": u64::MAX, "x.embedding_length": -5,
            "x.attention.head_count": "many", "x.attention.head_count_kv": [u64::MAX, -1, null, "x"],
        }})
        .to_string(),
    ];
    let house = Plan::new().app("shop").upstreams(&[&fake.url()]).build().await;
    for (number, show) in shows.iter().enumerate() {
        let digest = format!("changed{number}");
        fake.always("/api/show", show, false);
        let tag = json!({ "name": "fake:latest", "digest": digest, "size": -1, "modified_at": 7, "details": null });
        fake.always("/api/tags", &json!({ "models": [null, 7, {}, tag] }).to_string(), false);
        let loaded =
            json!({ "name": "fake:latest", "digest": digest, "size": "all", "size_vram": -3, "context_length": 1e99 });
        fake.always(
            "/api/ps",
            &json!({ "models": [[], loaded, { "name": "ghost", "size": u64::MAX }] }).to_string(),
            false,
        );
        until_listed(&house, &digest).await;
        for path in TEXT {
            let reply = house.post("shop", path, &dialect::request(path, "fake", false)).await;
            assert_eq!(reply.status, 200, "{show}: {path}: {reply:?}");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn a_model_runs_only_where_it_is() {
    let (left, right) = (with(&["gemma:a", "gemma:b"]).await, with(&["gemma:b", "gemma:c"]).await);
    let house = Plan::new().app("shop").upstreams(&[&left.url(), &right.url()]).build().await;
    until_listed(&house, "gemma:a").await;
    until_listed(&house, "gemma:c").await;
    for _ in 0..4 {
        for model in ["gemma:a", "gemma:c"] {
            let reply = house.post("shop", "/api/chat", &chat(model)).await;
            assert_eq!(reply.status, 200, "{model}: {reply:?}");
        }
    }
    assert_eq!((left.runner("gemma:a").loads, right.runner("gemma:c").loads), (1, 1));
    assert_eq!((left.tally().answered, right.tally().answered), (5, 5), "four answers and a load each");
    // a server that is gone is not one that does not have it
    left.shutdown().await;
    let gone = async {
        loop {
            // whoever finds it out has that for an answer, since it may not wait
            let reply = now_or_never(&house, "gemma:a").await;
            if reply.status != 502 {
                let text = dialect::refusal("/api/chat", 503, &reply);
                return assert!(text.contains("no server that has the model can be used now"), "{text}");
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    assert_eq!(house.post("shop", "/api/chat", &chat("nobody")).await.status, 404);
    assert_eq!(house.post("shop", "/api/chat", &chat("gemma:b")).await.status, 200);
    house.close().await;
    right.shutdown().await;
}

#[tokio::test]
async fn one_name_with_two_sets_of_weights_means_the_first_servers() {
    let first = with(&["gemma:a"]).await;
    let mut other = settings();
    other.models.retain(|model| model.name == "gemma:a");
    other.models[0].weights = "f".repeat(64);
    other.models[0].digest = "f".repeat(64);
    let second = Sim::start(other).await.unwrap();
    let house = Plan::new().app("shop").upstreams(&[&first.url(), &second.url()]).build().await;
    for sim in [&first, &second] {
        house.until_known(sim.addr(), "gemma:a").await;
    }
    let body = chat("gemma:a");
    let asks = (0..8).map(|_| house.post("shop", "/api/chat", &body));
    assert!(futures_util::future::join_all(asks).await.iter().all(|reply| reply.status == 200));
    assert_eq!((second.loads(), second.tally().received), (0, 0), "no request is answered by other weights");
    first.shutdown().await;
    let served = async { while house.post("shop", "/api/chat", &body).await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), served).await.expect("the name now means what is left");
    assert_eq!(second.loads(), 1);
    house.close().await;
    second.shutdown().await;
}

#[tokio::test]
async fn what_is_loaded_behind_our_back_is_seen_and_counted() {
    let house = Plan::new().app("shop").settings(|settings| settings.endpoints[0].max_loaded_models = 1).build().await;
    let ollama = house.sim.addr();
    assert_eq!(raw::post(ollama, "/api/chat", &chat("gemma:b")).await.status, 200);
    let bytes = || async { house.metric(&resident(ollama, "gemma:b")).await };
    let seen = async { while bytes().await == 0.0 {} };
    tokio::time::timeout(Duration::from_secs(10), seen).await.expect("it is never seen");
    assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a")).await.status, 200);
    // the place was one: the stranger was asked out before, and Ollama had nothing to evict by itself
    let bodies: Vec<Value> =
        house.sim.seen().iter().filter_map(|seen| serde_json::from_slice(&seen.body).ok()).collect();
    let at = |model: &str, keeps: bool| {
        let matches =
            |body: &Value| body["model"] == model && body.get("keep_alive").is_some_and(|time| (*time != 0) == keeps);
        bodies.iter().position(matches).unwrap_or_else(|| panic!("{model}, {keeps}: {bodies:?}"))
    };
    assert!(at("gemma:b", false) < at("gemma:a", true), "{bodies:?}");
    assert_eq!(bytes().await, 0.0);
    house.close().await;
}

#[tokio::test]
async fn a_server_that_restarts_under_a_load_loads_again_and_nobody_is_refused() {
    let mut slow = settings();
    slow.speed = 4.0;
    let first = Sim::start(slow.clone()).await.unwrap();
    let addr = first.addr();
    let house = Plan::new().app("shop").upstreams(&[&first.url()]).build().await;
    until_listed(&house, "gemma:a").await;
    let body = chat("gemma:a");
    let restart = async {
        eventually("the load begins", || first.loads() == 1).await;
        first.shutdown().await;
        slow.listen = addr;
        Sim::start(slow).await.unwrap()
    };
    let asks = futures_util::future::join_all((0..3).map(|_| house.post("shop", "/api/chat", &body)));
    let (second, replies) = tokio::join!(restart, asks);
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    assert_eq!(second.loads(), 1);
    house.close().await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_model_that_is_removed_while_queued_is_not_found_in_the_callers_dialect() {
    let plan = Plan::new().app("shop").sim(|sim| sim.speed = 4.0);
    let house = plan.settings(|settings| settings.endpoints[0].max_loaded_models = 1).build().await;
    assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a")).await.status, 200);
    // its turn to be loaded never comes: they are told while they wait
    let busy = house.occupied("/api/chat", "gemma:a").await;
    let queued = TEXT.map(|path| (path, dialect::request(path, "gemma:b", true)));
    let waiting = queued.iter().map(|(path, body)| house.post("shop", path, body));
    let remove = async {
        house.until_queued(TEXT.len()).await;
        let body = json!({ "model": "gemma:b" }).to_string();
        raw::send(house.sim.addr(), "DELETE", "/api/delete", &[], Some(&body)).await.read().await.status
    };
    let (removed, refused) = tokio::join!(remove, futures_util::future::join_all(waiting));
    assert_eq!((removed, house.sim.tally().in_flight), (200, 1));
    for (path, reply) in TEXT.iter().zip(&refused) {
        assert_eq!(dialect::refusal(path, 404, reply), "model 'gemma:b' not found", "{path}");
    }
    assert_eq!(house.sim.runner("gemma:b").loads, 0);
    drop(busy);
    house.close().await;
}

/// `ollama create` and `ollama cp` give a name other weights while requests for it wait: they wait for those from then on.
#[tokio::test]
async fn a_name_that_moves_to_other_weights_while_queued_keeps_its_place() {
    let plan = Plan::new().app("shop").sim(|sim| sim.speed = 4.0);
    let house = plan.settings(|settings| settings.endpoints[0].max_loaded_models = 1).build().await;
    assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a")).await.status, 200);
    let busy = house.occupied("/api/chat", "gemma:a").await;
    let rows = async || -> Vec<Value> {
        let listing: Value =
            serde_json::from_str(&house.ask("shop", "GET", "/v1/gaucho/queue", None).await.body()).unwrap();
        listing["data"].as_array().unwrap().clone()
    };
    let places = |rows: &[Value]| -> Vec<(String, String, u64)> {
        let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
        rows.iter().map(|row| (text(row, "id"), text(row, "model"), row["position"].as_u64().unwrap())).collect()
    };
    let first = async { house.post("shop", "/api/chat", &chat("gemma:c")).await };
    let second = async {
        house.until_queued(1).await;
        house.post("shop", "/api/chat", &chat("gemma:b")).await
    };
    let moves = async {
        house.until_queued(2).await;
        let before = places(&rows().await);
        let id = |model: &str| before.iter().find(|(_, name, _)| name == model).unwrap().0.clone();
        let (first, second) = (id("gemma:c"), id("gemma:b"));
        let body = json!({ "source": "gemma:b", "destination": "gemma:c" }).to_string();
        let copied = raw::send(house.sim.addr(), "POST", "/api/copy", &[], Some(&body)).await.read().await;
        assert_eq!(copied.status, 200);
        let moved = [(first, "gemma:b".to_owned(), 1), (second, "gemma:b".to_owned(), 2)];
        let wait = async {
            while places(&rows().await) != moved {
                tokio::task::yield_now().await;
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(10), wait).await;
        assert!(done.is_ok(), "{before:?} became {:?}, not {moved:?}", places(&rows().await));
        drop(busy);
    };
    let (first, second, ()) = tokio::join!(first, second, moves);
    assert_eq!((first.status, second.status), (200, 200));
    let answer: Value = serde_json::from_str(&first.body()).unwrap();
    assert_eq!(answer["model"], "gemma:c", "it is answered under the name it asked for");
    house.close().await;
}

/// A tag that was made anew names other weights: what it named before goes by another tag of it, or stays, and nobody else goes.
#[tokio::test]
async fn a_runner_goes_by_a_tag_that_names_it_still_and_by_no_other() {
    for kept in [true, false] {
        let pin = if kept { "[models.\"gemma:a\"]\nkeep_alive = -1\n" } else { "" };
        let plan = Plan::new().app("shop").policy("models.toml", pin);
        let house = plan.settings(|settings| settings.endpoints[0].max_loaded_models = 2).build().await;
        assert_eq!(house.post("shop", "/api/chat", &chat("gemma:b")).await.status, 200);
        assert_eq!(house.post("shop", "/api/chat", &chat("gemma:a")).await.status, 200);
        let copy = async |source: &str, destination: &str| {
            let body = json!({ "source": source, "destination": destination }).to_string();
            let addr = house.sim.addr();
            assert_eq!(raw::send(addr, "POST", "/api/copy", &[], Some(&body)).await.read().await.status, 200);
        };
        if kept {
            copy("gemma:b", "old:b").await;
            house.until_known(house.sim.addr(), "old:b").await;
        }
        copy("gemma:a", "gemma:b").await;
        assert_eq!(house.post("shop", "/api/chat", &chat("gemma:c")).await.status, 200);
        let metrics = house.metrics().await;
        assert!(!metrics.contains("trouble=\"vanished\""), "{metrics}");
        let loaded = raw::send(house.sim.addr(), "GET", "/api/ps", &[], None).await.read().await.body();
        assert_eq!(loaded.contains("\"gemma:a"), kept, "{loaded}");
        house.close().await;
    }
}

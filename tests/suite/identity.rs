//! Who may come in: the open door and its seal, keys in three places, revocation while requests run and wait.

use std::time::{Duration, Instant};

use gaucho::domain::Clock;
use gaucho::identity::Keys;
use gaucho::store::Store;
use serde_json::json;

use crate::support::dialect;
use crate::support::gateway::{House, Plan, make_key};
use crate::support::raw::{self, Raw};

fn keys(house: &House) -> Keys {
    Keys::new(Store::open(&house.settings.state).unwrap(), Clock::real())
}

fn id_of(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

async fn get(house: &House, path: &str, headers: &[(&str, &str)]) -> Raw {
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    raw::send(house.addr, "GET", path, &headers, None).await.read().await
}

fn long() -> String {
    json!({ "model": "gemma:a", "prompt": "x", "options": { "num_predict": 3000 } }).to_string()
}

#[tokio::test]
async fn before_the_first_key_this_machine_is_served_and_nothing_that_a_proxy_or_a_web_page_sends() {
    let house = Plan::new().build().await;
    assert_eq!(get(&house, "/api/tags", &[]).await.status, 200);
    assert_eq!(get(&house, "/v1/models", &[("Authorization", "Bearer ollama")]).await.status, 200);
    for (header, value) in [("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=192.0.2.7")] {
        let native = get(&house, "/api/tags", &[(header, value)]).await;
        assert_eq!(native.status, 403, "{header}: {native:?}");
        assert!(native.body().contains("gaucho key create"), "{header}: {native:?}");
        assert_eq!(get(&house, "/v1/models", &[(header, value)]).await.status, 401, "{header}");
    }
    // as Ollama refuses them: without a word, which a page could not read
    for page in [("Host", "evil.example"), ("Origin", "https://evil.example")] {
        for path in ["/api/tags", "/v1/models"] {
            let refused = get(&house, path, &[page]).await;
            assert_eq!((refused.status, refused.body().as_str()), (403, ""), "{page:?} {path}: {refused:?}");
        }
    }
    // the first key shuts the door, also when it is gone again
    let key = make_key(&house.settings.state, "shop");
    let shut = async {
        while get(&house, "/api/tags", &[]).await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), shut).await.unwrap();
    keys(&house).revoke(id_of(&key)).unwrap();
    assert_eq!(get(&house, "/api/tags", &[]).await.status, 403);
    house.close().await;
}

#[tokio::test]
async fn a_key_is_taken_from_three_places_and_never_shown() {
    let house = Plan::new().app("shop").build().await;
    let key = house.key("shop").to_owned();
    let bearer = format!("Bearer {key}");
    assert_eq!(get(&house, "/api/tags", &[("Authorization", &bearer)]).await.status, 200);
    assert_eq!(get(&house, "/api/tags", &[("X-Api-Key", &key)]).await.status, 200);
    assert_eq!(get(&house, &format!("/k/{key}/api/tags"), &[]).await.status, 200);
    let redirect = get(&house, &format!("/k/{key}//api/tags"), &[]).await;
    assert_eq!((redirect.status, redirect.header("location")), (307, Some(format!("/k/{key}/api/tags").as_str())));
    for wrong in ["gk_0000000000_x", "ollama", "", "x".repeat(10_000).as_str(), "gk_\u{7f}"] {
        let refused = get(&house, "/v1/models", &[("X-Api-Key", wrong)]).await;
        assert!(matches!(refused.status, 400 | 401), "{wrong:.20}: {refused:?}");
        assert!(wrong.is_empty() || !refused.body().contains(wrong), "the key is shown: {refused:?}");
    }
    house.until_log(|line| line["status"] == 401).await;
    assert!(house.log_lines().iter().all(|line| !line.to_string().contains(&key)), "a key was logged");
    assert!(!house.metrics().await.contains(&key));
    house.close().await;
}

#[tokio::test]
async fn a_revocation_ends_what_runs_and_what_waits_within_a_second() {
    let house = Plan::new().app("shop").app("other").sim(|sim| sim.speed = 1.0).build().await;
    assert_eq!(house.post("other", "/api/generate", &json!({ "model": "gemma:a" })).await.status, 200);
    let mut running = house.send("shop", "POST", "/api/generate", Some(&long())).await;
    let mut head = running.read_head().await;
    assert!(running.chunk(&mut head).await.is_some());
    let waiting = house.send("shop", "POST", "/v1/completions", Some(&long())).await;
    house.until_queued(1).await;
    keys(&house).revoke(id_of(house.key("shop"))).unwrap();
    let revoked = Instant::now();
    let mut last = String::new();
    while let Some(chunk) = running.chunk(&mut head).await {
        last = chunk;
    }
    assert!(last.contains("revoked") && !head.cut, "{last}");
    let waiting = waiting.read().await;
    assert_eq!(waiting.status, 401, "{waiting:?}");
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    house.until_upstream_is_idle().await;
    assert_eq!(get(&house, "/api/tags", &[("X-Api-Key", house.key("shop"))]).await.status, 403);
    house.close().await;
}

#[tokio::test]
async fn a_rotated_key_and_its_successor_both_hold_during_the_overlap() {
    let house = Plan::new().app("shop").build().await;
    let old = house.key("shop").to_owned();
    let new = keys(&house).rotate(id_of(&old), Duration::from_secs(3600)).unwrap();
    let new = new.text.expose().to_owned();
    let known = async {
        while get(&house, "/api/tags", &[("X-Api-Key", &new)]).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), known).await.unwrap();
    assert_eq!(get(&house, "/api/tags", &[("X-Api-Key", &old)]).await.status, 200);
    house.close().await;
}

#[tokio::test]
async fn a_policy_may_carry_the_hash_of_a_key_made_elsewhere() {
    // printf %s my-own-key-0123456789abcdef | sha256sum
    let hash = "sha256:0b0c5b6a4f5d6ab0a2d1e1a5f1ff6a8e4c5de8d5d45b8a4a9f2d4d8a4f0c1e2d";
    let house = Plan::new().policy("shop.toml", &format!("key_hashes = [\"{hash}\"]\n")).build().await;
    let refused = get(&house, "/api/tags", &[("X-Api-Key", "my-own-key-0123456789abcdef")]).await;
    assert_eq!(refused.status, 403, "another key's hash opens nothing");
    let key = "my-own-key-0123456789abcdef";
    let right = format!("key_hashes = [\"sha256:{}\"]\n", sha256(key));
    std::fs::write(house.dir.path().join("policies/shop.toml"), right).unwrap();
    let known = async {
        while get(&house, "/api/tags", &[("X-Api-Key", key)]).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), known).await.unwrap();
    house.close().await;
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text))
}

async fn until_status(house: &House, path: &str, headers: &[(&str, &str)], status: u16) {
    let wait = async {
        while get(house, path, headers).await.status != status {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "{path} never answered {status}");
}

#[tokio::test]
async fn a_door_that_a_policy_shut_stays_shut_without_it_and_after_a_new_start() {
    let house = Plan::new().policy("shop.toml", "weight = 2\n").build().await;
    assert_eq!(get(&house, "/api/tags", &[]).await.status, 403);
    std::fs::remove_file(house.dir.path().join("policies/shop.toml")).unwrap();
    house.until_metric("gaucho_policy_reloads_total{result=\"taken\"} ", 1.0).await;
    assert_eq!(get(&house, "/api/tags", &[]).await.status, 403);
    let House { gaucho, settings, sim, dir, .. } = house;
    gaucho.drain(Duration::from_secs(5), std::future::pending()).await;
    let registry = gaucho::telemetry::Registry::new();
    let lines = gaucho::telemetry::LogLines::start(std::io::sink(), &registry).unwrap();
    let telemetry = gaucho::app::Telemetry { lines, registry, log_requests: false, log_probes: false };
    let mut again = gaucho::app::Gaucho::new(settings, telemetry, Clock::real());
    let addr = again.serve().await.unwrap().applications;
    let reply = raw::send(addr, "GET", "/api/tags", &[], None).await.read().await;
    assert_eq!(reply.status, 403, "{reply:?}");
    again.drain(Duration::from_secs(5), std::future::pending()).await;
    sim.shutdown().await;
    drop(dir);
}

#[tokio::test]
async fn a_key_that_expires_takes_its_running_stream_along() {
    for path in ["/api/generate", "/v1/completions"] {
        let house = Plan::new().app("shop").sim(|sim| sim.speed = 1.0).build().await;
        assert_eq!(house.post("shop", "/api/generate", &json!({ "model": "gemma:a" })).await.status, 200);
        let app = gaucho::domain::AppName::parse("brief").unwrap();
        let brief = keys(&house).create(&app, Some(Duration::from_millis(1500)), None).unwrap();
        let brief = brief.text.expose().to_owned();
        until_status(&house, "/api/tags", &[("X-Api-Key", &brief)], 200).await;
        let headers = [("X-Api-Key".to_owned(), brief.clone())];
        let body = json!({ "model": "gemma:a", "prompt": "x", "stream": true, "max_tokens": 3000, "options": { "num_predict": 3000 } });
        let reply = raw::send(house.addr, "POST", path, &headers, Some(&body.to_string())).await.read().await;
        assert!(reply.frames.len() > 1, "{path}: it ran: {reply:?}");
        assert!(dialect::broken_stream(path, &reply).contains("expired"), "{path}: {reply:?}");
        house.until_upstream_is_idle().await;
        until_status(&house, "/v1/models", &[("X-Api-Key", &brief)], 401).await;
        house.close().await;
    }
}

#[tokio::test]
async fn a_hash_that_leaves_the_policy_ends_what_runs_under_it() {
    let key = "my-own-key-0123456789abcdef";
    let policy = format!("key_hashes = [\"sha256:{}\"]\n", sha256(key));
    let house = Plan::new().policy("shop.toml", &policy).sim(|sim| sim.speed = 1.0).build().await;
    let headers = [("X-Api-Key".to_owned(), key.to_owned())];
    let mut running = raw::send(house.addr, "POST", "/api/generate", &headers, Some(&long())).await;
    let mut head = running.read_head().await;
    assert!(running.chunk(&mut head).await.is_some());
    std::fs::write(house.dir.path().join("policies/shop.toml"), "weight = 1\n").unwrap();
    let mut last = String::new();
    while let Some(chunk) = running.chunk(&mut head).await {
        last = chunk;
    }
    assert!(last.contains("revoked") && !head.cut, "{last}");
    assert_eq!(get(&house, "/v1/models", &[("X-Api-Key", key)]).await.status, 401);
    house.close().await;
}

#[tokio::test]
async fn one_request_carries_one_key() {
    let house = Plan::new().app("shop").app("other").build().await;
    let (shop, other) = (house.key("shop").to_owned(), house.key("other").to_owned());
    let bearer = format!("Bearer {shop}");
    assert_eq!(get(&house, "/v1/models", &[("Authorization", &bearer), ("X-Api-Key", &shop)]).await.status, 200);
    for headers in
        [[("Authorization", bearer.as_str()), ("X-Api-Key", &other)], [("X-Api-Key", &shop), ("X-Api-Key", &other)]]
    {
        let refused = get(&house, "/v1/models", &headers).await;
        assert!(matches!(refused.status, 400 | 401), "{refused:?}");
        assert!(!refused.body().contains(&shop) && !refused.body().contains(&other), "{refused:?}");
    }
    let refused = get(&house, &format!("/k/{other}/v1/models"), &[("X-Api-Key", &shop)]).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    for scheme in ["Basic c2hvcDp4", "Bearer", "Bearer  ", shop.as_str()] {
        let refused = get(&house, "/v1/models", &[("Authorization", scheme)]).await;
        assert_eq!(refused.status, 401, "{scheme:.10}: {refused:?}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{refused:?}");
    }
    house.close().await;
}

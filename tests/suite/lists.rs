//! Lists and closed routes: an application sees what it may use, and nothing more.

use gaucho::sim;
use serde_json::{Value, json};

use crate::support::dialect;
use crate::support::fake::Fake;
use crate::support::gateway::Plan;

#[tokio::test]
async fn lists_show_an_application_only_what_it_may_use() {
    let house =
        Plan::new().app("shop").app("all").policy("shop.toml", "models = [\"gemma:a\", \"tinybert\"]\n").build().await;
    for model in ["gemma:a", "gemma:b"] {
        let load = house.post("all", "/api/generate", &json!({ "model": model })).await;
        assert_eq!(load.status, 200, "{load:?}");
    }
    let names = |reply: &crate::support::raw::Raw, list: &str, name: &str| -> Vec<String> {
        let body: Value = serde_json::from_str(&reply.body()).unwrap();
        body[list].as_array().unwrap().iter().map(|m| m[name].as_str().unwrap().to_owned()).collect()
    };
    let tags = house.ask("shop", "GET", "/api/tags", None).await;
    assert_eq!(names(&tags, "models", "name"), ["tinybert:latest", "gemma:a"], "in the server's order");
    let models = house.ask("shop", "GET", "/v1/models", None).await;
    assert_eq!(names(&models, "data", "id"), ["tinybert:latest", "gemma:a"]);
    let loaded = house.ask("shop", "GET", "/api/ps", None).await;
    assert_eq!(names(&loaded, "models", "name"), ["gemma:a"]);
    assert_eq!(names(&house.ask("all", "GET", "/api/tags", None).await, "models", "name").len(), 8);
    for (model, status) in [("gemma:a", 200), ("GEMMA:A", 200), ("gemma:b", 404), ("absent", 404)] {
        let one = house.ask("shop", "GET", &format!("/v1/models/{model}"), None).await;
        assert_eq!(one.status, status, "{model}: {one:?}");
        let show = house.post("shop", "/api/show", &json!({ "model": model })).await;
        assert_eq!(show.status, status, "{model}: {show:?}");
        let show = house.post("shop", "/api/show", &json!({ "model": "", "name": model })).await;
        assert_eq!(show.status, status, "the deprecated field, {model}: {show:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn the_routes_that_clients_try_first_answer() {
    let house = Plan::new().app("shop").build().await;
    for (method, path, body) in [("GET", "/", "Ollama is running"), ("HEAD", "/", ""), ("HEAD", "/api/tags", "")] {
        let reply = house.ask("shop", method, path, None).await;
        assert_eq!((reply.status, reply.body().as_str()), (200, body), "{method} {path}");
    }
    // every command of the CLI begins with HEAD / and gives up at 400
    assert_eq!(house.ask("", "HEAD", "/", None).await.status, 200);
    let version = house.ask("shop", "GET", "/api/version", None).await;
    assert_eq!(version.body(), r#"{"version":"0.32.15"}"#);
    house.close().await;
}

#[tokio::test]
async fn closed_routes_say_what_to_do_instead() {
    let house = Plan::new().app("shop").build().await;
    for (method, path, advice) in [
        ("POST", "/api/pull", "ollama pull"),
        ("POST", "/api/push", "ollama push"),
        ("POST", "/api/create", "ollama create"),
        ("POST", "/api/copy", "ollama cp"),
        ("DELETE", "/api/delete", "ollama rm"),
        ("POST", "/api/blobs/sha256:0", "ollama create"),
    ] {
        let reply = house.ask("shop", method, path, Some("{\"model\":\"gemma:a\"}")).await;
        assert_eq!(reply.status, 403, "{path}: {reply:?}");
        assert!(reply.body().contains(advice), "{path}: {reply:?}");
        assert_eq!(house.ask("", method, path, Some("{}")).await.status, 403, "without a key, too");
    }
    house.close().await;
}

#[tokio::test]
async fn models_that_run_elsewhere_are_neither_shown_nor_used() {
    let fake = Fake::start().await;
    let house = Plan::new().app("shop").upstreams(&[&fake.url()]).build().await;
    for path in ["/api/tags", "/v1/models"] {
        let list = house.ask("shop", "GET", path, None).await;
        assert_eq!(list.status, 200, "{path}: {list:?}");
        assert!(list.body().contains("fake:latest"), "{path}: {list:?}");
        assert!(!list.body().contains("away") && !list.body().contains("cloud"), "{path}: {list:?}");
    }
    for model in ["away", "AWAY:latest", "library/away", "big:120b-cloud", "big:120B-Cloud"] {
        for path in dialect::ALL {
            let reply = house.post("shop", path, &dialect::request(path, model, false)).await;
            let text = dialect::refusal(path, 403, &reply);
            assert!(text.contains("leave this site"), "{path} {model}: {text}");
        }
        assert_eq!(house.ask("shop", "GET", &format!("/v1/models/{model}"), None).await.status, 404, "{model}");
        assert_eq!(house.post("shop", "/api/show", &json!({ "model": model })).await.status, 404, "{model}");
    }
    assert_eq!(fake.said(), 0, "no prompt went upstream");
    house.close().await;
}

#[tokio::test]
async fn lists_show_only_what_is_on_the_servers_that_an_application_may_use() {
    let sim = async |names: &[&str], edit: fn(&mut sim::Model)| {
        let mut models = sim::recorded_models();
        models.retain(|model| names.contains(&model.name.as_str()));
        models.iter_mut().for_each(edit);
        sim::Sim::start(sim::Settings { models, speed: 50.0, ..sim::Settings::default() }).await.unwrap()
    };
    let near = sim(&["gemma:a", "gemma:b", "tinybert:latest"], |_| {}).await;
    let far = sim(&["gemma:a", "gemma:b", "thinky:latest"], |model| {
        if model.name == "gemma:b" {
            model.weights = "other".to_owned();
        }
    })
    .await;
    let plan = Plan::new().app("shop").app("all").policy("shop.toml", &format!("endpoints = [\"{}\"]\n", far.url()));
    let house = plan.upstreams(&[&near.url(), &far.url()]).build().await;
    for model in ["tinybert", "thinky"] {
        let path = if model == "tinybert" { "/api/embed" } else { "/api/chat" };
        let load = house.post("all", path, &dialect::request(path, model, false)).await;
        assert_eq!(load.status, 200, "{load:?}");
    }
    let names = async |app: &str, path: &str| -> Vec<String> {
        let reply = house.ask(app, "GET", path, None).await;
        let body: Value = serde_json::from_str(&reply.body()).unwrap();
        let (list, name) = if path == "/v1/models" { ("data", "id") } else { ("models", "name") };
        body[list].as_array().unwrap().iter().map(|model| model[name].as_str().unwrap().to_owned()).collect()
    };
    for path in ["/api/tags", "/v1/models"] {
        assert_eq!(names("shop", path).await, ["thinky:latest", "gemma:a"], "{path}: gemma:b is near's");
        assert_eq!(names("all", path).await, ["tinybert:latest", "gemma:b", "gemma:a", "thinky:latest"], "{path}");
    }
    assert_eq!(names("shop", "/api/ps").await, ["thinky:latest"]);
    assert_eq!(names("all", "/api/ps").await, ["tinybert:latest", "thinky:latest"]);
    for (model, status) in [("gemma:a", 200), ("thinky", 200), ("gemma:b", 404), ("tinybert", 404)] {
        let one = house.ask("shop", "GET", &format!("/v1/models/{model}"), None).await;
        assert_eq!(one.status, status, "{model}: {one:?}");
        let show = house.post("shop", "/api/show", &json!({ "model": model })).await;
        assert_eq!(show.status, status, "{model}: {show:?}");
        let path = if model == "tinybert" { "/api/embed" } else { "/api/chat" };
        let used = house.post("shop", path, &dialect::request(path, model, false)).await;
        assert_eq!(used.status == 200, status == 200, "what is listed is what can be used: {model}: {used:?}");
    }
    house.close().await;
}

//! `gaucho explain` and `gaucho queue` beside a running gateway: what they say, and that asking costs nothing.

use std::time::Duration;

use gaucho::config::Secret;
use serde_json::Value;
use tokio::process::Command;

use crate::support::dialect::request;
use crate::support::gateway::{House, Plan};
use crate::support::raw;

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

async fn gaucho(admin: &str, token: Option<&str>, args: &[&str]) -> Said {
    let folder = tempfile::TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gaucho"));
    command.args(args).args(["--admin", admin]).current_dir(folder.path()).env("GAUCHO_STATE", folder.path());
    for stray in ["GAUCHO_CONFIG", "GAUCHO_ADMIN_TOKEN", "GAUCHO_ADMIN_TOKEN_FILE", "GAUCHO_ADMIN_LISTEN"] {
        command.env_remove(stray);
    }
    command.envs(token.map(|token| ("GAUCHO_ADMIN_TOKEN", token)));
    let done = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
}

/// Explains a request of `shop`; fails unless the command ends with `code`.
async fn explain(house: &House, code: i32, args: &[&str]) -> String {
    let args = [&["explain", "--app", "shop"], args].concat();
    let said = gaucho(&format!("http://{}", house.admin), None, &args).await;
    assert_eq!(said.code, code, "{said:?}");
    said.out
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_in_one_line() {
    let nobody = "http://127.0.0.1:9";
    let args = ["explain", "--app", "shop", "--model", "m", "--config", "nope.toml"];
    let said = gaucho(nobody, None, &args).await;
    assert_eq!((said.code, said.err.lines().count()), (2, 1), "{said:?}");
    has(&said.err, &["nope.toml: cannot be read ("]);
    let said = gaucho(nobody, None, &["explain", "--app", "shop", "--model", ""]).await;
    assert_eq!((said.code, said.out.as_str()), (2, ""), "{said:?}");
    has(&said.err, &["a value is required for '--model"]);
    let said = gaucho(nobody, None, &["queue", "--config", "nope.toml"]).await;
    assert_eq!((said.code, said.err.lines().count()), (1, 1), "{said:?}");
}

#[tokio::test]
async fn it_says_who_would_start_wait_or_be_refused_and_sends_nothing() {
    let policy = "models = [\"gemma:*\", \"tinybert\"]\nclass = \"interactive\"\nweight = 4\nmax_context = 2000\n\
                  max_queued = 1\n";
    let house = House::with_gemma(Plan::new().policy("shop.toml", policy)).await;
    let received = house.sim.tally().received;
    let starts = explain(&house, 0, &["--model", "gemma:a", "--prompt-tokens", "300"]).await;
    has(&starts, &["shop asks gemma:a on /api/chat with a prompt of 300 tokens", "interactive, weight 4, no rate"]);
    has(&starts, &["sha256-", "starts at once on", "0 of 1 slots taken"]);
    has(&explain(&house, 0, &["--model", "tinybert"]).await, &["/api/embed", "not loaded; needs about"]);

    let running = house.occupied("/api/chat", "gemma:a").await;
    let waits = explain(&house, 0, &["--model", "gemma:a"]).await;
    has(&waits, &["waits: number 1, about ", "every slot of the model is taken", "1 of 1 slots taken"]);
    let waiting =
        house.send("shop", "POST", "/api/chat", Some(&request("/api/chat", "gemma:a", true).to_string())).await;
    house.until_queued(1).await;
    has(&explain(&house, 1, &["--model", "gemma:a"]).await, &["refused (queue_full)", "max_queued"]);

    let refusals = [
        (&["--model", "llama3.2:3b"][..], &["policy    refuses it", "may not use model"][..]),
        (&["--model", "gemma:none"], &["policy    allows it", "does not have the model", "refused (not_found)"]),
        (&["--model", "gemma:a", "--prompt-tokens", "2500"], &["refused (context_length_exceeded)", "max_context"]),
        (&["--model", "gemma:a", "--prompt-tokens", "90000000"], &["refused (too_large)"]),
        (&["--model", "a b"], &["policy    not asked", "invalid model name"]),
    ];
    for (args, parts) in refusals {
        has(&explain(&house, 1, args).await, parts);
    }
    assert_eq!(house.sim.tally().received, received + 1, "nothing but the one that runs went upstream");
    drop((running, waiting));
    house.close().await;
}

#[tokio::test]
async fn asking_is_not_counted_and_knows_what_is_left_of_a_rate() {
    let house = Plan::new().app("shop").policy("shop.toml", "requests_per_minute = 2\n").build().await;
    for _ in 0..4 {
        has(&explain(&house, 0, &["--model", "gemma:a"]).await, &["2 of 2 requests left"]);
    }
    let body = request("/api/chat", "gemma:a", false);
    assert_eq!(house.post("shop", "/api/chat", &body).await.status, 200);
    has(&explain(&house, 0, &["--model", "gemma:a"]).await, &["1 of 2 requests left"]);
    assert_eq!(house.post("shop", "/api/chat", &body).await.status, 200);
    assert_eq!(house.post("shop", "/api/chat", &body).await.status, 429);
    let refused = explain(&house, 1, &["--model", "gemma:a", "--json"]).await;
    let account: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!((&account["verdict"], &account["refusal"]["class"]), (&"refused".into(), &"rate_limited".into()));
    let wait = account["refusal"]["retry_after_seconds"].as_f64().unwrap();
    assert!((1.0..=30.0).contains(&wait), "{account}");
    house.close().await;
}

#[tokio::test]
async fn every_server_has_its_reason() {
    let sim = || gaucho::sim::Settings { models: gaucho::sim::recorded_models(), ..gaucho::sim::Settings::default() };
    let (near, far) = (gaucho::sim::Sim::start(sim()).await.unwrap(), gaucho::sim::Sim::start(sim()).await.unwrap());
    let allowed = [near.url(), "http://127.0.0.1:9".to_owned()];
    let policy = format!("endpoints = {allowed:?}\n");
    let urls = [allowed[0].as_str(), allowed[1].as_str(), &far.url()];
    let house = Plan::new().app("shop").policy("shop.toml", &policy).upstreams(&urls).build().await;
    let account = explain(&house, 0, &["--model", "gemma:a", "--json"]).await;
    let account: Value = serde_json::from_str(&account).unwrap();
    let usable: Vec<&Value> = account["endpoints"].as_array().unwrap().iter().map(|one| &one["usable"]).collect();
    assert_eq!(usable, [true, false, false], "{account}");
    has(account["endpoints"][1]["reason"].as_str().unwrap(), &["cannot be used now"]);
    has(account["endpoints"][2]["reason"].as_str().unwrap(), &["the policy keeps the application off it"]);
    assert_eq!(account["waits"]["reason"], "turn", "not in memory yet: {account}");
    house.close().await;
}

#[tokio::test]
async fn nobody_to_ask_is_neither_yes_nor_no() {
    let token = Some(Secret("open sesame".into()));
    let house = Plan::new().app("shop").settings(move |settings| settings.admin_token = token).build().await;
    let admin = house.admin.to_string();
    let args = ["explain", "--app", "shop", "--model", "gemma:a"];
    let locked = gaucho(&admin, None, &args).await;
    assert!(locked.code == 2 && locked.err.contains("GAUCHO_ADMIN_TOKEN") && locked.out.is_empty(), "{locked:?}");
    let open = gaucho(&admin, Some("open sesame"), &args).await;
    assert!(open.code == 0 && open.out.contains("outlook"), "{open:?}");
    let wrong = gaucho(&house.addr.to_string(), None, &args).await;
    assert!(wrong.code == 2 && wrong.err.contains("is it the admin listener?"), "{wrong:?}");
    let nowhere = gaucho("http://127.0.0.1:9", None, &args).await;
    assert!(nowhere.code == 2 && nowhere.err.contains("no gateway answers on 127.0.0.1:9"), "{nowhere:?}");
    let odd = gaucho(&admin, Some("open sesame"), &["explain", "--app", "No Good", "--model", "x"]).await;
    assert!(odd.code == 2 && odd.err.contains("No Good"), "{odd:?}");
    assert_eq!(gaucho("http://127.0.0.1:9", None, &["queue"]).await.code, 1);
}

#[tokio::test]
async fn the_queue_is_a_table_for_people_and_json_for_scripts() {
    let house = House::with_gemma(Plan::new().app("other")).await;
    let running = house.occupied("/api/chat", "gemma:a").await;
    let mut waiting = Vec::new();
    for app in ["shop", "other"] {
        let body = request("/api/chat", "gemma:a", true).to_string();
        waiting.push(house.send(app, "POST", "/api/chat", Some(&body)).await);
        house.until_queued(waiting.len()).await;
    }
    let admin = format!("http://{}", house.admin);
    let table = gaucho(&admin, None, &["queue"]).await;
    assert_eq!((table.code, table.out.lines().count()), (0, 3), "{table:?}");
    has(&table.out, &["ID ", "STARTS IN", "req_", "gemma:a", "every slot of the model is taken"]);
    let one = gaucho(&admin, None, &["queue", "--app", "other", "--json"]).await;
    let listing: Value = serde_json::from_str(&one.out).unwrap();
    assert_eq!((&listing["data"][0]["app"], &listing["data"][1]), (&"other".into(), &Value::Null), "{listing}");
    drop((running, waiting));
    house.close().await;
}

#[tokio::test]
async fn it_says_what_becomes_of_a_prompt_that_is_longer_than_the_context() {
    let models = "[models.\"gemma:a\"]\nnum_ctx = 512\n[models.\"gemma:b\"]\nnum_ctx = 512\n";
    let plan = |rule: &str| {
        let rule = if rule.is_empty() { String::new() } else { format!("on_overflow = {rule}\n") };
        Plan::new().policy("models.toml", models).policy("shop.toml", &rule)
    };
    let long = ["--model", "gemma:a", "--prompt-tokens", "900"];
    let house = House::with_gemma(plan("")).await;
    has(
        &explain(&house, 0, &long).await,
        &["the prompt has 900 tokens and the context 512: it is cut", "starts at once"],
    );
    let short = explain(&house, 0, &["--model", "gemma:a", "--prompt-tokens", "300"]).await;
    assert!(!short.contains("overflow "), "{short}");
    house.close().await;
    let house = House::with_gemma(plan("{ route = \"gemma:c\" }")).await;
    has(&explain(&house, 0, &long).await, &["'gemma:c' answers it instead"]);
    house.close().await;
    let house = House::with_gemma(plan("\"refuse\"")).await;
    has(
        &explain(&house, 1, &long).await,
        &["refused (context_length_exceeded)", "512 tokens here, and the prompt has 900"],
    );
    house.close().await;
}

#[tokio::test]
async fn the_context_that_the_server_chose_is_that_of_the_runner_and_not_known_before() {
    let plan = Plan::new().app("shop").sim(|sim| sim.context_length = 512);
    let house = plan.policy("shop.toml", "on_overflow = \"refuse\"\n").build().await;
    // no tag of its weights names a context
    let asks = |tokens: &'static str| ["--model", "gemma:b", "--prompt-tokens", tokens];
    has(&explain(&house, 0, &asks("900")).await, &["the context is not known until the model is loaded"]);
    let beyond = explain(&house, 1, &asks("90000")).await;
    has(&beyond, &["refused (context_length_exceeded)", "the prompt is longer than this model's maximum context"]);
    let body = |words: usize| {
        let messages = serde_json::json!([{ "role": "user", "content": "word ".repeat(words) }]);
        serde_json::json!({ "model": "gemma:b", "stream": false, "messages": messages })
    };
    assert_eq!(house.post("shop", "/api/chat", &body(1)).await.status, 200);
    let words = "this model's maximum context length is 512 tokens here, and the prompt has";
    let refused = house.post("shop", "/api/chat", &body(900)).await;
    assert!(refused.status == 400 && refused.body().contains(words), "{refused:?}");
    has(&explain(&house, 1, &asks("900")).await, &["refused (context_length_exceeded)", words]);
    assert!(!explain(&house, 0, &asks("300")).await.contains("overflow "));

    let unload = serde_json::json!({ "model": "gemma:b", "keep_alive": 0 }).to_string();
    let unloaded = raw::send(house.sim.addr(), "POST", "/api/generate", &[], Some(&unload)).await.read().await;
    assert_eq!(unloaded.status, 200, "{unloaded:?}");
    let gone = async { while !explain(&house, 1, &asks("900")).await.contains("not loaded;") {} };
    assert!(tokio::time::timeout(Duration::from_secs(20), gone).await.is_ok(), "it stays in memory");
    has(&explain(&house, 1, &asks("900")).await, &[words]);
    house.close().await;
}

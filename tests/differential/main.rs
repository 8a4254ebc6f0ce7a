//! Every recorded request, and others like them, sent to a real Ollama and to a gateway before it: what a caller reads
//! differs nowhere without a rule.
//!
//! `GAUCHO_LIVE_OLLAMA=http://127.0.0.1:11434 cargo test --test differential -- --ignored --nocapture`. Best before a
//! server that has the models of the recordings; what asks for others is skipped, and said. Nothing is pulled, made or
//! deleted. The table and the rules are those of `golden`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../golden/compare.rs"]
mod compare;
#[path = "../golden/json.rs"]
mod json;
mod more;
#[allow(dead_code, reason = "shared with golden, which uses all of it")]
#[path = "../golden/recording.rs"]
mod recording;
mod requests;
#[allow(dead_code, reason = "shared with golden, which uses all of it")]
#[path = "../golden/rules.rs"]
mod rules;
#[allow(dead_code, reason = "shared with the suite, which uses all of it")]
#[path = "../suite/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use requests::{Ask, unfit};
use rules::Rules;
use support::gateway::Plan;
use support::raw::{Raw, post, send};

/// The longest that one answer may take.
const LIMIT: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real Ollama: GAUCHO_LIVE_OLLAMA=http://... cargo test --test differential -- --ignored --nocapture"]
async fn nothing_differs_from_a_real_server_without_a_rule() {
    let url = std::env::var("GAUCHO_LIVE_OLLAMA")
        .expect("this test needs a real Ollama: GAUCHO_LIVE_OLLAMA=http://127.0.0.1:11434 names it");
    let live: SocketAddr =
        url.trim_start_matches("http://").trim_end_matches('/').parse().expect("http://ADDRESS:PORT");
    let rules = Rules::load_live();
    let models = models(live).await;
    let only = std::env::var("GAUCHO_ONLY").unwrap_or_default();
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    let mut asks = requests::all(&recording::recordings());
    asks.retain(|ask| {
        let why = match unfit(ask, &models) {
            Some(why) => why,
            None => return ask.name.contains(&only),
        };
        *skipped.entry(why).or_default() += 1;
        false
    });
    // first all of one side, then all of the other: the two ask for different runners
    empty(live).await;
    let theirs = answers(live, &asks).await;
    empty(live).await;
    let house = Plan::new().upstreams(&[&url]).slots(2).build().await;
    let ours = answers(house.addr, &asks).await;
    house.gaucho.drain(Duration::from_secs(10), std::future::pending()).await;
    let (mut equal, mut unexplained) = (0, Vec::new());
    for (ask, (theirs, ours)) in asks.iter().zip(theirs.iter().zip(&ours)) {
        let route = format!("{} {}", ask.method, ask.path);
        let found = compare::differences(&by_name(theirs), &by_name(ours), &rules.normalise);
        let open: Vec<_> = found.iter().filter(|difference| rules.explain(&route, difference).is_none()).collect();
        equal += usize::from(open.is_empty());
        for difference in open {
            let cut = |text: &str| text.chars().take(700).collect::<String>();
            unexplained.push(format!(
                "{}: {route}: {}\n    asked  {}\n    Ollama {}\n    Gaucho {}",
                ask.name,
                difference.field,
                cut(ask.body.as_deref().unwrap_or_default()),
                cut(&difference.recorded),
                cut(&difference.ours)
            ));
        }
    }
    println!("{} requests, {equal} without an unexplained difference; skipped: {skipped:?}", asks.len());
    for (reason, times) in rules.tally().into_iter().filter(|(_, times)| *times > 0) {
        println!("{times:5} {reason}");
    }
    println!("{} unexplained differences\n{}", unexplained.len(), unexplained.join("\n"));
    assert!(unexplained.is_empty(), "{} unexplained differences, listed above", unexplained.len());
}

/// A list of models in the order of their texts: those made within one second come in any order. Other answers stay.
fn by_name(raw: &Raw) -> Raw {
    let mut raw = raw.clone();
    let lists = ["{\"models\":[", "{\"object\":\"list\",\"data\":["];
    let body = raw.body();
    if let Some(start) = lists.into_iter().find(|start| body.starts_with(start) && body.contains("\"model")) {
        let (list, end) = body[start.len()..].rsplit_once(']').expect("a list ends");
        let list: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(&format!("[{list}]")).unwrap();
        let mut texts: Vec<&str> = list.iter().map(|model| model.get()).collect();
        texts.sort_unstable();
        raw.frames = vec![format!("{start}{}]{end}", texts.join(","))];
    }
    raw
}

async fn models(live: SocketAddr) -> Vec<String> {
    let list = send(live, "GET", "/api/tags", &[], None).await.read().await.body();
    let list: serde_json::Value = serde_json::from_str(&list).expect("a list of models");
    list["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
}

/// Unloads everything: which of several tags of the same weights loads them first makes a difference to Ollama.
async fn empty(live: SocketAddr) {
    loop {
        let list = send(live, "GET", "/api/ps", &[], None).await.read().await.body();
        let list: serde_json::Value = serde_json::from_str(&list).expect("a list of models");
        let Some(model) = list["models"].as_array().and_then(|models| models.first()) else { return };
        let body = serde_json::json!({ "model": model["name"], "keep_alive": 0 });
        post(live, "/api/generate", &body).await;
    }
}

async fn answers(to: SocketAddr, asks: &[Ask]) -> Vec<Raw> {
    let mut answers = Vec::new();
    for ask in asks {
        let answer = async { send(to, &ask.method, &ask.path, &ask.headers, ask.body.as_deref()).await.read().await };
        let answer = tokio::time::timeout(LIMIT, answer).await;
        answers.push(answer.unwrap_or_else(|_| panic!("no answer to {ask:?}")));
    }
    answers
}

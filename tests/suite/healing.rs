//! Runners that hang, slots that are lost and unloads that do not happen: noticed by real tokens and the server's own
//! figures, healed by a reload, and no caller the worse for it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::gateway::{House, Plan};
use crate::support::raw;

fn chat(tokens: u32, stream: bool) -> String {
    let messages = json!([{ "role": "user", "content": "Why?" }]);
    let options = json!({ "num_predict": tokens });
    json!({ "model": "gemma:a", "messages": messages, "stream": stream, "options": options }).to_string()
}

const EARLY: Duration = Duration::from_millis(300);

/// A gateway that is suspicious after this silence, and knows how fast gemma:a is.
async fn wary(plan: Plan, silence: Duration) -> House {
    let house = plan.app("shop").settings(move |settings| settings.upstream.silence = silence).build().await;
    for _ in 0..4 {
        assert_eq!(house.ask("shop", "POST", "/api/chat", Some(&chat(2, true))).await.status, 200);
    }
    house
}

fn trouble(what: &str) -> String {
    format!("gaucho_scheduler_troubles_total{{endpoint=\"{{}}\",trouble=\"{what}\"}} ")
}

impl House {
    async fn until_trouble(&self, what: &str) {
        let name = self.settings.endpoints[0].name.clone();
        let series = trouble(what).replace("{}", &name);
        let wait = async {
            while self.metric(&series).await < 1.0 {
                tokio::task::yield_now().await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(30), wait).await;
        assert!(seen.is_ok(), "never {what}:\n{}", self.metrics().await);
    }
}

fn last(body: &str) -> Value {
    serde_json::from_str(body.lines().last().unwrap_or_default()).unwrap_or_default()
}

#[tokio::test]
async fn a_runner_that_hangs_is_loaded_anew_and_its_silent_requests_are_answered() {
    let house = wary(Plan::new(), EARLY).await;
    assert_eq!(house.sim.loads(), 1);
    assert!(house.sim.hang("gemma:a"));
    let streamed = house.send("shop", "POST", "/api/chat", Some(&chat(3, true))).await;
    house.until_trouble("silent").await;
    house.until_trouble("stuck").await;
    let answer = streamed.read().await;
    assert_eq!((answer.status, &last(&answer.body())["done"]), (200, &json!(true)), "{answer:?}");
    assert_eq!(house.sim.loads(), 2, "healed by one reload");
    // whoever comes next finds nothing of it
    assert_eq!(house.ask("shop", "POST", "/api/chat", Some(&chat(2, false))).await.status, 200);
    assert_eq!(house.sim.loads(), 2);
    house.close().await;
}

#[tokio::test]
async fn a_lost_slot_is_found_by_the_servers_own_figures_and_comes_back() {
    let house = wary(Plan::new().slots(2).sim(|sim| sim.speed = 1.0), Duration::from_secs(20)).await;
    assert!(house.sim.lose_slot("gemma:a"));
    // at the pace that its figures tell, and long enough that a wait for an answer of others stands out
    let body = chat(90, true);
    let found = async {
        let one = || house.ask("shop", "POST", "/api/chat", Some(&body));
        loop {
            let (first, second) = tokio::join!(one(), one());
            assert_eq!((first.status, second.status), (200, 200), "{first:?} {second:?}");
            if house.sim.loads() > 1 {
                return;
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), found).await.is_ok(), "{}", house.metrics().await);
    house.until_trouble("slot_lost").await;
    assert_eq!(house.sim.loads(), 2, "one reload gave it back");
    house.close().await;
}

#[tokio::test]
async fn a_server_where_nothing_can_be_unloaded_rests_and_is_tried_again() {
    let house = wary(Plan::new(), EARLY).await;
    assert!(house.sim.hang("gemma:a") && house.sim.hold_unload("gemma:a", true));
    let waits = house.send("shop", "POST", "/api/chat", Some(&chat(3, true))).await;
    house.until_trouble("unhealable").await;
    let fleet = raw::send(house.admin, "GET", "/v1/fleet", &[], None).await.read().await.body();
    assert!(fleet.contains("resting"), "{fleet}");
    assert!(house.sim.hold_unload("gemma:a", false));
    let answer = waits.read().await;
    assert_eq!((answer.status, &last(&answer.body())["done"]), (200, &json!(true)), "{answer:?}");
    eventually("it was loaded anew", || house.sim.loads() == 2).await;
    house.close().await;
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_ended_and_its_runner_loaded_anew() {
    let house = wary(Plan::new().slots(2).sim(|sim| sim.speed = 2.0), EARLY).await;
    let mut cut = house.send("shop", "POST", "/api/chat", Some(&chat(300, true))).await;
    let mut head = cut.read_head().await;
    assert!(cut.chunk(&mut head).await.is_some());
    assert!(house.sim.hang("gemma:a"));
    house.until_trouble("stuck").await;
    let mut last = String::new();
    while let Some(line) = cut.chunk(&mut head).await {
        last = line;
    }
    assert!(last.contains("hung in the middle of the answer"), "{last}");
    assert_eq!(house.ask("shop", "POST", "/api/chat", Some(&chat(2, false))).await.status, 200);
    assert_eq!(house.sim.loads(), 2, "healed by one reload");
    house.close().await;
}

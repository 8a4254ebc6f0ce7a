//! A server that crashes costs its running answers and nobody in the queue: who waits goes on waiting until it is back.

use std::net::SocketAddr;

use gaucho::sim::{self, Fault, Sim};

use crate::support::dialect::{self, TEXT, request};
use crate::support::eventually;
use crate::support::fake::Fake;
use crate::support::gateway::{House, Plan};
use crate::support::raw::Exchange;

fn two_slots() -> sim::Settings {
    sim::Settings { models: sim::recorded_models(), speed: 50.0, num_parallel: 2, ..sim::Settings::default() }
}

async fn send(house: &House, path: &str, model: &str) -> Exchange {
    house.send("shop", "POST", path, Some(&request(path, model, true).to_string())).await
}

async fn send_many(house: &House, count: usize) -> Vec<(&'static str, Exchange)> {
    let mut sent = Vec::new();
    for path in TEXT.into_iter().cycle().take(count) {
        sent.push((path, send(house, path, "gemma:a").await));
    }
    sent
}

/// Waits until the gateway sees that nobody answers there.
async fn until_down(house: &House, addr: SocketAddr) {
    house.until_metric(&format!("gaucho_upstream_up{{endpoint=\"{addr}\"}} "), 0.0).await;
}

#[tokio::test]
async fn a_crash_of_the_only_server_costs_nobody_in_the_queue_and_newcomers_wait_likewise() {
    let sim = Sim::start(two_slots()).await.unwrap();
    let addr = sim.addr();
    // the twelve before the crash are all that may wait: a crash makes no place of theirs too many
    let plan = Plan::new().app("shop").app("other").slots(2).upstreams(&[&sim.url()]);
    let house = plan.policy("shop.toml", "max_queued = 12\n").build().await;
    assert_eq!(house.post("shop", "/api/chat", &request("/api/chat", "gemma:a", false)).await.status, 200);
    let mut running = Vec::new();
    for path in ["/api/chat", "/v1/messages"] {
        sim.inject(Fault::Stall { after: 1 });
        let mut exchange = send(&house, path, "gemma:a").await;
        let mut head = exchange.read_head().await;
        assert!(exchange.chunk(&mut head).await.is_some());
        running.push((path, head, exchange));
    }
    let early = send_many(&house, 12).await;
    house.until_queued(12).await;
    sim.shutdown().await;
    for (path, mut head, mut exchange) in running {
        while let Some(chunk) = exchange.chunk(&mut head).await {
            head.frames.push(chunk);
        }
        assert!(dialect::broken_stream(path, &head).contains("broke off"), "{path}: {head:?}");
    }
    until_down(&house, addr).await;
    // a newcomer that may not wait learns why at once, the others wait
    let body = request("/api/chat", "gemma:a", false);
    let hasty = house.send_with("other", "/api/chat", ("X-Gaucho-Deadline", "0"), &body).await.read().await;
    assert!(dialect::refusal("/api/chat", 503, &hasty).contains("no server that has the model"), "{hasty:?}");
    let late = house.send("other", "POST", "/api/chat", Some(&body.to_string())).await;
    house.until_queued(13).await;
    let again = Sim::start(sim::Settings { listen: addr, ..two_slots() }).await.unwrap();
    for (path, exchange) in early {
        let reply = exchange.read().await;
        assert!(dialect::is_whole(path, &reply), "{path}: {reply:?}");
    }
    assert_eq!(late.read().await.status, 200);
    assert_eq!(again.loads(), 1);
    house.close().await;
    again.shutdown().await;
}

#[tokio::test]
async fn an_application_waits_for_its_own_server_while_one_that_it_may_not_use_has_the_model_too() {
    let (own, other) = (Sim::start(two_slots()).await.unwrap(), Sim::start(two_slots()).await.unwrap());
    let addr = own.addr();
    let plan = Plan::new().app("shop").upstreams(&[&own.url(), &other.url()]);
    let house = plan.policy("shop.toml", &format!("endpoints = [\"{addr}\"]\n")).build().await;
    house.until_known(addr, "gemma:a").await;
    own.shutdown().await;
    let waiting = send(&house, "/api/chat", "gemma:a").await;
    until_down(&house, addr).await;
    house.until_queued(1).await;
    let again = Sim::start(sim::Settings { listen: addr, ..two_slots() }).await.unwrap();
    assert!(dialect::is_whole("/api/chat", &waiting.read().await));
    assert_eq!((again.loads(), other.loads()), (1, 0));
    house.close().await;
}

#[tokio::test]
async fn a_refused_connection_takes_its_request_back_into_the_queue() {
    let fake = Fake::start().await;
    let house = Plan::new().app("shop").upstreams(&[&fake.url()]).build().await;
    let addr = fake.addr();
    fake.stop().await;
    // the poller has not noticed yet: the call does
    let waiting = send(&house, "/v1/chat/completions", "fake").await;
    until_down(&house, addr).await;
    house.until_queued(1).await;
    let _fake = Fake::start_at(&addr.to_string()).await;
    let reply = waiting.read().await;
    assert!(dialect::is_whole("/v1/chat/completions", &reply), "{reply:?}");
    let line = house.until_log(|line| line["outcome"] == "answered").await;
    assert!(line["retries"].as_u64() > Some(0), "{line}");
    house.close().await;
}

#[tokio::test]
async fn a_request_under_which_a_server_goes_away_before_it_said_anything_is_made_again_twice_and_no_more() {
    let mut fake = Fake::start().await;
    let (addr, house) = (fake.addr(), Plan::new().app("shop").upstreams(&[&fake.url()]).build().await);
    let body = request("/api/chat", "fake", true).to_string();
    for crashes in [1, 3] {
        fake.next("", true);
        let waiting = house.send("shop", "POST", "/api/chat", Some(&body)).await;
        for crash in 1..=crashes {
            eventually("it is there", || fake.said() == 1).await;
            fake.stop().await;
            if crash < 3 {
                house.until_queued(1).await;
            }
            fake = Fake::start_at(&addr.to_string()).await;
            if crash < crashes {
                fake.next("", true);
            }
        }
        let reply = waiting.read().await;
        if crashes < 3 {
            assert!(dialect::is_whole("/api/chat", &reply), "{reply:?}");
        } else {
            assert!(dialect::refusal("/api/chat", 502, &reply).contains("broke off"), "{reply:?}");
        }
    }
    house.close().await;
}

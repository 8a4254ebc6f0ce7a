//! Several servers, and one of them fails: what another one can answer is answered, and who keeps failing is left alone
//! until a probe of it succeeds.

use std::time::Duration;

use gaucho::sim::{self, Fault, Sim};

use crate::support::dialect::{self, TEXT};
use crate::support::eventually;
use crate::support::fake::{self, Fake, STREAM, chunk, piece};
use crate::support::gateway::{House, Plan};
use crate::support::raw::Raw;

const DIED: &str = "{\"error\":\"model runner has unexpectedly stopped, this may be due to resource limitations or an \
                    internal error, check ollama server logs for details\"}";
const BUSY: &str = "{\"error\":\"server busy, please try again.  maximum pending requests exceeded\"}";

/// Two fakes with the same model in memory; the first one gets every request that finds both free.
async fn two(policy: &str) -> (Fake, Fake, House) {
    let (first, second) = (Fake::start().await, Fake::start().await);
    let plan = Plan::new().app("shop").upstreams(&[&first.url(), &second.url()]).policy("shop.toml", policy);
    let house = plan.settings(impatient).build().await;
    for fake in [&first, &second] {
        house.until_metric(&resident(fake), 1.0).await;
    }
    (first, second, house)
}

fn impatient(settings: &mut gaucho::config::Settings) {
    settings.upstream.connect = Duration::from_secs(1);
    settings.upstream.idle = Duration::from_millis(300);
    settings.upstream.first_event = Duration::from_millis(500);
    settings.upstream.whole = Duration::from_millis(500);
}

fn resident(fake: &Fake) -> String {
    format!("gaucho_upstream_resident_bytes{{endpoint=\"{}\",model=\"fake:latest\"}} ", fake.addr())
}

fn ejected(fake: &Fake) -> String {
    format!("gaucho_upstream_ejected{{endpoint=\"{}\"}} ", fake.addr())
}

fn counted(name: &str, fake: &Fake, reason: &str) -> String {
    format!("gaucho_{name}_total{{endpoint=\"{}\",reason=\"{reason}\"}} ", fake.addr())
}

async fn ask(house: &House, path: &str, stream: bool) -> Raw {
    house.post("shop", path, &dialect::request(path, "fake", stream)).await
}

fn answered(path: &str, stream: bool, reply: &Raw) -> bool {
    if stream { dialect::is_whole(path, reply) } else { reply.status == 200 && reply.body().contains("ok") }
}

#[tokio::test]
async fn a_call_that_fails_before_its_first_event_is_answered_by_another_server() {
    let (first, second, house) = two("").await;
    let failures: [(&str, String, &str); 6] = [
        ("nothing, and closed", String::new(), "upstream_broken"),
        ("a head, then the end", STREAM.into(), "upstream_broken"),
        ("a web page", fake::reply("200 OK", "<html>"), "upstream_broken"),
        ("its runner died", fake::reply("500 Internal Server Error", DIED), "upstream_error"),
        ("its queue is full", fake::reply("503 Service Unavailable", BUSY), "busy"),
        ("removed there", fake::reply("404 Not Found", "{\"error\":\"model 'fake' not found\"}"), "not_found"),
    ];
    for (what, bytes, class) in &failures {
        for path in TEXT {
            for stream in [false, true] {
                let (here, there) = (first.said(), second.said());
                first.next(bytes.clone(), false);
                let reply = ask(&house, path, stream).await;
                assert!(answered(path, stream, &reply), "{what}: {path}, stream {stream}: {reply:?}");
                assert_eq!((first.said(), second.said()), (here + 1, there + 1), "{what}: {path}");
                // a success, so that the first one is not ejected for failures in a row
                assert!(answered(path, stream, &ask(&house, path, stream).await));
                assert_eq!(first.said(), here + 2, "{what}: {path}: the first one is used again");
            }
        }
        let line = house.until_log(|line| line["retries"] == 1 && line["route"] == "/v1/completions").await;
        assert_eq!((&line["endpoint"], &line["outcome"]), (&second.addr().to_string().into(), &"answered".into()));
        assert!(house.metric(&counted("gateway_retries", &first, class)).await >= 8.0, "{what}");
    }
    house.until_metric(&counted("gateway_retries", &first, "upstream_broken"), 36.0).await;
    house.until_metric(&counted("upstream_errors", &first, "upstream_broken"), 36.0).await;
    assert_eq!(house.metric(&ejected(&first)).await, 0.0);
    house.close().await;
}

#[tokio::test]
async fn what_another_server_would_do_no_better_is_not_made_again() {
    let (first, second, house) = two("").await;
    let failures: [(String, u16, &str); 5] = [
        (fake::reply("400 Bad Request", "{\"error\":\"no\"}"), 400, "no"),
        (fake::reply("500 Internal Server Error", "{\"error\":\"boom\"}"), 500, "boom"),
        (fake::reply("401 Unauthorized", "<html>"), 502, "refused the gateway itself (401)"),
        (fake::reply("403 Forbidden", ""), 502, "your key is not the reason"),
        (format!("{STREAM}{}", chunk("{\"error\":\"out of memory\"}\n")), 500, "out of memory"),
    ];
    for (bytes, status, text) in failures {
        for path in TEXT {
            first.next(bytes.clone(), false);
            let reply = ask(&house, path, true).await;
            let message = dialect::refusal(path, status, &reply);
            assert!(message.contains(text), "{path}: {message}");
            assert!(reply.header("www-authenticate").is_none(), "{path}");
        }
    }
    // and nothing is made again once something was said
    for path in TEXT {
        first.next(format!("{STREAM}{}", chunk(&piece("a", false))), false);
        dialect::broken_stream(path, &ask(&house, path, true).await);
        assert!(answered(path, true, &ask(&house, path, true).await), "{path}");
    }
    assert_eq!(second.said(), 0);
    house.close().await;
}

#[tokio::test]
async fn a_request_under_which_runners_die_meets_two_of_them_and_counts_once_against_its_rate() {
    let fakes = [Fake::start().await, Fake::start().await, Fake::start().await];
    let urls: Vec<_> = fakes.iter().map(Fake::url).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let policy = "requests_per_minute = 6\nburst = 5\n";
    let house = Plan::new().app("shop").upstreams(&urls).policy("shop.toml", policy).build().await;
    for fake in &fakes {
        house.until_metric(&resident(fake), 1.0).await;
        fake.next(fake::reply("500 Internal Server Error", DIED), false);
    }
    let reply = ask(&house, "/api/chat", true).await;
    assert!(dialect::refusal("/api/chat", 500, &reply).contains("unexpectedly stopped"));
    assert_eq!(fakes.each_ref().map(Fake::said), [1, 1, 0]);
    let next = ask(&house, "/api/chat", true).await;
    assert_eq!(next.header("ratelimit-remaining"), Some("3"), "two requests of five: {next:?}");
    let line = house.until_log(|line| line["status"] == 500).await;
    assert_eq!(line["retries"], 1, "{line}");
    house.close().await;
}

#[tokio::test]
async fn a_server_that_goes_away_costs_nobody_an_answer_while_another_one_has_the_model() {
    let (first, second, house) = two("").await;
    let (addr, up) = (first.addr(), format!("gaucho_upstream_up{{endpoint=\"{}\"}} ", first.addr()));
    house.until_metric(&up, 1.0).await;
    first.stop().await;
    for path in TEXT.iter().cycle().take(12) {
        let reply = ask(&house, path, true).await;
        assert!(dialect::is_whole(path, &reply), "{path}: {reply:?}");
    }
    assert_eq!(second.said(), 12);
    assert_eq!(house.metrics().await.matches("outcome=\"unreachable\"").count(), 0);
    house.until_metric(&up, 0.0).await;
    // the poller notices when it comes back
    let first = Fake::start_at(&addr.to_string()).await;
    eventually("it is asked again", || first.asked("/api/ps") > 0).await;
    let again = async {
        while first.said() == 0 {
            assert!(answered("/api/chat", true, &ask(&house, "/api/chat", true).await));
        }
    };
    tokio::time::timeout(Duration::from_secs(15), again).await.expect("it is used again");
    house.close().await;
}

#[tokio::test]
async fn a_server_whose_calls_keep_failing_is_left_alone_and_probed_back() {
    let (first, second, house) = two("").await;
    for _ in 0..3 {
        first.next(String::new(), false);
        assert!(answered("/api/chat", true, &ask(&house, "/api/chat", true).await));
    }
    house.until_metric(&ejected(&first), 1.0).await;
    house.until_metric(&counted("upstream_ejections", &first, "broken"), 1.0).await;
    let (here, there) = (first.said(), second.said());
    for _ in 0..5 {
        assert!(answered("/api/chat", true, &ask(&house, "/api/chat", true).await));
    }
    assert_eq!((first.said(), second.said()), (here, there + 5), "nothing is sent to it");
    assert_eq!(first.probes(), 0, "not before its time");
    house.until_metric(&ejected(&first), 0.0).await;
    assert_eq!(first.probes(), 1, "one real token");
    eventually("it is used again", || first.asked("/api/version") > 1).await;
    let again = async {
        while first.said() == here {
            assert!(answered("/api/chat", true, &ask(&house, "/api/chat", true).await));
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("it is used again");
    house.close().await;
}

#[tokio::test]
async fn a_server_that_hangs_behind_a_healthy_face_is_found_by_a_real_token() {
    let (first, second, house) = two("").await;
    first.deaf(true);
    for _ in 0..2 {
        first.next(String::new(), true);
        let reply = ask(&house, "/api/chat", true).await;
        dialect::refusal("/api/chat", 504, &reply);
    }
    house.until_metric(&counted("upstream_ejections", &first, "silent"), 1.0).await;
    eventually("a probe hangs as well", || first.probes() > 0).await;
    for _ in 0..5 {
        assert!(answered("/api/chat", true, &ask(&house, "/api/chat", true).await));
    }
    assert_eq!((second.said(), house.metric(&ejected(&first)).await), (5, 1.0));
    let ready = house.ask("", "GET", "/readyz", None).await;
    assert_eq!(ready.status, 200, "another one serves");
    first.deaf(false);
    house.until_metric(&ejected(&first), 0.0).await;
    house.close().await;
}

#[tokio::test]
async fn the_only_server_is_tried_again_and_again_but_for_silence_and_then_only_until_a_token_comes() {
    let fake = Fake::start().await;
    let house = Plan::new().app("shop").upstreams(&[&fake.url()]).settings(impatient).build().await;
    for bytes in [String::new(), fake::reply("500 Internal Server Error", DIED)] {
        for _ in 0..5 {
            fake.next(bytes.clone(), false);
            let reply = ask(&house, "/v1/chat/completions", true).await;
            assert!(reply.status == 500 || reply.status == 502, "the true reason: {reply:?}");
        }
    }
    assert_eq!((house.metric(&ejected(&fake)).await, fake.probes(), fake.said()), (0.0, 0, 10));
    assert!(answered("/api/chat", true, &ask(&house, "/api/chat", true).await));
    for _ in 0..2 {
        fake.next(String::new(), true);
        assert_eq!(ask(&house, "/api/chat", true).await.status, 504);
    }
    // a caller waits for the probe, which passes
    assert!(answered("/api/chat", true, &ask(&house, "/api/chat", true).await));
    assert!(fake.probes() == 1 && house.metric(&counted("upstream_ejections", &fake, "silent")).await == 1.0);
    // and while it hangs, callers wait and readiness says why
    fake.deaf(true);
    for _ in 0..2 {
        fake.next(String::new(), true);
        assert_eq!(ask(&house, "/api/chat", true).await.status, 504);
    }
    eventually("it is probed", || fake.probes() > 1).await;
    let ready = house.ask("", "GET", "/readyz", None).await;
    assert!(ready.status == 503 && ready.body().contains("its calls keep failing (silent)"), "{ready:?}");
    fake.deaf(false);
    assert!(answered("/api/chat", true, &ask(&house, "/api/chat", true).await));
    house.close().await;
}

/// Two stand-ins with the recorded models, of which the first has `model` in memory.
async fn two_stand_ins(model: &str, policy: &str, speed: f64) -> (Sim, Sim, House) {
    let settings = || sim::Settings { models: sim::recorded_models(), speed, ..sim::Settings::default() };
    let (first, second) = (Sim::start(settings()).await.unwrap(), Sim::start(settings()).await.unwrap());
    let plan = Plan::new().app("shop").upstreams(&[&first.url(), &second.url()]).policy("shop.toml", policy);
    let house = plan.build().await;
    for sim in [&first, &second] {
        house.until_known(sim.addr(), model).await;
    }
    let path = if model.starts_with("tinybert") { "/api/embed" } else { "/api/chat" };
    assert_eq!(house.post("shop", path, &dialect::request(path, model, false)).await.status, 200);
    assert_eq!((first.runner(model).loads, second.runner(model).loads), (1, 0));
    (first, second, house)
}

#[tokio::test]
async fn vectors_are_made_elsewhere_too_even_where_the_model_must_be_loaded_first() {
    let (first, second, house) = two_stand_ins("tinybert:latest", "", 50.0).await;
    for path in ["/api/embed", "/api/embeddings", "/v1/embeddings"] {
        first.inject(Fault::Close { after: 0 });
        let reply = house.post("shop", path, &dialect::request(path, "tinybert", false)).await;
        assert!(reply.status == 200 && reply.body().contains("embedding"), "{path}: {reply:?}");
        let line = house.until_log(|line| line["route"] == path && line["retries"] == 1).await;
        assert_eq!((&line["endpoint"], &line["outcome"]), (&second.addr().to_string().into(), &"answered".into()));
        assert_eq!(house.post("shop", path, &dialect::request(path, "tinybert", false)).await.status, 200);
    }
    assert_eq!((first.runner("tinybert:latest").loads, second.runner("tinybert:latest").loads), (1, 1));
    house.close().await;
}

#[tokio::test]
async fn a_call_is_made_elsewhere_only_within_the_requests_own_time_and_else_its_failure_is_told() {
    let (first, second, house) = two_stand_ins("gemma:a", "max_wait = \"2s\"\n", 1.0).await;
    // the other one needs longer than that to load it
    second.inject(Fault::DelayHeaders(Duration::from_secs(60)));
    first.inject(Fault::Close { after: 0 });
    let reply =
        house.post("shop", "/v1/chat/completions", &dialect::request("/v1/chat/completions", "gemma:a", true)).await;
    assert!(dialect::refusal("/v1/chat/completions", 502, &reply).contains("broke off"), "{reply:?}");
    let line = house.until_log(|line| line["status"] == 502).await;
    assert_eq!((&line["retries"], &line["endpoint"]), (&0.into(), &first.addr().to_string().into()));
    assert_eq!(second.tally().answered, 0);
    drop(house);
}

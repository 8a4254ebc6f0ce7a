//! Prompts that do not fit into their model's context: cut, refused or routed, and never in silence.

use serde_json::{Value, json};

use crate::support::dialect::{self, TEXT, is_whole, refusal, request};
use crate::support::eventually;
use crate::support::gateway::{House, Plan};
use crate::support::raw::Raw;

const HEADER: &str = "x-gaucho-overflow";
/// `gemma:a` has little room, `gemma:b` more.
const PROFILES: &str = "[models.\"gemma:a\"]\nnum_ctx = 512\n[models.\"gemma:b\"]\nnum_ctx = 4096\n[models.\"gemma:c\"]\nnum_ctx = 512\nshift = false\n";
const EMBEDS: [&str; 2] = ["/api/embed", "/v1/embeddings"];

async fn house(policy: &str) -> House {
    Plan::new().app("shop").policy("models.toml", PROFILES).policy("shop.toml", policy).build().await
}

/// A request with a prompt of so many words.
fn long(path: &str, model: &str, words: usize) -> Value {
    let mut body = request(path, model, false);
    let text = "word ".repeat(words);
    if body.get("messages").is_some() {
        body["messages"][0]["content"] = text.into();
    } else if path == "/v1/responses" {
        body["input"] = text.into();
    } else if body.get("input").is_some() {
        body["input"] = json!(["a", text]);
    } else {
        body["prompt"] = text.into();
    }
    body
}

fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The `truncate` of every call for `task` that came upstream since `from`.
fn asked(house: &House, from: usize) -> Vec<Value> {
    let seen = house.sim.seen();
    let bodies = seen.iter().skip(from).filter_map(|seen| serde_json::from_slice::<Value>(&seen.body).ok());
    bodies.filter_map(|body| body.get("truncate").cloned()).collect()
}

/// How a refusal on `/v1` begins, by which libraries know it.
fn known_words(path: &str) -> &'static str {
    match path {
        "/v1/messages" => "prompt is too long: 9",
        _ => "this model's maximum context length is 512 tokens",
    }
}

/// The numbers of the header, and what became of it.
fn told(reply: &Raw) -> (String, u64, u64) {
    let text = reply.header(HEADER).unwrap_or_else(|| panic!("nothing is said: {reply:?}"));
    let number = |name: &str| {
        let found = text.split("; ").find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    };
    (text.split(';').next().unwrap().to_owned(), number("prompt_tokens"), number("context"))
}

#[tokio::test]
async fn what_is_cut_is_said_in_header_log_and_metric_and_counts_once() {
    let house = house("requests_per_minute = 1\nburst = 60\n").await;
    let mut sent = 0;
    for path in TEXT {
        for stream in [false, true] {
            let from = house.sim.seen().len();
            let body = with(long(path, "gemma:a", 900), &json!({ "stream": stream }));
            let reply = house.post("shop", path, &body).await;
            sent += 1;
            assert!(if stream { is_whole(path, &reply) } else { reply.status == 200 }, "{path}: {reply:?}");
            let (end, prompt, context) = told(&reply);
            assert_eq!((end.as_str(), context), ("truncated", 512), "{path}");
            assert!((900..1000).contains(&prompt), "{path}: {prompt}");
            assert_eq!(asked(&house, from), [json!(false), json!(true)], "{path}: asked first, then cut");
            assert_eq!(reply.header("ratelimit-remaining"), Some((60 - sent).to_string().as_str()), "{path}");
        }
        let from = house.sim.seen().len();
        let small = house.post("shop", path, &request(path, "gemma:a", false)).await;
        sent += 1;
        assert_eq!((small.status, small.header(HEADER)), (200, None), "{path}: {small:?}");
        assert_eq!(asked(&house, from), [json!(false)], "{path}");
    }
    let line = house.until_log(|line| line["overflow"].is_string() && line["stream"] == true).await;
    let text = line["overflow"].as_str().unwrap();
    assert!(text.starts_with("truncated; prompt_tokens=9") && text.ends_with("; context=512"), "{line}");
    assert_eq!((&line["outcome"], &line["retries"]), (&json!("answered"), &json!(0)), "{line}");
    let series = "gaucho_gateway_overflows_total{app=\"shop\",model=\"gemma:a\",end=\"truncated\"} ";
    house.until_metric(series, 2.0 * TEXT.len() as f64).await;
    let metrics = house.metrics().await;
    let blamed = metrics.lines().find(|line| line.starts_with("gaucho_upstream_errors_total{"));
    assert_eq!(blamed, None, "no failure of the server");
    house.close().await;
}

#[tokio::test]
async fn the_second_call_keeps_its_turn() {
    let house = house("").await;
    let warm = house.post("shop", "/api/generate", &request("/api/generate", "gemma:a", false)).await;
    assert_eq!(warm.status, 200);
    // now or never: a second turn in the queue would come too late
    let now = ("X-Gaucho-Deadline", "0");
    let reply =
        house.send_with("shop", "/api/generate", now, &long("/api/generate", "gemma:a", 900)).await.read().await;
    assert_eq!((reply.status, told(&reply).0.as_str()), (200, "truncated"), "{reply:?}");
    // the cut call is in the only slot while the others wait for it: nobody passes it
    let many = (0..6).map(|_| {
        let body = long("/api/generate", "gemma:a", 900);
        let house = &house;
        async move { house.post("shop", "/api/generate", &body).await }
    });
    for reply in futures_util::future::join_all(many).await {
        assert_eq!((reply.status, told(&reply).0.as_str()), (200, "truncated"), "{reply:?}");
    }
    let ends: Vec<Value> = asked(&house, 0);
    assert_eq!(ends.len(), 15, "{ends:?}");
    for pair in ends[1..].chunks(2) {
        assert_eq!(pair, [json!(false), json!(true)], "{ends:?}");
    }
    assert_eq!(house.sim.runner("gemma:a").peak_inside, 1);
    house.close().await;
}

#[tokio::test]
async fn a_policy_may_refuse_with_both_numbers_in_every_dialect() {
    let house = house("on_overflow = \"refuse\"\n").await;
    for path in TEXT {
        for stream in [false, true] {
            let from = house.sim.seen().len();
            let body = with(long(path, "gemma:a", 900), &json!({ "stream": stream }));
            let refused = house.post("shop", path, &body).await;
            let text = refusal(path, 400, &refused);
            let (end, prompt, context) = told(&refused);
            assert_eq!((end.as_str(), context), ("refused", 512), "{path}");
            assert!(text.starts_with(known_words(path)), "{path}: {text}");
            for part in [prompt.to_string().as_str(), "on_overflow", "\"truncate\": true"] {
                assert!(text.contains(part), "{path} {part}: {text}");
            }
            if path.starts_with("/v1") {
                let error: Value = serde_json::from_str(&refused.body()).unwrap();
                assert_eq!(error["error"]["type"], "invalid_request_error", "{error}");
                // Anthropic's errors have neither
                if path != "/v1/messages" {
                    let param = ["messages", "input", "prompt"].into_iter().find(|name| body.get(name).is_some());
                    assert_eq!(error["error"]["code"], "context_length_exceeded", "{error}");
                    assert_eq!(error["error"]["param"].as_str(), param, "{path}: {error}");
                }
            }
            assert_eq!(asked(&house, from), [json!(false)], "{path}");
        }
        // an explicit wish is the caller's own
        let cut = house.post("shop", path, &with(long(path, "gemma:a", 900), &json!({ "truncate": true }))).await;
        assert_eq!((cut.status, told(&cut).0.as_str()), (200, "truncated"), "{path}: {cut:?}");
    }
    let series = "gaucho_gateway_refused_total{app=\"shop\",reason=\"context_length_exceeded\"} ";
    house.until_metric(series, 2.0 * TEXT.len() as f64).await;
    assert_eq!(house.metric("gaucho_upstream_ejections_total").await, 0.0);
    house.close().await;
}

#[tokio::test]
async fn a_caller_may_forbid_the_cut_and_gets_ollamas_words_where_ollama_has_them() {
    let house = house("").await;
    for path in TEXT {
        let refused = house.post("shop", path, &with(long(path, "gemma:a", 900), &json!({ "truncate": false }))).await;
        let text = refusal(path, 400, &refused);
        assert_eq!(told(&refused).0, "refused", "{path}");
        if path.starts_with("/v1") {
            assert!(text.starts_with(known_words(path)), "{path}: {text}");
        } else {
            let said: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(said["error"]["type"], "exceed_context_size_error", "{path}: {text}");
            assert_eq!(said["error"]["n_ctx"], 512, "{path}: {text}");
        }
    }
    let body = with(long("/api/embed", "tinybert", 900), &json!({ "truncate": false }));
    let text = refusal("/api/embed", 400, &house.post("shop", "/api/embed", &body).await);
    assert_eq!(text, "the input length exceeds the context length");
    house.close().await;
}

#[tokio::test]
async fn openais_truncation_is_a_word_on_the_cut_too() {
    let path = "/v1/responses";
    for policy in ["", "on_overflow = \"refuse\"\n", "on_overflow = { route = \"gemma:b\" }\n"] {
        let house = house(policy).await;
        for (more, end) in [
            (json!({ "truncation": "auto" }), "truncated"),
            (json!({ "truncation": "auto", "truncate": true }), "truncated"),
            (json!({ "truncation": "disabled" }), "refused"),
            (json!({ "truncation": "disabled", "truncate": false }), "refused"),
        ] {
            let reply = house.post("shop", path, &with(long(path, "gemma:a", 900), &more)).await;
            assert_eq!(told(&reply).0, end, "{policy} {more}: {reply:?}");
            assert_eq!(reply.status, if end == "refused" { 400 } else { 200 }, "{policy} {more}: {reply:?}");
            let body: Value = serde_json::from_str(&reply.body()).unwrap();
            let names = (&body["error"]["param"], &body["truncation"]);
            let wanted = if end == "refused" { ("input".into(), Value::Null) } else { (Value::Null, "auto".into()) };
            assert_eq!(names, (&wanted.0, &wanted.1), "{policy} {more}: {body}");
        }
        if policy.is_empty() {
            let reply = house.post("shop", path, &long(path, "gemma:a", 900)).await;
            let body: Value = serde_json::from_str(&reply.body()).unwrap();
            assert_eq!((told(&reply).0, &body["truncation"]), ("truncated".into(), &"auto".into()), "{body}");
        }
        let from = house.sim.seen().len();
        let both = with(long(path, "gemma:a", 900), &json!({ "truncation": "auto", "truncate": false }));
        let text = refusal(path, 400, &house.post("shop", path, &both).await);
        assert!(text.contains("truncate is false") && text.contains("truncation is \"auto\""), "{text}");
        assert_eq!(house.sim.seen().len(), from, "nothing went upstream");
        house.close().await;
    }
}

#[tokio::test]
async fn embeddings_are_cut_and_said_or_refused_with_an_estimate() {
    let cuts = house("").await;
    for path in EMBEDS {
        let reply = cuts.post("shop", path, &long(path, "tinybert", 900)).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let (end, prompt, context) = told(&reply);
        assert_eq!((end.as_str(), context), ("truncated", 512), "{path}");
        assert!(prompt > 512 && reply.header(HEADER).unwrap().ends_with("; estimated"), "{path}: {reply:?}");
        let small = cuts.post("shop", path, &request(path, "tinybert", false)).await;
        assert_eq!((small.status, small.header(HEADER)), (200, None), "{path}: {small:?}");
    }
    cuts.close().await;
    for policy in ["on_overflow = \"refuse\"\n", "on_overflow = { route = \"gemma:b\" }\n"] {
        let refuses = house(policy).await;
        for path in EMBEDS {
            let refused = refuses.post("shop", path, &long(path, "tinybert", 900)).await;
            let text = refusal(path, 400, &refused);
            assert!(text.contains("512 tokens here") && text.contains("has about "), "{policy} {path}: {text}");
            assert!(text.contains("on_overflow"), "{policy} {path}: {text}");
        }
        // the older route has no way to cut: Ollama answers 500 there
        let refused = refuses.post("shop", "/api/embeddings", &long("/api/embeddings", "tinybert", 900)).await;
        let text = refusal("/api/embeddings", 400, &refused);
        assert!(text.contains("512 tokens here") && text.contains("/api/embed does"), "{text}");
        refuses.close().await;
    }
}

#[tokio::test]
async fn a_policy_may_route_to_a_model_with_more_room() {
    let house = house("on_overflow = { route = \"gemma:b\" }\nrequests_per_minute = 20\nburst = 20\n").await;
    for (path, remaining) in TEXT.iter().zip(["19", "18", "17", "16", "15", "14"]) {
        let reply = house.post("shop", path, &with(long(path, "gemma:a", 900), &json!({ "stream": true }))).await;
        assert!(is_whole(path, &reply), "{path}: {reply:?}");
        assert_eq!(told(&reply).0, "routed", "{path}");
        assert!(reply.header(HEADER).unwrap().contains("; model=gemma:b; "), "{reply:?}");
        assert_eq!(reply.header("ratelimit-remaining"), Some(remaining), "{path}: counted once");
        assert!(reply.body().contains("\"gemma:a\"") && !reply.body().contains("gemma:b"), "the name asked for");
        let seen = house.sim.seen();
        let last: Value = serde_json::from_slice(&seen.last().unwrap().body).unwrap();
        assert_eq!((&last["model"], &last["options"]["num_ctx"]), (&json!("gemma:b"), &json!(4096)), "{path}");
    }
    let line = house.until_log(|line| line["overflow"].is_string()).await;
    assert_eq!(line["model"], "gemma:b", "{line}");
    // at most once
    let refused = house.post("shop", "/api/chat", &long("/api/chat", "gemma:a", 9000)).await;
    let text = refusal("/api/chat", 400, &refused);
    assert_eq!((told(&refused).0.as_str(), told(&refused).2), ("refused", 4096), "{refused:?}");
    assert!(text.contains("on_overflow"), "{text}");
    let refused = house.post("shop", "/api/chat", &long("/api/chat", "gemma:b", 9000)).await;
    assert_eq!(told(&refused).0, "refused", "nowhere to go from there: {refused:?}");
    // token ids are their model's own
    let context = with(long("/api/generate", "gemma:a", 900), &json!({ "context": [1, 2, 3] }));
    assert_eq!(told(&house.post("shop", "/api/generate", &context).await).0, "refused");
    house.close().await;
}

#[tokio::test]
async fn a_route_that_leads_nowhere_says_so() {
    let house = house("on_overflow = { route = \"gemma:none\" }\n").await;
    let refused = house.post("shop", "/v1/chat/completions", &long("/v1/chat/completions", "gemma:a", 900)).await;
    let text = refusal("/v1/chat/completions", 400, &refused);
    assert_eq!(told(&refused).0, "refused", "{refused:?}");
    assert!(text.contains("512 tokens") && text.contains("'gemma:none'") && text.contains("not found"), "{text}");
    house.close().await;
}

#[tokio::test]
async fn what_cannot_be_cut_is_refused_with_the_numbers_of_the_first_refusal() {
    let house = house("").await;
    for path in TEXT {
        let refused = house.post("shop", path, &long(path, "gemma:c", 900)).await;
        let text = refusal(path, 400, &refused);
        let (end, prompt, context) = told(&refused);
        assert_eq!((end.as_str(), context), ("refused", 512), "{path}: {refused:?}");
        assert!((900..1000).contains(&prompt) && text.contains("without shift"), "{path}: {text}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_stream_that_waited_aloud_is_told_in_a_comment() {
    let house = house("").await;
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"] {
        assert_eq!(house.post("shop", path, &request(path, "gemma:a", false)).await.status, 200);
        house.sim.inject(gaucho::sim::Fault::Stall { after: 0 });
        let body = request(path, "gemma:a", false).to_string();
        let running = house.send("shop", "POST", path, Some(&body)).await;
        eventually("it runs", || house.sim.tally().in_flight == 1).await;
        let body = with(long(path, "gemma:a", 900), &json!({ "stream": true }));
        let mut waiting = house.send_with("shop", path, ("X-Gaucho-Keepalive", "1s"), &body).await;
        let mut reply = waiting.read_head().await;
        assert_eq!((reply.status, reply.header(HEADER)), (200, None), "{reply:?}");
        drop(running);
        while let Some(chunk) = waiting.chunk(&mut reply).await {
            reply.frames.push(chunk);
        }
        assert!(dialect::is_whole(path, &reply), "{reply:?}");
        let comment = reply.frames.iter().find(|frame| frame.starts_with(": overflow"));
        let comment = comment.unwrap_or_else(|| panic!("nothing is said: {reply:?}"));
        assert!(comment.starts_with(": overflow; truncated; prompt_tokens=9"), "{comment}");
        let first = reply.frames.iter().position(|frame| frame.contains("data: ")).unwrap();
        assert!(reply.frames.iter().position(|frame| frame == comment).unwrap() < first, "{reply:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn what_was_cut_teaches_nothing_of_how_long_prompts_are() {
    let plan = Plan::new().app("shop").app("strict").policy("models.toml", PROFILES);
    let house = plan.policy("strict.toml", "max_context = 1000\n").build().await;
    for _ in 0..12 {
        let cut = house.post("shop", "/api/generate", &long("/api/generate", "gemma:a", 900)).await;
        assert_eq!((cut.status, told(&cut).0.as_str()), (200, "truncated"), "{cut:?}");
    }
    let refused = house.post("strict", "/api/generate", &long("/api/generate", "gemma:a", 2000)).await;
    let text = refusal("/api/generate", 400, &refused);
    assert!(text.contains("max_context"), "{text}");
    house.close().await;
}

#[tokio::test]
async fn an_applications_own_ceiling_names_the_field_of_the_prompt() {
    let house = house("max_context = 1000\n").await;
    for path in TEXT {
        let body = long(path, "gemma:b", 3000);
        let refused = house.post("shop", path, &body).await;
        assert!(refusal(path, 400, &refused).contains("max_context"), "{path}: {refused:?}");
        let error: Value = serde_json::from_str(&refused.body()).unwrap();
        if path.starts_with("/v1") && path != "/v1/messages" {
            let param = ["messages", "input", "prompt"].into_iter().find(|name| body.get(name).is_some());
            assert_eq!(error["error"]["param"].as_str(), param, "{path}: {error}");
        }
    }
    house.close().await;
}

#[tokio::test]
async fn the_size_that_a_refusal_names_is_that_of_the_runner_where_the_server_chose_it() {
    let plan = Plan::new().app("shop").sim(|sim| sim.context_length = 128);
    let house = plan.policy("shop.toml", "on_overflow = \"refuse\"\n").build().await;
    for path in EMBEDS {
        assert_eq!(house.post("shop", path, &request(path, "tinybert", false)).await.status, 200, "{path}");
        assert_eq!(house.ask("shop", "GET", "/api/ps", None).await.status, 200, "what is in memory is asked");
        let text = refusal(path, 400, &house.post("shop", path, &long(path, "tinybert", 600)).await);
        assert!(text.contains("maximum context length is 128 tokens"), "{path}: {text}");
    }
    house.close().await;
}

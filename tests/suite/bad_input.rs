//! Bad input of every kind through the front door: a clear error in the caller's dialect, no panic, nothing kept.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::gateway::{House, Plan};
use crate::support::raw;

/// Surfaces, and the body of a small good request for each.
fn surfaces() -> [(&'static str, Value); 8] {
    let messages = json!([{ "role": "user", "content": "x" }]);
    [
        ("/api/chat", json!({ "model": "gemma:a", "messages": messages, "stream": false })),
        ("/api/generate", json!({ "model": "gemma:a", "prompt": "x", "stream": false })),
        ("/api/embed", json!({ "model": "tinybert", "input": "x" })),
        ("/api/embeddings", json!({ "model": "tinybert", "prompt": "x" })),
        ("/v1/chat/completions", json!({ "model": "gemma:a", "messages": messages })),
        ("/v1/completions", json!({ "model": "gemma:a", "prompt": "x" })),
        ("/v1/embeddings", json!({ "model": "tinybert", "input": "x" })),
        ("/v1/responses", json!({ "model": "gemma:a", "input": "x" })),
    ]
}

/// The error's text, in the form of the dialect of `path`.
fn message(path: &str, reply: &raw::Raw) -> String {
    let object: Value = serde_json::from_str(&reply.body()).unwrap_or_else(|_| panic!("{path}: no JSON: {reply:?}"));
    let text = if path.starts_with("/v1") { &object["error"]["message"] } else { &object["error"] };
    text.as_str().unwrap_or_else(|| panic!("{path}: no message: {reply:?}")).to_owned()
}

async fn house() -> House {
    Plan::new()
        .app("shop")
        .policy("shop.toml", "models = [\"gemma:a\", \"tinybert\"]\nmax_body = \"64KiB\"\n")
        .build()
        .await
}

#[tokio::test]
async fn broken_bodies_are_refused_on_every_surface() {
    let house = house().await;
    let deep = format!("{{\"model\":\"gemma:a\",\"x\":{}{}}}", "[".repeat(2000), "]".repeat(2000));
    let large = format!("{{\"model\":\"gemma:a\",\"prompt\":\"{}\"}}", "x".repeat(70_000));
    for (path, _) in surfaces() {
        for (body, status, text) in [
            ("", 400, ""),
            ("[]", 400, "cannot unmarshal array"),
            ("{\"model\": x}", 400, "invalid character 'x' looking for beginning of value"),
            ("{\"model\":\"gemma:a\",", 400, "unexpected EOF"),
            ("{\"model\": 5}", 400, "cannot unmarshal number into Go struct field"),
            (deep.as_str(), 400, "deep"),
            (large.as_str(), 413, "65536"),
        ] {
            let reply = house.ask("shop", "POST", path, Some(body)).await;
            assert_eq!(reply.status, status, "{path} {body:.40}: {reply:?}");
            let text_seen = message(path, &reply);
            assert!(text_seen.contains(text), "{path} {body:.40}: {text_seen}");
        }
    }
    assert_eq!(house.sim.tally().received, 0, "none of it went upstream");
    house.close().await;
}

#[tokio::test]
async fn a_model_is_judged_under_every_spelling() {
    let house = house().await;
    for (path, good) in surfaces() {
        let mut body = good.clone();
        for name in
            ["gemma:b", "GEMMA:B", "library/gemma:b", "https://registry.ollama.ai/library/gemma:b", "gemma:b:local"]
        {
            body["model"] = name.into();
            let reply = house.post("shop", path, &body).await;
            assert_eq!(reply.status, 403, "{path} {name}: {reply:?}");
            assert!(message(path, &reply).contains("gemma:b"), "{path}");
        }
        for name in ["gpt-oss:120b-cloud", "x:CLOUD"] {
            body["model"] = name.into();
            assert_eq!(house.post("shop", path, &body).await.status, 403, "{path} {name}");
        }
        for name in ["a/b/c/d/e:f:g", "x/../y", "é"] {
            body["model"] = name.into();
            assert_eq!(house.post("shop", path, &body).await.status, 400, "{path} {name}");
        }
    }
    let open = Plan::new().app("shop").build().await;
    for (path, mut body) in surfaces() {
        body["model"] = "absent".into();
        let reply = open.post("shop", path, &body).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
        assert!(message(path, &reply).contains("absent"), "{path}");
    }
    for name in ["GEMMA:A", "library/gemma:a", " gemma:a "] {
        let body = json!({ "model": name, "prompt": "x", "stream": false, "options": { "num_predict": 1 } });
        let reply = open.post("shop", "/api/generate", &body).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        assert!(reply.body().contains(&format!("\"model\":\"{name}\"")), "the caller's spelling is echoed: {reply:?}");
    }
    assert_eq!(house.sim.tally().received, 0);
    house.close().await;
    open.close().await;
}

#[tokio::test]
async fn what_is_authorised_is_what_ollama_runs() {
    let house = house().await;
    // Go reads keys in any case and the last one wins
    for body in [
        r#"{"model":"gemma:a","MODEL":"gemma:b","prompt":"x"}"#,
        r#"{"model":"gemma:a","model":"gemma:b","prompt":"x"}"#,
        r#"{"model":"gemma:a","ſtream":false,"Model":"gemma:b","prompt":"x"}"#,
    ] {
        assert_eq!(house.ask("shop", "POST", "/api/generate", Some(body)).await.status, 403, "{body}");
    }
    let body = r#"{"MODEL":"gemma:b","Prompt":"x","model":"gemma:a","STREAM":false,"_debug_later":true,"later":[1],
        "Options":{"num_predict":2},"options":{"temperature":0}} trailing"#;
    let reply = house.ask("shop", "POST", "/api/generate", Some(body)).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let sent: Value = serde_json::from_slice(&house.sim.seen().last().unwrap().body).unwrap();
    let names: Vec<&str> = sent.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(sent["model"], "gemma:a", "{sent}");
    assert_eq!((&sent["options"]["num_predict"], &sent["options"]["temperature"]), (&json!(2), &json!(0)), "{sent}");
    assert_eq!(sent["later"], json!([1]), "unknown fields pass: {sent}");
    let known =
        |name: &&str| !["model", "prompt", "stream", "options", "keep_alive", "truncate", "later"].contains(name);
    assert_eq!(names.iter().find(|name| known(name)), None, "{names:?}");
    house.close().await;
}

#[tokio::test]
async fn paths_cannot_be_tricked() {
    let house = house().await;
    for (path, status) in [
        ("/v1/../api/delete", 307),
        ("/v1/%2e%2e/api/delete", 404),
        ("/api/%2e%2e/api/tags", 404),
        ("/api\\tags", 404),
        ("//api/tags", 307),
        ("/api/tags/", 301),
        ("/api/nothing", 404),
        ("/api/chat", 405),
    ] {
        let reply = house.ask("shop", "GET", path, None).await;
        assert_eq!(reply.status, status, "{path}: {reply:?}");
    }
    let deleted = house.ask("shop", "DELETE", "/api/delete", Some("{\"model\":\"gemma:a\"}")).await;
    assert_eq!(deleted.status, 403);
    assert!(house.sim.seen().iter().all(|seen| !seen.path.contains("delete")));
    house.close().await;
}

/// Writes bytes, and reads what comes until the peer closes.
async fn talk(house: &House, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(house.addr).await.unwrap();
    // a peer that closes early may not take everything
    let _ = socket.write_all(bytes).await;
    let mut reply = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut reply)).await.unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

#[tokio::test]
async fn slow_and_broken_connections_end_without_a_trace() {
    let house = Plan::new()
        .app("shop")
        .settings(|settings| {
            settings.limits.header_timeout = Duration::from_millis(200);
            settings.limits.body_timeout = Duration::from_millis(200);
        })
        .build()
        .await;
    let key = house.key("shop").to_owned();
    let head = |length: &str| {
        format!(
            "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\n{length}Connection: close\r\n\r\n"
        )
    };
    let body = r#"{"model":"gemma:a","prompt":"x","stream":false,"options":{"num_predict":1}}"#;
    // heads and bodies that never end
    assert_eq!(talk(&house, b"POST /api/generate HTTP/1.1\r\nHost: loc").await, "");
    let slow = talk(&house, format!("{}{{\"model\"", head("Content-Length: 100\r\n")).as_bytes()).await;
    assert!(slow.starts_with("HTTP/1.1 408 ") && slow.contains("did not arrive"), "{slow}");
    // not HTTP, too much of it, and lengths that lie
    assert!(talk(&house, b"\x16\x03\x01 hello\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert!(talk(&house, many.as_bytes()).await.starts_with("HTTP/1.1 431 "));
    let huge = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(500_000));
    let huge = talk(&house, huge.as_bytes()).await;
    // the answer may be lost with the connection, which has unread bytes
    assert!(huge.is_empty() || huge.starts_with("HTTP/1.1 431 "), "{huge}");
    let longer = format!("{}{body} and more", head(&format!("Content-Length: {}\r\n", body.len())));
    assert!(talk(&house, longer.as_bytes()).await.starts_with("HTTP/1.1 200 "));
    let chunked = format!("{}{:x}\r\n{body}\r\n0\r\n\r\n", head("Transfer-Encoding: chunked\r\n"), body.len());
    assert!(talk(&house, chunked.as_bytes()).await.starts_with("HTTP/1.1 200 "));
    let broken = format!("{}zz\r\n", head("Transfer-Encoding: chunked\r\n"));
    let broken = talk(&house, broken.as_bytes()).await;
    assert!(broken.is_empty() || broken.starts_with("HTTP/1.1 400 "), "{broken}");
    let expects = format!("{}{body}", head(&format!("Expect: 100-continue\r\nContent-Length: {}\r\n", body.len())));
    assert!(talk(&house, expects.as_bytes()).await.starts_with("HTTP/1.1 "));
    // forms of body that are not plain JSON
    let packed = format!("{}{body}", head(&format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", body.len())));
    let packed = talk(&house, packed.as_bytes()).await;
    assert!(packed.starts_with("HTTP/1.1 415 ") && packed.contains("plain JSON"), "{packed}");
    let text = b"{\"model\":\"gemma:a\",\"prompt\":\"caf\xe9 x\"}";
    let mut latin = head(&format!("Content-Length: {}\r\n", text.len())).into_bytes();
    latin.extend(text);
    let latin = talk(&house, &latin).await;
    assert!(latin.starts_with("HTTP/1.1 400 ") && latin.contains("UTF-8"), "{latin}");
    let twice = head(&format!("X-Api-Key: {key}\r\nContent-Length: 0\r\n"));
    assert!(talk(&house, twice.as_bytes()).await.starts_with("HTTP/1.1 400 "));
    assert!(house.log_lines().iter().all(|line| line["outcome"] != "internal"));
    house.close().await;
}

#[tokio::test]
async fn a_wrong_type_is_refused_and_never_guessed_at() {
    let house = house().await;
    let mut wrong = Vec::new();
    for (path, good) in surfaces() {
        let mut cases = vec![("model", json!(["gemma:a"])), ("model", json!({})), ("model", json!(true))];
        if path.starts_with("/api") {
            cases.extend([
                ("options", json!([1])),
                ("options", json!("num_predict")),
                ("options", json!({ "num_ctx": "large" })),
                ("options", json!({ "temperature": [0] })),
                ("options", json!({ "stop": "\n" })),
                ("options", json!({ "use_mmap": 1 })),
                ("keep_alive", json!({})),
            ]);
        }
        if !path.contains("embed") {
            cases.push(("stream", json!("yes")));
        }
        // completions know only a number of logprobs
        if !path.contains("embed") && path != "/v1/completions" {
            cases.extend([("top_logprobs", json!(21)), ("top_logprobs", json!(-1))]);
        }
        let text = ["messages", "prompt", "input"].into_iter().find(|field| good.get(field).is_some()).unwrap();
        cases.extend([(text, json!(7)), (text, json!({ "a": 1 }))]);
        for (field, value) in cases {
            let mut body = good.clone();
            body[field] = value.clone();
            let reply = house.post("shop", path, &body).await;
            if reply.status != 400 || message(path, &reply).is_empty() {
                wrong.push(format!("{path} {field}: {value}: {} {}", reply.status, reply.body()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(house.sim.tally().received, 0, "none of it went upstream");
    house.close().await;
}

#[tokio::test]
async fn a_key_in_odd_letters_is_the_field_that_go_reads_it_as() {
    let house = Plan::new()
        .app("shop")
        .app("strict")
        .policy("shop.toml", "models = [\"gemma:a\", \"tinybert\"]\n")
        .policy("strict.toml", "runner_options = \"refuse\"\n")
        .build()
        .await;
    // Go folds the Kelvin sign to k and the long s to s
    let odd = |path: &str| {
        let mut body = surfaces().into_iter().find(|(surface, _)| *surface == path).unwrap().1;
        body["\u{212a}eep_alive"] = json!("99h");
        body["_debug_later"] = json!(true);
        if path.starts_with("/api") && !path.contains("embed") {
            body["option\u{17f}"] = json!({ "num_predict": 2 });
            body["\u{17f}HIFT"] = json!(false);
            body["_Debug_Render_Only"] = json!(true);
        }
        body
    };
    for (path, _) in surfaces() {
        let native = path.starts_with("/api");
        if native {
            let refused = house.post("strict", path, &odd(path)).await;
            assert_eq!(refused.status, 400, "{path}: {refused:?}");
            assert!(["keep_alive", "shift"].iter().any(|field| message(path, &refused).starts_with(field)), "{path}");
        }
        let reply = house.post("shop", path, &odd(path)).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let seen = house.sim.seen().into_iter().rfind(|seen| seen.method == "POST" && seen.path != "/api/show");
        let sent: Value = serde_json::from_slice(&seen.unwrap().body).unwrap();
        for name in sent.as_object().unwrap().keys() {
            assert!(name.is_ascii() && *name == name.to_ascii_lowercase(), "{path}: {name} passed as unknown: {sent}");
            assert!(!name.starts_with("_debug_later") && name != "shift", "{path}: {sent}");
        }
        assert_ne!(sent["keep_alive"], json!("99h"), "{path}: {sent}");
        if native && !path.contains("embed") {
            assert_eq!(sent["options"]["num_predict"], 2, "{path}: {sent}");
        }
        // the last of a key in two spellings is the one that is judged, on every surface
        let model = if path.contains("embed") { "tinybert" } else { "gemma:a" };
        let body = surfaces().into_iter().find(|(surface, _)| *surface == path).unwrap().1.to_string();
        let last = |name: &str| format!("{},\"MODEL\":\"{name}\"}}", &body[..body.len() - 1]);
        assert_eq!(house.ask("shop", "POST", path, Some(&last("gemma:b"))).await.status, 403, "{path}");
        assert_eq!(house.ask("shop", "POST", path, Some(&last(model))).await.status, 200, "{path}");
    }
    house.close().await;
}

//! What browsers, and routers of other sites, get: origins, preflights, hosts, methods, redirects; to the byte as a real
//! Ollama answered in the recordings.

use serde_json::Value;

use crate::support::gateway::{House, Plan};
use crate::support::raw::{self, Raw};

/// A recorded exchange.
struct Recorded {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    reply: Value,
}

fn recorded(name: &str) -> Recorded {
    let file = format!("{}/tests/recordings/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let case = &text["case"];
    let mut headers = Vec::new();
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        headers.push((name.clone(), value.as_str().unwrap().to_owned()));
    }
    let word = |field: &str| case[field].as_str().unwrap().to_owned();
    Recorded { method: word("method"), path: word("path"), headers, reply: text["response"].clone() }
}

fn header_list(reply: &Value) -> Vec<(String, String)> {
    let list = reply["headers"].as_array().unwrap();
    list.iter().map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].as_str().unwrap().to_owned())).collect()
}

/// Status, reason, headers in order with the date masked and our own request id left out, framing, body.
fn shape(mut raw: Raw) -> (u16, String, Vec<(String, String)>, String, String) {
    raw.headers.retain(|(name, _)| name != "X-Request-Id");
    for (_, value) in raw.headers.iter_mut().filter(|(name, _)| name == "Date") {
        *value = "now".to_owned();
    }
    let body = raw.body();
    (raw.status, raw.reason, raw.headers, raw.framing, body)
}

async fn ask(house: &House, method: &str, path: &str, headers: &[(&str, &str)]) -> Raw {
    let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    raw::send(house.addr, method, path, &headers, None).await.read().await
}

#[tokio::test]
async fn the_edges_of_http_are_answered_as_recorded() {
    let house = Plan::new().build().await;
    let cases = [
        "origin_foreign",
        "host_foreign",
        "preflight",
        "root_get",
        "root_head",
        "root_trailing",
        "double_slash",
        "version",
        "version_head",
        "not_found_route",
        "wrong_method",
    ];
    for name in cases {
        let Recorded { method, path, headers, reply } = recorded(name);
        let got = raw::send(house.addr, &method, &path, &headers, None).await.read().await;
        let wanted = Raw {
            status: u16::try_from(reply["status"].as_u64().unwrap()).unwrap(),
            reason: reply["reason"].as_str().unwrap().to_owned(),
            headers: header_list(&reply),
            framing: reply["framing"].as_str().unwrap().to_owned(),
            frames: reply["frames"].as_array().unwrap().iter().map(|f| f[1].as_str().unwrap().to_owned()).collect(),
            cut: false,
        };
        assert_eq!(shape(got), shape(wanted), "{name}");
    }
    // the list itself is another server's; its head is not
    let Recorded { method, path, headers, reply } = recorded("origin_local");
    let got = raw::send(house.addr, &method, &path, &headers, None).await.read().await;
    let names = |list: &[(String, String)]| -> Vec<(String, String)> {
        list.iter().filter(|(name, _)| name.starts_with("Access-") || name == "Vary").cloned().collect()
    };
    assert_eq!((got.status, names(&got.headers)), (200, names(&header_list(&reply))));
    house.close().await;
}

#[tokio::test]
async fn a_foreign_page_gets_nowhere_and_uses_nothing() {
    let house = Plan::new().app("shop").build().await;
    let body = serde_json::json!({ "model": "gemma:a", "prompt": "x", "stream": false });
    for origin in ["https://evil.example", "null", "http://localhost.evil.example", "https://127.0.0.1.evil.example"] {
        // a simple request, which browsers send without asking first; a good key does not help
        let sent = house.send_with("shop", "/api/generate", ("Origin", origin), &body).await.read().await;
        assert_eq!((sent.status, sent.body().as_str()), (403, ""), "{origin}: {sent:?}");
        assert!(sent.header("access-control-allow-origin").is_none(), "{origin}");
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        let asked = ask(&house, "OPTIONS", "/api/generate", &headers).await;
        assert_eq!((asked.status, asked.header("access-control-allow-methods")), (403, None), "{origin}");
    }
    assert!(!house.sim.seen().iter().any(|seen| seen.path == "/api/generate"));
    let two = [("Origin", "http://localhost"), ("Origin", "https://evil.example")];
    assert_eq!(ask(&house, "GET", "/api/tags", &two).await.status, 403, "the most foreign of two");
    house.close().await;
}

#[tokio::test]
async fn a_local_page_with_a_key_is_served_and_may_read_what_it_needs() {
    let house = Plan::new().app("shop").build().await;
    let body = serde_json::json!({ "model": "gemma:a", "prompt": "x", "stream": false });
    for origin in ["http://localhost:3000", "https://127.0.0.1", "app://obsidian.md", "vscode-webview://x"] {
        let sent = house.send_with("shop", "/api/generate", ("Origin", origin), &body).await.read().await;
        assert_eq!((sent.status, sent.header("access-control-allow-origin")), (200, Some(origin)), "{sent:?}");
        assert_eq!(sent.header("vary"), Some("Origin"));
        let readable = sent.header("access-control-expose-headers").unwrap_or_default();
        assert!(readable.contains("x-gaucho-queue-wait"), "{readable}");
    }
    // a preflight carries no key; what we have beyond Ollama is named to those that ask for it
    let asking = [
        ("Origin", "http://localhost:3000"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type, x-api-key,x-gaucho-deadline,x-else"),
    ];
    let asked = ask(&house, "OPTIONS", "/v1/chat/completions", &asking).await;
    let allowed = asked.header("access-control-allow-headers").unwrap_or_default();
    assert!(asked.status == 204 && allowed.ends_with("X-Stainless-Timeout,X-Api-Key,X-Gaucho-Deadline"), "{asked:?}");
    // refusals can be read, too
    let refused = ask(&house, "GET", "/api/tags", &[("Origin", "http://localhost:3000")]).await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (403, Some("http://localhost:3000")));
    house.close().await;
}

#[tokio::test]
async fn operators_let_further_pages_and_hosts_in() {
    let plan = Plan::new().app("shop").settings(|settings| {
        settings.web.origins = vec!["https://*.corp.example".to_owned()];
        settings.web.hosts = vec!["gw.corp.example".to_owned()];
    });
    let house = plan.build().await;
    let key = house.key("shop").to_owned();
    let with = |more: (&'static str, &'static str)| [("X-Api-Key", key.clone()), (more.0, more.1.to_owned())];
    for (more, status) in [
        (("Origin", "https://chat.corp.example"), 200),
        (("Origin", "http://chat.corp.example"), 403),
        (("Host", "GW.corp.example:443"), 200),
        (("Host", "gw2.corp.example"), 403),
    ] {
        let headers = with(more).map(|(name, value)| (name.to_owned(), value));
        let got = raw::send(house.addr, "GET", "/api/tags", &headers, None).await.read().await;
        assert_eq!(got.status, status, "{more:?}: {got:?}");
    }
    house.close().await;
    let house = Plan::new().settings(|settings| settings.web.origins = vec!["*".to_owned()]).build().await;
    let any = ask(&house, "GET", "/api/tags", &[("Origin", "https://a.example")]).await;
    assert_eq!((any.status, any.header("access-control-allow-origin"), any.header("vary")), (200, Some("*"), None));
    house.close().await;
}

#[tokio::test]
async fn every_route_takes_its_methods_and_no_other() {
    let house = Plan::new().app("shop").build().await;
    let cases = [
        ("/", "HEAD, GET"),
        ("/api/version", "HEAD, GET"),
        ("/api/tags", "HEAD, GET"),
        ("/api/status", "GET"),
        ("/api/ps", "GET"),
        ("/v1/models", "GET"),
        ("/v1/models/gemma:a", "GET"),
        ("/v1/gaucho/queue", "GET"),
        ("/api/show", "POST"),
        ("/api/chat", "POST"),
        ("/api/generate", "POST"),
        ("/api/embed", "POST"),
        ("/api/embeddings", "POST"),
        ("/v1/chat/completions", "POST"),
        ("/v1/completions", "POST"),
        ("/v1/embeddings", "POST"),
        ("/v1/responses", "POST"),
        ("/v1/messages", "POST"),
        ("/v1/audio/transcriptions", "POST"),
        ("/api/pull", "POST"),
        ("/api/push", "POST"),
        ("/api/create", "POST"),
        ("/api/copy", "POST"),
        ("/api/delete", "DELETE"),
        ("/api/blobs/sha256:0", "HEAD, POST"),
        ("/api/me", "POST"),
        ("/api/signout", "POST"),
        ("/api/user/keys/abc", "DELETE"),
        ("/api/experimental/web_search", "POST"),
        ("/api/experimental/web_fetch", "POST"),
        ("/api/experimental/model-recommendations", "GET"),
    ];
    for (path, methods) in cases {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let reply = house.ask("shop", method, path, Some("{}")).await;
            if methods.split(", ").any(|known| known == method) {
                assert!(
                    !matches!(reply.status, 404 | 405) || reply.header("x-request-id").is_some(),
                    "{method} {path}: {reply:?}"
                );
            } else {
                assert_eq!((reply.status, reply.header("allow")), (405, Some(methods)), "{method} {path}");
            }
        }
    }
    house.close().await;
}

#[tokio::test]
async fn compressed_bodies_are_refused_in_the_callers_dialect() {
    let house = Plan::new().app("shop").build().await;
    for path in crate::support::dialect::ALL {
        for encoding in ["gzip", "zstd", "identity, br"] {
            let body = serde_json::json!({ "model": "gemma:a" });
            let reply = house.send_with("shop", path, ("Content-Encoding", encoding), &body).await.read().await;
            let text = crate::support::dialect::refusal(path, 415, &reply);
            assert!(text.contains("Content-Encoding") && text.contains(encoding), "{path}: {text}");
        }
    }
    house.close().await;
}

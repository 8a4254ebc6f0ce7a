//! What is answered without an application has one line in the log, as a web server's access log would.

use serde_json::{Value, json};

use crate::support::dialect;
use crate::support::gateway::{House, Plan};
use crate::support::raw;

/// The access lines so far: those of requests that are not in the ledger.
fn lines(house: &House) -> Vec<Value> {
    house.log_lines().into_iter().filter(|line| line.get("peer").is_some()).collect()
}

#[tokio::test]
async fn an_answer_without_an_application_has_exactly_one_line() {
    let house = Plan::new().app("shop").build().await;
    let origin = [("Origin".to_owned(), "https://foreign.example".to_owned())];
    let local = [("Origin".to_owned(), "http://localhost:3000".to_owned())];
    let cases = [
        ("GET", "/api/nothing?key=secret", [].as_slice(), 404),
        ("GET", "/favicon.ico", &[], 404),
        ("GET", "/api/chat", &[], 405),
        ("GET", "/api/tags/", &[], 301),
        ("POST", "//api/chat", &[], 307),
        ("GET", "/", &[], 200),
        ("OPTIONS", "/api/chat", &local, 204),
        ("GET", "/api/tags", &origin, 403),
    ];
    for (method, path, headers, status) in cases {
        let reply = raw::send(house.addr, method, path, headers, None).await.read().await;
        assert_eq!(reply.status, status, "{method} {path}");
    }
    let written = lines(&house);
    assert_eq!(written.len(), cases.len(), "{written:#?}");
    for (line, (method, path, headers, status)) in written.iter().zip(cases) {
        let path = path.split('?').next().unwrap();
        let got = (&line["method"], &line["path"], &line["status"], &line["message"], &line["level"]);
        assert_eq!(got, (&json!(method), &json!(path), &json!(status), &json!("request"), &json!("INFO")), "{line}");
        assert_eq!((&line["peer"], line["total_ms"].is_f64()), (&json!("127.0.0.1"), true), "{line}");
        let foreign = headers == origin.as_slice();
        assert_eq!(
            line["reason"].as_str().is_some_and(|why| why.contains("`origins` in gaucho.toml")),
            foreign,
            "{line}"
        );
    }
    house.close().await;
}

#[tokio::test]
async fn what_is_in_the_ledger_and_probes_have_no_second_line_and_keys_none_at_all() {
    let house = Plan::new().app("shop").build().await;
    assert_eq!(house.post("shop", "/api/chat", &dialect::request("/api/chat", "gemma:a", false)).await.status, 200);
    for (app, method, path, status) in [
        ("shop", "GET", "/api/tags", 200),
        ("", "GET", "/api/tags", 403),
        ("shop", "POST", "/api/pull", 403),
        ("shop", "GET", "/healthz", 200),
        ("", "GET", "/readyz", 200),
    ] {
        assert_eq!(house.ask(app, method, path, None).await.status, status, "{path}");
    }
    house.until_log(|line| line["route"] == "/api/pull").await;
    assert_eq!(lines(&house), Vec::<Value>::new());
    let key = house.key("shop").to_owned();
    for path in [format!("//k/{key}/api/tags"), format!("/v1/k/{key}/models"), format!("/{key}")] {
        assert_eq!(house.ask("", "GET", &path, None).await.status, 404, "{path}");
    }
    let written = lines(&house);
    assert_eq!(written.len(), 3);
    assert!(written.iter().all(|line| !line.to_string().contains(&key)), "{written:#?}");
    house.close().await;
}

#[tokio::test]
async fn what_is_no_request_has_a_line_without_one() {
    let house = Plan::new().build().await;
    let mut exchange = raw::open(house.addr).await;
    exchange.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    assert!(exchange.read_to_end().await.starts_with("HTTP/1.1 400"));
    let line = house.until_log(|line| line["status"] == 400).await;
    assert_eq!((&line["method"], &line["path"]), (&Value::Null, &Value::Null), "{line}");
    assert!(line["reason"].as_str().is_some(), "{line}");
    assert_eq!(lines(&house).len(), 1);
    house.close().await;
}

#[tokio::test]
async fn what_operators_ask_has_a_line_that_names_their_listener() {
    let token = Some(gaucho::config::Secret("open sesame".into()));
    let house = Plan::new().app("shop").settings(move |settings| settings.admin_token = token).build().await;
    let bearer = [("Authorization".to_owned(), "Bearer open sesame".to_owned())];
    for (path, headers, status) in [
        ("/v1/queue?app=shop", bearer.as_slice(), 200),
        ("/v1/queue", &[], 401),
        ("/v1/queue?stray=1", &bearer, 400),
        ("/v1/fleet", &bearer, 200),
        ("/v1/fleet", &[], 401),
        ("/v1/explain?app=shop&model=gemma:a", &bearer, 200),
        ("/metrics", &bearer, 200),
        ("/metrics", &[], 401),
        ("/readyz", &[], 200),
        ("/nothing", &[], 404),
    ] {
        let reply = raw::send(house.admin, "GET", path, headers, None).await.read().await;
        assert_eq!(reply.status, status, "{path}");
    }
    for path in ["/metrics", "/v1/fleet"] {
        assert_eq!(house.ask("", "GET", path, None).await.status, 404);
    }
    let written = lines(&house);
    let told = |line: &Value| (line["listener"].clone(), line["path"].clone(), line["status"].clone());
    let expected = [
        ("admin", "/v1/queue", 401),
        ("admin", "/v1/queue", 400),
        ("admin", "/v1/fleet", 401),
        ("admin", "/v1/explain", 200),
        ("admin", "/metrics", 401),
        ("admin", "/nothing", 404),
        ("applications", "/metrics", 404),
        ("applications", "/v1/fleet", 404),
    ];
    let expected = expected.map(|(listener, path, status)| (json!(listener), json!(path), json!(status)));
    assert_eq!(
        written.iter().map(told).collect::<Vec<_>>(),
        expected,
        "probes, scrapes and a dashboard's reads that work have none"
    );
    assert!(written.iter().all(|line| line["level"] == "INFO" && line["peer"] == "127.0.0.1"), "{written:#?}");
}

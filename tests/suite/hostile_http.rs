//! What a peer can do below the level of requests: lengths that lie, heads that are none, paths made to mislead.
//! Every case ends with an answer or a closed connection, costs nobody else anything, and nothing of it goes upstream.

use std::time::Duration;

use crate::support::dialect;
use crate::support::gateway::{House, Plan};
use crate::support::raw;

async fn house() -> House {
    let plan = Plan::new().app("shop").policy("shop.toml", "max_body = \"64KiB\"\n");
    let plan = plan.settings(|settings| {
        settings.limits.header_timeout = Duration::from_millis(300);
        settings.limits.body_timeout = Duration::from_millis(300);
    });
    plan.build().await
}

/// Fails when a request met a defect: then its guard notes no outcome of its own, and hyper sends a bare 500.
async fn unharmed(house: House) {
    let body = dialect::request("/api/chat", "gemma:a", false);
    assert_eq!(house.post("shop", "/api/chat", &body).await.status, 200, "others are served");
    for line in house.log_lines() {
        assert!(line["status"] != 500 && line["outcome"] != "internal", "{line}");
    }
    assert_eq!(house.metric("gaucho_upstream_held_bytes ").await, 0.0);
    house.close().await;
}

/// Says these bytes and reads what comes until the gateway closes.
async fn talk(house: &House, bytes: &[u8]) -> String {
    let mut exchange = raw::open(house.addr).await;
    exchange.write(bytes).await;
    tokio::time::timeout(Duration::from_secs(10), exchange.read_to_end()).await.expect("it is never closed")
}

fn status(reply: &str) -> u16 {
    reply.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The head of a request with a key, without its empty line.
fn head(house: &House, path: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{more}", house.key("shop"))
}

#[tokio::test]
async fn heads_that_are_none_are_refused_and_closed() {
    let house = house().await;
    let key = house.key("shop").to_owned();
    // status 0: closed without a word, which is as good
    let cases: [(&str, Vec<u8>, &[u16]); 14] = [
        ("another protocol", b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec(), &[400]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[400]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[0, 400, 505]),
        ("only zeros", vec![0; 4096], &[400]),
        ("a name with a space", b"GET / HTTP/1.1\r\nHost: localhost\r\nbad name: x\r\n\r\n".to_vec(), &[400]),
        ("a zero in a value", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n".to_vec(), &[400]),
        ("no target", b"GET\r\n\r\n".to_vec(), &[400]),
        ("a target with a space", b"GET /api tags HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), &[400]),
        ("no such version", b"GET / HTTP/9.9\r\n\r\n".to_vec(), &[400, 505]),
        ("a head that never ends", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n".to_vec(), &[0, 408]),
        (
            "two lengths",
            head(&house, "/api/chat", "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x").into_bytes(),
            &[400],
        ),
        ("a negative length", head(&house, "/api/chat", "Content-Length: -1\r\n\r\n").into_bytes(), &[400]),
        ("an unknown coding", head(&house, "/api/chat", "Transfer-Encoding: rot13\r\n\r\n").into_bytes(), &[400, 501]),
        (
            "two keys",
            head(&house, "/v1/completions", &format!("Authorization: Bearer {key}\r\nConnection: close\r\n\r\n"))
                .into(),
            &[400],
        ),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, statuses) in cases {
        let reply = talk(&house, &bytes).await;
        if !statuses.contains(&status(&reply)) {
            wrong.push(format!("{what}: {reply:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(house.sim.tally().received, 0, "none of it went upstream");
    unharmed(house).await;
}

#[tokio::test]
async fn bodies_that_do_not_keep_to_their_framing_cost_their_own_connection() {
    let house = house().await;
    let body = dialect::request("/api/generate", "gemma:a", false).to_string();
    for path in dialect::ALL {
        // said to be longer than it is, and then silence
        let short = head(&house, path, &format!("Content-Length: {}\r\nConnection: close\r\n\r\n{{", body.len()));
        let reply = talk(&house, short.as_bytes()).await;
        assert_eq!(status(&reply), 408, "{path}: {reply}");
        assert!(reply.contains("\"error\":") && reply.contains("did not arrive"), "{path}: {reply}");
        // larger than allowed and not announced
        let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
        let large = head(&house, path, &format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(5)));
        let mut exchange = raw::open(house.addr).await;
        exchange.write(large.as_bytes()).await;
        assert!(dialect::refusal(path, 413, &exchange.reply().await).contains("65536"), "{path}");
        // larger than allowed and announced: refused before a byte of it was sent
        let mut exchange = raw::open(house.addr).await;
        exchange.write(head(&house, path, "Content-Length: 99999999999\r\n\r\n").as_bytes()).await;
        assert!(dialect::refusal(path, 413, &exchange.reply().await).contains("65536"), "{path}");
    }
    // chunks that are none: refused, or closed at once
    for chunks in ["zz\r\n", "-1\r\n", "fffffffffffffffff\r\n", "2\r\n{}x\r\n0\r\n\r\n"] {
        let broken = head(&house, "/api/chat", &format!("Transfer-Encoding: chunked\r\n\r\n{chunks}"));
        let reply = talk(&house, broken.as_bytes()).await;
        assert!(matches!(status(&reply), 0 | 400), "{chunks:?}: {reply}");
    }
    // gone in the middle of its body
    for end in [true, false] {
        let mut exchange = raw::open(house.addr).await;
        exchange.write(head(&house, "/api/chat", "Content-Length: 100\r\n\r\n{\"model\":").as_bytes()).await;
        if end {
            exchange.half_close().await;
        }
        drop(exchange);
    }
    assert_eq!(house.sim.tally().received, 0, "none of it went upstream");
    unharmed(house).await;
}

#[tokio::test]
async fn what_follows_a_body_is_another_request_and_never_part_of_the_first() {
    let house = house().await;
    let body = dialect::request("/api/generate", "gemma:a", false).to_string();
    let length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let second = "DELETE /api/delete HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut exchange = raw::open(house.addr).await;
    exchange.write(format!("{}{second}", head(&house, "/api/generate", &length)).as_bytes()).await;
    assert_eq!(exchange.reply().await.status, 200);
    assert_eq!(exchange.reply().await.status, 403, "the second has no key of its own");
    // both framings at once: the chunks count and the connection closes, or it is refused
    let both =
        format!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let reply = talk(&house, format!("{}{second}", head(&house, "/api/generate", &both)).as_bytes()).await;
    assert!(matches!(status(&reply), 200 | 400), "{reply}");
    assert_eq!(reply.matches("HTTP/1.1 200").count(), usize::from(status(&reply) == 200), "{reply}");
    let sent = house.sim.seen().into_iter().filter(|seen| seen.path == "/api/generate");
    assert!(sent.clone().all(|seen| seen.body.starts_with(b"{\"model\":\"gemma:a\"")), "{:?}", sent.last());
    unharmed(house).await;
}

#[tokio::test]
async fn only_a_caller_that_may_send_a_body_is_invited_to() {
    let house = house().await;
    let body = dialect::request("/api/generate", "gemma:a", false).to_string();
    let more = format!("Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.len());
    let mut exchange = raw::open(house.addr).await;
    exchange.write(head(&house, "/api/generate", &more).as_bytes()).await;
    assert_eq!(exchange.read_head().await.status, 100);
    exchange.write(body.as_bytes()).await;
    assert_eq!(exchange.reply().await.status, 200);
    let stranger = format!("POST /api/generate HTTP/1.1\r\nHost: localhost\r\n{more}");
    let reply = talk(&house, stranger.as_bytes()).await;
    assert_eq!(status(&reply), 403, "not 100 first: {reply}");
    unharmed(house).await;
}

#[tokio::test]
async fn a_connection_that_ends_is_not_said_to_go_on() {
    let house = house().await;
    let body = r#"{"model":"gemma:a","max_tokens":3,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    for (version, more, wanted) in
        [("1.1", "", Some("keep-alive")), ("1.1", "Connection: close\r\n", Some("close")), ("1.0", "", None)]
    {
        let head = head(&house, "/v1/messages", &format!("{more}Content-Length: {}\r\n\r\n{body}", body.len()));
        let mut exchange = raw::open(house.addr).await;
        exchange.write(head.replacen("HTTP/1.1", &format!("HTTP/{version}"), 1).as_bytes()).await;
        let reply = exchange.read_head().await;
        assert_eq!((reply.status, reply.header("connection")), (200, wanted), "{version} {more}");
    }
    unharmed(house).await;
}

#[tokio::test]
async fn a_path_reaches_its_own_route_or_none() {
    let house = house().await;
    let key = house.key("shop").to_owned();
    let keyed = |rest: &str| format!("/k/{key}{rest}");
    let cases = [
        ("DELETE", "/v1/../api/delete".to_owned(), 307),
        ("DELETE", "/v1/%2e%2e/api/delete".to_owned(), 404),
        ("DELETE", "/api/%64elete".to_owned(), 404),
        ("POST", "/api/chat/..".to_owned(), 404),
        ("POST", "/api/chat%00".to_owned(), 404),
        ("POST", "/api/chat;x=1".to_owned(), 404),
        ("POST", "/API/CHAT".to_owned(), 404),
        ("GET", "/api\\tags".to_owned(), 404),
        ("GET", "/..\\..\\api\\tags".to_owned(), 404),
        ("GET", "//evil.example/".to_owned(), 404),
        ("GET", "/\\evil.example/".to_owned(), 404),
        ("GET", "/k//evil.example/".to_owned(), 404),
        ("GET", keyed("/../../api/tags"), 307),
        ("GET", keyed("//evil.example"), 404),
        ("GET", keyed(&keyed("/api/tags")), 404),
        ("GET", "/v1/models/..%2f..%2fapi%2fdelete".to_owned(), 404),
        ("GET", "/v1/models/%ff%fe".to_owned(), 400),
        ("GET", "http://evil.example/api/nothing".to_owned(), 403),
        ("OPTIONS", "*".to_owned(), 404),
        ("CONNECT", "evil.example:443".to_owned(), 403),
        ("BREW", "/api/chat".to_owned(), 405),
        ("GET", format!("/api/{}", "x/".repeat(10_000)), 404),
    ];
    let mut wrong = Vec::new();
    for (method, path, wanted) in cases {
        let mut exchange = raw::open(house.addr).await;
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\nContent-Length: 0\r\n\r\n");
        exchange.write(head.as_bytes()).await;
        let reply = exchange.read_head().await;
        let location = reply.header("location").unwrap_or("/");
        let own = location.starts_with('/') && !location.starts_with("//") && !location.starts_with("/\\");
        if reply.status != wanted || !own {
            wrong.push(format!("{method} {path:.60}: {} {location:.60}", reply.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let known = ["/api/tags", "/api/ps", "/api/version", "/api/show"];
    let stray = house.sim.seen().into_iter().find(|seen| !known.contains(&seen.path.as_str()));
    assert!(stray.is_none(), "{stray:?}");
    unharmed(house).await;
}

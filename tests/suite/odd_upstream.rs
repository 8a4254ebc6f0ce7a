//! Upstreams that break the rules of HTTP or of Ollama's protocol in ways the stand-in never does, told byte by byte.

use std::time::Duration;

use crate::support::dialect::{self, TEXT};
use crate::support::eventually;
use crate::support::fake::{self, Fake, STREAM, chunk, piece};
use crate::support::gateway::{House, Plan};
use crate::support::raw::{self, Raw};

/// A gateway before `fake`, which it knows and has loaded.
async fn house(fake: &Fake) -> House {
    let plan = Plan::new().app("shop").upstreams(&[&fake.url()]).settings(|settings| {
        settings.upstream.idle = Duration::from_millis(200);
        settings.upstream.first_event = Duration::from_millis(400);
        settings.upstream.whole = Duration::from_millis(400);
    });
    let house = plan.build().await;
    let first = ask(&house, "/api/chat", false).await;
    assert_eq!(first.status, 200, "{first:?}");
    house
}

async fn ask(house: &House, path: &str, stream: bool) -> Raw {
    house.post("shop", path, &dialect::request(path, "fake", stream)).await
}

fn errors(fake: &Fake, reason: &str) -> String {
    format!("gaucho_upstream_errors_total{{endpoint=\"{}\",reason=\"{reason}\"}} ", fake.addr())
}

#[tokio::test]
async fn an_answer_that_is_none_becomes_a_status_in_the_dialect() {
    let fake = Fake::start().await;
    let house = house(&fake).await;
    // what it says, whether it then stays silent, and the status and class for the caller
    let cases: [(&str, String, bool, u16, &str); 11] = [
        ("not HTTP", "SSH-2.0-OpenSSH_9.9\r\n".into(), false, 502, "upstream_broken"),
        ("nothing, and closed", String::new(), false, 502, "upstream_broken"),
        ("nothing, for ever", String::new(), true, 504, "upstream_timeout"),
        ("half a head, for ever", "HTTP/1.1 200 OK\r\nContent-".into(), true, 504, "upstream_timeout"),
        ("a head, then nothing", STREAM.into(), true, 504, "upstream_timeout"),
        ("a head, then the end", STREAM.into(), false, 502, "upstream_broken"),
        ("an empty body", fake::reply("200 OK", ""), false, 502, "upstream_broken"),
        ("a web page", fake::reply("200 OK", "<html>"), false, 502, "upstream_broken"),
        ("another protocol's object", fake::reply("200 OK", "{\"choices\":[]}"), false, 502, "upstream_broken"),
        (
            "a redirect",
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".into(),
            false,
            502,
            "upstream_error",
        ),
        ("chunks that are none", format!("{STREAM}zz\r\n"), false, 502, "upstream_broken"),
    ];
    let mut counted = std::collections::BTreeMap::new();
    let mut wrong = Vec::new();
    for (what, bytes, hold, status, class) in &cases {
        for path in TEXT {
            for stream in [false, true] {
                // one wait per dialect is enough
                if *hold && path.contains("generate") | (path == "/v1/completions") {
                    continue;
                }
                fake.next(bytes.clone(), *hold);
                let reply = ask(&house, path, stream).await;
                *counted.entry(*class).or_insert(0.0) += 1.0;
                if reply.status != *status {
                    wrong.push(format!("{what}: {path}, stream {stream}: {} {:.200}", reply.status, reply.body()));
                    continue;
                }
                dialect::refusal(path, *status, &reply);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(ask(&house, "/v1/completions", true).await.status, 200, "the slot is free");
    for (class, count) in counted {
        house.until_metric(&errors(&fake, class), count).await;
        let line = house.until_log(|line| line["outcome"] == class).await;
        assert!(line["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{line}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_stream_that_goes_wrong_ends_with_an_error_in_the_dialect() {
    let fake = Fake::start().await;
    let house = house(&fake).await;
    let begun = format!("{STREAM}{}{}", chunk(&piece("a", false)), chunk(&piece("b", false)));
    let echo = chunk(&piece(" c", false)).repeat(31);
    let cases: [(&str, String, bool, &str); 8] = [
        ("cut between chunks", begun.clone(), false, "upstream_broken"),
        ("cut within a line", format!("{begun}{}0\r\n\r\n", chunk("{\"message\":{\"con")), false, "upstream_broken"),
        ("ends without done", format!("{begun}0\r\n\r\n"), false, "upstream_broken"),
        // as Ollama's repeat guard ends it: nobody is to try the same again, and it is not the server's fault
        ("repeats itself", format!("{begun}{echo}0\r\n\r\n"), false, "repetition"),
        ("silent", begun.clone(), true, "upstream_timeout"),
        ("not UTF-8", format!("{begun}{}", chunk("\u{0}\u{1}\n")), false, "upstream_broken"),
        ("a list", format!("{begun}{}", chunk("[1,2]\n")), false, "upstream_broken"),
        ("gives up", format!("{begun}{}0\r\n\r\n", chunk("{\"error\":\"out of memory\"}\n")), false, "upstream_error"),
    ];
    for (what, bytes, hold, class) in cases {
        for path in TEXT {
            fake.next(bytes.clone(), hold);
            let reply = ask(&house, path, true).await;
            assert!(!reply.cut, "{what}: {path}: {reply:?}");
            let text = dialect::broken_stream(path, &reply);
            assert!(class != "upstream_error" || text.contains("out of memory"), "{what}: {path}: {text}");
            let repeats = text.contains("repeated itself") && !text.contains("try again");
            assert_eq!(repeats, class == "repetition", "{what}: {path}: {text}");
            assert!(reply.body().contains("\"a\""), "{what}: {path}: what came is passed on: {reply:?}");
            let line = house.until_log(|line| line["outcome"] == class && line["route"] == path).await;
            assert_eq!((&line["status"], &line["reason"]), (&200.into(), &text.into()), "{what}: {line}");
            let next = ask(&house, path, true).await;
            assert!(dialect::is_whole(path, &next), "{what}: {path}: {next:?}");
        }
    }
    house.until_metric(&errors(&fake, "upstream_broken"), 5.0 * TEXT.len() as f64).await;
    house.until_metric(&errors(&fake, "upstream_timeout"), TEXT.len() as f64).await;
    house.until_metric(&errors(&fake, "upstream_error"), TEXT.len() as f64).await;
    house.close().await;
}

#[tokio::test]
async fn an_answer_that_says_itself_that_it_is_not_whole_says_so_to_the_caller() {
    let fake = Fake::start().await;
    let house = house(&fake).await;
    for path in TEXT {
        fake.next(fake::reply("200 OK", &piece("half", false)), false);
        let reply = ask(&house, path, false).await;
        // as Ollama's repeat guard ends it: 200, and in the dialect's own words not finished
        let body = reply.body();
        let unfinished = match path {
            "/v1/messages" => !body.contains("stop_reason"),
            // Ollama says completed whatever happened
            "/v1/responses" => body.contains("\"status\":\"completed\""),
            _ if path.starts_with("/v1") => body.contains("\"finish_reason\":null"),
            _ => body.contains("\"done\":false"),
        };
        assert!(reply.status == 200 && body.contains("half") && unfinished, "{path}: {reply:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_full_ollama_says_so_to_the_caller_and_counts_as_its_own_trouble() {
    let fake = Fake::start().await;
    let house = house(&fake).await;
    let busy = fake::reply(
        "503 Service Unavailable",
        "{\"error\":\"server busy, please try again.  maximum pending requests exceeded\"}",
    );
    for path in TEXT {
        for stream in [false, true] {
            fake.next(busy.clone(), false);
            let reply = ask(&house, path, stream).await;
            assert!(dialect::refusal(path, 503, &reply).starts_with("server busy"), "{path}: {reply:?}");
            assert_eq!(reply.header("retry-after"), Some("1"), "{path}");
        }
    }
    house.until_metric(&errors(&fake, "busy"), 2.0 * TEXT.len() as f64).await;
    house.close().await;
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_to_callers_and_to_operators() {
    let fake = Fake::start().await;
    let house = house(&fake).await;
    let (url, addr) = (fake.url(), fake.addr());
    assert_eq!(raw::send(house.addr, "GET", "/readyz", &[], None).await.read().await.status, 200);
    fake.stop().await;
    for path in TEXT {
        let request = dialect::request(path, "fake", true);
        let reply = house.send_with("shop", path, ("X-Gaucho-Deadline", "0"), &request).await.read().await;
        // the first one finds it out, the others know
        dialect::refusal(path, if path == TEXT[0] { 502 } else { 503 }, &reply);
        assert!(reply.header("retry-after").is_some(), "{path}: {reply:?}");
    }
    let counted = format!("gaucho_upstream_errors_total{{endpoint=\"{addr}\",reason=\"unreachable\"}} ");
    assert!(house.metric(&counted).await >= 1.0, "{}", house.metrics().await);
    let told = async {
        loop {
            let ready = raw::send(house.addr, "GET", "/readyz", &[], None).await.read().await;
            if ready.status == 503 {
                return ready.body();
            }
        }
    };
    let why = tokio::time::timeout(Duration::from_secs(10), told).await.expect("it stays ready");
    assert!(why.contains(&url) && why.contains("cannot connect"), "{why}");
    house.close().await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_keeps_its_answer_and_nobody_waits_for_it() {
    let fake = Fake::start().await;
    let house = house(&fake).await;
    // more than the sockets between hold, in as many events as a long answer with logprobs has
    let filler = "x".repeat(4096);
    let events = 3000;
    let mut answer = STREAM.to_owned();
    for _ in 0..events {
        answer.push_str(&chunk(&piece(&filler, false)));
    }
    answer.push_str(&chunk(&piece("", true)));
    answer.push_str("0\r\n\r\n");
    fake.next(answer, false);
    let body = dialect::request("/api/chat", "fake", true).to_string();
    let said = fake.said();
    let mut stalled = raw::open_small(house.addr).await;
    let head = format!("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {}\r\n", house.key("shop"));
    stalled.write(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    // upstream has said it all, though nobody reads
    eventually("the answer is read upstream", || fake.said() == said + 1).await;
    let next = ask(&house, "/api/chat", true).await;
    assert!(dialect::is_whole("/api/chat", &next), "{next:?}");
    assert!(house.metric("gaucho_upstream_held_bytes ").await > 1e6, "the first one is still stalled");
    let reply = stalled.reply().await;
    assert!(dialect::is_whole("/api/chat", &reply));
    assert_eq!(reply.body().lines().count(), events + 1, "nothing of it is lost");
    house.until_metric("gaucho_upstream_held_bytes ", 0.0).await;
    house.close().await;
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_first_event_hangs_up_on_the_server() {
    let fake = Fake::start().await;
    let plan = Plan::new().app("shop").upstreams(&[&fake.url()]);
    let house = plan.build().await;
    assert_eq!(ask(&house, "/api/chat", false).await.status, 200);
    for (count, (path, stream)) in TEXT.iter().flat_map(|path| [(path, false), (path, true)]).enumerate() {
        fake.next("", true);
        let said = fake.said();
        let body = dialect::request(path, "fake", stream).to_string();
        let mut exchange = house.send("shop", "POST", path, Some(&body)).await;
        eventually("it runs", || fake.said() == said + 1).await;
        // a peer that closes its half has left, as for Go's server, which Ollama is built on
        if stream {
            exchange.half_close().await;
        }
        drop(exchange);
        eventually("the call is given up", || fake.left() == count + 1).await;
    }
    assert!(dialect::is_whole("/v1/completions", &ask(&house, "/v1/completions", true).await), "the slot is free");
    house.close().await;
}

//! Connections over real sockets: time limits that only HTTP/2 needs, and what a panic costs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::Clock;
use crate::telemetry::{LogLines, Registry};

/// Says when it is dropped.
struct Alarm(watch::Sender<bool>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// A server whose `/flood` never ends and whose `/` is short; and whether a flood was dropped.
async fn server(limits: Limits) -> (SocketAddr, watch::Receiver<bool>, CancellationToken) {
    let (tell, dropped) = watch::channel(false);
    let flood = move || {
        let alarm = Alarm(tell.clone());
        let pieces = futures_util::stream::repeat_with(move || {
            let _ = &alarm;
            Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 4096]))
        });
        async { Body::from_stream(pieces) }
    };
    let app = Router::new().route("/", get(|| async { "hello" })).route("/flood", get(flood));
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), limits, Clock::real()).await.unwrap();
    let (address, stop) = (server.address().unwrap(), CancellationToken::new());
    tokio::spawn(server.run(app, stop.clone(), stop.clone()));
    (address, dropped, stop)
}

type Client = (SendRequest<Empty<Bytes>>, tokio::task::JoinHandle<hyper::Result<()>>);

async fn client(address: SocketAddr) -> Client {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(65_535);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn request(path: &str) -> http::Request<Empty<Bytes>> {
    http::Request::builder().uri(format!("http://localhost{path}")).body(Empty::new()).unwrap()
}

async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), event).await.expect(what)
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_let_go_and_its_neighbours_are_not() {
    let limits =
        Limits { header_timeout: Duration::from_secs(20), write_timeout: Duration::from_millis(100), connections: 10 };
    let (address, mut dropped, stop) = server(limits).await;
    let (mut sender, _connection) = client(address).await;
    let unread = sender.send_request(request("/flood")).await.unwrap();
    soon("the flood is kept", dropped.wait_for(|dropped| *dropped)).await.unwrap();
    let hello = sender.send_request(request("/")).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(hello.to_bytes(), "hello");
    drop(unread);
    stop.cancel();
}

#[tokio::test]
async fn an_answer_that_is_read_goes_on() {
    let limits =
        Limits { header_timeout: Duration::from_millis(40), write_timeout: Duration::from_millis(40), connections: 10 };
    let (address, dropped, stop) = server(limits).await;
    let (mut sender, _connection) = client(address).await;
    let mut read = sender.send_request(request("/flood")).await.unwrap();
    // many beats long
    let until = Clock::real();
    while until.now().since_start() < Duration::from_millis(500) {
        soon("a piece", read.body_mut().frame()).await.unwrap().unwrap();
    }
    assert!(!*dropped.borrow());
    stop.cancel();
}

#[tokio::test]
async fn a_connection_without_requests_is_told_to_go() {
    let limits =
        Limits { header_timeout: Duration::from_millis(100), write_timeout: Duration::from_secs(20), connections: 10 };
    let (address, _, stop) = server(limits).await;
    let (mut sender, connection) = client(address).await;
    let hello = sender.send_request(request("/")).await.unwrap();
    assert_eq!(hello.into_body().collect().await.unwrap().to_bytes(), "hello");
    let end = soon("it stays", connection).await.unwrap();
    assert!(end.is_ok(), "told, not torn off: {end:?}");
    stop.cancel();
}

/// What the log's writer wrote.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_costs_its_request_and_has_one_line() {
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .route(
            "/bare",
            get(|| async {
                if true {
                    panic!("a defect, for the test")
                }
            }),
        )
        .route("/entered", get(|| routes::respond(async { panic!("a defect, for the test") })));
    let (log, registry) = (Log::default(), Registry::new());
    let lines = LogLines::start(log.clone(), &registry).unwrap();
    let access = AccessLog { lines: lines.clone(), listener: "applications", probes: false };
    let limits =
        Limits { header_timeout: Duration::from_secs(20), write_timeout: Duration::from_secs(20), connections: 10 };
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), limits, Clock::real()).await.unwrap();
    let (address, stop) = (server.address().unwrap(), CancellationToken::new());
    tokio::spawn(server.with_log(Some(access)).run(app, stop.clone(), stop.clone()));
    let (mut sender, _connection) = client(address).await;
    for (path, status) in [("/bare", 500), ("/entered", 500), ("/", 200)] {
        assert_eq!(sender.send_request(request(path)).await.unwrap().status(), status, "{path}");
    }
    assert!(lines.flush(Duration::from_secs(10)));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let written: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |path: &str| written.iter().filter(|line| line["path"] == path).collect::<Vec<_>>();
    assert_eq!((of("/bare").len(), of("/entered").len(), of("/").len()), (1, 0, 1), "{text}");
    let line = of("/bare")[0];
    assert_eq!((&line["status"], &line["level"], &line["method"]), (&json!(500), &json!("ERROR"), &json!("GET")));
    assert!(line["reason"].as_str().unwrap().contains("a defect"), "{line}");
    stop.cancel();
}

//! A connection that an answer says is kept can be used again, also when the answer came before the request's body.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::gateway::{House, Plan};

/// Reads one reply with a body of known length: its head in lower case.
async fn reply(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("the connection closed without a reply"));
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    socket.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
    head
}

/// Sends the head of a request that is refused for its head alone, and gives the gateway time to see it.
async fn refused_by_head(house: &House, path: &str, length: usize, more: &str) -> TcpStream {
    let mut socket = TcpStream::connect(house.addr).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n{more}\r\n", house.addr);
    socket.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..5 {
        house.ask("", "GET", "/api/version", None).await;
    }
    socket
}

#[tokio::test]
async fn a_refusal_before_the_body_keeps_the_connection() {
    let house = Plan::new().app("shop").build().await;
    for (path, status) in [("/api/chat", 403), ("/v1/embeddings", 401), ("/api/pull", 403), ("/api/nothing", 404)] {
        let mut socket = refused_by_head(&house, path, 20_000, "").await;
        for half in 0..2 {
            // clients send bodies in pieces of their own
            socket.write_all(&[b' '; 10_000]).await.unwrap_or_else(|error| panic!("{path}, piece {half}: {error}"));
        }
        let head = reply(&mut socket).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{path}: {head}");
        assert!(!head.contains("connection: close"), "{path}: {head}");
        let again = format!("GET /api/version HTTP/1.1\r\nHost: {}\r\n\r\n", house.addr);
        socket.write_all(again.as_bytes()).await.unwrap();
        assert!(reply(&mut socket).await.starts_with("http/1.1 "), "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_refusal_before_a_body_too_long_to_wait_for_says_that_the_connection_closes() {
    let house = Plan::new().app("shop").build().await;
    for (length, more) in [(64 << 20, ""), (5, "Expect: 100-continue\r\n")] {
        let mut socket = refused_by_head(&house, "/v1/chat/completions", length, more).await;
        let head = reply(&mut socket).await;
        assert!(head.starts_with("http/1.1 401"), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 0, "it closes");
    }
    house.close().await;
}

#[tokio::test]
async fn a_caller_that_reads_only_after_its_long_body_still_hears_the_refusal() {
    let house = Plan::new().app("shop").build().await;
    let (length, piece) = (64 << 20, vec![b' '; 1 << 20]);
    let mut socket = refused_by_head(&house, "/api/blobs/sha256:00", length, "").await;
    for sent in 0..length / piece.len() {
        socket.write_all(&piece).await.unwrap_or_else(|error| panic!("after {sent} MiB: {error}"));
    }
    let head = reply(&mut socket).await;
    assert!(head.starts_with("http/1.1 403"), "{head}");
    house.close().await;
}

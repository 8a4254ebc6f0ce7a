//! The Ollama client's signatures (`OLLAMA_AUTH=1`) at the front door, and its commands on routes that are closed.

use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gaucho::domain::{AppName, Clock};
use gaucho::identity::{Keys, SshKey};
use gaucho::store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::support::gateway::{House, Plan};
use crate::support::raw::{self, Raw};

struct Client(Ed25519KeyPair);

impl Client {
    /// A client whose public key stands for `app` in the state folder, noticed by the running gateway.
    fn new(house: &House, app: &str) -> (Self, String) {
        let client = Self(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());
        let keys = Keys::new(Store::open(&house.settings.state).unwrap(), Clock::real());
        let (key, _) = SshKey::parse(&format!("ssh-ed25519 {}", client.wire())).unwrap();
        let id = keys.add_ssh(&AppName::parse(app).unwrap(), key, None, None).unwrap().id;
        (client, id.to_string())
    }

    fn wire(&self) -> String {
        STANDARD.encode([b"\0\0\0\x0bssh-ed25519\0\0\0\x20".as_slice(), self.0.public_key().as_ref()].concat())
    }

    /// The signature of `METHOD,PATH?ts=…`.
    fn sign(&self, method: &str, path: &str, ts: u64) -> String {
        let text = format!("{method},{path}?ts={ts}");
        format!("{}:{}", self.wire(), STANDARD.encode(self.0.sign(text.as_bytes())))
    }

    async fn ask(&self, addr: SocketAddr, method: &str, path: &str, base: &str, body: Option<&str>) -> Raw {
        let ts = now();
        let signed = [("Authorization".to_owned(), self.sign(method, path, ts))];
        raw::send(addr, method, &format!("{base}{path}?ts={ts}"), &signed, body).await.read().await
    }
}

fn now() -> u64 {
    Clock::real().wall().as_secs()
}

async fn until_known(house: &House, client: &Client) {
    let known = async { while client.ask(house.addr, "GET", "/api/tags", "", None).await.status != 200 {} };
    assert!(tokio::time::timeout(Duration::from_secs(5), known).await.is_ok(), "the key is never known");
}

#[tokio::test]
async fn a_signed_request_is_served_under_its_application_with_and_without_a_key_in_the_path() {
    let house = Plan::new().app("shop").app("other").build().await;
    let (client, id) = Client::new(&house, "shop");
    until_known(&house, &client).await;
    let body = r#"{"model":"gemma:a","prompt":"x","stream":false}"#;
    let answer = client.ask(house.addr, "POST", "/api/generate", "", Some(body)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    house.until_log(|line| line["route"] == "/api/generate" && line["app"] == "shop" && line["key"] == *id).await;
    let own = format!("/k/{}", house.key("shop"));
    assert_eq!(client.ask(house.addr, "POST", "/api/generate", &own, Some(body)).await.status, 200);
    let foreign = format!("/k/{}", house.key("other"));
    let refused = client.ask(house.addr, "POST", "/api/generate", &foreign, Some(body)).await;
    assert!(refused.status == 403 && refused.body().contains("signed for another"), "{refused:?}");
    // what the client shows of a 403 is its text; of a 401 nothing
    for bad in ["x:y".to_owned(), client.sign("GET", "/api/tags", now()), client.sign("GET", "/api/ps", now() - 100)] {
        let headers = [("Authorization".to_owned(), bad)];
        let path = format!("/api/ps?ts={}", now());
        let refused = raw::send(house.addr, "GET", &path, &headers, None).await.read().await;
        assert!(refused.status == 403 && refused.body().starts_with("{\"error\":\""), "{refused:?}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_signature_overheard_is_of_no_use_at_another_address() {
    let house = Plan::new().app("shop").build().await;
    let (client, _) = Client::new(&house, "shop");
    until_known(&house, &client).await;
    let ts = now();
    let signed = client.sign("GET", "/api/ps", ts);
    let headers = [("Authorization".to_owned(), signed.clone())];
    let path = format!("/api/ps?ts={ts}");
    for _ in 0..2 {
        assert_eq!(raw::send(house.addr, "GET", &path, &headers, None).await.read().await.status, 200);
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut elsewhere = socket.connect(house.addr).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {signed}\r\nConnection: close\r\n\r\n");
    elsewhere.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    elsewhere.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 403") && reply.contains("signed anew"), "{reply}");
    house.close().await;
}

#[tokio::test]
async fn revoking_a_public_key_ends_what_runs_under_it() {
    let house = Plan::new().app("shop").sim(|sim| sim.speed = 2.0).build().await;
    let (client, id) = Client::new(&house, "shop");
    until_known(&house, &client).await;
    let body = r#"{"model":"gemma:a","prompt":"x","options":{"num_predict":3000}}"#;
    let ts = now();
    let headers = [("Authorization".to_owned(), client.sign("POST", "/api/generate", ts))];
    let path = format!("/api/generate?ts={ts}");
    let mut exchange = raw::send(house.addr, "POST", &path, &headers, Some(body)).await;
    let mut reply = exchange.read_head().await;
    assert!(exchange.chunk(&mut reply).await.is_some());
    Keys::new(Store::open(&house.settings.state).unwrap(), Clock::real()).revoke(&id).unwrap();
    let mut last = String::new();
    while let Some(chunk) = exchange.chunk(&mut reply).await {
        last = chunk;
    }
    assert!(last.contains("revoked"), "{last}");
    house.close().await;
}

//! TLS towards applications: what is agreed on, certificates that change, and files that cannot be used.

use std::path::Path;
use std::time::{Duration, SystemTime};

use gaucho::app::{Gaucho, Telemetry};
use gaucho::config::TlsFiles;
use gaucho::domain::Clock;
use gaucho::telemetry::{LogLines, Registry};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::gateway::{House, Plan};
use crate::support::{h2, raw};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Writes a new certificate for `localhost` and its key; gives what a client has to trust.
fn issue(dir: &Path) -> CertificateDer<'static> {
    issue_until(dir, SystemTime::now() + 90 * DAY)
}

/// The same, good until `end`.
pub(crate) fn issue_until(dir: &Path, end: SystemTime) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = end.into();
    let cert = params.self_signed(&key).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    cert.der().clone()
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") }
}

async fn house(dir: &Path) -> House {
    let files = files(dir);
    Plan::new().app("shop").settings(|settings| settings.tls = Some(files)).build().await
}

#[tokio::test]
async fn alpn_chooses_the_version_and_plain_http_is_told() {
    let dir = TempDir::new().unwrap();
    let root = issue(dir.path());
    let house = house(dir.path()).await;
    let stream = h2::tls(&house, &root, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let h2 = h2::over(stream, "https").await;
    let (status, text) = h2.ask(&house, "shop", "GET", "/api/version", "").await;
    assert_eq!((status, text.as_str()), (200, r#"{"version":"0.32.15"}"#));
    for protocols in [vec!["http/1.1"], vec![]] {
        let mut stream = h2::tls(&house, &root, &protocols).await.unwrap();
        let request = format!(
            "GET /api/version HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {}\r\nConnection: close\r\n\r\n",
            house.key("shop")
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\nContent-Type: "), "{protocols:?}: {reply}");
    }
    let mut plain = raw::open(house.addr).await;
    plain.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let told = plain.read_to_end().await;
    assert!(told.starts_with("HTTP/1.0 400") && told.contains("HTTP request to an HTTPS server"), "{told}");
    house.until_log(|line| line["status"] == 400 && line["reason"] == "plain HTTP where TLS is spoken").await;
    drop(h2);
    house.close().await;
}

#[tokio::test]
async fn a_certificate_that_changes_is_used_and_a_bad_one_is_not() {
    let dir = TempDir::new().unwrap();
    let first = issue(dir.path());
    let house = house(dir.path()).await;
    assert!(h2::tls(&house, &first, &["h2"]).await.is_ok());
    std::fs::write(dir.path().join("cert.pem"), "no certificate").unwrap();
    let second = issue(dir.path());
    let changed = async { while h2::tls(&house, &second, &["h2"]).await.is_err() {} };
    assert!(tokio::time::timeout(Duration::from_secs(20), changed).await.is_ok(), "the new one is never used");
    assert!(h2::tls(&house, &first, &["h2"]).await.is_err(), "the old one is gone");
    house.close().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_refuse_the_start_by_name() {
    let dir = TempDir::new().unwrap();
    let other = TempDir::new().unwrap();
    issue(dir.path());
    issue(other.path());
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let cases = [
        (dir.path().join("absent.pem"), key.clone(), "absent.pem cannot be read"),
        (cert.clone(), dir.path().join("absent.pem"), "private key"),
        (empty.clone(), key.clone(), "holds no certificate"),
        (key.clone(), key.clone(), "holds no certificate"),
        (cert.clone(), cert.clone(), "private key"),
        (cert.clone(), other.path().join("key.pem"), "is not that of the certificate"),
    ];
    let house = Plan::new().build().await;
    for (cert, key, wanted) in cases {
        let mut settings = house.settings.clone();
        settings.tls = Some(TlsFiles { cert, key });
        settings.state = other.path().join("state");
        let registry = Registry::new();
        let lines = LogLines::start(std::io::sink(), &registry).unwrap();
        let telemetry = Telemetry { lines, registry, log_requests: false, log_probes: false };
        let mut gaucho = Gaucho::new(settings, telemetry, Clock::real());
        let problems = Box::pin(gaucho.open()).await.unwrap_err().join("\n");
        assert!(problems.contains(wanted), "{wanted}: {problems}");
        assert!(!problems.contains("PRIVATE KEY"), "{problems}");
    }
    house.close().await;
}

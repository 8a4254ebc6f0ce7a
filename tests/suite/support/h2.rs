//! An HTTP/2 client, by prior knowledge or over TLS, whose every request is a stream of one connection.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::gateway::House;

/// A connection.
pub(crate) struct H2 {
    sender: SendRequest<Full<Bytes>>,
    scheme: &'static str,
    /// Ends with the connection.
    pub(crate) task: JoinHandle<hyper::Result<()>>,
}

/// Connects in plain text, knowing that HTTP/2 is spoken.
pub(crate) async fn plain(house: &House) -> H2 {
    cuttable(house).await.0
}

/// The same, with a second handle on the socket, to cut it off.
pub(crate) async fn cuttable(house: &House) -> (H2, std::net::TcpStream) {
    let stream = TcpStream::connect(house.addr).await.unwrap().into_std().unwrap();
    let handle = stream.try_clone().unwrap();
    (over(TcpStream::from_std(stream).unwrap(), "http").await, handle)
}

/// Speaks HTTP/2 over a stream.
pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, scheme: &'static str) -> H2 {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    H2 { sender, scheme, task: tokio::spawn(connection) }
}

impl H2 {
    /// Sends a request as `app` (empty: without a key) and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        house: &House,
        app: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> hyper::Result<http::Response<Incoming>> {
        let mut request =
            http::Request::builder().method(method).uri(format!("{}://{}{path}", self.scheme, house.addr));
        if !app.is_empty() {
            request = request.header("authorization", format!("Bearer {}", house.key(app)));
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        self.sender.clone().send_request(request).await
    }

    /// The same, to its end: status and text.
    pub(crate) async fn ask(&self, house: &House, app: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let response = self.send(house, app, method, path, body).await.unwrap();
        let status = response.status().as_u16();
        let whole = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(whole.to_vec()).unwrap())
    }
}

/// The next piece of an answer, as text.
pub(crate) async fn piece(response: &mut http::Response<Incoming>) -> Option<hyper::Result<String>> {
    loop {
        match response.body_mut().frame().await? {
            Err(error) => return Some(Err(error)),
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(String::from_utf8(data.to_vec()).unwrap()));
                }
            }
        }
    }
}

/// A TLS handshake that trusts `root` only and offers `protocols`.
pub(crate) async fn tls(
    house: &House,
    root: &CertificateDer<'static>,
    protocols: &[&str],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(house.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

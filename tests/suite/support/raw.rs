//! HTTP/1.1 over a plain socket, so that nothing between the test and the wire tidies up: header names, their
//! order and case, chunk by chunk.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

/// A reply as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, String)>,
    /// `chunked`, `length`, or `none`.
    pub(crate) framing: String,
    /// One text per chunk, or the body.
    pub(crate) frames: Vec<String>,
    /// The connection ended before the body did.
    pub(crate) cut: bool,
}

impl Raw {
    /// The value of a header, by its name in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn body(&self) -> String {
        self.frames.concat()
    }
}

/// An open connection with a request on its way.
pub(crate) struct Exchange {
    socket: BufReader<TcpStream>,
    head: bool,
}

/// Sends a request on a connection of its own.
pub(crate) async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: Option<&str>,
) -> Exchange {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {addr}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    socket.write_all(text.as_bytes()).await.unwrap();
    Exchange { socket: BufReader::new(socket), head: method == "HEAD" }
}

/// Sends a JSON body to a route and reads the whole reply.
pub(crate) async fn post(addr: SocketAddr, path: &str, body: &serde_json::Value) -> Raw {
    send(addr, "POST", path, &[], Some(&body.to_string())).await.read().await
}

/// Opens a connection on which nothing has been said yet.
pub(crate) async fn open(addr: SocketAddr) -> Exchange {
    Exchange { socket: BufReader::new(TcpStream::connect(addr).await.unwrap()), head: false }
}

/// The same with as little room for what is not read as the system allows.
pub(crate) async fn open_small(addr: SocketAddr) -> Exchange {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    Exchange { socket: BufReader::new(socket.connect(addr).await.unwrap()), head: false }
}

impl Exchange {
    /// Reads the reply to its end.
    pub(crate) async fn read(mut self) -> Raw {
        self.reply().await
    }

    async fn read_body(&mut self, raw: &mut Raw) {
        match raw.framing.as_str() {
            "chunked" => {
                while let Some(chunk) = self.chunk(raw).await {
                    raw.frames.push(chunk);
                }
            }
            "length" => {
                let length = raw.header("content-length").unwrap().parse().unwrap();
                let mut body = vec![0; length];
                raw.cut = self.socket.read_exact(&mut body).await.is_err();
                raw.frames.push(String::from_utf8_lossy(&body).into_owned());
            }
            _ => {}
        }
    }

    /// Reads status and headers.
    pub(crate) async fn read_head(&mut self) -> Raw {
        let Some(line) = self.line().await else { return Raw { cut: true, ..Raw::default() } };
        let mut words = line.splitn(3, ' ');
        let status: u16 = words.nth(1).unwrap().parse().unwrap();
        let mut raw = Raw { status, reason: words.next().unwrap_or_default().to_owned(), ..Raw::default() };
        while let Some(line) = self.line().await.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
            raw.headers.push((name.to_owned(), value.to_owned()));
        }
        let has = |wanted: &str| raw.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let framing = match () {
            () if self.head || status == 204 => "none",
            () if has("transfer-encoding") => "chunked",
            () if has("content-length") => "length",
            () => "close",
        };
        raw.framing = framing.to_owned();
        raw
    }

    /// The next chunk; `None` at the end, whether it is a good one (then `cut` stays false) or not.
    pub(crate) async fn chunk(&mut self, raw: &mut Raw) -> Option<String> {
        let size = self.line().await.and_then(|line| usize::from_str_radix(&line, 16).ok());
        let Some(size) = size else {
            raw.cut = true;
            return None;
        };
        let mut chunk = vec![0; size + 2];
        if self.socket.read_exact(&mut chunk).await.is_err() {
            raw.cut = true;
            return None;
        }
        chunk.truncate(size);
        (size > 0).then(|| String::from_utf8(chunk).unwrap())
    }

    /// The next line, without its end; `None` where the connection ends.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.socket.read_line(&mut line).await {
            Ok(1..) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            _ => None,
        }
    }

    /// Waits for the first byte of a reply, or for its end, and takes nothing.
    pub(crate) async fn peek(&mut self) {
        let _ = self.socket.fill_buf().await;
    }

    /// The next bytes as text; fewer where the connection ends.
    pub(crate) async fn bytes(&mut self, length: usize) -> String {
        let mut bytes = Vec::new();
        let _ = (&mut self.socket).take(length as u64).read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Says these bytes; a peer that has closed meanwhile is no error here.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// Closes our half of the connection.
    pub(crate) async fn half_close(&mut self) {
        let _ = self.socket.shutdown().await;
    }

    /// Reads until the peer closes.
    pub(crate) async fn read_to_end(mut self) -> String {
        let mut text = Vec::new();
        // a reset is an end as well
        let _ = self.socket.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Reads one reply and leaves the connection open.
    pub(crate) async fn reply(&mut self) -> Raw {
        let mut raw = self.read_head().await;
        self.read_body(&mut raw).await;
        raw
    }
}

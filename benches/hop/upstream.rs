//! A tiny Ollama, faster than anything in front of it: fixed bytes, chosen by the model's name.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Chunks of a streamed answer.
pub(crate) const CHUNKS: usize = 200;
/// Between two chunks of a paced one.
const PACE: Duration = Duration::from_millis(5);
/// `once` answers whole, `fast` streams at full speed, `paced` like a model, `stall` stops after the first chunk.
const MODELS: [&str; 4] = ["once", "fast", "paced", "stall"];

/// Starts it in a thread of its own.
pub(crate) fn start() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(async move { _ = serve(stream).await });
            }
        });
    });
    address
}

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\
    Date: Mon, 23 Nov 2026 06:28:43 GMT\r\nTransfer-Encoding: chunked\r\n\r\n";

static FIGURES: &str = "\"done_reason\":\"stop\",\"total_duration\":1027392411,\"load_duration\":21740612,\
    \"prompt_eval_count\":26,\"prompt_eval_duration\":5391702,\"eval_count\":200,\"eval_duration\":995102233";

static ONCE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let start = "{\"model\":\"once:latest\",\"created_at\":\"2026-11-23T06:28:43.434538804Z\",\"message\":{\"role\":\
        \"assistant\",\"content\":\"";
    let end = format!("\"}},\"done\":true,{FIGURES}}}");
    json(&format!("{start}{}{end}", "x".repeat(400 - start.len() - end.len())))
});

static CHUNK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    chunk(
        "{\"model\":\"fast:latest\",\"created_at\":\"2026-11-23T06:28:43.434538804Z\",\"message\":{\"role\":\"assistant\",\
         \"content\":\" token\"},\"done\":false}\n",
    )
});

static LAST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let line = format!(
        "{{\"model\":\"fast:latest\",\"created_at\":\"2026-11-23T06:28:44.434538804Z\",\"message\":{{\"role\":\
         \"assistant\",\"content\":\"\"}},\"done\":true,{FIGURES}}}\n"
    );
    [chunk(&line), b"0\r\n\r\n".to_vec()].concat()
});

fn chunk(line: &str) -> Vec<u8> {
    format!("{:x}\r\n{line}\r\n", line.len()).into_bytes()
}

fn json(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nDate: Mon, 23 Nov 2026 06:28:43 GMT\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The answer to `/api/tags`, and to `/api/ps`: every model is in memory all the time.
fn tags() -> Vec<u8> {
    let models: Vec<String> = MODELS
        .iter()
        .map(|name| {
            format!(
                "{{\"name\":\"{name}:latest\",\"model\":\"{name}:latest\",\"modified_at\":\"2026-11-23T06:00:00Z\",\
                 \"size\":1,\"digest\":\"digest-{name}\",\"details\":{{\"format\":\"gguf\",\"family\":\"llama\"}},\
                 \"capabilities\":[\"completion\"]}}"
            )
        })
        .collect();
    json(&format!("{{\"models\":[{}]}}", models.join(",")))
}

fn show(body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    let name = MODELS.iter().find(|name| text.contains(**name)).unwrap_or(&"none");
    json(&format!("{{\"modelfile\":\"FROM /models/blobs/sha256-{name}\\n\",\"parameters\":\"\"}}"))
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut held = Vec::with_capacity(4096);
    loop {
        let Some((head, length)) = request(&mut stream, &mut held).await? else { return Ok(()) };
        let (path, body) = (path(&held[..head]), &held[head..head + length]);
        match path {
            b"/api/tags" | b"/api/ps" => stream.write_all(&tags()).await?,
            b"/api/show" => stream.write_all(&show(body)).await?,
            b"/api/version" => stream.write_all(&json("{\"version\":\"0.32.15\"}")).await?,
            _ => chat(&mut stream, body).await?,
        }
        held.drain(..head + length);
    }
}

/// Reads one request: the lengths of its head and of its body; `None` when the peer is gone.
async fn request(stream: &mut TcpStream, held: &mut Vec<u8>) -> std::io::Result<Option<(usize, usize)>> {
    loop {
        if let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = end + 4;
            let length = crate::load::content_length(&held[..head]).unwrap_or(0);
            if held.len() >= head + length {
                return Ok(Some((head, length)));
            }
        }
        if stream.read_buf(held).await? == 0 {
            return Ok(None);
        }
    }
}

fn path(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b' ').nth(1).unwrap_or_default()
}

/// Every client of this bench, the gateway included, writes the model's name first.
async fn chat(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let name = body.strip_prefix(b"{\"model\":\"").unwrap_or_default();
    if name.starts_with(b"once") {
        return stream.write_all(&ONCE).await;
    }
    let mut pace = name.starts_with(b"paced").then(|| tokio::time::interval(PACE));
    stream.write_all(STREAM_HEAD).await?;
    for _ in 1..CHUNKS {
        match &mut pace {
            Some(pace) => _ = pace.tick().await,
            None => tokio::task::yield_now().await,
        }
        stream.write_all(&CHUNK).await?;
        if name.starts_with(b"stall") {
            // until the peer hangs up
            while stream.read(&mut [0; 64]).await? > 0 {}
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
    }
    stream.write_all(&LAST).await
}

//! The load: raw HTTP/1.1 on kept-alive connections, each sending its next request when it has the whole answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::children::cpu;

/// What is measured.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) key: Option<String>,
    /// The process whose CPU counts.
    pub(crate) pid: Option<u32>,
}

/// One request, again and again.
pub(crate) struct Load {
    address: SocketAddr,
    pid: Option<u32>,
    request: Arc<[u8]>,
}

/// One round.
#[derive(Default, Clone)]
pub(crate) struct Outcome {
    pub(crate) requests: usize,
    pub(crate) wall: Duration,
    /// CPU of the target's process in the round.
    pub(crate) cpu: Option<Duration>,
    /// Whole answers, and their first bytes of body; sorted.
    pub(crate) whole: Vec<Duration>,
    pub(crate) first: Vec<Duration>,
}

/// A request of about 450 bytes of body.
pub(crate) fn request(model: &str, key: Option<&str>) -> Vec<u8> {
    let authorization = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    let body = format!(
        "{{\"model\":\"{model}:latest\",\"stream\":{},\"messages\":[{{\"role\":\"system\",\"content\":\"You are terse.\"}},\
         {{\"role\":\"user\",\"content\":\"{}\"}}],\"options\":{{\"temperature\":0,\"seed\":7}}}}",
        model != "once",
        "Why is the sky blue? ".repeat(14).trim_end()
    );
    format!(
        "POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The value of `Content-Length`, whatever its case.
pub(crate) fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

/// An answer: how long until its first byte of body and until its end, and its bytes if they are `kept`.
struct Answer {
    first: Duration,
    whole: Duration,
}

impl Load {
    pub(crate) fn new(target: &Target, model: &str) -> Self {
        let request = request(model, target.key.as_deref()).into();
        Self { address: target.address, pid: target.pid, request }
    }

    /// One request, whose answer must be whole.
    pub(crate) async fn check(&self, chunks: usize) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut kept = Vec::new();
        ask(&mut stream, &self.request, &mut vec![0; 1 << 16], Some(&mut kept)).await;
        let text = String::from_utf8_lossy(&kept);
        assert_eq!(text.matches("\"done\":").count(), chunks.max(1), "{text}");
        assert!(text.contains("\"eval_count\":200"), "{text}");
    }

    /// As many requests as `connections` get through in `each`; those under way at its end are finished.
    pub(crate) async fn run(&self, connections: usize, each: Duration) -> Outcome {
        let mut streams = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(self.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        let before = self.pid.map(cpu);
        let start = Instant::now();
        let workers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                let request = Arc::clone(&self.request);
                tokio::spawn(async move {
                    let mut answers = Vec::new();
                    let mut buffer = vec![0; 1 << 14];
                    while start.elapsed() < each {
                        answers.push(ask(&mut stream, &request, &mut buffer, None).await);
                    }
                    answers
                })
            })
            .collect();
        let mut outcome = Outcome::default();
        for worker in workers {
            for answer in worker.await.unwrap() {
                outcome.whole.push(answer.whole);
                outcome.first.push(answer.first);
            }
        }
        outcome.wall = start.elapsed();
        outcome.cpu = self.pid.map(cpu).zip(before).map(|(after, before)| after.saturating_sub(before));
        outcome.requests = outcome.whole.len();
        outcome.whole.sort_unstable();
        outcome.first.sort_unstable();
        outcome
    }
}

/// Sends a request and reads the answer to its end.
async fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8], mut keep: Option<&mut Vec<u8>>) -> Answer {
    let start = Instant::now();
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    let mut first = None;
    let mut left = None;
    let mut tail = [0; 7];
    loop {
        let got = stream.read(buffer).await.unwrap();
        assert!(got > 0, "the connection was closed in an answer: {}", String::from_utf8_lossy(&head));
        let mut bytes = &buffer[..got];
        if let Some(keep) = &mut keep {
            keep.extend_from_slice(bytes);
        }
        if first.is_none() {
            let before = head.len();
            head.extend_from_slice(bytes);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
            bytes = &bytes[(end + 4).saturating_sub(before)..];
            left = left.or_else(|| content_length(&head[..end + 4]));
            if bytes.is_empty() {
                head.truncate(end + 4);
                continue;
            }
            first = Some(start.elapsed());
        }
        let ended = match &mut left {
            Some(left) => {
                *left -= bytes.len();
                *left == 0
            }
            None => {
                // nothing follows an answer on its connection, so its end is the end of what was read
                let whole = bytes.len().min(tail.len());
                tail.rotate_left(whole);
                let at = tail.len() - whole;
                tail[at..].copy_from_slice(&bytes[bytes.len() - whole..]);
                tail == *b"\r\n0\r\n\r\n"
            }
        };
        if ended {
            let whole = start.elapsed();
            return Answer { first: first.unwrap_or(whole), whole };
        }
    }
}

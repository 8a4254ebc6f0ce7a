//! What waiting costs in memory: streams that stand still, and requests in the queue.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::children::{Gateway, Pin, resident, until};
use crate::load::{Load, Target, request};

const STREAMS: usize = 1_000;
const QUEUED: usize = 10_000;

fn mb(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn verdict(held: bool) -> &'static str {
    if held { "ok" } else { "MISSED" }
}

/// A gateway that has served already, so that what it allocates once is not counted.
async fn warm(upstream: SocketAddr, slots: u32, pin: &Pin) -> Gateway {
    let gateway = Gateway::start(upstream, slots, pin).await;
    let key = Some(gateway.key.clone());
    let target = Target { name: "gaucho", address: gateway.address, key, pid: None };
    Load::new(&target, "once").run(32, Duration::from_millis(300)).await;
    gateway
}

/// Opens a connection and sends a request for the model that stops after its first chunk.
fn send(gateway: &Gateway, request: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(request).unwrap();
    stream
}

pub(crate) async fn idle_streams(upstream: SocketAddr, pin: &Pin) {
    let gateway = warm(upstream, 1024, pin).await;
    let before = resident(gateway.pid());
    let request = request("stall", Some(&gateway.key));
    let mut streams: Vec<TcpStream> = (0..STREAMS).map(|_| send(&gateway, &request)).collect();
    for stream in &mut streams {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen.windows(12).any(|text| text == b"\"done\":false") {
            let got = stream.read(&mut buffer).unwrap();
            assert!(got > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..got]);
        }
    }
    let after = resident(gateway.pid());
    println!(
        "\nmemory, {STREAMS} idle streams: {:.1} MB resident ({:.1} before, {:.1} KB each); target < 60 MB: {}",
        mb(after),
        mb(before),
        (after - before) as f64 / STREAMS as f64 / 1e3,
        verdict(mb(after) < 60.0)
    );
}

pub(crate) async fn queued(upstream: SocketAddr, pin: &Pin) {
    let gateway = warm(upstream, 1, pin).await;
    let request = request("stall", Some(&gateway.key));
    let body = request.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |end| request.len() - end - 4);
    let mut streams = vec![send(&gateway, &request)];
    let before = resident(gateway.pid());
    streams.extend((0..QUEUED).map(|_| send(&gateway, &request)));
    let all = QUEUED as f64;
    until(|| async { gateway.metric("gaucho_scheduler_queue_depth").await == Some(all) }).await;
    let after = resident(gateway.pid());
    let each = (after - before) as f64 / all - body as f64;
    println!(
        "memory, {QUEUED} queued requests: {:.1} MB resident ({:.1} before), {:.1} KB each beyond its body of {body} \
         bytes, its connection included; target < 20 KB: {}",
        mb(after),
        mb(before),
        each / 1e3,
        verdict(each < 20_000.0)
    );
}

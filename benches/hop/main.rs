//! What the gateway costs: beside a plain nginx reverse proxy and beside no proxy at all, on one upstream, in one run.
//!
//! The gateway is the real binary with everything on (a key, a policy with a rate, a log line a request, metrics). It
//! and nginx are pinned to one core with one worker each; the load and the stand-in upstream share the others. Rounds
//! are interleaved, ratios are made per round and their median is shown, so that a noisy machine disturbs all alike.
//! `cargo bench --bench hop`, or with some of `json`, `stream`, `paced`, `memory` after `--`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where its set-up does")]

mod children;
mod load;
mod memory;
mod report;
mod upstream;

use std::time::Duration;

use children::{Gateway, Nginx, Pin};
use load::{Load, Target};

/// What nginx's numbers are compared with.
struct Scene {
    name: &'static str,
    model: &'static str,
    connections: usize,
    rounds: usize,
    each: Duration,
    /// Chunks of one answer; 0 for an answer that is one piece.
    chunks: usize,
}

const SCENES: [Scene; 3] = [
    Scene { name: "json", model: "once", connections: 32, rounds: 7, each: Duration::from_millis(1200), chunks: 0 },
    Scene {
        name: "stream",
        model: "fast",
        connections: 32,
        rounds: 5,
        each: Duration::from_millis(1500),
        chunks: upstream::CHUNKS,
    },
    Scene {
        name: "paced",
        model: "paced",
        connections: 64,
        rounds: 3,
        each: Duration::from_millis(2500),
        chunks: upstream::CHUNKS,
    },
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let on = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    children::raise_file_limit();
    let pin = Pin::choose();
    println!("{}", pin.describe());
    pin.take_the_others();
    let upstream = upstream::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if SCENES.iter().any(|scene| on(scene.name)) {
            compare(upstream, &pin, on).await;
        }
        if on("memory") {
            memory::idle_streams(upstream, &pin).await;
            memory::queued(upstream, &pin).await;
        }
    });
}

async fn compare(upstream: std::net::SocketAddr, pin: &Pin, on: impl Fn(&str) -> bool) {
    let nginx = Nginx::start(upstream, pin).await;
    if nginx.is_none() {
        println!("SKIPPED: nginx is not on PATH (Debian package `nginx`), so nothing is compared with it");
    }
    let gateway = Gateway::start(upstream, 1024, pin).await;
    let mut targets = vec![Target { name: "direct", address: upstream, key: None, pid: None }];
    if let Some(nginx) = &nginx {
        targets.push(Target { name: "nginx", address: nginx.address, key: None, pid: Some(nginx.pid()) });
    }
    let key = Some(gateway.key.clone());
    targets.push(Target { name: "gaucho", address: gateway.address, key, pid: Some(gateway.pid()) });
    for scene in SCENES.iter().filter(|scene| on(scene.name)) {
        let loads: Vec<Load> = targets.iter().map(|target| Load::new(target, scene.model)).collect();
        for load in &loads {
            load.check(scene.chunks).await;
            load.run(scene.connections, scene.each / 3).await;
        }
        let mut rounds = Vec::new();
        for round in 0..scene.rounds {
            let mut results: Vec<_> = loads.iter().map(|_| None).collect();
            for step in 0..loads.len() {
                // another order each round: whoever comes first finds colder caches
                let turn = (step + round) % loads.len();
                results[turn] = Some(loads[turn].run(scene.connections, scene.each).await);
            }
            rounds.push(results.into_iter().flatten().collect());
        }
        report::scene(scene, &targets, &rounds);
    }
}

//! The scenes that were measured on a real Ollama 0.32.15 (one small model in three blobs, two slots, room for one),
//! with its speeds: a load of 1.9 s, an answer of 24 tokens in 0.35 s alone and in 0.8 s where two run.
//!
//! `same` (ten identical requests) is not here: it is the cache's.

use crate::domain::Class;

use super::dice::Dice;
use super::workload::{Client, Demand, Goal, Host, ModelSpec, Patience, Workload};

/// Scenes by name.
pub const NAMES: [&str; 8] = ["swapflow", "swap", "starve", "ctx", "fair", "orphan", "hangup", "leak"];

const PROMPT: u32 = 20;
const OUTPUT: u32 = 24;

/// A scene with one seed's small accidents.
#[must_use]
pub fn scene(name: &str, seed: u64) -> Option<Workload> {
    Some(match name {
        "swapflow" => swapflow(seed),
        "swap" => swap(seed, 60),
        // measured too, for the calibration only
        "swap-30" => swap(seed, 30),
        "starve" => starve(seed, 4),
        "starve-2" => starve(seed, 2),
        "ctx" => ctx(seed),
        "fair" => fair(seed),
        "orphan" => orphan(seed),
        "hangup" => hangup(seed),
        "leak" => leak(seed),
        _ => return None,
    })
}

fn house(name: &str, note: &str, models: &[&str], seed: u64) -> Workload {
    let host = Host { slots: 2, memory: None, max_loaded: 1, pace: vec![1.0, 0.875] };
    let mut workload = Workload::new(name, note, host, seed);
    workload.jitter = 0.05;
    workload.goals = vec![Goal::Ideal(0.85)];
    // the same machine is a little slower or faster from day to day
    let today = Dice::new(seed, 3).around(0.05);
    for model in models {
        workload.models.push(ModelSpec {
            name: format!("gemma:{model}"),
            bytes: 300_000_000,
            load: 1.9 * today,
            unload: 0.1,
            // 20 tokens in 0.09 s, 24 in 0.26 s
            prompt_rate: 222.0,
            output_rate: 92.3,
        });
        workload.app(&format!("app-{model}"), Class::Standard, 1.0);
    }
    workload
}

fn chat(app: usize, model: usize) -> Demand {
    Demand::chat(app, model, PROMPT, OUTPUT)
}

fn swapflow(seed: u64) -> Workload {
    let note = "3 applications, each 2 clients on its own model, asking again at once, 40 s";
    let mut workload = house("swapflow", note, &["a", "b", "c"], seed);
    for app in 0..3 {
        workload.loops(2, chat(app, app), 40.0);
    }
    workload.goals.push(Goal::Overhead);
    workload.warm = vec![0];
    workload
}

fn swap(seed: u64, requests: usize) -> Workload {
    let note = format!("{requests} requests at once, models in rotation");
    let mut workload = house("swap", &note, &["a", "b", "c"], seed);
    let mut dice = Dice::new(seed, 2);
    // connections opened one after another arrive nearly, not exactly, in order
    for at in 0..requests {
        let mut demand = chat(at % 3, at % 3);
        demand.effort = dice.around(0.05);
        workload.planned.push((0.001 * at as f64 + 0.003 * dice.unit(), demand));
    }
    workload.planned.sort_by(|a, b| a.0.total_cmp(&b.0));
    workload.window = 1.0;
    workload
}

fn starve(seed: u64, clients: u32) -> Workload {
    let note = format!("{clients} clients keep A busy for 40 s, one request for B at 2 s");
    let mut workload = house("starve", &note, &["a", "b"], seed);
    workload.loops(clients, chat(0, 0), 40.0);
    workload.planned.push((2.0, chat(1, 1)));
    workload.goals.extend([Goal::Late { app: 1, others: 0 }, Goal::Keeps { app: 0, share: 0.75 }]);
    workload.warm = vec![0];
    workload
}

fn ctx(seed: u64) -> Workload {
    let note = "one model, two applications with contexts of 2048 and 4096 in turn, 12 requests";
    let mut workload = house("ctx", note, &["a"], seed);
    let other = workload.app("app-other", Class::Standard, 1.0);
    let turns = vec![Demand { num_ctx: 2048, ..chat(0, 0) }, chat(other, 0)];
    workload.clients.push(Client {
        turns,
        starts: 0.0,
        gap: 0.008,
        until: f64::INFINITY,
        limit: 12,
        only_until_answered: false,
    });
    workload.window = 10.0;
    workload
}

fn fair(seed: u64) -> Workload {
    let note = "application a with 10 clients, other with one, same model, 30 s";
    let mut workload = house("fair", note, &["a"], seed);
    let other = workload.app("app-other", Class::Standard, 1.0);
    workload.loops(10, chat(0, 0), 30.0);
    workload.loops(1, chat(other, 0), 30.0);
    // two running answers
    workload.goals.push(Goal::Median { app: other, within: 1.6 });
    workload.warm = vec![0];
    workload
}

fn orphan(seed: u64) -> Workload {
    let note = "a client with a read time-out of 0.35 s retries a model that is not loaded, 12 times";
    let mut workload = house("orphan", note, &["a"], seed);
    workload.clients.push(Client {
        turns: vec![Demand { patience: Patience::FirstToken(0.35), ..chat(0, 0) }],
        starts: 0.0,
        gap: 0.008,
        until: f64::INFINITY,
        limit: 12,
        only_until_answered: true,
    });
    workload.window = 5.0;
    workload
}

fn hangup(seed: u64) -> Workload {
    let note = "40 clients ask for 400 tokens and hang up after 0.5 s; then another asks";
    let mut workload = house("hangup", note, &["a"], seed);
    let other = workload.app("app-other", Class::Standard, 1.0);
    let demand = Demand { output: 400, patience: Patience::HangsUp(0.5), ..chat(0, 0) };
    let mut dice = Dice::new(seed, 2);
    for _ in 0..40 {
        workload.planned.push((0.02 * dice.unit(), demand));
    }
    workload.planned.sort_by(|a, b| a.0.total_cmp(&b.0));
    workload.planned.push((0.55, chat(other, 0)));
    workload.goals.push(Goal::AsRaw);
    workload.warm = vec![0];
    workload.window = 1.0;
    workload
}

fn leak(seed: u64) -> Workload {
    let note = "2 clients stop reading a long stream and drop after 130 s; then another asks";
    let mut workload = house("leak", note, &["a"], seed);
    let other = workload.app("app-other", Class::Standard, 1.0);
    let mut dice = Dice::new(seed, 2);
    for _ in 0..2 {
        // 3,500 tokens take 38 s alone; about two in five, with their log-probabilities, fill the buffers
        let patience = Patience::StopsReading { share: 0.43 * dice.around(0.3), drops: 130.0 };
        workload.planned.push((0.01, Demand { output: 3500, patience, ..chat(0, 0) }));
    }
    workload.planned.push((130.1, chat(other, 0)));
    workload.warm = vec![0];
    workload.window = 131.0;
    workload
}

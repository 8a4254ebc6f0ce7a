//! Workloads that nobody measured but everybody has: open traffic even and in bursts, floods beside trickles, long
//! prompts beside short ones, weights.
//!
//! All on one GPU with two slots a runner, where requests that run together share its speed evenly.

use crate::domain::Class;

use super::dice::Dice;
use super::workload::{Demand, Goal, Host, ModelSpec, Workload};

/// All of them with one seed.
#[must_use]
pub fn mixes(seed: u64) -> Vec<Workload> {
    let mut all = open_traffic(seed);
    all.extend([flood(seed, true), flood(seed, false), long_beside_short(seed), single(seed), late(seed)]);
    all.extend(weights(seed));
    all.extend([big_beside_small(seed), trickle(seed)]);
    all
}

fn gpu(name: &str, note: &str, room: u32, seed: u64) -> Workload {
    let host = Host { slots: 2, memory: None, max_loaded: room, pace: vec![1.0] };
    Workload { jitter: 0.05, ..Workload::new(name, note, host, seed) }
}

fn model(workload: &mut Workload, load: f64) -> usize {
    workload.models.push(ModelSpec {
        name: format!("model:{}", workload.models.len()),
        bytes: 4_000_000_000,
        load,
        unload: 0.3,
        prompt_rate: 1500.0,
        output_rate: 60.0,
    });
    workload.models.len() - 1
}

/// A request of everyday size: half a second to ten, two on average.
fn everyday(dice: &mut Dice, app: usize, model: usize) -> Demand {
    let prompt = dice.log_normal(300.0, 0.8).clamp(10.0, 4000.0) as u32;
    let output = dice.log_normal(80.0, 0.7).clamp(4.0, 600.0) as u32;
    Demand { capped: false, ..Demand::chat(app, model, prompt, output) }
}

/// Poisson and bursty arrivals over 2 to 8 models on room for 1 to 3, one application each, popularity by Zipf.
fn open_traffic(seed: u64) -> Vec<Workload> {
    let kinds = [
        ("poisson-2-on-1", 2, 1, 0.15, 1.0),
        ("poisson-4-on-2", 4, 2, 0.25, 1.0),
        ("poisson-8-on-3", 8, 3, 0.25, 1.0),
        ("bursty-2-on-1", 2, 1, 0.15, 4.0),
        ("bursty-4-on-2", 4, 2, 0.2, 4.0),
        ("bursty-8-on-1", 8, 1, 0.12, 4.0),
        ("bursty-8-on-3", 8, 3, 0.25, 4.0),
    ];
    kinds.map(|(name, models, room, rate, variation)| open(name, (models, room), rate, variation, seed)).into()
}

fn open(name: &str, (models, room): (usize, u32), rate: f64, variation: f64, seed: u64) -> Workload {
    let note = format!(
        "{models} models of 5 s on room for {room}, {rate} requests a second, coefficient of variation {variation}, Zipf"
    );
    let mut workload = gpu(name, &note, room, seed);
    for at in 0..models {
        model(&mut workload, 5.0);
        workload.app(&format!("app-{at}"), Class::Standard, 1.0);
    }
    let mut dice = Dice::new(seed, 10 + models as u64);
    let gap = |dice: &mut Dice| dice.bursty(1.0 / rate, variation);
    workload.wave(&mut dice, 1800.0, gap, |dice| {
        let at = dice.zipf(models);
        everyday(dice, at, at)
    });
    workload
}

/// A batch of 300 at once beside a person who asks every 15 s.
fn flood(seed: u64, same: bool) -> Workload {
    let (name, note) = if same {
        ("flood-same", "300 requests of a batch at once and a person's request every 15 s, one model")
    } else {
        (
            "flood-other",
            "300 requests of a batch at once and a person's request every 15 s, on another model; room for one",
        )
    };
    let mut workload = gpu(name, note, 1, seed);
    let batch = workload.app("batch", Class::Batch, 1.0);
    let person = workload.app("person", Class::Interactive, 1.0);
    let first = model(&mut workload, 5.0);
    let second = if same { first } else { model(&mut workload, 5.0) };
    let mut dice = Dice::new(seed, 20);
    workload.planned = (0..300).map(|_| (0.0, everyday(&mut dice, batch, first))).collect();
    workload.wave(&mut dice, 600.0, |dice| dice.exponential(15.0), |dice| everyday(dice, person, second));
    workload
}

fn long_beside_short(seed: u64) -> Workload {
    let note = "prompts of 8,000 tokens every 12 s beside short chats every 3 s, one model";
    let mut workload = gpu("long-beside-short", note, 1, seed);
    let long = workload.app("long", Class::Standard, 1.0);
    let short = workload.app("short", Class::Standard, 1.0);
    model(&mut workload, 5.0);
    let mut dice = Dice::new(seed, 30);
    let gap = |mean: f64| move |dice: &mut Dice| dice.exponential(mean);
    workload.wave(&mut dice, 900.0, gap(12.0), |_| Demand { capped: false, ..Demand::chat(long, 0, 8000, 60) });
    workload.wave(&mut dice, 900.0, gap(3.0), |_| Demand { capped: false, ..Demand::chat(short, 0, 60, 40) });
    workload
}

fn single(seed: u64) -> Workload {
    let mut workload = gpu("single-model", "6 clients of one application on the only model, 300 s", 1, seed);
    let app = workload.app("app", Class::Standard, 1.0);
    model(&mut workload, 5.0);
    workload.loops(6, Demand::chat(app, 0, 300, 80), 300.0);
    workload.goals = vec![Goal::Ideal(0.85), Goal::AsRaw];
    workload
}

/// A rare model under endless work on another one.
fn late(seed: u64) -> Workload {
    let note = "4 clients keep A busy for 900 s, a request for B every 40 s or so; loads of 2 s, room for one";
    let mut workload = gpu("late", note, 1, seed);
    let busy = workload.app("busy", Class::Standard, 1.0);
    let late = workload.app("late", Class::Standard, 1.0);
    model(&mut workload, 2.0);
    model(&mut workload, 2.0);
    workload.loops(4, Demand::chat(busy, 0, 100, 40), 900.0);
    let mut dice = Dice::new(seed, 40);
    workload.wave(&mut dice, 880.0, |dice| 20.0 + dice.exponential(20.0), |_| Demand::chat(late, 1, 100, 40));
    workload.goals = vec![Goal::Late { app: late, others: 0 }, Goal::Overhead];
    workload
}

/// Shares by weight, whatever the requests' sizes, the number of clients and the models.
fn weights(seed: u64) -> Vec<Workload> {
    // name, what, clients of the heavy and the light one, their tokens, models, seconds
    let small = (100, 20);
    let large = (1500, 120);
    vec![
        pair("weights-even", (4, small), (4, small), &[2.0], seed),
        pair("weights-small-large", (4, small), (4, large), &[2.0], seed),
        pair("weights-large-small", (4, large), (4, small), &[2.0], seed),
        pair("weights-100-to-1", (100, small), (1, small), &[2.0], seed),
        Workload {
            // one client holds one slot of two and asks again only when both are taken: three times as much cannot be had
            goals: Vec::new(),
            ..pair("weights-1-to-100", (1, small), (100, small), &[2.0], seed)
        },
        pair("weights-models", (4, small), (4, small), &[2.0, 2.0], seed),
        pair("weights-models-sizes", (4, large), (4, small), &[2.0, 2.0], seed),
        pair("weights-models-4-to-100", (4, small), (100, small), &[2.0, 2.0], seed),
        pair("weights-models-2-to-100", (2, small), (100, small), &[2.0, 2.0], seed),
        pair("weights-models-100-to-1", (100, small), (1, small), &[2.0, 2.0], seed),
        pair("weights-models-loads", (4, small), (4, small), &[2.0, 16.0], seed),
    ]
}

/// Clients, and the tokens of their prompts and answers.
type Party = (u32, (u32, u32));

/// Two applications with weights 3 and 1, on one model or one each (with room for one).
fn pair(name: &str, heavy: Party, light: Party, loads: &[f64], seed: u64) -> Workload {
    let seconds = if loads.len() > 1 { 3600.0 } else { 600.0 };
    let party = |(clients, (prompt, output)): Party| format!("{clients} clients of {prompt} + {output} tokens");
    let note = format!(
        "weights 3 ({}) and 1 ({}), {} of {loads:?} s, {seconds} s",
        party(heavy),
        party(light),
        if loads.len() > 1 { "a model each, room for one, loads" } else { "one model, load" },
    );
    let mut workload = gpu(name, &note, 1, seed);
    for load in loads {
        model(&mut workload, *load);
    }
    for (at, (name, weight, party)) in [("heavy", 3.0, heavy), ("light", 1.0, light)].into_iter().enumerate() {
        let app = workload.app(name, Class::Standard, weight);
        let (clients, (prompt, output)) = party;
        workload.loops(clients, Demand::chat(app, at.min(loads.len() - 1), prompt, output), seconds);
    }
    workload.goals = vec![Goal::Ratio { of: (0, 1), times: 3.0 }];
    if loads.len() > 1 {
        workload.goals.push(Goal::Overhead);
    }
    workload
}

fn big_beside_small(seed: u64) -> Workload {
    let note = "a model that needs nearly all memory beside three small ones, 2 clients each, an hour";
    let mut workload = gpu("big-beside-small", note, 4, seed);
    workload.host.memory = Some(24_000_000_000);
    for at in 0..4 {
        let load = if at == 0 { 20.0 } else { 4.0 };
        let own = model(&mut workload, load);
        workload.models[own].bytes = if at == 0 { 20_000_000_000 } else { 4_000_000_000 };
        let app = workload.app(&format!("app-{at}"), Class::Standard, 1.0);
        workload.loops(2, Demand::chat(app, own, 200, 60), 3600.0);
    }
    workload.goals = vec![Goal::Overhead];
    workload
}

/// A person who asks now and then, programs that ask all the time, and a model that needs the room of all of theirs.
fn trickle(seed: u64) -> Workload {
    let note = "a person's small model every 6 s, two of 3 clients each, and a client of a big one that fits beside \
                none; 20 min";
    let mut workload = gpu("trickle-beside-big", note, 3, seed);
    workload.host.memory = Some(9_000_000_000);
    let parties = [
        ("chat", Class::Interactive, 1_000_000_000, 1.0, (1, 6.0)),
        ("first", Class::Standard, 2_000_000_000, 2.0, (3, 0.5)),
        ("second", Class::Standard, 2_000_000_000, 3.0, (3, 0.5)),
        ("big", Class::Standard, 7_000_000_000, 6.0, (1, 0.5)),
    ];
    for (name, class, bytes, load, (clients, gap)) in parties {
        let app = workload.app(name, class, 1.0);
        let own = model(&mut workload, load);
        workload.models[own].bytes = bytes;
        let first = workload.clients.len();
        workload.loops(clients, Demand::chat(app, own, 200, 30), 1200.0);
        workload.clients[first..].iter_mut().for_each(|client| client.gap = gap);
    }
    // no goal of overhead: what comes back once the big one is idle is loaded into free room, and costs idle time only
    workload.goals = vec![Goal::Late { app: 3, others: 3 }];
    workload
}

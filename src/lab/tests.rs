//! The laboratory itself: work is conserved, every request ends once, slots are kept, seeds repeat.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use super::server::{Call, Event, Server};
use super::table::table;
use super::*;
use crate::domain::{Class, Moment};

fn at(seconds: f64) -> Moment {
    Moment::from_start(Duration::from_secs_f64(seconds))
}

fn two_models(room: u32) -> Workload {
    let host = Host { slots: 2, memory: None, max_loaded: room, pace: vec![1.0, 1.5] };
    let mut workload = Workload::new("two", "two models", host, 7);
    for name in ["a", "b"] {
        workload.models.push(ModelSpec {
            name: name.to_owned(),
            bytes: 1,
            load: 2.0,
            unload: 0.2,
            prompt_rate: 100.0,
            output_rate: 10.0,
        });
        workload.app(name, Class::Standard, 1.0);
    }
    workload
}

fn call(id: u64, model: usize) -> Call {
    Call { id, demand: Demand::chat(model, model, 100, 20), keep_alive: None, stalls: None }
}

/// Runs the server dry; what happened, and when.
fn run_dry(server: &mut Server) -> Vec<(f64, Event)> {
    let mut seen = Vec::new();
    // idle runners go after five minutes; nothing here takes one
    while let Some(due) = server.next_due().filter(|due| *due < at(200.0)) {
        server.advance(due);
        seen.extend(server.events().into_iter().map(|event| (due.since_start().as_secs_f64(), event)));
    }
    seen
}

fn done(seen: &[(f64, Event)], id: u64) -> f64 {
    seen.iter().find(|(_, event)| matches!(event, Event::Done(done, _) if *done == id)).unwrap().0
}

#[test]
fn running_requests_share_the_gpu_and_its_work_is_conserved() {
    let mut server = Server::new(&two_models(1), at(0.0)).unwrap();
    // three seconds of work each on two slots: two at once at 1.5 times the speed, then one alone
    (1..=3).for_each(|id| server.start(call(id, 0)));
    let seen = run_dry(&mut server);
    let ends = [1, 2, 3].map(|id| done(&seen, id));
    for (end, expected) in ends.iter().zip([2.0 + 4.0, 2.0 + 4.0, 2.0 + 4.0 + 3.0]) {
        assert!((end - expected).abs() < 1e-6, "{ends:?}");
    }
    let service: f64 = seen
        .iter()
        .filter_map(|(_, event)| if let Event::Done(_, figures) = event { Some(figures.service) } else { None })
        .sum();
    assert!((service - 7.0).abs() < 1e-6, "seven seconds of GPU were sold once, not {service}");
    let Some((_, Event::Done(_, third))) = seen.iter().find(|(_, event)| matches!(event, Event::Done(3, _))) else {
        panic!("{seen:?}")
    };
    assert!((third.slot_wait() - 4.0).abs() < 1e-6 && (third.load - 2.0).abs() < 1e-6, "{third:?}");
}

#[test]
fn a_client_that_leaves_gives_its_share_back() {
    let mut server = Server::new(&two_models(1), at(0.0)).unwrap();
    (1..=2).for_each(|id| server.start(call(id, 0)));
    server.advance(at(4.0));
    server.events();
    // 1.5 s of work are done of each after two seconds together
    assert!((server.cancel(1) - 1.0).abs() < 1e-6);
    assert!((done(&run_dry(&mut server), 2) - 5.5).abs() < 1e-6);
}

#[test]
fn an_ordered_unload_is_over_when_the_memory_is_back_and_somebody_looked() {
    let mut workload = two_models(1);
    workload.warm = vec![0];
    workload.models[0].unload = 0.22;
    let mut server = Server::new(&workload, at(0.0)).unwrap();
    assert_eq!((server.residents(), server.loads()), (vec![0], 1));
    server.start(call(1, 0));
    server.unload(0);
    let seen = run_dry(&mut server);
    let gone = seen.iter().find(|(_, event)| *event == Event::Gone(0)).unwrap().0;
    assert!((done(&seen, 1) - 3.0).abs() < 1e-6 && (gone - 3.25).abs() < 1e-6, "{seen:?}");
    server.load(1);
    assert!(run_dry(&mut server).iter().any(|(_, event)| *event == Event::Loaded(1)));
    assert_eq!((server.residents(), server.loads()), (vec![1], 2));
}

/// A bit of everything: loops, open traffic, callers that leave at every stage.
fn mixed(seed: u64) -> Workload {
    let mut workload = two_models(1);
    workload.seed = seed;
    workload.jitter = 0.2;
    workload.loops(3, Demand::chat(0, 0, 50, 5), 60.0);
    let mut dice = Dice::new(seed, 9);
    let patience = [Patience::Endless, Patience::FirstToken(3.0), Patience::HangsUp(2.0)];
    workload.wave(
        &mut dice,
        60.0,
        |dice| dice.bursty(1.0, 3.0),
        |dice| {
            let patience = patience[dice.zipf(3)];
            Demand { patience, num_ctx: 2048 + 2048 * dice.zipf(2) as u64, ..Demand::chat(1, dice.zipf(2), 80, 6) }
        },
    );
    workload
}

#[test]
fn every_mode_ends_every_request_once_and_keeps_the_slots() {
    for (seed, mode) in (1..=5).flat_map(|seed| Mode::ALL.map(|mode| (seed, mode))) {
        let workload = mixed(seed);
        let run = play(&workload, mode).unwrap();
        let what = format!("{} seed {seed}", mode.as_str());
        assert!(run.records.len() >= workload.planned.len() + 3, "{what}");
        for record in &run.records {
            assert!(record.ended >= record.arrived, "{what}: {record:?}");
            let whole = record.started.is_some() && record.first.is_some();
            match record.ending {
                Ending::Answered => assert!(whole, "{what}: {record:?}"),
                Ending::Left => {}
                Ending::Refused | Ending::Hangs => panic!("{what}: {record:?}"),
            }
        }
        // never more at once on a model than it has slots, and nothing runs while its model is not resident
        for record in run.records.iter().filter(|record| record.started.is_some()) {
            let started = record.started.unwrap();
            let others = run.records.iter().filter(|other| {
                other.model == record.model && other.started.is_some_and(|at| at <= started) && other.ended > started
            });
            assert!(others.count() <= 2, "{what}: {record:?}");
            let inside = |span: &&Span| {
                span.model == record.model && span.from <= started + 1e-6 && record.ended <= span.to + 1e-6
            };
            let phases = run.spans.iter().filter(|span| span.phase == Phase::Resident).filter(inside);
            assert_eq!(phases.count(), 1, "{what}: {record:?}");
        }
        if mode == Mode::Gaucho {
            let waited = run.records.iter().map(|record| record.slot_wait).fold(0.0, f64::max);
            assert!(waited < 1e-6, "{what}: {waited} s in Ollama's own queue");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_table_and_another_one_does_not() {
    let text = |seed: u64| {
        let comparison = compare(scenes::scene("swapflow", seed).unwrap()).unwrap();
        table(&comparison.workload, &comparison.results)
    };
    assert_eq!(text(3), text(3));
    assert_ne!(text(3), text(4).replace("seed 4", "seed 3"));
}

#[test]
fn what_is_promised_on_the_measured_scenes_is_kept() {
    // how well waits are foretold is not here: the bench prints it beside what anybody could know
    let names = ["swapflow", "swap", "starve", "ctx", "fair", "orphan", "hangup", "leak"];
    for (name, seed) in names.into_iter().flat_map(|name| (1..=5).map(move |seed| (name, seed))) {
        let comparison = compare(scenes::scene(name, seed).unwrap()).unwrap();
        let missed = comparison.targets.iter().filter(|target| !target.kept && !target.what.contains("foretold"));
        let missed: Vec<_> = missed.collect();
        assert!(missed.is_empty(), "seed {seed}: {missed:?}");
    }
}

#[test]
fn who_asks_now_and_then_does_not_keep_a_model_out_that_needs_the_room() {
    let mut workload = mixes::mixes(1).into_iter().find(|workload| workload.name == "trickle-beside-big").unwrap();
    workload.clients.iter_mut().for_each(|client| client.until = 300.0);
    let run = super::play::played_for(&workload, Mode::Gaucho, false).unwrap();
    let waits: Vec<f64> = run.records.iter().filter(|record| record.app == 3).filter_map(Record::wait).collect();
    let longest = waits.iter().copied().fold(0.0, f64::max);
    assert!(waits.len() > 10 && longest < 60.0, "{} answers, the longest wait {longest}", waits.len());
}

//! The best that could be had of a workload, and how near a run came.
//!
//! Owns one bound per kind of workload: all work done at the speed of full slots, each model loaded as rarely as the
//! rules allow. The rules allow a model that others wait for to stay until the swap credit covers the next swap, so
//! where more models are wanted for ever than fit, swaps take the share h of the time; else each is loaded once.

use super::play::{Ending, Record, Run};
use super::workload::{Demand, Workload};

/// The share of the time that displacing swaps may take under load (`swap_overhead`).
pub const SWAP_SHARE: f64 = 0.25;

/// A run against the ideal.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// What is compared.
    pub what: &'static str,
    /// The ideal, in that unit.
    pub ideal: f64,
    /// What the run had.
    pub got: f64,
    /// 1 is ideal; above it, the run did better than the rules need.
    pub ratio: f64,
}

fn less_is_better(what: &'static str, ideal: f64, got: f64) -> Score {
    Score { what, ideal, got, ratio: if got.is_finite() && got > 0.0 { ideal / got } else { 0.0 } }
}

/// Scores a run.
#[must_use]
pub fn score(workload: &Workload, run: &Run) -> Score {
    match workload.name.as_str() {
        "ctx" => less_is_better("s for all", in_turn(workload, 12.0), run.makespan),
        "orphan" => less_is_better("s to an answer", in_turn(workload, 1.0), first_answer(run)),
        "hangup" => less_is_better("s to first token", prompt(workload), last_first_token(run)),
        "leak" => less_is_better("s to an answer", last_alone(workload), last_answer(run)),
        _ if workload.clients.is_empty() => less_is_better("s for all", all_work(workload), finished(run)),
        _ => loops(workload, run),
    }
}

/// One load, then `count` answers alone, one after another.
fn in_turn(workload: &Workload, count: f64) -> f64 {
    let client = workload.clients.first();
    let turn = client.and_then(|client| client.turns.first().map(|demand| (demand, client.gap)));
    turn.map_or(0.0, |(demand, gap)| {
        let model = &workload.models[demand.model];
        model.load + count * model.solo(demand) + (count - 1.0) * gap
    })
}

fn first_answer(run: &Run) -> f64 {
    run.records.iter().find(|record| record.ending == Ending::Answered).map_or(f64::INFINITY, |record| record.ended)
}

fn last_demand(workload: &Workload) -> Option<&Demand> {
    workload.planned.last().map(|(_, demand)| demand)
}

fn prompt(workload: &Workload) -> f64 {
    last_demand(workload).map_or(0.0, |demand| f64::from(demand.prompt) / workload.models[demand.model].prompt_rate)
}

fn last_alone(workload: &Workload) -> f64 {
    last_demand(workload).map_or(0.0, |demand| workload.models[demand.model].solo(demand))
}

fn last_first_token(run: &Run) -> f64 {
    let last = run.records.last();
    last.and_then(|record| record.first.map(|first| first - record.arrived)).unwrap_or(f64::INFINITY)
}

fn last_answer(run: &Run) -> f64 {
    let last = run.records.last().filter(|record| record.ending == Ending::Answered);
    last.map_or(f64::INFINITY, |record| record.ended - record.arrived)
}

fn finished(run: &Run) -> f64 {
    let whole = run.records.iter().all(|record| record.ending == Ending::Answered);
    if whole { run.makespan } else { f64::INFINITY }
}

/// Open traffic: one after another at the speed of full slots, each model loaded when it is first asked for.
fn all_work(workload: &Workload) -> f64 {
    let mut loaded: Vec<usize> = workload.warm.clone();
    let (mut at, mut last) = (0.0_f64, 0.0_f64);
    for (arrival, demand) in &workload.planned {
        let model = &workload.models[demand.model];
        at = at.max(*arrival);
        if !loaded.contains(&demand.model) {
            loaded.push(demand.model);
            at += model.load;
        }
        at += model.solo(demand) / workload.host.full_speed();
        last = last.max(arrival + model.solo(demand));
    }
    at.max(last)
}

/// Closed loops: work done within the window, in seconds that it takes alone.
fn loops(workload: &Workload, run: &Run) -> Score {
    let window = workload.window;
    let done = |record: &Record| {
        let started = record.started?;
        let length = (record.ended - started).max(1e-9);
        (record.ending == Ending::Answered).then(|| record.work * ((window - started) / length).clamp(0.0, 1.0))
    };
    let got = run.records.iter().filter_map(done).sum();
    let ideal = (window - unavoidable(workload)).max(0.0) * workload.host.full_speed();
    Score { what: "s of work done", ideal, got, ratio: got / ideal.max(1e-9) }
}

/// Seconds of the window that go into loads whatever the order.
fn unavoidable(workload: &Workload) -> f64 {
    let wanted = |wants: &dyn Fn(usize) -> bool| (0..workload.models.len()).filter(|m| wants(*m)).collect::<Vec<_>>();
    let looped = wanted(&|m| workload.clients.iter().any(|client| client.turns.iter().any(|turn| turn.model == m)));
    let passing = wanted(&|m| !looped.contains(&m) && workload.planned.iter().any(|(_, demand)| demand.model == m));
    let load = |model: &usize| workload.models[*model].load + workload.models[*model].unload;
    let bytes: u64 = looped.iter().map(|model| workload.models[*model].bytes).sum();
    let room = workload.host.memory.is_none_or(|memory| bytes <= memory);
    let crowded = looped.len() > workload.host.max_loaded as usize || !room;
    let cold = looped.iter().filter(|model| !workload.warm.contains(model));
    if crowded {
        // the first one comes for nothing where it is there already
        let first = if workload.warm.is_empty() { looped.iter().map(load).fold(f64::MAX, f64::min) } else { 0.0 };
        return first + SWAP_SHARE * (workload.window - first);
    }
    // who passes by needs a swap there and one back, where there is no room beside
    let beside = looped.len() + passing.len() <= workload.host.max_loaded as usize;
    let back: f64 =
        if beside { 0.0 } else { passing.iter().map(|_| looped.iter().map(load).fold(0.0, f64::max)).sum() };
    cold.map(load).sum::<f64>() + passing.iter().map(load).sum::<f64>() + back
}

/// By when the first request for a model that nobody else uses is admitted, in seconds after it asks, with `others`
/// models ahead of it: ARCHITECTURE.md, "Residency".
#[must_use]
pub fn latest_admission(workload: &Workload, model: usize, others: &[usize]) -> f64 {
    let cost = |model: usize| workload.models[model].load + workload.models[model].unload;
    let dearest = (0..workload.models.len()).map(cost).fold(0.0, f64::max);
    let longest = longest_run(workload);
    let turn = |model: usize| (cost(model) + dearest) * (1.0 - SWAP_SHARE) / SWAP_SHARE + longest + cost(model);
    dearest + others.iter().chain([&model]).map(|model| turn(*model)).sum::<f64>()
}

/// The longest request, with all slots busy.
fn longest_run(workload: &Workload) -> f64 {
    let turns = workload.clients.iter().flat_map(|client| &client.turns);
    let alone = turns.chain(workload.planned.iter().map(|(_, demand)| demand));
    let longest = alone.map(|demand| workload.models[demand.model].solo(demand)).fold(0.0, f64::max);
    longest * f64::from(workload.host.slots) / workload.host.full_speed()
}

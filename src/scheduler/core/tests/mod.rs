//! The core under random load with virtual time, swept after every step; and its fairness, in numbers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use std::sync::Arc;

use proptest::prelude::*;

mod hard;
mod pauses;
mod storm;

use super::pool::Behind;
use super::site::Runner;
use super::*;
use crate::domain::{Json, LoadOrder, ResidencyCommand};

const GPU: EndpointId = EndpointId(0);

fn ticket(id: u64, app: &str, weights: &str) -> Ticket {
    Ticket {
        id: TicketId(id),
        label: RequestId(id),
        again: None,
        app: AppName::parse(app).unwrap(),
        class: Class::Standard,
        weight: 1.0,
        max_concurrent: None,
        max_queued: 100_000,
        deadline: Moment::from_start(Duration::from_secs(1_000_000)),
        bytes: 100,
        streams: true,
        work: Work { kind: WorkKind::Generate, prompt_bytes: 400, output_cap: Some(100) },
        weights: weights.into(),
        seats: vec![seat(GPU, 2)],
    }
}

fn seat(endpoint: EndpointId, slots: u32) -> Seat {
    let order =
        LoadOrder { model: "m".into(), options: Vec::new(), keep_alive: Duration::from_secs(900), embeds: false };
    Seat { endpoint, slots, need: 10, guess: 2.0, keep_alive: Duration::from_secs(1_000_000), order: Arc::new(order) }
}

/// The sums behind estimates of the wait are those of what is there, but for roundings.
fn same(kept: f64, counted: f64) {
    assert!((kept - counted).abs() <= 1e-6 * counted.max(1.0), "{kept} is kept, {counted} is there");
}

/// What is kept of a pool's lines is what they are.
fn sweep_backlog(pool: &Pool) {
    let backlog = pool.backlog();
    let mut all = 0.0;
    for (class, kept) in Class::ALL.into_iter().zip(&backlog.classes) {
        let lines = pool.lines.heads().filter(|(_, head)| head.class == class);
        let lines = lines.map(|(line, head)| {
            let (each, tickets) = (pool.speed.predict(line.app, head.work), line.alive() as f64);
            Behind { app: line.app, each, tickets }
        });
        let lines: Vec<_> = lines.collect();
        assert_eq!(*kept, lines, "lines of {class:?}");
        all += lines.iter().map(|line| line.tickets * line.each).sum::<f64>();
    }
    same(pool.everything(), all);
}

/// What is kept of what waits and runs is what is counted there.
fn sweep_sums(core: &Core) {
    let able = core.able_by_tag();
    for (index, pool) in core.pools.iter().enumerate() {
        let waiting = |class: Class| core.waiting.values().filter(move |w| (w.pool.0, w.class) == (index, class));
        let running = core.running.values().filter(|run| run.pool.0 == index);
        for class in Class::ALL {
            same(pool.waiting[class as usize].seconds(), waiting(class).map(|w| w.expected).sum());
        }
        same(pool.running.seconds(), running.map(|run| run.predicted).sum());
        sweep_backlog(pool);
        let (by_tag, all) = (core.firsts_by_tag(PoolIndex(index), &able), core.firsts_of_lines(PoolIndex(index)));
        assert_eq!(by_tag, all, "a search by tag finds whom looking at every line finds");
    }
    for (index, app) in core.apps.iter().enumerate() {
        let waiting = || core.waiting.values().filter(|waiting| waiting.app.0 == index);
        assert_eq!(app.waiting.tickets(), waiting().count(), "what waits of {}", app.name);
        same(app.waiting.seconds(), waiting().map(|waiting| waiting.expected).sum());
    }
    for (endpoint, site) in &core.sites {
        let there = |pool: &Pool| pool.runners.get(endpoint).is_some_and(Runner::is_in_memory);
        let there = core.pools.iter().enumerate().filter(|(_, pool)| there(pool)).map(|(at, _)| PoolIndex(at));
        assert_eq!(site.held, there.collect::<Vec<_>>(), "what is in memory on {endpoint:?}");
    }
    for (endpoint, service) in &core.service {
        let here = |waiting: &&Waiting| waiting.seats.iter().any(|seat| seat.endpoint == *endpoint);
        for app in (0..core.apps.len()).map(fair::AppIndex) {
            let runs = core.running.values().filter(|run| (run.endpoint, run.app) == (*endpoint, app)).count();
            let waits = core.waiting.values().filter(|w| w.app == app).filter(here).count();
            assert_eq!(service.counts(app), (runs, waits), "{app:?} runs and waits on {endpoint:?}");
        }
    }
}

/// A server that runs what is admitted: every request needs `work(app)` seconds of the GPU, shared by what runs.
struct World {
    core: Core,
    now: f64,
    next_id: u64,
    running: BTreeMap<TicketId, (String, f64)>,
    apps: BTreeMap<TicketId, String>,
    served: BTreeMap<String, f64>,
    ended: HashSet<TicketId>,
    refused: Vec<Refused>,
    /// Seconds that a load and an unload take.
    load_time: f64,
    load_times: BTreeMap<String, f64>,
    loads: Vec<String>,
    limits: Vec<Duration>,
    /// Seconds of loading, by model.
    loading: BTreeMap<String, f64>,
    /// Loads and unloads under way: when they end, and what is reported then.
    orders: Vec<(f64, EndpointId, Input)>,
    memory: Vec<Room>,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        Self::with(bounds, vec![Room { bytes: None, models: 100, gpus: GpuSet::default() }; 2], 0.0)
    }

    fn with(bounds: Bounds, memory: Vec<Room>, load_time: f64) -> Self {
        let mut core = Core::new(bounds, &memory);
        // where no wait is looked at, playing ahead would only take long
        core.foresee(0);
        Self {
            core,
            load_time,
            load_times: BTreeMap::new(),
            loads: Vec::new(),
            limits: Vec::new(),
            loading: BTreeMap::new(),
            orders: Vec::new(),
            memory,
            now: 0.0,
            next_id: 0,
            running: BTreeMap::new(),
            apps: BTreeMap::new(),
            served: BTreeMap::new(),
            ended: HashSet::new(),
            refused: Vec::new(),
        }
    }

    fn roomy() -> Self {
        Self::new(Bounds { queued: 1_000_000, queued_bytes: usize::MAX })
    }

    fn step(&mut self, input: Input, work: &dyn Fn(&str) -> f64) {
        let mut out = Vec::new();
        self.core.step(Moment::from_start(Duration::from_secs_f64(self.now)), input, &mut out);
        for decision in out {
            match decision {
                Decision::Residency(ResidencyCommand::Load { endpoint, weights, within, .. }) => {
                    self.limits.push(within);
                    assert!(
                        !self.orders.iter().any(|(_, at, _)| *at == endpoint),
                        "two changes at once on {endpoint:?}"
                    );
                    self.loads.push(weights.to_string());
                    let time = self.load_times.get(&*weights).copied().unwrap_or(self.load_time);
                    *self.loading.entry(weights.to_string()).or_default() += time;
                    let report = Input::Loaded { endpoint, weights, result: Ok(()) };
                    self.orders.push((self.now + time, endpoint, report));
                }
                Decision::Residency(ResidencyCommand::Unload { endpoint, weights, .. }) => {
                    let report = Input::Unloaded { endpoint, weights, gone: true };
                    self.orders.push((self.now + self.load_time / 10.0, endpoint, report));
                }
                Decision::Recall { .. } | Decision::Notice(_) | Decision::Residency(ResidencyCommand::Probe { .. }) => {
                }
                Decision::Admit { id, .. } => {
                    let app = self.apps[&id].clone();
                    let need = work(&app);
                    assert!(self.running.insert(id, (app, need)).is_none(), "admitted twice");
                }
                Decision::Refuse { id, why } => {
                    assert!(self.ended.insert(id), "ended twice");
                    self.refused.push(why);
                }
            }
        }
        self.sweep();
        self.carry_out(work);
    }

    /// Reports what is done by now.
    fn carry_out(&mut self, work: &dyn Fn(&str) -> f64) {
        while let Some(at) = self.orders.iter().position(|(due, ..)| *due <= self.now) {
            let (_, _, report) = self.orders.remove(at);
            self.step(report, work);
        }
    }

    /// Bytes in memory never exceed what an endpoint has.
    fn sweep_memory(&self) {
        for (room, endpoint) in self.memory.iter().zip(0..) {
            let (bytes, count) = self.core.planned(EndpointId(endpoint));
            assert!(count <= room.models, "{count} models, {room:?}");
            if let Some(most) = room.bytes {
                assert!(bytes <= most || count == 1, "{bytes} bytes, {room:?}");
            }
        }
    }

    fn sweep(&self) {
        let view = self.core.view();
        for runner in &view.runners {
            assert!(runner.used <= runner.slots, "slots exceeded: {runner:?}");
        }
        let used: u32 = view.runners.iter().map(|r| r.used).sum();
        assert_eq!(used as usize, self.running.len(), "slots in use are what runs");
        assert_eq!(self.core.starves_a_free_slot(), None, "an admissible ticket waits beside a free slot");
        self.sweep_memory();
        if self.core.waiting.len() > 100 {
            return; // counting a long queue at every step would take longer than all else
        }
        sweep_sums(&self.core);
    }

    fn submit(&mut self, edit: impl FnOnce(&mut Ticket), app: &str, work: &dyn Fn(&str) -> f64) -> TicketId {
        let mut new = ticket(self.next_id, app, "blob");
        self.next_id += 1;
        edit(&mut new);
        let id = new.id;
        self.apps.insert(id, app.to_owned());
        self.step(Input::Submit(Box::new(new)), work);
        id
    }

    /// Lets the GPU work until the next request ends, and ends it. Loads, unloads and timers happen meanwhile.
    fn run_one(&mut self, work: &dyn Fn(&str) -> f64) -> Option<String> {
        loop {
            let active = self.running.len() as f64;
            let first = self.running.iter().map(|(id, (_, left))| (*id, *left)).min_by(|a, b| a.1.total_cmp(&b.1));
            let ends = first.map(|(_, left)| self.now + left * active);
            let due = self.orders.iter().map(|(due, ..)| *due).reduce(f64::min);
            let tick = self.core.next_tick().map(|at| at.since_start().as_secs_f64());
            let next = [ends, due, tick].into_iter().flatten().reduce(f64::min)?;
            let next = next.max(self.now);
            if active > 0.0 {
                let share = (next - self.now) / active;
                for (app, need) in self.running.values_mut() {
                    *need -= share;
                    *self.served.entry(app.clone()).or_default() += share;
                }
            }
            self.now = next;
            match first {
                // by roundings its end may lie a little before now
                Some((id, _)) if ends.is_some_and(|ends| ends <= next) => {
                    let (app, _) = self.running.remove(&id).unwrap();
                    assert!(self.ended.insert(id), "ended twice");
                    self.step(Input::Finish { id, observed: Observed { complete: true, ..Observed::default() } }, work);
                    return Some(app);
                }
                _ => {
                    // a timer that is due "now" must move on, whatever rounding says
                    self.now += 1e-6;
                    self.step(Input::Tick, work);
                    if self.running.is_empty() && self.orders.is_empty() && self.core.view().queued == 0 {
                        return None;
                    }
                }
            }
        }
    }
}

/// Keeps `clients` requests of each application in the system for `seconds`; returns the service each got.
fn closed_loop(apps: &[(&str, f64, usize)], seconds: f64, work: &dyn Fn(&str) -> f64) -> BTreeMap<String, f64> {
    let mut world = World::roomy();
    for (app, weight, clients) in apps {
        for _ in 0..*clients {
            world.submit(|t| t.weight = *weight, app, work);
        }
    }
    while world.now < seconds {
        let app = world.run_one(work).unwrap();
        let weight = apps.iter().find(|(name, ..)| *name == app).unwrap().1;
        world.submit(|t| t.weight = weight, &app, work);
    }
    world.served
}

#[test]
fn equal_weights_share_equally_whatever_the_number_of_clients() {
    let served = closed_loop(&[("x", 1.0, 100), ("y", 1.0, 4)], 2000.0, &|_| 1.0);
    let ratio = served["x"] / served["y"];
    assert!((0.95..1.05).contains(&ratio), "{served:?}");
}

#[test]
fn weights_hold_whatever_the_sizes_of_requests() {
    let work = |app: &str| if app == "heavy" { 0.4 } else { 3.0 };
    let served = closed_loop(&[("heavy", 3.0, 20), ("light", 1.0, 20)], 4000.0, &work);
    let ratio = served["heavy"] / served["light"];
    assert!((2.8..3.2).contains(&ratio), "{served:?}");
}

#[test]
fn idle_time_earns_nothing() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    for _ in 0..50 {
        world.submit(|_| {}, "busy", &work);
    }
    for _ in 0..40 {
        world.run_one(&work);
    }
    for _ in 0..50 {
        world.submit(|_| {}, "late", &work);
        world.submit(|_| {}, "busy", &work);
    }
    world.served.clear();
    for _ in 0..40 {
        world.run_one(&work);
    }
    let ratio = world.served["late"] / world.served["busy"];
    assert!((0.8..1.25).contains(&ratio), "{:?}", world.served);
}

#[test]
fn urgent_classes_go_first_and_the_others_keep_their_least_share() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    let classes = [("ui", Class::Interactive), ("api", Class::Standard), ("night", Class::Batch)];
    for _ in 0..4000 {
        for (app, class) in classes {
            world.submit(|t| t.class = class, app, &work);
        }
    }
    while world.now < 1200.0 {
        world.run_one(&work);
    }
    let total: f64 = world.served.values().sum();
    let share = |app: &str| world.served[app] / total;
    assert!(share("api") >= 0.14, "{:?}", world.served);
    assert!(share("night") >= 0.045, "{:?}", world.served);
    assert!(share("ui") >= 0.75, "{:?}", world.served);
}

/// Two chats and one of the standard class on the model in memory; another of the standard class, with more weight, waits for
/// a second model. What its neighbour gets beside the chats is not taken from it.
#[test]
fn who_waits_for_another_model_is_not_starved_by_its_own_class() {
    let work = |app: &str| if app == "web" { 5.0 } else { 2.5 };
    let mut world = World::with(
        Bounds { queued: 1_000, queued_bytes: usize::MAX },
        vec![Room { bytes: None, models: 1, gpus: GpuSet::default() }],
        4.0,
    );
    let apps = [("ui", Class::Interactive, 1.0), ("etl", Class::Standard, 1.0), ("web", Class::Standard, 2.0)];
    let ask = |world: &mut World, app: &str| {
        let (_, class, weight) = *apps.iter().find(|(name, ..)| *name == app).unwrap();
        let edit = |t: &mut Ticket| {
            (t.class, t.weight) = (class, weight);
            t.weights = if app == "web" { "mb" } else { "ma" }.into();
        };
        world.submit(edit, app, &work)
    };
    for app in ["ui", "ui", "etl", "web"] {
        ask(&mut world, app);
    }
    let (mut starts, mut last) = (0, 0.0_f64);
    let mut worst = 0.0_f64;
    while world.now < 2000.0 {
        let app = world.run_one(&work).unwrap();
        if app == "web" {
            starts += 1;
            worst = worst.max(world.now - last);
            last = world.now;
        }
        ask(&mut world, &app);
    }
    assert!(worst < 100.0, "{starts} answers, once none for {worst:.0} s: {:?}", world.served);
    let models = [2.5, 5.0].map(|run| Contender { cost: 4.4, longest_run: 2.0 * run });
    let promised = longest_head_wait(&models) + longest_claim(&models, Class::Standard);
    assert!(worst < promised, "{worst} {promised}");
    assert!(world.served["web"] > 0.1 * world.now, "{:?}", world.served);
}

#[test]
fn the_own_limits_of_an_application_hold() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    for _ in 0..3 {
        world.submit(|t| (t.max_concurrent, t.max_queued) = (Some(1), 1), "x", &work);
    }
    assert_eq!(world.running.len(), 1);
    assert!(matches!(world.refused[..], [Refused::AppQueueFull { queued: 1, limit: 1, .. }]), "{:?}", world.refused);
    assert_eq!(world.core.running_of(&AppName::parse("x").unwrap()), 1);
    world.run_one(&work);
    assert_eq!(world.running.len(), 1, "the next one follows");
}

#[test]
fn bounds_on_the_whole_queue_hold() {
    let work = |_: &str| 1.0;
    let mut world = World::new(Bounds { queued: 2, queued_bytes: 250 });
    for _ in 0..4 {
        world.submit(|_| {}, "x", &work);
    }
    assert_eq!(world.refused.len(), 0);
    world.submit(|_| {}, "x", &work);
    assert!(matches!(world.refused[..], [Refused::QueueFull { queued: 2, bytes: 200, .. }]), "{:?}", world.refused);
}

#[test]
fn the_place_counts_the_lines_that_go_first_and_its_own() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    world.core.foresee(rehearsal::STEPS);
    for app in ["x", "x"] {
        world.submit(|_| {}, app, &work);
    }
    // z is less urgent than both others, though it came first
    let z = world.submit(|t| t.class = Class::Batch, "z", &work);
    let x: Vec<_> = (0..3).map(|_| world.submit(|_| {}, "x", &work)).collect();
    let y: Vec<_> = (0..2).map(|_| world.submit(|_| {}, "y", &work)).collect();
    let place = |world: &World, id: &TicketId| world.core.position(*id);
    // y starts where x's running requests started, so it is y's turn first
    assert_eq!(y.iter().map(|id| place(&world, id)).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(x.iter().map(|id| place(&world, id)).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(place(&world, &z), 6);
    world.step(Input::Withdraw(y[0]), &work);
    assert_eq!(place(&world, &y[1]), 1, "who left is not counted");
    assert_eq!(place(&world, &z), 5);
}

#[test]
fn a_ticket_that_waited_too_long_is_refused_with_its_place() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    for _ in 0..2 {
        world.submit(|_| {}, "x", &work);
    }
    let deadline = Moment::from_start(Duration::from_secs(5));
    world.submit(|t| t.deadline = deadline, "x", &work);
    assert_eq!(world.core.next_tick(), Some(deadline));
    world.now = 5.0;
    world.step(Input::Tick, &work);
    assert!(
        matches!(world.refused[..], [Refused::Waited { estimate: Estimate { position: 1, .. }, .. }]),
        "{:?}",
        world.refused
    );
    assert_eq!(world.core.view().queued, 0);
}

#[test]
fn a_drain_refuses_newcomers_and_serves_the_rest() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    for _ in 0..5 {
        world.submit(|_| {}, "x", &work);
    }
    world.step(Input::Drain, &work);
    world.submit(|_| {}, "y", &work);
    assert!(matches!(world.refused[..], [Refused::Draining]), "{:?}", world.refused);
    while world.run_one(&work).is_some() {}
    assert!(world.core.is_idle());
    assert!((world.served["x"] - 5.0).abs() < 1e-3, "{:?}", world.served);
}

#[test]
fn an_endpoint_that_is_down_gets_nothing_until_it_is_back() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    world.step(Input::Endpoint { id: GPU, usable: false, answers: false }, &work);
    world.submit(|_| {}, "x", &work);
    assert_eq!(world.running.len(), 0);
    world.step(Input::Endpoint { id: GPU, usable: true, answers: true }, &work);
    assert_eq!(world.running.len(), 1);
}

#[test]
fn a_line_that_never_moves_does_not_grow() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    world.step(Input::Endpoint { id: GPU, usable: false, answers: false }, &work);
    world.submit(|_| {}, "x", &work);
    for _ in 0..10_000 {
        let id = world.submit(|_| {}, "x", &work);
        world.step(Input::Withdraw(id), &work);
    }
    assert!(world.core.pools[0].lines.held() < 64);
}

/// One endpoint with room for one model; each application keeps `clients` requests for its own model in the system.
/// Returns the world after `seconds`, and each application's waits.
fn swapping(
    apps: &[(&str, f64, usize)],
    load_times: &[(&str, f64)],
    seconds: f64,
    work: f64,
) -> (World, BTreeMap<String, Vec<f64>>) {
    let bounds = Bounds { queued: 10_000, queued_bytes: usize::MAX };
    let mut world = World::with(bounds, vec![Room { bytes: None, models: 1, gpus: GpuSet::default() }], 2.0);
    world.load_times = load_times.iter().map(|(model, time)| ((*model).to_owned(), *time)).collect();
    let work = move |_: &str| work;
    let submit = |world: &mut World, app: &str| {
        let (_, weight, _) = apps.iter().find(|(name, ..)| *name == app).unwrap();
        let guess = world.load_times.get(app).copied().unwrap_or(2.0);
        let edit = |t: &mut Ticket| {
            t.weight = *weight;
            t.weights = app.into();
            t.seats[0].guess = guess;
        };
        (world.submit(edit, app, &work), world.now)
    };
    let mut since = BTreeMap::new();
    let mut waits: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (app, _, clients) in apps {
        for _ in 0..*clients {
            let (id, at) = submit(&mut world, app);
            since.insert(id, at);
        }
    }
    while world.now < seconds {
        let app = world.run_one(&work).unwrap();
        let (id, at) = submit(&mut world, &app);
        since.insert(id, at);
        let started: Vec<_> = since.keys().copied().filter(|id| world.running.contains_key(id)).collect();
        for id in started {
            let at = since.remove(&id).unwrap();
            waits.entry(world.apps[&id].clone()).or_default().push(world.now - at);
        }
    }
    (world, waits)
}

/// GPU seconds of an application with a model of its own: its answers and its loads.
fn gpu(world: &World, app: &str) -> f64 {
    world.served[app] + world.loading[app] * 1.1
}

#[test]
fn closed_loops_on_three_models_share_one_place_equally_and_swap_within_the_overhead() {
    let (world, waits) = swapping(&[("a", 1.0, 2), ("b", 1.0, 2), ("c", 1.0, 2)], &[], 1500.0, 0.4);
    let overhead = world.loading.values().sum::<f64>() * 1.1 / world.now;
    assert!(overhead < 0.27, "{overhead}");
    let (least, most) = world.served.values().fold((f64::MAX, 0.0_f64), |(a, b), s| (a.min(*s), b.max(*s)));
    assert!(most / least < 1.1, "{:?}", world.served);
    let worst = waits.values().flatten().copied().fold(0.0, f64::max);
    assert!(worst < 40.0, "{worst}");
}

#[test]
fn weights_hold_in_gpu_time_across_models_that_cannot_be_resident_together() {
    let (world, _) = swapping(&[("a", 3.0, 4), ("b", 1.0, 4)], &[], 3000.0, 0.4);
    let ratio = gpu(&world, "a") / gpu(&world, "b");
    assert!((2.7..3.3).contains(&ratio), "{ratio} {:?}", world.served);
}

#[test]
fn a_model_that_loads_slowly_gets_its_share_of_gpu_time_and_no_more() {
    let (world, _) = swapping(&[("a", 1.0, 4), ("b", 1.0, 4)], &[("a", 5.0), ("b", 40.0)], 12_000.0, 0.4);
    let ratio = gpu(&world, "a") / gpu(&world, "b");
    assert!((0.85..1.18).contains(&ratio), "{ratio} {:?}", world.served);
}

#[test]
fn a_late_request_for_another_model_gets_its_turn_under_endless_load() {
    let (mut world, _) = swapping(&[("a", 1.0, 4)], &[], 60.0, 0.4);
    let work = |_: &str| 0.4;
    let asked = world.now;
    let late = world.submit(|t| t.weights = "b".into(), "late", &work);
    while !world.ended.contains(&late) {
        let app = world.run_one(&work).unwrap();
        world.submit(|t| t.weights = app.as_str().into(), "a", &work);
    }
    // drain + unload + load + answer, and at most the credit of one swap before
    assert!(world.now - asked < 12.0, "{}", world.now - asked);
}

#[test]
fn a_busy_model_spreads_to_an_endpoint_with_room_and_a_quiet_one_does_not() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    world.load_time = 1.0;
    let everywhere = |t: &mut Ticket| t.seats = vec![seat(GPU, 1), seat(EndpointId(1), 1)];
    world.submit(everywhere, "x", &work);
    world.run_one(&work);
    assert_eq!(world.loads.len(), 1, "one request needs one runner");
    for _ in 0..20 {
        world.submit(everywhere, "x", &work);
    }
    while world.run_one(&work).is_some() {}
    assert_eq!(world.loads.len(), 2, "twenty seconds of waiting are worth a load");
}

#[test]
fn a_model_that_can_never_fit_is_refused_at_once_with_both_numbers() {
    let bounds = Bounds { queued: 10, queued_bytes: 1000 };
    let mut world = World::with(bounds, vec![Room { bytes: Some(100), models: 3, gpus: GpuSet::default() }], 1.0);
    world.submit(|t| t.seats[0].need = 101, "x", &|_| 1.0);
    assert!(matches!(world.refused[..], [Refused::TooLarge { need: 101, room: 100 }]), "{:?}", world.refused);
}

#[test]
fn a_load_that_keeps_failing_is_tried_again_and_then_its_callers_learn_why() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    world.load_time = 1.0;
    world.submit(|_| {}, "x", &work);
    for _ in 0..3 {
        while world.orders.is_empty() {
            world.now = world.core.next_tick().unwrap().since_start().as_secs_f64();
            world.step(Input::Tick, &work);
        }
        let (due, endpoint, _) = world.orders.remove(0);
        world.now = due;
        let result = Err("out of memory".to_owned().into());
        world.step(Input::Loaded { endpoint, weights: "blob".into(), result }, &work);
    }
    assert!(
        matches!(&world.refused[..], [Refused::Unloadable { reason, .. }] if reason == "out of memory"),
        "{:?}",
        world.refused
    );
    world.submit(|_| {}, "y", &work);
    assert_eq!(world.refused.len(), 2, "and newcomers at once");
}

#[test]
fn an_idle_runner_goes_when_its_time_is_up_and_a_busy_one_does_not() {
    let work = |_: &str| 5.0;
    let mut world = World::roomy();
    let brief = |t: &mut Ticket| t.seats[0].keep_alive = Duration::from_secs(2);
    world.submit(brief, "x", &work);
    world.run_one(&work);
    assert_eq!(world.core.planned(GPU).1, 1, "not while it works, nor at once after");
    while world.core.planned(GPU).1 > 0 {
        world.now = world.core.next_tick().unwrap().since_start().as_secs_f64() + 1e-6;
        world.step(Input::Tick, &work);
    }
    assert!((6.9..7.2).contains(&world.now), "two seconds after its work: {}", world.now);
}

#[test]
fn a_caller_that_left_causes_no_load() {
    let (mut world, _) = swapping(&[("a", 1.0, 2)], &[], 20.0, 0.4);
    let work = |_: &str| 0.4;
    let loads = world.loads.len();
    let late = world.submit(|t| t.weights = "b".into(), "late", &work);
    world.step(Input::Withdraw(late), &work);
    for _ in 0..100 {
        let app = world.run_one(&work).unwrap();
        world.submit(|t| t.weights = app.as_str().into(), "a", &work);
    }
    assert_eq!(world.loads.len(), loads);
}

#[test]
fn what_ollama_says_corrects_what_we_believe() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    world.submit(|_| {}, "x", &work);
    world.run_one(&work);
    assert_eq!(world.loads.len(), 1);
    // the server was restarted: nothing is loaded any more
    world.now += 10.0;
    let asked = Moment::from_start(Duration::from_secs_f64(world.now - 1.0));
    world.step(Input::Seen { endpoint: GPU, asked, residents: Vec::new() }, &work);
    world.step(Input::Seen { endpoint: EndpointId(1), asked, residents: Vec::new() }, &work);
    world.submit(|_| {}, "x", &work);
    assert_eq!(world.loads.len(), 2);
    // a look from before the load must not undo it
    world.step(Input::Seen { endpoint: GPU, asked, residents: Vec::new() }, &work);
    assert_eq!(world.running.len(), 1);
}

#[test]
fn who_would_start_too_late_is_refused_at_once_but_never_the_first_that_waits_for_a_model() {
    let work = |_: &str| 2.0;
    let mut world = World::roomy();
    world.core.foresee(rehearsal::STEPS);
    let soon = |t: &mut Ticket| t.deadline = Moment::from_start(Duration::from_secs_f64(1e4));
    for _ in 0..8 {
        world.submit(soon, "x", &work);
    }
    for _ in 0..8 {
        world.run_one(&work).unwrap();
    }
    // two run, one waits: the next one would start in about eight seconds of a GPU that is shared
    for _ in 0..4 {
        world.submit(soon, "x", &work);
    }
    let now = world.now;
    let within = |seconds: f64| Moment::from_start(Duration::from_secs_f64(now + seconds));
    world.submit(|t| t.deadline = within(1.5), "x", &work);
    let Some(Refused::TooLate { estimate, limit }) = world.refused.last() else { panic!("{:?}", world.refused) };
    assert_eq!((estimate.position, limit.as_secs_f64()), (3, 1.5));
    assert!((2.0..12.0).contains(&estimate.wait.as_secs_f64()), "{estimate:?}");
    world.submit(|t| t.deadline = within(60.0), "x", &work);
    assert_eq!(world.refused.len(), 1, "who has time waits");
    // a model that takes longer to load than its callers may wait is loaded all the same
    let refused = world.refused.len();
    world.load_times.insert("slow".into(), 30.0);
    let slow = |t: &mut Ticket| {
        (t.weights, t.deadline, t.seats[0].guess) = ("slow".into(), within(5.0), 30.0);
    };
    let first = world.submit(slow, "y", &work);
    assert_eq!(world.refused.len(), refused);
    // nobody knows whether it fits, so that what runs ends first
    while world.loads.len() < 2 {
        world.run_one(&work).unwrap();
    }
    assert_eq!((world.loads.last().map(String::as_str), world.ended.contains(&first)), (Some("slow"), false));
}

#[test]
fn what_ollama_pushes_out_for_our_load_is_not_loaded_beside_it_again() {
    let work = |_: &str| 1.0;
    let mut world = World::with(
        Bounds { queued: 99, queued_bytes: 9999 },
        vec![Room { bytes: None, models: 3, gpus: GpuSet::default() }],
        2.0,
    );
    world.submit(|t| t.weights = "a".into(), "x", &work);
    world.run_one(&work).unwrap();
    // nobody knows whether both fit: b is loaded beside a, and a look meanwhile shows that a has gone for it
    world.submit(|t| t.weights = "b".into(), "y", &work);
    assert_eq!(world.loads, ["a", "b"]);
    world.now += 0.5;
    let asked = Moment::from_start(Duration::from_secs_f64(world.now));
    world.now += 0.1;
    world.step(Input::Seen { endpoint: GPU, asked, residents: Vec::new() }, &work);
    world.run_one(&work).unwrap();
    // from now on they take each other's place by our order
    world.submit(|t| t.weights = "a".into(), "x", &work);
    world.run_one(&work).unwrap();
    assert_eq!(world.loads, ["a", "b", "a"]);
    assert_eq!(world.core.planned(GPU).1, 1, "b was unloaded first");
}

#[test]
fn endpoints_that_share_a_gpu_make_room_for_each_other() {
    let work = |_: &str| 1.0;
    let room = Room { bytes: None, models: 3, gpus: GpuSet::of([0]) };
    let mut world = World::with(Bounds { queued: 99, queued_bytes: 9999 }, vec![room; 2], 2.0);
    // 100 bytes, of which strangers hold 10
    world.step(Input::Gpu { place: 0, total: 100, used: 10 }, &work);
    let at = |endpoint: u16, model: &'static str, need: u64| {
        move |t: &mut Ticket| {
            (t.weights, t.seats) = (model.into(), vec![seat(EndpointId(endpoint), 2)]);
            t.seats[0].need = need;
        }
    };
    world.submit(at(0, "a", 60), "x", &work);
    world.run_one(&work).unwrap();
    world.submit(at(1, "b", 50), "y", &work);
    world.run_one(&work).unwrap();
    assert_eq!(world.loads, ["a", "b"], "a has gone for b, though it was on another server");
    assert_eq!((world.core.planned(GPU).0, world.core.planned(EndpointId(1)).0), (0, 50));
    // strangers take more: what does not fit any more is refused with numbers
    world.step(Input::Gpu { place: 0, total: 100, used: 95 }, &work);
    world.submit(at(0, "a", 60), "x", &work);
    assert!(matches!(world.refused[..], [Refused::TooLarge { need: 60, room: 55 }]), "{:?}", world.refused);
}

#[test]
fn a_server_with_two_gpus_puts_a_model_on_one_of_them_where_it_fits() {
    let work = |_: &str| 1.0;
    let room = Room { bytes: None, models: 3, gpus: GpuSet::of([0, 1]) };
    let mut world = World::with(Bounds { queued: 99, queued_bytes: 9999 }, vec![room], 1.0);
    world.step(Input::Gpu { place: 0, total: 100, used: 0 }, &work);
    world.step(Input::Gpu { place: 1, total: 100, used: 0 }, &work);
    for (model, need) in [("a", 70), ("b", 70), ("c", 30)] {
        world.submit(|t| (t.weights, t.seats[0].need) = (model.into(), need), "x", &work);
        world.run_one(&work).unwrap();
    }
    // a and b have one each; c finds 30 on neither (80 % of 30 is less), but 60 on both together
    assert_eq!((world.loads.len(), world.core.planned(GPU)), (3, (170, 3)));
    world.submit(|t| (t.weights, t.seats[0].need) = ("d".into(), 40), "x", &work);
    world.run_one(&work).unwrap();
    assert!(world.core.planned(GPU).0 <= 200, "{:?}", world.core.planned(GPU));
}

#[test]
fn what_was_learned_outlives_a_restart() {
    let (world, _) = swapping(&[("a", 1.0, 2), ("b", 1.0, 2)], &[("b", 6.0)], 100.0, 0.4);
    let lessons = world.core.lessons();
    assert_eq!(lessons.len(), 2, "{lessons:?}");
    let slow = lessons.iter().find(|lesson| &*lesson.weights == "b").unwrap();
    assert!((5.5..7.5).contains(&slow.load), "{slow:?}");
    let mut next = World::with(
        Bounds { queued: 9, queued_bytes: 9999 },
        vec![Room { bytes: None, models: 1, gpus: GpuSet::default() }],
        2.0,
    );
    next.core.teach(lessons.clone());
    assert_eq!(next.core.lessons().len(), 2, "kept though nothing was asked for yet");
    next.submit(|t| t.weights = "b".into(), "b", &|_| 1.0);
    let limit = next.limits.last().copied().unwrap();
    assert!(limit > Duration::from_secs(50) && limit < Duration::from_secs(80), "{limit:?}");
    // what a file may say in its place is not believed
    let mut odd = lessons[0].clone();
    odd.output_speed = f64::NAN;
    next.core.teach(vec![odd.clone()]);
    assert!(next.core.lessons().iter().all(|lesson| lesson.output_speed.is_finite()));
}

#[test]
fn the_promised_wait_holds_for_the_longest_of_many_swaps() {
    let (world, waits) = swapping(&[("a", 1.0, 2), ("b", 1.0, 2), ("c", 1.0, 2)], &[], 1500.0, 0.4);
    let worst = waits.values().flatten().copied().fold(0.0, f64::max);
    let models: Vec<Contender> =
        world.core.lessons().iter().map(|lesson| Contender { cost: lesson.cost, longest_run: 0.8 }).collect();
    assert!(worst <= longest_head_wait(&models), "{worst} {}", longest_head_wait(&models));
}

#[derive(Debug, Clone)]
enum Happening {
    Arrives { app: u8, blob: u8, class: u8, slots: u32, limit: Option<u32>, wait: u16 },
    Leaves(u16),
    Ends(u16),
    Passes(u16),
    Endpoint(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        5 => (0..6u8, 0..3u8, 0..3u8, 1..4u32, proptest::option::of(1..3u32), 1..500u16).prop_map(
            |(app, blob, class, slots, limit, wait)| Happening::Arrives { app, blob, class, slots, limit, wait }
        ),
        2 => any::<u16>().prop_map(Happening::Leaves),
        4 => any::<u16>().prop_map(Happening::Ends),
        2 => (0..300u16).prop_map(Happening::Passes),
        1 => any::<bool>().prop_map(Happening::Endpoint),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: slots hold, work is conserved, every ticket ends exactly once and nothing is kept of it.
    #[test]
    fn invariants_hold_under_any_history(history in proptest::collection::vec(happening(), 1..200)) {
        let work = |_: &str| 1.0;
        let mut world = World::new(Bounds { queued: 20, queued_bytes: 1500 });
        for event in history {
            match event {
                Happening::Arrives { app, blob, class, slots, limit, wait } => {
                    let at = world.now + f64::from(wait);
                    world.submit(|t| {
                        t.class = Class::ALL[usize::from(class)];
                        t.weights = format!("blob{blob}").into();
                        // the number of slots may only grow here: a lowered one is reached as requests end
                        t.seats = vec![seat(GPU, 3), seat(EndpointId(1), slots.max(3))];
                        t.max_concurrent = limit;
                        t.deadline = Moment::from_start(Duration::from_secs_f64(at));
                    }, &format!("app{app}"), &work);
                }
                Happening::Leaves(pick) => {
                    let ids: Vec<_> = world.apps.keys().copied().collect();
                    if let Some(id) = ids.get(usize::from(pick) % ids.len().max(1)).copied()
                        && !world.running.contains_key(&id)
                    {
                        world.ended.insert(id);
                        world.step(Input::Withdraw(id), &work);
                    }
                }
                Happening::Ends(pick) => {
                    let ids: Vec<_> = world.running.keys().copied().collect();
                    if let Some(id) = ids.get(usize::from(pick) % ids.len().max(1)).copied() {
                        world.running.remove(&id);
                        prop_assert!(world.ended.insert(id));
                        world.step(Input::Finish { id, observed: Observed::default() }, &work);
                    }
                }
                Happening::Passes(by) => {
                    world.now += f64::from(by);
                    world.step(Input::Tick, &work);
                }
                Happening::Endpoint(usable) => world.step(Input::Endpoint { id: EndpointId(1), usable, answers: usable }, &work),
            }
        }
        world.step(Input::Endpoint { id: EndpointId(1), usable: true, answers: true }, &work);
        while world.run_one(&work).is_some() {}
        prop_assert!(world.core.is_idle());
        prop_assert_eq!(world.ended.len(), world.apps.len());
        prop_assert_eq!(world.core.view().queued_bytes, 0);
        prop_assert!(world.orders.is_empty());
    }
}

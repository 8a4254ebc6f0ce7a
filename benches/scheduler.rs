//! What one decision of the scheduler costs with a long queue, beside a plain binary heap of the same length.
//!
//! The pure core alone, without the lock and the futures around it: 10,000 requests of 100 applications wait for 50
//! models on 4 endpoints. `cargo bench --bench scheduler [-- crowded]`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench stops where its set-up does")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gaucho::domain::{AppName, Class, EndpointId, LoadOrder, Moment, RequestId, ResidencyCommand};
use gaucho::scheduler::core::{
    Bounds, Core, Decision, GpuSet, Input, Observed, Room, Seat, Ticket, TicketId, Work, WorkKind,
};

const QUEUED: usize = 10_000;
const APPS: usize = 100;
const ENDPOINTS: u64 = 4;
const STEPS: usize = 20_000;
/// Most µs for one decision.
const MOST: f64 = 20.0;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// A scheduler, what runs in it, and the time.
struct House {
    core: Core,
    apps: Vec<AppName>,
    order: Arc<LoadOrder>,
    models: u64,
    dice: Dice,
    now: Moment,
    next: u64,
    queued: usize,
    running: Vec<TicketId>,
    out: Vec<Decision>,
    /// How long a load takes; `None` for no time at all.
    load: Option<Duration>,
    due: Vec<(Moment, Input)>,
}

impl House {
    fn new(models: u64) -> Self {
        Self::with_room(models, u32::MAX, None)
    }

    /// Room for this many models on each endpoint; loads take this long.
    fn with_room(models: u64, room: u32, load: Option<Duration>) -> Self {
        let apps = (0..APPS).map(|n| AppName::parse(&format!("app-{n}")).unwrap()).collect();
        let bounds = Bounds { queued: usize::MAX, queued_bytes: usize::MAX };
        let core = Core::new(
            bounds,
            &[Room { bytes: Some(1 << 50), models: room, gpus: GpuSet::default() }; ENDPOINTS as usize],
        );
        let order = LoadOrder { model: "m".into(), options: Vec::new(), keep_alive: Duration::MAX, embeds: false };
        let order = Arc::new(order);
        let dice = Dice(7);
        Self {
            core,
            apps,
            order,
            models,
            dice,
            now: Moment::ZERO,
            next: 0,
            queued: 0,
            running: Vec::new(),
            out: Vec::new(),
            load,
            due: Vec::new(),
        }
    }

    /// All slots taken, and `queued` requests that wait.
    fn filled(models: u64, queued: usize) -> Self {
        let mut house = Self::new(models);
        while house.queued < queued {
            let ticket = house.ticket();
            house.submit(ticket);
        }
        house
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        let app = self.dice.below(APPS as u64);
        let model = self.dice.below(self.models);
        let home = model % ENDPOINTS;
        let seat = |endpoint: u64| Seat {
            endpoint: EndpointId(u16::try_from(endpoint).unwrap()),
            slots: 2,
            need: 1,
            // without loads: so dear that no second runner pays, the residents stay what they are
            guess: self.load.map_or(1e9, |load| load.as_secs_f64()),
            keep_alive: if self.load.is_some() { Duration::from_secs(900) } else { Duration::MAX },
            order: Arc::clone(&self.order),
        };
        Ticket {
            id: TicketId(self.next),
            label: RequestId(self.next),
            again: None,
            app: self.apps[usize::try_from(app).unwrap()].clone(),
            class: Class::ALL[usize::try_from(app % 3).unwrap()],
            weight: (1 + app % 4) as f64,
            max_concurrent: app.is_multiple_of(2).then_some(3),
            max_queued: u32::MAX,
            // so late that nobody is refused for the long line before it
            deadline: self.now.after(Duration::from_secs(10_000_000 + self.dice.below(600))),
            bytes: 1000,
            streams: true,
            work: Work { kind: WorkKind::Generate, prompt_bytes: 1000, output_cap: Some(200) },
            weights: format!("sha256-{model:060}").into(),
            seats: vec![seat(home), seat((home + 1) % ENDPOINTS)],
        }
    }

    fn step(&mut self, input: Input) {
        self.core.step(self.now, input, &mut self.out);
        let mut reports = Vec::new();
        for decision in self.out.drain(..) {
            match decision {
                Decision::Admit { id, .. } => {
                    self.queued -= 1;
                    self.running.push(id);
                }
                Decision::Refuse { .. } => self.queued -= 1,
                Decision::Recall { .. } | Decision::Notice(_) | Decision::Residency(ResidencyCommand::Probe { .. }) => {
                }
                Decision::Residency(ResidencyCommand::Load { endpoint, weights, .. }) => {
                    let report = Input::Loaded { endpoint, weights, result: Ok(()) };
                    match self.load {
                        Some(load) => self.due.push((self.now.after(load), report)),
                        None => reports.push(report),
                    }
                }
                Decision::Residency(ResidencyCommand::Unload { endpoint, weights, .. }) => {
                    let report = Input::Unloaded { endpoint, weights, gone: true };
                    match self.load {
                        Some(load) => self.due.push((self.now.after(load / 10), report)),
                        None => reports.push(report),
                    }
                }
            }
        }
        for report in reports {
            self.step(report);
        }
    }

    /// Reports what is done by now.
    fn reports(&mut self) {
        while let Some(at) = self.due.iter().position(|(at, _)| *at <= self.now) {
            let (_, input) = self.due.remove(at);
            self.step(input);
        }
    }

    fn submit(&mut self, ticket: Ticket) {
        self.queued += 1;
        self.step(Input::Submit(Box::new(ticket)));
    }

    /// One of those that run.
    fn any_running(&mut self) -> TicketId {
        let one = self.dice.below(self.running.len() as u64);
        self.running.swap_remove(usize::try_from(one).unwrap())
    }

    fn finish(&mut self, id: TicketId) {
        let observed = Observed {
            prompt_tokens: 250,
            prompt_seconds: 0.2,
            output_tokens: 150,
            output_seconds: 3.0,
            slot_wait: 0.0,
            complete: true,
        };
        self.step(Input::Finish { id, observed });
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }
}

/// Mean µs of one call, the least of five runs: what disturbs only ever adds.
fn cost(steps: usize, mut one: impl FnMut() -> Duration) -> f64 {
    let runs = (0..5).map(|_| (0..steps / 5).map(|_| one()).sum::<Duration>().as_secs_f64() * 1e6);
    runs.fold(f64::INFINITY, f64::min) / (steps / 5) as f64
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn heap() -> f64 {
    let mut dice = Dice(7);
    let mut heap: BinaryHeap<_> = (0..QUEUED).map(|n| Reverse((dice.below(1 << 30), n))).collect();
    cost(STEPS, || {
        let one = dice.below(1 << 30);
        timed(|| {
            heap.push(Reverse((one, 0)));
            black_box(heap.pop());
        })
    })
}

/// A request ends and the next one starts; a new one joins the queue.
fn turns(models: u64) -> (f64, f64) {
    let mut house = House::filled(models, QUEUED);
    let mut join = Vec::new();
    let next = cost(STEPS, || {
        house.pass(Duration::from_millis(5));
        let (id, running) = (house.any_running(), house.running.len());
        let took = timed(|| house.finish(id));
        assert!(house.running.len() > running, "nothing started though {QUEUED} wait");
        while house.queued < QUEUED {
            let ticket = house.ticket();
            join.push(timed(|| house.submit(ticket)));
        }
        took
    });
    (next, join.iter().sum::<Duration>().as_secs_f64() * 1e6 / join.len() as f64)
}

/// A request finds a free slot at once, while others wait for other models.
fn at_once(models: u64) -> f64 {
    let mut house = House::filled(models, QUEUED);
    cost(STEPS, || {
        house.pass(Duration::from_millis(5));
        let mut ticket = house.ticket();
        (ticket.weights, ticket.max_concurrent) = ("sha256-free".into(), None);
        let took = timed(|| house.submit(ticket));
        let id = house.running.pop().unwrap();
        house.finish(id);
        assert_eq!(house.queued, QUEUED);
        took
    })
}

/// The application's queue is full; the refusal says when to come back.
fn refused(models: u64) -> f64 {
    let mut house = House::filled(models, QUEUED);
    cost(STEPS, || {
        let mut ticket = house.ticket();
        ticket.max_queued = 0;
        let took = timed(|| house.submit(ticket));
        assert_eq!(house.queued, QUEUED);
        took
    })
}

/// A caller leaves the queue.
fn withdrawn(models: u64) -> f64 {
    let mut house = House::filled(models, QUEUED);
    cost(STEPS, || {
        let ticket = house.ticket();
        let id = ticket.id;
        house.submit(ticket);
        let took = timed(|| house.core.step(house.now, Input::Withdraw(id), &mut house.out));
        house.queued -= 1;
        took
    })
}

/// Every deadline passes in one step: how long everybody else waits for the lock, in ms.
fn stampede(models: u64) -> f64 {
    let mut house = House::filled(models, QUEUED);
    house.pass(Duration::from_secs(20_000_000));
    let took = timed(|| house.step(Input::Tick));
    assert_eq!(house.queued, 0);
    took.as_secs_f64() * 1e3
}

/// Of many decisions of a kind, µs.
struct Cost {
    mean: f64,
    p99: f64,
}

impl Cost {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let micros = |time: &Duration| time.as_secs_f64() * 1e6;
        let mean = times.iter().map(micros).sum::<f64>() / times.len().max(1) as f64;
        Self { mean, p99: times.get(times.len() * 99 / 100).map_or(0.0, micros) }
    }
}

/// 50 models on room for 3 each, with swaps going on: what an end, a newcomer and a tick cost; and the listing of one
/// application's queue and of everything, in ms.
fn crowded() -> ([Cost; 3], [f64; 2]) {
    let mut house = House::with_room(50, 3, Some(Duration::from_secs(5)));
    let mut times = [const { Vec::new() }; 3];
    for round in 0..12_000 {
        house.pass(Duration::from_millis(5));
        house.reports();
        if round % 8 == 0 && !house.running.is_empty() {
            let id = house.any_running();
            times[0].push(timed(|| house.finish(id)));
        }
        while house.queued < QUEUED {
            let ticket = house.ticket();
            let took = timed(|| house.submit(ticket));
            if round > 0 {
                times[1].push(took);
            }
        }
        if house.core.next_tick().is_some_and(|at| at <= house.now) {
            times[2].push(timed(|| house.step(Input::Tick)));
        }
    }
    let app = house.apps[0].clone();
    let (mut one, mut all) = (Vec::new(), Vec::new());
    let own = timed(|| one = house.core.queue(house.now, Some(&app)));
    let whole = timed(|| all = house.core.queue(house.now, None));
    assert!(one.len() < all.len() && all.len() == house.queued, "{} {}", one.len(), all.len());
    (times.map(Cost::of), [own, whole].map(|took| took.as_secs_f64() * 1e3))
}

/// 5 models on room for 2 on each endpoint and 100 that wait: what a newcomer costs whose wait is found by playing ahead.
fn ordinary() -> Cost {
    let mut house = House::with_room(5, 2, Some(Duration::from_secs(5)));
    let mut times = Vec::new();
    for _ in 0..4_000 {
        house.pass(Duration::from_millis(25));
        house.reports();
        if !house.running.is_empty() {
            let id = house.any_running();
            house.finish(id);
        }
        while house.queued < 100 {
            let ticket = house.ticket();
            times.push(timed(|| house.submit(ticket)));
        }
        if house.core.next_tick().is_some_and(|at| at <= house.now) {
            house.step(Input::Tick);
        }
    }
    Cost::of(times)
}

/// Resident bytes per queued request, by the difference that a long queue makes.
fn state() -> f64 {
    let before = resident();
    let house = House::filled(50, 10 * QUEUED);
    let after = resident();
    (after - before) as f64 / black_box(house).queued as f64
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn main() {
    if std::env::args().any(|arg| arg == "crowded") {
        return crowd(|what, models, micros| println!("{models:>3} models  {what:32} {micros:>8.2}"));
    }
    // first, while nothing that was freed can be used again
    let bytes = state();
    let heap = heap();
    println!("a binary heap of {QUEUED}: push + pop {heap:.3} µs; least of 5 runs each");
    println!("{QUEUED} queued, {APPS} applications{:>22} {:>10}   target <= {MOST} µs", "µs", "÷ heap");
    let line = |what: &str, models: u64, micros: f64| {
        let verdict = if micros <= MOST { "ok" } else { "MISSED" };
        println!("{models:>3} models  {what:32} {micros:>8.2} {:>10.1}   {verdict}", micros / heap);
    };
    for models in [50, 1] {
        let (next, join) = turns(models);
        line("ends, next one starts", models, next);
        line("joins the queue", models, join);
        line("starts at once", models, at_once(models));
        line("is refused (queue full)", models, refused(models));
        line("leaves the queue", models, withdrawn(models));
        println!("{models:>3} models  {QUEUED} deadlines in one step {:>16.1} ms", stampede(models));
    }
    crowd(line);
    let Cost { mean, p99 } = ordinary();
    println!(
        "100 queued, 5 models on room for 2: a newcomer, its wait played ahead {mean:.0} µs, 99 of 100 at most {p99:.0} µs"
    );
    println!("state: {bytes:.0} bytes a queued request, its names and its seats included");
}

fn crowd(line: impl Fn(&str, u64, f64)) {
    println!("the same with room for 3 of them on each endpoint and swaps going on:");
    let (costs, lists) = crowded();
    for (what, cost) in ["ends, next one starts", "joins the queue", "timer"].into_iter().zip(costs) {
        line(what, 50, cost.mean);
        println!("            99 of 100 take at most {:>21.2} µs", cost.p99);
    }
    println!("    one application's queue listed in {:.1} ms, the whole in {:.1} ms", lists[0], lists[1]);
}

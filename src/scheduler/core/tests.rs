//! The core under random load with virtual time, swept after every step; and its fairness, in numbers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const GPU: EndpointId = EndpointId(0);

fn ticket(id: u64, app: &str, weights: &str) -> Ticket {
    Ticket {
        id: TicketId(id),
        app: AppName::parse(app).unwrap(),
        class: Class::Standard,
        weight: 1.0,
        max_concurrent: None,
        max_queued: 100_000,
        deadline: Moment::from_start(Duration::from_secs(1_000_000)),
        bytes: 100,
        work: Work { kind: WorkKind::Generate, prompt_bytes: 400, output_cap: Some(100) },
        weights: weights.into(),
        seats: vec![Seat { endpoint: GPU, slots: 2 }],
    }
}

/// The sums behind estimates of the wait are those of what is there, but for roundings.
fn same(kept: f64, counted: f64) {
    assert!((kept - counted).abs() <= 1e-6 * counted.max(1.0), "{kept} is kept, {counted} is there");
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
}

impl World {
    fn new(bounds: Bounds) -> Self {
        Self {
            core: Core::new(bounds),
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
    }

    fn sweep(&self) {
        let view = self.core.view();
        for runner in &view.runners {
            assert!(runner.used <= runner.slots, "slots exceeded: {runner:?}");
        }
        let used: u32 = view.runners.iter().map(|r| r.used).sum();
        assert_eq!(used as usize, self.running.len(), "slots in use are what runs");
        assert_eq!(self.core.starves_a_free_slot(), None, "an admissible ticket waits beside a free slot");
        if self.core.waiting.len() > 100 {
            return; // counting a long queue at every step would take longer than all else
        }
        for (index, pool) in self.core.pools.iter().enumerate() {
            let waiting =
                |class: Class| self.core.waiting.values().filter(move |w| (w.pool.0, w.class) == (index, class));
            let running = self.core.running.values().filter(|run| run.pool.0 == index);
            for class in Class::ALL {
                same(pool.waiting[class as usize].seconds(), waiting(class).map(|w| w.expected).sum());
            }
            same(pool.running.seconds(), running.map(|run| run.predicted).sum());
        }
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

    /// Lets the GPU work until the next request ends, and ends it.
    fn run_one(&mut self, work: &dyn Fn(&str) -> f64) -> Option<String> {
        let active = self.running.len() as f64;
        let (id, left) = self.running.iter().map(|(id, (_, left))| (*id, *left)).min_by(|a, b| a.1.total_cmp(&b.1))?;
        for (app, need) in self.running.values_mut() {
            *need -= left;
            *self.served.entry(app.clone()).or_default() += left;
        }
        self.now += left * active;
        let (app, _) = self.running.remove(&id).unwrap();
        assert!(self.ended.insert(id), "ended twice");
        self.step(Input::Finish { id, observed: Observed { complete: true, ..Observed::default() } }, work);
        Some(app)
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
    for app in ["x", "x"] {
        world.submit(|_| {}, app, &work);
    }
    // z is less urgent than both others, though it came first
    let z = world.submit(|t| t.class = Class::Batch, "z", &work);
    let x: Vec<_> = (0..3).map(|_| world.submit(|_| {}, "x", &work)).collect();
    let y: Vec<_> = (0..2).map(|_| world.submit(|_| {}, "y", &work)).collect();
    let place = |world: &World, id: &TicketId| world.core.position(*id);
    // equal tags: who came first goes first, as in `next_turn`
    assert_eq!(x.iter().map(|id| place(&world, id)).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(y.iter().map(|id| place(&world, id)).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(place(&world, &z), 6);
    world.step(Input::Withdraw(y[0]), &work);
    assert_eq!(place(&world, &y[1]), 4, "who left is not counted");
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
    assert!(matches!(world.refused[..], [Refused::Waited { position: 1, .. }]), "{:?}", world.refused);
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
    assert_eq!(world.refused, vec![Refused::Draining]);
    while world.run_one(&work).is_some() {}
    assert!(world.core.is_idle());
    assert_eq!(world.served["x"], 5.0);
}

#[test]
fn an_endpoint_that_is_down_gets_nothing_until_it_is_back() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    world.step(Input::Endpoint { id: GPU, usable: false }, &work);
    world.submit(|_| {}, "x", &work);
    assert_eq!(world.running.len(), 0);
    world.step(Input::Endpoint { id: GPU, usable: true }, &work);
    assert_eq!(world.running.len(), 1);
}

#[test]
fn a_line_that_never_moves_does_not_grow() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    world.step(Input::Endpoint { id: GPU, usable: false }, &work);
    world.submit(|_| {}, "x", &work);
    for _ in 0..10_000 {
        let id = world.submit(|_| {}, "x", &work);
        world.step(Input::Withdraw(id), &work);
    }
    assert!(world.core.pools[0].held() < 64);
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
                        t.seats = vec![Seat { endpoint: GPU, slots: 3 }, Seat { endpoint: EndpointId(1), slots: slots.max(3) }];
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
                Happening::Endpoint(usable) => world.step(Input::Endpoint { id: EndpointId(1), usable }, &work),
            }
        }
        world.step(Input::Endpoint { id: EndpointId(1), usable: true }, &work);
        while world.run_one(&work).is_some() {}
        prop_assert!(world.core.is_idle());
        prop_assert_eq!(world.ended.len(), world.apps.len());
        prop_assert_eq!(world.core.view().queued_bytes, 0);
        prop_assert_eq!(world.core.next_tick(), None);
    }
}

//! The machine under virtual time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Action, Ask, Core, Id, Limits, LoadFault, RunnerFault, Ticket};
use crate::domain::Moment;
use crate::sim::model::Model;
use crate::sim::options::RunnerOptions;

const FOREVER: Duration = Duration::MAX;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn limits() -> Limits {
    Limits { max_loaded: 1, max_queue: 512, memory: None, keep_alive: seconds(300) }
}

fn options(num_ctx: u64) -> RunnerOptions {
    RunnerOptions { num_ctx, num_batch: 0, num_gpu: -1, main_gpu: None, use_mmap: None, num_thread: 0, shift: true }
}

/// A request for the weights `weights`, which load in two seconds, need 10 bytes and have two slots.
fn ask(id: Id, weights: &str) -> Ask {
    Ask {
        id,
        weights: weights.into(),
        tag: Arc::new(Model::named(weights).unwrap()),
        options: options(4096),
        keep_alive: None,
        load: seconds(2),
        memory: 10,
        slots: 2,
    }
}

/// A core and its time, in whole seconds.
struct Bench {
    core: Core,
    second: u64,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self { core: Core::new(limits), second: 0 }
    }

    fn now(&self) -> Moment {
        Moment::from_start(seconds(self.second))
    }

    fn ask(&mut self, ask: Ask) -> Vec<Action> {
        self.core.ask(self.now(), ask)
    }

    fn acquire(&mut self, ticket: Ticket) -> Vec<Action> {
        self.core.acquire(self.now(), ticket)
    }

    fn end(&mut self, id: Id) -> Vec<Action> {
        self.core.end(self.now(), id)
    }

    fn at(&mut self, second: u64) -> Vec<Action> {
        self.second = second;
        self.core.tick(self.now())
    }

    fn upset(&mut self, weights: &str, how: RunnerFault) -> (bool, Vec<Action>) {
        self.core.upset(self.now(), weights, how)
    }

    fn resident(&self) -> Vec<String> {
        self.core.residents().iter().map(|resident| resident.tag.name.clone()).collect()
    }

    fn leaked(&self, weights: &str) -> u64 {
        self.core.counts().get(weights).map_or(0, |counts| counts.leaked_handlers)
    }

    fn loads(&self, weights: &str) -> u64 {
        self.core.counts().get(weights).map_or(0, |counts| counts.loads)
    }
}

fn ready(id: Id, waited: u64) -> Action {
    Action::Ready { id, waited: seconds(waited) }
}

#[test]
fn a_load_takes_its_time_and_followers_wait_for_it() {
    let mut bench = Bench::new(limits());
    assert_eq!(bench.ask(ask(1, "a")), []);
    bench.second = 1;
    assert_eq!(bench.ask(ask(2, "a")), []);
    assert_eq!(bench.resident(), Vec::<String>::new());
    assert_eq!(bench.core.next_due(), Some(Moment::from_start(seconds(2))));
    // told late, done at its own moment
    assert_eq!(bench.at(5), [ready(1, 2), ready(2, 1)]);
    assert_eq!(bench.loads("a"), 1);
    assert_eq!(bench.ask(ask(3, "a")), [ready(3, 0)]);
}

#[test]
fn slots_are_first_come_and_never_exceeded() {
    let mut bench = Bench::new(limits());
    for id in 1..=4 {
        bench.ask(ask(id, "a"));
    }
    bench.at(2);
    assert_eq!(bench.acquire((1, 0)), [Action::Slot((1, 0))]);
    assert_eq!(bench.acquire((2, 0)), [Action::Slot((2, 0))]);
    assert_eq!(bench.acquire((3, 0)), []);
    assert_eq!(bench.acquire((4, 0)), []);
    // 3 leaves while it waits, 1 is done: 4 moves up
    assert_eq!(bench.end(3), []);
    assert_eq!(bench.end(1), [Action::Slot((4, 0))]);
    let now = bench.now();
    assert_eq!(bench.core.release(now, (2, 0)), []);
    let counts = bench.core.counts()["a"];
    assert_eq!((counts.inside, counts.peak_inside, counts.peak_running), (2, 4, 2));
}

#[test]
fn the_queue_for_loads_is_bounded_and_loaded_models_pass_it() {
    let mut bench = Bench::new(Limits { max_queue: 1, ..limits() });
    bench.ask(ask(1, "a"));
    bench.at(2);
    bench.ask(ask(2, "b")); // with the loader, which waits for a to fall idle
    bench.ask(ask(3, "c")); // in the queue
    assert_eq!(bench.ask(ask(4, "d")), [Action::Busy { id: 4 }]);
    assert_eq!(bench.ask(ask(5, "a")), [ready(5, 0)]);
}

#[test]
fn a_victim_drains_before_the_next_load() {
    let mut bench = Bench::new(limits());
    bench.ask(ask(1, "a"));
    bench.at(2);
    bench.ask(ask(2, "b"));
    assert_eq!(bench.at(50), []);
    assert_eq!(bench.resident(), ["a:latest"]);
    assert_eq!(bench.end(1), []);
    assert_eq!(bench.resident(), Vec::<String>::new());
    assert_eq!(bench.at(52), [ready(2, 50)]);
}

#[test]
fn new_traffic_with_a_keep_alive_revives_a_victim() {
    let mut bench = Bench::new(limits());
    bench.ask(ask(1, "a"));
    bench.at(2);
    bench.ask(ask(2, "b"));
    bench.ask(Ask { keep_alive: Some(seconds(600)), ..ask(3, "a") });
    bench.end(1);
    bench.end(3);
    // the defect: b's load waits until a's new idle time is over
    bench.at(601);
    assert_eq!(bench.resident(), ["a:latest"]);
    assert_eq!(bench.at(604), [ready(2, 602)]);
}

#[test]
fn the_victim_is_idle_with_the_shortest_keep_alive_then_by_blob() {
    let mut bench = Bench::new(Limits { max_loaded: 3, ..limits() });
    bench.ask(ask(1, "b"));
    bench.ask(ask(2, "c"));
    bench.ask(Ask { keep_alive: Some(FOREVER), ..ask(3, "a") });
    bench.at(6);
    for id in 2..=3 {
        bench.end(id);
    }
    // b would be first by blob, but works
    bench.ask(ask(4, "d"));
    bench.at(8);
    assert_eq!(bench.resident().iter().filter(|name| *name == "c:latest").count(), 0);
    bench.end(1);
    bench.end(4);
    bench.ask(ask(5, "e"));
    bench.at(10);
    let mut left = bench.resident();
    left.sort();
    assert_eq!(left, ["a:latest", "d:latest", "e:latest"]);
}

#[test]
fn a_different_context_reloads() {
    let mut bench = Bench::new(limits());
    bench.ask(ask(1, "a"));
    bench.at(2);
    bench.end(1);
    bench.ask(Ask { options: options(8192), ..ask(2, "a") });
    assert_eq!(bench.at(4), [ready(2, 2)]);
    bench.end(2);
    bench.ask(ask(3, "a"));
    bench.at(6);
    assert_eq!(bench.loads("a"), 3);
}

#[test]
fn a_load_dies_with_its_client() {
    let mut bench = Bench::new(limits());
    bench.ask(ask(1, "a"));
    bench.ask(ask(2, "a"));
    bench.second = 1;
    bench.end(1);
    assert_eq!(bench.at(2), []);
    assert_eq!(bench.at(3), [ready(2, 3)]);
    assert_eq!(bench.loads("a"), 2);
    // one that leaves while it waits behind another costs nothing
    bench.ask(ask(3, "b"));
    bench.ask(ask(4, "c"));
    bench.end(4);
    bench.end(2);
    bench.at(20);
    assert_eq!((bench.loads("b"), bench.loads("c")), (1, 0));
}

#[test]
fn idle_runners_expire_at_their_own_time() {
    let mut bench = Bench::new(Limits { max_loaded: 3, ..limits() });
    bench.ask(Ask { keep_alive: Some(seconds(10)), ..ask(1, "a") });
    bench.ask(Ask { keep_alive: Some(FOREVER), ..ask(2, "b") });
    bench.ask(Ask { keep_alive: Some(Duration::ZERO), ..ask(3, "c") });
    bench.at(6);
    assert_eq!(bench.resident().len(), 3);
    for id in 1..=3 {
        bench.end(id);
    }
    assert_eq!(bench.resident(), ["b:latest", "a:latest"]);
    bench.at(15);
    assert_eq!(bench.resident().len(), 2);
    bench.at(16);
    assert_eq!(bench.resident(), ["b:latest"]);
    let now = bench.now();
    bench.core.expire(now, "b");
    assert_eq!(bench.resident(), Vec::<String>::new());
}

#[test]
fn unloading_waits_for_running_requests() {
    let mut bench = Bench::new(limits());
    bench.ask(ask(1, "a"));
    bench.at(2);
    let now = bench.now();
    bench.core.expire(now, "a");
    assert_eq!(bench.resident(), ["a:latest"]);
    bench.end(1);
    assert_eq!(bench.resident(), Vec::<String>::new());
}

#[test]
fn memory_is_kept_by_the_four_fifths_rule() {
    let mut bench = Bench::new(Limits { max_loaded: 9, memory: Some(30), ..limits() });
    bench.ask(ask(1, "a"));
    bench.ask(ask(2, "b"));
    bench.at(4);
    // 10 of the 20 left is within four fifths of them, 10 of the 10 left is not
    assert_eq!(bench.resident().len(), 2);
    bench.end(1);
    bench.ask(ask(3, "c"));
    assert_eq!(bench.at(6), [ready(3, 2)]);
    let mut left = bench.resident();
    left.sort();
    assert_eq!(left, ["b:latest", "c:latest"]);
    // alone, anything loads, and spills
    let mut bench = Bench::new(Limits { memory: Some(4), ..limits() });
    bench.ask(ask(1, "a"));
    bench.at(2);
    let resident = bench.core.residents().remove(0);
    assert_eq!((resident.memory, resident.fitting), (10, 4));
}

#[test]
fn whoever_leaves_the_queue_keeps_his_place_and_is_never_answered() {
    let full = || {
        let mut bench = Bench::new(Limits { max_queue: 1, ..limits() });
        bench.ask(ask(1, "a"));
        bench.at(2);
        bench.ask(ask(2, "b")); // with the loader, which waits for a
        bench.ask(ask(3, "c")); // in the queue
        bench
    };
    let mut bench = full();
    assert_eq!(bench.end(3), []);
    assert_eq!(bench.leaked("c"), 1);
    assert_eq!(bench.ask(ask(4, "d")), [Action::Busy { id: 4 }], "the dead one fills the queue");
    bench.end(1);
    assert_eq!(bench.at(4), [ready(2, 2)]);
    // popped, skipped: only now is there room
    assert_eq!(bench.ask(ask(5, "d")), []);
    assert_eq!((bench.loads("c"), bench.leaked("c"), bench.leaked("b")), (0, 1, 0));

    let mut bench = full();
    bench.core = bench.core.ideal();
    bench.end(3);
    assert_eq!(bench.ask(ask(4, "d")), [], "an ideal server forgets it at once");
    assert_eq!(bench.leaked("c"), 0);
}

#[test]
fn whoever_leaves_the_loader_still_costs_an_eviction_and_a_load() {
    let evicting = |core: Core| {
        let mut bench = Bench { core, second: 0 };
        bench.ask(ask(1, "a"));
        bench.at(2);
        bench.ask(ask(2, "b"));
        bench.end(2);
        bench.end(1);
        bench.at(10);
        bench
    };
    let bench = evicting(Core::new(limits()));
    assert_eq!((bench.resident(), bench.loads("b")), (Vec::new(), 1));
    let bench = evicting(Core::new(limits()).ideal());
    assert_eq!((bench.resident().len(), bench.loads("b")), (0, 0), "the victim was marked, and goes when idle");
}

#[test]
fn a_failing_load_is_its_requests_alone() {
    let mut bench = Bench::new(limits());
    let fails = LoadFault::Fails("out of memory".into());
    bench.core.upset_load("a", fails.clone());
    bench.ask(ask(1, "a"));
    bench.ask(ask(2, "a"));
    assert_eq!(bench.at(2), [Action::Failed { id: 1, why: fails }]);
    assert_eq!(bench.end(1), []);
    // the next one in the queue tries again
    assert_eq!(bench.at(4), [ready(2, 4)]);
    assert_eq!(bench.loads("a"), 2);
    assert_eq!(bench.core.counts()["a"].inside, 1);
}

#[test]
fn a_load_without_end_blocks_the_loader_until_its_client_leaves() {
    let mut bench = Bench::new(Limits { max_loaded: 3, ..limits() });
    bench.core.upset_load("a", LoadFault::NeverEnds);
    bench.ask(ask(1, "a"));
    bench.ask(ask(2, "b"));
    assert_eq!(bench.at(100_000), []);
    assert_eq!(bench.end(1), []);
    assert_eq!(bench.at(100_002), [ready(2, 100_002)]);
}

#[test]
fn weights_that_were_removed_load_no_more_but_what_is_loaded_stays() {
    let mut bench = Bench::new(limits());
    bench.ask(ask(1, "a"));
    bench.at(2);
    bench.ask(ask(2, "b"));
    bench.core.remove("a");
    bench.core.remove("b");
    assert_eq!(bench.ask(ask(3, "a")), [ready(3, 0)]);
    bench.end(1);
    // room is made for it, in vain
    assert_eq!(bench.end(3), [Action::Failed { id: 2, why: LoadFault::Missing }]);
    assert_eq!(bench.resident(), Vec::<String>::new());
}

#[test]
fn a_hung_runner_goes_when_its_callers_have_and_the_next_is_sound() {
    let mut bench = Bench::new(limits());
    assert_eq!(bench.upset("a", RunnerFault::Hangs), (false, vec![]), "nothing is loaded");
    bench.ask(ask(1, "a"));
    bench.at(2);
    assert!(bench.upset("a", RunnerFault::Hangs).0 && bench.core.hangs(1));
    assert_eq!(bench.ask(ask(2, "a")), [ready(2, 0)], "nobody notices");
    let now = bench.now();
    bench.core.expire(now, "a");
    bench.end(1);
    assert_eq!(bench.resident(), ["a:latest"]);
    bench.end(2);
    assert_eq!(bench.resident(), Vec::<String>::new());
    bench.ask(ask(3, "a"));
    bench.at(4);
    assert!(!bench.core.hangs(3));
}

#[test]
fn a_lost_slot_comes_back_with_the_next_load() {
    let mut bench = Bench::new(limits());
    for id in 1..=3 {
        bench.ask(ask(id, "a"));
    }
    bench.at(2);
    assert!(bench.upset("a", RunnerFault::LosesSlot).0);
    assert_eq!(bench.acquire((1, 0)), [Action::Slot((1, 0))]);
    assert_eq!(bench.acquire((2, 0)), [], "one of two is lost");
    bench.upset("a", RunnerFault::LosesSlot);
    assert_eq!(bench.end(1), [], "and now none is left");
    let now = bench.now();
    bench.core.expire(now, "a");
    assert_eq!(bench.resident(), ["a:latest"], "those that wait for a slot keep the runner");
    bench.end(2);
    bench.end(3);
    assert_eq!(bench.resident(), Vec::<String>::new());
    bench.ask(ask(4, "a"));
    bench.at(4);
    assert_eq!(bench.acquire((4, 0)), [Action::Slot((4, 0))]);
}

#[test]
fn a_runner_that_stays_blocks_whoever_needs_its_room() {
    let mut bench = Bench::new(limits());
    bench.ask(ask(1, "a"));
    bench.at(2);
    bench.upset("a", RunnerFault::Stays(true));
    bench.end(1);
    let now = bench.now();
    bench.core.expire(now, "a");
    bench.ask(ask(2, "b"));
    assert_eq!(bench.at(10_000), []);
    assert_eq!(bench.resident(), ["a:latest"]);
    bench.upset("a", RunnerFault::Stays(false));
    assert_eq!(bench.at(10_002), [ready(2, 10_000)]);
}

#[test]
fn every_input_of_a_batch_takes_the_single_slot_before_those_who_come_later() {
    let mut bench = Bench::new(limits());
    for id in 1..=2 {
        bench.ask(Ask { slots: 1, ..ask(id, "a") });
    }
    bench.at(2);
    assert_eq!(bench.acquire((1, 0)), [Action::Slot((1, 0))]);
    for input in 1..4 {
        assert_eq!(bench.acquire((1, input)), []);
    }
    assert_eq!(bench.acquire((2, 0)), []);
    for input in 0..3 {
        let now = bench.now();
        assert_eq!(bench.core.release(now, (1, input)), [Action::Slot((1, input + 1))]);
    }
    let now = bench.now();
    assert_eq!(bench.core.release(now, (1, 3)), [Action::Slot((2, 0))]);
}

/// What a client does next.
#[derive(Debug, Clone)]
enum Move {
    Ask { model: u8, num_ctx: u64, keep_alive: Option<u64> },
    Acquire(usize),
    Release(usize),
    End(usize),
    Wait(u64),
    Expire(u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..4_u8, prop_oneof![Just(4096_u64), Just(8192)], proptest::option::of(0..20_u64))
            .prop_map(|(model, num_ctx, keep_alive)| Move::Ask { model, num_ctx, keep_alive }),
        4 => any::<usize>().prop_map(Move::Acquire),
        1 => any::<usize>().prop_map(Move::Release),
        3 => any::<usize>().prop_map(Move::End),
        3 => (0..8_u64).prop_map(Move::Wait),
        1 => (0..4_u8).prop_map(Move::Expire),
    ];
    proptest::collection::vec(one, 1..200)
}

/// What the driver knows.
#[derive(Default)]
struct Seen {
    asked: BTreeMap<Id, String>,
    ready: BTreeSet<Id>,
    wanted: BTreeSet<Ticket>,
    slots: BTreeSet<Ticket>,
}

impl Seen {
    fn note(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Ready { id, .. } => {
                    assert!(self.asked.contains_key(&id), "{id} is ready and did not ask");
                    assert!(self.ready.insert(id), "{id} is ready twice");
                }
                Action::Failed { id, why } => panic!("the load for {id} failed by itself: {why:?}"),
                Action::Busy { id } => assert!(self.asked.remove(&id).is_some(), "{id} is refused and did not ask"),
                Action::Slot(ticket) => {
                    assert!(self.wanted.contains(&ticket), "{ticket:?} has a slot and wanted none");
                    assert!(self.slots.insert(ticket), "{ticket:?} has a slot twice");
                }
            }
        }
    }

    fn forget(&mut self, id: Id) {
        self.asked.remove(&id);
        self.ready.remove(&id);
        self.wanted.retain(|ticket| ticket.0 != id);
        self.slots.retain(|ticket| ticket.0 != id);
    }

    fn check(&self, core: &Core) {
        let mut busy: BTreeMap<&str, usize> = BTreeMap::new();
        for ticket in &self.slots {
            *busy.entry(&self.asked[&ticket.0]).or_default() += 1;
        }
        assert!(busy.values().all(|count| *count <= 2), "more slots in use than there are: {busy:?}");
        assert!(core.residents().len() <= 2, "more runners than allowed");
        let resident: Vec<String> = core.residents().iter().map(|resident| resident.tag.name.clone()).collect();
        for id in &self.ready {
            assert!(resident.contains(&format!("{}:latest", self.asked[id])), "a runner went under request {id}");
        }
        // a free slot is never kept from one who waits
        for ticket in self.wanted.difference(&self.slots) {
            assert_eq!(busy.get(self.asked[&ticket.0].as_str()), Some(&2), "{ticket:?} waits beside a free slot");
        }
    }
}

proptest! {
    #[test]
    fn any_history_keeps_the_invariants_and_ends_empty(moves in moves(), ideal in any::<bool>()) {
        let mut bench = Bench::new(Limits { max_loaded: 2, max_queue: 5, ..limits() });
        if ideal {
            bench.core = bench.core.ideal();
        }
        let mut seen = Seen::default();
        let pick = |from: Vec<Id>, at: usize| from.get(at % from.len().max(1)).copied();
        for (id, step) in (1..).zip(moves) {
            let actions = match step {
                Move::Ask { model, num_ctx, keep_alive } => {
                    let weights = format!("m{model}");
                    seen.asked.insert(id, weights.clone());
                    let keep_alive = keep_alive.map(seconds);
                    bench.ask(Ask { options: options(num_ctx), keep_alive, ..ask(id, &weights) })
                }
                Move::Acquire(at) => match pick(seen.ready.iter().copied().collect(), at) {
                    Some(id) if seen.wanted.insert((id, 0)) => bench.acquire((id, 0)),
                    _ => Vec::new(),
                },
                Move::Release(at) => match pick(seen.wanted.iter().map(|ticket| ticket.0).collect(), at) {
                    Some(id) => {
                        seen.wanted.remove(&(id, 0));
                        seen.slots.remove(&(id, 0));
                        bench.core.release(bench.now(), (id, 0))
                    }
                    None => Vec::new(),
                },
                Move::End(at) => match pick(seen.asked.keys().copied().collect(), at) {
                    Some(id) => {
                        seen.forget(id);
                        bench.end(id)
                    }
                    None => Vec::new(),
                },
                Move::Wait(for_seconds) => bench.at(bench.second + for_seconds),
                Move::Expire(model) => bench.core.expire(bench.now(), &format!("m{model}")),
            };
            seen.note(actions);
            seen.check(&bench.core);
        }
        // once everyone has left, every slot and place is free again
        for id in seen.asked.keys().copied().collect::<Vec<_>>() {
            seen.forget(id);
            let actions = bench.end(id);
            seen.note(actions);
        }
        bench.at(bench.second + 10_000);
        prop_assert!(bench.resident().is_empty());
        prop_assert!(bench.core.counts().values().all(|counts| counts.inside == 0));
        prop_assert!(bench.core.counts().values().all(|counts| counts.peak_running <= 2));
        prop_assert!(!ideal || bench.core.counts().values().all(|counts| counts.leaked_handlers == 0));
    }
}

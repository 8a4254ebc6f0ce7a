//! Sequences that once stood still, starved somebody, or broke a promise.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;

const B: EndpointId = EndpointId(1);

struct Desk {
    core: Core,
    now: f64,
    next: u64,
}
impl Desk {
    fn new(rooms: &[Room]) -> Self {
        Self { core: Core::new(Bounds { queued: 100_000, queued_bytes: usize::MAX }, rooms), now: 1.0, next: 0 }
    }
    fn step(&mut self, input: Input) -> Vec<Decision> {
        let mut out = Vec::new();
        self.core.step(Moment::from_start(Duration::from_secs_f64(self.now)), input, &mut out);
        out
    }
    fn at(&mut self, now: f64) -> Vec<Decision> {
        self.now = now;
        self.step(Input::Tick)
    }
    fn submit(&mut self, app: &str, weights: &str, edit: impl FnOnce(&mut Ticket)) -> (TicketId, Vec<Decision>) {
        self.next += 1;
        let mut t = ticket(self.next, app, weights);
        edit(&mut t);
        let id = t.id;
        (id, self.step(Input::Submit(Box::new(t))))
    }
    fn loaded(&mut self, endpoint: EndpointId, weights: &str) -> Vec<Decision> {
        self.step(Input::Loaded { endpoint, weights: weights.into(), result: Ok(()) })
    }
    fn done(&mut self, id: TicketId) -> Vec<Decision> {
        self.step(Input::Finish { id, observed: Observed { complete: true, ..Observed::default() } })
    }
    /// Its first word is its last, and tells this.
    fn ends(&mut self, id: TicketId, observed: Observed) -> Vec<Decision> {
        self.step(Input::Began(id));
        self.step(Input::Finish { id, observed: Observed { complete: true, ..observed } })
    }
    fn state(&self, endpoint: EndpointId, weights: &str) -> &'static str {
        self.core
            .view()
            .runners
            .iter()
            .find(|r| r.endpoint == endpoint && &*r.weights == weights)
            .map_or("none", |r| r.state)
    }
    fn tick_until(&mut self, end: f64) -> Vec<Decision> {
        let mut all = Vec::new();
        let mut steps = 0;
        while let Some(at) = self.core.next_tick().map(|at| at.since_start().as_secs_f64()).filter(|at| *at <= end) {
            self.now = at.max(self.now + 1e-6);
            all.extend(self.step(Input::Tick));
            steps += 1;
            if steps > 100_000 {
                break;
            }
        }
        self.now = end;
        all.extend(self.step(Input::Tick));
        all
    }
}
fn loads(out: &[Decision]) -> Vec<(EndpointId, String)> {
    out.iter()
        .filter_map(|d| match d {
            Decision::Residency(ResidencyCommand::Load { endpoint, weights, .. }) => {
                Some((*endpoint, weights.to_string()))
            }
            _ => None,
        })
        .collect()
}
fn unloads(out: &[Decision]) -> Vec<(EndpointId, String)> {
    out.iter()
        .filter_map(|d| match d {
            Decision::Residency(ResidencyCommand::Unload { endpoint, weights, .. }) => {
                Some((*endpoint, weights.to_string()))
            }
            _ => None,
        })
        .collect()
}
fn admitted(out: &[Decision]) -> Vec<TicketId> {
    out.iter()
        .filter_map(|d| match d {
            Decision::Admit { id, .. } => Some(*id),
            _ => None,
        })
        .collect()
}
fn room(bytes: Option<u64>, models: u32) -> Room {
    Room { bytes, models, gpus: GpuSet::default() }
}

#[test]
fn a_model_that_cannot_be_placed_now_does_not_keep_others_out() {
    let mut d = Desk::new(&[room(Some(100), 3)]);
    let (p, _) = d.submit("p", "pinned", |t| {
        t.seats[0].need = 40;
        t.seats[0].keep_alive = Duration::MAX;
    });
    d.loaded(GPU, "pinned");
    d.done(p);
    // fits the endpoint (60 <= 100), but never beside the pinned one (60 > 0.8 * 60)
    d.submit("x", "big", |t| t.seats[0].need = 60);
    d.now += 1.0;
    let (_, out) = d.submit("y", "small", |t| t.seats[0].need = 10);
    let mut all = out;
    all.extend(d.tick_until(5000.0));
    assert!(loads(&all).contains(&(GPU, "small".into())), "small fits beside the pinned one and never comes");
}

#[test]
fn a_swap_at_an_endpoint_that_went_down_does_not_keep_the_model_from_another() {
    let mut d = Desk::new(&[room(None, 1); 2]);
    let (a, _) = d.submit("a", "a", |t| t.seats = vec![seat(GPU, 2)]);
    d.loaded(GPU, "a");
    // B is busy as well at first: down, so that the swap begins on GPU
    d.step(Input::Endpoint { id: B, usable: false, answers: false });
    d.now += 100.0;
    d.submit("p", "p", |t| t.seats = vec![seat(GPU, 2), seat(B, 2)]);
    d.tick_until(200.0);
    assert_eq!(d.state(GPU, "a"), "draining");
    d.step(Input::Endpoint { id: GPU, usable: false, answers: false });
    let mut all = d.done(a); // its call broke with the server
    all.extend(d.step(Input::Endpoint { id: B, usable: true, answers: true }));
    all.extend(d.tick_until(10_000.0));
    assert_eq!(loads(&all), [(B, "p".to_owned())], "B is well and empty");
}

#[test]
fn an_endpoint_that_went_down_in_a_swap_does_not_block_its_gpus_neighbour() {
    let both = Room { bytes: None, models: 3, gpus: GpuSet::of([0]) };
    let mut d = Desk::new(&[both; 2]);
    d.step(Input::Gpu { place: 0, total: 100, used: 0 });
    let (a, _) = d.submit("a", "a", |t| {
        t.seats = vec![seat(GPU, 2)];
        t.seats[0].need = 60;
    });
    d.loaded(GPU, "a");
    d.now += 100.0;
    // a swap at GPU that drains
    d.submit("b", "b", |t| {
        t.seats = vec![seat(GPU, 2)];
        t.seats[0].need = 60;
    });
    d.tick_until(200.0);
    assert_eq!(d.state(GPU, "a"), "draining");
    d.step(Input::Endpoint { id: GPU, usable: false, answers: false });
    d.done(a);
    let (_, mut all) = d.submit("c", "c", |t| {
        t.seats = vec![seat(B, 2)];
        t.seats[0].need = 10;
    });
    all.extend(d.tick_until(10_000.0));
    assert_eq!(loads(&all), [(B, "c".to_owned())]);
}

#[test]
fn a_failed_unload_next_door_does_not_let_a_load_overfill_the_gpu() {
    let both = Room { bytes: None, models: 3, gpus: GpuSet::of([0]) };
    let mut d = Desk::new(&[both; 2]);
    d.step(Input::Gpu { place: 0, total: 100, used: 0 });
    let (a, _) = d.submit("a", "a", |t| {
        t.seats = vec![seat(GPU, 2)];
        t.seats[0].need = 60;
    });
    d.loaded(GPU, "a");
    d.done(a);
    d.now += 100.0;
    let (_, mut all) = d.submit("c", "c", |t| {
        t.seats = vec![seat(B, 2)];
        t.seats[0].need = 60;
    });
    all.extend(d.tick_until(200.0));
    assert_eq!(unloads(&all), [(GPU, "a".to_owned())]);
    d.step(Input::Unloaded { endpoint: GPU, weights: "a".into(), gone: false });
    let planned = d.core.planned(GPU).0 + d.core.planned(B).0;
    assert!(planned <= 100, "{planned} of 100: a {}, c {}", d.state(GPU, "a"), d.state(B, "c"));
}

#[test]
fn a_runner_that_is_being_unloaded_is_not_asked_to_go_again() {
    let mut d = Desk::new(&[room(Some(100), 5)]);
    for m in ["a", "b"] {
        let (id, _) = d.submit(m, m, |t| t.seats[0].need = 40);
        d.loaded(GPU, m);
        d.done(id);
    }
    d.now += 100.0;
    d.submit("c", "c", |t| t.seats[0].need = 90);
    d.tick_until(110.0);
    d.step(Input::Unloaded { endpoint: GPU, weights: "a".into(), gone: false });
    let all = d.tick_until(140.0);
    assert!(!unloads(&all).contains(&(GPU, "b".into())), "{:?}", unloads(&all));
}

#[test]
fn a_runner_with_no_keep_alive_does_not_spin_the_timer() {
    let mut d = Desk::new(&[room(None, 3)]);
    d.submit("a", "a", |t| t.seats[0].keep_alive = Duration::ZERO);
    d.now += 2.0;
    d.loaded(GPU, "a");
    let now = Moment::from_start(Duration::from_secs_f64(d.now));
    let next = d.core.next_tick().unwrap();
    assert!(next > now, "the next tick is due at once, while nothing can be done");
}

#[test]
fn a_long_batch_request_gets_the_least_share_of_its_class() {
    let work = |app: &str| if app == "night" { 200.0 } else { 2.6 };
    let mut world = World::roomy();
    // taught that night's answers are long: 60 s of service
    for _ in 0..4000 {
        world.submit(|t| t.class = Class::Interactive, "ui", &work);
    }
    for _ in 0..40 {
        world.submit(
            |t| {
                t.class = Class::Batch;
                t.work.output_cap = None;
                t.work.prompt_bytes = 4 * 800 * 200;
            },
            "night",
            &work,
        );
    }
    while world.now < 2400.0 {
        world.run_one(&work);
    }
    assert!(world.served.contains_key("night"), "in 2400 s: {:?}", world.served);
}

#[test]
fn the_first_of_a_line_that_may_run_elsewhere_only_does_not_hold_the_others() {
    let mut d = Desk::new(&[room(None, 3); 2]);
    let two = |t: &mut Ticket| t.seats = vec![seat(GPU, 1), seat(B, 1)];
    let (x, _) = d.submit("x", "m", two);
    d.loaded(GPU, "m");
    let asked = Moment::from_start(Duration::from_secs_f64(d.now + 1.0));
    d.now += 2.0;
    let order = seat(B, 1).order;
    d.step(Input::Seen {
        endpoint: B,
        asked,
        residents: vec![Sighting { weights: "m".into(), bytes: 10, slots: 1, order }],
    });
    let (y, out) = d.submit("y", "m", two);
    assert_eq!(admitted(&out), [y]);
    // x's first try failed at GPU: it may run at B only, where y runs for long
    d.done(x);
    d.submit("x", "m", |t| {
        t.seats = vec![seat(B, 1)];
        t.again = Some(Moment::ZERO);
    });
    let (z, out) = d.submit("x", "m", two);
    assert_eq!(admitted(&out), [z], "GPU has a free slot");
}

#[test]
fn a_spilled_model_that_worked_is_not_refused_for_ever() {
    let mut d = Desk::new(&[room(Some(100), 3)]);
    let (a, _) = d.submit("a", "a", |t| t.seats[0].need = 90);
    d.loaded(GPU, "a");
    d.now += 1.0;
    let asked = Moment::from_start(Duration::from_secs_f64(d.now));
    d.now += 1.0;
    let order = seat(GPU, 2).order;
    d.step(Input::Seen {
        endpoint: GPU,
        asked,
        residents: vec![Sighting { weights: "a".into(), bytes: 110, slots: 1, order }],
    });
    d.done(a);
    d.now += 5.0;
    let asked = Moment::from_start(Duration::from_secs_f64(d.now));
    d.now += 1.0;
    d.step(Input::Seen { endpoint: GPU, asked, residents: vec![] });
    d.now += 5000.0;
    let (_, out) = d.submit("a", "a", |t| t.seats[0].need = 90);
    assert!(!out.iter().any(|d| matches!(d, Decision::Refuse { .. })), "{out:?}");
}

#[test]
fn a_load_that_ran_out_of_time_gets_more_the_next_time() {
    let mut d = Desk::new(&[room(None, 3)]);
    let (a, _) = d.submit("a", "a", |_| {});
    d.now += 1.0;
    d.loaded(GPU, "a");
    d.done(a);
    d.now += 5.0;
    let asked = Moment::from_start(Duration::from_secs_f64(d.now));
    d.now += 1.0;
    d.step(Input::Seen { endpoint: GPU, asked, residents: vec![] });
    let mut within = Vec::new();
    for _ in 0..6 {
        let (_, mut out) = d.submit("a", "a", |_| {});
        out.extend(d.at(d.now + 1.0));
        for decision in out {
            if let Decision::Residency(ResidencyCommand::Load { within: w, .. }) = decision {
                within.push(w.as_secs_f64());
                d.now += w.as_secs_f64();
                d.step(Input::Loaded {
                    endpoint: GPU,
                    weights: "a".into(),
                    result: Err("no answer in time".to_owned().into()),
                });
            }
        }
        d.now += 70.0;
    }
    assert!(within.windows(2).any(|w| w[1] > w[0]), "a disk that got slower is never waited for: {within:?}");
}

#[test]
fn a_displacing_swap_whose_load_fails_is_paid_for() {
    let work = |_: &str| 1.0;
    let mut d = Desk::new(&[room(None, 1)]);
    let _ = work;
    let (_, _) = d.submit("a", "a", |_| {});
    d.now += 2.0;
    d.loaded(GPU, "a");
    for _ in 0..50 {
        d.submit("a", "a", |_| {});
    }
    d.now += 100.0;
    d.step(Input::Tick);
    let (_, out) = d.submit("x", "x", |_| {});
    let mut all = out;
    all.extend(d.tick_until(d.now + 60.0));
    assert_eq!(d.state(GPU, "a"), "draining");
    let running: Vec<_> = d.core.running.keys().copied().collect();
    for id in running {
        d.done(id);
    }
    d.now += 1.0;
    let out = d.step(Input::Unloaded { endpoint: GPU, weights: "a".into(), gone: true });
    assert_eq!(loads(&out).len(), 1);
    d.now += 20.0;
    let before = d.core.view().sites[0].clone();
    d.step(Input::Loaded { endpoint: GPU, weights: "x".into(), result: Err("out of memory".to_owned().into()) });
    let after = d.core.view().sites[0].clone();
    assert!(before.book.displacing > 0.0, "{before:?}");
    assert!(
        after.credit < before.credit - 1.0,
        "{} s were lost to it, credit {} before, {} after",
        after.book.displacing,
        before.credit,
        after.credit
    );
}

#[test]
fn what_an_application_got_elsewhere_does_not_starve_it_here() {
    let work = |_: &str| 1.0;
    let mut world = World::roomy();
    let on = |app: &'static str| {
        move |t: &mut Ticket| {
            if app == "z" {
                t.weights = "a".into();
            } else {
                t.weights = "b".into();
            }
        }
    };
    const OTHERS: [&str; 10] = ["o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8", "o9"];
    for _ in 0..2 {
        world.submit(on("z"), "z", &work);
        for app in OTHERS {
            world.submit(on(app), app, &work);
        }
    }
    while world.now < 3600.0 {
        let app = world.run_one(&work).unwrap();
        let name = if app == "z" { "z" } else { *OTHERS.iter().find(|o| **o == app).unwrap() };
        world.submit(on(name), name, &work);
    }
    // z wants b as well, as everybody else there does
    let at = world.now;
    let id = world.submit(|t| t.weights = "b".into(), "z", &work);
    while !world.running.contains_key(&id) && !world.ended.contains(&id) && world.now < at + 7200.0 {
        let app = world.run_one(&work).unwrap();
        let name = if app == "z" { "z" } else { *OTHERS.iter().find(|o| **o == app).unwrap() };
        if name != "z" {
            world.submit(on(name), name, &work);
        }
    }
    let waited = world.now - at;
    assert!(
        waited < 120.0,
        "eleven applications share two slots of 1 s answers, and z waited {waited} s: {:?}",
        world.served
    );
}

#[test]
fn a_hung_runner_is_healed_though_its_endpoint_was_ejected() {
    let mut d = Desk::new(&[room(None, 3)]);
    let (a, _) = d.submit("a", "a", |_| {});
    d.loaded(GPU, "a");
    d.now += 200.0;
    let out = d.step(Input::Tick);
    assert!(out.iter().any(|d| matches!(d, Decision::Residency(ResidencyCommand::Probe { .. }))));
    d.step(Input::Endpoint { id: GPU, usable: false, answers: true }); // two callers left after 30 s of silence
    d.now += 60.0;
    let mut all = d.step(Input::Probed { endpoint: GPU, weights: "a".into(), alive: false });
    all.extend(d.step(Input::Finish { id: a, observed: Observed::default() }));
    all.extend(d.tick_until(10_000.0));
    assert_eq!(unloads(&all).len(), 1, "the token probe that would bring the endpoint back can never succeed");
}

#[test]
fn a_long_answer_in_one_piece_on_a_single_slot_is_not_taken_for_a_hang() {
    let mut d = Desk::new(&[room(None, 3)]);
    let one = |t: &mut Ticket| {
        t.streams = false;
        t.seats = vec![seat(GPU, 1)];
        t.work.output_cap = Some(8000);
    };
    let mut started = d.submit("a", "a", one).0;
    d.loaded(GPU, "a");
    // five usual answers: 40 tokens in a second
    for _ in 0..5 {
        d.now += 1.0;
        d.step(Input::Began(started));
        d.step(Input::Finish {
            id: started,
            observed: Observed {
                prompt_tokens: 100,
                prompt_seconds: 0.1,
                output_tokens: 40,
                output_seconds: 0.9,
                slot_wait: 0.0,
                complete: true,
            },
        });
        started = d.submit("a", "a", one).0;
    }
    // a sixth that is allowed 8000 tokens and makes 4000: 100 s. Its only slot is taken, so a probe waits behind it
    let begun = d.now;
    let mut recalled = None;
    while d.now < begun + 100.0 {
        d.now += 1.0;
        for decision in d.step(Input::Tick) {
            if let Decision::Residency(ResidencyCommand::Probe { within, .. }) = decision {
                d.now += within.as_secs_f64();
                let out = d.step(Input::Probed { endpoint: GPU, weights: "a".into(), alive: false });
                if out.iter().any(|d| matches!(d, Decision::Recall { .. })) {
                    recalled.get_or_insert(d.now - begun);
                }
            }
        }
    }
    assert_eq!(recalled, None, "taken back after so many seconds, and would be again");
}

#[test]
fn a_model_seen_elsewhere_does_not_keep_it_from_where_it_is_wanted() {
    let mut d = Desk::new(&[room(None, 1); 2]);
    d.step(Input::Endpoint { id: B, usable: false, answers: false });
    // x may use B only
    d.submit("x", "m", |t| {
        t.seats = vec![seat(B, 1)];
        t.seats[0].guess = 100.0;
    });
    let asked = Moment::from_start(Duration::from_secs_f64(d.now + 0.1));
    d.now += 0.2;
    let order = seat(GPU, 1).order;
    let mut all = d.step(Input::Seen {
        endpoint: GPU,
        asked,
        residents: vec![Sighting { weights: "m".into(), bytes: 10, slots: 1, order }],
    });
    all.extend(d.step(Input::Endpoint { id: B, usable: true, answers: true }));
    all.extend(d.tick_until(3000.0));
    assert!(loads(&all).contains(&(B, "m".into())), "{:?} m {}", loads(&all), d.state(B, "m"));
}

#[test]
fn one_absurd_count_does_not_poison_estimates() {
    let mut d = Desk::new(&[room(None, 3)]);
    let free = |t: &mut Ticket| t.work.output_cap = None;
    let mut id = d.submit("a", "a", free).0;
    d.loaded(GPU, "a");
    for n in 0..30 {
        d.now += 1.0;
        let output_tokens = if n == 5 { u64::MAX } else { 40 };
        d.step(Input::Finish {
            id,
            observed: Observed {
                prompt_tokens: 100,
                prompt_seconds: 0.1,
                output_tokens,
                output_seconds: if n == 5 { 0.0 } else { 0.9 },
                slot_wait: 0.0,
                complete: true,
            },
        });
        id = d.submit("a", "a", free).0;
    }
    d.submit("a", "a", free);
    d.submit("a", "a", free);
    let now = Moment::from_start(Duration::from_secs_f64(d.now));
    let (_, out) = d.submit("a", "a", |t| {
        t.work.output_cap = None;
        t.deadline = now.after(Duration::from_secs(3600));
    });
    assert!(!out.iter().any(|d| matches!(d, Decision::Refuse { .. })), "{out:?}");
}

#[test]
fn a_runner_with_other_options_is_reloaded_by_us_not_inside_ollama() {
    let mut d = Desk::new(&[room(Some(100), 3)]);
    let asked = Moment::from_start(Duration::from_secs_f64(d.now));
    d.now += 0.2;
    let tokens = Json::known("4096");
    let order = Arc::new(LoadOrder {
        model: "m".into(),
        options: vec![("num_ctx".into(), tokens)],
        keep_alive: Duration::from_secs(900),
        embeds: false,
    });
    d.step(Input::Seen {
        endpoint: GPU,
        asked,
        residents: vec![Sighting { weights: "m".into(), bytes: 10, slots: 1, order }],
    });
    let value = Json::known("32768");
    let order = Arc::new(LoadOrder {
        model: "m".into(),
        options: vec![("num_ctx".into(), value)],
        keep_alive: Duration::from_secs(900),
        embeds: false,
    });
    let (_, out) = d.submit("x", "m", |t| {
        t.seats[0].order = order;
        t.seats[0].need = 80;
    });
    assert!(admitted(&out).is_empty(), "Ollama reloads it under this request, with memory nobody planned");
}

#[test]
fn an_idle_unload_that_others_prevent_does_not_stop_the_whole_endpoint() {
    let mut d = Desk::new(&[room(None, 3)]);
    let (a, _) = d.submit("a", "a", |_| {});
    d.loaded(GPU, "a");
    d.done(a);
    // somebody uses "theirs" directly, all the time: it is never gone
    let order = seat(GPU, 1).order;
    let (mut out_for, mut asked_for) = (0.0, 0);
    let mut late = Vec::new();
    let up = |d: &mut Desk| {
        let asked = Moment::from_start(Duration::from_secs_f64(d.now - 0.1));
        let residents =
            ["a", "theirs"].map(|w| Sighting { weights: w.into(), bytes: 10, slots: 1, order: order.clone() }).to_vec();
        d.step(Input::Seen { endpoint: GPU, asked, residents })
    };
    for second in 10..3600 {
        d.now = f64::from(second);
        let mut all = up(&mut d);
        all.extend(d.step(Input::Tick));
        all.extend(std::mem::take(&mut late));
        for (e, w) in unloads(&all) {
            asked_for += 1;
            d.now += 0.5;
            late.extend(d.step(Input::Unloaded { endpoint: e, weights: w.into(), gone: false }));
        }
        d.now = f64::from(second) + 0.9;
        let (id, out) =
            d.submit("a", "a", |t| t.deadline = Moment::ZERO.after(Duration::from_secs_f64(f64::from(second) + 0.95)));
        if admitted(&out) == [id] {
            late.extend(d.done(id));
        } else {
            out_for += 1.0;
        }
        late.extend(out);
    }
    assert!(
        out_for < 60.0,
        "model a is in memory and idle, and could not be used for {out_for} s of an hour ({asked_for} unloads)"
    );
}

#[test]
fn what_a_swap_cost_that_nobody_waited_for_in_the_end_is_paid_for() {
    let mut d = Desk::new(&[room(None, 1)]);
    d.submit("a", "a", |_| {});
    d.now += 2.0;
    d.loaded(GPU, "a");
    for _ in 0..50 {
        d.submit("a", "a", |_| {});
    }
    d.now += 100.0;
    d.step(Input::Tick);
    let (x, out) = d.submit("x", "x", |_| {});
    let mut all = out;
    all.extend(d.tick_until(d.now + 60.0));
    let running: Vec<_> = d.core.running.keys().copied().collect();
    for id in running {
        d.done(id);
    }
    d.step(Input::Withdraw(x));
    d.now += 5.0;
    let before = d.core.view().sites[0].clone();
    let out = d.step(Input::Unloaded { endpoint: GPU, weights: "a".into(), gone: true });
    let after = d.core.view().sites[0].clone();
    assert!(after.book.displacing > 4.0, "{after:?}");
    assert!(
        after.credit < before.credit - 1.0,
        "{} s lost, credit {} and {}; {:?}",
        after.book.displacing,
        before.credit,
        after.credit,
        loads(&out)
    );
}

#[test]
fn a_probe_that_nobody_answered_counts_though_the_silent_caller_has_left() {
    let mut d = Desk::new(&[room(None, 3)]);
    let (a, _) = d.submit("a", "a", |_| {});
    d.loaded(GPU, "a");
    d.now += 200.0;
    let out = d.step(Input::Tick);
    assert!(out.iter().any(|d| matches!(d, Decision::Residency(ResidencyCommand::Probe { .. }))));
    d.now += 10.0;
    d.step(Input::Finish { id: a, observed: Observed::default() }); // its caller had enough
    d.now += 50.0;
    // both slots are free, and one token did not come within a minute
    let mut all = d.step(Input::Probed { endpoint: GPU, weights: "a".into(), alive: false });
    all.extend(d.tick_until(2_000.0));
    assert_eq!(unloads(&all).len(), 1, "known to hang, and kept");
}

#[test]
fn a_hang_is_not_charged_to_the_application_that_suffered_it() {
    let mut d = Desk::new(&[room(None, 3)]);
    let (a, _) = d.submit("a", "a", |_| {});
    d.loaded(GPU, "a");
    d.now += 200.0;
    d.step(Input::Tick);
    d.now += 60.0;
    d.step(Input::Probed { endpoint: GPU, weights: "a".into(), alive: false });
    d.step(Input::Finish { id: a, observed: Observed::default() });
    let tag = d.core.apps[0].tag();
    assert!(tag < 30.0, "{tag} s of service that it never had");
}

#[test]
fn strangers_that_come_while_a_model_waits_do_not_stop_the_others() {
    let gpu = Room { bytes: None, models: 3, gpus: GpuSet::of([0]) };
    let mut d = Desk::new(&[gpu]);
    d.step(Input::Gpu { place: 0, total: 100, used: 0 });
    let (a, _) = d.submit("a", "a", |t| {
        t.seats[0].need = 10;
        t.seats[0].slots = 1;
    });
    d.loaded(GPU, "a");
    d.now += 1.0;
    d.submit("x", "big", |t| t.seats[0].need = 95);
    d.now += 1.0;
    d.step(Input::Gpu { place: 0, total: 100, used: 70 }); // a game of 60 beside our 10
    let mut all = d.done(a);
    all.extend(d.submit("y", "small", |t| t.seats[0].need = 5).1);
    all.extend(d.tick_until(500.0));
    for (e, w) in unloads(&all) {
        all.extend(d.step(Input::Unloaded { endpoint: e, weights: w.into(), gone: true }));
    }
    all.extend(d.tick_until(5000.0));
    assert!(loads(&all).contains(&(GPU, "small".into())), "{:?} {:?}", loads(&all), unloads(&all));
}

#[test]
fn waiting_for_an_earlier_turn_does_not_poll() {
    let mut d = Desk::new(&[room(None, 1)]);
    let (a, _) = d.submit("x", "a", |_| {});
    d.now += 2.0;
    d.loaded(GPU, "a");
    d.done(a);
    d.now += 600.0;
    // y has had little and works on a; x, who has had more, wants b
    for _ in 0..4 {
        d.submit("y", "a", |_| {});
    }
    for app in &mut d.core.apps {
        if app.name.as_str() == "x" {
            app.pay(500.0);
        }
    }
    d.submit("x", "b", |_| {});
    let (mut steps, end) = (0, d.now + 10.0);
    while let Some(at) = d.core.next_tick().map(|at| at.since_start().as_secs_f64()).filter(|at| *at <= end) {
        d.now = at.max(d.now + 1e-6);
        d.step(Input::Tick);
        steps += 1;
    }
    assert!(steps < 100, "{steps} steps in ten seconds in which nothing happened");
}

/// Four answers of 40 tokens in a second, so that the speed is known.
fn learn(d: &mut Desk) {
    for _ in 0..4 {
        let (id, _) = d.submit("a", "a", |_| {});
        if d.state(GPU, "a") == "loading" {
            d.loaded(GPU, "a");
        }
        d.now += 1.0;
        d.step(Input::Began(id));
        let observed = Observed {
            prompt_tokens: 100,
            prompt_seconds: 0.1,
            output_tokens: 40,
            output_seconds: 0.9,
            complete: true,
            ..Observed::default()
        };
        d.step(Input::Finish { id, observed });
    }
}

fn probes(out: &[Decision]) -> usize {
    out.iter().filter(|d| matches!(d, Decision::Residency(ResidencyCommand::Probe { .. }))).count()
}

#[test]
fn an_answer_that_stops_in_the_middle_is_taken_back_where_a_token_does_not_come_to_a_free_slot() {
    let mut d = Desk::new(&[room(None, 3)]);
    learn(&mut d);
    let (hung, _) = d.submit("a", "a", |_| {});
    d.step(Input::Began(hung));
    assert_eq!(d.core.pause(hung), LEAST_SILENCE, "fifty tokens are quicker than that");
    d.now += 20.0;
    assert_eq!(probes(&d.step(Input::Hushed(hung))), 1);
    d.now += 5.0;
    let out = d.step(Input::Probed { endpoint: GPU, weights: "a".into(), alive: false });
    assert!(out.iter().any(|d| matches!(d, Decision::Recall { id } if *id == hung)), "{out:?}");
    let mut all = d.done(hung);
    all.extend(d.tick_until(200.0));
    assert_eq!(unloads(&all).len(), 1, "loaded anew");
}

#[test]
fn an_answer_that_only_pauses_is_left_alone() {
    let mut d = Desk::new(&[room(None, 3)]);
    learn(&mut d);
    // one that goes on while the token is asked for
    let (slow, _) = d.submit("a", "a", |_| {});
    d.step(Input::Began(slow));
    d.now += 20.0;
    assert_eq!(probes(&d.step(Input::Hushed(slow))), 1);
    d.step(Input::Began(slow));
    d.now += 60.0;
    let out = d.step(Input::Probed { endpoint: GPU, weights: "a".into(), alive: true });
    assert!(out.is_empty() && unloads(&d.tick_until(300.0)).is_empty());
    // and where every slot is taken, a token would wait behind answers that may be long tool calls
    let (other, _) = d.submit("a", "a", |_| {});
    d.step(Input::Began(other));
    assert_eq!(d.core.active(GPU), 2);
    let out = d.step(Input::Hushed(slow));
    assert_eq!((probes(&out), hushed(&out)), (0, 0), "the other one speaks");
    // but where none of them says anything, that is told once
    let out = d.step(Input::Hushed(other));
    assert_eq!((probes(&out), hushed(&out)), (0, 1));
    let out = d.tick_until(600.0);
    assert_eq!(probes(&out) + hushed(&out), 0);
    d.step(Input::Began(slow));
    assert_eq!(hushed(&d.step(Input::Hushed(slow))), 1, "and again after a word");
}

fn hushed(out: &[Decision]) -> usize {
    out.iter().filter(|decision| matches!(decision, Decision::Notice(Notice::Hushed { .. }))).count()
}

/// A probe that arrives after the unload would load the model again, inside the server.
#[test]
fn what_is_asked_for_a_token_goes_once_that_is_answered() {
    let mut d = Desk::new(&[room(None, 1)]);
    learn(&mut d);
    let (slow, _) = d.submit("a", "a", |_| {});
    d.step(Input::Began(slow));
    d.now += 20.0;
    assert_eq!(probes(&d.step(Input::Hushed(slow))), 1);
    let (b, _) = d.submit("b", "b", |_| {});
    d.step(Input::Withdraw(slow));
    d.done(slow);
    assert_eq!(unloads(&d.tick_until(d.now + 30.0)), []);
    assert!(d.core.estimate(b).unwrap().wait < Duration::from_secs(30), "a wait for it can be foretold");
    let out = d.step(Input::Probed { endpoint: GPU, weights: "a".into(), alive: true });
    assert_eq!(unloads(&out), [(GPU, "a".to_owned())]);
}

#[test]
fn what_a_server_once_could_not_do_is_tried_again() {
    let mut d = Desk::new(&[room(None, 3)]);
    learn(&mut d);
    // pairs of which the second waits inside for the first: a slot is lost, and after the reload it is still
    let pair = |d: &mut Desk, slot_wait: f64| {
        let ids = [d.submit("a", "a", |_| {}).0, d.submit("a", "a", |_| {}).0];
        d.now += 4.0;
        d.ends(ids[0], Observed::default());
        d.now += 1.0;
        d.ends(ids[1], Observed { slot_wait, ..Observed::default() });
        if d.state(GPU, "a") == "unloading" {
            d.step(Input::Unloaded { endpoint: GPU, weights: "a".into(), gone: true });
            d.loaded(GPU, "a");
        }
    };
    let open = |d: &Desk| d.core.pools[0].runners[&GPU].open();
    for _ in 0..10 {
        pair(&mut d, 4.0);
    }
    assert_eq!(open(&d), 1, "the smaller number is believed");
    d.now += 300.0;
    pair(&mut d, 0.0);
    assert_eq!(open(&d), 2);
    // nothing was mended: known again without a reload
    let before = d.core.pools[0].runners[&GPU].since;
    for _ in 0..4 {
        pair(&mut d, 4.0);
    }
    assert_eq!((open(&d), d.core.pools[0].runners[&GPU].since), (1, before));
    // and believed for twice as long; once it was mended, that is forgotten
    d.now += 500.0;
    pair(&mut d, 0.0);
    assert_eq!(open(&d), 1);
    d.now += 100.0;
    for _ in 0..20 {
        pair(&mut d, 0.0);
    }
    assert_eq!(open(&d), 2);
    for _ in 0..10 {
        pair(&mut d, 4.0);
    }
    assert_eq!(open(&d), 1);
    d.now += 300.0;
    pair(&mut d, 0.0);
    assert_eq!(open(&d), 2);
}

#[test]
fn what_waits_inside_for_somebodys_prompt_has_its_slot() {
    let mut d = Desk::new(&[room(None, 3)]);
    learn(&mut d);
    let trouble = |d: &mut Desk| d.core.pools[0].runners[&GPU].health.reload;
    // one reads 4 s and says a word, the other waits so long for the first of the shared batches; nobody ends, or at once
    let long = Observed { prompt_seconds: 4.0, output_seconds: 0.1, ..Observed::default() };
    let short = Observed { slot_wait: 4.0, output_seconds: 0.1, ..Observed::default() };
    for round in 0..20 {
        let ids = [d.submit("a", "a", |_| {}).0, d.submit("a", "a", |_| {}).0];
        d.now += 4.1;
        let order = if round % 2 == 0 { [(ids[0], long), (ids[1], short)] } else { [(ids[1], short), (ids[0], long)] };
        for (id, seen) in order {
            d.ends(id, seen);
        }
        d.now += 1.0;
        assert!(!trouble(&mut d), "round {round}");
    }
    // the second waits for the first to end
    for _ in 0..3 {
        let ids = [d.submit("a", "a", |_| {}).0, d.submit("a", "a", |_| {}).0];
        d.now += 4.0;
        d.ends(ids[0], Observed { prompt_seconds: 0.5, output_seconds: 3.4, ..Observed::default() });
        d.now += 1.0;
        d.ends(ids[1], Observed { slot_wait: 4.0, output_seconds: 0.9, ..Observed::default() });
    }
    assert!(trouble(&mut d), "the same figures mean a lost slot where a slot came free then");
}

#[test]
fn a_slot_too_many_is_found_although_not_every_answer_waits_for_one() {
    let mut d = Desk::new(&[room(None, 3)]);
    learn(&mut d);
    let mut waits = [0.7, 0.0, 0.9, 0.0, 0.3, 0.0, 0.6, 0.0].into_iter().cycle();
    for _ in 0..24 {
        let ids = [d.submit("a", "a", |_| {}).0, d.submit("a", "a", |_| {}).0];
        let slot_wait = waits.next().unwrap();
        d.now += slot_wait;
        d.done(ids[0]);
        d.now += 0.4;
        d.step(Input::Finish { id: ids[1], observed: Observed { slot_wait, complete: true, ..Observed::default() } });
        if d.core.pools[0].runners[&GPU].health.reload {
            return;
        }
    }
    panic!("never found");
}

#[test]
fn a_runner_that_vanished_is_paid_for_by_whom_it_served() {
    let mut d = Desk::new(&[room(None, 3)]);
    let (a, _) = d.submit("a", "a", |_| {});
    d.now += 10.0;
    d.loaded(GPU, "a");
    d.now += 1.0;
    d.done(a);
    let before = d.core.apps[0].tag();
    d.now += 1.0;
    let asked = Moment::from_start(Duration::from_secs_f64(d.now));
    d.now += 0.1;
    d.step(Input::Seen { endpoint: GPU, asked, residents: Vec::new() });
    assert_eq!(d.state(GPU, "a"), "absent");
    assert!(d.core.apps[0].tag() > before + 5.0, "{} after {before}", d.core.apps[0].tag());
}

#[test]
fn a_reload_that_an_outage_interrupted_does_not_take_room_that_others_have_by_then() {
    let both = Room { bytes: None, models: 3, gpus: GpuSet::of([0]) };
    let mut d = Desk::new(&[both; 2]);
    d.step(Input::Gpu { place: 0, total: 100, used: 0 });
    let at_b = |t: &mut Ticket| t.seats = vec![Seat { need: 50, ..seat(B, 2) }];
    let mut running = [d.submit("a", "a", at_b).0, d.submit("a", "a", at_b).0];
    d.loaded(B, "a");
    while d.state(B, "a") != "unloading" {
        // the second waits inside for the first: a slot is lost
        d.now += 4.0;
        d.ends(running[0], Observed::default());
        d.now += 1.0;
        d.ends(running[1], Observed { slot_wait: 4.0, ..Observed::default() });
        if d.state(B, "a") == "resident" {
            running = [d.submit("a", "a", at_b).0, d.submit("a", "a", at_b).0];
        }
    }
    d.submit("a", "a", at_b);
    d.step(Input::Endpoint { id: B, usable: false, answers: false });
    d.step(Input::Unloaded { endpoint: B, weights: "a".into(), gone: true });
    d.submit("c", "c", |t| t.seats[0].need = 60);
    d.loaded(GPU, "c");
    d.now += 1.0;
    d.step(Input::Endpoint { id: B, usable: true, answers: true });
    let planned = d.core.planned(GPU).0 + d.core.planned(B).0;
    assert!(planned <= 100, "{planned} of 100: a {}, c {}", d.state(B, "a"), d.state(GPU, "c"));
}

#[test]
fn a_reload_for_a_larger_context_does_not_take_room_that_the_neighbour_filled_meanwhile() {
    let both = Room { bytes: None, models: 3, gpus: GpuSet::of([0]) };
    let mut d = Desk::new(&[both; 2]);
    d.step(Input::Gpu { place: 0, total: 100, used: 0 });
    let a = |need: u64, context: &str| {
        let (options, keep_alive) = (vec![("num_ctx".into(), Json::known(context))], Duration::from_secs(900));
        let order = Arc::new(LoadOrder { model: "m".into(), options, keep_alive, embeds: false });
        move |t: &mut Ticket| t.seats = vec![Seat { need, order, ..seat(B, 2) }]
    };
    let (first, _) = d.submit("a", "a", a(30, "4096"));
    d.loaded(B, "a");
    d.done(first);
    // what is in memory on an endpoint that stays ejected is loaded anew
    d.step(Input::Endpoint { id: B, usable: false, answers: true });
    assert_eq!(unloads(&d.tick_until(100.0)), [(B, "a".to_owned())]);
    let (c, out) = d.submit("c", "c", |t| t.seats[0].need = 50);
    assert_eq!(loads(&out), [(GPU, "c".to_owned())], "it fits beside what is there");
    d.loaded(GPU, "c");
    d.step(Input::Endpoint { id: B, usable: true, answers: true });
    d.submit("a", "a", a(60, "32768"));
    let gone = |endpoint, weights: &str| Input::Unloaded { endpoint, weights: weights.into(), gone: true };
    assert_eq!(loads(&d.step(gone(B, "a"))), [], "60 beside 50 of 100");
    let mut out = d.done(c);
    out.extend(d.tick_until(200.0));
    assert_eq!(unloads(&out), [(GPU, "c".to_owned())]);
    assert_eq!(loads(&d.step(gone(GPU, "c"))), [(B, "a".to_owned())]);
}

/// Two endpoints: on the first one everybody wants the same model, on the second only `elsewhere`. The share of the first that
/// `night` has after 1,200 s in which it always waits there.
fn share_of_night(elsewhere: &str) -> f64 {
    let mut world = World::with(Bounds { queued: 1_000_000, queued_bytes: usize::MAX }, vec![room(None, 3); 2], 0.0);
    let work = |_: &str| 1.0;
    let class = |app: &str| if app == "ui" { Class::Interactive } else { Class::Batch };
    for app in ["ui", "night"] {
        for _ in 0..4000 {
            world.submit(|t| t.class = class(app), app, &work);
        }
    }
    for _ in 0..4000 {
        let there = |t: &mut Ticket| {
            (t.class, t.weights, t.seats) = (class(elsewhere), "other".into(), vec![seat(B, 2)]);
        };
        world.submit(there, elsewhere, &work);
    }
    let mut served = [0.0; 2];
    while world.now < 1200.0 {
        let before: BTreeMap<TicketId, EndpointId> =
            world.core.running.iter().map(|(id, run)| (*id, run.endpoint)).collect();
        let ended = world.ended.clone();
        let Some(app) = world.run_one(&work) else { break };
        let id = world.ended.difference(&ended).next().copied().unwrap();
        if before.get(&id) == Some(&GPU) {
            served[usize::from(app == "night")] += 1.0;
        }
    }
    served[1] / (served[0] + served[1])
}

#[test]
fn the_least_share_of_a_class_is_of_the_endpoint_where_it_waits() {
    // another GPU gives all it has to interactive work, or to a batch: neither is a reason for more or less here
    for elsewhere in ["ui", "night"] {
        let share = share_of_night(elsewhere);
        assert!((0.045..0.07).contains(&share), "{share} beside {elsewhere}");
    }
}

#[test]
fn nobody_goes_for_a_model_that_has_room_elsewhere() {
    let mut d = Desk::new(&[room(None, 1); 2]);
    let (a, _) = d.submit("a", "a", |t| t.seats = vec![seat(GPU, 2)]);
    d.loaded(GPU, "a");
    d.now += 5.0;
    d.done(a);
    d.at(8.0);
    let (_, out) = d.submit("p", "p", |t| t.seats = vec![seat(GPU, 2), seat(B, 2)]);
    assert_eq!((loads(&out), unloads(&out)), (vec![(B, "p".to_owned())], Vec::new()));
}

#[test]
fn a_short_one_is_not_foretold_to_start_before_those_of_its_own_line() {
    let mut d = Desk::new(&[room(None, 1)]);
    d.submit("a", "a", |t| t.seats = vec![seat(GPU, 1)]);
    d.loaded(GPU, "a");
    let before: Vec<_> = (0..5).map(|_| d.submit("a", "a", |t| t.seats = vec![seat(GPU, 1)]).0).collect();
    let (short, _) = d.submit("a", "a", |t| {
        t.seats = vec![seat(GPU, 1)];
        t.work.output_cap = Some(1);
    });
    let wait = |id: TicketId| d.core.estimate(id).unwrap().wait;
    assert!(wait(short) > wait(before[4]), "{:?} after {:?}", wait(short), wait(before[4]));
}

#[test]
fn what_nobody_asks_for_goes_for_a_second_runner_of_what_many_wait_for() {
    let mut d = Desk::new(&[room(None, 1); 2]);
    let (idle, _) = d.submit("q", "q", |t| t.seats = vec![seat(B, 1)]);
    d.loaded(B, "q");
    d.done(idle);
    d.now += 100.0;
    // those that fill the one there is, and a queue that takes longer than a load
    let mut all = Vec::new();
    for _ in 0..100 {
        all.extend(d.submit("a", "a", |t| t.seats = vec![seat(GPU, 1), seat(B, 1)]).1);
        if d.state(GPU, "a") == "loading" {
            all.extend(d.loaded(GPU, "a"));
        }
    }
    assert_eq!(unloads(&all), [(B, "q".to_owned())], "nobody has asked for it in minutes");
    let out = d.step(Input::Unloaded { endpoint: B, weights: "q".into(), gone: true });
    assert_eq!(loads(&out), [(B, "a".to_owned())]);
}

#[test]
fn a_load_that_hung_beside_others_is_not_tried_beside_them_again() {
    // the plan has room for both, the server has not: it waits for room that a busy runner never leaves (defect B2)
    let mut d = Desk::new(&[room(Some(100), 3)]);
    let (a, _) = d.submit("a", "a", |t| t.seats[0].need = 30);
    d.loaded(GPU, "a");
    let (_, out) = d.submit("b", "b", |t| t.seats[0].need = 30);
    let limit = out.iter().find_map(|decision| match decision {
        Decision::Residency(ResidencyCommand::Load { within, .. }) => Some(within.as_secs_f64()),
        _ => None,
    });
    d.now += limit.unwrap();
    let result = Err("no answer in time".to_owned().into());
    let mut out = d.step(Input::Loaded { endpoint: GPU, weights: "b".into(), result });
    out.extend(d.tick_until(d.now + 100.0));
    assert_eq!((loads(&out), d.state(GPU, "a")), (Vec::new(), "draining"));
    d.step(Input::Probed { endpoint: GPU, weights: "a".into(), alive: true });
    out = d.done(a);
    assert_eq!(unloads(&out), [(GPU, "a".to_owned())]);
    out = d.step(Input::Unloaded { endpoint: GPU, weights: "a".into(), gone: true });
    assert_eq!(loads(&out), [(GPU, "b".to_owned())]);
}

/// The plan has room for both, the server has not: its load waits for room that a busy runner never leaves (defect B2).
#[test]
fn what_is_beside_a_load_that_takes_long_goes_by_our_order() {
    let mut d = Desk::new(&[room(Some(100), 3)]);
    let (a, _) = d.submit("a", "a", |t| t.seats[0].need = 30);
    d.loaded(GPU, "a");
    let (b, out) = d.submit("b", "b", |t| t.seats[0].need = 30);
    assert_eq!(loads(&out), [(GPU, "b".to_owned())]);
    let (next, out) = d.submit("a", "a", |t| t.seats[0].need = 30);
    assert_eq!(admitted(&out), [next], "a load that takes as long as usual keeps nobody from the others");
    d.tick_until(d.now + 30.0);
    assert_eq!(d.state(GPU, "a"), "draining", "long before the load would be given up");
    let (late, mut out) = d.submit("a", "a", |t| t.seats[0].need = 30);
    out.extend(d.done(a));
    assert_eq!((admitted(&out), unloads(&out)), (vec![], vec![]));
    assert_eq!(unloads(&d.done(next)), [(GPU, "a".to_owned())]);
    d.step(Input::Unloaded { endpoint: GPU, weights: "a".into(), gone: true });
    assert_eq!(admitted(&d.loaded(GPU, "b")), [b]);
    // from then on they are known not to fit together: the one goes before the other is loaded
    d.done(b);
    let out = d.tick_until(d.now + 30.0);
    assert_eq!((unloads(&out), loads(&out)), (vec![(GPU, "b".to_owned())], vec![]), "{out:?}");
    let out = d.step(Input::Unloaded { endpoint: GPU, weights: "b".into(), gone: true });
    assert_eq!(loads(&out), [(GPU, "a".to_owned())]);
    assert_eq!(admitted(&d.loaded(GPU, "a")), [late]);
}

/// A load that hangs ends at its limit, and what waits for it is told so.
#[test]
fn what_waits_for_a_load_that_hangs_is_told_when_it_is_given_up() {
    for steps in [1024, 0] {
        let mut d = Desk::new(&[room(None, 1)]);
        d.core.foresee(steps);
        let (id, out) = d.submit("a", "a", |_| {});
        let limit = out.iter().find_map(|decision| match decision {
            Decision::Residency(ResidencyCommand::Load { within, .. }) => Some(within.as_secs_f64()),
            _ => None,
        });
        let mut told = |part: f64| {
            d.at(part * limit.unwrap());
            d.core.estimate(id).unwrap().wait.as_secs_f64() / limit.unwrap()
        };
        assert!((0.1..0.35).contains(&told(0.5)), "half as long again");
        let late = told(0.95);
        assert!((0.0..0.07).contains(&late), "no longer than it is waited for: {late} of {limit:?}, {steps} steps");
    }
}

/// One load that hung says little of the next: neither its limit nor what it costs grows beyond measure.
#[test]
fn a_load_that_hung_once_is_not_taken_for_the_usual() {
    let mut runner = Runner::new(seat(GPU, 2).order, 10, 2.0, Moment::ZERO);
    runner.arrive(2.0, Moment::from_start(Duration::from_secs(2)));
    let usual = runner.load_limit();
    runner.enter(Residency::Loading, Moment::from_start(Duration::from_secs(100)));
    runner.arrive(38.0, Moment::from_start(Duration::from_secs(138)));
    assert!(runner.load_limit() < 2 * usual && runner.cost < 4.0, "{:?} {}", runner.load_limit(), runner.cost);
}

/// A load that is only slow takes nobody's place: what was to go for it and still works when it is over stays.
#[test]
fn what_still_works_when_a_long_load_is_over_stays() {
    let mut d = Desk::new(&[room(Some(100), 3)]);
    d.submit("a", "a", |t| t.seats[0].need = 30);
    d.loaded(GPU, "a");
    let (b, _) = d.submit("b", "b", |t| t.seats[0].need = 30);
    d.tick_until(d.now + 30.0);
    let (late, _) = d.submit("a", "a", |t| t.seats[0].need = 30);
    assert_eq!(d.state(GPU, "a"), "draining");
    let out = d.loaded(GPU, "b");
    assert_eq!((admitted(&out), d.state(GPU, "a")), (vec![late, b], "resident"), "{out:?}");
    d.step(Input::Unloaded { endpoint: GPU, weights: "b".into(), gone: true });
}

/// Somebody else's model comes into the only place just as our load is ordered: Ollama would wait with it for as long as they
/// ask, or for ever (defect B2).
#[test]
fn what_strangers_bring_while_a_load_is_under_way_goes_by_our_order() {
    let mut d = Desk::new(&[room(None, 1)]);
    let (id, out) = d.submit("x", "a", |_| {});
    assert_eq!(loads(&out), [(GPU, "a".into())]);
    let order = seat(GPU, 2).order;
    let theirs = || vec![Sighting { weights: "theirs".into(), bytes: 10, slots: 1, order: Arc::clone(&order) }];
    d.at(1.0);
    let asked = d.core.now;
    let out = d.step(Input::Seen { endpoint: GPU, asked, residents: theirs() });
    assert_eq!(unloads(&out), [(GPU, "theirs".into())], "{out:?}");
    // it is not asked to go again while it goes
    let out = d.step(Input::Seen { endpoint: GPU, asked, residents: theirs() });
    assert_eq!(unloads(&out), [], "{out:?}");
    d.at(2.0);
    d.step(Input::Unloaded { endpoint: GPU, weights: "theirs".into(), gone: true });
    let out = d.loaded(GPU, "a");
    assert_eq!(admitted(&out), [id], "{out:?}");
    // one that does not go, because it is used all the time, is left alone for a while, and our load goes on
    let mut d = Desk::new(&[room(None, 1)]);
    let (id, _) = d.submit("x", "a", |_| {});
    d.at(1.0);
    let asked = d.core.now;
    d.step(Input::Seen { endpoint: GPU, asked, residents: theirs() });
    d.at(2.0);
    let mut out = d.step(Input::Unloaded { endpoint: GPU, weights: "theirs".into(), gone: false });
    out.extend(d.at(3.0));
    let asked = d.core.now;
    out.extend(d.step(Input::Seen { endpoint: GPU, asked, residents: theirs() }));
    assert_eq!((loads(&out), unloads(&out), d.state(GPU, "a")), (vec![], vec![], "loading"), "{out:?}");
    assert_eq!(admitted(&d.loaded(GPU, "a")), [id]);
    // what ours do there ends first, and no more of them come
    let mut d = Desk::new(&[room(None, 1)]);
    d.submit("x", "a", |_| {});
    let asked = Moment::from_start(Duration::from_secs_f64(d.now + 1.0));
    let (ours, _) = d.submit("y", "theirs", |_| {});
    d.at(1.5);
    let seen = |asked| Input::Seen { endpoint: GPU, asked, residents: theirs() };
    let mut out = d.step(seen(asked));
    out.extend(d.done(ours));
    assert_eq!((admitted(&out), unloads(&out)), (vec![], vec![(GPU, "theirs".into())]), "{out:?}");
    // one that has room beside is theirs to keep
    let mut d = Desk::new(&[room(None, 2)]);
    d.submit("x", "a", |_| {});
    d.at(1.0);
    let asked = d.core.now;
    let out = d.step(Input::Seen { endpoint: GPU, asked, residents: theirs() });
    assert_eq!(unloads(&out), [], "{out:?}");
}

#[test]
fn what_has_no_room_beside_the_pinned_is_refused_and_what_waited_for_it_as_well() {
    let mut d = Desk::new(&[Room { bytes: Some(100), models: 3, gpus: GpuSet::default() }]);
    let of = |bytes: u64| move |t: &mut Ticket| t.seats = vec![Seat { need: bytes, ..seat(GPU, 2) }];
    let pinned_out = |out: &[Decision]| -> Vec<Vec<String>> {
        let by = |decision: &Decision| match decision {
            Decision::Refuse { why: Refused::PinnedOut { by, .. }, .. } => Some(by.clone()),
            _ => None,
        };
        out.iter().filter_map(by).collect()
    };
    let (pin, _) = d.submit("a", "pin", |t| {
        t.seats = vec![Seat { need: 40, keep_alive: Duration::MAX, ..seat(GPU, 2) }];
    });
    // it came while the pinned one was still on its way
    let (_, out) = d.submit("b", "large", of(90));
    assert_eq!(pinned_out(&out).len(), 1, "what is coming is known to stay: {out:?}");
    d.loaded(GPU, "pin");
    d.done(pin);
    assert_eq!(pinned_out(&d.submit("b", "large", of(90)).1), [["m".to_owned()]]);
    let (small, _) = d.submit("b", "small", of(30));
    d.tick_until(d.now + 30.0);
    d.loaded(GPU, "small");
    assert!(d.core.running.contains_key(&small), "what fits beside it is loaded");
}

#[test]
fn what_waits_for_a_model_that_a_pin_shuts_out_is_told_when_that_is_in_memory() {
    let mut d = Desk::new(&[Room { bytes: Some(100), models: 1, gpus: GpuSet::default() }]);
    let (first, _) = d.submit("a", "first", |_| {});
    d.loaded(GPU, "first");
    d.submit("a", "pin", |t| t.seats[0].keep_alive = Duration::MAX);
    let (waits, _) = d.submit("b", "other", |_| {});
    d.done(first);
    let mut out = d.tick_until(d.now + 60.0);
    out.extend(d.step(Input::Unloaded { endpoint: GPU, weights: "first".into(), gone: true }));
    assert_eq!(loads(&out), [(GPU, "pin".to_owned())], "{out:?}");
    let out = d.loaded(GPU, "pin");
    let told = |d: &Decision| matches!(d, Decision::Refuse { id, why: Refused::PinnedOut { .. } } if *id == waits);
    assert!(out.iter().any(told), "{out:?}");
}

#[test]
fn a_victim_that_does_not_go_costs_nobody_elses_slots() {
    let mut d = Desk::new(&[room(None, 2)]);
    for weights in ["a", "b"] {
        let (id, _) = d.submit("a", weights, |_| {});
        d.loaded(GPU, weights);
        d.done(id);
    }
    d.tick_until(d.now + 60.0);
    // whether c fits beside b nobody knows, so that nothing may run while it is loaded
    let (_, out) = d.submit("c", "c", |_| {});
    let victim = unloads(&out)[0].1.clone();
    let stays = if victim == "a" { "b" } else { "a" };
    let (beside, _) = d.submit("a", stays, |_| {});
    assert!(d.core.running.contains_key(&beside), "{victim} may take long to go");
    assert_eq!(loads(&d.step(Input::Unloaded { endpoint: GPU, weights: victim.as_str().into(), gone: true })), []);
    let (later, _) = d.submit("a", stays, |_| {});
    assert!(!d.core.running.contains_key(&later), "it would never drain");
    assert_eq!(loads(&d.done(beside)), [(GPU, "c".to_owned())]);
}

#[test]
fn callers_that_a_full_queue_refuses_come_back_one_place_after_the_other() {
    let mut d = Desk::new(&[room(None, 3)]);
    learn(&mut d);
    let one = |t: &mut Ticket| (t.seats, t.max_queued) = (vec![seat(GPU, 1)], 2);
    let running = d.submit("a", "a", one).0;
    d.submit("a", "a", one);
    d.submit("a", "a", one);
    let refused = |d: &mut Desk| -> Vec<(usize, Duration)> {
        let told = |decision: &Decision| match decision {
            Decision::Refuse { why: Refused::AppQueueFull { estimate, .. }, .. } => {
                Some((estimate.position, estimate.wait))
            }
            _ => None,
        };
        (0..4).flat_map(|_| d.submit("a", "a", one).1).filter_map(|decision| told(&decision)).collect()
    };
    let first = refused(&mut d);
    assert_eq!(first.iter().map(|told| told.0).collect::<Vec<_>>(), [3, 4, 5, 6]);
    let each = first[0].1 / 3;
    for (at, (_, wait)) in first.iter().enumerate() {
        let wanted = each * (3 + u32::try_from(at).unwrap());
        assert!(wait.abs_diff(wanted) < Duration::from_millis(10), "{first:?}");
    }
    // who has been told to come back by now counts no longer
    d.now += first[3].1.as_secs_f64() + 0.1;
    let second = d.submit("a", "a", one).1;
    assert!(
        matches!(&second[..], [Decision::Refuse { why: Refused::AppQueueFull { estimate, .. }, .. }] if estimate.position == 3)
    );
    d.done(running);
}

#[test]
fn a_full_queue_has_no_place_before_one_of_it_starts_whatever_the_next_asks_for() {
    let mut d = Desk::new(&[room(None, 1)]);
    learn(&mut d);
    let limit = |t: &mut Ticket| t.max_queued = 1;
    let (running, _) = d.submit("b", "a", limit);
    d.submit("a", "elsewhere", |t| (t.max_queued, t.seats[0].guess) = (1, 20.0));
    let busy = d.submit("b", "a", limit).0;
    // of the model in memory one could start soon, but the only place is taken by one that waits for a load
    let (_, out) = d.submit("a", "a", limit);
    let [Decision::Refuse { why: Refused::AppQueueFull { estimate, .. }, .. }] = &out[..] else { panic!("{out:?}") };
    assert!(estimate.wait > Duration::from_secs(2), "{estimate:?}");
    d.done(running);
    d.done(busy);
}

//! What an application is owed that only pauses: it stays, and has an end.

use super::*;

/// Seconds of service that one request needs.
fn work(app: &str) -> f64 {
    if app == "light" { 0.1 } else { 0.5 }
}

fn one_slot(weight: f64) -> impl Fn(&mut Ticket) {
    move |t| (t.weight, t.seats) = (weight, vec![seat(GPU, 1)])
}

/// One caller of `light` pauses for a moment after each answer and never has its share; four of `heavy` take what it leaves.
fn after_many_pauses(weight: f64) -> World {
    let memory = vec![Room { bytes: None, models: 1, gpus: GpuSet::default() }];
    let mut world = World::with(Bounds { queued: 1_000_000, queued_bytes: usize::MAX }, memory, 2.0);
    world.submit(one_slot(weight), "light", &work);
    for _ in 0..4 {
        world.submit(one_slot(1.0), "heavy", &work);
    }
    let mut pauses = false;
    while world.now < 600.0 {
        let ended = world.run_one(&work).unwrap();
        if ended == "heavy" {
            world.submit(one_slot(1.0), "heavy", &work);
        }
        if std::mem::replace(&mut pauses, ended == "light") {
            world.submit(one_slot(weight), "light", &work);
        }
    }
    if pauses {
        world.run_one(&work);
    }
    world
}

#[test]
fn pauses_do_not_add_up_to_a_claim_without_end() {
    for weight in [0.5, 1.0, 4.0] {
        let mut world = after_many_pauses(weight);
        let (had, others) = (world.served["light"], world.served["heavy"]);
        assert!(others > 4.0 * had / weight.min(1.0), "light is far behind: {:?}", world.served);
        // now it has a thousand callers
        for _ in 0..1000 {
            world.submit(one_slot(weight), "light", &work);
        }
        let app = world.core.app_index[&AppName::parse("light").unwrap()];
        let cost = world.core.pools[0].runners[&GPU].cost;
        let own = cost + world.core.pools[0].speed.predict(app, ticket(0, "light", "blob").work);
        let begun = world.served["light"];
        let heavy = |world: &World| world.running.values().any(|(app, _)| app == "heavy");
        while heavy(&world) && world.run_one(&work).is_some() {}
        while !heavy(&world) && world.run_one(&work).is_some() {}
        let got = world.served["light"] - begun;
        assert!(got > own, "what it was owed before the pause stays: {got} s of service, weight {weight}");
        // the others' lowest tag is that of a request which runs: as much by weight, and one of its own
        let most = 30.0 * own + weight * work("heavy") + work("light");
        assert!(got <= most, "{got} s of service in a row, weight {weight}, of 30 × {own}");
    }
}

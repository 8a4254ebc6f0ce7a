//! Rounds to a table.

use std::time::Duration;

use crate::Scene;
use crate::load::{Outcome, Target};

/// CPU of a request over what nginx spends, in µs.
const MOST_CPU: f64 = 50.0;
/// Of nginx's requests per second on one core.
const GOAL_RATE: f64 = 0.7;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn quantile(sorted: &[Duration], q: f64) -> f64 {
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |value| value.as_secs_f64() * 1e3)
}

/// A number taken from a round.
struct Figure {
    name: &'static str,
    of: fn(&Outcome) -> f64,
}

const FIGURES: [Figure; 7] = [
    Figure { name: "req/s", of: |o| o.requests as f64 / o.wall.as_secs_f64() },
    Figure { name: "p50 ms", of: |o| quantile(&o.whole, 0.5) },
    Figure { name: "p99 ms", of: |o| quantile(&o.whole, 0.99) },
    Figure { name: "TTFT p50 ms", of: |o| quantile(&o.first, 0.5) },
    Figure { name: "TTFT p99 ms", of: |o| quantile(&o.first, 0.99) },
    Figure { name: "CPU µs/request", of: cpu_each },
    Figure { name: "core busy", of: |o| o.cpu.map_or(f64::NAN, |cpu| cpu.as_secs_f64() / o.wall.as_secs_f64()) },
];

fn cpu_each(outcome: &Outcome) -> f64 {
    outcome.cpu.map_or(f64::NAN, |cpu| cpu.as_secs_f64() * 1e6 / outcome.requests as f64)
}

/// The median over the rounds of a target's figure, and of its ratio to another target's in the same round.
struct Table<'a> {
    targets: &'a [Target],
    rounds: &'a [Vec<Outcome>],
}

impl Table<'_> {
    fn index(&self, name: &str) -> Option<usize> {
        self.targets.iter().position(|target| target.name == name)
    }

    fn of(&self, target: usize, of: fn(&Outcome) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| of(&round[target])).collect())
    }

    fn against(&self, target: usize, other: usize, how: impl Fn(&Outcome, &Outcome) -> f64) -> f64 {
        median(self.rounds.iter().map(|round| how(&round[target], &round[other])).collect())
    }

    fn ratio(&self, target: usize, other: Option<usize>, of: fn(&Outcome) -> f64) -> String {
        let ratio = other.map(|other| self.against(target, other, |a, b| of(a) / of(b)));
        ratio.filter(|ratio| ratio.is_finite()).map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"))
    }
}

pub(crate) fn scene(scene: &Scene, targets: &[Target], rounds: &[Vec<Outcome>]) {
    let table = Table { targets, rounds };
    let (nginx, direct) = (table.index("nginx"), table.index("direct"));
    let kind = match scene.chunks {
        0 => "POST 450 B, answer 400 B".to_owned(),
        chunks => format!("stream of {chunks} chunks of 130 B"),
    };
    println!("\n{}: {kind}, {} connections, median of {} rounds", scene.name, scene.connections, rounds.len());
    println!("{:8} {:16} {:>12} {:>8} {:>8}", "", "", "", "÷ nginx", "÷ direct");
    for (index, target) in targets.iter().enumerate() {
        for figure in FIGURES {
            let value = table.of(index, figure.of);
            if value.is_nan() {
                continue;
            }
            let (by_nginx, by_direct) = (table.ratio(index, nginx, figure.of), table.ratio(index, direct, figure.of));
            println!("{:8} {:16} {value:>12.2} {by_nginx:>8} {by_direct:>8}", target.name, figure.name);
        }
        if scene.chunks > 0 && target.pid.is_some() {
            let each = table.of(index, cpu_each) / scene.chunks as f64;
            let by_nginx = table.ratio(index, nginx, cpu_each);
            println!("{:8} {:16} {each:>12.2} {by_nginx:>8} {:>8}", target.name, "CPU µs/chunk", "-");
        }
    }
    let (Some(nginx), Some(gaucho)) = (nginx, table.index("gaucho")) else { return };
    let over = table.against(gaucho, nginx, |a, b| cpu_each(a) - cpu_each(b));
    if scene.chunks > 0 {
        println!("CPU over nginx: {over:.0} µs a request, {:.2} µs a chunk", over / scene.chunks as f64);
        return;
    }
    let verdict = if over <= MOST_CPU { "ok" } else { "MISSED" };
    println!("CPU over nginx: {over:.1} µs a request; target <= {MOST_CPU} µs: {verdict}");
    let rate = table.against(gaucho, nginx, |a, b| cpu_each(b) / cpu_each(a));
    let verdict = if rate >= GOAL_RATE { "reached" } else { "not reached" };
    println!("requests a second of one core ÷ nginx's: {rate:.2}; goal >= {GOAL_RATE}: {verdict}");
}

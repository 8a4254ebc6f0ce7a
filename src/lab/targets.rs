//! What is promised on a workload, and whether it was kept.

use super::ideal::{SWAP_SHARE, latest_admission};
use super::measure::{Measure, quantile};
use super::modes::Mode;
use super::play::{Ending, Record, Run};
use super::table::Result;
use super::workload::{Goal, Workload};

/// How far the share of GPU time may be from what the weights say.
const SHARE_ERROR: f64 = 0.1;
/// Error of foretold waits, 90th percentile.
const FORETELLING: f64 = 0.3;

/// One promise.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What it is about.
    pub what: String,
    /// What came of it, and what would do.
    pub text: String,
    /// Whether it is kept.
    pub kept: bool,
}

impl Target {
    fn new(what: String, text: String, kept: bool) -> Self {
        Self { what, text, kept }
    }
}

/// Checks every goal of a workload against the run of this program's scheduler.
#[must_use]
pub fn targets(workload: &Workload, results: &[Result], run: &Run) -> Vec<Target> {
    let of = |mode| results.iter().find(|result| result.mode == mode);
    let (Some(own), Some(raw)) = (of(Mode::Gaucho), of(Mode::Raw)) else { return Vec::new() };
    let mut found: Vec<Target> = workload.goals.iter().map(|goal| check(workload, *goal, (own, raw), run)).collect();
    if let Some((error, count)) = own.measure.foretelling {
        let text = format!("{:.0} % over {count}, <= {:.0} %", 100.0 * error, 100.0 * FORETELLING);
        found.push(Target::new(format!("{}: error of foretold waits", workload.name), text, error <= FORETELLING));
    }
    let lost = own.measure.endings[3];
    if lost > 0 {
        found.push(Target::new(workload.name.clone(), format!("{lost} requests never ended"), false));
    }
    found
}

fn check(workload: &Workload, goal: Goal, (own, raw): (&Result, &Result), run: &Run) -> Target {
    let name = &workload.name;
    match goal {
        Goal::Ideal(least) => {
            let text = format!("{:.0} %, >= {:.0} %", 100.0 * own.score.ratio, 100.0 * least);
            Target::new(format!("{name}: of the ideal"), text, own.score.ratio >= least)
        }
        Goal::AsRaw => {
            let text = format!("{:.3} ({}), raw {:.3}", own.score.got, own.score.what, raw.score.got);
            Target::new(format!("{name}: as good as raw"), text, own.score.ratio >= 0.98 * raw.score.ratio)
        }
        Goal::Late { app, others } => late(workload, run, app, others),
        Goal::Keeps { app, share } => {
            let done = own.measure.service[app] * workload.host.full_speed();
            let alone = workload.window * workload.host.full_speed();
            let text = format!("{:.0} %, >= {:.0} %", 100.0 * done / alone, 100.0 * share);
            Target::new(format!("{name}: {} keeps of its work", workload.apps[app].name), text, done >= share * alone)
        }
        Goal::Ratio { of, times } => ratio(workload, &own.measure, of, times),
        Goal::Median { app, within } => {
            let median = median(&run.records, app);
            let text = format!("{median:.2} s, <= {within} s");
            Target::new(format!("{name}: median answer of {}", workload.apps[app].name), text, median <= within)
        }
        Goal::Overhead => overhead(workload, &own.measure),
    }
}

fn late(workload: &Workload, run: &Run, app: usize, others: usize) -> Target {
    let own = run.records.iter().filter(|record| record.app == app);
    let model = own.clone().map(|record| record.model).next().unwrap_or(0);
    let longest = own.filter_map(Record::wait).fold(0.0, f64::max);
    let ahead: Vec<usize> = (0..workload.models.len()).filter(|other| *other != model).take(others).collect();
    let bound = latest_admission(workload, model, &ahead);
    let text = format!("{longest:.1} s, <= {bound:.1} s");
    Target::new(format!("{}: late model's longest wait", workload.name), text, longest <= bound)
}

fn ratio(workload: &Workload, measure: &Measure, (first, second): (usize, usize), times: f64) -> Target {
    let with = measure.gpu[first] / measure.gpu[second].max(1e-9);
    let without = measure.service[first] / measure.service[second].max(1e-9);
    let text = format!("{with:.2} (without loads {without:.2}), {times} within {:.0} %", 100.0 * SHARE_ERROR);
    let kept = (with / times - 1.0).abs() <= SHARE_ERROR;
    Target::new(format!("{}: GPU time by weight", workload.name), text, kept)
}

fn median(records: &[Record], app: usize) -> f64 {
    let own = records.iter().filter(|record| record.app == app && record.ending == Ending::Answered);
    let mut times: Vec<f64> = own.map(|record| record.ended - record.arrived).collect();
    times.sort_by(f64::total_cmp);
    quantile(&times, 0.5)
}

fn overhead(workload: &Workload, measure: &Measure) -> Target {
    let dearest = workload.models.iter().map(|model| model.load + model.unload).fold(0.0, f64::max);
    let most = measure.busy * SWAP_SHARE / (1.0 - SWAP_SHARE) + measure.idle() + 2.0 * dearest;
    let text = format!("{:.0} s ({:.0} %), <= {most:.0} s", measure.swapping, 100.0 * measure.overhead());
    Target::new(format!("{}: swapping", workload.name), text, measure.swapping <= most)
}

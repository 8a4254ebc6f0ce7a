//! Results as plain text.

use std::fmt::Write as _;

use super::ideal::Score;
use super::measure::{Measure, Waits, quantile};
use super::modes::Mode;
use super::workload::Workload;

/// Lines of applications printed per workload at most; the rest is summed up in the line of all.
const LINES: usize = 6;

/// One mode's results on a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Result {
    /// Which mode.
    pub mode: Mode,
    /// What came of it.
    pub measure: Measure,
    /// Against the ideal.
    pub score: Score,
}

/// A workload's table: a line per mode, then the waits of each application and model.
#[must_use]
pub fn table(workload: &Workload, results: &[Result]) -> String {
    let mut text = format!("{} (seed {}): {}\n", workload.name, workload.seed, workload.note);
    let what = results.first().map_or("", |result| result.score.what);
    let _ = writeln!(
        text,
        "  {:8} {:>9} {:>6} {:>9} {:>8} {:>8} {:>8} {:>6} {:>6}  {what}: got / ideal",
        "mode", "makespan", "loads", "answered", "p50", "p99", "max", "Jain", "swap",
    );
    for Result { mode, measure, score } in results {
        let lost: usize = measure.endings[2..].iter().sum();
        let lost = if lost > 0 { format!("  {lost} refused or never answered") } else { String::new() };
        let _ = writeln!(
            text,
            "  {:8} {:>9.1} {:>6} {:>9} {} {:>6.3} {:>5.0}%  {:.2} / {:.2} = {:.0} %{lost}",
            mode.as_str(),
            measure.makespan,
            measure.loads,
            measure.endings[0],
            waits(&measure.waits),
            measure.jain,
            100.0 * measure.overhead(),
            score.got,
            score.ideal,
            100.0 * score.ratio,
        );
    }
    lines(&mut text, workload, results);
    text
}

fn waits(waits: &Waits) -> String {
    format!("{:>8.2} {:>8.2} {:>8.2}", waits.p50, waits.p99, waits.max)
}

fn lines(text: &mut String, workload: &Workload, results: &[Result]) {
    let mut pairs: Vec<(usize, usize)> =
        results.iter().flat_map(|result| result.measure.lines.iter().map(|line| (line.app, line.model))).collect();
    pairs.sort_unstable();
    pairs.dedup();
    if pairs.len() > LINES {
        return models(text, workload, results);
    }
    for (app, model) in pairs.into_iter().skip_while(|_| workload.apps.len() < 2) {
        let own = results.iter().filter_map(|result| {
            let line = result.measure.lines.iter().find(|line| (line.app, line.model) == (app, model))?;
            Some(format!("{} {} answers, {}", result.mode.as_str(), line.answered, short(&line.waits)))
        });
        let own: Vec<_> = own.collect();
        let (app, model) = (&workload.apps[app].name, &workload.models[model].name);
        let _ = writeln!(text, "    {app} on {model}: {}", own.join(" · "));
    }
}

/// Where there are many applications: by model.
fn models(text: &mut String, workload: &Workload, results: &[Result]) {
    for (at, model) in workload.models.iter().enumerate() {
        let own = results.iter().map(|result| {
            let waits = &result.measure.models[at];
            format!("{} {}, {}", result.mode.as_str(), waits.count, short(waits))
        });
        let _ = writeln!(text, "    {}: {}", model.name, own.collect::<Vec<_>>().join(" · "));
    }
    // a greedy application's own queue must not pass for everybody's wait
    let own = results.iter().map(|result| {
        let mut p99: Vec<f64> = result.measure.lines.iter().map(|line| line.waits.p99).collect();
        p99.sort_by(f64::total_cmp);
        let [least, middle, most] = [0.0, 0.5, 1.0].map(|share| quantile(&p99, share));
        format!("{} {least:.1}/{middle:.1}/{most:.1}", result.mode.as_str())
    });
    let own: Vec<_> = own.collect();
    let _ = writeln!(text, "    p99 of an application, least/middle/most: {}", own.join(" · "));
}

fn short(waits: &Waits) -> String {
    format!("{:.1}/{:.1}/{:.1}", waits.p50, waits.p99, waits.max)
}

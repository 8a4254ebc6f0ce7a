//! Results as plain text.

use std::fmt::Write as _;

use super::ideal::Score;
use super::measure::{Measure, Waits};
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
    let pairs: Vec<(usize, usize)> =
        results.iter().flat_map(|result| result.measure.lines.iter().map(|line| (line.app, line.model))).collect();
    let mut pairs = pairs;
    pairs.sort_unstable();
    pairs.dedup();
    if pairs.len() < 2 || pairs.len() > LINES {
        return;
    }
    for (app, model) in pairs {
        let name = format!("{} on {}", workload.apps[app].name, workload.models[model].name);
        let _ = write!(text, "    {name}: ");
        let own = results.iter().filter_map(|result| {
            let line = result.measure.lines.iter().find(|line| (line.app, line.model) == (app, model))?;
            let Waits { p50, p99, max, .. } = line.waits;
            Some(format!("{} {} answers {p50:.1}/{p99:.1}/{max:.1}", result.mode.as_str(), line.answered))
        });
        let _ = writeln!(text, "{}", own.collect::<Vec<_>>().join(" · "));
    }
}

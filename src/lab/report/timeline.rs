//! Which model was in memory when, and whose requests ran: a band per mode, a lane per model, a row per slot.
//!
//! Drawn by columns: a column shows what took most of its time, so that a day is as large a file as a minute.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::lab::compare::Comparison;
use crate::lab::film::Phase;
use crate::lab::play::Run;

use super::{colour, escape};

pub(super) const IDLE: &str = "#e3e7ee";
pub(super) const LOADING: &str = "#f3bf5b";
pub(super) const LEAVING: &str = "#d9b3ae";

const LEFT: f64 = 150.0;
const WIDTH: f64 = 1000.0;
const COLUMNS: usize = 840;
const SLOT: f64 = 6.0;
const GAP: f64 = 4.0;

/// What fills a column: a state of the model, or an application's request.
type Fill = &'static str;

pub(super) fn draw(page: &mut String, comparison: &Comparison) {
    let workload = &comparison.workload;
    let slots = workload.host.slots as usize;
    let lane = SLOT * slots as f64 + GAP;
    let band = lane * workload.models.len() as f64 + 18.0;
    let height = band * comparison.runs.len() as f64 + 22.0;
    let end = comparison.runs.iter().map(|run| run.makespan).fold(0.0, f64::max).max(0.1);
    let _ = writeln!(page, "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">");
    for (at, run) in comparison.runs.iter().enumerate() {
        let top = band * at as f64;
        let _ =
            writeln!(page, "<text x=\"0\" y=\"{:.0}\" font-weight=\"600\">{}</text>", top + 11.0, run.mode.as_str());
        for (model, spec) in workload.models.iter().enumerate() {
            let y = top + lane * model as f64;
            let _ = writeln!(
                page,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + lane / 2.0 + 3.0,
                escape(&spec.name)
            );
            let states = run.spans.iter().filter(|span| span.model == model).map(|span| {
                let fill = match span.phase {
                    Phase::Loading => LOADING,
                    Phase::Resident => IDLE,
                    Phase::Leaving => LEAVING,
                };
                (span.from, span.to, fill)
            });
            paint(page, &columns(states, end), y, lane - GAP);
            for (slot, runs) in by_slot(run, model, slots).into_iter().enumerate() {
                paint(page, &columns(runs.into_iter(), end), y + SLOT * slot as f64 + 0.75, SLOT - 1.5);
            }
        }
    }
    axis(page, end, height);
    page.push_str("</svg>\n");
}

/// A model's requests, in the slots they had.
fn by_slot(run: &Run, model: usize, slots: usize) -> Vec<Vec<(f64, f64, Fill)>> {
    let own = run.records.iter().filter(|record| record.model == model);
    let mut runs: Vec<_> = own.filter_map(|record| Some((record.started?, record.ended, colour(record.app)))).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut rows: Vec<Vec<(f64, f64, Fill)>> = vec![Vec::new(); slots.max(1)];
    for one in runs {
        let free = rows.iter().position(|row| row.last().is_none_or(|last| last.1 <= one.0 + 1e-9));
        // what a server runs on after its client left has no row of its own
        rows[free.unwrap_or(0)].push(one);
    }
    rows
}

/// What took most of each column, if anything took half of it.
fn columns(spans: impl Iterator<Item = (f64, f64, Fill)>, end: f64) -> Vec<Option<Fill>> {
    let width = end / COLUMNS as f64;
    let mut parts: Vec<BTreeMap<Fill, f64>> = vec![BTreeMap::new(); COLUMNS];
    for (from, to, fill) in spans {
        let (first, last) = ((from.max(0.0) / width) as usize, (to.max(0.0) / width) as usize);
        for (at, part) in parts.iter_mut().enumerate().take(last + 1).skip(first) {
            let inside = to.min((at + 1) as f64 * width) - from.max(at as f64 * width);
            *part.entry(fill).or_default() += inside.max(0.0);
        }
    }
    let most = |part: &BTreeMap<Fill, f64>| {
        let all: f64 = part.values().sum();
        let top = part.iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(fill, _)| *fill);
        top.filter(|_| all >= 0.5 * width)
    };
    parts.iter().map(most).collect()
}

/// One path per fill.
fn paint(page: &mut String, columns: &[Option<Fill>], y: f64, height: f64) {
    let mut paths: BTreeMap<Fill, String> = BTreeMap::new();
    let mut at = 0;
    while at < columns.len() {
        let length = columns[at..].iter().take_while(|fill| **fill == columns[at]).count();
        if let Some(fill) = columns[at] {
            let x = LEFT + at as f64 * (WIDTH - LEFT) / COLUMNS as f64;
            let wide = length as f64 * (WIDTH - LEFT) / COLUMNS as f64;
            let _ = write!(paths.entry(fill).or_default(), "M{x:.1} {y:.1}h{wide:.1}v{height:.1}h-{wide:.1}z");
        }
        at += length;
    }
    for (fill, path) in paths {
        let _ = writeln!(page, "<path fill=\"{fill}\" d=\"{path}\"/>");
    }
}

/// Seconds below, at round numbers.
fn axis(page: &mut String, end: f64, height: f64) {
    let step = round(end / 8.0);
    let mut at = 0.0;
    while at <= end {
        let x = LEFT + at / end * (WIDTH - LEFT);
        let anchor = if at + step > end && x > WIDTH - 30.0 { "end" } else { "middle" };
        let _ = writeln!(
            page,
            "<path stroke=\"#c3cad5\" d=\"M{x:.1} {:.1}v5\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{at} s</text>",
            height - 22.0,
            height - 4.0
        );
        at += step;
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn round(least: f64) -> f64 {
    let power = 10.0_f64.powf(least.max(1e-3).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least).unwrap_or(10.0);
    // a whole number of tenths prints as one
    (factor * power * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_shows_what_took_most_of_it() {
        let drawn = columns([(0.0, 420.0, "a"), (420.0, 420.4, "b"), (421.0, 421.9, "c")].into_iter(), 840.0);
        assert_eq!((drawn[0], drawn[419], drawn[420], drawn[421]), (Some("a"), Some("a"), None, Some("c")));
        assert_eq!((round(0.7), round(13.0), round(2.0)), (1.0, 20.0, 2.0));
    }
}

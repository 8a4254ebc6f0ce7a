//! Waits as bars: median, 99th percentile and the longest on top of each other, on a logarithmic scale.

use std::fmt::Write as _;

use crate::lab::compare::Comparison;
use crate::lab::measure::Waits;

use super::{colour, escape};

const LEFT: f64 = 250.0;
const RIGHT: f64 = 860.0;
const ROW: f64 = 13.0;
/// The scale's least seconds; what is shorter has no bar.
const LEAST: f64 = 0.1;
/// More applications than that are summed up.
const MOST: usize = 6;

pub(super) fn draw(page: &mut String, comparison: &Comparison) {
    let rows = rows(comparison);
    let longest = rows.iter().map(|row| row.waits.max).fold(1.0, f64::max);
    let top = 10.0_f64.powf(longest.log10().ceil());
    let height = ROW * rows.len() as f64 + 10.0 * (comparison.results.len() as f64) + 26.0;
    let scale = |seconds: f64| {
        let share = (seconds.max(LEAST) / LEAST).log10() / (top / LEAST).log10();
        LEFT + share * (RIGHT - LEFT)
    };
    let _ = writeln!(page, "<svg viewBox=\"0 0 1000 {height:.0}\" role=\"img\">");
    let mut tick = LEAST;
    while tick <= top * 1.01 {
        let x = scale(tick);
        let label = if tick < 1.0 { format!("{tick} s wait") } else { format!("{tick:.0} s") };
        let _ = writeln!(
            page,
            "<path stroke=\"#e3e7ee\" d=\"M{x:.1} 0V{:.0}\"/><text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{label}</text>",
            height - 16.0,
            height - 3.0
        );
        tick *= 10.0;
    }
    let mut y = 0.0;
    for row in &rows {
        if row.mode.is_some() && y > 0.0 {
            y += 10.0;
        }
        bar(page, row, y, scale);
        y += ROW;
    }
    page.push_str("</svg>\n");
}

struct Row {
    mode: Option<&'static str>,
    label: String,
    waits: Waits,
    colour: &'static str,
}

/// Per mode: its applications, or all of them in one where they are many.
fn rows(comparison: &Comparison) -> Vec<Row> {
    let workload = &comparison.workload;
    let mut rows = Vec::new();
    for result in &comparison.results {
        let mut mode = Some(result.mode.as_str());
        let lines = &result.measure.lines;
        if lines.len() > MOST {
            let label = "all".to_owned();
            rows.push(Row { mode, label, waits: result.measure.waits, colour: colour(0) });
            continue;
        }
        for line in lines {
            let label = format!("{} on {}", workload.apps[line.app].name, workload.models[line.model].name);
            rows.push(Row { mode: mode.take(), label, waits: line.waits, colour: colour(line.app) });
        }
    }
    rows
}

fn bar(page: &mut String, row: &Row, y: f64, scale: impl Fn(f64) -> f64) {
    if let Some(mode) = row.mode {
        let _ = writeln!(page, "<text x=\"0\" y=\"{:.1}\" font-weight=\"600\">{mode}</text>", y + 10.0);
    }
    let label = escape(&row.label);
    let _ = writeln!(page, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", LEFT - 6.0, y + 10.0);
    let Waits { count, p50, p99, max } = row.waits;
    for (seconds, opacity) in [(max, 0.25), (p99, 0.5), (p50, 1.0)] {
        let wide = scale(seconds) - LEFT;
        if wide > 0.0 {
            let _ = writeln!(
                page,
                "<path fill=\"{}\" fill-opacity=\"{opacity}\" d=\"M{LEFT} {:.1}h{wide:.1}v{:.1}h-{wide:.1}z\"/>",
                row.colour,
                y + 1.5,
                ROW - 3.0
            );
        }
    }
    let text = if count == 0 { "never".to_owned() } else { format!("{p50:.1} / {p99:.1} / {max:.1}") };
    let _ = writeln!(page, "<text x=\"{:.1}\" y=\"{:.1}\">{text}</text>", scale(max) + 5.0, y + 10.0);
}

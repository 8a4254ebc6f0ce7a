//! One workload in every mode, measured: what tables, targets and the report are made of.

use super::ideal::score;
use super::measure::measure;
use super::modes::Mode;
use super::play::{Run, play};
use super::table::Result as Line;
use super::targets::{Target, targets};
use super::workload::Workload;

/// See the module's header.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What was asked.
    pub workload: Workload,
    /// A run per mode, in the order of [`Mode::ALL`].
    pub runs: Vec<Run>,
    /// Their measures.
    pub results: Vec<Line>,
    /// What was promised.
    pub targets: Vec<Target>,
}

/// Plays a workload in every mode.
///
/// # Errors
/// When a name in it is no name of an application or a model.
pub fn compare(workload: Workload) -> Result<Comparison, String> {
    let runs = Mode::ALL.iter().map(|mode| play(&workload, *mode)).collect::<Result<Vec<_>, _>>()?;
    let line = |run: &Run| Line { mode: run.mode, measure: measure(&workload, run), score: score(&workload, run) };
    let results: Vec<Line> = runs.iter().map(line).collect();
    let own = runs.iter().find(|run| run.mode == Mode::Gaucho);
    let targets = own.map(|run| targets(&workload, &results, run)).unwrap_or_default();
    Ok(Comparison { workload, runs, results, targets })
}

//! How well a wait can be foretold at all: by who knows every size and every load's time, but not who comes later.
//!
//! Owns that bound. A request's wait without anybody after it is found by playing the workload up to it. What a real
//! forecast misses beyond this is sizes it can only guess; what it misses up to this is the future.

use super::measure::p90_of_errors;
use super::modes::Mode;
use super::play::{Ending, Run, played_for};
use super::workload::Workload;

/// Requests that are tried per workload at most.
const SAMPLES: usize = 100;

/// 90th percentile of the error (as in [`super::measure`]) of such a forecast for our scheduler's `run`, and over how
/// many requests; `None` for closed loops, whose next request is part of the future.
///
/// # Errors
/// When a name in the workload is no name.
pub fn foresight(workload: &Workload, run: &Run) -> Result<Option<(f64, usize)>, String> {
    if !workload.clients.is_empty() {
        return Ok(None);
    }
    let waited = |at: &usize| {
        let record = &run.records[*at];
        record.ending == Ending::Answered && record.wait().is_some_and(|wait| wait > 0.0)
    };
    let waited: Vec<usize> = (0..run.records.len()).filter(waited).collect();
    let mut pairs = Vec::new();
    for at in waited.iter().step_by(waited.len().div_ceil(SAMPLES).max(1)) {
        let mut upto = workload.clone();
        upto.planned.truncate(at + 1);
        let alone = played_for(&upto, Mode::Gaucho, false)?;
        let told = alone.records.get(*at).and_then(|record| record.wait());
        pairs.extend(told.zip(run.records[*at].wait()));
    }
    Ok(p90_of_errors(pairs.into_iter()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::play::play;
    use super::*;
    use crate::domain::Class;
    use crate::lab::scenes::scene;
    use crate::lab::workload::Demand;

    fn error(workload: &Workload) -> Option<f64> {
        foresight(workload, &play(workload, Mode::Gaucho).unwrap()).unwrap().map(|(error, _)| error)
    }

    #[test]
    fn only_who_goes_first_though_later_cannot_be_foreseen() {
        let mut workload = scene("swap", 1).unwrap();
        workload.planned = (0..20).map(|at| (0.1 * f64::from(at), Demand::chat(0, 0, 20, 24))).collect();
        assert_eq!(error(&workload), Some(0.0), "in order of arrival, nobody later matters");
        let urgent = workload.app("urgent", Class::Interactive, 1.0);
        workload.planned.extend((0..9).map(|at| (2.5 + f64::from(at), Demand::chat(urgent, 0, 20, 24))));
        assert!(error(&workload).unwrap() > 0.1);
        assert_eq!(error(&scene("swapflow", 1).unwrap()), None);
    }
}

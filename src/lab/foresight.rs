//! How well a wait can be foretold at all: by who knows every load's time, but not who comes later.
//!
//! Owns two bounds. A request's wait without anybody after it is found by playing the workload up to it. Who knows every
//! size misses the future only. Who knows how the lengths of answers are spread, but not the length of one that is not over
//! yet, misses what any forecast has to.

use super::measure::p90_of_errors;
use super::modes::Mode;
use super::play::{Ending, Run, played_for};
use super::workload::Workload;

/// Requests that are tried per workload at most.
const SAMPLES: usize = 100;

/// 90th percentiles of the error (as in [`super::measure`]) of such forecasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Foresight {
    /// Of one that knows every size.
    pub sizes: f64,
    /// Of one that knows how they are spread.
    pub spread: f64,
    /// Over how many requests.
    pub over: usize,
}

/// How well the waits of our scheduler's `run` could be foretold; `None` for closed loops, whose next request is part of
/// the future.
///
/// # Errors
/// When a name in the workload is no name.
pub fn foresight(workload: &Workload, run: &Run) -> Result<Option<Foresight>, String> {
    if !workload.clients.is_empty() {
        return Ok(None);
    }
    let waited = |at: &usize| {
        let record = &run.records[*at];
        record.ending == Ending::Answered && record.wait().is_some_and(|wait| wait > 0.0)
    };
    let waited: Vec<usize> = (0..run.records.len()).filter(waited).collect();
    let (mut sizes, mut spread) = (Vec::new(), Vec::new());
    for at in waited.iter().step_by(waited.len().div_ceil(SAMPLES).max(1)) {
        let mut upto = workload.clone();
        upto.planned.truncate(at + 1);
        let real = run.records[*at].wait();
        sizes.extend(wait(&upto, *at)?.zip(real));
        forget(&mut upto, workload, run, run.records[*at].arrived);
        spread.extend(wait(&upto, *at)?.zip(real));
    }
    let errors = p90_of_errors(sizes.into_iter()).zip(p90_of_errors(spread.into_iter()));
    Ok(errors.map(|((sizes, over), (spread, _))| Foresight { sizes, spread, over }))
}

/// How long that request waits in a workload.
fn wait(workload: &Workload, at: usize) -> Result<Option<f64>, String> {
    let run = played_for(workload, Mode::Gaucho, false)?;
    Ok(run.records.get(at).and_then(|record| record.wait()))
}

/// Answers that are not over at `now`, and whose callers did not say how long they may be, become as long as those of the
/// same application and model are on average that are longer than they are by then.
fn forget(known: &mut Workload, workload: &Workload, run: &Run, now: f64) {
    let unknown = known.planned.iter_mut().zip(&run.records).filter(|(_, record)| record.ended > now);
    for ((_, demand), record) in unknown.filter(|((_, demand), _)| !demand.capped) {
        let had = record.started.map_or(0.0, |started| (now - started).max(0.0) / (record.ended - started));
        let made = had * f64::from(demand.output);
        let alike =
            workload.planned.iter().map(|(_, other)| other).filter(|other| {
                (other.app, other.model) == (demand.app, demand.model) && f64::from(other.output) > made
            });
        let (sum, count) = alike.fold((0_u64, 0), |(sum, count), other| (sum + u64::from(other.output), count + 1));
        if let Some(mean) = sum.checked_div(count) {
            demand.output = u32::try_from(mean).unwrap_or(u32::MAX);
        }
    }
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
        both(workload).map(|known| known.sizes)
    }

    fn both(workload: &Workload) -> Option<Foresight> {
        foresight(workload, &play(workload, Mode::Gaucho).unwrap()).unwrap()
    }

    #[test]
    fn lengths_that_nobody_names_cannot_be_foreseen() {
        let mut workload = scene("swap", 1).unwrap();
        let long = |at: u32| if at.is_multiple_of(3) { 200 } else { 20 };
        workload.planned = (0..20).map(|at| (0.1 * f64::from(at), Demand::chat(0, 0, 20, long(at)))).collect();
        let known = both(&workload).unwrap();
        assert_eq!((known.sizes, known.spread), (0.0, 0.0), "named");
        workload.planned.iter_mut().for_each(|(_, demand)| demand.capped = false);
        let known = both(&workload).unwrap();
        assert!(known.sizes < 0.01 && known.spread > 0.1, "{known:?}");
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

//! What came of a run, in numbers: waits, loads, shares of GPU time, what swapping took.
//!
//! Owns the definitions. *Wait* is from asking to the slot. *GPU time* of a request is its running time ÷ requests
//! running, integrated, so that a GPU second is sold once; what a residency cost to bring in and put out is added to
//! the applications it served, by what they had in it: whoever causes loads pays for them.

use super::film::{Phase, Span};
use super::play::{Ending, Record, Run};
use super::workload::Workload;

/// A distribution of waits, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waits {
    /// Requests that got a slot.
    pub count: usize,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// One application and model.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The application.
    pub app: usize,
    /// The model.
    pub model: usize,
    /// Answers.
    pub answered: usize,
    /// Its waits.
    pub waits: Waits,
}

/// See the module's header.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// When the last request was over, seconds.
    pub makespan: f64,
    /// Loads begun.
    pub loads: u64,
    /// Requests by ending: answered, left, refused, never.
    pub endings: [usize; 4],
    /// All waits.
    pub waits: Waits,
    /// By application and model.
    pub lines: Vec<Line>,
    /// Waits by model.
    pub models: Vec<Waits>,
    /// GPU seconds by application within the window, loads included.
    pub gpu: Vec<f64>,
    /// The same without loads.
    pub service: Vec<f64>,
    /// Jain's index of `gpu` ÷ weight: 1 is equal, 1/n is all to one.
    pub jain: f64,
    /// Seconds in which something ran.
    pub busy: f64,
    /// Seconds in which nothing ran and something was loaded or unloaded.
    pub swapping: f64,
    /// 90th percentile of the error of foretold waits, of those that were foretold, had to wait and were answered; and
    /// how many.
    pub foretelling: Option<(f64, usize)>,
}

impl Measure {
    /// Share of the time that swapping took.
    #[must_use]
    pub fn overhead(&self) -> f64 {
        if self.makespan > 0.0 { self.swapping / self.makespan } else { 0.0 }
    }

    /// Seconds in which nothing happened.
    #[must_use]
    pub fn idle(&self) -> f64 {
        (self.makespan - self.busy - self.swapping).max(0.0)
    }
}

/// Measures a run.
#[must_use]
pub fn measure(workload: &Workload, run: &Run) -> Measure {
    let window = if workload.window > 0.0 { workload.window } else { run.makespan };
    let service = by_app(workload, &run.records, window);
    let gpu: Vec<f64> = service.iter().zip(loading(workload, run, window)).map(|(own, loads)| own + loads).collect();
    let shares = gpu.iter().zip(&workload.apps).map(|(gpu, app)| gpu / app.weight);
    let running: Vec<(f64, f64)> = run.records.iter().filter_map(|r| Some((r.started?, r.ended))).collect();
    let swaps = run.spans.iter().filter(|span| span.phase != Phase::Resident).map(|span| (span.from, span.to));
    let busy = union(running.clone());
    let either = union(running.into_iter().chain(swaps).collect());
    let count = |ending| run.records.iter().filter(|record| record.ending == ending).count();
    Measure {
        makespan: run.makespan,
        loads: run.loads,
        endings: [Ending::Answered, Ending::Left, Ending::Refused, Ending::Hangs].map(count),
        waits: waits(run.records.iter().filter_map(Record::wait).collect()),
        lines: lines(run),
        models: (0..workload.models.len()).map(|model| of_model(run, model)).collect(),
        jain: jain(shares.collect()),
        gpu,
        service,
        busy,
        swapping: either - busy,
        foretelling: foretelling(&run.records),
    }
}

fn foretelling(records: &[Record]) -> Option<(f64, usize)> {
    // who left early made everybody's wait shorter, and its own never ended
    let answered = records.iter().filter(|record| record.ending == Ending::Answered);
    p90_of_errors(answered.filter_map(|record| Some((record.foretold?, record.wait()?))))
}

/// |foretold − real| ÷ the real wait, or ÷ 1 s where that is longer, of those that had to wait; and how many they are.
pub(crate) fn p90_of_errors(told: impl Iterator<Item = (f64, f64)>) -> Option<(f64, usize)> {
    let errors = told.filter(|(_, real)| *real > 0.0).map(|(told, real)| (told - real).abs() / real.max(1.0));
    let mut errors: Vec<f64> = errors.collect();
    errors.sort_by(f64::total_cmp);
    (!errors.is_empty()).then(|| (quantile(&errors, 0.9), errors.len()))
}

/// Jain's fairness index of some shares.
fn jain(shares: Vec<f64>) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    if squares > 0.0 { sum * sum / (shares.len() as f64 * squares) } else { 1.0 }
}

/// The part of a request's running that lies before `window`.
fn within(record: &Record, window: f64) -> f64 {
    let Some(started) = record.started.filter(|started| *started < window) else { return 0.0 };
    let length = record.ended - started;
    if length > 0.0 { ((window - started) / length).min(1.0) } else { 1.0 }
}

fn by_app(workload: &Workload, records: &[Record], window: f64) -> Vec<f64> {
    let mut service = vec![0.0; workload.apps.len()];
    for record in records {
        service[record.app] += record.service * within(record, window);
    }
    service
}

/// Seconds of loading and unloading by application.
fn loading(workload: &Workload, run: &Run, window: f64) -> Vec<f64> {
    let mut charged = vec![0.0; workload.apps.len()];
    for model in 0..workload.models.len() {
        let mut records: Vec<&Record> = run.records.iter().filter(|record| record.model == model).collect();
        records.sort_by(|a, b| a.started.unwrap_or(f64::MAX).total_cmp(&b.started.unwrap_or(f64::MAX)));
        let mut rest = records.into_iter().peekable();
        for (from, to, cost) in episodes(run.spans.iter().filter(|span| span.model == model), window) {
            let mut served = vec![0.0; workload.apps.len()];
            while let Some(record) = rest.next_if(|record| record.started.is_some_and(|at| at <= to)) {
                if record.started.is_some_and(|at| at >= from) {
                    served[record.app] += record.service * within(record, window);
                }
            }
            let total: f64 = served.iter().sum();
            if total > 0.0 {
                charged.iter_mut().zip(&served).for_each(|(charged, own)| *charged += cost * own / total);
            }
        }
    }
    charged
}

/// One model's residencies: from, to, and the seconds of loading and leaving around each.
fn episodes<'a>(spans: impl Iterator<Item = &'a Span>, window: f64) -> Vec<(f64, f64, f64)> {
    let mut found: Vec<(f64, f64, f64)> = Vec::new();
    let mut loading = 0.0;
    for span in spans {
        let length = (span.to.min(window) - span.from.min(window)).max(0.0);
        match span.phase {
            Phase::Loading => loading = length,
            Phase::Resident => found.push((span.from, span.to, std::mem::take(&mut loading))),
            Phase::Leaving => {
                if let Some(last) = found.last_mut() {
                    last.2 += length;
                }
            }
        }
    }
    found
}

fn of_model(run: &Run, model: usize) -> Waits {
    waits(run.records.iter().filter(|record| record.model == model).filter_map(Record::wait).collect())
}

fn lines(run: &Run) -> Vec<Line> {
    let mut pairs: Vec<(usize, usize)> = run.records.iter().map(|record| (record.app, record.model)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let line = |(app, model): (usize, usize)| {
        let own = || run.records.iter().filter(move |record| record.app == app && record.model == model);
        Line {
            app,
            model,
            answered: own().filter(|record| record.ending == Ending::Answered).count(),
            waits: waits(own().filter_map(Record::wait).collect()),
        }
    };
    pairs.into_iter().map(line).collect()
}

fn waits(mut all: Vec<f64>) -> Waits {
    all.sort_by(f64::total_cmp);
    Waits {
        count: all.len(),
        p50: quantile(&all, 0.5),
        p99: quantile(&all, 0.99),
        max: all.last().copied().unwrap_or(0.0),
    }
}

/// The value that a share of `sorted` does not exceed; 0 of nothing.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Length of the union of some intervals.
fn union(mut intervals: Vec<(f64, f64)>) -> f64 {
    intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut total, mut reached) = (0.0, f64::MIN);
    for (from, to) in intervals {
        if to > reached {
            total += to - from.max(reached);
            reached = to;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_sums_are_right() {
        assert!((union(vec![(0.0, 2.0), (1.0, 3.0), (5.0, 6.0), (5.2, 5.5)]) - 4.0).abs() < 1e-12);
        assert!((jain(vec![1.0, 1.0]) - 1.0).abs() < 1e-12);
        assert!((jain(vec![1.0, 0.0, 0.0]) - 1.0 / 3.0).abs() < 1e-12);
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&hundred, 0.5), quantile(&hundred, 0.99), quantile(&[], 0.5)), (50.0, 99.0, 0.0));
    }
}

//! What was resident, loading or leaving when: for measures and for the timeline in the report.
//!
//! Owns the spans. It is told what the server shows and decides nothing.

use crate::domain::Moment;

/// What a model was doing in a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Coming into memory.
    Loading,
    /// In memory.
    Resident,
    /// Going, by a gateway's order.
    Leaving,
}

/// A model's state for some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Which model, by its place in the workload.
    pub model: usize,
    /// What it did.
    pub phase: Phase,
    /// From when, seconds.
    pub from: f64,
    /// Until when, seconds.
    pub to: f64,
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Film {
    open: Vec<Option<(Phase, Moment)>>,
    loads: Vec<u64>,
    leaving: Vec<bool>,
    residents: Vec<usize>,
    spans: Vec<Span>,
}

impl Film {
    pub(crate) fn new(models: usize) -> Self {
        Self {
            open: vec![None; models],
            loads: vec![0; models],
            leaving: vec![false; models],
            residents: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// What was loaded before the start is no load of ours.
    pub(crate) fn forget_loads(&mut self) {
        self.spans.clear();
    }

    /// A gateway ordered this model out.
    pub(crate) fn leaves(&mut self, model: usize) {
        self.leaving[model] = true;
    }

    /// It is seen gone.
    pub(crate) fn gone(&mut self, now: Moment, model: usize) {
        self.leaving[model] = false;
        if self.open[model].is_some_and(|(phase, _)| phase == Phase::Leaving) {
            self.close(now, model);
        }
    }

    /// What the server shows now; whether other models are resident than before.
    pub(crate) fn note(&mut self, now: Moment, residents: &[usize], loads: &[u64]) -> bool {
        for (model, begun) in loads.iter().enumerate() {
            let began = *begun > self.loads[model];
            let phase = self.open[model].map(|(phase, _)| phase);
            if residents.contains(&model) {
                if phase != Some(Phase::Resident) {
                    self.enter(now, model, Phase::Resident);
                }
            } else if began {
                // one loader: whatever it did before is over, done or not
                for other in 0..self.open.len() {
                    if self.open[other].is_some_and(|(phase, _)| phase == Phase::Loading) {
                        self.close(now, other);
                    }
                }
                self.enter(now, model, Phase::Loading);
            } else if phase == Some(Phase::Resident) {
                if self.leaving[model] {
                    self.enter(now, model, Phase::Leaving);
                } else {
                    self.close(now, model);
                }
            }
        }
        self.loads.copy_from_slice(loads);
        let changed = self.residents != residents;
        self.residents = residents.to_vec();
        changed
    }

    fn enter(&mut self, now: Moment, model: usize, phase: Phase) {
        self.close(now, model);
        self.open[model] = Some((phase, now));
    }

    fn close(&mut self, now: Moment, model: usize) {
        let Some((phase, since)) = self.open[model].take() else { return };
        if now > since {
            let (from, to) = (since.since_start().as_secs_f64(), now.since_start().as_secs_f64());
            self.spans.push(Span { model, phase, from, to });
        }
    }

    /// All spans up to `now`, in order of their start, shifted by `dawn` seconds.
    pub(crate) fn finish(&mut self, now: Moment, dawn: f64) -> Vec<Span> {
        for model in 0..self.open.len() {
            self.close(now, model);
        }
        let mut spans = std::mem::take(&mut self.spans);
        for span in &mut spans {
            span.from -= dawn;
            span.to -= dawn;
        }
        spans.sort_by(|a, b| a.from.total_cmp(&b.from).then(a.model.cmp(&b.model)));
        spans
    }
}

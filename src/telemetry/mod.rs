//! What operators see: log lines and metrics.
//!
//! Owns the log's format and its one writer, the metrics registry with its naming rule, and the request path's
//! families. It does not decide what is logged or counted: rooms do, and register further families of their own.
//! Prompts and keys have no place here. Invariants: logging never blocks a request (a full queue drops the line and
//! counts it); every label has a bounded set of values.

mod gpu;
mod lines;
mod logs;
mod metrics;
mod request;
mod scheduler;

#[cfg(test)]
mod tests;

pub use gpu::GpuMetrics;
pub use lines::LogLines;
pub use logs::{LOG_FILTERS, LogFormat, LogsError, init, is_log_filter};
pub use metrics::{Counters, Gauges, Histograms, Label, Levels, Registry};
pub use request::{Finished, RequestMetrics};
pub use scheduler::SchedulerMetrics;

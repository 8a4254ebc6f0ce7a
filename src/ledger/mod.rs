//! What each request used and how it ended: one record, one log line, the metrics.
//!
//! Owns the record and its form as a log line. Prompts, answers and keys never enter it. It does not decide anything.

mod line;
mod record;

pub use record::{Ledger, Record, Totals};

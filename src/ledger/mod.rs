//! What each request used and how it ended: one record, one log line, the metrics.
//!
//! Owns the record and its form as a log line, and the line of what was answered without one. Prompts, answers and keys never
//! enter it. It does not decide anything.

mod access;
mod line;
mod record;

pub use access::Access;
pub use record::{Ledger, Record, Totals};

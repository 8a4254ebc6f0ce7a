//! What a process says that does not serve: another one holds the state folder.
//!
//! It knows no caller, so its refusals are in no ledger; their ids stand in the line that the listener logs.

use std::time::Duration;

use crate::domain::{Dialect, Fault, FaultClass, RequestId};
use crate::wire::{self, Refusal};

/// How soon a standby that takes over serves, most often.
const SOON: Duration = Duration::from_secs(2);

/// The refusal of a request for `path`, in the dialect of that route, and the id it has.
#[must_use]
pub fn standby(path: &str) -> (RequestId, Refusal) {
    let mut id = [0; 8];
    // an id is for people who look for it in the log: without randomness they look by time
    let _ = getrandom::fill(&mut id);
    let (id, dialect) = (RequestId(u64::from_le_bytes(id)), Dialect::of(path));
    let text = "this gateway is a standby: another one holds the state folder; try again in a moment";
    let fault = Fault::new(FaultClass::Draining, text).retry(SOON);
    let mut refusal = wire::refusal(dialect, &fault).of(dialect, id);
    refusal.headers.extend(wire::id_headers(dialect, id));
    (id, refusal)
}

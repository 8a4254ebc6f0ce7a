//! The straight line: what happens to a request, in order, on one screen ([`Gateway::serve`]).
//!
//! Owns the order of the steps, the guard that ends each request exactly once, and the rendering of faults. It owns no
//! step: identity, wire, policy, catalog, scheduler and upstream each do theirs. It knows no sockets (`http`).

mod answer;
mod call;
mod elsewhere;
mod explain;
mod in_flight;
mod line;
mod listing;
mod overflow;
mod queue;
mod settle;
mod standby;
mod ticket;
mod waiting;
mod wishes;

pub use answer::{Answer, AnswerBody};
pub use call::{Call, Caller, ReadBody};
pub use explain::Hypothetical;
pub use in_flight::InFlight;
pub use line::{Gateway, Parts};
pub use listing::Listing;
pub use settle::{Settler, settler};
pub use standby::standby;

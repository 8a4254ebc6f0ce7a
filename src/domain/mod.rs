//! The words every room shares: ids, the request, the reply's events, faults, the fleet, time.
//!
//! Owns plain values only. It does no I/O, holds no wire format (that is `wire`), no rules (`policy`)
//! and no state; a type lives here only when two rooms need it.

mod class;
mod clock;
mod event;
mod fault;
mod fleet;
mod gpu;
mod ids;
mod json;
mod model_name;
mod overflow;
mod request;
mod residency;
mod usage;

pub use class::Class;
pub use clock::{Clock, Moment, date};
pub use event::{Event, Finish, Metrics, Piece, Vectors};
pub use fault::{Fault, FaultClass, Limit, Origin, QueuePlace};
pub use fleet::{EndpointView, FleetView, ModelView, Resident};
pub use gpu::{GpuName, GpuView, GpusView};
pub use ids::{AppName, EndpointId, KeyId, RequestId};
pub use json::{Json, JsonField, field};
pub use model_name::{InvalidName, ModelName};
pub use overflow::{Overflow, OverflowEnd, Oversize};
pub use request::{Dialect, InferenceRequest, Intent, Measure, ReplyShape, Surface, Task};
pub use residency::{LONG_LOAD, LoadOrder, ResidencyCommand, UnloadReason};
pub use usage::{Outcome, Usage};

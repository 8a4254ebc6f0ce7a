//! What a request may expect: its place, its wait, and why it waits.
//!
//! Owns the values only; they are worked out in `forecast`.

use std::time::Duration;

use crate::domain::{AppName, Class, EndpointId, Moment, RequestId};

use super::Refused;

/// Why a request is not running now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// Its application runs as many as its `max_concurrent` allows.
    OwnLimit,
    /// Every slot of its model's runner is taken.
    Slots,
    /// Its model is being loaded.
    Loading,
    /// Runners are being drained and unloaded, to make room for its model or for another one that went first.
    Swapping,
    /// Its model is not in memory, and its turn to be loaded has not come.
    Turn,
    /// Loads of its model failed; it is tried again in a moment.
    Retry,
    /// No endpoint that has its model can be used.
    Unreachable,
}

impl WaitReason {
    /// Every reason.
    pub const ALL: [Self; 7] =
        [Self::OwnLimit, Self::Slots, Self::Loading, Self::Swapping, Self::Turn, Self::Retry, Self::Unreachable];

    /// Whether it waits for its model, not only for a slot of it.
    #[must_use]
    pub fn is_for_the_model(self) -> bool {
        !matches!(self, Self::OwnLimit | Self::Slots)
    }

    /// The word that metrics and listings use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnLimit => "own_limit",
            Self::Slots => "slots",
            Self::Loading => "loading",
            Self::Swapping => "swapping",
            Self::Turn => "turn",
            Self::Retry => "retry",
            Self::Unreachable => "unreachable",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::OwnLimit => "the application already runs as many requests as it may (max_concurrent)",
            Self::Slots => "every slot of the model is taken",
            Self::Loading => "the model is being loaded",
            Self::Swapping => "models are being unloaded to make room",
            Self::Turn => "the model is not in memory and is loaded when it is its turn",
            Self::Retry => "the model could not be loaded and is tried again in a moment",
            Self::Unreachable => "no server that has the model can be used now",
        }
    }
}

/// What a request that waits may expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Its place in the line for its model, 1 = next.
    pub position: usize,
    /// Time until it starts, by the rules run forward on the present state.
    pub wait: Duration,
    /// Why it does not run now.
    pub reason: WaitReason,
}

/// A request in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// What its caller knows it by.
    pub label: RequestId,
    /// Whose it is.
    pub app: AppName,
    /// How urgent.
    pub class: Class,
    /// The weights it needs.
    pub weights: Box<str>,
    /// When it came.
    pub since: Moment,
    /// When it must have started.
    pub deadline: Moment,
    /// What it may expect.
    pub estimate: Estimate,
}

/// What would happen to a request that came now.
#[derive(Debug, Clone, PartialEq)]
pub enum Outlook {
    /// It would start at once.
    Starts {
        /// Where.
        endpoint: EndpointId,
    },
    /// It would wait.
    Waits(Estimate),
    /// It would be refused.
    Refused(Refused),
}

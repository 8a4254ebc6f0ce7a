//! Priority classes of applications.

/// How urgent an application's work is; the order is the priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Class {
    /// A person waits for it.
    Interactive,
    /// Nothing special.
    #[default]
    Standard,
    /// Nobody waits for it.
    Batch,
}

impl Class {
    /// Every class, most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Standard, Self::Batch];

    /// The word that policies, logs and metrics use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Standard => "standard",
            Self::Batch => "batch",
        }
    }

    /// The share of GPU time a backlogged class keeps even under more urgent load.
    #[must_use]
    pub fn least_share(self) -> f64 {
        match self {
            Self::Interactive => 0.0,
            Self::Standard => 0.15,
            Self::Batch => 0.05,
        }
    }
}

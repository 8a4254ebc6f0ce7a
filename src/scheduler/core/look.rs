//! How often the whole of what waits is looked at.
//!
//! Owns the first turns of models that are not in memory, kept between two looks. In a small house every step looks. In a
//! large one (thousands of lines) a look costs more than all else together, and what it decides takes seconds: then a step
//! looks only when something changed that matters to residency, and else twenty times a second.

use std::time::Duration;

use crate::domain::{Class, EndpointId, Moment};

use super::pool::PoolIndex;
use super::turns::{Firsts, Turn, holds};
use super::{Core, Input, TicketId};

/// Lines (models that wait × applications) up to which every step looks.
const FEW: usize = 256;
/// Between two looks at more.
const PACE: Duration = Duration::from_millis(50);

/// What was seen at the last look.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// Something changed that matters to residency.
    pub(super) due: bool,
    /// The next look, if nothing does.
    pub(super) again: Moment,
    /// Whether there is too much to look at every time.
    pub(super) large: bool,
    /// The first ones of each class, by pool; none where one of them is gone.
    heads: Vec<Firsts>,
}

impl Look {
    /// A ticket waits no longer.
    pub(super) fn forget(&mut self, pool: PoolIndex, id: TicketId) {
        if let Some(firsts) = self.heads.get_mut(pool.0).filter(|firsts| holds(firsts, id)) {
            *firsts = Firsts::default();
        }
    }
}

impl Core {
    /// Whether an input changes what may be resident; arrivals and ends say so themselves.
    pub(super) fn matters(input: &Input) -> bool {
        !matches!(input, Input::Submit(_) | Input::Withdraw(_) | Input::Finish { .. } | Input::Began(_) | Input::Tick)
    }

    /// Whether a look is due.
    pub(super) fn looks(&self) -> bool {
        self.look.due || self.now >= self.look.again
    }

    /// Looks at the first turns of what may come into memory.
    pub(super) fn look(&mut self, wanted: &[PoolIndex]) {
        self.look.large = wanted.len() * self.apps.len() > FEW;
        self.look.due = false;
        self.look.again = if self.look.large { self.now.after(PACE) } else { self.now };
        let mut heads = std::mem::take(&mut self.look.heads);
        heads.clear();
        heads.resize(self.pools.len(), Firsts::default());
        if self.look.large {
            let able = self.able_by_tag();
            for pool in wanted {
                heads[pool.0] = self.firsts_by_tag(*pool, &able);
            }
        }
        self.look.heads = heads;
    }

    /// The first turn at `site` of a pool whose tickets may all run in the same places: as of the last look while that is
    /// recent.
    pub(super) fn head(&self, pool: PoolIndex, site: EndpointId) -> Option<(Turn, Class, TicketId)> {
        let kept = self.look.heads.get(pool.0).filter(|_| self.look.large);
        kept.and_then(|firsts| self.lowest_turn(site, firsts)).or_else(|| self.first_turn(pool, site))
    }
}

//! What the rules promise, in seconds: the bounds of ARCHITECTURE.md for given models.

use crate::domain::Class;

use super::service::longest_to_earn;
use super::site::SWAP_OVERHEAD;
use super::swap::FINISHING;

/// One model as it competes for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contender {
    /// Its swap cost, seconds.
    pub cost: f64,
    /// The longest run that is permitted on it, seconds.
    pub longest_run: f64,
}

/// The longest that the first request for a model waits while every one of `models` (its own included) is wanted all the
/// time and room is for one, seconds: each takes its turn before it.
///
/// A turn is: the credit climbs from its lowest to the cost of the swap, the victims may finish what they have, what runs
/// drains, and the swap itself. Nobody's tag debt is in it: a model whose applications had more than their share waits for
/// the others first.
#[must_use]
pub fn longest_head_wait(models: &[Contender]) -> f64 {
    let pace = (1.0 - SWAP_OVERHEAD) / SWAP_OVERHEAD;
    let dearest = models.iter().map(|model| model.cost).fold(0.0, f64::max);
    let drain = models.iter().map(|model| model.longest_run).fold(0.0, f64::max);
    let turn = |model: &Contender| (model.cost + dearest) * pace + FINISHING * model.cost * pace + drain + model.cost;
    dearest + models.iter().map(turn).sum::<f64>()
}

/// How much longer it may wait, seconds, where more urgent classes ask without end: until the least share of its class has
/// earned its request, and before that the first one of every other of `models`.
#[must_use]
pub fn longest_claim(models: &[Contender], class: Class) -> f64 {
    let earning = models.iter().map(|model| longest_to_earn(class, model.longest_run));
    earning.sum::<f64>() / (1.0 - SWAP_OVERHEAD)
}

/// The share of an endpoint's time that displacing swaps may take under load.
#[must_use]
pub fn swap_overhead() -> f64 {
    SWAP_OVERHEAD
}

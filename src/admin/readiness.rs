//! Whether this gateway can serve now, and if not, why.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::FleetView;

/// Where the process is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Another process holds the state folder; the text says which.
    Standby(String),
    /// Serving.
    Serving,
    /// Finishing what runs and what waits.
    Draining,
}

/// The readiness rule: serving, and at least one upstream is usable. Policies need no check of their own: those in force
/// are always valid, a bad edit is not taken.
#[derive(Debug, Clone)]
pub struct Readiness {
    phase: Arc<Mutex<Phase>>,
    fleet: Arc<Mutex<Option<watch::Receiver<Arc<FleetView>>>>>,
}

impl Readiness {
    /// A process in this phase that knows no upstream yet.
    #[must_use]
    pub fn new(phase: Phase) -> Self {
        Self { phase: Arc::new(Mutex::new(phase)), fleet: Arc::default() }
    }

    /// Serving from now on.
    pub fn serve(&self, fleet: watch::Receiver<Arc<FleetView>>) {
        *self.fleet.lock().unwrap_or_else(PoisonError::into_inner) = Some(fleet);
        self.enter(Phase::Serving);
    }

    /// Moves to another phase.
    pub fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Ready, or the reason why not.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match phase {
            Phase::Standby(who) => return Err(format!("standby: {who}")),
            Phase::Draining => return Err("draining: no new requests are taken".to_owned()),
            Phase::Serving => {}
        }
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fleet) = fleet.as_ref() else { return Err("starting".to_owned()) };
        let fleet = fleet.borrow();
        let troubles: Vec<String> = fleet
            .endpoints
            .iter()
            .filter_map(|endpoint| {
                let why = endpoint.trouble.as_ref().or(endpoint.ejected.as_ref())?;
                Some(format!("{}: {why}", endpoint.url))
            })
            .collect();
        if troubles.len() < fleet.endpoints.len() {
            Ok(())
        } else {
            Err(format!("no Ollama server can be used: {}", troubles.join("; ")))
        }
    }
}

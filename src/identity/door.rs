//! The door: who may come in, by key or because no key exists yet.
//!
//! Owns the order of the questions. Until the first key or policy, callers on this machine come in and nobody else;
//! from then on a key decides alone.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::{AppName, Clock, Fault, FaultClass};

use super::caller::CallerFacts;
use super::keyring::{HOW, Keyring};
use super::local::{LocalRules, NotLocal};
use super::principal::Principal;

/// Decides who a caller is.
#[derive(Debug, Clone)]
pub struct Doorkeeper {
    keyring: Arc<Keyring>,
    clock: Clock,
    local: LocalRules,
}

impl Doorkeeper {
    /// A door that these keys open.
    #[must_use]
    pub fn new(keyring: Arc<Keyring>, clock: Clock, local: LocalRules) -> Self {
        Self { keyring, clock, local }
    }

    /// Who the caller is.
    ///
    /// # Errors
    /// [`FaultClass::Unauthenticated`], with what the caller can do about it.
    pub fn identify(&self, facts: &CallerFacts<'_>) -> Result<Principal, Fault> {
        if !self.keyring.is_sealed() {
            // no key can be right yet; SDKs that insist on sending one (`api_key="ollama"`) are served all the same
            return match self.local.admit(facts) {
                Ok(()) => Ok(Principal::new(AppName::local(), None, CancellationToken::new())),
                Err(reason) => Err(refusal(reason, facts)),
            };
        }
        let now = self.clock.wall();
        let keyed = facts.credential()?.map(|credential| self.keyring.prove(credential.expose(), now)).transpose()?;
        let signed = facts.signed.map(|signed| signed.prove(&self.keyring, facts.peer, now)).transpose()?;
        match (keyed, signed) {
            (Some(keyed), Some(signed)) if keyed.app() != signed.app() => Err(Fault::new(
                FaultClass::Unauthenticated,
                "the request carries a key of one application and is signed for another: send one of both (OLLAMA_AUTH \
                 makes the Ollama client sign: unset it)",
            )),
            (Some(principal), _) | (None, Some(principal)) => Ok(principal),
            (None, None) => {
                Err(Fault::new(FaultClass::Unauthenticated, format!("a key is needed here: {HOW}"))
                    .detail("no credential"))
            }
        }
    }
}

fn refusal(reason: NotLocal, facts: &CallerFacts<'_>) -> Fault {
    const MEND: &str = "while no key exists only programs on the gateway's own machine are served. Make a key with \
                        `gaucho key create APP` and send it as `Authorization: Bearer KEY`";
    let (why, field) = match reason {
        NotLocal::Peer => ("the request comes from another machine".to_owned(), None),
        NotLocal::Forwarded => ("the request came through a proxy (by its headers)".to_owned(), None),
        NotLocal::Host => (format!("header `Host` names {}", shown(facts.host)), Some("host")),
        NotLocal::Origin => (format!("header `Origin` names the web page {}", shown(facts.origin)), Some("origin")),
    };
    let mut fault = Fault::new(FaultClass::Unauthenticated, format!("{why}: {MEND}"))
        .detail(format!("open door refused {} as {reason:?}", facts.peer));
    fault.param = field.map(str::to_owned);
    fault
}

/// A header's value, cut to what a message can carry.
fn shown(value: Option<&str>) -> String {
    const LONGEST: usize = 80;
    let value = value.unwrap_or_default();
    let cut: String = value.chars().take(LONGEST).collect();
    if cut.len() < value.len() { format!("{cut:?}...") } else { format!("{cut:?}") }
}

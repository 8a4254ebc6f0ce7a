//! The door: who may come in, by key or because no key exists yet.
//!
//! Owns the order of the questions. A key that is presented decides alone; without one, only callers on this machine
//! come in, and only until the first key or policy.

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
        let sealed = self.keyring.is_sealed();
        match facts.credential()? {
            Some(credential) => self.keyring.prove(credential.expose(), self.clock.wall()).map_err(|mut fault| {
                if !sealed {
                    fault.message = NO_KEY_YET.into();
                }
                fault
            }),
            None if sealed => {
                Err(Fault::new(FaultClass::Unauthenticated, format!("a key is needed here: {HOW}"))
                    .detail("no credential"))
            }
            None => match self.local.admit(facts) {
                Ok(()) => Ok(Principal::new(AppName::local(), None, CancellationToken::new())),
                Err(reason) => Err(refusal(reason, facts)),
            },
        }
    }
}

const NO_KEY_YET: &str = "this key is not valid: no key has been made for this gateway yet. Callers on its own machine \
                          need none now; for all others make one with `gaucho key create APP`";

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

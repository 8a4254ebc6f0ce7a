//! Identity over a real state folder, with a clock set by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod door;
mod fresh;
mod keyring;
mod keys;
mod signed;

use std::time::Duration;

use tempfile::TempDir;

use crate::domain::{AppName, Clock, Fault, FaultClass};
use crate::store::Store;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A state folder as two processes see it.
struct Site {
    dir: TempDir,
    clock: Clock,
    store: Store,
    /// The command line's side: a store handle of its own.
    keys: Keys,
}

impl Site {
    fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
        let store = Store::open(dir.path()).unwrap();
        let keys = Keys::new(Store::open(dir.path()).unwrap(), clock.clone());
        Self { dir, clock, store, keys }
    }

    fn create(&self, name: &str) -> NewKey {
        self.keys.create(&app(name), None, None).unwrap()
    }

    fn keyring(&self, policy: &PolicyKeys) -> Keyring {
        Keyring::load(&self.store, policy, self.clock.wall()).unwrap()
    }

    fn reload(&self, keyring: &Keyring) {
        keyring.reload(&self.store, &PolicyKeys::default(), self.clock.wall()).unwrap();
    }

    fn prove(&self, keyring: &Keyring, key: &NewKey) -> Result<Principal, Fault> {
        keyring.prove(key.text.expose(), self.clock.wall())
    }
}

fn app(name: &str) -> AppName {
    AppName::parse(name).unwrap()
}

/// The refusal of a key, whatever was wrong with it: its class and public text.
fn refused(outcome: Result<Principal, Fault>) -> String {
    let fault = outcome.expect_err("refused");
    assert_eq!(fault.class, FaultClass::Unauthenticated);
    fault.message
}

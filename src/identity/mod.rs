//! Who is calling: keys, their proof, and the one door that is open while no key exists.
//!
//! Owns public keys of clients that sign (`ssh`, `uses`), key texts and records (`Keys` for people, over the store; `Keyring` for the request path, in memory), the
//! `Principal` that later rooms ask for, and the rule for callers on the gateway's own machine. It does not decide what
//! a principal may do (`policy`), read headers' framing (`http`) or choose status codes (`wire`). Invariants: a
//! `Principal` is made here only; key texts are shown once and kept as SHA-256; a key that is unknown, malformed,
//! expired or revoked gets one and the same answer; once a key or a policy has existed the open door stays shut.
//! Tested over a temporary state folder with two handles, and by tables of hosts and origins.

mod caller;
mod door;
mod fresh;
mod key;
mod keyring;
mod keys;
mod local;
mod principal;
mod record;
mod signed;
mod ssh;
mod uses;

#[cfg(test)]
mod tests;

pub use caller::{CallerFacts, Target};
pub use door::Doorkeeper;
pub use fresh::keep_fresh;
pub use key::Secret;
pub use keyring::{Keyring, PolicyKeys};
pub use keys::{KeyError, Keys, NewKey};
pub use local::{LocalRules, Page};
pub use principal::Principal;
pub use record::{KeyRecord, KeyState};
pub use ssh::{SshKey, SshKeyError};

//! The keyring: every valid key in memory, for the request path.
//!
//! Owns the proof of a key and the end of what runs under one. Filled from the store and from the hashes in policies;
//! `fresh` keeps it up to date. Invariants: a proof costs one hash of a bounded text, one look-up and one comparison,
//! whatever was presented; a key that leaves takes its running requests along.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use subtle::{Choice, ConstantTimeEq};
use tokio_util::sync::CancellationToken;

use crate::domain::{AppName, Fault, FaultClass, KeyId};
use crate::store::{Change, Store, StoreError};

use super::key::{self, KeyHash};
use super::principal::Principal;
use super::record::{self, IDENTITY, KeyRecord, KeyState, SEAL, StoredKey};
use super::signed::Signer;
use super::ssh::SshKey;

/// Bytes of a credential that are looked at; a longer one is refused.
const LONGEST: usize = 512;

/// How to get a key and where to put it; ends every refusal.
pub(super) const HOW: &str = "ask the operator for one (gaucho key create APP) and send it as \
                              `Authorization: Bearer KEY`, as `x-api-key: KEY` or in the path, `/k/KEY/...`";

/// What the policies say of identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyKeys {
    /// Whether any application has a policy file.
    pub applications: bool,
    /// SHA-256 of keys whose texts the operator keeps elsewhere (`key_hashes`).
    pub hashes: Vec<(AppName, [u8; 32])>,
}

/// The valid keys. Reading never waits.
#[derive(Debug)]
pub struct Keyring {
    ring: ArcSwap<Ring>,
    /// One reload at a time.
    turn: Mutex<()>,
    /// When it was filled first, since 1970: what was signed before may have been used before.
    opened: Duration,
}

#[derive(Debug)]
struct Ring {
    /// By the first half of the hash, so that no look-up compares a whole one; `entry.hash` decides, in constant time.
    entries: HashMap<[u8; 16], Entry>,
    /// Public keys.
    signers: HashMap<SshKey, Signer>,
    /// What an unknown key is compared with, so that it costs what a known one does.
    nobody: Entry,
    sealed: bool,
}

#[derive(Debug)]
struct Entry {
    hash: KeyHash,
    holder: Holder,
}

/// Whom a key stands for, and for how long.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) app: AppName,
    key: Option<KeyId>,
    expires: Option<Duration>,
    state: KeyState,
    gone: CancellationToken,
}

impl Keyring {
    /// A keyring filled for the first time; `now` is since 1970. Blocks.
    ///
    /// # Errors
    /// The store cannot be read, or the seal cannot be kept: a gateway must not start then.
    pub fn load(store: &Store, policy: &PolicyKeys, now: Duration) -> Result<Self, StoreError> {
        let nothing = Ring { entries: HashMap::new(), signers: HashMap::new(), nobody: Entry::nobody(), sealed: false };
        let keyring = Self { ring: ArcSwap::from_pointee(nothing), turn: Mutex::new(()), opened: now };
        keyring.reload(store, policy, now)?;
        Ok(keyring)
    }

    /// Takes the keys anew from the store and the policies, and ends what runs under keys that left. Blocks.
    ///
    /// # Errors
    /// The store cannot be read, and the keys stay as they were; or a first seal cannot be kept, and keys are asked for
    /// all the same. Try again in both cases.
    pub fn reload(&self, store: &Store, policy: &PolicyKeys, now: Duration) -> Result<(), StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = record::read_all(store)?;
        let kept_seal = store.get(IDENTITY, SEAL)?.is_some();
        let old = self.ring.load_full();
        let policies = policy.applications || !policy.hashes.is_empty();
        let sealed = old.sealed || kept_seal || policies || !stored.is_empty();
        let signers = signers(&stored, now);
        let mut ring = Ring { entries: entries(stored, policy, now), signers, nobody: Entry::nobody(), sealed };
        let left = ring.adopt(&old);
        self.ring.store(ring.into());
        left.iter().for_each(CancellationToken::cancel);
        if sealed && !kept_seal {
            let reason = if policies { "a policy named an application" } else { "a key was found" };
            store.commit(&[Change::Ensure(IDENTITY, SEAL, &record::seal(reason, now))])?;
        }
        Ok(())
    }

    /// Whether callers need a key: a key or a policy exists, or has existed.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.ring.load().sealed
    }

    /// Who `credential` stands for, at `now` (since 1970).
    ///
    /// # Errors
    /// One and the same refusal for a key that is unknown, malformed, expired or revoked; the detail for the log knows
    /// which.
    pub fn prove(&self, credential: &str, now: Duration) -> Result<Principal, Fault> {
        let bytes = credential.as_bytes();
        let hash = key::hash(&bytes[..bytes.len().min(LONGEST)]);
        let ring = self.ring.load();
        let entry = ring.entries.get(&half(&hash)).unwrap_or(&ring.nobody);
        let whole = Choice::from(u8::from(bytes.len() <= LONGEST));
        if !bool::from(hash.ct_eq(&entry.hash) & whole) {
            let id = key::id_in(credential).map_or_else(String::new, |id| format!(" (its text says {id})"));
            return Err(refusal(format!("unknown key{id}")));
        }
        entry.holder.principal(now).map_err(refusal)
    }

    /// Reads with the signer of a public key, if there is one, and when this keyring was filled first (since 1970).
    pub(super) fn signer<T>(&self, key: &SshKey, read: impl FnOnce(Option<&Signer>, Duration) -> T) -> T {
        read(self.ring.load().signers.get(key), self.opened)
    }

    /// Ends what runs under keys whose time is over at `now` (since 1970).
    pub fn expire(&self, now: Duration) {
        let ring = self.ring.load();
        ring.signers.values().for_each(|signer| signer.uses.forget(now));
        let signers = ring.signers.values().map(|signer| &signer.holder);
        for holder in ring.entries.values().map(|entry| &entry.holder).chain(signers) {
            if holder.expires.is_some_and(|expires| expires <= now) {
                holder.gone.cancel();
            }
        }
    }
}

impl Ring {
    /// Lets keys that stay keep the token that their requests wait on; returns the tokens of those that left.
    fn adopt(&mut self, old: &Self) -> Vec<CancellationToken> {
        let mut left = Vec::new();
        for (half, was) in &old.entries {
            let is = self.entries.get_mut(half).filter(|is| is.hash == was.hash).map(|is| &mut is.holder);
            left.extend(was.holder.hand_over(is));
        }
        for (key, was) in &old.signers {
            let mut is = self.signers.get_mut(key);
            if let Some(is) = is.as_mut() {
                is.uses = Arc::clone(&was.uses);
            }
            left.extend(was.holder.hand_over(is.map(|is| &mut is.holder)));
        }
        left
    }
}

impl Entry {
    fn nobody() -> Self {
        let holder =
            Holder { app: AppName::local(), key: None, expires: None, state: KeyState::Revoked, gone: token() };
        Self { hash: KeyHash::default(), holder }
    }
}

impl Holder {
    fn of(record: &KeyRecord, now: Duration) -> Self {
        Self {
            app: record.app.clone(),
            key: Some(record.id.clone()),
            expires: record.expires,
            state: record.state(now),
            gone: token(),
        }
    }

    /// The principal, or for the log why it is none.
    pub(super) fn principal(&self, now: Duration) -> Result<Principal, String> {
        match self.state_at(now) {
            KeyState::Active => Ok(Principal::new(self.app.clone(), self.key.clone(), self.gone.clone())),
            state => Err(format!("key {} of {} is {}", self.name(), self.app, state.as_str())),
        }
    }

    /// Lets its successor keep the token that requests wait on; gives the token back when there is none.
    fn hand_over(&self, successor: Option<&mut Self>) -> Option<CancellationToken> {
        match successor {
            Some(is) if is.app == self.app && is.state == KeyState::Active => {
                // a key that came back to life (its expiry was moved) does not end its new requests
                if !self.gone.is_cancelled() {
                    is.gone = self.gone.clone();
                }
                None
            }
            _ => Some(self.gone.clone()),
        }
    }

    fn state_at(&self, now: Duration) -> KeyState {
        let over = self.expires.is_some_and(|expires| expires <= now) || self.gone.is_cancelled();
        if self.state == KeyState::Active && over { KeyState::Expired } else { self.state }
    }

    fn name(&self) -> &str {
        self.key.as_ref().map_or("by policy hash", |id| &id.0)
    }
}

/// Keys that ended stay in, so that the log can say why they are refused. Where a stored key's hash stands in a policy
/// too the stored key wins, so that it can be revoked; among policies the first does.
fn entries(stored: Vec<StoredKey>, policy: &PolicyKeys, now: Duration) -> HashMap<[u8; 16], Entry> {
    let mut entries = HashMap::new();
    for StoredKey { record, hash, .. } in stored {
        let Some(hash) = hash else { continue };
        entries.insert(half(&hash), Entry { hash, holder: Holder::of(&record, now) });
    }
    for (app, hash) in &policy.hashes {
        entries.entry(half(hash)).or_insert_with(|| Entry {
            hash: *hash,
            holder: Holder { app: app.clone(), key: None, expires: None, state: KeyState::Active, gone: token() },
        });
    }
    entries
}

/// Where a public key has several records the valid one counts, and of those the oldest.
fn signers(stored: &[StoredKey], now: Duration) -> HashMap<SshKey, Signer> {
    let mut public: Vec<_> = stored.iter().filter_map(|key| Some((key.record.ssh?, &key.record))).collect();
    public.sort_by_key(|(_, record)| (record.state(now) != KeyState::Active, record.created, record.id.clone()));
    let mut signers = HashMap::new();
    for (key, record) in public {
        signers.entry(key).or_insert_with(|| Signer { holder: Holder::of(record, now), uses: Arc::default() });
    }
    signers
}

fn token() -> CancellationToken {
    CancellationToken::new()
}

fn half(hash: &KeyHash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

fn refusal(detail: String) -> Fault {
    let text = format!("this key is not valid: it is mistyped, expired or revoked. For a valid key {HOW}");
    Fault::new(FaultClass::Unauthenticated, text).detail(detail)
}

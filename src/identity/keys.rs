//! Keys as people manage them: make, list, revoke, rotate.
//!
//! Owns the rules of a key's life, over the store; a running gateway notices by itself (`fresh`). Calls block.

use std::time::Duration;

use crate::domain::{AppName, Clock, KeyId};
use crate::store::{Change, Store, StoreError};

use super::key::{self, KeyHash, Secret};
use super::record::{self, IDENTITY, KEYS, KeyRecord, KeyState, SEAL, StoredKey};
use super::ssh::{SshKey, SshKeyError};

/// How often a change is tried again when someone else changed the same key meanwhile.
const TRIES: usize = 8;
const LONGEST_LABEL: usize = 200;

/// Why a key could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such key.
    #[error("no key has the id {id}{}; `gaucho key list` shows every id", hint(near.as_ref()))]
    Unknown {
        /// What was asked for; `that` when it had not the form of an id, because it may be a secret.
        id: String,
        /// An id that is nearly the same.
        near: Option<KeyId>,
    },
    /// The key is no longer valid, so it cannot hand over to another.
    #[error("key {id} is {}: make a new one with `gaucho key create {app}`", state.as_str())]
    Ended {
        /// The key.
        id: KeyId,
        /// Its application.
        app: AppName,
        /// Why it is not valid.
        state: KeyState,
    },
    /// The label cannot be shown on a line.
    #[error("label {label:?} is not usable: use up to {LONGEST_LABEL} characters without line breaks or control codes")]
    Label {
        /// The label.
        label: String,
    },
    /// A key that would be born expired.
    #[error("a key that expires at once is of no use: give a time such as 90d, or leave it out for a key without end")]
    NoLife,
    /// Others kept changing the same key.
    #[error("key {0} keeps being changed by someone else: see `gaucho key list` and try again")]
    Contended(String),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a key: {0}")]
    Randomness(#[from] getrandom::Error),
    /// A public key that cannot be taken so.
    #[error(transparent)]
    Ssh(#[from] SshKeyError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key just made. Its text exists here and nowhere else.
#[derive(Debug)]
pub struct NewKey {
    /// What the application sends.
    pub text: Secret<String>,
    /// What is kept.
    pub record: KeyRecord,
}

/// The keys of a state folder.
#[derive(Debug)]
pub struct Keys {
    store: Store,
    clock: Clock,
}

impl Keys {
    /// The keys in `store`.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Makes a key for `app` that is valid for `life`, or without end. From now on the gateway asks for keys.
    ///
    /// # Errors
    /// [`KeyError::Label`], [`KeyError::NoLife`], or the key cannot be kept.
    pub fn create(&self, app: &AppName, life: Option<Duration>, label: Option<&str>) -> Result<NewKey, KeyError> {
        check(life, label)?;
        for _ in 0..TRIES {
            let made = self.keep_new(None, |id| self.record(id, app, life, label))?;
            if let Some(made) = made {
                return Ok(made);
            }
        }
        Err(KeyError::Contended("that".into()))
    }

    /// Lets whoever holds the private half of `key` sign as `app`, for `life` or without end. From now on the gateway asks
    /// for keys.
    ///
    /// # Errors
    /// [`KeyError::Label`], [`KeyError::NoLife`], [`SshKeyError::Taken`], or it cannot be kept.
    pub fn add_ssh(
        &self,
        app: &AppName,
        key: SshKey,
        life: Option<Duration>,
        label: Option<&str>,
    ) -> Result<KeyRecord, KeyError> {
        check(life, label)?;
        let now = self.clock.wall();
        let same = |known: &KeyRecord| known.ssh == Some(key) && known.state(now) == KeyState::Active;
        if let Some(KeyRecord { id, app, .. }) = self.list()?.into_iter().find(same) {
            return Err(SshKeyError::Taken { id, app }.into());
        }
        for _ in 0..TRIES {
            let record = KeyRecord { ssh: Some(key), ..self.record(key::new_id()?, app, life, label) };
            if self.keep(&record, None, None)? {
                return Ok(record);
            }
        }
        Err(KeyError::Contended("that".into()))
    }

    fn record(&self, id: KeyId, app: &AppName, life: Option<Duration>, label: Option<&str>) -> KeyRecord {
        let now = self.clock.wall();
        KeyRecord {
            id,
            app: app.clone(),
            label: label.map(str::to_owned),
            created: now,
            expires: life.map(|life| now.saturating_add(life)),
            revoked: None,
            rotated_from: None,
            ssh: None,
        }
    }

    /// Ids whose record cannot be read: such a key is not accepted.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn damaged(&self) -> Result<Vec<String>, StoreError> {
        let stored = self.store.list(KEYS)?;
        Ok(stored.into_iter().filter(|document| record::read(document).is_none()).map(|document| document.id).collect())
    }

    /// Every key ever made here, the oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<KeyRecord>, KeyError> {
        let mut keys: Vec<_> = record::read_all(&self.store)?.into_iter().map(|key| key.record).collect();
        keys.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(keys)
    }

    /// Ends the key for good, running requests included. Revoking twice changes nothing.
    ///
    /// # Errors
    /// [`KeyError::Unknown`], or the change cannot be kept.
    pub fn revoke(&self, id: &str) -> Result<KeyRecord, KeyError> {
        for _ in 0..TRIES {
            let StoredKey { mut record, hash, version } = self.find(id)?;
            if record.revoked.is_some() {
                return Ok(record);
            }
            record.revoked = Some(self.clock.wall());
            let body = record::write(&record, hash.as_ref());
            if self.store.commit(&[Change::Replace(KEYS, &record.id.0, version, &body)])?.is_some() {
                return Ok(record);
            }
        }
        Err(Self::contended(id))
    }

    /// Makes a key that takes over from `id`, with the same application and label and as long a life; the old one
    /// stays valid for `overlap`, and no longer than it would have been.
    ///
    /// # Errors
    /// [`KeyError::Unknown`], [`KeyError::Ended`], or the change cannot be kept; the old key is then as it was.
    pub fn rotate(&self, id: &str, overlap: Duration) -> Result<NewKey, KeyError> {
        for _ in 0..TRIES {
            let old = self.find(id)?;
            if old.record.ssh.is_some() {
                return Err(SshKeyError::NotRotated { id: old.record.id, app: old.record.app }.into());
            }
            let now = self.clock.wall();
            let state = old.record.state(now);
            if state != KeyState::Active {
                return Err(KeyError::Ended { id: old.record.id, app: old.record.app, state });
            }
            let life = self.life(&old.record)?;
            let until = now.saturating_add(overlap);
            let mut ending = old.record.clone();
            ending.expires = Some(ending.expires.map_or(until, |expires| expires.min(until)));
            let body = record::write(&ending, old.hash.as_ref());
            let change = Change::Replace(KEYS, &ending.id.0, old.version, &body);
            let made = self.keep_new(Some(change), |id| KeyRecord {
                id,
                created: now,
                expires: life.map(|life| now + life),
                rotated_from: Some(old.record.id.clone()),
                ..old.record.clone()
            })?;
            if let Some(made) = made {
                return Ok(made);
            }
        }
        Err(Self::contended(id))
    }

    /// How long a key was made to live; `None` is without end. One that was rotated ends early: what took over from it lives as
    /// long as it was meant to.
    fn life(&self, record: &KeyRecord) -> Result<Option<Duration>, KeyError> {
        let meant = |record: &KeyRecord| record.expires.map(|expires| expires.saturating_sub(record.created));
        let heirs = self.list()?.into_iter().filter(|other| other.rotated_from.as_ref() == Some(&record.id));
        let lives: Vec<_> = heirs.map(|heir| meant(&heir)).chain([meant(record)]).collect();
        Ok(lives.into_iter().collect::<Option<Vec<_>>>().and_then(|lives| lives.into_iter().max()))
    }

    /// Keeps a new key, the seal and `also` in one commit; `None` when that met a conflict.
    fn keep_new(
        &self,
        also: Option<Change<'_>>,
        record: impl FnOnce(KeyId) -> KeyRecord,
    ) -> Result<Option<NewKey>, KeyError> {
        let (id, text) = key::generate()?;
        let record = record(id);
        let kept = self.keep(&record, Some(&key::hash(text.expose().as_bytes())), also)?;
        Ok(kept.then_some(NewKey { text, record }))
    }

    /// Whether it could be kept, with the seal and `also`; not when that met a conflict.
    fn keep(&self, record: &KeyRecord, hash: Option<&KeyHash>, also: Option<Change<'_>>) -> Result<bool, KeyError> {
        let body = record::write(record, hash);
        let seal = record::seal("a key was made", record.created);
        let mut changes = vec![Change::Ensure(IDENTITY, SEAL, &seal), Change::Insert(KEYS, &record.id.0, &body)];
        changes.extend(also);
        Ok(self.store.commit(&changes)?.is_some())
    }

    fn find(&self, text: &str) -> Result<StoredKey, KeyError> {
        let Some(id) = key::id_meant(text) else {
            return Err(KeyError::Unknown { id: "that".into(), near: None });
        };
        if let Some(key) = self.store.get(KEYS, &id.0)?.as_ref().and_then(record::read) {
            return Ok(key);
        }
        let near = self.list()?.into_iter().map(|record| record.id).find(|known| nearly_same(&known.0, &id.0));
        Err(KeyError::Unknown { id: id.to_string(), near })
    }

    fn contended(id: &str) -> KeyError {
        KeyError::Contended(key::id_meant(id).map_or_else(|| "that".into(), |id| id.to_string()))
    }
}

fn check(life: Option<Duration>, label: Option<&str>) -> Result<(), KeyError> {
    if let Some(label) = label.filter(|label| label.chars().count() > LONGEST_LABEL || label.contains(char::is_control))
    {
        return Err(KeyError::Label { label: label.to_owned() });
    }
    if life.is_some_and(|life| life.is_zero()) {
        return Err(KeyError::NoLife);
    }
    Ok(())
}

fn hint(near: Option<&KeyId>) -> String {
    near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"))
}

/// Whether two ids of one length differ in two letters at most.
fn nearly_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).filter(|(a, b)| a != b).count() <= 2
}

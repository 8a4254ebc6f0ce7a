//! What is kept of a key, and its form in the store.
//!
//! Owns the collection, the JSON of a record and the seal. Times are milliseconds since 1970 in the store and
//! [`Duration`]s since 1970 outside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::{AppName, KeyId};
use crate::store::{Collection, Document, Store, StoreError, Version};

use super::key::KeyHash;
use super::ssh::SshKey;

pub(super) const KEYS: Collection = Collection("keys");
/// Facts about the state folder as a whole.
pub(super) const IDENTITY: Collection = Collection("identity");
/// The document that shuts the open door for good. It is never deleted.
pub(super) const SEAL: &str = "sealed";

/// What is known of a key. Its text is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public name.
    pub id: KeyId,
    /// The application it stands for.
    pub app: AppName,
    /// A note by the operator.
    pub label: Option<String>,
    /// When it was made, since 1970.
    pub created: Duration,
    /// When it stops being valid, since 1970; `None` for never.
    pub expires: Option<Duration>,
    /// When it was revoked, since 1970.
    pub revoked: Option<Duration>,
    /// The key it took over from.
    pub rotated_from: Option<KeyId>,
    /// The public key that it is; `None` for one whose text is secret.
    pub ssh: Option<SshKey>,
}

/// Whether a key is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is.
    Active,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
}

impl KeyState {
    /// The word for listings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl KeyRecord {
    /// Whether the key is valid at `now` (since 1970).
    #[must_use]
    pub fn state(&self, now: Duration) -> KeyState {
        if self.revoked.is_some() {
            KeyState::Revoked
        } else if self.expires.is_some_and(|expires| expires <= now) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }
}

/// A record with what proves the key, and the version to change it by.
#[derive(Debug, Clone)]
pub(super) struct StoredKey {
    pub(super) record: KeyRecord,
    /// Of the secret text, where there is one.
    pub(super) hash: Option<KeyHash>,
    pub(super) version: Version,
}

#[derive(Serialize, Deserialize)]
struct Body {
    app: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh_ed25519: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    created_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotated_from: Option<String>,
}

/// Every key that can be read. One that cannot is reported and left out, so that it locks out nobody else.
pub(super) fn read_all(store: &Store) -> Result<Vec<StoredKey>, StoreError> {
    Ok(store.list(KEYS)?.iter().filter_map(read).collect())
}

/// `None`, with a line in the log, when the document is not a key's.
pub(super) fn read(document: &Document) -> Option<StoredKey> {
    let parsed = parse(document);
    if parsed.is_none() {
        tracing::error!(key = document.id, "the stored record of this key is damaged; the key is not accepted");
    }
    parsed
}

fn parse(document: &Document) -> Option<StoredKey> {
    let body: Body = serde_json::from_str(&document.body).ok()?;
    let (hash, ssh) = match (&body.sha256, &body.ssh_ed25519) {
        (Some(hex), None) => {
            let mut hash = KeyHash::default();
            hex::decode_to_slice(hex, &mut hash).ok()?;
            (Some(hash), None)
        }
        (None, Some(key)) => (None, Some(SshKey::from_base64(key)?)),
        _ => return None,
    };
    let record = KeyRecord {
        id: KeyId(document.id.as_str().into()),
        app: AppName::parse(&body.app).ok()?,
        label: body.label,
        created: Duration::from_millis(body.created_ms),
        expires: body.expires_ms.map(Duration::from_millis),
        revoked: body.revoked_ms.map(Duration::from_millis),
        rotated_from: body.rotated_from.map(|id| KeyId(id.into())),
        ssh,
    };
    Some(StoredKey { record, hash, version: document.version })
}

/// The document's JSON.
pub(super) fn write(record: &KeyRecord, hash: Option<&KeyHash>) -> String {
    let body = Body {
        app: record.app.as_str().to_owned(),
        sha256: hash.map(hex::encode),
        ssh_ed25519: record.ssh.as_ref().map(SshKey::base64),
        label: record.label.clone(),
        created_ms: millis(record.created),
        expires_ms: record.expires.map(millis),
        revoked_ms: record.revoked.map(millis),
        rotated_from: record.rotated_from.as_ref().map(ToString::to_string),
    };
    // strings and numbers always have a JSON form
    serde_json::to_string(&body).unwrap_or_default()
}

/// The seal's JSON: why and when, for people.
pub(super) fn seal(reason: &str, now: Duration) -> String {
    serde_json::json!({ "reason": reason, "since_ms": millis(now) }).to_string()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! Key texts: how they are made, what is kept of them, and how they stay out of logs.
//!
//! A key is `gk_<id>_<secret>`, safe in a URL's path: the id (50 random bits) names it in public, the secret (256
//! random bits) proves it. Only the SHA-256 of the whole text is kept; a slow hash would add nothing, because nobody
//! can guess 256 bits.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::domain::KeyId;

const PREFIX: &str = "gk_";
const ID_LENGTH: usize = 10;
const SECRET_LENGTH: usize = 43;
/// 32 letters that cannot be mistaken for one another.
const ID_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SECRET_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// SHA-256 of a key's text.
pub(super) type KeyHash = [u8; 32];

/// A text that must not be printed: a key made or presented. `Debug` hides it, and there is no `Display`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T: AsRef<str>> Secret<T> {
    /// Marks `text` as secret.
    pub fn new(text: T) -> Self {
        Self(text)
    }

    /// The text itself, for those who check it or show it once.
    pub fn expose(&self) -> &str {
        self.0.as_ref()
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A new key's id and text. Fails only where the system has no randomness.
pub(super) fn generate() -> Result<(KeyId, Secret<String>), getrandom::Error> {
    let id = new_id()?;
    let secret = random_text(SECRET_ALPHABET, SECRET_LENGTH)?;
    let text = format!("{PREFIX}{id}_{secret}");
    Ok((id, Secret(text)))
}

/// A new key's id alone.
pub(super) fn new_id() -> Result<KeyId, getrandom::Error> {
    Ok(KeyId(random_text(ID_ALPHABET, ID_LENGTH)?.into()))
}

pub(super) fn hash(text: &[u8]) -> KeyHash {
    Sha256::digest(text).into()
}

/// The id within a whole key's text. Strict, so that no part of a secret of another form is taken for public.
pub(super) fn id_in(text: &str) -> Option<KeyId> {
    let (id, _) = text.strip_prefix(PREFIX)?.split_once('_')?;
    id_from(id)
}

/// The id that a person means by an id, with or without `gk_`, or by a whole key.
pub(super) fn id_meant(text: &str) -> Option<KeyId> {
    let text = text.trim();
    id_in(text).or_else(|| id_from(text.strip_prefix(PREFIX).unwrap_or(text)))
}

fn id_from(id: &str) -> Option<KeyId> {
    let well_formed = id.len() == ID_LENGTH && id.bytes().all(|letter| ID_ALPHABET.contains(&letter));
    well_formed.then(|| KeyId(id.into()))
}

/// Letters of `alphabet`, each as likely as any other.
fn random_text(alphabet: &[u8], length: usize) -> Result<String, getrandom::Error> {
    let fair = 256 - 256 % alphabet.len(); // bytes above would favour the first letters
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes)?;
        let letters = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        text.extend(letters.map(|byte| char::from(alphabet[byte % alphabet.len()])).take(length - text.len()));
    }
    Ok(text)
}

//! Public keys of the Ollama client (`~/.ollama/id_ed25519.pub`): their texts, and what they verify.
//!
//! Owns the forms: a line as in `authorized_keys`, SSH's wire form, a fingerprint. Verifying is AWS-LC's. Which
//! application a key stands for is the keyring's to know, and whether a signature was used before `uses`'.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest, Sha256};

use crate::domain::{AppName, KeyId};

const KIND: &str = "ssh-ed25519";
/// What precedes the key's bytes in SSH's wire form: the kind's name and both lengths.
const HEAD: &[u8; 19] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";

/// An ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SshKey([u8; 32]);

/// A signature of 64 bytes.
pub(super) type Signature = [u8; 64];

/// Why a public key cannot be taken, or a public key's record not be treated like a secret key's.
#[derive(Debug, thiserror::Error)]
pub enum SshKeyError {
    /// It is no public key.
    #[error("this is not a public key: give one line such as `ssh-ed25519 AAAAC3… name`, or the file that holds it")]
    Malformed,
    /// It is somebody's secret.
    #[error("this is a private key, which nobody else should have: give the public one, the file that ends in .pub")]
    Private,
    /// Another algorithm.
    #[error("{0:?} keys are not taken: the Ollama client signs with ssh-ed25519 (~/.ollama/id_ed25519.pub)")]
    Kind(String),
    /// It is registered.
    #[error("this public key already stands for {app}, as key {id}: `gaucho key revoke {id}` first")]
    Taken {
        /// Its record.
        id: KeyId,
        /// Whom it stands for.
        app: AppName,
    },
    /// There is no secret of ours to make anew.
    #[error(
        "key {id} is a public key, whose owner makes a new pair: register that with `gaucho key add-ssh {app}`, \
             then `gaucho key revoke {id}`"
    )]
    NotRotated {
        /// Its record.
        id: KeyId,
        /// Whom it stands for.
        app: AppName,
    },
}

impl SshKey {
    /// Reads the text of a `.pub` file: the key, and the comment behind it.
    ///
    /// # Errors
    /// [`SshKeyError::Malformed`], [`SshKeyError::Private`] or [`SshKeyError::Kind`].
    pub fn parse(text: &str) -> Result<(Self, Option<String>), SshKeyError> {
        if text.contains("PRIVATE KEY") {
            return Err(SshKeyError::Private);
        }
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let line = lines.next().ok_or(SshKeyError::Malformed)?;
        if lines.next().is_some() {
            return Err(SshKeyError::Malformed);
        }
        let mut words = line.splitn(3, char::is_whitespace);
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if kind != KIND {
            let known = kind.starts_with("ssh-") || kind.starts_with("ecdsa-") || kind.starts_with("sk-");
            return Err(if known { SshKeyError::Kind(kind.to_owned()) } else { SshKeyError::Malformed });
        }
        let comment = words.next().map(str::trim).filter(|comment| !comment.is_empty());
        Ok((Self::from_base64(key).ok_or(SshKeyError::Malformed)?, comment.map(str::to_owned)))
    }

    /// From the base64 of the wire form, the second word of its line.
    pub(super) fn from_base64(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        bytes.strip_prefix(HEAD)?.try_into().ok().map(Self)
    }

    fn wire(&self) -> Vec<u8> {
        [HEAD.as_slice(), &self.0].concat()
    }

    /// The base64 of the wire form.
    pub(super) fn base64(&self) -> String {
        STANDARD.encode(self.wire())
    }

    /// As `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(self.wire())))
    }

    /// Whether the holder of the private key signed `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fingerprint())
    }
}

/// Reads `PUBLICKEY:SIGNATURE` as the Ollama client sends it; `None` when it is something else.
pub(super) fn read_signed(text: &str) -> Option<(SshKey, Signature)> {
    let (key, signature) = text.split_once(':')?;
    let signature = STANDARD.decode(signature).ok()?;
    Some((SshKey::from_base64(key)?, signature.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Made with `ssh-keygen -t ed25519`, which also gave the fingerprint.
    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL8icXYqs+4sTGk7c4CwqPaVtf4SUAHrGG28Z2bIMacB me@here";
    const PRINT: &str = "SHA256:gBiV2LtD7NWTonBrA5v3Lsc8my/B9MJP47GY6+Yx3QM";

    #[test]
    fn lines_are_read_as_ssh_writes_them() {
        let (key, comment) = SshKey::parse(LINE).unwrap();
        assert_eq!((key.fingerprint().as_str(), comment.as_deref()), (PRINT, Some("me@here")));
        assert_eq!(key.base64(), LINE.split(' ').nth(1).unwrap());
        let bare = LINE.rsplit_once(' ').unwrap().0;
        assert_eq!(SshKey::parse(&format!("\n# mine\n{bare}\n")).unwrap(), (key, None));
    }

    #[test]
    fn what_is_no_public_key_is_told_apart() {
        let cut = &LINE[..LINE.len() - 20];
        for text in ["", "hello", cut, "ssh-ed25519", "ssh-ed25519 AAAA", &format!("{LINE}\n{LINE}")] {
            assert!(matches!(SshKey::parse(text), Err(SshKeyError::Malformed)), "{text}");
        }
        assert!(matches!(SshKey::parse("ssh-rsa AAAAB3"), Err(SshKeyError::Kind(_))));
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n";
        assert!(matches!(SshKey::parse(private), Err(SshKeyError::Private)));
    }
}

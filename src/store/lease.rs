//! The lease on a state folder: one `serve` at a time owns it, a second one stands by.
//!
//! Owns the lock file. The kernel holds the lock and lets go when the process ends, however it ends, so there is no
//! stale lock to clear. Command-line tools never take it. The text inside is for people and decides nothing.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::StoreError;
use super::embedded::make_folder;

const FILE: &str = "serve.lock";
/// How soon a standby notices that the owner let go.
const POLL: Duration = Duration::from_millis(100);

/// The right to serve from a state folder; dropping it lets the next one in.
#[derive(Debug)]
pub struct Lease {
    // held for its lock; the file stays, because removing it would let two owners lock two files
    _lock: Flock<File>,
}

impl Lease {
    /// Takes the lease if it is free. `note` says who we are (process and address), for [`Lease::holder`].
    ///
    /// # Errors
    /// The folder or the lock file cannot be made or locked.
    pub fn try_take(folder: &Path, note: &str) -> Result<Option<Self>, StoreError> {
        make_folder(folder)?;
        let path = folder.join(FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::unwritable(&path, &error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // the note is a courtesy: a full disk must not keep the gateway from serving
                let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{note}"));
                Ok(Some(Self { _lock: lock }))
            }
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => Ok(None),
            Err((_, errno)) => Err(StoreError::unwritable(&path, &errno)),
        }
    }

    /// Waits until the lease is free and takes it. Drop the future to stop waiting.
    ///
    /// # Errors
    /// As [`Lease::try_take`].
    pub async fn take(folder: PathBuf, note: String) -> Result<Self, StoreError> {
        let mut tick = tokio::time::interval(POLL);
        loop {
            tick.tick().await;
            if let Some(lease) = Self::try_take(&folder, &note)? {
                return Ok(lease);
            }
        }
    }

    /// What the last owner wrote about itself; meaningful only while the lease is taken.
    #[must_use]
    pub fn holder(folder: &Path) -> Option<String> {
        const LONGEST: u64 = 256;
        let mut text = String::new();
        File::open(folder.join(FILE)).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

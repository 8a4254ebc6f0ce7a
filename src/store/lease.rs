//! The lease on a state folder: one `serve` at a time owns it, a second one stands by.
//!
//! Owns the lock file and the note in it. Command-line tools never take the lease. The note is for people
//! and decides nothing.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::StoreError;
use super::folder::{lock_file, make_folder};

pub(super) const FILE: &str = "serve.lock";
/// How soon a standby notices that the owner let go.
const POLL: Duration = Duration::from_millis(100);

/// The right to serve from a state folder; dropping it lets the next one in.
#[derive(Debug)]
pub struct Lease {
    // held for its lock
    _lock: Flock<File>,
}

impl Lease {
    /// Takes the lease if it is free. `note` says who we are (process and address), for [`Lease::holder`].
    ///
    /// # Errors
    /// The folder or the lock file cannot be made or locked.
    pub fn try_take(folder: &Path, note: &str) -> Result<Option<Self>, StoreError> {
        make_folder(folder)?;
        let lock = lock_file(&folder.join(FILE), FlockArg::LockExclusiveNonblock)?;
        Ok(lock.map(|mut lock| {
            // the note is a courtesy: a full disk must not keep the gateway from serving
            let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{note}"));
            Self { _lock: lock }
        }))
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

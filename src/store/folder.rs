//! The state folder's files: for their owner only, and locked by the kernel.
//!
//! Owns modes and locks. A lock ends with the process that holds it, however that ends, so no lock is ever stale; a
//! lock file stays, because removing it would let two processes lock two files.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::StoreError;

/// Makes `folder`, readable by its owner only; one that exists keeps its mode.
pub(super) fn make_folder(folder: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| StoreError::unwritable(folder, &error))
}

/// Opens a file for reading and writing, and makes it where it is missing.
pub(super) fn open_private(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::unwritable(path, &error))
}

/// Locks the file; `None` when it is taken and `how` says not to wait.
pub(super) fn lock_file(path: &Path, how: FlockArg) -> Result<Option<Flock<File>>, StoreError> {
    let mut file = open_private(path)?;
    loop {
        file = match Flock::lock(file, how) {
            Ok(lock) => return Ok(Some(lock)),
            Err((file, Errno::EINTR)) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(StoreError::unwritable(path, &errno)),
        }
    }
}

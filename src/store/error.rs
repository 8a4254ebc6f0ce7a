//! What can go wrong with the state folder, each with the path it concerns and what to do about it.
//!
//! Owns the translation of SQLite's codes into a few cases an operator can act on; `embedded` and `lease` raise them.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use rusqlite::ErrorCode;

/// Why the state folder cannot be used. The text names the path and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no state here, and the caller did not want one made.
    #[error(
        "{} holds no gateway state: name the right folder with --state or GAUCHO_STATE \
         (`gaucho serve` and `gaucho key create` make one)", .0.display()
    )]
    Missing(PathBuf),
    /// The folder or a file in it cannot be made, opened or written.
    #[error(
        "cannot write {}: {detail}; the folder must exist or be creatable, and belong to the user that runs gaucho",
        path.display()
    )]
    Unwritable {
        /// The folder or file.
        path: PathBuf,
        /// The operating system's words.
        detail: String,
    },
    /// The file system has no room.
    #[error("no space left for {}: free some disk space; nothing of this change was kept", .0.display())]
    Full(PathBuf),
    /// A later version of gaucho wrote the file.
    #[error(
        "{} has schema {found}, and this gaucho knows up to {known}: run the newer gaucho that wrote it, \
         or restore a copy made before the upgrade", path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema number.
        found: i64,
        /// The last schema number this version can use.
        known: i64,
    },
    /// The file is not a database, or a damaged one.
    #[error(
        "{} is damaged or not a gaucho database ({detail}): restore a copy, or move it away to start anew \
         (keys must then be made again)", path.display()
    )]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// SQLite's words.
        detail: String,
    },
    /// Another process kept the file locked.
    #[error("{} stayed locked by another process for 5 s: try again, and see what else has it open", .0.display())]
    Busy(PathBuf),
    /// The file was deleted or replaced while this process had it open.
    #[error("{} was removed or replaced while in use: restart gaucho to use the new file", .0.display())]
    Replaced(PathBuf),
    /// Anything else SQLite reports.
    #[error("{} could not be used: {detail}", path.display())]
    Other {
        /// The database file.
        path: PathBuf,
        /// SQLite's words.
        detail: String,
    },
}

impl StoreError {
    pub(super) fn unwritable(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self::Unwritable { path: path.to_owned(), detail: error.to_string() }
    }

    pub(super) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        let detail = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(path),
            // the shared-memory file of the write-ahead log: SQLite calls a full disk a failing one there
            Some(ErrorCode::SystemIoFailure) if is_full(&path) => Self::Full(path),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(path),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, detail },
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Self::Unwritable { path, detail }
            }
            _ => Self::Other { path, detail },
        }
    }
}

fn is_full(path: &Path) -> bool {
    /// What SQLite asks for at least.
    const NEEDED: u64 = 64 << 10;
    statvfs(path).is_ok_and(|disk| disk.blocks_available().saturating_mul(disk.fragment_size()) < NEEDED)
}

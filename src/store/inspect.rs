//! What stands in a state folder, found without changing it: a gateway may serve from it meanwhile.
//!
//! Owns the look. What is wrong is told in the words in which opening the folder would tell it.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, OpenFlags};
use url::Url;

use super::embedded::{BUSY, FILE, OPENING, Store, inode};
use super::{Lease, StoreError, lease, schema};

/// What was found.
#[derive(Debug)]
pub struct Inspected {
    /// To read from; `None` where nothing is kept yet.
    pub store: Option<Store>,
    /// Who serves from the folder now.
    pub holder: Option<String>,
}

impl Store {
    /// Looks whether the state in `folder` could be opened, read and written.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Corrupt`] for damage that nothing would read at once.
    pub fn inspect(folder: &Path) -> Result<Inspected, StoreError> {
        if !exists(folder)? {
            // it would be made
            let beside = folder.ancestors().skip(1).find(|above| above.exists() || above.as_os_str().is_empty());
            let beside = beside.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            permits(beside, AccessFlags::W_OK | AccessFlags::X_OK)?;
            return Ok(Inspected { store: None, holder: None });
        }
        if !folder.is_dir() {
            return Err(StoreError::unwritable(folder, &Errno::ENOTDIR));
        }
        permits(folder, AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK)?;
        let (path, log) = (folder.join(FILE), folder.join(format!("{FILE}-wal")));
        let shared = folder.join(format!("{FILE}-shm"));
        for file in [&path, &log, &shared, &folder.join(OPENING), &folder.join(lease::FILE)] {
            if exists(file)? {
                permits(file, AccessFlags::R_OK | AccessFlags::W_OK)?;
            }
        }
        let holder = holder(folder);
        let length = |file: &Path| file.metadata().map_or(0, |metadata| metadata.len());
        if length(&path) == 0 {
            return Ok(Inspected { store: None, holder });
        }
        let quiet = holder.is_none() && length(&log) == 0;
        let connection = look_into(&path, quiet)?;
        let store = schema::is_current(&connection, &path)?
            .then(|| -> Result<Self, StoreError> { Ok(Self::over(connection, &path, inode(&path)?)) });
        Ok(Inspected { store: store.transpose()?, holder })
    }
}

fn exists(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(|error| StoreError::unwritable(path, &error))
}

fn permits(path: &Path, how: AccessFlags) -> Result<(), StoreError> {
    access(path, how).map_err(|errno| StoreError::unwritable(path, &errno.desc()))
}

/// Who serves from the folder, told by the lock; it is asked for beside other readers and given back at once.
fn holder(folder: &Path) -> Option<String> {
    let lock = File::open(folder.join(lease::FILE)).ok()?;
    match Flock::lock(lock, FlockArg::LockSharedNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => Some(Lease::holder(folder).unwrap_or_else(|| "another process".to_owned())),
        _ => None,
    }
}

/// A connection that only reads, to a database that was read through. A `quiet` one has no other connections and nothing
/// in its write-ahead log: it is taken as it is, because SQLite would make files beside it otherwise.
fn look_into(path: &Path, quiet: bool) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if quiet {
        Connection::open_with_flags(unchanging(path)?, flags | OpenFlags::SQLITE_OPEN_URI)
    } else {
        Connection::open_with_flags(path, flags)
    };
    let connection = connection.map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict == "ok" { Ok(connection) } else { Err(StoreError::Corrupt { path: path.to_owned(), detail: verdict }) }
}

/// The file's URI for a database that nobody changes.
fn unchanging(path: &Path) -> Result<String, StoreError> {
    let whole = std::path::absolute(path).map_err(|error| StoreError::unwritable(path, &error))?;
    let mut uri = Url::from_file_path(&whole).map_err(|()| StoreError::unwritable(path, &Errno::ENOENT))?;
    uri.set_query(Some("immutable=1"));
    Ok(uri.into())
}

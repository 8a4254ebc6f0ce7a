//! The embedded database: one SQLite file in the state folder, shared by `serve` and the command line.
//!
//! Owns the connections and their settings. Write-ahead log, so that
//! readers never wait for a writer; `synchronous = FULL`, so that a key once shown survives a power cut.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::FlockArg;
use rusqlite::{Connection, OpenFlags};

use super::document::{self, Change, Collection, Document, Version};
use super::folder::{lock_file, make_folder, open_private};
use super::{StoreError, schema};

/// How long a call waits for another writer.
pub(super) const BUSY: Duration = Duration::from_secs(5);
pub(super) const FILE: &str = "gaucho.db";
/// Locked for the milliseconds of opening.
pub(super) const OPENING: &str = "open.lock";

/// A handle on the database; clones share one connection. Every call blocks.
#[derive(Debug, Clone)]
pub struct Store {
    path: Arc<Path>,
    /// Which file stood at `path` when it was opened.
    file: u64,
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens the state in `folder`, making folder, file and tables where they are missing.
    ///
    /// # Errors
    /// Any [`StoreError`] but `Missing`.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        make_folder(folder)?;
        // one process at a time: turning the write-ahead log on fails, and does not wait, when another looks in
        let _turn = lock_file(&folder.join(OPENING), FlockArg::LockExclusive)?;
        let path = folder.join(FILE);
        // made here and not by SQLite, for the mode; its -wal and -shm files take after it
        open_private(&path)?;
        let mut connection = connect(&path)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(|error| StoreError::sqlite(&path, &error))?;
        schema::migrate(&mut connection, &path)?;
        let file = inode(&path)?;
        Ok(Self::over(connection, &path, file))
    }

    /// A handle on the file at `path`, which has this number.
    pub(super) fn over(connection: Connection, path: &Path, file: u64) -> Self {
        Self { path: path.into(), file, connection: Arc::new(Mutex::new(connection)) }
    }

    /// Opens the state in `folder` and makes nothing, so that a mistyped folder is an error.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none; otherwise as [`Store::open`].
    pub fn open_existing(folder: &Path) -> Result<Self, StoreError> {
        if folder.join(FILE).exists() { Self::open(folder) } else { Err(StoreError::Missing(folder.to_owned())) }
    }

    /// The document `id`, if there is one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn get(&self, from: Collection, id: &str) -> Result<Option<Document>, StoreError> {
        document::get(&self.lock(), from, id).map_err(|error| self.failed(&error))
    }

    /// Every document of a collection, by id.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn list(&self, from: Collection) -> Result<Vec<Document>, StoreError> {
        document::list(&self.lock(), from).map_err(|error| self.failed(&error))
    }

    /// Makes all `changes` as one, on disk before it returns. `None` when one of them met a conflict: then nothing
    /// changed, and the caller reads again and decides anew.
    ///
    /// # Errors
    /// The database cannot be written; nothing changed.
    pub fn commit(&self, changes: &[Change<'_>]) -> Result<Option<Version>, StoreError> {
        document::commit(&mut self.lock(), changes).map_err(|error| self.failed(&error))
    }

    /// Begins to notice changes made by any handle of any process, this one included.
    ///
    /// # Errors
    /// The database cannot be opened or read.
    pub fn watch(&self) -> Result<Watch, StoreError> {
        // SQLite tells a connection only of *other* connections' changes, so a watch has one of its own
        let mut watch =
            Watch { connection: connect(&self.path)?, path: Arc::clone(&self.path), file: self.file, seen: 0 };
        watch.changed()?;
        Ok(watch)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // a panic elsewhere rolled its transaction back, so the connection is fit for use
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: &rusqlite::Error) -> StoreError {
        StoreError::sqlite(&self.path, error)
    }
}

/// Notices commits. A look costs microseconds and reads no table.
#[derive(Debug)]
pub struct Watch {
    connection: Connection,
    path: Arc<Path>,
    file: u64,
    seen: i64,
}

impl Watch {
    /// Whether anything was committed since the last look (or since the watch began).
    ///
    /// # Errors
    /// [`StoreError::Replaced`] when the file is no longer the one that was opened, which nothing would tell otherwise;
    /// or the database cannot be read.
    pub fn changed(&mut self) -> Result<bool, StoreError> {
        if inode(&self.path)? != self.file {
            return Err(StoreError::Replaced(self.path.to_path_buf()));
        }
        let now = self
            .connection
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map_err(|error| StoreError::sqlite(&self.path, &error))?;
        Ok(std::mem::replace(&mut self.seen, now) != now)
    }
}

/// Which file stands at `path`.
pub(super) fn inode(path: &Path) -> Result<u64, StoreError> {
    path.metadata().map(|metadata| metadata.ino()).map_err(|_| StoreError::Replaced(path.to_owned()))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let failed = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    Ok(connection)
}

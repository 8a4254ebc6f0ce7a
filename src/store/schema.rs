//! The database's tables, and the steps from each schema to the next.
//!
//! Owns the migrations; `PRAGMA user_version` says how many of them a file has had. A step is never edited once
//! released: a change is a new step at the end. A file from a later gaucho is refused and left as it is.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// Step `n` takes a file from schema `n` to `n + 1`.
const STEPS: [&str; 1] = ["
    CREATE TABLE revision (last INTEGER NOT NULL) STRICT;
    INSERT INTO revision (last) VALUES (0);
    CREATE TABLE document (
        collection TEXT NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (collection, id)
    ) STRICT, WITHOUT ROWID;
"];

pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let known = STEPS.len();
    let found = user_version(connection, path)?;
    if found == known {
        return Ok(());
    }
    // the write lock first, then look again: another process may be migrating now
    let failed = |error: rusqlite::Error| StoreError::sqlite(path, &error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found = user_version(&transaction, path)?;
    for step in STEPS.iter().skip(found) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", i64::try_from(known).unwrap_or(i64::MAX)).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Whether the file has had every step; one that has had less would be taken on when it is opened.
pub(super) fn is_current(connection: &Connection, path: &Path) -> Result<bool, StoreError> {
    Ok(user_version(connection, path)? == STEPS.len())
}

/// How many steps the file has had; refuses one that has had more than there are.
fn user_version(connection: &Connection, path: &Path) -> Result<usize, StoreError> {
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| StoreError::sqlite(path, &error))?;
    let known = STEPS.len();
    usize::try_from(found).ok().filter(|found| *found <= known).ok_or_else(|| StoreError::Newer {
        path: path.to_owned(),
        found,
        known: i64::try_from(known).unwrap_or(i64::MAX),
    })
}

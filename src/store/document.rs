//! Documents: small JSON texts by collection and id, changed by compare-and-set.
//!
//! Owns the words and the SQL of a change; opening the file is `embedded`'s. A list of changes is one transaction.

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

/// A room's own set of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection(pub &'static str);

/// Which commit wrote a document; used once in the life of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(i64);

/// A stored text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name within the collection.
    pub id: String,
    /// The commit that wrote it.
    pub version: Version,
    /// JSON, as written.
    pub body: String,
}

/// One step of a commit.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Writes a new document; a conflict when there is one already.
    Insert(Collection, &'a str, &'a str),
    /// Writes a new document, or leaves the one that is there as it is; never a conflict.
    Ensure(Collection, &'a str, &'a str),
    /// Writes over a document; a conflict unless it still has this version.
    Replace(Collection, &'a str, Version, &'a str),
    /// Removes a document; a conflict unless it still has this version.
    Delete(Collection, &'a str, Version),
}

pub(super) fn get(connection: &Connection, from: Collection, id: &str) -> rusqlite::Result<Option<Document>> {
    connection
        .prepare_cached("SELECT id, version, body FROM document WHERE collection = ?1 AND id = ?2")?
        .query_row(params![from.0, id], read)
        .optional()
}

pub(super) fn list(connection: &Connection, from: Collection) -> rusqlite::Result<Vec<Document>> {
    connection
        .prepare_cached("SELECT id, version, body FROM document WHERE collection = ?1 ORDER BY id")?
        .query_map(params![from.0], read)?
        .collect()
}

/// `None` when a step met a conflict; nothing is written then.
pub(super) fn commit(connection: &mut Connection, changes: &[Change<'_>]) -> rusqlite::Result<Option<Version>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 =
        transaction.query_row("UPDATE revision SET last = last + 1 RETURNING last", [], |row| row.get(0))?;
    for change in changes {
        if !apply(&transaction, change, version)? {
            return Ok(None); // dropping the transaction takes back what it wrote
        }
    }
    transaction.commit()?;
    Ok(Some(Version(version)))
}

/// Whether the change found the document as it expected.
fn apply(connection: &Connection, change: &Change<'_>, version: i64) -> rusqlite::Result<bool> {
    const INSERT: &str = "INSERT INTO document (collection, id, version, body) VALUES (?1, ?2, ?3, ?4) \
                          ON CONFLICT DO NOTHING";
    const REPLACE: &str = "UPDATE document SET version = ?3, body = ?4 WHERE collection = ?1 AND id = ?2 AND \
                           version = ?5";
    const DELETE: &str = "DELETE FROM document WHERE collection = ?1 AND id = ?2 AND version = ?3";
    let rows = match *change {
        Change::Insert(to, id, body) => connection.prepare_cached(INSERT)?.execute(params![to.0, id, version, body])?,
        Change::Ensure(to, id, body) => {
            connection.prepare_cached(INSERT)?.execute(params![to.0, id, version, body])?;
            1
        }
        Change::Replace(to, id, expected, body) => {
            connection.prepare_cached(REPLACE)?.execute(params![to.0, id, version, body, expected.0])?
        }
        Change::Delete(from, id, expected) => {
            connection.prepare_cached(DELETE)?.execute(params![from.0, id, expected.0])?
        }
    };
    Ok(rows == 1)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document { id: row.get(0)?, version: Version(row.get(1)?), body: row.get(2)? })
}

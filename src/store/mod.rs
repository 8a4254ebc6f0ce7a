//! The state folder: what must outlive the process, and who may serve from it.
//!
//! Owns the embedded database (documents with compare-and-set), the notice that another process changed it, and the
//! lease that lets one `serve` own the folder. It does not know what the documents mean: rooms choose their collections
//! and the JSON inside. Calls block (disk, up to five seconds for another writer), so async callers use
//! `spawn_blocking`. Invariants: a commit is durable before it returns and is all or nothing; a document's version is
//! never used twice, so that compare-and-set cannot mistake a new document for an old one.
//! Tested with two handles on one temporary folder, which is what two processes are.

mod document;
mod embedded;
mod error;
mod folder;
mod inspect;
mod lease;
mod schema;

#[cfg(test)]
mod tests;

pub use document::{Change, Collection, Document, Version};
pub use embedded::{Store, Watch};
pub use error::StoreError;
pub use inspect::Inspected;
pub use lease::Lease;

//! JSON as Go's `encoding/json` reads and writes it, which is how Ollama understands a request.
//!
//! Owns the grammar with Go's error texts (`scan`), type checks against tables of Ollama's structs (`schema`) and what
//! they find (`document`), strings (`text`), the scalars Ollama reads in its own way (`value`) and plain walks (`walk`).
//! It does not know which surface asks for what: the tables live beside their dialects. Invariant: nothing here panics,
//! whatever the bytes are.

mod document;
mod numbers;
mod run;
mod scan;
mod schema;
mod text;
mod value;
mod walk;

pub(super) use document::Document;
pub(super) use numbers::floats;
pub(super) use scan::{Bad, Kind};
pub(super) use schema::{Field, Struct, Type, documents, read, read_text};
pub(super) use text::{Sink, folds_to_start, go_quote, text_len, unquote, write_string};
pub(super) use value::{check_base64, keep_alive, number};
pub(super) use walk::{checked, elements, member, members, members_and_list, whole};

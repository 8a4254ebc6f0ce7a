//! Policies: what each application may do, how each model is loaded, and the request rate.
//!
//! Owns the files of `policies/` (form, checks, compiled [`Policies`]), the pure rules that refuse a request, and
//! the request counters. A request that passes gets a [`Grant`], which only [`Desk`] can make.
//! It does not own keys (`identity`), waiting or concurrency (`scheduler` enforces the numbers given here), nor when
//! files are read again (`config::watch`).
//! Invariants: a file with a mistake compiles to nothing, and every mistake is listed; `rules` is pure; governor is
//! used in `quota` only; a `:cloud` model is never granted.

mod app_rules;
mod compile;
mod document;
mod folder;
mod glob;
mod grant;
mod policies;
mod profile;
mod quota;
mod rules;
mod schema;

pub use app_rules::{AppRules, Endpoints, Models, Rate};
pub use document::{KeepAlive, OnOverflow, Problem, RunnerOptions};
pub use folder::Folder;
pub use grant::{Desk, Grant};
pub use policies::Policies;
pub use profile::RunnerProfile;
pub(crate) use schema::titled;
pub use schema::{SchemaOf, schema};

// the machinery of settings files, for `config`
pub(crate) use document::{
    Bytes, Cadence, Form, OneOrMany, Place, Placed, Reader, Scalar, Span, Whole, document, object_schema,
    read_document, show_text,
};

#[cfg(test)]
mod tests;

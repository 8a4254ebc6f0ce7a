//! Settings: `gaucho.toml`, flags and environment in, one checked [`Settings`] out; and the watch on its files.
//!
//! Owns which source wins (flag, environment, file, default), the defaults, and every read of the environment.
//! It does not own what policies say (`policy`), the command line's grammar (`cli`), or what is done with a change (`app`).
//! Invariants: every mistake of every source is listed at once, each naming the file and line, the flag or the variable;
//! a setting that does not load changes nothing.

mod document;
mod forms;
mod settings;
mod sources;
mod watch;
mod web;

pub(crate) use document::Memory;
pub use document::schema;
pub use settings::{Endpoint, Limits, Secret, Settings, SettingsFile, UpstreamTimeouts, endpoint_problems, load};
pub use sources::{Overrides, process_env};
pub use watch::{Watched, watch};
pub use web::{TlsFiles, Web};

#[cfg(test)]
mod tests;

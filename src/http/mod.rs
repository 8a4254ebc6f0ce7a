//! Sockets and HTTP: the accept loop, the routes, and the way from an HTTP request to `gateway` and back.
//!
//! Owns connection limits and time limits. It knows no model, no policy and no dialect beyond which route belongs to
//! which surface; every answer it sends for a surface is made by `gateway`.

mod body;
mod caller;
mod leftover;
mod path_key;
mod routes;
mod server;
mod timeout_io;

pub use routes::{Shared, router};
pub use server::{Limits, Server};

//! Sockets and HTTP: the accept loop, the routes, and the way from an HTTP request to `gateway` and back.
//!
//! Owns connection limits and time limits. It knows no model, no policy and no dialect beyond which route belongs to
//! which surface; every answer it sends for a surface is made by `gateway`.

mod access;
mod body;
mod browsers;
mod caller;
mod certificate;
mod connection;
mod leftover;
mod order;
mod path_key;
mod pulse;
mod routes;
mod server;
mod table;
mod timeout_io;
mod tls;

#[cfg(test)]
mod tests;

pub use access::AccessLog;
pub use browsers::Web;
pub use routes::{Shared, router};
pub use server::{Limits, Server};
pub use tls::Tls;

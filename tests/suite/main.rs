//! Behaviours of the whole program, one module each, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod clients;
mod kept_connection;
mod sim_faults;
mod sim_recordings;
mod sim_sharing;
mod straight_line;
mod support;

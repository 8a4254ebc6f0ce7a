//! Behaviours of the whole program, one module each, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod abilities;
mod as_written;
mod bad_input;
mod callers_leave;
mod clients;
mod defects;
mod doctor;
mod explain;
mod fleet;
mod fleet_faults;
mod gpus;
mod healing;
mod hostile_http;
mod identity;
mod keepalive;
mod kept_connection;
mod limits;
mod lists;
mod live;
mod odd_upstream;
mod operations;
mod overflow;
mod process;
mod queue_view;
mod residency;
mod sim_faults;
mod sim_levers;
mod sim_recordings;
mod sim_sharing;
mod straight_line;
mod support;
mod upstream_faults;
mod v1_fields;

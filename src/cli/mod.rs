//! The command line.

mod sim;

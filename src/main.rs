//! The `gaucho` binary.
fn main() {}

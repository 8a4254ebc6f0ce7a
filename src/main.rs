//! The `gaucho` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(gaucho::cli::run(std::env::args_os()))
}

//! The `gaucho` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    gaucho::cli::run(std::env::args_os()).into()
}

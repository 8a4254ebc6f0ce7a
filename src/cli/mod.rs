//! Commands: what people type. Each command is one file and calls the rooms that do the work.
//!
//! Owns the command line's grammar and what is printed; it does not own any rule.

mod check;

use std::io;
use std::process::ExitCode;

use clap::Parser;

/// An Ollama-aware inference gateway and model broker.
#[derive(Debug, clap::Parser)]
#[command(name = "gaucho", version)]
enum Command {
    /// Check settings and policies: lists every mistake with its place, exit code 1 if there is one
    Check(check::CheckArgs),
}

/// Runs the command that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let code = match Command::parse() {
        Command::Check(args) => check::run(&args, &mut io::stdout(), &mut io::stderr()),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

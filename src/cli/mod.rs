//! The command line.
//!
//! Owns the commands' arguments, what they print and their exit codes: 0 done, 1 refused or failed, 2 not understood.
//! What a command does belongs to the room it names. Standard output carries results only, so that scripts can capture
//! them; everything said to people goes to standard error.

mod key;

use std::ffi::OsString;
use std::io::{stderr, stdout};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::domain::Clock;

/// An Ollama-aware inference gateway and model broker.
#[derive(Debug, Parser)]
#[command(name = "gaucho", version)]
struct Cli {
    /// Folder that holds the gateway's state
    #[arg(long, global = true, env = "GAUCHO_STATE", default_value = "state", value_name = "DIR")]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, list, revoke and rotate applications' keys
    Key(key::KeyArgs),
}

/// Runs the command that `arguments` (program name first) ask for; gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let code = match Cli::try_parse_from(arguments) {
        Ok(cli) => dispatch(&cli),
        Err(error) => {
            let _ = error.print(); // help and version, too, come this way
            error.exit_code()
        }
    };
    u8::try_from(code).unwrap_or(1)
}

fn dispatch(cli: &Cli) -> i32 {
    match &cli.command {
        Command::Key(args) => key::run(args, &cli.state, &Clock::real(), &mut stdout().lock(), &mut stderr().lock()),
    }
}

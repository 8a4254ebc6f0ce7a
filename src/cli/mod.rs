//! The command line.
//!
//! Owns the commands' arguments, what they print and their exit codes: 0 done, 1 refused or failed, 2 not understood (and
//! for `explain`: nobody to ask).
//! What a command does belongs to the room it names. Standard output carries results only, so that scripts can capture
//! them; everything said to people goes to standard error.

mod check;
mod demo;
mod doctor;
mod door;
mod explain;
mod health;
mod key;
mod promises;
mod queue;
mod serve;
mod sim;

use std::ffi::OsString;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::{self, Overrides, Settings};
use crate::domain::Clock;

/// For the log's last lines at the end of the process.
const LAST_LINES: Duration = Duration::from_secs(2);

/// An Ollama-aware inference gateway: stands in front of Ollama servers and shares them fairly among applications.
#[derive(Debug, Parser)]
#[command(name = "gaucho", version, arg_required_else_help = true)]
struct Cli {
    /// Folder of the gateway's state: keys, and the lock of the one that serves
    /// [env: GAUCHO_STATE] [default: ~/.local/state/gaucho]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    /// Make, list, revoke and rotate applications' keys
    Key(key::KeyArgs),
    Check(check::CheckArgs),
    Queue(queue::QueueArgs),
    Explain(explain::ExplainArgs),
    Demo(demo::DemoArgs),
    Doctor(doctor::DoctorArgs),
    Health(health::HealthArgs),
    Sim(sim::SimArgs),
}

/// Runs the command that `arguments` (program name first) ask for; gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let code = match Cli::try_parse_from(arguments) {
        Ok(cli) => dispatch(cli),
        Err(error) => {
            let _ = error.print(); // help and version, too, come this way
            error.exit_code()
        }
    };
    u8::try_from(code).unwrap_or(1)
}

fn dispatch(cli: Cli) -> i32 {
    let (mut out, mut err) = (stdout(), stderr());
    match cli.command {
        Command::Serve(args) => serve::run(&args, cli.state, &mut err),
        Command::Key(args) => match settings(None, Overrides { state: cli.state, ..Overrides::default() }, &mut err) {
            Some(settings) => key::run(&args, &settings.state, &Clock::real(), &mut out, &mut err),
            None => 1,
        },
        Command::Check(args) => check::run(&args, cli.state, &mut out, &mut err),
        Command::Doctor(args) => doctor::run(&args, &mut out, &mut err),
        Command::Queue(args) => queue::run(&args, &mut out, &mut err),
        Command::Explain(args) => explain::run(&args, &mut out, &mut err),
        Command::Demo(args) => demo::run(&args, &mut out, &mut err),
        Command::Sim(args) => said(block_on(async { sim::run(args).await.map_err(|why| vec![why]) }), &mut err),
        Command::Health(args) => health::run(&args, &mut out, &mut err),
    }
}

/// 0, or 1 after saying what went wrong.
fn said(done: Result<(), Vec<String>>, err: &mut dyn Write) -> i32 {
    let Err(problems) = done else { return 0 };
    for problem in problems {
        let _ = writeln!(err, "gaucho: {problem}");
    }
    1
}

/// The settings, or all that is wrong with them on `err`.
fn settings(file: Option<&Path>, overrides: Overrides, err: &mut dyn Write) -> Option<Settings> {
    match config::load(file, overrides, &config::process_env) {
        Ok(settings) => Some(settings),
        Err(problems) => {
            for problem in problems {
                let _ = writeln!(err, "{problem}");
            }
            None
        }
    }
}

/// Runs `work` on a runtime of its own.
fn block_on<T>(work: impl Future<Output = Result<T, Vec<String>>>) -> Result<T, Vec<String>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| vec![format!("the runtime cannot be started: {error}")])?;
    runtime.block_on(work)
}

//! `gaucho health`: asks a running gateway whether it is alive (or ready), for containers that have no curl.

use std::io::Write;
use std::path::PathBuf;

use crate::config::Overrides;

use super::door::Door;

/// Ask the gateway on this machine whether it is alive; exit code 0 if so, else 1.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthArgs {
    /// Ask whether it can serve (an Ollama server answers, it is no standby), not only whether it is alive
    #[arg(long)]
    ready: bool,
    /// Address to ask [env: GAUCHO_ADMIN_LISTEN] [default: 127.0.0.1:11436]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// Settings file [env: GAUCHO_CONFIG] [default: ./gaucho.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: &HealthArgs, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let overrides = Overrides { admin_listen: args.admin_listen.clone(), ..Overrides::default() };
    let Some(settings) = super::settings(args.config.as_deref(), overrides, err) else { return 1 };
    let path = if args.ready { "/readyz" } else { "/healthz" };
    match Door::at(settings.admin_listen).get(path, None) {
        Ok((200, text)) => {
            let _ = write!(out, "{text}");
            0
        }
        Ok((_, text)) => {
            let _ = write!(err, "{text}");
            1
        }
        Err(why) => {
            let _ = writeln!(err, "{why}");
            1
        }
    }
}

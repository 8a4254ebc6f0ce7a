//! `gaucho health`: asks a running gateway whether it is alive (or ready), for containers that have no curl.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Overrides;

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

/// For the whole exchange.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &HealthArgs, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let overrides = Overrides { admin_listen: args.admin_listen.clone(), ..Overrides::default() };
    let Some(settings) = super::settings(args.config.as_deref(), overrides, err) else { return 1 };
    let address = reachable(settings.admin_listen);
    let path = if args.ready { "/readyz" } else { "/healthz" };
    match ask(address, path) {
        Ok((200, text)) => {
            let _ = write!(out, "{text}");
            0
        }
        Ok((_, text)) => {
            let _ = write!(err, "{text}");
            1
        }
        Err(error) => {
            let _ = writeln!(err, "no gateway answers on {address}: {error}");
            1
        }
    }
}

/// An address to listen on "everywhere" is reached on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// One GET by hand: status and body.
fn ask(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(text)?;
    let mut reply = Vec::new();
    stream.take(64 << 10).read_to_end(&mut reply).map_err(text)?;
    let reply = String::from_utf8_lossy(&reply);
    let status = reply.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or("the answer is not HTTP")?;
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_everywhere_is_asked_on_loopback() {
        let cases = [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.7:3", "10.0.0.7:3")];
        for (listen, asked) in cases {
            assert_eq!(listen.parse().map(reachable), asked.parse::<SocketAddr>());
        }
    }
}

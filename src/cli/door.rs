//! The way from a command to the admin listener of a running gateway.
//!
//! Owns one GET by hand and where it goes. What is asked, and what is printed of the answer, belongs to each command.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::config::{Overrides, Secret, Settings};

/// For each step of an exchange: to connect, to send, to read on.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most that an answer may have; a queue is listed whole.
const MOST: u64 = 64 << 20;

/// Which gateway a command asks.
#[derive(Debug, clap::Args)]
pub(crate) struct DoorArgs {
    /// Admin listener to ask, which speaks plain HTTP, with the token of GAUCHO_ADMIN_TOKEN or GAUCHO_ADMIN_TOKEN_FILE where
    /// it wants one [env: GAUCHO_ADMIN_LISTEN] [default: http://127.0.0.1:11436]
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    /// Settings file [env: GAUCHO_CONFIG] [default: ./gaucho.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DoorArgs {
    /// Asks for JSON at `path`, with a query of those pairs that have a value; says on `err` what stands in the way of it.
    pub(super) fn ask(&self, path: &str, query: &[(&str, Option<String>)], err: &mut dyn Write) -> Option<Value> {
        // which say themselves what is wrong with them
        let settings = super::settings(self.config.as_deref(), Overrides::default(), err)?;
        match self.answer(&settings, path, query) {
            Ok(answer) => Some(answer),
            Err(why) => {
                let _ = writeln!(err, "gaucho: {why}");
                None
            }
        }
    }

    fn answer(&self, settings: &Settings, path: &str, query: &[(&str, Option<String>)]) -> Result<Value, String> {
        let door = match &self.admin {
            Some(text) => Door::parse(text)?,
            None => Door::at(settings.admin_listen),
        };
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        for (name, value) in query {
            if let Some(value) = value {
                pairs.append_pair(name, value);
            }
        }
        let pairs = pairs.finish();
        let target = if pairs.is_empty() { path.to_owned() } else { format!("{path}?{pairs}") };
        let (status, body) = door.get(&target, settings.admin_token.as_ref())?;
        match status {
            200 => serde_json::from_str(&body).map_err(|bad| format!("the answer of {} is not JSON: {bad}", door.name)),
            401 => {
                Err("the gateway wants its admin token: set GAUCHO_ADMIN_TOKEN or GAUCHO_ADMIN_TOKEN_FILE".to_owned())
            }
            404 => Err(format!("{} does not know {path}: is it the admin listener?", door.name)),
            _ => Err(plain(body.trim())),
        }
    }
}

/// An admin listener.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Door {
    host: String,
    port: u16,
    /// For people, and for the `Host` header.
    name: String,
}

impl Door {
    /// The listener that is configured with this address; one for "everywhere" is reached on loopback.
    pub(super) fn at(listen: SocketAddr) -> Self {
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self { host: ip.to_string(), port: listen.port(), name: SocketAddr::new(ip, listen.port()).to_string() }
    }

    /// The listener at a URL, or at an address without a scheme.
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = || format!("--admin {text:?} is not allowed: use a URL such as http://127.0.0.1:11436");
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&full).map_err(|_| allowed())?;
        let bare = url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.password().is_none();
        match (url.scheme(), url.host(), url.port_or_known_default()) {
            ("https", ..) => Err(format!(
                "--admin {text:?} is not allowed: the admin listener speaks plain HTTP, also where applications are \
                 served over TLS; use http:// and its own address, through a tunnel (ssh -L) where the way is not safe"
            )),
            ("http", Some(host), Some(port)) if bare => {
                let name = format!("{host}:{port}");
                let host = host.to_string();
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                Ok(Self { host, port, name })
            }
            _ => Err(allowed()),
        }
    }

    /// One GET by hand: status and body.
    pub(super) fn get(&self, target: &str, token: Option<&Secret>) -> Result<(u16, String), String> {
        let failed = |error: std::io::Error| format!("no gateway answers on {}: {error}", self.name);
        let mut stream = self.connect().map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let token = token.map(|token| format!("Authorization: Bearer {}\r\n", token.0)).unwrap_or_default();
        let head = format!("GET {target} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n{token}\r\n", self.name);
        stream.write_all(head.as_bytes()).map_err(failed)?;
        let mut reply = Vec::new();
        stream.take(MOST).read_to_end(&mut reply).map_err(failed)?;
        let reply = String::from_utf8_lossy(&reply);
        let status = reply.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| format!("what answers on {} does not speak HTTP", self.name))?;
        let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((status, body.to_owned()))
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Text from elsewhere as a terminal may have it.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A field's text; a number is text, too, and what is absent is a dash.
pub(super) fn cell(row: &Value, field: &str) -> String {
    match row.get(field) {
        Some(Value::String(text)) => plain(text),
        None | Some(Value::Null) => "-".to_owned(),
        // 4, not 4.0
        Some(Value::Number(number)) => number.as_f64().unwrap_or_default().to_string(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_address_for_everywhere_is_asked_on_loopback() {
        let cases = [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.7:3", "10.0.0.7:3")];
        for (listen, asked) in cases {
            assert_eq!(Door::at(listen.parse().unwrap()).name, asked);
        }
    }

    #[test]
    fn tls_is_refused_because_the_listener_has_none() {
        let why = Door::parse("https://gpu-1:11436").unwrap_err();
        assert!(why.contains("speaks plain HTTP") && why.contains("use http://"), "{why}");
    }

    #[test]
    fn a_url_or_an_address_names_a_door_and_nothing_else_does() {
        for text in ["http://gpu-1:11436", "gpu-1:11436", "http://gpu-1:11436/"] {
            let door = Door::parse(text).unwrap();
            assert_eq!((door.host.as_str(), door.port, door.name.as_str()), ("gpu-1", 11436, "gpu-1:11436"));
        }
        assert_eq!(Door::parse("[::1]:2").unwrap(), Door::at("[::1]:2".parse().unwrap()));
        for text in ["https://gpu-1:1", "http://gpu-1:1/x", "http://me@gpu-1", "", "http://", "gpu 1"] {
            assert!(Door::parse(text).is_err(), "{text}");
        }
    }
}

//! What a stand-in is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::builtin::default_models;
use super::model::Model;

/// How a stand-in treats requests whose clients leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheduler {
    /// As Ollama 0.32 does: one that leaves the queue for loads keeps its place there and is never told anything; one
    /// that leaves the loader still costs an eviction and a load; one that stopped reading leaves its generation behind.
    #[default]
    Ollama,
    /// As simple, one queue and one loader, but sound: whoever leaves takes everything of his along.
    Ideal,
}

impl std::str::FromStr for Scheduler {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ollama" => Ok(Self::Ollama),
            "ideal" => Ok(Self::Ideal),
            _ => Err(format!("\"{text}\" is not a scheduler; use ollama (as it is) or ideal (leaks nothing)")),
        }
    }
}

/// Settings of a stand-in; the default is a server for demos on a free port.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Whose scheduler it has.
    pub scheduler: Scheduler,
    /// `OLLAMA_NUM_PARALLEL`: slots per runner.
    pub num_parallel: usize,
    /// `OLLAMA_MAX_LOADED_MODELS`: runners in memory at most.
    pub max_loaded_models: usize,
    /// `OLLAMA_MAX_QUEUE`: requests waiting for a load at most.
    pub max_queue: usize,
    /// Bytes of memory for runners; `None` for plenty.
    pub memory: Option<u64>,
    /// `OLLAMA_KEEP_ALIVE`: how long an idle runner stays, in real time; `Duration::MAX` is for ever.
    pub keep_alive: Duration,
    /// `OLLAMA_CONTEXT_LENGTH`: tokens of context where nobody names a number.
    pub context_length: u64,
    /// The models it has.
    pub models: Vec<Model>,
    /// How many times faster than the models' own speeds loads and answers run. What replies report stays
    /// the models' own; idle times (`keep_alive`) are not scaled. Must be above 0.
    pub speed: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            scheduler: Scheduler::default(),
            num_parallel: 1,
            max_loaded_models: 3,
            max_queue: 512,
            memory: None,
            keep_alive: Duration::from_secs(300),
            context_length: 4096,
            models: default_models(),
            speed: 1.0,
        }
    }
}

impl Settings {
    /// Checks what a command line can get wrong.
    ///
    /// # Errors
    /// The setting, its value and what is allowed.
    pub(super) fn check(&self) -> Result<(), String> {
        if !self.speed.is_finite() || self.speed <= 0.0 {
            return Err(format!("speed {} must be a number above 0", self.speed));
        }
        let counts = [("num_parallel", self.num_parallel), ("max_loaded_models", self.max_loaded_models)];
        match counts.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("{name} 0 must be at least 1")),
            None => Ok(()),
        }
    }
}

/// Reads a size such as `24GB`, `512MiB` or plain bytes. `kB`/`MB`/`GB`/`TB` are powers of 1,000; `KiB`/… of 1,024.
///
/// # Errors
/// A sentence that says what is allowed.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1_048_576.0,
        "gib" => 1_073_741_824.0,
        "tib" => 1_099_511_627_776.0,
        _ => f64::NAN,
    };
    let bytes = number.parse::<f64>().unwrap_or(f64::NAN) * scale;
    if bytes.is_nan() {
        return Err(format!("\"{text}\" is not a size; write bytes or a number with kB, MB, GB, KiB, MiB or GiB"));
    }
    Ok(bytes as u64)
}

//! Units in text: durations as Go and Ollama write them, sizes in bytes, `keep_alive`.
//!
//! Pure text to number and back. It does not own ranges (each form has its own).

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use toml::de::DeValue;

use super::forms::{self, Scalar};

/// What [`duration()`] accepts, as a JSON Schema pattern.
pub(crate) const DURATION_PATTERN: &str =
    r"^[+-]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*)$";
/// What [`bytes()`] accepts, as a JSON Schema pattern.
pub(crate) const BYTES_PATTERN: &str = "^[0-9]+ ?(B|KB|MB|GB|KiB|MiB|GiB)$";

const BYTE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads a Go duration (`1h30m`, `1.5h`, `300ms`, `-1s`): whether it is negative, and its size.
pub(crate) fn duration(text: &str) -> Option<(bool, Duration)> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some((negative, Duration::ZERO));
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (amount, tail) = rest.split_at(rest.find(|c: char| !is_amount(c))?);
        let (unit, tail) = tail.split_at(tail.find(is_amount).unwrap_or(tail.len()));
        let amount: f64 = amount.parse().ok()?;
        let part = Duration::try_from_secs_f64(amount * unit_seconds(unit)?).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    in_go(total).then_some((negative, total))
}

fn is_amount(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

/// Whether Go's duration (63 bits of nanoseconds, 292 years) can hold it.
fn in_go(time: Duration) -> bool {
    i64::try_from(time.as_nanos()).is_ok()
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    })
}

/// Reads a number of seconds: whether it is negative, and its size.
pub(crate) fn seconds(number: f64) -> Option<(bool, Duration)> {
    let time = Duration::try_from_secs_f64(number.abs()).ok()?;
    in_go(time).then_some((number < 0.0, time))
}

/// Reads a size: `8MiB`, `8 MiB`, `500KB`, `12B`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (digits, factor) =
        BYTE_UNITS.iter().find_map(|(unit, factor)| text.strip_suffix(unit).map(|digits| (digits, factor)))?;
    let digits = digits.strip_suffix(' ').unwrap_or(digits);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse::<u64>().ok()?.checked_mul(*factor) } else { None }
}

/// A whole number of seconds in its largest unit: `90s`, `2m`, `24h`.
pub(crate) fn show_seconds(seconds: u64) -> String {
    match seconds {
        0 => "0s".to_owned(),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// A size in the largest binary unit that divides it.
pub(crate) fn show_bytes(size: u64) -> String {
    let fitting = BYTE_UNITS.iter().take(3).find(|(_, factor)| size > 0 && size.is_multiple_of(*factor));
    fitting.map_or_else(|| format!("{size} bytes"), |(unit, factor)| format!("{}{unit}", size / factor))
}

/// How long a model stays in memory after its last request, as Ollama's `keep_alive` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive(Duration);

impl KeepAlive {
    /// For ever (`-1`).
    pub const FOREVER: Self = Self(Duration::MAX);

    /// This long; [`Duration::MAX`] stands for "for ever", as in a request.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self(time)
    }

    /// This many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The time; [`Duration::MAX`] stands for "for ever".
    #[must_use]
    pub fn time(self) -> Duration {
        self.0
    }

    /// Reads it as Ollama reads `OLLAMA_KEEP_ALIVE`: a Go duration or whole seconds; negative means for ever.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let whole = || text.parse::<i64>().ok().map(|n| (n < 0, Duration::from_secs(n.unsigned_abs())));
        duration(text).or_else(whole).map(Self::from_signed)
    }

    /// The value to send upstream: `-1`, whole seconds, or a text in milliseconds.
    #[must_use]
    pub fn to_json(self) -> Value {
        match self {
            Self::FOREVER => json!(-1),
            Self(time) if time.subsec_nanos() == 0 => json!(time.as_secs()),
            Self(time) => json!(format!("{}ms", time.as_millis())),
        }
    }

    fn from_signed((negative, time): (bool, Duration)) -> Self {
        if negative && !time.is_zero() { Self::FOREVER } else { Self(time) }
    }
}

/// `for ever`, `300s`, `1500ms`.
impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FOREVER => f.write_str("for ever"),
            Self(time) if time.subsec_nanos() == 0 => f.write_str(&show_seconds(time.as_secs())),
            Self(time) => write!(f, "{}ms", time.as_millis()),
        }
    }
}

impl Scalar for KeepAlive {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        let signed = match value.as_str() {
            Some(text) => duration(text)?,
            None => seconds(forms::number(value)?)?,
        };
        Some(Self::from_signed(signed))
    }

    fn allowed() -> String {
        "a number of seconds, a time such as \"30m\", 0 to unload at once, or -1 to keep it for ever".to_owned()
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "type": "number" }, { "type": "string", "pattern": DURATION_PATTERN }] })
    }
}

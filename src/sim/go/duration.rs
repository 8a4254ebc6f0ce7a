//! `time.ParseDuration` and Ollama's reading of `keep_alive`.

use super::scan::Node;
use super::write::quote;

/// Go's longest duration, about 292 years: what Ollama makes of a negative `keep_alive`.
pub(in crate::sim) const FOREVER_NANOS: i64 = i64::MAX;

/// `keep_alive` in nanoseconds: a number of seconds or a Go duration; negative means for ever.
pub(super) fn keep_alive(node: &Node) -> Result<i64, String> {
    let nanos = match node {
        Node::Number(digits) => {
            let seconds: f64 = digits.parse().unwrap_or(f64::INFINITY);
            if seconds < 0.0 { -1 } else { saturate(seconds * 1e9) }
        }
        Node::Text(text) => parse(text)?,
        Node::Bool(_) => return Err("Unsupported type: 'bool'".into()),
        Node::List(_) => return Err("Unsupported type: '[]interface {}'".into()),
        Node::Object(_) => return Err("Unsupported type: 'map[string]interface {}'".into()),
        Node::Null => return Err("Unsupported type: '%!s(<nil>)'".into()),
    };
    Ok(if nanos < 0 { FOREVER_NANOS } else { nanos })
}

fn saturate(nanos: f64) -> i64 {
    nanos as i64
}

/// `time.ParseDuration`: signed decimal numbers with units, such as `1h15m` or `-1.5s`.
fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let value: f64 = number.parse().map_err(|_| invalid())?;
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let scale = unit_nanos(unit)
            .ok_or_else(|| format!("time: unknown unit {} in duration {}", quote(unit), quote(text)))?;
        total += value * scale;
        rest = tail;
    }
    if total > 9.223_372_036_854_776e18 {
        return Err(invalid());
    }
    let nanos = saturate(total);
    Ok(if negative { -nanos } else { nanos })
}

fn unit_nanos(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 6e10,
        "h" => 3.6e12,
        _ => return None,
    })
}

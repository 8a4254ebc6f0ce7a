//! The scalars that Ollama's types read in their own way: durations, think levels, base64, bounded numbers.
//!
//! Each function takes a token that was already scanned and gives Go's or Ollama's own words when it is wrong.

use std::time::Duration;

use super::run::{is_no_base64, unmarked};
use super::{go_quote, unquote};

/// `think`: a bool or one of four levels.
pub(in crate::wire) fn check_think(token: &str) -> Result<(), String> {
    const FORMS: &str = "\"high\", \"medium\", \"low\", \"max\", true, or false";
    if matches!(token, "true" | "false" | "null") {
        return Ok(());
    }
    if !token.starts_with('"') {
        return Err(format!("think must be a boolean or string ({FORMS})"));
    }
    let text = unquote(token);
    if matches!(&*text, "high" | "medium" | "low" | "max") {
        return Ok(());
    }
    Err(format!("invalid think value: {} (must be {FORMS})", go_quote(&text)))
}

/// `keep_alive`: seconds or a Go duration; negative is for ever ([`Duration::MAX`]).
pub(in crate::wire) fn keep_alive(token: &str) -> Result<Duration, String> {
    match token.as_bytes().first() {
        Some(b'"') => {
            let nanos = parse_duration(&unquote(token))?;
            Ok(u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos))
        }
        Some(b't' | b'f') => Err("Unsupported type: 'bool'".into()),
        Some(b'{') => Err("Unsupported type: 'map[string]interface {}'".into()),
        Some(b'[') => Err("Unsupported type: '[]interface {}'".into()),
        _ => {
            let seconds = number(token);
            // Go's clock ends after 292 years; longer is for ever
            if !(0.0..9_223_372_036.0).contains(&seconds) {
                return Ok(if seconds == 0.0 { Duration::ZERO } else { Duration::MAX });
            }
            Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        }
    }
}

/// A number token as a float; not a number gives zero (callers have checked the type).
pub(in crate::wire) fn number(token: &str) -> f64 {
    token.parse().unwrap_or(0.0)
}

/// Whether Go can hold the number in a `float64`.
pub(super) fn fits_float64(token: &str) -> bool {
    // only an exponent or hundreds of digits can leave the range
    (token.len() < 300 && !token.contains(['e', 'E'])) || token.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether Go can hold the number in a `float32`.
pub(super) fn fits_float32(token: &str) -> bool {
    token.parse::<f32>().is_ok_and(f32::is_finite)
}

/// Go's `time.ParseDuration`, in nanoseconds.
fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", go_quote(text));
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, tail) = digits(rest);
        let (fraction, tail) = tail.strip_prefix('.').map_or(("", tail), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", go_quote(text)));
        }
        let scale = unit_nanos(unit)
            .ok_or_else(|| format!("time: unknown unit {} in duration {}", go_quote(unit), go_quote(text)))?;
        total = nanos(whole, fraction, scale).and_then(|n| total.checked_add(n)).ok_or_else(invalid)?;
        rest = next;
    }
    match i64::try_from(total) {
        Ok(total) => Ok(if negative { -total } else { total }),
        Err(_) if negative && total == 1 << 63 => Ok(i64::MIN),
        Err(_) => Err(invalid()),
    }
}

/// Leading digits and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn nanos(whole: &str, fraction: &str, scale: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut part = 0;
    let mut step = scale;
    for digit in fraction.bytes() {
        step /= 10;
        part += u64::from(digit - b'0') * step;
    }
    whole.checked_mul(scale)?.checked_add(part)
}

/// Checks standard base64 as Go's decoder does (line breaks allowed, padding required).
pub(in crate::wire) fn check_base64(text: &str) -> Result<(), String> {
    base64_fault(text.as_bytes()).map_or(Ok(()), |at| Err(format!("illegal base64 data at input byte {at}")))
}

/// Where Go would say that base64 text is broken.
fn base64_fault(bytes: &[u8]) -> Option<usize> {
    // whole quanta of nothing but signs need no closer look
    base64_fault_from(bytes, unmarked(bytes, is_no_base64) & !3)
}

/// The same for bytes of which so many are good.
fn base64_fault_from(bytes: &[u8], plain: usize) -> Option<usize> {
    let mut signs = bytes.iter().copied().enumerate().skip(plain).filter(|(_, b)| !matches!(b, b'\r' | b'\n'));
    loop {
        for filled in 0..4 {
            match signs.next() {
                None if filled == 0 => return None,
                None => return Some(bytes.len() - filled),
                Some((at, b'=')) if filled < 2 => return Some(at),
                Some((_, b'=')) if filled == 2 => {
                    return match signs.next() {
                        None => Some(bytes.len()),
                        Some((_, b'=')) => signs.next().map(|(after, _)| after),
                        Some((other, _)) => Some(other.saturating_sub(1)),
                    };
                }
                Some((_, b'=')) => return signs.next().map(|(after, _)| after),
                Some((at, sign)) if !(sign.is_ascii_alphanumeric() || matches!(sign, b'+' | b'/')) => return Some(at),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_skipped_of_base64_is_good(
            good in "[A-Za-z0-9+/]{0,70}", odd in proptest::option::of(any::<u8>()), end in "[A-Za-z0-9+/=\r\n]{0,9}"
        ) {
            let mut bytes = good.into_bytes();
            bytes.extend(odd);
            bytes.extend_from_slice(end.as_bytes());
            prop_assert_eq!(base64_fault(&bytes), base64_fault_from(&bytes, 0));
        }
    }
}
